package journal

import (
	"errors"
	"maps"
	"testing"

	"github.com/apogeemq/apogee/store"
	"github.com/google/go-cmp/cmp"
)

// records stands in for the log: what was appended waits until it is confirmed.
type records struct {
	appended [][]store.Mutation
	done     []func(error)
	refuse   error
}

func (r *records) update(changes []store.Mutation, done func(error)) error {
	if r.refuse != nil {
		return r.refuse
	}
	r.appended, r.done = append(r.appended, changes), append(r.done, done)
	return nil
}

// confirm ends the oldest record that is not confirmed.
func (r *records) confirm(err error) {
	done := r.done[0]
	r.done = r.done[1:]
	done(err)
}

func (r *records) last() map[string]string {
	m := map[string]string{}
	for _, c := range r.appended[len(r.appended)-1] {
		m[c.Key] = string(c.Value)
	}
	return m
}

func TestWhatGathersMeanwhileIsTheNextRecord(t *testing.T) {
	r := &records{}
	j := New(r.update, func(f func()) { f() })
	var told []string
	tell := func(what string) func(error) {
		return func(err error) { told = append(told, what+map[bool]string{true: "", false: " failed"}[err == nil]) }
	}
	j.Confirmed(tell("nothing"))
	j.Put("a", []byte("1"))
	j.Confirmed(tell("first"))
	j.Put("a", []byte("2"))
	j.Put("b", nil)
	j.Confirmed(tell("second"))
	j.Put("c", []byte("3"))
	if value, known := j.At("a"); string(value) != "2" || !known || !j.IsFresh("a") || j.IsFresh("x") {
		t.Errorf("a is %q", value)
	}
	if len(r.appended) != 1 || r.last()["a"] != "1" {
		t.Errorf("%d records beside each other", len(r.appended))
	}
	r.confirm(nil)
	if diff := cmp.Diff(map[string]string{"a": "2", "b": "", "c": "3"}, r.last()); diff != "" {
		t.Error(diff)
	}
	over := map[string][]byte{"d": {4}}
	j.Overlay("", over)
	if got := len(over); got != 4 || j.IsFresh("a") {
		t.Errorf("%d entries: %v", got, maps.Keys(over))
	}
	r.confirm(errors.New("disk"))
	if diff := cmp.Diff([]string{"nothing", "first", "second failed"}, told); diff != "" {
		t.Error(diff)
	}
	r.refuse = errors.New("full")
	j.Confirmed(tell("third"))
	r.refuse = nil
	j.Put("c", []byte("5"))
	j.Confirmed(tell("fourth"))
	if diff := cmp.Diff(map[string]string{"a": "2", "b": "", "c": "5"}, r.last()); diff != "" {
		t.Error("what failed is not in the next record", diff)
	}
	r.confirm(nil)
	if diff := cmp.Diff([]string{"third failed", "fourth"}, told[3:]); diff != "" {
		t.Error(diff)
	}
}

func TestManyChangesMakeSeveralRecords(t *testing.T) {
	r := &records{}
	j := New(r.update, func(f func()) { f() })
	for i := range 2*changesMax + 1 {
		j.Put(string(rune(i+0x4e00)), []byte("x"))
	}
	var told []error
	j.Confirmed(func(err error) { told = append(told, err) })
	if len(r.appended) != 3 {
		t.Fatalf("%d records", len(r.appended))
	}
	failed := errors.New("disk")
	r.confirm(nil)
	r.confirm(failed)
	r.confirm(nil)
	if len(told) != 1 || !errors.Is(told[0], failed) {
		t.Errorf("told %v", told)
	}
}

// Whoever appends while a change has no place in the log yet would come before it.
func TestAChangeIsFreshUntilItHasItsPlace(t *testing.T) {
	var j *Journal
	during := map[string]bool{}
	r := &records{}
	j = New(func(changes []store.Mutation, done func(error)) error {
		during[changes[0].Key] = j.IsFresh(changes[0].Key)
		return r.update(changes, done)
	}, func(f func()) { f() })
	j.Put("a", []byte("1"))
	j.Record()
	if !during["a"] || j.IsFresh("a") {
		t.Errorf("a is fresh: %v while it is being appended, %v then", during["a"], j.IsFresh("a"))
	}
	j.Put("b", nil)
	r.confirm(nil)
	j.Record()
	if !during["b"] || j.IsFresh("b") {
		t.Errorf("b is fresh: %v while it is being appended, %v then", during["b"], j.IsFresh("b"))
	}
}
