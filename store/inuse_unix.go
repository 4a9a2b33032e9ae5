//go:build unix

package store

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// inUse tells whether another process holds the lock file, without taking it.
func inUse(files vfs.FS, path string) (bool, error) {
	if files != vfs.Default {
		return false, nil // memory is this process's own
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return false, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return lock.Type != unix.F_UNLCK, nil
}
