package journal

import (
	"slices"
	"strings"
	"sync"

	"github.com/apogeemq/apogee/store"
)

// Journal writes one kind of state.
type Journal struct {
	update func(changes []store.Mutation, done func(error)) error
	spawn  func(func())

	mu      sync.Mutex        // guards what follows; never held while appending
	fresh   map[string][]byte // by the entry's key; nil deletes it
	flying  flight
	waiting []func(error) // answers that wait for the next record
	writing bool
}

// flight is a record on its way.
type flight struct {
	changes map[string][]byte
	number  int
	placed  bool // it has its place in the log: what is appended now comes behind it
}

// changesMax bounds the changes in one record.
const changesMax = 8192

// New returns a journal. Update appends a record, as Store.UpdateState does; spawn runs a function on a goroutine of its own.
func New(update func(changes []store.Mutation, done func(error)) error, spawn func(func())) *Journal {
	return &Journal{update: update, spawn: spawn}
}

// Put notes a change. The caller sees to the order of the changes of one entry.
func (j *Journal) Put(key string, value []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fresh == nil {
		j.fresh = map[string][]byte{}
	}
	j.fresh[key] = value
}

// At returns what an entry is going to be; known is false when the state has it.
func (j *Journal) At(key string) (value []byte, known bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if value, known = j.fresh[key]; !known {
		value, known = j.flying.changes[key]
	}
	return value, known
}

// IsFresh tells whether a change of the entry has no place in the log yet.
func (j *Journal) IsFresh(key string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, fresh := j.fresh[key]
	if !fresh && !j.flying.placed {
		_, fresh = j.flying.changes[key]
	}
	return fresh
}

// Overlay puts the entries with a prefix on top of what the state has.
func (j *Journal) Overlay(prefix string, entries map[string][]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, layer := range []map[string][]byte{j.flying.changes, j.fresh} {
		for key, value := range layer {
			if strings.HasPrefix(key, prefix) {
				entries[key] = value
			}
		}
	}
}

// Confirmed has done told once all that was put is in the log, or never will be.
func (j *Journal) Confirmed(done func(error)) {
	j.mu.Lock()
	j.waiting = append(j.waiting, done)
	j.mu.Unlock()
	j.Record()
}

// Record writes what was put, unless a record is on its way: then the next one follows it.
func (j *Journal) Record() {
	j.mu.Lock()
	if j.writing || len(j.fresh) == 0 && len(j.waiting) == 0 {
		j.mu.Unlock()
		return
	}
	waiting, changes := j.waiting, j.fresh
	number := j.flying.number + 1
	j.flying, j.fresh, j.waiting, j.writing = flight{changes: changes, number: number}, nil, nil, true
	j.mu.Unlock()

	finish := func(err error) {
		j.mu.Lock()
		if j.flying.changes, j.writing = nil, false; err != nil { // the next record has them
			for key, value := range changes {
				if _, newer := j.fresh[key]; !newer {
					if j.fresh == nil {
						j.fresh = map[string][]byte{}
					}
					j.fresh[key] = value
				}
			}
		}
		again := err == nil && len(j.waiting) > 0
		j.mu.Unlock()
		for _, done := range waiting {
			done(err)
		}
		if again {
			j.spawn(j.Record) // not here: the log's goroutine must not wait for the log
		}
	}
	if err := j.write(changes, finish); err != nil {
		finish(err)
		return
	}
	j.mu.Lock()
	if j.flying.number == number { // finish has not been called long ago
		j.flying.placed = true
	}
	j.mu.Unlock()
}

// write appends the changes; finish is told of the last record, and that of those before it.
func (j *Journal) write(changes map[string][]byte, finish func(error)) error {
	list := make([]store.Mutation, 0, len(changes))
	for key, value := range changes {
		list = append(list, store.Mutation{Key: key, Value: value})
	}
	if len(list) == 0 {
		finish(nil)
		return nil
	}
	var failed error // told before the last record is: the log keeps the order
	for part := range slices.Chunk(list, changesMax) {
		done := func(err error) {
			if err != nil {
				failed = err
			}
		}
		if &part[len(part)-1] == &list[len(list)-1] {
			done = func(err error) {
				if err == nil {
					err = failed
				}
				finish(err)
			}
		}
		if err := j.update(part, done); err != nil {
			return err
		}
	}
	return nil
}
