package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/view"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// everything lists all that the view says: queues with their entries, state, and where keys are.
func everything(t tester, s *Store, kinds []string, topics, keys []string) map[string]string {
	t.Helper()
	all := map[string]string{}
	s.view.Each(func(q *Queue) {
		first, end := q.Bounds()
		if message.IsStateTopic(q.Topic) || end == 0 {
			return
		}
		var entries []view.Entry
		for at := first; at < end; at = first + int64(len(entries)) {
			var err error
			if entries, err = q.Entries(entries, at, 1000); err != nil {
				t.Fatal(err)
			}
		}
		all[fmt.Sprint("queue ", q.Topic, "/", q.ID)] = fmt.Sprint(first, end, entries)
	})
	for _, kind := range kinds {
		err := s.State(kind, func(key string, value []byte) error {
			all["state "+kind+" "+key] = string(value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, topic := range topics {
		for _, key := range keys {
			var found []string
			err := s.FindKey(topic, key, 0, 1<<60, func(r *message.Record, _ []byte) bool {
				if key == string(message.Property(r.Properties, message.PropKeys)) {
					found = append(found, fmt.Sprint(r.PhysicalOffset))
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(found) > 0 {
				all["key "+topic+" "+key] = strings.Join(found, " ")
			}
		}
	}
	return all
}

func update(t tester, s *Store, kind string, changes ...Mutation) {
	t.Helper()
	done := make(chan error, 1)
	if err := s.UpdateState(kind, changes, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func mustClose(t tester, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADeletedOrBrokenViewIsRebuiltEqual(t *testing.T) {
	for _, broken := range []string{"deleted", "without manifest", "corrupt manifest"} {
		t.Run(broken, func(t *testing.T) {
			fs := vfs.NewMem()
			s, _ := mustOpen(t, memConfig(fs))
			for i := range 120 {
				topic := fmt.Sprint("T", i%3)
				put(t, s, entryFor(s.Queue(topic, int32(i%2)), fmt.Appendf(nil, "m%d%s", i, strings.Repeat("-", 900)), fmt.Sprint("k", i%7)))
				switch {
				case i == 50 || i == 90: // a new topic of that name begins at 0, before the base and after it
					update(t, s, KindQueues, Mutation{Key: map[int]string{50: "T1", 90: "T2"}[i]})
				case i == 70:
					if err := errors.Join(s.Stage(), s.WriteBase()); err != nil {
						t.Fatal(err)
					}
				case i%5 == 0:
					update(t, s, "test", Mutation{Key: fmt.Sprint(i % 4), Value: fmt.Append(nil, i)}, Mutation{Key: fmt.Sprint((i + 1) % 4)})
				}
			}
			names := []string{"T0", "T1", "T2"}
			keys := []string{"k0", "k1", "k2", "k3", "k4", "k5", "k6"}
			want := everything(t, s, []string{"test"}, names, keys)
			if len(want) < 6+2+3 {
				t.Fatalf("only %v", slices.Collect(maps.Keys(want)))
			}
			mustClose(t, s)
			breakView(t, fs, broken)
			s, rec := mustOpen(t, memConfig(fs))
			if rec.Rebuilt != (broken != "deleted") {
				t.Fatal("not rebuilt")
			}
			if diff := cmp.Diff(want, everything(t, s, []string{"test"}, names, keys)); diff != "" {
				t.Fatal(diff)
			}
			mustClose(t, s)
			s, rec = mustOpen(t, memConfig(fs))
			defer mustClose(t, s)
			if rec.Rebuilt || rec.Replayed > 0 {
				t.Fatalf("after a clean stop: %+v", rec)
			}
			if diff := cmp.Diff(want, everything(t, s, []string{"test"}, names, keys)); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func breakView(t *testing.T, fs vfs.FS, how string) {
	t.Helper()
	if how == "deleted" {
		if err := fs.RemoveAll("store/view"); err != nil {
			t.Fatal(err)
		}
		return
	}
	names, err := fs.List("store/view")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := "store/view/" + name
		switch {
		case !strings.HasPrefix(name, "MANIFEST"):
		case how == "without manifest":
			err = fs.Remove(path)
		default:
			var f vfs.File
			if f, err = fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified); err == nil {
				_, err = f.WriteAt(bytes.Repeat([]byte{0x55}, 64), 10)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// flip changes one bit of the log.
func flip(t *testing.T, fs vfs.FS, position int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(fmt.Sprintf("store/commitlog/%020d", position/(64<<10)*(64<<10)), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	at := position % (64 << 10)
	if _, err = f.ReadAt(b[:], at); err == nil {
		b[0] ^= 4
		_, err = f.WriteAt(b[:], at)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestAFlippedBitIsAGapAndNothingBehindItIsLost(t *testing.T) {
	const n, bad = 60, 20
	for name, in := range map[string]int64{"size": 2, "magic": 5, "position": 33, "body": 150, "last byte": -1} {
		for _, last := range []bool{false, true} { // the newest record, which was synced: it is no torn tail
			t.Run(fmt.Sprint(name, "/last=", last), func(t *testing.T) {
				fs := vfs.NewMem()
				s, _ := mustOpen(t, memConfig(fs))
				var hit Entry
				for i := range n {
					b := put(t, s, entryFor(s.Queue("T", 0), fmt.Appendf(nil, "m%d-%s", i, strings.Repeat("-", 3000)), "k"))
					if i == bad && !last || i == n-1 && last {
						hit = b.Entries[0]
					}
				}
				mustClose(t, s)
				at := hit.Record.PhysicalOffset + in
				if in < 0 {
					at += int64(hit.Size)
				}
				flip(t, fs, at)
				if err := fs.RemoveAll("store/view"); err != nil { // so that all is read again
					t.Fatal(err)
				}
				for range 2 { // the second start finds it, too
					s, rec := mustOpen(t, memConfig(fs))
					gap := []int64{hit.Record.PhysicalOffset, hit.Record.PhysicalOffset + int64(hit.Size)}
					if len(rec.Gaps) != 1 || rec.Gaps[0].From != gap[0] || rec.Gaps[0].To != gap[1] || rec.Cut != 0 {
						t.Fatalf("%+v, want the gap %v", rec, gap)
					}
					if err := s.Append(&Batch{Entries: []Entry{entryFor(s.Queue("T", 0), []byte("x"), "k")}}); !errors.Is(err, ErrDamaged) {
						t.Fatalf("append: %v", err)
					}
					checkAround(t, s, n, hit.Record.QueueOffset)
					mustClose(t, s)
				}
				c := memConfig(fs)
				c.AcceptDamage = true
				s, _ = mustOpen(t, c)
				put(t, s, entryFor(s.Queue("T", 1), []byte("on"), "k"))
				mustClose(t, s)
				s, _ = mustOpen(t, memConfig(fs))
				defer mustClose(t, s)
				checkAround(t, s, n, hit.Record.QueueOffset)
				if got := readAll(t, s, s.Queue("T", 1)); len(got) != 1 {
					t.Fatalf("after the damage: %q", got)
				}
			})
		}
	}
}

func TestTheViewIsABoundOfWhatWasFlushed(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := mustOpen(t, memConfig(fs))
	put(t, s, entryFor(s.Queue("T", 0), []byte("first"), "k"))
	b := put(t, s, entryFor(s.Queue("T", 0), []byte("last"), "k"))
	mustClose(t, s)
	at := b.Entries[0].Record.PhysicalOffset
	flip(t, fs, at+100)
	if err := fs.Remove("store/state/checkpoint"); err != nil {
		t.Fatal(err)
	}
	s, rec := mustOpen(t, memConfig(fs))
	defer mustClose(t, s)
	if len(rec.Gaps) != 1 || rec.Gaps[0].From != at || rec.Gaps[0].To != b.End() || rec.Cut != 0 || !rec.Rebuilt {
		t.Fatalf("%+v", rec)
	}
}

func TestManyMessagesOfOneKeyAreFound(t *testing.T) {
	s, _ := mustOpen(t, memConfig(vfs.NewMem()))
	defer mustClose(t, s)
	var entries []Entry
	for i := range 3000 { // several blocks of one run begin with the same key
		entries = append(entries, entryFor(s.Queue("T", 0), []byte("x"), []string{"a", "b", "a"}[i%3]))
	}
	for len(entries) > 0 {
		put(t, s, entries[:300]...)
		entries = entries[300:]
	}
	for range 2 {
		found := map[string]string{}
		for k, v := range everything(t, s, nil, []string{"T"}, []string{"a", "b", "c"}) {
			found[k] = v
		}
		if a, b := len(strings.Fields(found["key T a"])), len(strings.Fields(found["key T b"])); a != 2000 || b != 1000 {
			t.Fatalf("found %d and %d", a, b)
		}
		if err := s.Stage(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkAround reads all messages but the damaged one, which is never served.
func checkAround(t *testing.T, s *Store, n int, bad int64) {
	t.Helper()
	q := s.Queue("T", 0)
	_, end := q.Bounds()
	var r Result
	for i := range int64(n) {
		if err := s.Read(&r, q, i, ReadLimits{Messages: 1, Bytes: 1, Scanned: 1}, Match{}); err != nil {
			t.Fatal(err)
		}
		raw := string(bytes.Join(r.Slices, nil))
		r.Release()
		if i == bad {
			if len(raw) > 0 {
				t.Fatalf("the damaged message is served: %.200q", raw)
			}
		} else if want := fmt.Sprintf("m%d-", i); !strings.Contains(raw, want) {
			t.Fatalf("offset %d of %d: %.100q", i, end, raw)
		}
	}
}

func TestASecondStoreOnTheSameDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	c := Config{Dir: dir, SegmentBytes: 1 << 20}
	s, _ := mustOpen(t, c)
	if _, _, err := Open(c); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("second open: %v", err)
	}
	put(t, s, entryFor(s.Queue("T", 0), []byte("still works"), "k"))
	mustClose(t, s)
	s, _ = mustOpen(t, c)
	mustClose(t, s)
}

func TestNewerVersionsAreRefusedAsVersions(t *testing.T) {
	prepare := func(t *testing.T) vfs.FS {
		fs := vfs.NewMem()
		s, _ := mustOpen(t, memConfig(fs))
		put(t, s, entryFor(s.Queue("T", 0), []byte("x"), "k"))
		if err := errors.Join(s.Stage(), s.WriteBase()); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		return fs
	}
	refused := func(t *testing.T, fs vfs.FS) {
		t.Helper()
		if _, _, err := Open(memConfig(fs)); !errors.Is(err, ErrVersion) {
			t.Fatalf("open: %v", err)
		}
		if _, err := fs.Stat("store/view"); err != nil {
			t.Fatal("the view was thrown away")
		}
	}
	t.Run("view", func(t *testing.T) {
		fs := prepare(t)
		db, err := pebble.Open("store/view", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest})
		if err == nil {
			err = errors.Join(db.Set([]byte("a"), append([]byte{9}, make([]byte, 40)...), pebble.Sync), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		refused(t, fs)
	})
	t.Run("base", func(t *testing.T) {
		fs := prepare(t)
		names, err := fs.List("store/state")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, baseSuffix) {
				f, err := fs.OpenReadWrite("store/state/"+name, vfs.WriteCategoryUnspecified)
				if err == nil {
					_, err = f.WriteAt([]byte{baseFormat + 1}, int64(len(baseMagic)))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		breakView(t, fs, "without manifest")
		refused(t, fs)
	})
	t.Run("state record", func(t *testing.T) {
		fs := vfs.NewMem()
		s, _ := mustOpen(t, memConfig(fs))
		q := s.Queue(message.StatePrefix+"test", 0)
		body := []byte{stateFormat + 1, 0, 0}
		put(t, s, Entry{
			Sequence: &q.Sequence, Target: &stateTarget{queue: q}, BodyCRC: crc32.ChecksumIEEE(body),
			Record: message.Record{Topic: []byte(q.Topic), Body: body},
		})
		mustClose(t, s)
		if err := fs.RemoveAll("store/view"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(memConfig(fs)); !errors.Is(err, ErrVersion) {
			t.Fatalf("open: %v", err)
		}
	})
}

func TestADroppedQueueTakesNoMoreAndItsNameBeginsAnew(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := mustOpen(t, memConfig(fs))
	old := s.Queue("T", 0)
	for range 5 {
		put(t, s, entryFor(old, []byte("old"), "k"))
	}
	if err := s.Stage(); err != nil {
		t.Fatal(err)
	}
	put(t, s, entryFor(old, []byte("old"), "k"))
	f := s.view.Freeze() // a stage is under way while the queue goes
	if err := s.UpdateState(KindQueues, []Mutation{{Key: "T"}}, func(error) {}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(&Batch{Entries: []Entry{entryFor(old, []byte("late"), "k")}}); !errors.Is(err, ErrEnded) {
		t.Fatalf("append to a dropped queue: %v", err)
	}
	if q := s.Queue("T", 0); q == old { // whether the drop is confirmed yet or not
		t.Fatal("the old queue is still found")
	}
	if b := put(t, s, entryFor(s.Queue("T", 0), []byte("new"), "k")); b.Entries[0].Record.QueueOffset != 0 {
		t.Fatalf("offset %d", b.Entries[0].Record.QueueOffset)
	}
	if err := errors.Join(s.view.Stage(f), s.view.Flush(), s.Stage()); err != nil {
		t.Fatal(err)
	}
	for range 9 { // over what the old one had in the database
		put(t, s, entryFor(s.Queue("T", 0), []byte("new"), "k"))
	}
	for range 2 {
		at, err := s.entry(s.Queue("T", 0), 5) // where the old one's second block began
		if r, _, rerr := s.RecordAt(at.Position); errors.Join(err, rerr) != nil || string(r.Body) != "new" {
			t.Fatalf("offset 5 is %q, %v", r.Body, errors.Join(err, rerr))
		}
		if got := readAll(t, s, s.Queue("T", 0)); strings.Join(got, "") != strings.Repeat("new", 10) {
			t.Fatalf("messages %q", got)
		}
		mustClose(t, s)
		s, _ = mustOpen(t, memConfig(fs))
	}
	mustClose(t, s)
}

func TestNoSpaceForASegmentRefusesAndResumes(t *testing.T) {
	disk := newTestDisk()
	var full atomic.Bool
	disk.onChange(func(op string) error {
		if op == "create" && full.Load() {
			return syscall.ENOSPC
		}
		return nil
	})
	c := memConfig(disk)
	c.Files = disk.files()
	s, _ := mustOpen(t, c)
	body := bytes.Repeat([]byte("b"), 10000)
	put(t, s, entryFor(s.Queue("T", 0), body, "k"))
	full.Store(true)
	var err error
	accepted := 1
	for i := 0; err == nil && i < 100; i++ {
		done := make(chan error, 1)
		if err = s.Append(&Batch{Entries: []Entry{entryFor(s.Queue("T", 0), body, "k")}, Done: func(_ *Batch, err error) { done <- err }}); err == nil {
			accepted++
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d: %v", accepted, err)
	}
	if got := readAll(t, s, s.Queue("T", 0)); len(got) != accepted {
		t.Fatalf("%d of %d are read", len(got), accepted)
	}
	mustClose(t, s)
	s, _ = mustOpen(t, c) // with the disk still full
	full.Store(false)
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		done := make(chan error, 1)
		err := s.Append(&Batch{Entries: []Entry{entryFor(s.Queue("T", 0), body, "k")}, Done: func(_ *Batch, err error) { done <- err }})
		if err == nil {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			break
		}
		if !errors.Is(err, ErrNoSpace) || time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}
	if got := readAll(t, s, s.Queue("T", 0)); len(got) != accepted+1 {
		t.Fatalf("%d of %d are read", len(got), accepted+1)
	}
	mustClose(t, s)
}

func TestAFailedSyncStopsTheStoreAndCloseReturns(t *testing.T) {
	for _, op := range []string{"write", "datasync"} {
		for _, async := range []bool{false, true} {
			disk := newTestDisk()
			var fail atomic.Bool
			disk.onChange(func(o string) error {
				if o == op && fail.Load() {
					return io.ErrUnexpectedEOF
				}
				return nil
			})
			c := memConfig(disk)
			c.Files, c.AsyncFlush, c.FlushInterval = disk.files(), async, time.Millisecond
			s, _ := mustOpen(t, c)
			put(t, s, entryFor(s.Queue("T", 0), []byte("x"), "k"))
			fail.Store(true)
			var appended, done atomic.Int64
			deadline := time.Now().Add(10 * time.Second)
			for {
				err := s.AppendNow(&Batch{
					Entries: []Entry{entryFor(s.Queue("T", 0), []byte("x"), "k")},
					Done:    func(*Batch, error) { done.Add(1) },
				})
				if errors.Is(err, ErrStopped) {
					break
				}
				if err != nil || time.Now().After(deadline) {
					t.Fatal(err)
				}
				appended.Add(1)
			}
			closed := make(chan struct{})
			go func() { _ = s.Close(); close(closed) }()
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s, async=%v: Close hangs", op, async)
			}
			if done.Load() != appended.Load() {
				t.Fatalf("%d appended, %d told", appended.Load(), done.Load())
			}
		}
	}
}

func TestMarks(t *testing.T) {
	fs := vfs.NewMem()
	if err := writeMark(fs, "mark", 77, true); err != nil {
		t.Fatal(err)
	}
	whole := readFileT(t, fs, "mark")
	seal := func(b []byte) []byte {
		return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	}
	unversioned := binary.BigEndian.AppendUint64(nil, 77)
	for name, c := range map[string]struct {
		content []byte
		at      int64
		found   bool
		err     error
	}{
		"whole":       {whole, 77, true, nil},
		"unversioned": {seal(unversioned), 77, true, nil},
		"newer":       {seal(append([]byte{markFormat + 1}, unversioned...)), 0, false, ErrVersion},
		"torn":        {whole[:9], 0, false, nil},
		"empty":       {nil, 0, false, nil},
		"flipped":     {append([]byte{whole[0] ^ 1}, whole[1:]...), 0, false, nil},
	} {
		writeFiles(t, fs, map[string][]byte{"dir/mark": c.content})
		if at, found, err := readMark(fs, "dir/mark"); at != c.at || found != c.found || !errors.Is(err, c.err) {
			t.Errorf("%s: %d %v %v", name, at, found, err)
		}
	}
}
