package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/store/view"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A base, state/<log position>.snap, integers big-endian:
//
//	magic "APOGEEB" 7, format version 1, epoch 8 (not in version 1), log position 8, last record's position 8, last store time 8
//	entries: kind of key 1 ('n' or 's'), key length 4, key, value length 4, value
//	end: 0 1, CRC-32C of all before 4
const (
	baseMagic   = "APOGEEB"
	baseFormat  = 2
	baseSuffix  = ".snap"
	basesKept   = 2
	baseKeyMax  = 64 << 10
	baseDataMax = 64 << 20
	// baseSyncBytes is how much of a base the disk is given at a time.
	baseSyncBytes = 1 << 20
	// baseNumberMax is what take returns at most after an error: callers decode numbers from it.
	baseNumberMax = 64
)

// Stage moves what the view has gathered in memory to the database, and writes a base when the log has grown enough since the last one.
// Nothing beyond what is flushed and confirmed is staged: the view is never ahead of the log after a power cut.
func (s *Store) Stage() error {
	if err := s.stage(); err != nil {
		return err
	}
	return s.baseIfDue()
}

// stage is Stage without a base, whose writing takes as long as there is state.
func (s *Store) stage() error {
	if s.damaged != nil { // the next start must find the damage again
		return nil
	}
	s.staging.Lock()
	defer s.staging.Unlock()
	if err := s.view.Flush(); err != nil { // what failed the last time
		return err
	}
	if usage, known := s.diskUsage(); known && usage.AvailBytes < s.ballast.kept(stageFreeBytesMin) {
		return fmt.Errorf("%d bytes are free on the disk of %s, %d are needed", usage.AvailBytes, s.c.Dir, s.ballast.kept(stageFreeBytesMin))
	}
	s.view.Sweep()
	f := s.view.Freeze()
	if f == nil {
		return nil
	}
	position := f.Applied().Position
	if position > s.log.Flushed() {
		if err := s.log.SyncStep(); err != nil { // asynchronous flush
			return err
		}
	}
	if err := s.view.Stage(f); err != nil {
		return err
	}
	if err := s.view.Flush(); err != nil {
		return err
	}
	s.staged.Store(position)
	return nil
}

// baseEvery is how many segments of log a base may lie behind.
const baseEvery = 4

// baseIfDue writes a base if one is due of what is staged. Staging goes on meanwhile.
func (s *Store) baseIfDue() error {
	s.basing.Lock()
	defer s.basing.Unlock()
	if s.damaged != nil {
		return nil
	}
	bases, err := s.bases()
	if err != nil {
		return err
	}
	newest := int64(0)
	if len(bases) > 0 {
		newest = bases[len(bases)-1]
	}
	if s.staged.Load()-newest < baseEvery*s.log.SegmentBytes() {
		return nil
	}
	return s.writeBase()
}

func (s *Store) bases() ([]int64, error) { return listBases(s.c.FS, s.c.path("state")) }

