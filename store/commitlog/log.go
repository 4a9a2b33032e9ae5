package commitlog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options say where the log lives and how much it may use. Zero values take the defaults.
type Options struct {
	FS       vfs.FS    // directories and renames
	Files    SegmentFS // the segments themselves
	Dir      string    // segments
	SpareDir string    // segments in waiting

	SegmentBytes     int64 // length of every segment; default 1 GiB (mappedFileSizeCommitLog)
	BlockBytes       int   // unit of the log's memory; default 256 KiB, at most SegmentBytes
	MemoryBytesMax   int64 // tail and cache together; default 64 MiB
	UnsyncedBytesMax int64 // appended but not yet on disk; senders wait beyond it; default 32 MiB
	// AsyncFlush confirms a record once it is written, and leaves fsync to SyncStep.
	AsyncFlush bool
	Synced     func(took time.Duration) // told of each fdatasync of a segment, one at a time; it must not wait; nil: nobody is
	Now        func() time.Time         // required
	// ForeignEnd is the log position before which RocketMQ wrote: only there may a record lack the checksum of the whole record.
	ForeignEnd int64
	// Whole says that whoever wrote the log has closed it: it ends where no record follows, and nothing in it is torn.
	Whole bool
}

const (
	defaultSegmentBytes     = 1 << 30
	defaultBlockBytes       = 256 << 10
	defaultMemoryBytesMax   = 64 << 20
	defaultUnsyncedBytesMax = 32 << 20

	// tailZeroBytes is what must read as zero after the last record, so that a scan ends there.
	tailZeroBytes = 8
	// aheadBytes of zeros follow a write of at most aheadWriteMax where none have been written yet.
	aheadBytes    = 256 << 10
	aheadWriteMax = 64 << 10

	// batchBytesMax bounds a batch. One that is larger than UnsyncedBytesMax goes alone.
	batchBytesMax = 32 << 20
)

// inFlightMax bounds what may be written and not yet synced when the power fails.
func (o *Options) inFlightMax() int64 { return max(o.UnsyncedBytesMax, batchBytesMax) }

func (o *Options) setDefaults() {
	set := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.SegmentBytes, defaultSegmentBytes)
	set(&o.MemoryBytesMax, defaultMemoryBytesMax)
	set(&o.UnsyncedBytesMax, defaultUnsyncedBytesMax)
	if o.BlockBytes == 0 {
		o.BlockBytes = defaultBlockBytes
	}
	o.BlockBytes = min(o.BlockBytes, int(o.SegmentBytes))
}

// Why an append is refused.
var (
	// ErrStopped: a write or fsync of a segment failed, or the log was closed. It is final.
	ErrStopped = errors.New("the log takes no more records")
	// ErrNoSpace: the next segment cannot be made. Appends resume by themselves once it can.
	ErrNoSpace = errors.New("no space for the next segment of the log")
	// ErrTooLarge: the record would not fit into a segment, its properties are longer than a record can hold, or the batch is larger than 32 MiB.
	ErrTooLarge = errors.New("too large for the log")
	// ErrGone: the position lies before the log's first record: retention has removed it.
	ErrGone = errors.New("the log does not hold this position any more")
	// ErrEnded: the queue was dropped. Whoever holds it asks for it again.
	ErrEnded = errors.New("the queue was deleted")
)

// Sequence hands out the offsets of one queue. The log's lock guards it; it lives in the queue that it counts for.
type Sequence struct {
	next  int64
	ended bool
}

// End lets nothing more be appended to the queue. Only from Batch.Assigned.
func (s *Sequence) End() { s.ended = true }

// Set gives the next offset. Only before the first append to the queue.
func (s *Sequence) Set(next int64) { s.next = next }

// Entry is one record to append. Append fills in the record's two offsets and its store time.
type Entry struct {
	Record   message.Record
	BodyCRC  uint32 // plain CRC-32 of the body
	Size     int32  // set by Append: bytes in the log
	Sequence *Sequence
	// Numbering is nil for a record that takes one offset of its queue and stands nowhere else.
	Numbering *Numbering
	// What follows is not the log's: it travels with the entry to whoever applies it.
	Target   any
	TagsCode int64
	Keys     []uint64 // hashes for the key index
}

