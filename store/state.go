package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/view"
)

// A state record's body, in topic rmq_sys_apogee_<kind>, queue 0:
//
//	format version 1, epoch uvarint, count uvarint, then per change:
//	operation 1 (1 put, 2 delete), key length uvarint, key, and for a put value length uvarint, value
const (
	statePut    = 1
	stateDelete = 2
)

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
	if err := s.takesState(); err != nil {
		return err
	}
	return s.log.Append(b)
}

// StateEntry makes the record of a change of the broker's state, to be appended in a batch with messages. Not for KindQueues. The values
// must not be changed any more, nor changes before the batch is done.
func (s *Store) StateEntry(kind string, changes []Mutation) Entry {
	body := encodeState(changes)
	topic := message.StatePrefix + kind
	queue := s.view.Queue(topic, 0)
	return Entry{
		Record: message.Record{Topic: []byte(topic), Body: body}, BodyCRC: crc32.ChecksumIEEE(body),
		Sequence: &queue.Sequence, Target: &stateTarget{queue, changes},
	}
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

func encodeState(changes []Mutation) []byte {
	b := []byte{stateFormat}
	b = binary.AppendUvarint(b, 0) // epoch: a single node's is 0
	b = binary.AppendUvarint(b, uint64(len(changes)))
	for _, c := range changes {
		op := byte(statePut)
		if c.Value == nil {
			op = stateDelete
		}
		b = binary.AppendUvarint(append(b, op), uint64(len(c.Key)))
		b = append(b, c.Key...)
		if op == statePut {
			b = binary.AppendUvarint(b, uint64(len(c.Value)))
			b = append(b, c.Value...)
		}
	}
	return b
}

func decodeState(b []byte) ([]Mutation, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("empty body")
	}
	if b[0] > stateFormat {
		return nil, fmt.Errorf("format version %d, the newest known is %d: %w", b[0], stateFormat, ErrVersion)
	}
	b = b[1:]
	var err error
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err = fmt.Errorf("truncated")
			return 0
		}
		b = b[n:]
		return v
	}
	take := func() []byte {
		n := number()
		if n > uint64(len(b)) {
			err = fmt.Errorf("truncated")
			return nil
		}
		p := b[:n:n]
		b = b[n:]
		return p
	}
	number() // epoch
	count := number()
	var changes []Mutation
	for ; count > 0 && err == nil; count-- {
		if len(b) == 0 {
			return nil, fmt.Errorf("truncated")
		}
		op := b[0]
		b = b[1:]
		c := Mutation{Key: string(take())}
		switch op {
		case statePut:
			c.Value = append([]byte{}, take()...)
		case stateDelete:
		default:
			return nil, fmt.Errorf("unknown operation %d", op)
		}
		changes = append(changes, c)
	}
	return changes, err
}
