package delay

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/view"
)

// momentsShell drives the moments of package timer: one goroutine follows the timers' topic and appends what is due. What others tell it are
// functions that it runs.
type momentsShell struct {
	mailbox[func()]
	s               *Delays
	queue           *store.Queue // of the timers' topic
	messages, bytes atomic.Int64 // that wait
	known           atomic.Int64 // offset in the queue before which nothing waits
	late            *traffic.Histogram

	// of the goroutine alone
	moments *timer.Moments
	next    int64 // offset in the queue up to which all is told
	watched bool
	topics  map[string]string // of what waits, each once
	events  []func()
	due     []timer.Moment
	items   []timer.Moment
	entries []view.Entry
	result  store.Result
	carry   carrier
	refused bool // the last append was; logged once
}

func newMomentsShell(d *Delays) *momentsShell {
	t := &momentsShell{mailbox: newMailbox[func()](), s: d, topics: map[string]string{}, late: newLateness(), queue: d.c.Store.Queue(message.TopicTimerWheel, 0)}
	end, _ := d.c.Store.LastRecord()
	_, t.next = t.queue.Bounds()
	t.moments = timer.NewMoments(end, d.c.Count)
	return t
}

func (t *momentsShell) turn() (worked bool, wake int64) {
	// What is told now was appended before: the queue shows it first.
	t.events = t.read(t.events)
	failed := t.follow()
	if failed != nil {
		t.complain("the index of timed messages cannot be read", failed)
	}
	for _, f := range t.events {
		f()
	}
	clear(t.events)
	worked = t.load() || len(t.events) > 0
	t.due, wake = t.moments.Step(t.s.now(), t.due[:0])
	if len(t.due) > 0 {
		t.perform(t.due)
		worked = true
	}
	worked = t.carryOn() || worked
	if rest := t.carry.restUntil; t.carry.before > 0 && !t.carry.busy && (wake == timer.Never || rest < wake) {
		wake = rest
	}
	if worked = worked || t.count(); !worked && failed == nil && !t.watched {
		t.watched = t.queue.Wait(t, t.next)
		worked = !t.watched
	}
	if retry := t.s.now().Elapsed + retryMS; failed != nil && (wake == timer.Never || retry < wake) {
		wake = retry
	}
	messages, bytes := t.moments.Count()
	t.messages.Store(messages)
	t.bytes.Store(bytes)
	return worked, wake
}

// Arrived implements the queue's Waiter.
func (t *momentsShell) Arrived(int64) bool {
	t.tell(func() { t.watched = false })
	return true
}

func (t *momentsShell) complain(what string, err error) {
	if !t.refused {
		t.s.c.Logger.Error(what+"; it is tried again until it can", "error", err)
	}
	t.refused = true
}

// retryMS is the pause after the index could not be read.
const retryMS = 1000

// followMax is how many new entries of the queue one turn takes.
const followMax = 8192

// follow takes what is new in the queue.
func (t *momentsShell) follow() (err error) {
	for told := 0; told < followMax; {
		first, end := t.queue.Bounds()
		if t.next = max(t.next, first); t.next >= end {
			return nil
		}
		if t.entries, err = t.queue.Entries(t.entries[:0], t.next, followMax); err != nil {
			return err
		}
		for _, e := range t.entries {
			if !e.Hole() && e.TagsCode != never {
				t.moments.Added(timer.Moment{Key: timer.Key{Due: e.TagsCode, Position: e.Position}, Size: e.Size})
			}
		}
		t.next += int64(len(t.entries))
		told += len(t.entries)
	}
	return nil
}

// waiting reads from the state up to n of what waits from a key on, and returns the last key that it has read. What the log does not hold any
// more is forgotten: it had come to its end when its segment went, and is met again where the view was made from an older base.
func (t *momentsShell) waiting(from timer.Key, n int) (items []timer.Moment, last timer.Key, all bool, err error) {
	read, first := 0, t.s.c.Store.Log().First()
	var gone []timer.Moment
	items = t.items[:0]
	err = t.s.c.Store.StateFrom(KindMoments, keyOf(from), n, func(key string, value []byte) error {
		m, topic, err := parseMoment(key, value)
		m.Topic = t.topic(topic)
		if m.Position < first {
			gone = append(gone, m)
		} else {
			items = append(items, m)
		}
		last = m.Key
		read++
		return err
	})
	if len(gone) > 0 { // where this fails, they are met again
		_ = t.s.c.Store.UpdateState(KindMoments, waitEnds(gone), func(error) {})
	}
	t.items = items
	return items, last, read < n, err
}

