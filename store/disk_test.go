package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// sectorBytes is what a disk writes whole or not at all.
const sectorBytes = 512

// testDisk is a disk in memory that can crash, at any operation, and fail. Directories, Pebble's files and the names of segments are
// in a vfs.MemFS; the contents of a segment are kept sector by sector, in every version since the last sync: a power cut leaves one of
// them, each sector's at random. A segment's file in the MemFS holds only its number, so that renames, and losing them, are the MemFS's.
type testDisk struct {
	vfs.FS
	mem crashfs.FS

	hook  atomic.Pointer[func(op string) error]
	stale []byte // what new segments hold, for recycled ones; nil: zeros

	mu       sync.Mutex // guards what follows
	segments map[uint64]*sectors
}

// sectors is the content of one segment: what reads see, and the versions that a power cut may leave instead.
type sectors struct {
	now      []byte
	unsynced map[int][][]byte // by sector: as of the last sync, then all versions but the newest
}

func newTestDisk() *testDisk {
	return diskOn(crashfs.New(), map[uint64]*sectors{})
}

func diskOn(mem crashfs.FS, segments map[uint64]*sectors) *testDisk {
	d := &testDisk{mem: mem, segments: segments}
	d.FS = &testNames{mem, d}
	return d
}

// onChange has f called before each operation that changes the disk, and after a write; an error fails the operation.
func (d *testDisk) onChange(f func(op string) error) { d.hook.Store(&f) }

func (d *testDisk) before(op string) error {
	if f := d.hook.Load(); f != nil {
		return (*f)(op)
	}
	return nil
}

// powerCut returns the disk as a power cut at this moment may leave it.
func (d *testDisk) powerCut(random *rand.Rand) *testDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	lost := map[uint64]*sectors{}
	keep := random.IntN(4) // of 3: none, some, most, all of what was not synced
	for id, s := range d.segments {
		c := &sectors{now: append([]byte(nil), s.now...), unsynced: map[int][][]byte{}}
		for sector := range len(s.now) / sectorBytes { // in order, for the sake of the seed
			versions := s.unsynced[sector]
			if len(versions) > 0 && random.IntN(3) >= keep {
				copy(c.now[sector*sectorBytes:], versions[random.IntN(len(versions))])
			}
		}
		lost[id] = c
	}
	percent := []int{0, 30, 70, 100}[keep]
	cut := diskOn(d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: random}), lost)
	cut.atomicRenames()
	return cut
}

// atomicRenames takes away the old name where the MemFS kept both: file systems with a journal do not.
func (d *testDisk) atomicRenames() {
	taken := map[uint64]bool{}
	for _, dir := range []string{"store/commitlog", "store/spare"} {
		names, err := d.mem.List(dir)
		if err != nil {
			continue // was not made yet
		}
		for _, name := range names {
			path := d.mem.PathJoin(dir, name)
			if id, _, err := d.id(path); err == nil && taken[id] {
				_ = d.mem.Remove(path)
			} else {
				taken[id] = true
			}
		}
	}
}

// id reads which segment a file is, and its length.
func (d *testDisk) id(path string) (id uint64, size int64, err error) {
	st, err := d.mem.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	if st.Size() < 8 {
		return 0, 0, io.ErrUnexpectedEOF
	}
	f, err := d.mem.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var b [8]byte
	_, err = f.ReadAt(b[:], st.Size()-8)
	return binary.BigEndian.Uint64(b[:]), st.Size(), err
}

// kill returns the disk as the end of the process leaves it: nothing is lost, and what was not synced still is not.
func (d *testDisk) kill(random *rand.Rand) *testDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := map[uint64]*sectors{}
	for id, s := range d.segments {
		c := &sectors{now: append([]byte(nil), s.now...), unsynced: map[int][][]byte{}}
		for sector, versions := range s.unsynced {
			c.unsynced[sector] = append([][]byte(nil), versions...)
		}
		left[id] = c
	}
	return diskOn(d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: random}), left)
}

// testNames reports the operations on names.
type testNames struct {
	vfs.FS
	disk *testDisk
}

