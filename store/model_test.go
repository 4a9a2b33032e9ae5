package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The model test drives a store with what rapid draws, and compares it with a plain list of what was appended. rapid, and fuzzing, make
// what fails short.

// modelItem is what was appended: a message, which may wait or end the wait of another, a change of state, or the deletion of a topic.
type modelItem struct {
	topic     string
	queue     int32
	body, key string
	change    *Mutation
	drop      bool
	time      int64
	position  int64 // in the log
	end       int64 // log position behind it
	ended     int64 // position of the message whose wait it ended; 0: of none
	messages  int   // in the record, each with an offset
	light     []string
}

// modelSlot is an offset of a queue: the part of an item that has it.
type modelSlot struct {
	modelItem
	part int
}

// modelLight are the light queues, modelTopics all topics.
var (
	modelLight  = []string{"%LMQ%a", "%LMQ%b"}
	modelTopics = append([]string{"T0", "T1", "T2"}, modelLight...)
)

// pendingKind is the state of messages that wait: log position in 20 digits -> store time.
const pendingKind = "pending"

func pendingKey(position int64) string { return fmt.Sprintf("%020d", position) }

// pendingHooks keep that state.
func pendingHooks(c *Config) {
	c.Pending = func(r *message.Record) (string, []Mutation) {
		return pendingKind, []Mutation{{Key: pendingKey(r.PhysicalOffset), Value: fmt.Append(nil, r.StoreTime)}}
	}
	c.Retired = func(r, _ *message.Record) (string, []Mutation) {
		return pendingKind, []Mutation{{Key: pendingKey(r.PreparedOffset)}}
	}
}

type modelQueue struct {
	topic string
	id    int32
}

type model struct {
	t       *rapid.T
	config  Config
	disk    *testDisk
	random  *rand.Rand
	now     atomic.Int64
	s       *Store
	log     []modelItem
	appends int
}

// roll draws a number below n.
func (m *model) roll(n int) int { return rapid.IntRange(0, n-1).Draw(m.t, "roll") }

func (m *model) topic() string { return modelTopics[m.roll(len(modelTopics))] }
func (m *model) key() string   { return fmt.Sprint("k", m.roll(4)) }

// modelStepsMax bounds a run.
const modelStepsMax = 250

func runModel(t *rapid.T) {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2)) // of what a crash leaves
	m := &model{t: t, random: random, disk: newTestDisk()}
	m.now.Store(1000)
	m.config = memConfig(m.disk)
	m.config.SegmentBytes = 32 << 10
	m.config.AsyncFlush = m.roll(2) == 1
	m.config.FlushInterval = time.Hour
	m.config.StageInterval = time.Hour
	m.config.MultiDispatch = true
	pendingHooks(&m.config)
	m.config.Now = func() time.Time { return time.UnixMilli(m.now.Load()) }
	m.open()
	defer func() { mustClose(t, m.s) }()
	for range rapid.IntRange(1, modelStepsMax).Draw(t, "steps") {
		m.step()
	}
	m.check()
}

func (m *model) open() Recovery {
	m.config.FS, m.config.Files = m.disk, m.disk.files()
	var rec Recovery
	m.s, rec = mustOpen(m.t, m.config)
	if len(rec.Gaps) > 0 {
		m.t.Fatalf("gaps %v", rec.Gaps)
	}
	return rec
}

func (m *model) step() {
	switch m.roll(18) {
	default:
		m.append()
	case 16:
		m.appendAll(m.entry(message.TopicTimerWheel, 0))
	case 17:
		m.endWait()
	case 6:
		m.now.Add(int64(m.roll(100)) - 20) // the clock may go back
	case 7, 8:
		m.update()
	case 9:
		m.dropTopic()
	case 10, 11:
		if err := m.s.Stage(); err != nil {
			m.t.Fatal(err)
		}
	case 12:
		if err := errors.Join(m.s.Stage(), m.s.WriteBase()); err != nil && m.s.log.Written() > 0 {
			m.t.Fatal(err)
		}
	case 13:
		mustClose(m.t, m.s)
		m.open()
		m.check()
	case 14:
		mustClose(m.t, m.s)
		if err := m.disk.mem.RemoveAll("store/view"); err != nil {
			m.t.Fatal(err)
		}
		m.open()
		m.check()
	case 15:
		m.crash()
	}
}

func (m *model) append() {
	var entries []Entry
	for range 1 + m.roll(4) {
		entries = append(entries, m.entry(m.topic(), int32(m.roll(2))))
	}
	m.appendAll(entries...)
}

