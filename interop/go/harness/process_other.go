//go:build !linux

package harness

import "syscall"

var processAttributes *syscall.SysProcAttr
