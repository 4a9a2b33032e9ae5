package view

import "testing"

func TestWhatQueuesKeepOfTheDatabaseIsBounded(t *testing.T) {
	v := &View{}
	const size = 1 << 20
	var queues [3 * coldBytesMax / size]*Queue
	for i := range queues {
		queues[i] = &Queue{view: v}
	}
	for _, bytes := range []int{size / 2, size} { // the second one in the place of the first, where that is still there
		for i, q := range queues {
			if b := v.cold.keep(q, int64(i), make([]byte, bytes)); b.first != int64(i) || len(b.data) != bytes {
				t.Fatalf("queue %d has %d bytes from %d", i, len(b.data), b.first)
			}
			if v.cold.bytes > coldBytesMax {
				t.Fatalf("%d bytes are kept", v.cold.bytes)
			}
		}
	}
	kept := 0
	for i, q := range queues {
		if b := q.cold.Load(); b != nil {
			if kept += len(b.data); i < len(queues)-coldBytesMax/size {
				t.Errorf("queue %d of %d still has a block", i, len(queues))
			}
		}
		v.cold.drop(q)
	}
	if kept != coldBytesMax || v.cold.bytes != 0 {
		t.Errorf("%d bytes were kept, %d are counted without any", kept, v.cold.bytes)
	}
}
