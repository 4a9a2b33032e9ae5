package interop

import (
	"os"
	"testing"

	"github.com/apogeemq/apogee/interop/go/harness"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		os.Exit(workerMain(os.Args[2:]))
	}
	os.Exit(harness.Main(m))
}
