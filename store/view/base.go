package view

import (
	"encoding/binary"
	"errors"
	"strings"
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

// Restore fills an empty view from a base. The queues' indexes are not in it: they come back from the log, and every queue whose
// messages are gone goes on at its offset.
func (v *View) Restore(a Applied, entries []BaseEntry) error {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	for _, e := range entries {
		if kind, key, ok := e.State(); ok {
			v.state.set(kind, key, e.Value, false)
		}
		if topic, id, _, next, ok := e.Queue(); ok {
			v.Queue(topic, id).floor = next
		}
	}
	v.now = a
	return nil
}
