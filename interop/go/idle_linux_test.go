package interop

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	idleVariable = "APOGEE_TEST_RUNS_IDLE"
	schedIdle    = 5 // SCHED_IDLE
)

// runIdle makes the process one that runs when no other wants to. The policy is a thread's: it is set before the program begins anew, while
// there is only one.
func runIdle() error {
	if os.Getenv(idleVariable) != "" {
		return nil
	}
	runtime.LockOSThread()
	priority := int32(0)
	if _, _, errno := syscall.Syscall(syscall.SYS_SCHED_SETSCHEDULER, 0, schedIdle, uintptr(unsafe.Pointer(&priority))); errno != 0 {
		return errno
	}
	return syscall.Exec(os.Args[0], os.Args, append(os.Environ(), idleVariable+"=1"))
}
