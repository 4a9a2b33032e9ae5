package server

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// openFiles is the limit of open files, which Go's runtime has raised to the hard one.
func openFiles() string {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return "an unknown number of"
	}
	return strconv.FormatUint(r.Cur, 10)
}
