package server

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// makeDirectory makes dir and the parents that are missing, so that they outlive a power cut: a new directory is on disk only once its
// parent is.
func makeDirectory(fs vfs.FS, dir string) error {
	var parents []string
	for d := dir; ; {
		if _, err := fs.Stat(d); err == nil || fs.PathDir(d) == d {
			break
		}
		d = fs.PathDir(d)
		parents = append(parents, d)
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the directory %s: %w", dir, err)
	}
	for _, parent := range parents {
		f, err := fs.OpenDir(parent)
		if err == nil {
			err = f.Sync()
			_ = f.Close()
		}
		if err != nil {
			return fmt.Errorf("cannot sync the directory %s: %w", parent, err)
		}
	}
	return nil
}