// Create reports a file of the view, a base or a mark, and what is written to it: segments are made beside.
func (n *testNames) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := n.disk.before("create " + name); err != nil {
		return nil, err
	}
	f, err := n.FS.Create(name, category)
	return &testFile{f, n.disk, name}, err
}

// testFile reports the changes of a file that is no segment.
type testFile struct {
	vfs.File
	disk *testDisk
	name string
}

func (f *testFile) Write(p []byte) (int, error) {
	if err := f.disk.before("write " + f.name); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *testFile) Sync() error {
	if err := f.disk.before("sync " + f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (n *testNames) Rename(from, to string) error {
	if err := n.disk.before("rename " + to); err != nil {
		return err
	}
	return n.FS.Rename(from, to)
}

func (n *testNames) Remove(name string) error {
	if err := n.disk.before("remove " + name); err != nil {
		return err
	}
	return n.FS.Remove(name)
}

// Link makes Pebble copy: the MemFS's own takes a lock twice, and waits for ever when a crash comes in between.
func (n *testNames) Link(string, string) error { return errors.ErrUnsupported }

func (n *testNames) OpenDir(name string) (vfs.File, error) {
	if err := n.disk.before("sync " + name); err != nil {
		return nil, err
	}
	return n.FS.OpenDir(name)
}

func (d *testDisk) files() commitlog.SegmentFS { return testSegments{d} }

type testSegments struct{ d *testDisk }

func (testSegments) Alignment() int { return sectorBytes }

func (t testSegments) Create(path string, size int64) (commitlog.SegmentFile, error) {
	if err := t.d.before("create"); err != nil {
		return nil, err
	}
	t.d.mu.Lock()
	id := uint64(len(t.d.segments) + 1)
	s := &sectors{now: make([]byte, size), unsynced: map[int][][]byte{}}
	copy(s.now, t.d.stale)
	t.d.segments[id] = s
	t.d.mu.Unlock()
	f, err := t.d.mem.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(binary.BigEndian.AppendUint64(make([]byte, size-8, size), id)); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return &testSegment{t.d, s}, f.Close()
}

func (t testSegments) Open(path string) (commitlog.SegmentFile, error) {
	id, size, err := t.d.id(path)
	if err != nil {
		return nil, err
	}
	t.d.mu.Lock()
	defer t.d.mu.Unlock()
	s := t.d.segments[id]
	if s == nil || int64(len(s.now)) != size {
		return nil, fmt.Errorf("%s is not a segment", path)
	}
	return &testSegment{t.d, s}, nil
}

type testSegment struct {
	d *testDisk
	s *sectors
}

func (f *testSegment) WriteAt(buffers [][]byte, off int64) error {
	for _, b := range buffers {
		if off%sectorBytes != 0 || len(b)%sectorBytes != 0 {
			return fmt.Errorf("write of %d bytes at %d is not aligned", len(b), off)
		}
	}
	for _, b := range buffers {
		f.write(b, off)
		off += int64(len(b))
	}
	return f.d.before("write") // the moment when it may be torn
}

// write keeps what the sectors held.
func (f *testSegment) write(b []byte, off int64) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	for len(b) > 0 {
		sector := off / sectorBytes
		n := min(int64(len(b)), (sector+1)*sectorBytes-off)
		was := append([]byte(nil), f.s.now[sector*sectorBytes:(sector+1)*sectorBytes]...)
		f.s.unsynced[int(sector)] = append(f.s.unsynced[int(sector)], was)
		copy(f.s.now[off:], b[:n])
		b, off = b[n:], off+n
	}
}

func (f *testSegment) Datasync() error {
	if err := f.d.before("datasync"); err != nil {
		return err
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	clear(f.s.unsynced)
	return nil
}

func (f *testSegment) ZeroRange(off, n int64) error {
	f.write(make([]byte, n), off)
	return f.d.before("zero")
}

func (f *testSegment) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if n := copy(p, f.s.now[min(off, int64(len(f.s.now))):]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

func (f *testSegment) Size() (int64, error) { return int64(len(f.s.now)), nil }
func (f *testSegment) Close() error         { return nil }
