package store

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// memConfig is a store in memory with segments of 64 KiB.
func memConfig(fs vfs.FS) Config {
	return Config{FS: fs, Files: commitlog.NewVFSFiles(fs), Dir: "store", SegmentBytes: 64 << 10, MemoryBytesMax: 512 << 10, UnsyncedBytesMax: 128 << 10,
		Logger: slog.New(slog.DiscardHandler)}
}

// tester is what a test and rapid's runs of one have in common.
type tester interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func mustOpen(t tester, c Config) (*Store, Recovery) {
	t.Helper()
	s, rec, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, rec
}

var (
	host   = netip.MustParseAddrPort("127.0.0.1:10911")
	v6Host = netip.MustParseAddrPort("[fd00::1]:10911")
)

func entryFor(q *Queue, body []byte, key string) Entry {
	e := Entry{Target: q, Sequence: &q.Sequence, BodyCRC: crc32.ChecksumIEEE(body)}
	e.Record = message.Record{
		Topic: []byte(q.Topic), QueueID: q.ID, Body: body, BornHost: host, StoreHost: host,
		Properties: message.AppendProperty(nil, message.PropKeys, []byte(key)),
	}
	e.Keys, _ = keysOf(nil, e.Record.Topic, e.Record.Properties)
	return e
}

// put appends one batch and waits for its confirmation.
func put(t tester, s *Store, entries ...Entry) *Batch {
	t.Helper()
	done := make(chan error, 1)
	b := &Batch{Entries: entries, Done: func(_ *Batch, err error) { done <- err }}
	if err := s.Append(b); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return b
}

func readAll(t tester, s *Store, q *Queue) (bodies []string) {
	t.Helper()
	var r Result
	first, end := q.Bounds()
	for at := first; at < end; at = r.Next {
		if err := s.Read(&r, q, at, ReadLimits{Messages: 32, Bytes: 256 << 10, Scanned: 800}, Match{}); err != nil {
			t.Fatal(err)
		}
		if r.Status != Found {
			t.Fatalf("read at %d of [%d,%d): status %d", at, first, end, r.Status)
		}
		raw := bytes.Join(r.Slices, nil)
		r.Release()
		for len(raw) > 0 {
			m, n, err := message.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Verify(raw[:n]); err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, string(m.Body))
			raw = raw[n:]
		}
	}
	return bodies
}

func want(t *testing.T, got []string, n int, format string) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("got %d messages, want %d", len(got), n)
	}
	for i := range got {
		if w := fmt.Sprintf(format, i); !bytes.HasPrefix([]byte(got[i]), []byte(w)) {
			t.Fatalf("message %d is %.30q, want %q", i, got[i], w)
		}
	}
}

