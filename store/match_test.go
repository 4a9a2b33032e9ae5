package store

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Records of every length up to two blocks of memory, so that heads and properties lie across the edges of blocks, on other addresses too.
func TestPropertiesDecideWhatIsRead(t *testing.T) {
	c := memConfig(vfs.NewMem())
	c.MemoryBytesMax = 8 << 20
	s, _ := mustOpen(t, c)
	defer s.Close()
	q := s.Queue("T", 0)
	var entries []Entry
	for i := range 60 {
		e := entryFor(q, bytes.Repeat([]byte("x"), i*977%40_000), fmt.Sprint("k", i))
		if i%3 == 0 {
			e.Record.BornHost = v6Host
		}
		if i%5 == 0 {
			e.Record.StoreHost = v6Host
		}
		entries = append(entries, e)
	}
	for i := range entries {
		put(t, s, entries[i])
	}
	seen := 0
	match := Match{Properties: func(p []byte) bool {
		if got := string(message.Property(p, message.PropKeys)); got != fmt.Sprint("k", seen) {
			t.Errorf("properties of message %d: %q", seen, p)
		}
		seen++
		return seen%7 == 0
	}}
	var r Result
	limits := ReadLimits{Messages: 32, Bytes: 1 << 20, Scanned: 800, Probed: 8 << 20}
	if err := s.Read(&r, q, 0, limits, match); err != nil || r.Status != Found || r.Messages != 60/7 || r.Next != 60 {
		t.Fatalf("%v, status %d, %d messages, next %d", err, r.Status, r.Messages, r.Next)
	}
	raw := bytes.Join(r.Slices, nil)
	r.Release()
	for i := 6; len(raw) > 0; i += 7 {
		m, n, err := message.Decode(raw)
		if err != nil || m.QueueOffset != int64(i) {
			t.Fatalf("message at %d, %v; want %d", m.QueueOffset, err, i)
		}
		raw = raw[n:]
	}
	seen = 0
	limits.Probed = 1
	if err := s.Read(&r, q, 0, limits, match); err != nil || r.Status != NoMatch || r.Next != 1 || seen != 1 {
		t.Errorf("%v, status %d, next %d after %d messages; want one", err, r.Status, r.Next, seen)
	}
	limits.Probed = 8 << 20
	if n := testing.AllocsPerRun(10, func() {
		if err := s.Read(&r, q, 0, limits, Match{Properties: func([]byte) bool { return false }}); err != nil || r.Next != 60 {
			t.Error(err, r.Next)
		}
	}); n > 1 {
		t.Errorf("%g allocations for 60 messages that do not match", n)
	}
}
