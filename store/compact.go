package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"sort"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/apogeemq/apogee/store/view"
)

// Compaction: of the messages that a queue has for a key (all of KEYS) the newest is left (RocketMQ's CompactionLog). What is left is
// state, a record for each step, so that base and log are the truth here too; the queue's index stays as it is and counts only from where
// compaction came to. An empty body removes its key, and a message without a key is removed. Before segments go, what is left in them is
// copied into a record of state, as it is: its offset, store time and place in the log are served as they were.

const (
	// compactMessagesMax bounds the messages of one step of compaction, compactBytesEach what one may take in its record.
	compactMessagesMax = 2048
	compactBytesEach   = 256
	// carryBytesMax bounds the records that one step copies; one at least is.
	carryBytesMax = 1 << 20
	// carryLookMax is how many messages one step looks at.
	carryLookMax = 4096
)

// compaction is one step's work.
type compaction struct {
	s       *Store
	q       *Queue
	was     view.Compacted
	newest  map[[16]byte]compacted // by the key's hash
	deleted map[int64]bool         // offsets before the step that are gone
	changes []Mutation
}

// compacted is a key's newest message in a step.
type compacted struct {
	offset int64
	entry  view.Entry
	ends   bool // its key: it has no body
}

// Compact takes the next messages of a queue into account, up to the offset end; more says that there are others before it. Called by one
// goroutine, which waits here for the log. ErrEnded: the queue was deleted.
func (s *Store) Compact(q *Queue, end int64) (more bool, err error) {
	c := &compaction{s: s, q: q, was: q.Compacted(), newest: map[[16]byte]compacted{}, deleted: map[int64]bool{}}
	first, next := q.Bounds()
	from := first
	if c.was.End > 0 {
		if from, err = q.Skip(c.was.End); err != nil {
			return false, err
		}
	}
	if end = min(end, next); from >= end {
		return false, nil
	}
	if c.was.End == 0 {
		c.was = view.Compacted{ID: s.log.Confirmed(), First: from} // behind each step is a record: no other queue has this id
	}
	n := min(compactMessagesMax, s.log.SegmentBytes()/compactBytesEach, end-from)
	entries, err := q.Entries(nil, from, int(n))
	if err != nil || len(entries) == 0 {
		return false, err
	}
	for i, e := range entries {
		if err := c.add(from+int64(i), e); err != nil {
			return false, err
		}
	}
	next = from + int64(len(entries))
	if err := c.finish(next); err != nil {
		return false, err
	}
	return next < end, s.appendCompaction(q, c.changes, nil)
}

// CompactBefore is Compact up to the first message that stands at a log position or behind it.
func (s *Store) CompactBefore(q *Queue, position int64) (more bool, err error) {
	first, end := q.Bounds()
	first = max(first, q.Compacted().End)
	var failed error
	n := sort.Search(int(max(0, end-first)), func(i int) bool {
		e, err := s.entry(q, first+int64(i))
		if err != nil && !errors.Is(err, ErrNotFound) { // retention has taken what is not found
			failed = err
		}
		return err == nil && e.Position >= position
	})
	if failed != nil {
		return false, failed
	}
	return s.Compact(q, first+int64(n))
}

// add takes the next message into account.
func (c *compaction) add(offset int64, e view.Entry) error {
	if e.Hole() {
		return nil
	}
	var pins Pins
	defer pins.Release()
	r, _, err := c.s.Look(e.Position, &pins)
	if errors.Is(err, ErrNotFound) { // damaged
		return nil
	}
	if err != nil {
		return err
	}
	key := message.Property(r.Properties, message.PropKeys)
	if len(bytes.TrimSpace(key)) == 0 {
		return nil
	}
	sum := sha256.Sum256(key)
	c.newest[[16]byte(sum[:])] = compacted{offset, e, len(r.Body) == 0}
	return nil
}

// finish makes the changes of the step, which came up to an offset.
func (c *compaction) finish(end int64) error {
	first := end // of what the step leaves
	for hash, m := range c.newest {
		key := c.was.Newest(hash)
		old, err := c.s.StateAt(view.KindCompaction, key)
		if err != nil {
			return err
		}
		if offset, ok := view.DecodeOffset(old); ok {
			c.deleted[offset] = true
			c.put(c.was.Left(offset), nil)
		}
		switch {
		case !m.ends:
			c.put(key, view.OffsetValue(m.offset))
			c.put(c.was.Left(m.offset), view.EntryValue(m.entry))
			first = min(first, m.offset)
		case old != nil:
			c.put(key, nil)
		}
	}
	err := c.q.Left(c.was, c.was.First, len(c.deleted)+1, func(offset int64, _ view.Entry) {
		if !c.deleted[offset] {
			first = min(first, offset)
		}
	})
	is := view.Compacted{ID: c.was.ID, End: end, First: first}
	c.put(is.KeyOf(c.q), is.Value())
	return err
}

func (c *compaction) put(key string, value []byte) {
	c.changes = append(c.changes, Mutation{Key: key, Value: value})
}

// CarryCompacted copies what compaction has left of a queue in the log before a position: the next of it from an offset on. It returns the
// offset to go on at, -1 when all is copied. Called by Compact's goroutine.
func (s *Store) CarryCompacted(q *Queue, from, before int64) (next int64, err error) {
	was := q.Compacted()
	if was.End == 0 {
		return -1, nil
	}
	var copies []recordCopy
	looked, last, room := 0, from, min(carryBytesMax, s.log.SegmentBytes()/4)
	next = -1
	err = q.Left(was, from, carryLookMax, func(offset int64, e view.Entry) {
		looked, last = looked+1, offset
		if next >= 0 || e.Position >= before {
			return
		}
		if room -= int64(e.Size) + compactBytesEach; room < 0 && len(copies) > 0 {
			next = offset
			return
		}
		copies = append(copies, recordCopy{key: was.Left(offset), tagsCode: e.TagsCode, position: e.Position, raw: make([]byte, e.Size)})
	})
	if err != nil {
		return 0, err
	}
	if next < 0 && looked == carryLookMax {
		next = last + 1
	}
	for i := range copies {
		if err := s.ReadApart(copies[i].raw, copies[i].position); err != nil {
			return 0, fmt.Errorf("what compaction left of %s/%d: %w", q.Topic, q.ID, err)
		}
	}
	if len(copies) == 0 {
		return next, nil
	}
	return next, s.appendCompaction(q, nil, copies)
}

// CompactedCopies counts the messages that are left of compaction topics as copies only: their own segment may be gone.
func (s *Store) CompactedCopies() (n int, err error) {
	err = s.State(view.KindCompaction, func(key string, value []byte) error {
		e, ok := view.DecodeLeft(key, value)
		if !ok {
			return nil
		}
		_, _, err := s.RecordAt(e.Position)
		if errors.Is(err, ErrNotFound) {
			n, err = n+1, nil
		}
		return err
	})
	return n, err
}

// appendCompaction appends changes of what compaction leaves of a queue, unless it was deleted, and waits until they hold.
func (s *Store) appendCompaction(q *Queue, changes []Mutation, copies []recordCopy) error {
	done := make(chan error, 1)
	err := s.appendState(&commitlog.Batch{
		Entries: []Entry{s.stateEntry(view.KindCompaction, changes, copies)},
		Guard:   &q.Sequence,
		Done:    func(_ *Batch, err error) { done <- err },
	})
	if err != nil {
		return err
	}
	return <-done
}
