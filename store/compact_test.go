package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/view"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// readFrom returns the messages from an offset on, as "offset=body", and checks that they are as they were stored.
func readFrom(t tester, s *Store, q *Queue, offset int64, messages int) (list []string) {
	t.Helper()
	var r Result
	for {
		if err := s.Read(&r, q, offset, ReadLimits{Messages: messages, Bytes: 256 << 10, Scanned: 800}, Match{}); err != nil {
			t.Fatal(err)
		}
		if r.Status != Found && r.Status != NoMatch {
			if r.Status != NoMessage || offset != r.End {
				t.Fatalf("read at %d of [%d,%d): status %d, next %d", offset, r.First, r.End, r.Status, r.Next)
			}
			return list
		}
		if r.Next <= offset {
			t.Fatalf("read at %d of [%d,%d): next %d", offset, r.First, r.End, r.Next)
		}
		raw := bytes.Join(r.Slices, nil)
		for _, at := range r.Offsets {
			m, n, err := message.Decode(raw)
			if err == nil {
				err = m.Verify(raw[:n])
			}
			if err != nil || m.QueueOffset != at || string(m.Topic) != q.Topic || m.QueueID != q.ID {
				t.Fatalf("offset %d: %s/%d at %d, %v", at, m.Topic, m.QueueID, m.QueueOffset, err)
			}
			list, raw = append(list, fmt.Sprintf("%d=%s", at, m.Body)), raw[n:]
		}
		offset = r.Next
		r.Release()
	}
}

func compactAll(t tester, s *Store, q *Queue, end int64) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.Compact(q, end); err != nil {
			t.Fatal(err)
		}
	}
}

func carryAll(t tester, s *Store, q *Queue, before int64) {
	t.Helper()
	for next := int64(0); next >= 0; {
		var err error
		if next, err = s.CarryCompacted(q, next, before); err != nil {
			t.Fatal(err)
		}
	}
}

// compactModel is the plain form of a compaction topic: all that was appended, and how far each queue was compacted.
type compactModel struct {
	t      *rapid.T
	config Config
	disk   *testDisk
	random *rand.Rand
	safe   atomic.Int64 // log position before which nothing is needed
	s      *Store
	log    []modelItem
	made   int
}

const compactQueues = 2

func runCompactModel(t *rapid.T) {
	m := &compactModel{t: t, random: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3)), disk: newTestDisk()}
	m.config = memConfig(m.disk)
	m.config.SegmentBytes = 32 << 10
	m.config.StageInterval, m.config.FlushInterval = 1<<40, 1<<40
	m.config.Retention.BytesMax = m.config.SegmentBytes
	m.open()
	defer func() { mustClose(t, m.s) }()
	for range rapid.IntRange(1, 150).Draw(t, "steps") {
		m.step()
	}
	m.check()
}

func (m *compactModel) roll(n int) int { return rapid.IntRange(0, n-1).Draw(m.t, "roll") }

func (m *compactModel) queue() *Queue { return m.s.Queue("C", int32(m.roll(compactQueues))) }

func (m *compactModel) open() Recovery {
	m.config.FS, m.config.Files = m.disk, m.disk.files()
	var rec Recovery
	m.s, rec = mustOpen(m.t, m.config)
	m.s.Hold(func(int64) (int64, error) { return m.safe.Load(), nil })
	return rec
}

func (m *compactModel) step() {
	switch m.roll(16) {
	default:
		for range 1 + m.roll(20) {
			m.append()
		}
	case 6, 7:
		q := m.queue()
		_, end := q.Bounds()
		compactAll(m.t, m.s, q, end-int64(m.roll(10)))
	case 8, 9:
		m.retire()
	case 10:
		update(m.t, m.s, KindQueues, Mutation{Key: "C"})
		m.log = append(m.log, modelItem{drop: true, end: m.s.log.Written()})
	case 11:
		if err := m.s.Stage(); err != nil {
			m.t.Fatal(err)
		}
	case 12:
		if err := errors.Join(m.s.Stage(), m.s.WriteBase()); err != nil && m.s.log.Written() > 0 {
			m.t.Fatal(err)
		}
	case 13:
		m.reopen("")
	case 14:
		m.reopen("store/view")
	case 15:
		m.crash()
	}
	if m.roll(4) == 0 {
		m.check()
	}
}

