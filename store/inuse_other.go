//go:build !unix

package store

import (
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// inUse tells whether another process holds the lock file, by taking it for a moment.
func inUse(files vfs.FS, path string) (bool, error) {
	if _, err := files.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	lock, err := files.Lock(path)
	if err != nil {
		return true, nil //nolint:nilerr // somebody has it
	}
	return false, lock.Close()
}