// Batch is appended as a whole: its records follow one another in the log.
type Batch struct {
	Entries []Entry
	// Done is called once, in log order, when all records are confirmed (err nil) or will never be. Whatever it waits for must not
	// wait for an Append: the room that an Append waits for is made by the calls that come after this one.
	Done func(b *Batch, err error)
	// Assigned, if set, is called when the batch takes its place in the log, before any later append takes its own. It must not wait.
	Assigned func()
	// Guard, if set, is a queue that the batch is about: once it is deleted the batch is refused with ErrEnded.
	Guard *Sequence

	end     int64 // log position behind the last record
	size    int64
	encoded atomic.Bool
	pins    []*block // blocks that the encoder writes into
}

// End returns the log position behind the batch's last record.
func (b *Batch) End() int64 { return b.end }

// roll is a place where the log went on in the next segment.
type roll struct{ at, segmentEnd int64 }

// Log is the commit log. Append may be called by any goroutine; Step, SyncStep, Confirm and SpareStep by one goroutine each.
type Log struct {
	o        Options
	segments *segments
	blocks   *blocks

	mu        sync.Mutex // guards what follows, and every Sequence
	space     *sync.Cond // senders that wait for the tail to drain
	next      int64      // where the next record goes
	storeTime int64      // of the last record, ms; never goes back
	pending   []*Batch   // appended, not yet taken by Step, in log order
	rolls     []roll     // since the last Step
	inFlight  int64      // bytes appended and not yet confirmed or failed
	open      int        // batches appended whose Done has not returned
	done      int64      // batches whose Done has returned
	prepared  int64      // end of the last segment whose file exists or is in waiting
	wanted    int64      // where prepared must reach for the longest batch that waits for it
	spareErr  error      // why there is no spare
	stopped   error      // why nothing is taken any more
	closing   bool       // no further appends; what is in flight goes on

	written, flushed, confirmed atomic.Int64
	retired                     atomic.Int64  // log position before which Retire has removed everything
	syncing                     sync.Mutex    // one sync at a time: a second one of the same file would not be told of the first one's failure
	work                        chan struct{} // tells the shell that Step has something to do
	wantSpare                   chan struct{} // tells the shell that SpareStep has

	// of Step alone
	tail   []byte // the image of the last, partial alignment block
	zeros  []byte // stay zero
	zeroed int64  // log position up to which zeros were written ahead
	iov    [][]byte
}

// Written, Flushed and Confirmed are log positions: all before them is written to the file, on stable storage, visible to readers.
func (l *Log) Written() int64   { return l.written.Load() }
func (l *Log) Flushed() int64   { return l.flushed.Load() }
func (l *Log) Confirmed() int64 { return l.confirmed.Load() }

// First returns the position of the first record that the log still holds.
func (l *Log) First() int64 { first, _ := l.segments.bounds(); return first }

// sparesKept is how many retired segments wait to be written again. One is taken at each segment's end, and retention brings one back.
const sparesKept = 3

// Retire removes the segments that end at or before keep and returns the bytes that the disk got back: some of them are kept as spares.
// The segment that is being written stays. Readers that have slices keep them; later reads there fail with ErrGone. It is called by one
// goroutine, SpareStep's.
func (l *Log) Retire(keep int64) (freed int64, err error) {
	keep = min(keep, l.flushed.Load())
	freed, err = l.segments.retire(keep, sparesKept)
	l.retired.Store(l.First())
	if err != nil {
		return freed, fmt.Errorf("retention: %w", err)
	}
	return freed, nil
}

// DropSpares gives the disk back what the next segment does not need.
func (l *Log) DropSpares() (freed int64, err error) { return l.segments.dropSpares(1) }

// Work and WantSpare tell the shell when Step and SpareStep have something to do.
func (l *Log) Work() <-chan struct{}      { return l.work }
func (l *Log) WantSpare() <-chan struct{} { return l.wantSpare }

