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

// diskBytes returns the size of the file system that holds a directory, and what is free of it; 0 where that is not known.
func diskBytes(dir string) (total, free int64) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0
	}
	return int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize
}
