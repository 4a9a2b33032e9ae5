package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// A test binary that panics or times out takes its servers with it.
var processAttributes = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

// openFiles are the targets of the process's descriptors, as the system shows them.
func openFiles(pid int) ([]string, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	descriptors, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, d := range descriptors {
		if target, err := os.Readlink(filepath.Join(dir, d.Name())); err == nil { // it may have been closed
			files = append(files, target)
		}
	}
	return files, nil
}