// entry makes a message; appendAll is to follow.
func (m *model) entry(topic string, queue int32) Entry {
	q := m.s.Queue(topic, queue)
	length := m.roll(256)
	if length > 240 {
		length *= 50
	}
	m.appends++
	body := fmt.Sprint(m.appends, strings.Repeat(".", length))
	key := m.key()
	item := modelItem{topic: q.Topic, queue: q.ID, body: body, key: key, messages: 1}
	e := entryFor(q, []byte(body), key)
	if kind := m.roll(4); strings.HasPrefix(topic, message.LMQPrefix) || topic == message.TopicTimerWheel {
	} else if kind == 0 {
		item.messages = 1 + m.roll(5)
		if m.roll(32) == 0 {
			item.messages = 1500 // more than a block of the index
		}
		numberedBatch(m.s, &e, item.messages)
	} else if kind == 1 {
		item.light = [][]string{{"%LMQ%a"}, {"%LMQ%b", "%LMQ%a"}, {"%LMQ%b", "%LMQ%b"}}[m.roll(3)]
		numberedLight(m.s, &e, item.light...)
	}
	m.log = append(m.log, item)
	return e
}

// numberedBatch makes an entry's record a batch of n messages.
func numberedBatch(s *Store, e *Entry, n int) {
	e.Record.SysFlag |= message.FlagInnerBatch
	e.Record.Properties = message.AppendProperty(e.Record.Properties, message.PropInnerNum, fmt.Append(nil, n))
	s.Number(e, nil)
}

// numberedLight has an entry's record stand in light queues, too.
func numberedLight(s *Store, e *Entry, names ...string) {
	e.Record.Properties = message.AppendProperty(e.Record.Properties, message.PropMultiDispatch, []byte(strings.Join(names, ",")))
	s.Number(e, nil)
}

func (m *model) appendAll(entries ...Entry) {
	done := make(chan error, 1)
	b := &Batch{Entries: entries, Done: func(_ *Batch, err error) { done <- err }}
	appendBatch := m.s.Append
	if m.roll(2) == 1 {
		appendBatch = m.s.AppendNow
	}
	if err := appendBatch(b); err != nil {
		m.t.Fatal(err)
	}
	if err := <-done; err != nil {
		m.t.Fatal(err)
	}
	items := m.log[len(m.log)-len(entries):]
	for i := range b.Entries {
		r := &b.Entries[i].Record
		items[i].time, items[i].position, items[i].ended = r.StoreTime, r.PhysicalOffset, r.PreparedOffset
		items[i].end = r.PhysicalOffset + int64(b.Entries[i].Size)
	}
}

// pending returns what waits, in the order of the log.
func (m *model) pending() (waiting []modelItem) {
	for _, item := range m.log {
		if item.topic == message.TopicTimerWheel {
			waiting = append(waiting, item)
		}
		waiting = slices.DeleteFunc(waiting, func(w modelItem) bool { return item.ended == w.position && item.ended > 0 })
	}
	return waiting
}

// endWait appends what a message becomes that has waited: it waits anew, or not.
func (m *model) endWait() {
	waiting := m.pending()
	if len(waiting) == 0 {
		return
	}
	source := waiting[m.roll(len(waiting))]
	if source.position == 0 { // a record cannot name one at the log's beginning
		return
	}
	e := m.entry([]string{"T0", message.TopicTimerWheel}[m.roll(2)], 0)
	e.Record.PreparedOffset = source.position
	e.Target = &WithState{Queue: e.Target.(*Queue), Kind: pendingKind, Changes: []Mutation{{Key: pendingKey(source.position)}}}
	m.appendAll(e)
}

func (m *model) update() {
	c := Mutation{Key: m.key()}
	if m.roll(3) > 0 {
		c.Value = fmt.Append([]byte{}, m.roll(256))
	}
	update(m.t, m.s, "test", c)
	m.log = append(m.log, modelItem{change: &c, end: m.s.log.Written()})
}

func (m *model) dropTopic() {
	topic := m.topic()
	update(m.t, m.s, KindQueues, Mutation{Key: topic})
	m.log = append(m.log, modelItem{topic: topic, drop: true, end: m.s.log.Written()})
}

// crash ends the process or cuts the power. What is lost then is the log's end, of what was not synced.
func (m *model) crash() {
	flushed := m.s.log.Flushed()
	left := m.disk.kill(m.random)
	if m.roll(2) == 1 {
		left = m.disk.powerCut(m.random)
	} else {
		flushed = m.s.log.Written()
	}
	mustClose(m.t, m.s)
	m.disk = left
	rec := m.open()
	if rec.End < flushed {
		m.t.Fatalf("the log ends at %d, %d was sure", rec.End, flushed)
	}
	for n := len(m.log); n > 0 && m.log[n-1].end > rec.End; n-- {
		m.log = m.log[:n-1]
	}
	m.check()
}

