package view

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// stateLayer is what of the broker's state is not in the database, by kind and key.
type stateLayer map[string]map[string]stateEntry

type stateEntry struct {
	value []byte // nil: a deletion
	fresh bool   // the key is not in the database, nor on its way there
}

// set changes an entry. fresh: the key was never there before. What is deleted before it was staged leaves nothing behind.
func (l stateLayer) set(kind, key string, value []byte, fresh bool) {
	m := l[kind]
	if m == nil {
		m = map[string]stateEntry{}
		l[kind] = m
	}
	fresh = fresh || m[key].fresh
	if fresh && value == nil {
		delete(m, key)
		return
	}
	m[key] = stateEntry{value, fresh}
}

// EachState calls fn for each entry of the broker's state that is in the database, by kind and key. The value must not be kept.
func (v *View) EachState(fn func(kind, key string, value []byte) error) error {
	return v.scan([]byte("s"), func(key, value []byte) error {
		kind, rest, _ := bytes.Cut(key, []byte{0})
		return fn(string(kind), string(rest), value)
	})
}

// State calls fn for each entry of a kind of the broker's state. Entries come in no particular order; value must not be kept. While fn
// runs no change of state is applied: it must not wait for one, nor ask for state itself.
func (v *View) State(kind string, fn func(key string, value []byte) error) error {
	v.stateMu.RLock()
	defer v.stateMu.RUnlock()
	newest, staging := v.state[kind], v.staging[kind]
	err := v.scan(stateKey(kind, ""), func(key, value []byte) error {
		if _, newer := newest[string(key)]; newer {
			return nil
		}
		if _, newer := staging[string(key)]; newer {
			return nil
		}
		return fn(string(key), value)
	})
	if err != nil {
		return err
	}
	for key, value := range v.unstaged(kind) {
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

// StateFrom calls fn for up to limit entries of a kind whose keys are not less than from, in the order of their keys' bytes; else it is
// like State. It costs as much as the part of the kind that is in memory, which a stage every few seconds bounds, and limit.
func (v *View) StateFrom(kind, from string, limit int, fn func(key string, value []byte) error) error {
	if limit <= 0 {
		return nil
	}
	v.stateMu.RLock()
	defer v.stateMu.RUnlock()
	newest, staging := v.state[kind], v.staging[kind]
	memory := v.least(kind, from, limit)
	prefix := stateKey(kind, "")
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: stateKey(kind, from), UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); limit > 0; limit-- {
		for it.Valid() && (overlaid(newest, it.Key()[len(prefix):]) || overlaid(staging, it.Key()[len(prefix):])) {
			it.Next()
		}
		switch {
		case len(memory) > 0 && (!it.Valid() || memory[0].Key < string(it.Key()[len(prefix):])):
			err = fn(memory[0].Key, memory[0].Value)
			memory = memory[1:]
		case it.Valid():
			var value []byte
			if value, err = it.ValueAndErr(); err == nil {
				err = fn(string(it.Key()[len(prefix):]), value)
			}
			it.Next()
		default:
			return it.Error()
		}
		if err != nil {
			return err
		}
	}
	return it.Error()
}

// StateAt returns a copy of one entry's value, nil when there is none.
func (v *View) StateAt(kind, key string) ([]byte, error) {
	v.stateMu.RLock()
	defer v.stateMu.RUnlock()
	for _, layer := range [...]stateLayer{v.state, v.staging} {
		if e, ok := layer[kind][key]; ok {
			return bytes.Clone(e.value), nil
		}
	}
	value, closer, err := v.db.Get(stateKey(kind, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, value...), closer.Close()
}

func overlaid(layer map[string]stateEntry, key []byte) bool {
	_, ok := layer[string(key)]
	return ok
}

// unstaged goes through the entries of a kind that are only in memory. The caller holds stateMu.
func (v *View) unstaged(kind string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		newest := v.state[kind]
		for key, e := range v.staging[kind] {
			if _, newer := newest[key]; e.value != nil && !newer && !yield(key, e.value) {
				return
			}
		}
		for key, e := range newest {
			if e.value != nil && !yield(key, e.value) {
				return
			}
		}
	}
}

// least returns the up to n entries with the least keys from a key on that are only in memory, in order. The caller holds stateMu.
func (v *View) least(kind, from string, n int) (entries []Mutation) {
	order := func() { slices.SortFunc(entries, func(a, b Mutation) int { return strings.Compare(a.Key, b.Key) }) }
	below := "" // where n are known: none at or above it is one of the least
	for key, value := range v.unstaged(kind) {
		if key < from || below != "" && key >= below {
			continue
		}
		if entries = append(entries, Mutation{key, value}); len(entries) == 2*n {
			order()
			entries, below = entries[:n], entries[n].Key
		}
	}
	order()
	return entries[:min(n, len(entries))]
}

// encode adds the layer to what is staged.
func (l stateLayer) encode(b *pebble.Batch) (err error) {
	for kind, entries := range l {
		for key, e := range entries {
			if e.value == nil {
				err = b.Delete(stateKey(kind, key), nil)
			} else {
				err = b.Set(stateKey(kind, key), e.value, nil)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// stateKey is an entry's key in the database.
func stateKey(kind, key string) []byte {
	return append(append(append([]byte("s"), kind...), 0), key...)
}
