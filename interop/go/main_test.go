package interop

import (
	"os"
	"testing"

	"github.com/apogeemq/apogee/interop/go/harness"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		if len(os.Args) > 2 && os.Args[2] == laneRole {
			os.Exit(fillLane(os.Args[3:]))
		}
		os.Exit(workerMain(os.Args[2:]))
	}
	os.Exit(harness.Main(m))
}
