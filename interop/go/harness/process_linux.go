package harness

import "syscall"

// A test binary that panics or times out takes its servers with it.
var processAttributes = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
