package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/view"
)

// A state record's body, in topic rmq_sys_apogee_<kind>, queue 0:
//
//	format version 1 (2 with a copy), epoch uvarint, count uvarint, then per change:
//	operation 1 (1 put, 2 delete, 3 copy), key length uvarint, key, and
//	for a put value length uvarint, value
//	for a copy tags code 8, record length uvarint, record: the value is the index entry of the record where it stands here
const (
	statePut    = 1
	stateDelete = 2
	stateCopy   = 3
	stateFormat = 2
)

// recordCopy is a message's record that stays although its place in the log goes: a change of state holds it.
type recordCopy struct {
	key      string
	tagsCode int64
	position int64 // where it stands now
	raw      []byte
}

// KindQueues is the kind whose deletion of a topic's name drops the topic's queues: whoever holds one gets ErrEnded for an append that
// comes behind it in the log.
const KindQueues = view.KindQueues

// UpdateState appends a change of the broker's state; done is called once it is confirmed, or never will be. Records appended
// afterwards, by whomever, come behind it in the log. After an error done is not called. The values must not be changed any more.
func (s *Store) UpdateState(kind string, changes []Mutation, done func(error)) error {
	b := &Batch{Entries: []Entry{s.StateEntry(kind, changes)}, Done: func(_ *Batch, err error) { done(err) }}
	if kind == KindQueues {
		b.Assigned = func() {
			for _, c := range changes {
				if c.Value == nil {
					s.view.Leave(c.Key)
				}
			}
		}
	}
	return s.appendState(b)
}

// appendState appends a batch that changes state.
func (s *Store) appendState(b *Batch) error {
	if err := s.takesState(); err != nil {
		return err
	}
	return s.log.Append(b)
}

// StateEntry makes the record of a change of the broker's state, to be appended in a batch with messages. Not for KindQueues. The values
// must not be changed any more, nor changes before the batch is done.
func (s *Store) StateEntry(kind string, changes []Mutation) Entry {
	return s.stateEntry(kind, changes, nil)
}

// stateEntry is StateEntry with copies of records.
func (s *Store) stateEntry(kind string, changes []Mutation, copies []recordCopy) Entry {
	body, entries := encodeState(changes, copies)
	topic := message.StatePrefix + kind
	queue := s.view.Queue(topic, 0)
	return Entry{
		Record: message.Record{Topic: []byte(topic), Body: body}, BodyCRC: crc32.ChecksumIEEE(body),
		Sequence: &queue.Sequence, Target: &stateTarget{queue, changes, entries},
	}
}

// stateTarget is the Target of a state record.
type stateTarget struct {
	queue   *view.Queue
	changes []Mutation
	copies  []copyEntry
}

// copyEntry is the index entry of a copy; its position is in the record's body.
type copyEntry struct {
	key   string
	entry view.Entry
}

// at returns all changes, once it is known where in the log the record's body stands.
func (t *stateTarget) at(position int64) []Mutation {
	changes := slices.Clip(t.changes)
	for _, c := range t.copies {
		c.entry.Position += position
		changes = append(changes, Mutation{Key: c.key, Value: view.EntryValue(c.entry)})
	}
	return changes
}

// State calls fn for each entry of a kind, as of the last confirmed record. The value must not be kept.
func (s *Store) State(kind string, fn func(key string, value []byte) error) error {
	return s.view.State(kind, fn)
}

// StateFrom calls fn for up to limit entries of a kind whose keys are not less than from, in the order of their keys, as of the last
// confirmed record. The value must not be kept; while fn runs no change of state is applied.
func (s *Store) StateFrom(kind, from string, limit int, fn func(key string, value []byte) error) error {
	return s.view.StateFrom(kind, from, limit, fn)
}

// StateAt returns the value of one entry, nil when there is none.
func (s *Store) StateAt(kind, key string) ([]byte, error) { return s.view.StateAt(kind, key) }

func encodeState(changes []Mutation, copies []recordCopy) (b []byte, entries []copyEntry) {
	b = []byte{stateFormat}
	if len(copies) == 0 {
		b[0] = 1 // older programs read it
	}
	b = binary.AppendUvarint(b, 0) // epoch: a single node's is 0
	b = binary.AppendUvarint(b, uint64(len(changes)+len(copies)))
	appendKey := func(operation byte, key string) {
		b = append(binary.AppendUvarint(append(b, operation), uint64(len(key))), key...)
	}
	for _, c := range changes {
		if c.Value == nil {
			appendKey(stateDelete, c.Key)
			continue
		}
		appendKey(statePut, c.Key)
		b = append(binary.AppendUvarint(b, uint64(len(c.Value))), c.Value...)
	}
	for _, c := range copies {
		appendKey(stateCopy, c.key)
		b = binary.BigEndian.AppendUint64(b, uint64(c.tagsCode))
		b = binary.AppendUvarint(b, uint64(len(c.raw)))
		entries = append(entries, copyEntry{c.key, view.Entry{Position: int64(len(b)), Size: int32(len(c.raw)), TagsCode: c.tagsCode}})
		b = append(b, c.raw...)
	}
	return b, entries
}

// stateDecoder reads a state record's body; its first error stays.
type stateDecoder struct {
	b    []byte // what is left
	size int    // of the whole body
	err  error
}

func (d *stateDecoder) number() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err = errTruncated
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *stateDecoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.err = errTruncated
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

var errTruncated = errors.New("truncated")

// decodeState reads the body, which stands at a log position, of a state record.
func decodeState(body []byte, position int64) (changes []Mutation, err error) {
	if len(body) == 0 {
		return nil, fmt.Errorf("empty body")
	}
	if body[0] > stateFormat {
		return nil, fmt.Errorf("format version %d, the newest known is %d: %w", body[0], stateFormat, ErrVersion)
	}
	d := &stateDecoder{b: body[1:], size: len(body)}
	d.number() // epoch
	for count := d.number(); count > 0 && d.err == nil; count-- {
		changes = append(changes, d.change(position))
	}
	return changes, d.err
}

func (d *stateDecoder) change(position int64) (c Mutation) {
	operation := d.take(1)
	if d.err != nil {
		return c
	}
	c.Key = string(d.take(d.number()))
	switch operation[0] {
	case statePut:
		c.Value = append([]byte{}, d.take(d.number())...)
	case stateDelete:
	case stateCopy:
		e := view.Entry{}
		if tags := d.take(8); d.err == nil {
			e.TagsCode = int64(binary.BigEndian.Uint64(tags))
		}
		n := d.number()
		e.Position, e.Size = position+int64(d.size-len(d.b)), int32(n)
		d.take(n)
		c.Value = view.EntryValue(e)
	default:
		d.err = fmt.Errorf("unknown operation %d", operation[0])
	}
	return c
}
