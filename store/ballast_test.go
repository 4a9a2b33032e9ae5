package store

import (
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Somebody has filled the disk to the last byte: a start needs space for the view, and has it from the ballast.
func TestAStoreOpensOnADiskThatHasNoSpaceLeft(t *testing.T) {
	mem := &usedDisk{FS: vfs.NewMem()}
	mem.used(50)
	var full atomic.Bool
	ballastThere := func() bool { _, err := mem.Stat("store/ballast"); return err == nil }
	disk := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFilePreallocate:
			if full.Load() && ballastThere() {
				return syscall.ENOSPC
			}
		}
		return nil
	}))
	c := memConfig(disk)
	c.Retention = Retention{FullRatio: 0.9, FreeBytes: 50 << 30}
	s, _ := mustOpen(t, c)
	retained(t, s)
	if !ballastThere() {
		t.Fatal("no ballast on a disk that has room")
	}
	fill(t, s, 0, 100)
	mustClose(t, s)

	full.Store(true)
	mem.usage.Store(&vfs.DiskUsage{TotalBytes: 100 << 30, UsedBytes: 100<<30 - ballastBytes, AvailBytes: ballastBytes})
	s, _ = mustOpen(t, c)
	if ballastThere() {
		t.Fatal("the view was opened without the ballast's space")
	}
	if from, to := numbers(t, s); from != 0 || to != 100 {
		t.Fatalf("messages %d to %d are left", from, to)
	}
	retained(t, s)
	if err := s.Stage(); err == nil {
		t.Error("the view takes the last of the space")
	}
	full.Store(false)
	mem.used(50)
	retained(t, s)
	if !ballastThere() {
		t.Error("the ballast is not back")
	}
	mustClose(t, s)
}
