package store

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// all lets everything go.
func all(int64) (int64, error) { return math.MaxInt64, nil }

// fill puts n messages of about 1 KiB, numbered from from on, into queue 0 of T; their keys are k<number>.
func fill(t testing.TB, s *Store, from, n int) {
	t.Helper()
	pad := strings.Repeat("x", 1000)
	for i := from; i < from+n; i++ {
		put(t, s, entryFor(s.Queue("T", 0), fmt.Appendf(nil, "m%d-%s", i, pad), fmt.Sprint("k", i)))
	}
}

// retained lets retention look, as the shell does.
func retained(t tester, s *Store) {
	t.Helper()
	if _, err := s.retain(nil); err != nil {
		t.Fatal(err)
	}
}

func findKey(t testing.TB, s *Store, key string) (n int) {
	t.Helper()
	err := s.FindKey("T", key, 0, math.MaxInt64, func(*message.Record, []byte) bool { n++; return true })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// numbers returns the numbers of the messages that are left, which follow one another.
func numbers(t testing.TB, s *Store) (first, end int) {
	t.Helper()
	bodies := readAll(t, s, s.Queue("T", 0))
	for i, b := range bodies {
		n := 0
		if _, err := fmt.Sscanf(b, "m%d-", &n); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = n
		}
		if n != first+i {
			t.Fatalf("message %d after %d", n, first+i-1)
		}
	}
	return first, first + len(bodies)
}

func TestTheLogIsKeptWithinItsSize(t *testing.T) {
	fs := vfs.NewMem()
	c := memConfig(fs)
	c.StageInterval = time.Hour
	c.Retention.BytesMax = 3 * c.SegmentBytes
	s, _ := mustOpen(t, c)
	s.Hold(all)
	for round := range 20 { // 2 segments each
		fill(t, s, round*100, 100)
		if err := s.Stage(); err != nil {
			t.Fatal(err)
		}
		retained(t, s)
	}
	first, end := s.log.Bounds()
	if length := end - first; length > c.Retention.BytesMax+baseEvery*c.SegmentBytes {
		t.Fatalf("the log has %d bytes", length)
	}
	from, to := numbers(t, s)
	if from < 1000 || to != 2000 {
		t.Fatalf("messages %d to %d are left", from, to)
	}
	for i := range from { // also those whose block is in memory
		if findKey(t, s, fmt.Sprint("k", i)) != 0 {
			t.Fatalf("message %d is found by its key, the first that is left is %d", i, from)
		}
	}
	if got := []int{findKey(t, s, "k10"), findKey(t, s, fmt.Sprint("k", from)), findKey(t, s, "k1999")}; !slices.Equal(got, []int{0, 1, 1}) {
		t.Fatalf("found by key: %v", got)
	}
	var r Result
	if err := s.Read(&r, s.Queue("T", 0), 5, ReadLimits{Messages: 1, Bytes: 1, Scanned: 10}, Match{}); err != nil || r.Status != OffsetMoved || r.Next != int64(from) {
		t.Fatalf("read of a removed message: status %d, next %d, %v", r.Status, r.Next, err)
	}
	if _, _, err := s.RecordAt(0); !errors.Is(err, ErrNotFound) {
		t.Fatalf("record at 0: %v", err)
	}
	if n := len(mustList(t, fs, "store/spare")); n > 4 {
		t.Fatalf("%d spares", n)
	}
	mustClose(t, s)

	same := func(what string) {
		s, _ := mustOpen(t, c)
		defer mustClose(t, s)
		if f, e := numbers(t, s); f != from || e != to {
			t.Fatalf("%s: messages %d to %d, before %d to %d", what, f, e, from, to)
		}
	}
	same("reopened")
	if err := fs.RemoveAll("store/view"); err != nil {
		t.Fatal(err)
	}
	same("rebuilt")
}

func mustList(t testing.TB, fs vfs.FS, dir string) []string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// What the database holds of removed messages goes as well, in queues that nobody uses too.
func TestTheViewShrinksWithTheLog(t *testing.T) {
	c := memConfig(vfs.NewMem())
	c.StageInterval = time.Hour
	c.Retention.BytesMax = 2 * c.SegmentBytes
	s, _ := mustOpen(t, c)
	s.Hold(all)
	defer mustClose(t, s)
	put(t, s, entryFor(s.Queue("idle", 7), []byte("x"), "k"))
	stage := func() {
		t.Helper()
		if err := s.Stage(); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 30 {
		fill(t, s, round*100, 100)
		stage()
		retained(t, s)
	}
	stage()
	stage() // what the sweep found
	if n := s.view.Pointers("idle", 7); n != 0 {
		t.Fatalf("%d index blocks of a queue without messages", n)
	}
	if n := s.view.Pointers("T", 0); n == 0 || n > 12 {
		t.Fatalf("%d index blocks", n)
	}
	if first, next := s.Queue("idle", 7).Bounds(); first != 1 || next != 1 {
		t.Fatalf("the idle queue is [%d,%d)", first, next)
	}
}

func TestRetentionMistakesNoIndexOfADeletedTopicForThatOfANewOne(t *testing.T) {
	c := memConfig(vfs.NewMem())
	c.StageInterval = time.Hour
	s, _ := mustOpen(t, c)
	defer mustClose(t, s)
	stage := func() {
		t.Helper()
		if err := s.Stage(); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		fill(t, s, round*100, 100)
		stage()
	}
	update(t, s, KindQueues, Mutation{Key: "T"})
	fill(t, s, 0, 2)
	s.view.SetFirst(c.SegmentBytes) // what the database has of T is deleted with the next stage
	if first, next := s.Queue("T", 0).Bounds(); first != 0 || next != 2 {
		t.Fatalf("the new queue is [%d,%d)", first, next)
	}
	stage()
	s.view.SetFirst(c.SegmentBytes + 1)
	if first, end := numbers(t, s); first != 0 || end != 2 {
		t.Fatalf("messages %d to %d are left", first, end)
	}
}

func TestSegmentsGoByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := memConfig(vfs.NewMem())
		c.Retention.Age = time.Hour
		s, _ := mustOpen(t, c)
		s.Hold(all)
		for i := range 40 {
			fill(t, s, i*100, 100)
			time.Sleep(5 * time.Minute)
		}
		from, to := numbers(t, s)
		// 12 rounds an hour; up to four segments of two rounds each wait for the older base.
		if from < 4000-2000 || from > 4000-1200 || to != 4000 {
			t.Fatalf("messages %d to %d are left", from, to)
		}
		mustClose(t, s)
	})
}

