package pop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Write is a change of a queue's durable state; a nil value deletes the entry. The entries of a queue:
//
//	n                                              next offset uvarint
//	r deadline 8, start 8, time 8, number 4        a run: 1 when suspended else 0, then its bits
//	o                                              an ordered batch: time, invisible, attempt's length (uvarint each), attempt, then for each
//	                                               message: offset less the last one's, acknowledged 0 or 1, visible, attempts (uvarint each)
//
// Numbers of fixed length are big-endian, so that runs stand in order.
type Write struct {
	Key   string
	Value []byte
}

const (
	keyNext    = "n"
	keyBatch   = "o"
	keyRun     = 'r'
	runKeySize = 1 + 8 + 8 + 8 + 4
	// bitsMax bounds the bits of a run that is read back, in bytes.
	bitsMax = 1 << 16
)

var errState = errors.New("not an entry of a queue's state")

// IsNext tells whether an entry is the next offset, which a queue has even when nothing is in flight.
func IsNext(entry string) bool { return entry == keyNext }

func (q *Queue) writeNext() Write {
	return Write{keyNext, binary.AppendUvarint(nil, uint64(q.next))}
}

// Key returns the key of a run's entry.
func (a RunID) Key() string {
	be := binary.BigEndian
	k := append(make([]byte, 0, runKeySize), keyRun)
	k = be.AppendUint64(k, uint64(a.Deadline))
	k = be.AppendUint64(k, uint64(a.Start))
	k = be.AppendUint64(k, uint64(a.Time))
	return string(be.AppendUint32(k, uint32(a.Number)))
}

// Write returns the run's entry, which is deleted when nothing is left.
func (r *Run) Write() Write {
	w := Write{Key: r.Key()}
	if !r.Left.empty() {
		w.Value = make([]byte, 1, 1+len(r.Left))
		if r.Suspend {
			w.Value[0] = 1
		}
		w.Value = append(w.Value, r.Left...)
	}
	return w
}

// Without returns the entry of a run once its messages up to an offset are acknowledged or delivered again.
func (r *Run) Without(offset int64) Write {
	left := Run{RunID: r.RunID, Suspend: r.Suspend}
	for i := range r.Left.All {
		if r.Start+int64(i) > offset {
			left.Left.set(i)
		}
	}
	return left.Write()
}

// IsRun tells whether a key is that of a run.
func IsRun(key string) bool { return len(key) == runKeySize && key[0] == keyRun }

// ParseRun reads a run's entry.
func ParseRun(key string, value []byte) (r Run, err error) {
	if !IsRun(key) || len(value) < 2 || len(value) > bitsMax || value[0] > 1 || value[len(value)-1] == 0 {
		return r, fmt.Errorf("%w: run %x with %d bytes", errState, key, len(value))
	}
	be, k := binary.BigEndian, []byte(key[1:])
	r.RunID = RunID{int64(be.Uint64(k)), int64(be.Uint64(k[8:])), int64(be.Uint64(k[16:])), int32(be.Uint32(k[24:]))}
	r.Suspend, r.Left = value[0] == 1, slices.Clone(value[1:])
	return r, nil
}

// Load takes one entry of the state that was written; all of them, in any order, make the queue as it was.
func (q *Queue) Load(key string, value []byte) error {
	switch key {
	case keyNext:
		next, n := binary.Uvarint(value)
		if n <= 0 || n != len(value) || int64(next) < 0 {
			return fmt.Errorf("%w: next offset %x", errState, value)
		}
		q.next, q.known = int64(next), true
		return nil
	case keyBatch:
		b, err := parseBatch(value)
		if err == nil {
			q.batch, q.last = b, b.time
		}
		return err
	}
	r, err := ParseRun(key, value)
	if err == nil {
		q.insert(r)
	}
	return err
}

func (b *Batch) write() Write {
	v := binary.AppendUvarint(nil, uint64(b.time))
	v = binary.AppendUvarint(v, uint64(b.invisible))
	v = binary.AppendUvarint(v, uint64(len(b.attempt)))
	v = append(v, b.attempt...)
	last := int64(0)
	for _, m := range b.messages {
		v = binary.AppendUvarint(v, uint64(m.offset-last))
		last = m.offset
		acked := uint64(0)
		if m.acked {
			acked = 1
		}
		v = binary.AppendUvarint(v, acked)
		v = binary.AppendUvarint(v, uint64(m.visible))
		v = binary.AppendUvarint(v, uint64(m.attempts))
	}
	return Write{keyBatch, v}
}

func parseBatch(value []byte) (*Batch, error) {
	rest, bad := value, false
	number := func() int64 {
		n, size := binary.Uvarint(rest)
		if size <= 0 || int64(n) < 0 {
			rest, bad = nil, true
			return 0
		}
		rest = rest[size:]
		return int64(n)
	}
	b := &Batch{time: number(), invisible: number()}
	if n := number(); n <= int64(len(rest)) {
		b.attempt, rest = string(rest[:n]), rest[n:]
	} else {
		bad = true
	}
	last := int64(0)
	for len(rest) > 0 && !bad {
		last += number()
		b.messages = append(b.messages, ordered{offset: last, acked: number() != 0, visible: number(), attempts: int32(number())})
	}
	if bad || len(b.messages) == 0 {
		return nil, fmt.Errorf("%w: ordered batch %x", errState, value)
	}
	return b, nil
}
