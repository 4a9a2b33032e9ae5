package view

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// KindCompaction is the kind of state that says what compaction has left of queues. Its keys, integers big-endian:
//
//	"c" topic 0 queue 4    how far compaction came: id 8, end 8, first 8 (see Compacted)
//	"k" id 8 hash 16       offset 8 of the newest message with a key of that hash, of those before the end
//	"o" id 8 offset 8      index entry of such a message
//
// The id is never used again: what is left of a deleted topic is not taken for a new one's of that name.
const KindCompaction = "compaction"

// Compacted says how far compaction came in a queue. Of the messages before End those are left that have an entry in the state; the
// queue's own index holds the others, and counts only from End on.
type Compacted struct {
	ID    int64
	End   int64 // queue offset
	First int64 // offset of the first that is left; End where none is
}

const keyHashBytes = 16

// KeyOf is the queue's key in the state, Newest that of a key's hash, Left that of an offset.
func (Compacted) KeyOf(q *Queue) string {
	return compactedPrefix(q.Topic) + string(binary.BigEndian.AppendUint32(nil, uint32(q.ID)))
}

// Newest is described at KeyOf.
func (c Compacted) Newest(hash [keyHashBytes]byte) string {
	return string(append(c.prefix('k'), hash[:]...))
}

// Left is described at KeyOf.
func (c Compacted) Left(offset int64) string {
	return string(binary.BigEndian.AppendUint64(c.prefix('o'), uint64(offset)))
}

func (c Compacted) prefix(kind byte) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, uint64(c.ID))
}

func compactedPrefix(topic string) string { return "c" + topic + "\x00" }

// Value is the value of the queue's entry.
func (c Compacted) Value() []byte {
	be := binary.BigEndian
	return be.AppendUint64(be.AppendUint64(be.AppendUint64(nil, uint64(c.ID)), uint64(c.End)), uint64(c.First))
}

func decodeCompacted(key string, value []byte) (topic string, id int32, c Compacted, err error) {
	be := binary.BigEndian
	topic, rest, _ := strings.Cut(key[1:], "\x00")
	if len(rest) != 4 || len(value) != 24 {
		return "", 0, c, fmt.Errorf("%w: compaction of %q: %x", ErrBroken, key, value)
	}
	c = Compacted{int64(be.Uint64(value)), int64(be.Uint64(value[8:])), int64(be.Uint64(value[16:]))}
	return topic, int32(be.Uint32([]byte(rest))), c, nil
}

// EntryValue is the value of what is left, OffsetValue that of a key's hash.
func EntryValue(e Entry) []byte { return appendEntry(nil, e) }

// OffsetValue is described at EntryValue.
func OffsetValue(offset int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(offset)) }

// DecodeOffset reads what OffsetValue made; false where there is nothing.
func DecodeOffset(value []byte) (offset int64, ok bool) {
	if len(value) != 8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(value)), true
}

// DecodeLeft reads the entry of what is left; false when the key is another.
func DecodeLeft(key string, value []byte) (Entry, bool) {
	if key == "" || key[0] != 'o' || len(value) != entryBytes {
		return Entry{}, false
	}
	return decodeEntry(value), true
}

// Compacted tells how far compaction came in the queue; its End is 0 where there was none.
func (q *Queue) Compacted() Compacted {
	if c := q.compacted.Load(); c != nil {
		return *c
	}
	return Compacted{}
}