func TestWhatIsHeldStays(t *testing.T) {
	c := memConfig(vfs.NewMem())
	c.Retention.BytesMax = c.SegmentBytes
	s, _ := mustOpen(t, c)
	defer mustClose(t, s)
	var held atomic.Int64
	held.Store(100)
	s.Hold(func(int64) (int64, error) { return held.Load(), nil })
	fill(t, s, 0, 1000)
	retained(t, s)
	if from, _ := numbers(t, s); from != 0 {
		t.Fatalf("messages from %d on are left", from)
	}
	held.Store(math.MaxInt64)
	fill(t, s, 1000, 400)
	retained(t, s)
	fill(t, s, 1400, 400)
	retained(t, s)
	if from, _ := numbers(t, s); from == 0 {
		t.Fatal("nothing was removed")
	}
}

// usedDisk reports whatever use of the disk a test wants.
type usedDisk struct {
	vfs.FS
	usage atomic.Pointer[vfs.DiskUsage]
}

func (d *usedDisk) GetDiskUsage(string) (vfs.DiskUsage, error) { return *d.usage.Load(), nil }

func (d *usedDisk) used(percent uint64) {
	d.usage.Store(&vfs.DiskUsage{TotalBytes: 100 << 30, UsedBytes: percent << 30, AvailBytes: (100 - percent) << 30})
}

func TestAFullDiskRefusesMessagesAndTakesThemAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // Wait ends what a segment's end has made retention do by itself
		disk := &usedDisk{FS: vfs.NewMem()}
		disk.used(80)
		c := memConfig(disk)
		c.Retention = Retention{CleanRatio: 0.85, FullRatio: 0.9, FreeBytes: 50 << 30}
		s, _ := mustOpen(t, c)
		s.Hold(all)
		defer mustClose(t, s)
		fill(t, s, 0, 600)
		synctest.Wait()
		retained(t, s)
		if from, _ := numbers(t, s); from != 0 {
			t.Fatal("messages were removed although the disk has room")
		}
		disk.used(92)
		retained(t, s)
		err := s.Append(&Batch{Entries: []Entry{entryFor(s.Queue("T", 0), []byte("x"), "k")}})
		if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "90%") {
			t.Fatalf("a message on a full disk: %v", err)
		}
		if err := s.Writable(); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("writable: %v", err)
		}
		// State goes on, and so do reads; the oldest segments went, whatever their age.
		done := make(chan error, 1)
		if err := s.UpdateState("test", []Mutation{{Key: "a", Value: []byte("b")}}, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		numbers(t, s)
		disk.used(80)
		retained(t, s)
		fill(t, s, 600, 100)
		synctest.Wait()
		disk.used(86)
		retained(t, s)
		retained(t, s)
		if from, to := numbers(t, s); from == 0 || to != 700 {
			t.Fatalf("messages %d to %d are left", from, to)
		}
	})
}

func TestReadersMeetNoRecycledSegment(t *testing.T) {
	c := memConfig(vfs.NewMem())
	c.MemoryBytesMax = 1 // all but the newest blocks are read from the files
	c.Retention.BytesMax = 2 * c.SegmentBytes
	s, _ := mustOpen(t, c)
	s.Hold(all)
	defer mustClose(t, s)
	fill(t, s, 0, 300)
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			var r Result
			for {
				select {
				case <-stop:
					return
				default:
				}
				q := s.Queue("T", 0)
				first, _ := q.Bounds()
				if err := s.Read(&r, q, first, ReadLimits{Messages: 32, Bytes: 256 << 10, Scanned: 100}, Match{}); err != nil {
					t.Errorf("read from %d: %v", first, err)
					return
				}
				for _, raw := range r.Slices {
					if m, n, err := message.Decode(raw); err != nil || m.Verify(raw[:n]) != nil || m.QueueOffset < first {
						t.Errorf("read from %d: offset %d, %v", first, m.QueueOffset, err)
						r.Release()
						return
					}
				}
				r.Release()
			}
		}()
	}
	for round := range 40 {
		fill(t, s, 300+round*50, 50)
		retained(t, s)
	}
	close(stop)
	wait.Wait()
}
