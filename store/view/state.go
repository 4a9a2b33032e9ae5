package view

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// stateLayer is what of the broker's state is not in the database, by kind.
type stateLayer map[string]*stateKind

// stateKind is one kind's part. Who asks for entries in order pays for it: set only notes keys as they come.
type stateKind struct {
	entries map[string]stateEntry
	added   []string // keys, those that are gone again among them

	order sync.Mutex // guards what follows: readers run beside one another
	runs  [][]string // the first of added in runs that are in order, each more than twice as long as the next; never changed in place
	taken int        // how many of added
}

type stateEntry struct {
	value []byte // nil: a deletion
	fresh bool   // the key is not in the database, nor on its way there
}

// unsortedMax bounds the keys that every reader looks through.
const unsortedMax = 256

// set changes an entry. fresh: the key was never there before. What is deleted before it was staged leaves nothing behind.
func (l stateLayer) set(kind, key string, value []byte, fresh bool) {
	k := l[kind]
	if k == nil {
		k = &stateKind{entries: map[string]stateEntry{}}
		l[kind] = k
	}
	was, there := k.entries[key]
	fresh = fresh || was.fresh
	if fresh && value == nil {
		delete(k.entries, key)
		return
	}
	if !there {
		k.added = append(k.added, key)
	}
	k.entries[key] = stateEntry{value, fresh}
}

// has tells whether the layer knows an entry, or that it is deleted.
func (k *stateKind) has(key []byte) bool {
	if k == nil {
		return false
	}
	_, ok := k.entries[string(key)]
	return ok
}

// keys returns the keys in runs that are in order, and the last ones as they came; some are there twice, or gone. What has come since the
// last call makes a run: each key is put in order with others a few times, however many there are.
func (k *stateKind) keys() (runs [][]string, unsorted []string) {
	k.order.Lock()
	defer k.order.Unlock()
	if more := k.added[k.taken:]; len(more) > unsortedMax {
		last, runs := slices.Sorted(slices.Values(more)), k.runs
		for n := len(runs); n > 0 && len(runs[n-1]) <= 2*len(last); n = len(runs) {
			last, runs = k.merge(runs[n-1], last), runs[:n-1]
		}
		k.runs, k.taken = append(slices.Clip(runs), last), len(k.added)
	}
	return k.runs, k.added[k.taken:]
}

// merge makes one run of two, without the keys that are gone.
func (k *stateKind) merge(a, b []string) []string {
	all := make([]string, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		least := &a
		if len(a) == 0 || len(b) > 0 && b[0] < a[0] {
			least = &b
		}
		key := (*least)[0]
		if _, ok := k.entries[key]; ok && (len(all) == 0 || all[len(all)-1] != key) {
			all = append(all, key)
		}
		*least = (*least)[1:]
	}
	return all
}

// from appends the up to n entries with the least keys from a key on that are not overlaid by a newer part, in order.
func (k *stateKind) from(from string, n int, newer *stateKind) (entries []Mutation) {
	if k == nil {
		return nil
	}
	runs, unsorted := k.keys()
	take := func(key string) {
		if e := k.entries[key]; e.value != nil && !(newer != nil && newer.has([]byte(key))) {
			entries = append(entries, Mutation{key, e.value})
		}
	}
	rest := make([][]string, 0, len(runs)) // of each run what has not been taken
	for _, run := range runs {
		if at, _ := slices.BinarySearch(run, from); at < len(run) {
			rest = append(rest, run[at:])
		}
	}
	for len(rest) > 0 && len(entries) < n {
		key := rest[0][0]
		for _, run := range rest[1:] {
			key = min(key, run[0])
		}
		take(key)
		for i, run := range rest {
			for len(run) > 0 && run[0] == key {
				run = run[1:]
			}
			rest[i] = run
		}
		rest = slices.DeleteFunc(rest, func(run []string) bool { return len(run) == 0 })
	}
	if len(unsorted) == 0 {
		return entries
	}
	below := ""
	if len(entries) == n {
		below = entries[n-1].Key
	}
	for _, key := range unsorted {
		if key >= from && (below == "" || key < below) {
			take(key)
		}
	}
	return leastOf(entries, n)
}

// leastOf sorts entries and returns the first n keys.
func leastOf(entries []Mutation, n int) []Mutation {
	slices.SortFunc(entries, func(a, b Mutation) int { return strings.Compare(a.Key, b.Key) })
	entries = slices.CompactFunc(entries, func(a, b Mutation) bool { return a.Key == b.Key })
	return entries[:min(n, len(entries))]
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
		if newest.has(key) || staging.has(key) {
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
// like State. The first call after many changes puts their keys in order.
func (v *View) StateFrom(kind, from string, limit int, fn func(key string, value []byte) error) error {
	if limit <= 0 {
		return nil
	}
	v.stateMu.RLock()
	defer v.stateMu.RUnlock()
	newest, staging := v.state[kind], v.staging[kind]
	memory := newest.from(from, limit, nil)
	if older := staging.from(from, limit, newest); len(older) > 0 {
		memory = leastOf(append(memory, older...), limit)
	}
	prefix := stateKey(kind, "")
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: stateKey(kind, from), UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); limit > 0; limit-- {
		for it.Valid() && (newest.has(it.Key()[len(prefix):]) || staging.has(it.Key()[len(prefix):])) {
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
		if k := layer[kind]; k != nil {
			if e, ok := k.entries[key]; ok {
				return bytes.Clone(e.value), nil
			}
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

// unstaged goes through the entries of a kind that are only in memory. The caller holds stateMu.
func (v *View) unstaged(kind string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		newest := v.state[kind]
		if k := v.staging[kind]; k != nil {
			for key, e := range k.entries {
				if e.value != nil && !newest.has([]byte(key)) && !yield(key, e.value) {
					return
				}
			}
		}
		if newest == nil {
			return
		}
		for key, e := range newest.entries {
			if e.value != nil && !yield(key, e.value) {
				return
			}
		}
	}
}

// encode adds the layer to what is staged.
func (l stateLayer) encode(b *pebble.Batch) (err error) {
	for kind, k := range l {
		for key, e := range k.entries {
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