// topicsMax bounds the topics whose names are kept.
const topicsMax = 1 << 16

// topic returns a topic's name in memory that all messages of it share.
func (t *momentsShell) topic(name []byte) string {
	kept, ok := t.topics[string(name)]
	if !ok {
		if len(t.topics) >= topicsMax {
			clear(t.topics)
		}
		kept = string(name)
		t.topics[kept] = kept
	}
	return kept
}

// load reads what falls due next, where that is wanted.
func (t *momentsShell) load() bool {
	now := t.s.now()
	from, wanted := t.moments.Load(now)
	if !wanted {
		return false
	}
	items, last, all, err := t.waiting(from, timer.MomentsLoad)
	if err != nil {
		t.complain("timed messages cannot be looked up", err)
		t.moments.LoadFailed(now)
		return false
	}
	t.moments.Loaded(items, last, all)
	return true
}

// count counts some of what waited at the start; false when all is, or nothing can be read.
func (t *momentsShell) count() bool {
	from, more := t.moments.Uncounted()
	if !more {
		return false
	}
	items, last, all, err := t.waiting(from, timer.MomentsLoad)
	if err != nil {
		t.complain("timed messages cannot be counted", err)
		return false
	}
	t.moments.Counted(items, last, all)
	return true
}

// perform delivers what is due, and does what recalls ask for.
func (t *momentsShell) perform(due []timer.Moment) {
	recalls := 0
	for recalls < len(due) && due[recalls].Due <= atOnce {
		recalls++
	}
	for _, m := range due[:recalls] {
		t.recall(m)
	}
	if due = slices.Clone(due[recalls:]); len(due) == 0 {
		return
	}
	if err := t.deliver(due); err != nil {
		t.complain("timed messages cannot be delivered", err)
		t.moments.Refused(due, t.s.now())
	}
}

// record returns a copy of a record; store.ErrNotFound when there is none any more.
func (t *momentsShell) record(m timer.Moment) ([]byte, error) {
	raw := make([]byte, m.Size)
	return raw, t.s.read1(&t.result, raw, m, false)
}

const (
	// nearBytes is how far apart records may lie that are read together, togetherMin how many of them there must be: a read of a block of
	// the log takes as long as those of so many records.
	nearBytes   = 256 << 10
	togetherMin = 4
)

// records returns copies of records, in the order of items, and why one could not be read. What it holds of the log meanwhile is in result.
func (d *Delays) records(result *store.Result, items []timer.Moment) (raw [][]byte, errs []error) {
	size, order := 0, make([]int, len(items))
	for i, m := range items {
		order[i], size = i, size+int(m.Size)
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(items[a].Position, items[b].Position) })
	raw, errs = make([][]byte, len(items)), make([]error, len(items))
	memory := make([]byte, size)
	for first := 0; first < len(order); {
		last := first
		for last+1 < len(order) && items[order[last+1]].Position-items[order[first]].Position < nearBytes {
			last++
		}
		for _, i := range order[first : last+1] {
			n := items[i].Size
			raw[i], memory = memory[:n:n], memory[n:]
			errs[i] = d.read1(result, raw[i], items[i], last-first+1 < togetherMin)
		}
		first = last + 1
	}
	return raw, errs
}

// read1 fills raw with a record.
func (d *Delays) read1(result *store.Result, raw []byte, m timer.Moment, apart bool) error {
	if apart {
		return d.c.Store.ReadApart(raw, m.Position)
	}
	defer result.Release()
	if err := d.c.Store.ReadPosition(result, m.Position, m.Size); err != nil {
		return err
	}
	for _, s := range result.Slices {
		raw = raw[copy(raw, s):]
	}
	return nil
}