// check compares all that can be read.
func (m *model) check() {
	queues := map[modelQueue][]modelSlot{}
	state := map[string]string{}
	for _, item := range m.log {
		switch {
		case item.drop:
			for id := range int32(2) {
				delete(queues, modelQueue{item.topic, id})
			}
		case item.change == nil:
			q := modelQueue{item.topic, item.queue}
			for part := range item.messages {
				queues[q] = append(queues[q], modelSlot{item, part})
			}
			for i, name := range item.light {
				if !slices.Contains(item.light[:i], name) {
					queues[modelQueue{name, 0}] = append(queues[modelQueue{name, 0}], modelSlot{item, 0})
				}
			}
		case item.change.Value == nil:
			delete(state, item.change.Key)
		default:
			state[item.change.Key] = string(item.change.Value)
		}
	}
	got := map[string]string{}
	if err := m.s.State("test", func(k string, v []byte) error { got[k] = string(v); return nil }); err != nil {
		m.t.Fatal(err)
	}
	if diff := cmp.Diff(state, got); diff != "" {
		m.t.Fatal("state ", diff)
	}
	m.checkPending()
	for _, topic := range modelTopics {
		for id := range int32(2) {
			m.checkQueue(m.s.Queue(topic, id), queues[modelQueue{topic, id}])
		}
		m.checkKeys(topic, m.log)
	}
}

// checkPending reads what waits in order, in steps of a few.
func (m *model) checkPending() {
	var want, got []string
	for _, item := range m.pending() {
		want = append(want, fmt.Sprint(pendingKey(item.position), "=", item.time))
	}
	from, step := "", 1+m.roll(4)
	for n := step; n == step; {
		n = 0
		err := m.s.StateFrom(pendingKind, from, step, func(key string, value []byte) error {
			got = append(got, fmt.Sprint(key, "=", string(value)))
			from = key + "\x00"
			n++
			return nil
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	if !slices.Equal(got, want) {
		m.t.Fatalf("pending %q, want %q", got, want)
	}
	for _, item := range m.pending() {
		if value, err := m.s.StateAt(pendingKind, pendingKey(item.position)); err != nil || string(value) != fmt.Sprint(item.time) {
			m.t.Fatalf("pending at %d: %q, %v, want %d", item.position, value, err, item.time)
		}
	}
	if value, err := m.s.StateAt(pendingKind, pendingKey(1)); err != nil || value != nil {
		m.t.Fatalf("what never waited: %q, %v", value, err)
	}
}

func (m *model) checkQueue(q *Queue, want []modelSlot) {
	if first, end := q.Bounds(); first != 0 || end != int64(len(want)) {
		m.t.Fatalf("%s/%d is [%d,%d), want %d messages", q.Topic, q.ID, first, end, len(want))
	}
	var records []string
	for _, slot := range want {
		if slot.part == 0 {
			records = append(records, slot.body)
		}
	}
	if got := readAll(m.t, m.s, q); !slices.Equal(got, records) {
		m.t.Fatalf("%s/%d has %d records, want %d, or others", q.Topic, q.ID, len(got), len(records))
	}
	if len(want) == 0 {
		return
	}
	at := m.random.IntN(len(want))
	var r Result // a read from the middle on, of at most one message
	if err := m.s.Read(&r, q, int64(at), ReadLimits{Messages: 1, Bytes: 1, Scanned: 10}, Match{}); err != nil || int(r.Next) != at+want[at].messagesLeft(q) {
		m.t.Fatalf("read at %d: next %d, %v", at, r.Next, err)
	}
	if !bytes.Contains(bytes.Join(r.Slices, nil), []byte(want[at].body)) {
		m.t.Fatalf("%s/%d offset %d is not %.20q", q.Topic, q.ID, at, want[at].body)
	}
	if start := at - want[at].part; len(r.Offsets) != 1 || int(r.Offsets[0]) != start {
		m.t.Fatalf("%s/%d offset %d is in the record at %v, want %d", q.Topic, q.ID, at, r.Offsets, start)
	}
	r.Release()
	t := want[at].time + int64(m.random.IntN(3)) - 1
	lower := slices.IndexFunc(want, func(i modelSlot) bool { return i.time >= t })
	if lower < 0 {
		lower = len(want)
	}
	if got, err := m.s.OffsetByTime(q, t, false); err != nil || got != int64(lower) {
		m.t.Fatalf("%s/%d at time %d: offset %d, want %d, %v", q.Topic, q.ID, t, got, lower, err)
	}
}

// messagesLeft counts the messages of the slot's record in a queue from this one on.
func (s *modelSlot) messagesLeft(q *Queue) int {
	if q.Topic != s.topic {
		return 1
	}
	return s.messages - s.part
}

// checkKeys compares where the key index finds messages, newest first; those of deleted topics are in the log still.
func (m *model) checkKeys(topic string, log []modelItem) {
	key := m.key()
	var want, got []string
	for _, item := range slices.Backward(log) {
		if item.topic == topic && item.key == key {
			want = append(want, item.body)
		}
	}
	err := m.s.FindKey(topic, key, 0, 1<<60, func(r *message.Record, _ []byte) bool {
		got = append(got, string(r.Body))
		return true
	})
	if err != nil || !slices.Equal(got, want) {
		m.t.Fatalf("key %s of %s: %d messages, want %d, %v", key, topic, len(got), len(want), err)
	}
}

func TestTheStoreIsAsTheModelSays(t *testing.T) { rapid.Check(t, runModel) }

func FuzzStore(f *testing.F) { f.Fuzz(rapid.MakeFuzz(runModel)) }
