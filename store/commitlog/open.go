package commitlog

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"sync"

	"github.com/apogeemq/apogee/message"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Open opens the log's files. The log takes records after Recover.
func Open(o Options) (*Log, error) {
	o.setDefaults()
	if o.Now == nil {
		return nil, errors.New("commitlog: Options.Now is required")
	}
	align := o.Files.Alignment()
	if o.BlockBytes%align != 0 || o.SegmentBytes%int64(o.BlockBytes) != 0 {
		return nil, fmt.Errorf("segmentBytes=%d must be a multiple of blockBytes=%d, and that of %d", o.SegmentBytes, o.BlockBytes, align)
	}
	s, err := openSegments(o.FS, o.Files, o.Dir, o.SpareDir, o.SegmentBytes)
	if err != nil {
		return nil, err
	}
	tail, err := allocate(max(3*align, 64<<10))
	if err != nil {
		s.close()
		return nil, err
	}
	zeros, err := allocate(aheadBytes)
	if err != nil {
		free(tail)
		s.close()
		return nil, err
	}
	l := &Log{
		o:         o,
		segments:  s,
		zeros:     zeros,
		blocks:    newBlocks(o.BlockBytes, o.MemoryBytesMax),
		tail:      tail,
		work:      make(chan struct{}, 1),
		wantSpare: make(chan struct{}, 1),
	}
	l.space = sync.NewCond(&l.mu)
	return l, nil
}

// Bounds returns the position of the first record that the log still holds, and the end of its last segment.
func (l *Log) Bounds() (first, end int64) { return l.segments.bounds() }

// SegmentBytes returns the length of every segment.
func (l *Log) SegmentBytes() int64 { return l.o.SegmentBytes }

// EndsRecord tells whether an intact record stands at position last and the log goes on at end; last is -1 for a log's beginning.
func (l *Log) EndsRecord(last, end int64) bool {
	first, limit := l.segments.bounds()
	if last < 0 {
		return end <= first
	}
	s := l.scanner(last, limit)
	if last < first || last >= limit {
		return false
	}
	_, raw, err := s.next()
	behind := last + int64(len(raw))
	return err == nil && (behind == end || l.segmentEnd(last) == end)
}

// Drain refuses further appends and waits until all that was appended is confirmed or has failed, and its Done has returned. Somebody
// must go on calling Step and Confirm.
func (l *Log) Drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
	l.space.Broadcast()
	for l.open > 0 {
		l.space.Wait()
	}
}

// Settle waits until all that has been appended so far is confirmed or has failed, and its Done has returned. It does not wait for what
// others append meanwhile.
func (l *Log) Settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	appended := l.done + int64(l.open)
	for l.done < appended && l.open > 0 {
		l.space.Wait()
	}
}

// Stop refuses further appends and wakes the senders that wait. What was appended may still be confirmed.
func (l *Log) Stop() { l.fail(errors.New("closed")) }

// Close gives files and memory back. Nobody may be in a call, and no slices may be held.
func (l *Log) Close() error {
	l.segments.close()
	l.blocks.close()
	free(l.tail)
	free(l.zeros)
	return nil
}

// ZeroRest makes the segment that holds end read as zeros from there on: whoever goes on with a closed log and does not check positions meets
// nothing that a recycled segment held.
func ZeroRest(fs vfs.FS, files SegmentFS, dir string, end, segmentBytes int64) error {
	start := end - end%segmentBytes
	path := fs.PathJoin(dir, segmentName(start))
	if _, err := fs.Stat(path); errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	f, err := files.Open(path)
	if err != nil {
		return err
	}
	err = f.ZeroRange(end-start, start+segmentBytes-end)
	if err == nil {
		err = f.Datasync()
	}
	return errors.Join(err, f.Close())
}

// Pins keeps blocks of the log in memory while slices of them are in use. The zero value holds nothing.
type Pins struct {
	log    *Log
	blocks []*block
}

// Slices appends to dst the n bytes at log position pos, as slices of the log's memory that stay valid until pins is released.
// Adjoining slices are merged.
func (l *Log) Slices(dst [][]byte, pos int64, n int, pins *Pins) ([][]byte, error) {
	if pos < 0 || n < 0 || pos > l.confirmed.Load()-int64(n) {
		return dst, fmt.Errorf("log position %d+%d: %w", pos, n, io.EOF)
	}
	if pos < l.retired.Load() { // its block may still be in memory
		return dst, fmt.Errorf("log position %d: %w", pos, ErrGone)
	}
	pins.log = l
	step := int64(l.o.BlockBytes)
	for n > 0 {
		b := pins.find(pos / step)
		if b == nil {
			var err error
			if b, err = l.blocks.pin(pos, l.load); err != nil {
				return dst, err
			}
			pins.blocks = append(pins.blocks, b)
		}
		at := int(pos % step)
		k := min(n, l.o.BlockBytes-at)
		dst = appendMerged(dst, b.data[at:at+k])
		pos, n = pos+int64(k), n-k
	}
	return dst, nil
}

// find returns a block that is pinned already; the newest is the likeliest.
func (p *Pins) find(index int64) *block {
	for i := len(p.blocks) - 1; i >= 0; i-- {
		if p.blocks[i].index == index {
			return p.blocks[i]
		}
	}
	return nil
}

