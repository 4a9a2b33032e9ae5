//go:build !linux

package interop

import "syscall"

// runIdle gives the process the least priority.
func runIdle() error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19) }
