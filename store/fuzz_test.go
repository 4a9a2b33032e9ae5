package store

import (
	"bytes"
	"testing"
)

// FuzzStateRecord: what is read is what is written again, and costs no more than its bytes can hold.
func FuzzStateRecord(f *testing.F) {
	f.Add(encodeState([]Mutation{{Key: "k", Value: []byte("v")}, {Key: "gone"}, {Key: "", Value: []byte{}}}))
	f.Add([]byte{stateFormat, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{stateFormat, 0, 1, statePut, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		changes, err := decodeState(b)
		if len(changes) > len(b) {
			t.Fatalf("%d changes in %d bytes", len(changes), len(b))
		}
		if err != nil {
			return
		}
		again, err := decodeState(encodeState(changes))
		if err != nil || len(again) != len(changes) {
			t.Fatalf("read %d changes, then %d: %v", len(changes), len(again), err)
		}
		for i := range changes {
			if changes[i].Key != again[i].Key || !bytes.Equal(changes[i].Value, again[i].Value) {
				t.Fatalf("change %d: %v, then %v", i, changes[i], again[i])
			}
		}
	})
}
