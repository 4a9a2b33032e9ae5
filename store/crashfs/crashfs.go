package crashfs

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is vfs.MemFS, which takes one lock twice in Link, and waits for ever when CrashClone comes in between.
type FS struct {
	*vfs.MemFS
	mu *sync.Mutex // held by both
}

// New returns an empty one.
func New() FS { return FS{vfs.NewCrashableMem(), new(sync.Mutex)} }

func (f FS) Link(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.MemFS.Link(from, to)
}

// CrashClone returns what a power cut leaves now.
func (f FS) CrashClone(c vfs.CrashCloneCfg) FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return FS{f.MemFS.CrashClone(c), new(sync.Mutex)}
}