func TestMessagesAreFoundAgainAfterReopening(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := mustOpen(t, memConfig(fs))
	q := s.Queue("T", 3)
	pad := bytes.Repeat([]byte("x"), 3000)
	for i := range 200 { // crosses segments
		put(t, s, entryFor(q, append(fmt.Appendf(nil, "m%d-", i), pad...), fmt.Sprint("k", i)))
	}
	want(t, readAll(t, s, q), 200, "m%d-")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, rec := mustOpen(t, memConfig(fs))
	if rec.Replayed != 0 || rec.Rebuilt {
		t.Fatalf("after a clean stop nothing is replayed: %+v", rec)
	}
	want(t, readAll(t, s, s.Queue("T", 3)), 200, "m%d-")
	found := 0
	err := s.FindKey("T", "k77", 0, 1<<60, func(r *message.Record, _ []byte) bool {
		found++
		return bytes.HasPrefix(r.Body, []byte("m77-"))
	})
	if err != nil || found != 1 {
		t.Fatalf("key k77: %d messages, %v", found, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestViewIsRebuiltEqualWhenDeleted(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := mustOpen(t, memConfig(fs))
	q := s.Queue("T", 0)
	for i := range 50 {
		put(t, s, entryFor(q, fmt.Appendf(nil, "m%d-", i), "k"))
		if err := s.UpdateState("offsets", []Mutation{{Key: "g", Value: []byte{byte(i)}}}, func(error) {}); err != nil {
			t.Fatal(err)
		}
		if i == 25 {
			if err := s.Stage(); err != nil {
				t.Fatal(err)
			}
			if err := s.WriteBase(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fs.RemoveAll("store/view"); err != nil {
		t.Fatal(err)
	}
	s, rec := mustOpen(t, memConfig(fs))
	defer s.Close()
	if rec.Replayed != 100 {
		t.Fatalf("replayed %d records", rec.Replayed)
	}
	want(t, readAll(t, s, s.Queue("T", 0)), 50, "m%d-")
	got := map[string]byte{}
	if err := s.State("offsets", func(k string, v []byte) error { got[k] = v[0]; return nil }); err != nil {
		t.Fatal(err)
	}
	if got["g"] != 49 || len(got) != 1 {
		t.Fatalf("state %v", got)
	}
}

func TestAcknowledgedMessagesSurviveACrash(t *testing.T) {
	for round := range 20 {
		mem := crashfs.New()
		s, _ := mustOpen(t, memConfig(mem))
		var acked atomic.Int64
		var wait sync.WaitGroup
		for w := range 4 {
			q := s.Queue("T", int32(w))
			wait.Go(func() {
				for i := range 60 {
					put(t, s, entryFor(q, append(fmt.Appendf(nil, "m%d-", i), bytes.Repeat([]byte("y"), 500)...), "k"))
					acked.Add(1)
				}
			})
		}
		var clone crashfs.FS
		var sure [4]int64
		for acked.Load() < int64(10+round*10) {
			time.Sleep(50 * time.Microsecond)
		}
		for w := range sure {
			_, sure[w] = s.Queue("T", int32(w)).Bounds()
		}
		clone = mem.CrashClone(vfs.CrashCloneCfg{})
		wait.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, rec := mustOpen(t, memConfig(clone))
		if len(rec.Gaps) > 0 {
			t.Fatalf("gaps %v", rec.Gaps)
		}
		for w := range sure {
			got := readAll(t, s, s.Queue("T", int32(w)))
			if int64(len(got)) < sure[w] {
				t.Fatalf("round %d: queue %d has %d messages, %d were acknowledged", round, w, len(got), sure[w])
			}
			want(t, got, len(got), "m%d-")
		}
		put(t, s, entryFor(s.Queue("T", 0), []byte("on"), "k"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkAppend appends messages with so many keys, all different, from 8 goroutines.
func BenchmarkRead(b *testing.B) {
	const size, perRead = 1024, 32
	for _, kind := range []string{"memory", "cache", "disk"} {
		b.Run(kind, func(b *testing.B) {
			c := Config{Dir: b.TempDir(), SegmentBytes: 64 << 20}
			total := 20 << 20 / size
			if kind == "disk" { // more than the cache holds
				c.MemoryBytesMax, total = 8<<20, 60<<20/size
			}
			s, _ := mustOpen(b, c)
			body := bytes.Repeat([]byte("b"), size)
			entries := make([]Entry, 128)
			for range total / len(entries) {
				for i := range entries {
					entries[i] = entryFor(s.Queue("T", 0), body, "key")
				}
				put(b, s, entries...)
			}
			if kind != "memory" { // of the index, too
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				s, _ = mustOpen(b, c)
			}
			defer s.Close()
			q := s.Queue("T", 0)
			_, end := q.Bounds()
			b.SetBytes(size * perRead)
			b.ReportAllocs()
			var r Result
			at := int64(0)
			for b.Loop() {
				if at+perRead > end {
					at = 0
				}
				if err := s.Read(&r, q, at, ReadLimits{Messages: perRead, Bytes: 1 << 20, Scanned: 800}, Match{}); err != nil || r.Messages != perRead {
					b.Fatal(err, r.Messages)
				}
				at = r.Next
				r.Release()
			}
		})
	}
}
