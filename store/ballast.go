package store

import (
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/apogeemq/apogee/store/commitlog"
)

// ballastBytes is as much as the view, the marks and a base need to go on for a while.
const ballastBytes = 64 << 20

// ballast is a file that holds space, and goes when a write finds the disk full: the view's database ends the process when it cannot
// write, and retention cannot remove a segment before a base is written. Messages are refused long before (Retention.FullRatio); it
// is others who fill the disk that far. It is made again when there is room.
type ballast struct {
	fs    vfs.FS // which does not drop it
	files commitlog.SegmentFS
	path  string
	log   *slog.Logger
	there atomic.Bool
}

func newBallast(c *Config) *ballast {
	b := &ballast{fs: c.FS, files: c.Files, path: c.path("ballast"), log: c.Logger}
	_, err := c.FS.Stat(b.path)
	b.there.Store(err == nil)
	return b
}

// drop gives the space back. Writes wait for it.
func (b *ballast) drop() {
	if !b.there.CompareAndSwap(true, false) {
		return
	}
	err := b.fs.Remove(b.path)
	b.log.Error("the disk is full: the ballast is dropped so that state can still be written; free some space",
		"path", b.path, "bytes", ballastBytes, "error", err)
}

// kept is how much must be free on the disk, so that free bytes are when the ballast is back.
func (b *ballast) kept(free uint64) uint64 {
	if b.there.Load() {
		return free
	}
	return free + ballastBytes
}

// keep makes the file when it is not there and there is room for it and for the view besides.
func (b *ballast) keep(usage vfs.DiskUsage) {
	if b.there.Load() || usage.AvailBytes < b.kept(stageFreeBytesMin) {
		return
	}
	f, err := b.files.Create(b.path, ballastBytes)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		_ = b.fs.Remove(b.path)
		return // the next look tries again
	}
	b.there.Store(true)
}
