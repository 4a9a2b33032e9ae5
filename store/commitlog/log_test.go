package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	testSegmentBytes = 16 << 10
	testBlockBytes   = 4 << 10
)

func testOptions(fs vfs.FS) Options {
	return Options{
		FS: fs, Files: NewVFSFiles(fs), Dir: "log", SpareDir: "spare", SegmentBytes: testSegmentBytes, BlockBytes: testBlockBytes,
		MemoryBytesMax: 64 << 10, UnsyncedBytesMax: 128 << 10, Now: func() time.Time { return time.UnixMilli(1000) },
	}
}

// openLog opens and recovers, and returns the bodies that were replayed.
func openLog(t *testing.T, o Options, flushed int64) (*Log, Recovery, []string) {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	rec, err := l.Recover(0, flushed, 0, func(r *message.Record, _ []byte) error {
		bodies = append(bodies, string(r.Body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, rec, bodies
}

func record(q *Sequence, body string) Entry {
	return Entry{
		Sequence: q, BodyCRC: crc32.ChecksumIEEE([]byte(body)),
		Record: message.Record{Topic: []byte("T"), Body: []byte(body), Properties: message.AppendProperty(nil, "k", []byte("some value"))},
	}
}

// overhead is what a record of record has beyond its body.
func overhead() int { e := record(nil, ""); return e.Record.EncodedSize() }

// appendNow appends a batch and takes it through.
func appendNow(t *testing.T, l *Log, entries ...Entry) *Batch {
	t.Helper()
	done := 0
	b := &Batch{Entries: entries, Done: func(_ *Batch, err error) {
		if done++; err != nil {
			t.Errorf("done: %v", err)
		}
	}}
	result := make(chan error, 1)
	go func() { result <- l.Append(b) }()
	for waiting := true; waiting; {
		select {
		case err := <-result:
			if err != nil {
				t.Fatal(err)
			}
			waiting = false
		case <-l.WantSpare():
			if err := l.SpareStep(); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.Confirm(l.Step(), func([]*Batch) {})
	if done != 1 {
		t.Fatalf("done was called %d times", done)
	}
	return b
}

// contents reads the record of an entry back through the cache.
func contents(t *testing.T, l *Log, e *Entry) string {
	t.Helper()
	raw, err := l.Read(e.Record.PhysicalOffset, int(e.Size))
	if err != nil {
		t.Fatal(err)
	}
	r, err := check(raw, e.Record.PhysicalOffset, 0)
	if err != nil {
		t.Fatalf("at %d: %v", e.Record.PhysicalOffset, err)
	}
	return string(r.Body)
}

// patch changes bytes of the first segment.
func patch(t *testing.T, fs vfs.FS, at int64, data []byte) {
	t.Helper()
	f, err := fs.OpenReadWrite("log/00000000000000000000", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func segmentBytes(t *testing.T, fs vfs.FS) []byte {
	t.Helper()
	f, err := fs.Open("log/00000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// written is a log of n records in a file system of its own, closed.
func written(t *testing.T, n int, body func(i int) string) (*vfs.MemFS, []Entry) {
	fs := vfs.NewMem()
	l, _, _ := openLog(t, testOptions(fs), 0)
	var q Sequence
	var entries []Entry
	for i := range n {
		entries = append(entries, appendNow(t, l, record(&q, body(i))).Entries...)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fs, entries
}

func TestTornTailAtEveryByte(t *testing.T) {
	body := func(i int) string { return fmt.Sprint(i, strings.Repeat("b", 20*i)) }
	fs, entries := written(t, 4, body)
	whole := segmentBytes(t, fs)
	from := entries[2].Record.PhysicalOffset
	for name, stale := range map[string][]byte{
		"zeros": make([]byte, len(whole)), "ones": bytes.Repeat([]byte{0xff}, len(whole)),
		"a property": bytes.Repeat([]byte("k\x01v\x02"), len(whole)/4), "other records": append(whole[100:len(whole):len(whole)], whole[:100]...),
	} {
		for _, e := range entries[2:] {
			start, end := e.Record.PhysicalOffset, e.Record.PhysicalOffset+int64(e.Size)
			for at := start; at < end; at++ {
				if bytes.Equal(stale[at:end], whole[at:end]) {
					continue // torn, and the same
				}
				patch(t, fs, 0, whole)
				patch(t, fs, at, stale[at:])
				l, rec, bodies := openLog(t, testOptions(fs), from)
				if rec.End != start || len(rec.Gaps) > 0 || len(bodies) != int(e.Record.QueueOffset) {
					t.Fatalf("torn at byte %d of [%d,%d), then %s: %+v, %d records", at, start, end, name, rec, len(bodies))
				}
				if left := segmentBytes(t, fs)[start:]; len(bytes.Trim(left, "\x00")) > 0 {
					t.Fatalf("torn at byte %d, then %s: the tail was not zeroed", at, name)
				}
				_ = l.Close()
			}
		}
	}
}

func TestRecordsOfOtherPositionsAreNotReplayed(t *testing.T) {
	fs, entries := written(t, 3, func(i int) string { return fmt.Sprint("body", i) })
	e := entries[2]
	end := e.Record.PhysicalOffset + int64(e.Size)
	patch(t, fs, end, segmentBytes(t, fs)[:end]) // good records, as in a recycled segment
	l, rec, bodies := openLog(t, testOptions(fs), end)
	defer l.Close()
	if rec.End != end || len(bodies) != 3 || rec.Cut == 0 {
		t.Fatalf("%+v, records %q", rec, bodies)
	}
}

func TestTheCutTailDoesNotComeBackAfterAnotherCrash(t *testing.T) {
	fs, entries := written(t, 6, func(i int) string { return strings.Repeat("x", 512-overhead()) }) // a record fills a sector
	crashed := segmentBytes(t, fs)
	at := entries[3].Record.PhysicalOffset
	copy(crashed[at:at+512], make([]byte, 512)) // record 3 was lost, 4 and 5 were not
	disk := vfs.NewCrashableMem()
	l, _, _ := openLog(t, testOptions(disk), 0)
	appendNow(t, l, record(new(Sequence), "x"))
	_ = l.Close()
	if err := syncDir(disk, "/"); err != nil { // the directories themselves
		t.Fatal(err)
	}
	patch(t, disk, 0, crashed)
	l, rec, bodies := openLog(t, testOptions(disk), at)
	if rec.End != at || len(bodies) != 3 {
		t.Fatalf("%+v", rec)
	}
	// A power cut now must find the end where it was, with zeros behind it: were record 4 still there, a new record 3 would bring it back.
	left := segmentBytes(t, disk.CrashClone(vfs.CrashCloneCfg{}))
	if len(bytes.Trim(left[at:], "\x00")) > 0 {
		t.Fatal("what was cut is still on the disk")
	}
	_ = l.Close()
}

func TestBatchesOverBlocksAndSegments(t *testing.T) {
	fs := vfs.NewMem()
	l, _, _ := openLog(t, testOptions(fs), 0)
	var q Sequence
	var want []string
	var batches []*Batch
	for i, sizes := range [][]int{
		{10, 5000, 10}, {9000, 9000}, {100, 100, 100}, {3000, 3000, 3000, 3000, 3000, 3000, 3000}, {15000, 15000, 15000, 15000, 15000}, {1}, {12000, 1, 12000},
	} {
		var entries []Entry
		for j, n := range sizes {
			want = append(want, fmt.Sprint(i, ".", j, " ", strings.Repeat("z", n)))
			entries = append(entries, record(&q, want[len(want)-1]))
		}
		batches = append(batches, appendNow(t, l, entries...))
	}
	n := 0
	for _, b := range batches {
		for i := range b.Entries {
			if got := contents(t, l, &b.Entries[i]); got != want[n] {
				t.Fatalf("record %d is %.20q, want %.20q", n, got, want[n])
			}
			n++
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, rec, bodies := openLog(t, testOptions(fs), 0)
	defer l.Close()
	if strings.Join(bodies, "|") != strings.Join(want, "|") || rec.Cut != 0 || rec.End != batches[len(batches)-1].End() {
		t.Fatalf("%+v, %d records of %d", rec, len(bodies), len(want))
	}
}

func TestRecordsThatEndWhereABlockOrTheSegmentDoes(t *testing.T) {
	for _, boundary := range []int{testBlockBytes, testSegmentBytes} {
		for left := -30; left < 60; left++ { // bytes that the second record leaves before the boundary
			fs := vfs.NewMem()
			l, _, _ := openLog(t, testOptions(fs), 0)
			var q Sequence
			first := appendNow(t, l, record(&q, "first"))
			size := boundary - left - int(first.End())
			second := appendNow(t, l, record(&q, strings.Repeat("f", size-overhead())))
			third := appendNow(t, l, record(&q, "third"))
			at := second.Entries[0].Record.PhysicalOffset
			if rolled := boundary == testSegmentBytes && left < 8; rolled != (at == testSegmentBytes) {
				t.Fatalf("%d left of %d: the record is at %d", left, boundary, at)
			}
			if contents(t, l, &first.Entries[0]) != "first" || contents(t, l, &third.Entries[0]) != "third" ||
				len(contents(t, l, &second.Entries[0])) != size-overhead() {
				t.Fatalf("%d left of %d: not read back", left, boundary)
			}
			_ = l.Close()
			l, rec, bodies := openLog(t, testOptions(fs), 0)
			if len(bodies) != 3 || rec.End != third.End() || rec.Cut != 0 {
				t.Fatalf("%d left of %d: %+v, %d records", left, boundary, rec, len(bodies))
			}
			_ = l.Close()
		}
	}
}

func TestTooLargeIsRefused(t *testing.T) {
	l, _, _ := openLog(t, testOptions(vfs.NewMem()), 0)
	defer l.Close()
	var q Sequence
	most := testSegmentBytes - message.BlankHeaderSize - overhead()
	appendNow(t, l, record(&q, strings.Repeat("f", most)))
	if err := l.Append(&Batch{Entries: []Entry{record(&q, strings.Repeat("f", most+1))}}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("record: %v", err)
	}
	b := &Batch{}
	for range batchBytesMax/most + 1 {
		b.Entries = append(b.Entries, record(&q, strings.Repeat("f", most)))
	}
	if err := l.Append(b); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("batch: %v", err)
	}
	if b := appendNow(t, l, record(&q, "next")); b.Entries[0].Record.QueueOffset != 1 {
		t.Fatal("a refused record took an offset")
	}
}

func TestStoreTimeNeverGoesBack(t *testing.T) {
	fs, clock := vfs.NewMem(), int64(5000)
	o := testOptions(fs)
	o.Now = func() time.Time { return time.UnixMilli(clock) }
	l, _, _ := openLog(t, o, 0)
	var q Sequence
	appendNow(t, l, record(&q, "a"))
	clock = 4000
	if b := appendNow(t, l, record(&q, "b")); b.Entries[0].Record.StoreTime != 5000 {
		t.Fatalf("store time %d", b.Entries[0].Record.StoreTime)
	}
	_ = l.Close()
	clock = 3000
	l, _, _ = openLog(t, o, 0)
	defer l.Close()
	if b := appendNow(t, l, record(&q, "c")); b.Entries[0].Record.StoreTime != 5000 {
		t.Fatalf("store time %d after a restart", b.Entries[0].Record.StoreTime)
	}
}

func TestSlicesStayWhileTheyArePinned(t *testing.T) {
	fs, entries := written(t, 200, func(i int) string { return fmt.Sprintf("%04d%s", i, strings.Repeat("p", 900)) })
	o := testOptions(fs)
	o.MemoryBytesMax = 1 // eight blocks
	l, _, _ := openLog(t, o, 0)
	defer l.Close()
	var pins Pins
	e := &entries[0]
	slices, err := l.Slices(nil, e.Record.PhysicalOffset, int(e.Size), &pins)
	if err != nil {
		t.Fatal(err)
	}
	was := bytes.Join(slices, nil)
	for range 2 {
		for i := range entries { // all blocks but the pinned one are reused
			if got := contents(t, l, &entries[i]); !strings.HasPrefix(got, fmt.Sprintf("%04d", i)) {
				t.Fatalf("record %d: %.10q", i, got)
			}
		}
	}
	if !bytes.Equal(was, bytes.Join(slices, nil)) {
		t.Fatal("a pinned block was reused")
	}
	pins.Release()
	pins.Release()
	if l.blocks.held > 9 {
		t.Fatalf("%d blocks are held", l.blocks.held)
	}
}

func TestBlocksAreReadAhead(t *testing.T) {
	fs, entries := written(t, 40, func(int) string { return strings.Repeat("a", 900) })
	l, rec, _ := openLog(t, testOptions(fs), 0)
	defer l.Close()
	read := func(i int) { contents(t, l, &entries[i]) }
	next := func(want int64) {
		t.Helper()
		select {
		case got := <-l.WantAhead():
			if got != want {
				t.Fatalf("block %d is wanted, not %d", got, want)
			}
		default:
			if want >= 0 {
				t.Fatalf("block %d is not wanted", want)
			}
		}
	}
	read(0) // nobody knows yet who reads on
	next(-1)
	read(5)
	next(2)
	l.SetReadAhead(false)
	if l.blocks.want(2); len(l.WantAhead()) > 0 {
		t.Fatal("a block is wanted although nothing is read ahead")
	}
	l.SetReadAhead(true)
	l.ReadAhead(2)
	if !l.InMemory(2 * testBlockBytes) {
		t.Fatal("block 2 is not in memory")
	}
	read(10)
	next(3)
	read(10) // once
	next(-1)
	beyond := rec.End/testBlockBytes + 1
	if l.ReadAhead(beyond); l.InMemory(beyond * testBlockBytes) {
		t.Fatal("a block was read ahead that is still to be written")
	}
}

// tornFiles fails what it is told to.
type tornFiles struct {
	SegmentFS
	writes, syncs *int // until one fails; -1: never
	used          *int // operations after the failure
}

func (f tornFiles) Open(path string) (SegmentFile, error) {
	s, err := f.SegmentFS.Open(path)
	return tornFile{s, f}, err
}

type tornFile struct {
	SegmentFile
	f tornFiles
}

var errInjected = errors.New("injected EIO")

func (f tornFile) count(n *int) error {
	if *n == 0 {
		*f.f.used++
		return errInjected
	}
	*n--
	return nil
}

func (f tornFile) WriteAt(b [][]byte, off int64) error {
	if err := f.count(f.f.writes); err != nil {
		return err
	}
	return f.SegmentFile.WriteAt(b, off)
}

func (f tornFile) Datasync() error {
	if err := f.count(f.f.syncs); err != nil {
		return err
	}
	return f.SegmentFile.Datasync()
}

func TestDrainWaitsForEveryDone(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.AsyncFlush = true
	writes, syncs, used := -1, -1, 0
	o.Files = tornFiles{o.Files, &writes, &syncs, &used}
	l, _, _ := openLog(t, o, 0)
	defer l.Close()
	var q Sequence
	appendNow(t, l, record(&q, "first"))
	var told error
	if err := l.Append(&Batch{Entries: []Entry{record(&q, "second")}, Done: func(_ *Batch, err error) { told = err }}); err != nil {
		t.Fatal(err)
	}
	syncs = 0
	if err := l.SyncStep(); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	drained := make(chan error)
	go func() { l.Drain(); drained <- told }()
	select {
	case <-drained:
		t.Fatal("Drain returned while a Done was missing")
	case <-time.After(20 * time.Millisecond):
	}
	l.Step()
	if err := <-drained; !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
}

func TestSettleDoesNotWaitForWhatComesLater(t *testing.T) {
	l, _, _ := openLog(t, testOptions(vfs.NewMem()), 0)
	defer l.Close()
	var q Sequence
	appendNow(t, l, record(&q, "first"))
	done := func(*Batch, error) {}
	add := func() {
		if err := l.Append(&Batch{Entries: []Entry{record(&q, "x")}, Done: done}); err != nil {
			t.Fatal(err)
		}
	}
	add()
	settled := make(chan struct{})
	go func() { l.Settle(); close(settled) }()
	for begin := time.Now(); ; { // something is always in flight
		batches := l.Step()
		if err := l.SpareStep(); err != nil { // nobody else makes the next segment
			t.Fatal(err)
		}
		add()
		if batches != nil {
			l.Confirm(batches, func([]*Batch) {})
		}
		select {
		case <-settled:
			return
		default:
		}
		if time.Since(begin) > 5*time.Second {
			t.Fatal("Settle waits for ever")
		}
	}
}

func TestWhatIsNotSyncedIsBounded(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.AsyncFlush, o.UnsyncedBytesMax = true, 4<<10
	l, _, _ := openLog(t, o, 0)
	defer l.Close()
	var q Sequence
	for range 20 {
		appendNow(t, l, record(&q, strings.Repeat("u", 1000)))
		if open := l.Written() - l.Flushed(); open > o.UnsyncedBytesMax {
			t.Fatalf("%d bytes are not synced", open)
		}
	}
	if l.Flushed() == l.Written() {
		t.Fatal("every write was synced")
	}
}

func TestAFailedWriteOrSyncIsFinal(t *testing.T) {
	for _, what := range []string{"write", "sync"} {
		for after := range 3 {
			fs := vfs.NewMem()
			o := testOptions(fs)
			writes, syncs, used := -1, -1, 0
			o.Files = tornFiles{o.Files, &writes, &syncs, &used}
			l, _, _ := openLog(t, o, 0)
			var q Sequence
			appendNow(t, l, record(&q, "first"))
			if writes = after; what == "sync" {
				writes, syncs = -1, after
			}
			done := make([]int, 6)
			failed := 0
			for i := range done {
				b := &Batch{Entries: []Entry{record(&q, "x")}, Done: func(_ *Batch, err error) {
					if done[i]++; err != nil {
						failed++
						if !errors.Is(err, ErrStopped) || !errors.Is(err, errInjected) {
							t.Errorf("done: %v", err)
						}
					}
				}}
				if err := l.Append(b); err != nil {
					if !errors.Is(err, ErrStopped) {
						t.Fatal(err)
					}
					done[i] = 1
					continue
				}
				if i%2 == 1 {
					if batches := l.Step(); batches != nil {
						l.Confirm(batches, func([]*Batch) {})
					}
				}
			}
			if l.Step() != nil || !errors.Is(l.SyncStep(), ErrStopped) && l.flushed.Load() < l.written.Load() {
				t.Fatal("the log goes on")
			}
			l.Drain() // returns
			if fmt.Sprint(done) != "[1 1 1 1 1 1]" || failed != 2 || used != 1 {
				t.Fatalf("%s %d: done %v, %d failed, %d operations after the failure", what, after, done, failed, used-1)
			}
			if l.Err() == nil {
				t.Fatal("no error")
			}
			_ = l.Close()
		}
	}
}
