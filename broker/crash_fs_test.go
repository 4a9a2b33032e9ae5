package broker

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashFS can lose power while it is used: vfs.MemFS takes one lock twice in Link, and waits for ever when CrashClone comes in between.
type crashFS struct {
	*vfs.MemFS
	mu *sync.Mutex // held by both
}

func newCrashFS() crashFS { return crashFS{vfs.NewCrashableMem(), new(sync.Mutex)} }

func (f crashFS) Link(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.MemFS.Link(from, to)
}

func (f crashFS) CrashClone(c vfs.CrashCloneCfg) crashFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return crashFS{f.MemFS.CrashClone(c), new(sync.Mutex)}
}
