package view

import (
	"encoding/binary"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
)

// Entry is a message's place: what a queue index holds of it. A queue's positions never go down.
type Entry struct {
	Position int64 // in the log
	TagsCode int64
	Size     int32 // 0: a damaged record left a hole
	// Part: the record holds several messages, each with an offset. More: it has the next offset, too.
	Part, More bool
}

// Hole tells whether there is no message at this offset: a damaged record had it, or compaction has removed it.
func (e Entry) Hole() bool { return e.Size == 0 }

const (
	entryBytes = 20
	// entryMore and entryPart are bits of the encoded size, for Entry.More and Entry.Part: no record is that long.
	entryMore = 1 << 31
	entryPart = 1 << 30
	// entriesPerBlock bounds one value of the database.
	entriesPerBlock = 1024
)

// Waiter waits at a queue's end. Arrived is called for each new message, under the queue's lock; true takes the waiter off.
type Waiter interface{ Arrived(tagsCode int64) bool }

// Queue is one message queue: the sequence that the log numbers its messages by, and the index of those that are confirmed.
type Queue struct {
	commitlog.Sequence
	Topic string
	ID    int32
	// Timed: its index holds when messages are due, in place of tags' codes. Pending: its records may wait for something, and are state
	// for as long as they do.
	Timed, Pending bool
	holdsState     bool // its records are the broker's state, not messages
	dirty          bool // in the view's list of changed queues; guarded by the view's applyMu
	view           *View
	compacted      atomic.Pointer[Compacted] // nil: compaction never came here
	cold           atomic.Pointer[coldBlock] // nil: none; set under mu, and taken away at any time

	mu      sync.Mutex // guards what follows
	min     int64
	base    int64   // offset of entries[0]
	floor   int64   // least next offset, from a base whose messages are gone
	entries []Entry // not in the database yet
	kept    int64   // log position that min was last looked up for
	block   int64   // first offset of the run that min lies in
	cut     int64   // pointers to runs before this offset are deleted
	waiters map[Waiter]struct{}
}

// kind returns which state the queue's records hold; empty for messages.
func (q *Queue) kind() string {
	if !q.holdsState {
		return ""
	}
	return q.Topic[len(message.StatePrefix):]
}

// Bounds returns the offsets of the first message and behind the last confirmed one.
func (q *Queue) Bounds() (first, next int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retire()
	first, next = q.min, q.base+int64(len(q.entries))
	if c := q.compacted.Load(); c != nil {
		if first = max(first, c.End); c.First < c.End {
			first = c.First
		}
	}
	return first, next
}

// append adds the next record, which takes span offsets. An offset that is already there is a replay or, with restart, begins the queue
// anew: then it returns true. A hole before it is filled with void entries.
func (q *Queue) append(offset, span int64, e Entry, restart bool) (restarted bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := q.base + int64(len(q.entries))
	switch {
	case offset < next && restart:
		q.min, q.base, q.entries = offset, offset, q.entries[:0]
		q.view.cold.drop(q)
		restarted = true
	case offset < next:
		return false
	case offset > next && next == q.min: // nothing before it is left in the log
		q.min, q.base, q.entries = offset, offset, q.entries[:0]
	default:
		for ; next < offset; next++ {
			q.entries = append(q.entries, Entry{Position: e.Position})
		}
	}
	if q.holdsState {
		q.base, q.min = offset+1, offset+1
	} else {
		for e.Part = span > 1; span > 0; span-- {
			e.More = span > 1
			q.entries = append(q.entries, e)
		}
	}
	if len(q.waiters) > 0 {
		q.wake(e.TagsCode)
	}
	return restarted
}

// settle sets the sequence at the end of a replay, which is the log's; true when the queue is not as the database has it.
func (q *Queue) settle(end int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := q.base + int64(len(q.entries))
	raised := next < q.floor
	if raised && next == q.min {
		q.min, q.base, q.entries = q.floor, q.floor, nil
	}
	for ; raised && next < q.floor && q.base < q.floor; next++ { // its last messages are damaged
		q.entries = append(q.entries, Entry{Position: end})
	}
	q.Set(q.base + int64(len(q.entries)))
	return raised && !q.dirty
}

func (q *Queue) wake(tagsCode int64) {
	for w := range q.waiters {
		if w.Arrived(tagsCode) {
			delete(q.waiters, w)
		}
	}
}