// Skip returns the first offset from offset on that compaction has left a message at, as far as it came. In other queues that is offset.
func (q *Queue) Skip(offset int64) (int64, error) {
	c := q.compacted.Load()
	if c == nil {
		return offset, nil
	}
	next := c.End
	if offset < next {
		err := q.Left(*c, offset, 1, func(at int64, _ Entry) { next = min(next, at) })
		if err != nil || next < c.End {
			return next, err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retire()
	return max(offset, next, q.min), nil
}

// Left calls fn for up to limit of the messages that compaction has left, from an offset on.
func (q *Queue) Left(c Compacted, offset int64, limit int, fn func(offset int64, e Entry)) error {
	prefix := string(c.prefix('o'))
	return q.view.stateWith(KindCompaction, prefix, c.Left(max(offset, 0)), limit, func(key string, value []byte) error {
		e, ok := DecodeLeft(key, value)
		if !ok || len(key) != len(prefix)+8 {
			return fmt.Errorf("%w: what compaction left of %s/%d: %x: %x", ErrBroken, q.Topic, q.ID, key, value)
		}
		fn(int64(binary.BigEndian.Uint64([]byte(key[len(prefix):]))), e)
		return nil
	})
}

// leftEntries is Entries before the compaction's end: holes stand for what is gone.
func (q *Queue) leftEntries(dst []Entry, c Compacted, offset int64, n int) ([]Entry, error) {
	if offset < c.First {
		return dst, nil
	}
	end, start := min(offset+int64(n), c.End), int64(len(dst))
	err := q.Left(c, offset, n, func(at int64, e Entry) {
		if at >= end {
			return
		}
		for offset+int64(len(dst))-start < at {
			dst = append(dst, Entry{})
		}
		dst = append(dst, e)
	})
	for offset+int64(len(dst))-start < end {
		dst = append(dst, Entry{})
	}
	return dst, err
}

// errOver ends a scan behind a prefix.
var errOver = errors.New("behind the prefix")

// stateWith is StateFrom for keys that have a prefix.
func (v *View) stateWith(kind, prefix, from string, limit int, fn func(key string, value []byte) error) error {
	err := v.StateFrom(kind, from, limit, func(key string, value []byte) error {
		if !strings.HasPrefix(key, prefix) {
			return errOver
		}
		return fn(key, value)
	})
	if errors.Is(err, errOver) {
		return nil
	}
	return err
}

// compactedQueuesMax bounds what is looked at of one topic: more queues no topic has.
const compactedQueuesMax = 1 << 20

// compact takes over how far compaction came, once the state has what it left: whoever sees the new end sees that.
func (v *View) compact(changes []Mutation) {
	for _, change := range changes {
		if change.Value == nil || change.Key[0] != 'c' {
			continue
		}
		topic, id, c, err := decodeCompacted(change.Key, change.Value)
		if err != nil {
			continue // no record of ours
		}
		v.queuesMu.RLock()
		// Where the topic is being deleted, its name belongs to the queues of the next one already.
		if list := v.queues[topic]; v.leaving[topic] == 0 && int(id) < len(list) && list[id] != nil {
			list[id].compacted.Store(&c)
		}
		v.queuesMu.RUnlock()
	}
}

// loadCompacted has every queue know how far compaction came.
func (v *View) loadCompacted() error {
	found := map[*Queue]Compacted{}
	err := v.stateWith(KindCompaction, "c", "c", math.MaxInt32, func(key string, value []byte) error {
		topic, id, c, err := decodeCompacted(key, value)
		if err == nil {
			found[v.Queue(topic, id)] = c
		}
		return err
	})
	for q, c := range found {
		q.compacted.Store(&c)
	}
	return err
}

// dropCompacted forgets what compaction left of a deleted topic. What cannot be read now is a few bytes too much in the database.
func (v *View) dropCompacted(topic string) {
	prefix := compactedPrefix(topic)
	var keys []string
	ids := map[string]bool{}
	_ = v.stateWith(KindCompaction, prefix, prefix, compactedQueuesMax, func(key string, value []byte) error {
		keys = append(keys, key)
		ids[string(value[:min(8, len(value))])] = true
		return nil
	})
	if len(keys) == 0 {
		return
	}
	v.stateMu.Lock()
	for _, key := range keys {
		v.state.set(KindCompaction, key, nil, false)
	}
	entries := v.state[KindCompaction].entries // there is one now
	for key := range entries {
		if key[0] != 'c' && len(key) > 9 && ids[key[1:9]] {
			delete(entries, key)
		}
	}
	v.stateMu.Unlock()
	for id := range ids {
		v.dropped = append(v.dropped, stateKey(KindCompaction, "k"+id), stateKey(KindCompaction, "o"+id))
	}
}