func (m *compactModel) append() {
	q := m.queue()
	m.made++
	item := modelItem{queue: q.ID, key: fmt.Sprint("k", m.roll(6)), body: fmt.Sprint(m.made, strings.Repeat("-", m.roll(900)))}
	if m.roll(8) == 0 {
		item.body = ""
	}
	b := put(m.t, m.s, entryFor(q, []byte(item.body), item.key))
	item.end = b.End()
	m.log = append(m.log, item)
}

// retire lets all segments go but the last ones.
func (m *compactModel) retire() {
	before := m.s.log.Confirmed()
	for id := range int32(compactQueues) {
		q := m.s.Queue("C", id)
		_, end := q.Bounds()
		compactAll(m.t, m.s, q, end)
		carryAll(m.t, m.s, q, before)
	}
	m.safe.Store(before)
	retained(m.t, m.s)
}

func (m *compactModel) reopen(without string) {
	mustClose(m.t, m.s)
	if without != "" {
		if err := m.disk.mem.RemoveAll(without); err != nil {
			m.t.Fatal(err)
		}
	}
	m.open()
	m.check()
}

func (m *compactModel) crash() {
	flushed := m.s.log.Flushed()
	left := m.disk.kill(m.random)
	if m.roll(2) == 1 {
		left = m.disk.powerCut(m.random)
	}
	mustClose(m.t, m.s)
	m.disk = left
	if rec := m.open(); rec.End < flushed {
		m.t.Fatalf("the log ends at %d, %d was sure", rec.End, flushed)
	}
	m.check()
}

// check compares what each queue gives from any offset on, message by message, with what is to be left.
func (m *compactModel) check() {
	m.t.Helper()
	for id := range int32(compactQueues) {
		q := m.s.Queue("C", id)
		var all []modelItem
		for _, item := range m.log {
			if item.drop {
				all = nil
			} else if item.queue == id {
				all = append(all, item)
			}
		}
		end := q.Compacted().End
		newest := map[string]int{}
		for i, item := range all[:end] {
			newest[item.key] = i
		}
		var want []string
		first := int64(len(all))
		from := int64(m.random.IntN(len(all) + 1))
		for i, item := range all {
			if int64(i) < end && (newest[item.key] != i || item.body == "") {
				continue
			}
			if first = min(first, int64(i)); int64(i) >= from {
				want = append(want, fmt.Sprintf("%d=%s", i, item.body))
			}
		}
		if f, e := q.Bounds(); f != first || e != int64(len(all)) {
			m.t.Fatalf("queue %d is [%d,%d), want [%d,%d), compacted to %d", id, f, e, first, len(all), end)
		}
		if diff := cmp.Diff(want, readFrom(m.t, m.s, q, from, 1+m.random.IntN(20))); diff != "" {
			m.t.Fatalf("queue %d from %d, compacted to %d: %s", id, from, end, diff)
		}
	}
}

func TestCompactionLeavesWhatTheModelSays(t *testing.T) { rapid.Check(t, runCompactModel) }

func FuzzCompaction(f *testing.F) { f.Fuzz(rapid.MakeFuzz(runCompactModel)) }

// putKeys puts n messages, numbered from from on, into queue 0 of C; they have keys keys in turn.
func putKeys(t testing.TB, s *Store, from, n, keys int) {
	t.Helper()
	pad := strings.Repeat("x", 500)
	for i := from; i < from+n; i++ {
		put(t, s, entryFor(s.Queue("C", 0), fmt.Appendf(nil, "m%d-%s", i, pad), fmt.Sprint("k", i%keys)))
	}
}