// listBases returns the log positions of the bases there are, oldest first.
func listBases(fs vfs.FS, dir string) ([]int64, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, name := range names {
		if n, err := strconv.ParseInt(strings.TrimSuffix(name, baseSuffix), 10, 64); err == nil && strings.HasSuffix(name, baseSuffix) {
			bases = append(bases, n)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

func baseName(position int64) string { return fmt.Sprintf("%020d%s", position, baseSuffix) }

func (s *Store) basePath(position int64) string {
	return s.c.path("state", baseName(position))
}

// WriteBase writes the view's state, as of what is staged, to a file of its own, and removes the oldest beyond two.
func (s *Store) WriteBase() error {
	s.basing.Lock()
	defer s.basing.Unlock()
	return s.writeBase()
}

// errStopping ends a base that is being written when the store closes: the one before it serves as well.
var errStopping = errors.New("the store is closing")

// writeBase writes a base of a snapshot of the view. The caller holds basing.
func (s *Store) writeBase() error {
	temp := s.c.path("state", "base.tmp")
	f, err := s.c.FS.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	// What is written at once at the end holds up the log's syncs.
	f = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: baseSyncBytes})
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	buffered := bufio.NewWriter(f)
	applied, err := s.view.Dump(&baseWriter{w: io.MultiWriter(buffered, sum), stop: s.shell.stop})
	if err == nil {
		_, err = buffered.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	}
	err = errors.Join(err, buffered.Flush(), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("cannot write a base: %w", err)
	}
	if err := s.c.FS.Rename(temp, s.basePath(applied.Position)); err != nil {
		return err
	}
	if err := syncDir(s.c.FS, s.c.path("state")); err != nil {
		return err
	}
	bases, err := s.bases()
	for ; err == nil && len(bases) > basesKept; bases = bases[1:] {
		err = s.c.FS.Remove(s.basePath(bases[0]))
	}
	return err
}

// baseWriter encodes what the view dumps.
type baseWriter struct {
	w    io.Writer
	buf  []byte
	stop <-chan struct{}
}

func (b *baseWriter) Header(a view.Applied) error {
	be := binary.BigEndian
	b.buf = append(append(b.buf[:0], baseMagic...), baseFormat)
	b.buf = be.AppendUint64(b.buf, 0) // epoch: a single node's is 0
	b.buf = be.AppendUint64(b.buf, uint64(a.Position))
	b.buf = be.AppendUint64(b.buf, uint64(a.LastRecord))
	b.buf = be.AppendUint64(b.buf, uint64(a.StoreTime))
	_, err := b.w.Write(b.buf)
	return err
}

func (b *baseWriter) Entry(key, value []byte) error {
	select {
	case <-b.stop:
		return errStopping
	default:
	}
	be := binary.BigEndian
	b.buf = append(b.buf[:0], key[0])
	b.buf = be.AppendUint32(b.buf, uint32(len(key)-1))
	b.buf = append(b.buf, key[1:]...)
	b.buf = be.AppendUint32(b.buf, uint32(len(value)))
	b.buf = append(b.buf, value...)
	_, err := b.w.Write(b.buf)
	return err
}

func (b *baseWriter) End() error {
	_, err := b.w.Write([]byte{0})
	return err
}

// loadBase fills the empty view from the newest base that is whole and not beyond the log's end.
func (s *Store) loadBase(end int64) error {
	bases, err := s.bases()
	if err != nil {
		return err
	}
	for _, position := range slices.Backward(bases) {
		if position > end {
			continue
		}
		// Once to see that it is whole, and again to take it: it may be larger than memory.
		applied, err := readBase(s.c.FS, s.basePath(position), func(view.BaseEntry) error { return nil })
		if err == nil {
			return s.view.Restore(applied, func(take func(view.BaseEntry) error) error {
				_, err := readBase(s.c.FS, s.basePath(position), take)
				return err
			})
		}
		if errors.Is(err, ErrVersion) {
			return fmt.Errorf("the base %s: %w", s.basePath(position), err)
		}
		s.c.Logger.Warn("a base cannot be used; trying an older one", "file", s.basePath(position), "error", err)
	}
	if s.log.First() > 0 {
		return fmt.Errorf("the view must be rebuilt, but the log begins at %d and no base in %s can be used", s.log.First(), s.c.path("state"))
	}
	return nil
}

// readBase gives each entry of a base to fn, in order; it must not be kept. They are good only if there is no error: the checksum is the
// last thing read.
func readBase(fs vfs.FS, path string, fn func(view.BaseEntry) error) (a view.Applied, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return a, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return a, err
	}
	size := int(st.Size())
	r := &baseReader{r: bufio.NewReader(f), left: size, sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	head := r.take(len(baseMagic) + 1)
	if r.err != nil {
		return a, r.err
	}
	if string(head[:len(baseMagic)]) != baseMagic {
		return a, fmt.Errorf("not a base")
	}
	v := head[len(baseMagic)]
	if v > baseFormat {
		return a, fmt.Errorf("format version %d, the newest known is %d: %w", v, baseFormat, ErrVersion)
	}
	be := binary.BigEndian
	if v > 1 {
		r.take(8) // epoch
	}
	numbers := r.take(24)
	if r.err != nil {
		return a, r.err
	}
	a = view.Applied{Position: int64(be.Uint64(numbers)), LastRecord: int64(be.Uint64(numbers[8:])), StoreTime: int64(be.Uint64(numbers[16:]))}
	var key []byte
	for r.err == nil {
		kind := r.take(1)
		if r.err != nil || kind[0] == 0 {
			break
		}
		key = append(key[:0], kind[0])
		key = append(key, r.take(r.length(baseKeyMax))...)
		value := r.take(r.length(baseDataMax))
		if r.err == nil {
			r.err = fn(view.BaseEntry{Key: key, Value: value})
		}
	}
	want, at := r.sum.Sum32(), size-r.left
	if got := r.take(4); r.err == nil && be.Uint32(got) != want {
		r.err = fmt.Errorf("checksum wrong: the bytes before it have %08x, it is %08x", want, be.Uint32(got))
	}
	if r.err != nil {
		r.err = fmt.Errorf("byte %d of %d: %w", at, size, r.err)
	}
	return a, r.err
}

// baseReader reads a base; its first error stays.
type baseReader struct {
	r    io.Reader
	left int // bytes of the file
	sum  hash.Hash32
	err  error
	buf  []byte
}

// take returns the next n bytes, until it is called again.
func (b *baseReader) take(n int) []byte {
	if b.err != nil || n > b.left {
		if b.err == nil {
			b.err = io.ErrUnexpectedEOF
		}
		return make([]byte, min(n, baseNumberMax))
	}
	b.buf = slices.Grow(b.buf[:0], n)
	p := b.buf[:n]
	b.left -= n
	if _, b.err = io.ReadFull(b.r, p); b.err == nil {
		_, b.err = b.sum.Write(p)
	}
	return p
}

func (b *baseReader) length(limit uint32) int {
	n := binary.BigEndian.Uint32(b.take(4))
	if n > limit && b.err == nil {
		b.err = fmt.Errorf("length %d, more than %d", n, limit)
	}
	if b.err != nil {
		return 0
	}
	return int(n)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A mark is a log position in a file of its own: format version 1, position 8, CRC-32C 4. It is written aside and renamed. The checkpoint,
// a position that was on stable storage, is only a lower bound: it is not synced, and counts as absent when it is torn.

const (
	markFormat = 1
	markBytes  = 13
)

func writeMark(fs vfs.FS, path string, position int64, durable bool) error {
	b := binary.BigEndian.AppendUint64([]byte{markFormat}, uint64(position))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return writeAside(fs, path, b, durable)
}

// writeAside writes a file beside the one it replaces, and renames it.
func writeAside(fs vfs.FS, path string, content []byte, durable bool) error {
	f, err := fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = fs.Rename(path+".tmp", path); err != nil || !durable {
		return err
	}
	return syncDir(fs, fs.PathDir(path))
}

// readMark returns the position; found is false when there is none that can be read.
func readMark(files vfs.FS, path string) (position int64, found bool, err error) {
	f, err := files.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, markBytes))
	if err != nil {
		return 0, false, err
	}
	number, version := b, byte(0)
	if len(b) == markBytes { // older ones have no version
		number, version = b[1:], b[0]
	}
	if len(number) != markBytes-1 || crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(number[8:]) {
		return 0, false, nil // torn
	}
	if version > markFormat {
		return 0, false, fmt.Errorf("%s: format version %d, the newest known is %d: %w", path, version, markFormat, ErrVersion)
	}
	return int64(binary.BigEndian.Uint64(number)), true, nil
}