// deliver appends due messages to their queues. After nil the goroutine will be told what became of it. What cannot be delivered ever is
// passed over.
func (t *momentsShell) deliver(due []timer.Moment) error {
	batch := newDelivery()
	raw, errs := t.s.records(&t.result, due)
	var stored, lost []timer.Moment
	for i, m := range due {
		err := errs[i]
		if err == nil {
			err = batch.add(t.s, raw[i])
			m.Topic = t.topic(batch.topic)
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil {
			t.s.c.Logger.Error("a timed message is passed over", "position", m.Position, "error", err)
			lost = append(lost, m)
			continue
		}
		stored = append(stored, m)
	}
	if len(lost) > 0 {
		err := t.s.c.Store.UpdateState(KindMoments, waitEnds(lost), func(err error) { t.tell(func() { t.delivered(lost, err) }) })
		if err != nil {
			return err
		}
	}
	if len(stored) == 0 {
		return nil
	}
	err := batch.append(t.s.c.Store, KindMoments, waitEnds(stored), func(err error) {
		t.tell(func() { t.delivered(stored, err) })
	})
	if err != nil { // the lost are settled by their own record
		t.moments.Refused(stored, t.s.now())
		t.complain("timed messages cannot be delivered", err)
	}
	return nil
}

// waitEnds are the changes of the state when messages wait no more.
func waitEnds(items []timer.Moment) []store.Mutation {
	changes := make([]store.Mutation, len(items))
	for i, m := range items {
		changes[i].Key = keyOf(m.Key)
	}
	return changes
}

// delivered takes the end of a delivery.
func (t *momentsShell) delivered(items []timer.Moment, err error) {
	now := t.s.now()
	if err != nil {
		t.moments.Refused(items, now)
		return
	}
	t.refused = false
	t.moments.Stored(items)
	for _, m := range items {
		if m.Due > atOnce {
			t.late.Note(time.Duration(now.Wall-m.Due) * time.Millisecond)
		}
	}
}

// recall deletes what the recall at a position names. That it has been done is one change of state, with the deletions.
func (t *momentsShell) recall(m timer.Moment) {
	targets, err := t.targets(m)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	letGo := func(recalled bool) {
		for _, target := range targets {
			t.moments.LetGo(target, recalled)
		}
	}
	if err == nil {
		err = t.s.c.Store.UpdateState(KindMoments, waitEnds(append([]timer.Moment{m}, targets...)), func(err error) {
			t.tell(func() {
				letGo(err == nil)
				t.delivered([]timer.Moment{m}, err)
			})
		})
	}
	if err != nil {
		letGo(false)
		t.complain("timed messages cannot be recalled", err)
		t.moments.Refused([]timer.Moment{m}, t.s.now())
	}
}

// targets returns what a recall deletes, held: messages that wait with its unique key, in its topic, for its moment.
func (t *momentsShell) targets(m timer.Moment) (targets []timer.Moment, err error) {
	raw, err := t.record(m)
	if err != nil {
		return nil, err
	}
	recall, err := decodeWhole(raw)
	if err != nil {
		return nil, store.ErrNotFound
	}
	key := message.Property(recall.Properties, message.PropTimerDelete)
	topic := message.Property(recall.Properties, message.PropRealTopic)
	if _, after, ok := cutTopic(key, topic); ok {
		key = after
	}
	out, _ := protocol.ParseInt(message.Property(recall.Properties, message.PropTimerOut))
	var failed error
	err = t.s.c.Store.FindKey(message.TopicTimerWheel, string(key), 0, math.MaxInt64, func(r *message.Record, raw []byte) bool {
		at, _ := protocol.ParseInt(message.Property(r.Properties, message.PropTimerOut))
		switch {
		case string(message.Property(r.Properties, message.PropUniqueKey)) != string(key),
			string(message.Property(r.Properties, message.PropRealTopic)) != string(topic),
			message.Property(r.Properties, message.PropTimerDelete) != nil, moved(r), t.s.out(at+1) != t.s.out(out+1):
			return true
		}
		target := timer.Moment{Key: timer.Key{Due: timedDue(r), Position: r.PhysicalOffset}, Size: int32(len(raw)), Topic: t.topic(topic)}
		var value []byte
		if value, failed = t.s.c.Store.StateAt(KindMoments, keyOf(target.Key)); value != nil && t.moments.Hold(target) {
			targets = append(targets, target)
		}
		return failed == nil
	})
	return targets, errors.Join(err, failed)
}

// cutTopic takes the topic off a key to delete, which appendTopicForTimerDeleteKey puts before it.
func cutTopic(key, topic []byte) (before, after []byte, ok bool) {
	n := len(topic)
	if len(key) > n+1 && string(key[:n]) == string(topic) && key[n] == '+' {
		return key[:n], key[n+1:], true
	}
	return nil, nil, false
}