// Wait registers w, unless there already is something at offset: then it returns false.
func (q *Queue) Wait(w Waiter, offset int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if offset < q.base+int64(len(q.entries)) {
		return false
	}
	if q.waiters == nil {
		q.waiters = make(map[Waiter]struct{})
	}
	q.waiters[w] = struct{}{}
	return true
}

// StopWaiting takes w off; false when it was not there any more.
func (q *Queue) StopWaiting(w Waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.waiters[w]
	delete(q.waiters, w)
	return ok
}

// Entries appends to dst up to n entries from offset on, fewer at the queue's end or at the end of a database block. What compaction has
// removed is a hole.
func (q *Queue) Entries(dst []Entry, offset int64, n int) ([]Entry, error) {
	if c := q.compacted.Load(); c != nil && offset < c.End && n > 0 {
		return q.leftEntries(dst, *c, offset, n)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.retire(); offset < q.min || n <= 0 {
		return dst, nil
	}
	if offset >= q.base {
		at := min(offset-q.base, int64(len(q.entries)))
		return append(dst, q.entries[at:min(at+int64(n), int64(len(q.entries)))]...), nil
	}
	block := q.cold.Load()
	if !block.holds(offset) {
		var err error
		if block, err = q.loadCold(offset); err != nil {
			if q.retire(); offset < q.min { // the run was dropped meanwhile
				return dst, nil
			}
			return dst, err
		}
		if !block.holds(offset) {
			return dst, fmt.Errorf("queue %s/%d: no index entry for offset %d", q.Topic, q.ID, offset)
		}
	}
	for at := int(offset-block.first) * entryBytes; n > 0 && at < len(block.data); n, at = n-1, at+entryBytes {
		dst = append(dst, decodeEntry(block.data[at:]))
	}
	return dst, nil
}

// retire moves the queue's minimum past the messages that the log does not hold any more. It looks them up once after each retention, in
// the queues that are used; Sweep comes to the others. The caller holds mu.
func (q *Queue) retire() {
	first := q.view.first.Load()
	if q.kept >= first {
		return
	}
	low, high := q.base, q.base // of the offsets in the database that may be the first
	err := q.pointers(q.min, func(p pointer) bool {
		if low < q.base {
			high = p.first
			return false
		}
		if p.first >= q.base { // of a deleted topic of this name: the next stage removes it
			return false
		}
		if p.run.end > first {
			low = p.first
		}
		return true
	})
	block := low
	for low = max(low, q.min); err == nil && low < high; {
		middle := low + (high-low)/2
		var b *coldBlock
		if b, err = q.loadCold(middle); err != nil {
			break
		}
		from, n := b.first, len(b.data)/entryBytes
		switch live := sort.Search(n, func(i int) bool { return decodeEntry(b.data[i*entryBytes:]).Position >= first }); live {
		case n:
			low = max(from+int64(n), middle+1)
		case 0:
			high = from
		default:
			low = max(low, from+int64(live))
			high = low
		}
	}
	if err != nil {
		return // the next caller tries again
	}
	if low >= q.base {
		low = q.base + int64(sort.Search(len(q.entries), func(i int) bool { return q.entries[i].Position >= first }))
	}
	q.block = block
	q.min, q.kept = max(q.min, low), first
}

func decodeEntry(b []byte) Entry {
	be := binary.BigEndian
	size := be.Uint32(b[8:])
	return Entry{
		Position: int64(be.Uint64(b)), TagsCode: int64(be.Uint64(b[12:])),
		Size: int32(size &^ (entryMore | entryPart)), Part: size&entryPart != 0, More: size&entryMore != 0,
	}
}

func appendEntry(dst []byte, e Entry) []byte {
	be := binary.BigEndian
	dst = be.AppendUint64(dst, uint64(e.Position))
	size := uint32(e.Size)
	if e.Part {
		size |= entryPart
	}
	if e.More {
		size |= entryMore
	}
	dst = be.AppendUint32(dst, size)
	return be.AppendUint64(dst, uint64(e.TagsCode))
}

// key returns the queue's key, or prefix of keys, of a kind.
func (q *Queue) key(kind byte) []byte { return queueKey(kind, q.Topic, q.ID) }

func queueKey(kind byte, topic string, id int32) []byte {
	k := make([]byte, 0, len(topic)+14)
	k = append(append(append(k, kind), topic...), 0)
	return binary.BigEndian.AppendUint32(k, uint32(id))
}
