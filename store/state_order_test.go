package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Entries in memory, on their way to the database and in it are read as one, in order, whatever changes between two reads.
func TestStateIsReadInOrderHoweverMuchIsInMemory(t *testing.T) {
	s, _ := mustOpen(t, memConfig(vfs.NewMem()))
	defer mustClose(t, s)
	random := rand.New(rand.NewPCG(1, 2))
	want := map[string]string{}
	check := func() {
		t.Helper()
		keys := slices.Sorted(maps.Keys(want))
		from := fmt.Sprintf("%05d", random.IntN(3000))
		at, _ := slices.BinarySearch(keys, from)
		limit := 1 + random.IntN(50)
		var got []string
		if err := s.StateFrom("test", from, limit, func(key string, value []byte) error {
			if want[key] != string(value) {
				t.Errorf("%s is %s, want %s", key, value, want[key])
			}
			got = append(got, key)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if keys = keys[at:min(at+limit, len(keys))]; !slices.Equal(got, keys) {
			t.Fatalf("from %s: %v, want %v", from, got, keys)
		}
	}
	for round := range 60 {
		var changes []Mutation
		for range 1 + random.IntN(300) {
			key := fmt.Sprintf("%05d", random.IntN(3000))
			if random.IntN(3) == 0 {
				changes = append(changes, Mutation{Key: key})
				delete(want, key)
				continue
			}
			want[key] = fmt.Sprint(round)
			changes = append(changes, Mutation{Key: key, Value: []byte(want[key])})
		}
		update(t, s, "test", changes...)
		for range 5 {
			check()
		}
		if round%20 == 19 {
			if err := s.Stage(); err != nil {
				t.Fatal(err)
			}
			check()
		}
	}
}
