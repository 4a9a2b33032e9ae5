package view

import (
	"encoding/binary"
	"errors"
)

// BaseEntry is one entry of a base, keyed as in the database.
type BaseEntry struct{ Key, Value []byte }

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
	be := binary.BigEndian
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	for _, e := range entries {
		switch rest := e.Key[1:]; e.Key[0] {
		case 's':
			for i, c := range rest {
				if c == 0 {
					v.state[stateKey{string(rest[:i]), string(rest[i+1:])}] = e.Value
					break
				}
			}
		case 'n':
			q := v.Queue(string(rest[:len(rest)-5]), int32(be.Uint32(rest[len(rest)-4:])))
			q.floor = int64(be.Uint64(e.Value))
		}
	}
	v.now = a
	return nil
}