func TestWhatCompactionLeavesIsFoundByTimeAndBounds(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := mustOpen(t, memConfig(fs))
	putKeys(t, s, 0, 100, 10)
	q := s.Queue("C", 0)
	compactAll(t, s, q, 100)
	if first, end := q.Bounds(); first != 90 || end != 100 {
		t.Fatalf("the queue is [%d,%d), want [90,100)", first, end)
	}
	stored, err := s.StoreTime(q, 95)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.StoreTime(q, 50); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the time of what is gone: %v", err)
	}
	if at, err := s.OffsetByTime(q, 0, false); at != 90 || err != nil {
		t.Fatalf("the beginning of time is offset %d, %v", at, err)
	}
	if at, err := s.OffsetByTime(q, stored+1e6, false); at != 100 || err != nil {
		t.Fatalf("the end of time is offset %d, %v", at, err)
	}
	if n, err := s.CompactedCopies(); n != 0 || err != nil {
		t.Fatalf("%d copies before there are any, %v", n, err)
	}
	carryAll(t, s, q, s.log.Confirmed())
	if n, err := s.CompactedCopies(); n != 10 || err != nil {
		t.Fatalf("%d copies, %v", n, err)
	}
	if again, err := s.StoreTime(q, 95); again != stored || err != nil {
		t.Fatalf("a copy was stored at %d, %v, the message at %d", again, err, stored)
	}
	mustClose(t, s)
	v, err := view.OpenReadOnly(fs, "store/view")
	if err != nil {
		t.Fatal(err)
	}
	if first, end := v.Find("C", 0).Bounds(); first != 90 || end != 100 {
		t.Errorf("an inspection sees [%d,%d), want [90,100)", first, end)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

func TestAReaderOfCompactedMessagesFollowsThemToTheirCopies(t *testing.T) {
	c := memConfig(vfs.NewMem())
	c.Retention.BytesMax = c.SegmentBytes
	s, _ := mustOpen(t, c)
	defer mustClose(t, s)
	var safe atomic.Int64
	s.Hold(func(int64) (int64, error) { return safe.Load(), nil })
	const keys = 50
	q := s.Queue("C", 0)
	for round := range 20 {
		putKeys(t, s, round*200, 200, keys)
		_, end := q.Bounds()
		compactAll(t, s, q, end)
		before := s.log.Confirmed()
		carryAll(t, s, q, before)
		safe.Store(before)
		if err := s.Stage(); err != nil {
			t.Fatal(err)
		}
		retained(t, s)
		got := readFrom(t, s, q, 0, 7)
		if len(got) != keys || !strings.HasPrefix(got[0], fmt.Sprintf("%d=m%d-", end-keys, end-keys)) {
			t.Fatalf("round %d: %d messages, the first %.20s", round, len(got), got[0])
		}
	}
	if first, end := s.log.Bounds(); end-first > 20*c.SegmentBytes {
		t.Fatalf("the log has %d bytes", end-first)
	}
}

func TestWhatCompactionLeftOfADeletedTopicIsGone(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := mustOpen(t, memConfig(fs))
	putKeys(t, s, 0, 100, 10)
	old := s.Queue("C", 0)
	compactAll(t, s, old, 90)
	if err := s.Stage(); err != nil {
		t.Fatal(err)
	}
	compactAll(t, s, old, 95)
	update(t, s, KindQueues, Mutation{Key: "C"})
	if _, err := s.Compact(old, 100); !errors.Is(err, ErrEnded) {
		t.Fatalf("compaction of a deleted queue: %v", err)
	}
	putKeys(t, s, 500, 20, 10)
	left := func() (n int) {
		if err := s.State(view.KindCompaction, func(string, []byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	q := s.Queue("C", 0)
	if got := readFrom(t, s, q, 0, 32); len(got) != 20 {
		t.Fatalf("the new topic has %d messages", len(got))
	}
	compactAll(t, s, q, 15)
	if got := readFrom(t, s, q, 0, 32); len(got) != 15 {
		t.Fatalf("the new topic has %d messages after compaction", len(got))
	}
	if err := s.Stage(); err != nil {
		t.Fatal(err)
	}
	if n := left(); n != 1+10+10 {
		t.Fatalf("%d entries of state are left", n)
	}
	mustClose(t, s)
	s, _ = mustOpen(t, memConfig(fs))
	defer mustClose(t, s)
	if got := readFrom(t, s, s.Queue("C", 0), 0, 32); len(got) != 15 || left() != 21 {
		t.Fatalf("after a restart the new topic has %d messages, %d entries of state", len(got), left())
	}
}
