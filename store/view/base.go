package view

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// BaseEntry is one entry of a base, keyed as in the database.
type BaseEntry struct{ Key, Value []byte }

// Queue reads the bounds of a queue; false when the entry is something else.
func (e BaseEntry) Queue() (topic string, id int32, first, next int64, ok bool) {
	be := binary.BigEndian
	if n := len(e.Key); e.Key[0] == 'n' && n >= 6 && len(e.Value) == 16 {
		return string(e.Key[1 : n-5]), int32(be.Uint32(e.Key[n-4:])), int64(be.Uint64(e.Value[8:])), int64(be.Uint64(e.Value)), true
	}
	return "", 0, 0, 0, false
}

// State reads the name of an entry of the broker's state; false when the entry is something else.
func (e BaseEntry) State() (kind, key string, ok bool) {
	if e.Key[0] != 's' {
		return "", "", false
	}
	return strings.Cut(string(e.Key[1:]), "\x00")
}

// Dumper takes what a base holds.
type Dumper interface {
	Header(a Applied) error
	Entry(key, value []byte) error
	End() error
}

// Dump hands over state and queue bounds as of what the database is true up to.
func (v *View) Dump(d Dumper) (Applied, error) {
	snapshot := v.db.NewSnapshot()
	defer snapshot.Close()
	var a Applied
	value, closer, err := snapshot.Get([]byte("a"))
	if err != nil {
		return a, err
	}
	a, err = decodeApplied(value)
	if err = errors.Join(err, closer.Close()); err != nil {
		return a, err
	}
	if err := d.Header(a); err != nil {
		return a, err
	}
	for _, kind := range []string{"n", "s"} {
		err := scan(snapshot, []byte(kind), func(key, value []byte) error {
			return d.Entry(append([]byte(kind), key...), value)
		})
		if err != nil {
			return a, err
		}
	}
	return a, d.End()
}

// restoreBatchBytes is how much of a base is written to the database at a time.
const restoreBatchBytes = 1 << 20

// Restore fills an empty view from a base, whose entries each gives; it need not fit in memory. A crash in between leaves a view that is
// broken. The queues' indexes are not in it: they come back from the log, and every queue whose
// messages are gone goes on at its offset.
func (v *View) Restore(a Applied, each func(take func(BaseEntry) error) error) error {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	b := v.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := b.Set([]byte("r"), nil, nil); err != nil { // as a replay that did not end
		return err
	}
	err := each(func(e BaseEntry) error {
		if topic, id, _, next, ok := e.Queue(); ok {
			v.Queue(topic, id).floor = next
		}
		if e.Key[0] != 's' {
			return nil
		}
		if err := b.Set(e.Key, e.Value, nil); err != nil || b.Len() < restoreBatchBytes {
			return err
		}
		err := errors.Join(b.Commit(pebble.NoSync), b.Close())
		b = v.db.NewBatch()
		return err
	})
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	v.now = a
	return err
}