// Intact tells whether the pinned record at pos, n bytes long, is the one that was written there. What never left this process's memory is.
func (p *Pins) Intact(pos int64, n int) bool {
	step := int64(p.log.o.BlockBytes)
	first := p.find(pos / step)
	if at := int(pos % step); at+n <= p.log.o.BlockBytes {
		return !first.read || p.log.Intact(first.data[at:at+n])
	}
	raw, read := make([]byte, 0, n), false
	for left := n; left > 0; left = n - len(raw) {
		at := pos + int64(len(raw))
		b := p.find(at / step)
		read = read || b.read
		raw = append(raw, b.data[at%step:min(at%step+int64(left), step)]...)
	}
	return !read || p.log.Intact(raw)
}

// Intact tells whether raw is a record as it was written. What compaction has copied stands elsewhere than it says, and has its own checksum, or
// RocketMQ's of the body.
func (l *Log) Intact(raw []byte) bool {
	if len(raw) < message.MinRecordSize {
		return false
	}
	if verifyWhole(raw) == nil {
		return true
	}
	if message.PhysicalOffsetOf(raw) >= l.o.ForeignEnd {
		return false
	}
	r, n, err := message.Decode(raw)
	return err == nil && n == len(raw) && r.Verify(raw) == nil
}

// appendMerged appends s, joining it to the last slice where it directly follows it in the same block.
func appendMerged(dst [][]byte, s []byte) [][]byte {
	if k := len(dst); k > 0 {
		last := dst[k-1]
		if cap(last) > len(last) && &last[:len(last)+1][len(last)] == &s[0] {
			dst[k-1] = last[:len(last)+len(s)]
			return dst
		}
	}
	return append(dst, s)
}

// Release gives the blocks back. It may be called twice.
func (p *Pins) Release() {
	for _, b := range p.blocks {
		p.log.blocks.unpin(b)
	}
	p.blocks = p.blocks[:0]
}

// Read returns a copy of the n bytes at pos.
func (l *Log) Read(pos int64, n int) ([]byte, error) {
	var pins Pins
	defer pins.Release()
	slices, err := l.Slices(nil, pos, n, &pins)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, n)
	for _, s := range slices {
		out = append(out, s...)
	}
	return out, nil
}

// ReadApart fills p with the bytes at pos. What is not in memory is read by itself, and its block does not get there: for records whose
// neighbours nobody asks for.
func (l *Log) ReadApart(p []byte, pos int64) error {
	end := pos + int64(len(p))
	if l.blocks.inMemory(pos) || l.blocks.inMemory(end-1) { // what is not is whole, and on the disk
		b, err := l.Read(pos, len(p))
		copy(p, b)
		return err
	}
	if pos < 0 || end > l.confirmed.Load() {
		return fmt.Errorf("log position %d+%d: %w", pos, len(p), io.EOF)
	}
	return l.segments.readAt(p, pos)
}

// InMemory tells whether a read at pos needs the disk.
func (l *Log) InMemory(pos int64) bool { return l.blocks.inMemory(pos) }

// SetReadAhead has blocks read before they are asked for, which is so at first, or not.
func (l *Log) SetReadAhead(on bool) { l.blocks.lazy.Store(!on) }

// MemoryBytes is how much of the log may be in memory, its tail included.
func (l *Log) MemoryBytes() int64 { return l.o.MemoryBytesMax }

// WantAhead tells the shell which blocks to give to ReadAhead.
func (l *Log) WantAhead() <-chan int64 { return l.blocks.wanted }

// ReadAhead brings a block into memory that somebody will probably want next, if the log holds all of it.
func (l *Log) ReadAhead(block int64) {
	from := block * int64(l.o.BlockBytes)
	if from >= l.First() && from+int64(l.o.BlockBytes) <= l.confirmed.Load() {
		l.blocks.readAhead(block, l.load)
	}
}

// load fills a cache block from the files; the log may end within it.
func (l *Log) load(data []byte, off int64) error {
	_, limit := l.segments.bounds()
	n := min(int64(len(data)), limit-off)
	return l.segments.readAt(data[:n], off)
}

// vfsFiles keeps segments in any vfs, above all the in-memory one.
type vfsFiles struct{ fs vfs.FS }

// NewVFSFiles returns segment files in fs: for brokers that live in memory, and for tests that crash.
func NewVFSFiles(fs vfs.FS) SegmentFS { return vfsFiles{fs} }

// memoryChunkBytes is the most that Create writes at once. A file in memory that grows by small writes is copied again and again.
const memoryChunkBytes = 16 << 20

func (v vfsFiles) Alignment() int { return 512 }

func (v vfsFiles) Create(path string, size int64) (SegmentFile, error) {
	f, err := v.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, min(size, memoryChunkBytes))
	for n := size; n > 0 && err == nil; n -= int64(len(zeros)) {
		_, err = f.Write(zeros[:min(n, int64(len(zeros)))])
		clear(zeros) // vfs may have changed them
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return vfsFile{f}, nil
}

func (v vfsFiles) Open(path string) (SegmentFile, error) {
	f, err := v.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return vfsFile{f}, nil
}

type vfsFile struct{ vfs.File }

func (f vfsFile) WriteAt(buffers [][]byte, off int64) error {
	for _, b := range buffers {
		if _, err := f.File.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (f vfsFile) Datasync() error { return f.SyncData() }

func (f vfsFile) ZeroRange(off, n int64) error {
	zeros := make([]byte, min(n, zeroChunkBytes))
	for n > 0 {
		k := min(n, int64(len(zeros)))
		if _, err := f.File.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

func (f vfsFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