func (l *Log) signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Append gives the batch its place in the log and encodes it there. It waits while UnsyncedBytesMax are in flight. After nil, Done
// will be called; after an error it will not. The caller's slices are not used any more when it returns.
func (l *Log) Append(b *Batch) error {
	err := l.AppendQuietly(b)
	if err == nil {
		l.signal(l.work)
	}
	return err
}

// Wake tells the shell that Step has something to do; WakeIfPending does so if it has.
func (l *Log) Wake() { l.signal(l.work) }
func (l *Log) WakeIfPending() {
	l.mu.Lock()
	pending := len(l.pending) > 0
	l.mu.Unlock()
	if pending {
		l.signal(l.work)
	}
}

// AppendQuietly is Append by a caller that sees to Step itself.
func (l *Log) AppendQuietly(b *Batch) error {
	b.size = 0
	for i := range b.Entries {
		e := &b.Entries[i]
		if n := e.Record.EncodedPropertiesSize(); n > message.MaxPropertiesSize { // its length would not fit: nobody could read the record
			return fmt.Errorf("%w: a record with %d bytes of properties, %d are possible", ErrTooLarge, n, message.MaxPropertiesSize)
		}
		e.Size = int32(e.Record.EncodedSize())
		b.size += int64(e.Size)
		if int64(e.Size) > l.o.SegmentBytes-message.BlankHeaderSize {
			return fmt.Errorf("%w: a record of %d bytes, segmentBytes=%d", ErrTooLarge, e.Size, l.o.SegmentBytes)
		}
	}
	if b.size > batchBytesMax {
		return fmt.Errorf("%w: a batch of %d bytes, the limit is batchBytesMax=%d; send less at once", ErrTooLarge, b.size, batchBytesMax)
	}
	b.encoded.Store(false)
	l.mu.Lock()
	if err := l.await(b); err != nil {
		l.mu.Unlock()
		return err
	}
	l.assign(b)
	l.mu.Unlock()

	l.encode(b)
	b.encoded.Store(true)
	return nil
}

// await waits until there is room for the batch in flight, in segments and in memory. The caller holds mu.
func (l *Log) await(b *Batch) error {
	for {
		if err := l.refusal(); err != nil {
			return err
		}
		if l.inFlight == 0 || l.inFlight+b.size <= l.o.UnsyncedBytesMax {
			if ok, err := l.reserve(b); ok || err != nil {
				return err
			}
		}
		l.space.Wait() // others may append meanwhile
	}
}

// assign gives every record of the batch its offsets, and the batch its place in line. The caller holds mu.
func (l *Log) assign(b *Batch) {
	if b.Assigned != nil {
		b.Assigned()
	}
	l.storeTime = max(l.storeTime, l.o.Now().UnixMilli())
	pos := l.next
	for i := range b.Entries {
		e := &b.Entries[i]
		if end := l.segmentEnd(pos); pos+int64(e.Size)+tailZeroBytes > end {
			l.rolls = append(l.rolls, roll{pos, end})
			l.blank(pos, end, b)
			pos = end
		}
		e.Record.PhysicalOffset = pos
		e.Record.StoreTime = l.storeTime
		e.Record.QueueOffset = e.Sequence.next
		if e.Numbering == nil {
			e.Sequence.next++
		} else {
			e.Numbering.assign(e.Sequence)
		}
		l.hold(b, pos, int64(e.Size))
		pos += int64(e.Size)
	}
	l.next, b.end = pos, pos
	l.inFlight += b.size
	l.open++
	l.pending = append(l.pending, b)
}

// refusal returns why no append is taken, nil if one is. The caller holds mu.
func (l *Log) refusal() error {
	if l.stopped == nil && l.closing {
		return fmt.Errorf("%w: closing", ErrStopped)
	}
	return l.stopped
}

