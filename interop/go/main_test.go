package interop

import (
	"os"
	"testing"

	"github.com/apogeemq/apogee/interop/go/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