// reserve makes sure, before anything is assigned, that queues, segments and memory for the whole batch are there; false when a segment is
// being made. The caller holds mu.
func (l *Log) reserve(b *Batch) (bool, error) {
	end := l.next
	if b.Guard != nil && b.Guard.ended {
		return false, ErrEnded
	}
	for i := range b.Entries {
		if e := &b.Entries[i]; e.Sequence.ended || e.Numbering.ended() {
			return false, ErrEnded
		}
		if size := int64(b.Entries[i].Size); end+size+tailZeroBytes > l.segmentEnd(end) {
			end = l.segmentEnd(end) + size
		} else {
			end += size
		}
	}
	if end > l.prepared {
		if l.spareErr != nil {
			return false, fmt.Errorf("%w: %w", ErrNoSpace, l.spareErr)
		}
		l.wanted = max(l.wanted, end)
		l.signal(l.wantSpare)
		return false, nil
	}
	step := int64(l.o.BlockBytes)
	for pos := l.next - l.next%step; pos < end; pos += step {
		if _, err := l.blocks.tail(pos); err != nil {
			return false, err
		}
	}
	return true, nil
}

// segmentEnd returns the end of the segment that holds pos.
func (l *Log) segmentEnd(pos int64) int64 {
	return pos - pos%l.o.SegmentBytes + l.o.SegmentBytes
}

// hold keeps the blocks of [pos, pos+n) from being recycled while the batch is encoded. The caller holds mu.
func (l *Log) hold(b *Batch, pos, n int64) {
	step := int64(l.o.BlockBytes)
	for p := pos - pos%step; p < pos+n; p += step {
		if k := len(b.pins); k > 0 && b.pins[k-1].index == p/step {
			continue
		}
		blk, err := l.blocks.tail(p)
		if err != nil {
			panic("the tail's block was reserved: " + err.Error())
		}
		b.pins = append(b.pins, blk)
	}
}

// blank writes the filler that ends a segment into memory. The caller holds mu.
func (l *Log) blank(pos, end int64, b *Batch) {
	var header [message.BlankHeaderSize]byte
	message.PutBlank(header[:], int(end-pos), l.storeTime)
	n := min(end-pos, int64(len(header)))
	l.hold(b, pos, n)
	copyInto(b.pins, int64(l.o.BlockBytes), pos, header[:n])
}

// encode writes the batch's records into the tail's blocks. A record that crosses a block's end is made aside and copied.
func (l *Log) encode(b *Batch) {
	step := int64(l.o.BlockBytes)
	pins := b.pins
	for i := range b.Entries {
		e := &b.Entries[i]
		if e.Numbering != nil {
			e.Numbering.write(e.Record.Properties)
		}
		pos := e.Record.PhysicalOffset
		for pins[0].index < pos/step {
			pins = pins[1:]
		}
		if at := pos % step; at+int64(e.Size) <= step {
			e.Record.Encode(pins[0].data[at:at+int64(e.Size)], e.BodyCRC)
			continue
		}
		aside := make([]byte, e.Size)
		e.Record.Encode(aside, e.BodyCRC)
		copyInto(pins, step, pos, aside)
	}
	clear(b.pins)
	b.pins = b.pins[:0]
}

// copyInto copies p to log position pos, which lies in the given consecutive blocks.
func copyInto(pins []*block, step, pos int64, p []byte) {
	for len(pins) > 0 && pins[0].index < pos/step {
		pins = pins[1:]
	}
	for len(p) > 0 {
		n := copy(pins[0].data[pos%step:], p)
		p, pos, pins = p[n:], pos+int64(n), pins[1:]
	}
}

// fail stops the log for good.
func (l *Log) fail(err error) {
	l.mu.Lock()
	if l.stopped == nil {
		l.stopped = fmt.Errorf("%w: %w", ErrStopped, err)
	}
	l.space.Broadcast()
	l.mu.Unlock()
	l.signal(l.work)
}

// Err returns why the log stopped, nil while it takes records.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal()
}

// SpareStep makes a spare segment if there is none, and lets the senders go on that wait for it. An error is ErrNoSpace's cause:
// the shell tries again later.
func (l *Log) SpareStep() error {
	l.mu.Lock()
	wanted := l.wanted // a batch may need several segments
	l.mu.Unlock()
	_, end := l.segments.bounds()
	err := error(nil)
	for err == nil && (l.segments.spares() == 0 || end+int64(l.segments.spares())*l.o.SegmentBytes < wanted) {
		err = l.segments.makeSpare()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spareErr = err
	_, end = l.segments.bounds()
	l.prepared = end + int64(l.segments.spares())*l.o.SegmentBytes
	l.space.Broadcast()
	return err
}
