package broker

import (
	"errors"
	"math"
	"slices"
	"sync/atomic"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/view"
)

// timedShell drives the moments of package timer: one goroutine follows the timers' topic and appends what is due. What others tell it are
// functions that it runs.
type timedShell struct {
	mailbox[func()]
	b               *Broker
	queue           *store.Queue // of the timers' topic
	messages, bytes atomic.Int64 // that wait
	known           atomic.Int64 // offset in the queue before which nothing waits
	late            lateness

	// of the goroutine alone
	moments *timer.Moments
	next    int64 // offset in the queue up to which all is told
	watched bool
	events  []func()
	due     []timer.Moment
	items   []timer.Moment
	entries []view.Entry
	result  store.Result
	carry   carrier
	refused bool // the last append was; logged once
}

func newTimedShell(b *Broker) *timedShell {
	t := &timedShell{mailbox: newMailbox[func()](), b: b, queue: b.store.Queue(message.TopicTimerWheel, 0)}
	end, _ := b.store.LastRecord()
	_, t.next = t.queue.Bounds()
	t.moments = timer.NewMoments(end)
	return t
}

func (t *timedShell) turn() (worked bool, wake int64) {
	// What is told now was appended before: the queue shows it first.
	t.events = t.read(t.events)
	if err := t.follow(); err != nil {
		t.complain("the index of timed messages cannot be read", err)
	}
	for _, f := range t.events {
		f()
	}
	clear(t.events)
	worked = t.load() || len(t.events) > 0
	t.due, wake = t.moments.Step(t.b.timerNow(), t.due[:0])
	if len(t.due) > 0 {
		t.perform(t.due)
		worked = true
	}
	worked = t.carryOn() || worked
	if rest := t.carry.restUntil; t.carry.before > 0 && !t.carry.busy && (wake == timer.Never || rest < wake) {
		wake = rest
	}
	if !worked && !t.count() && !t.watched {
		t.watched = t.queue.Wait(t, t.next)
		worked = !t.watched
	}
	messages, bytes := t.moments.Count()
	t.messages.Store(messages)
	t.bytes.Store(bytes)
	return worked, wake
}

// Arrived implements the queue's Waiter.
func (t *timedShell) Arrived(int64) bool {
	t.tell(func() { t.watched = false })
	return true
}

func (t *timedShell) complain(what string, err error) {
	if !t.refused {
		t.b.log.Error(what+"; it is tried again until it can", "error", err)
	}
	t.refused = true
}

// followMax is how many new entries of the queue one turn takes.
const followMax = 8192

// follow takes what is new in the queue.
func (t *timedShell) follow() (err error) {
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

// waiting reads from the state up to n of what waits from a key on.
func (t *timedShell) waiting(from timer.Key, n int) (all bool, err error) {
	t.items = t.items[:0]
	err = t.b.store.StateFrom(kindTimer, keyOf(from), n, func(key string, value []byte) error {
		m, err := parseMoment(key, value)
		t.items = append(t.items, m)
		return err
	})
	return len(t.items) < n, err
}

// load reads what falls due next, where that is wanted.
func (t *timedShell) load() bool {
	now := t.b.timerNow()
	from, wanted := t.moments.Load(now)
	if !wanted {
		return false
	}
	all, err := t.waiting(from, timer.MomentsLoad)
	if err != nil {
		t.complain("timed messages cannot be looked up", err)
		t.moments.LoadFailed(now)
		return false
	}
	t.moments.Loaded(t.items, all)
	return true
}

// count counts some of what waited at the start; false when all is.
func (t *timedShell) count() bool {
	from, more := t.moments.Uncounted()
	if !more {
		return false
	}
	all, err := t.waiting(from, timer.MomentsLoad)
	if err == nil {
		t.moments.Counted(t.items, all)
	}
	t.tell(func() {}) // another turn
	return true
}

// perform delivers what is due, and does what recalls ask for.
func (t *timedShell) perform(due []timer.Moment) {
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
		t.moments.Refused(due, t.b.timerNow())
		return
	}
	t.refused = false
}

// record returns a copy of a record, at the end of arena; errGone when there is none that is whole.
func (t *timedShell) record(m timer.Moment, arena []byte) (raw, grown []byte, err error) {
	defer t.result.Release()
	if err := t.b.store.ReadPosition(&t.result, m.Position, m.Size); err != nil {
		return nil, arena, err
	}
	start := len(arena)
	for _, s := range t.result.Slices {
		arena = append(arena, s...)
	}
	return arena[start:len(arena):len(arena)], arena, nil
}

// deliver appends due messages to their queues. After nil the goroutine will be told what became of it. What cannot be delivered ever is
// passed over.
func (t *timedShell) deliver(due []timer.Moment) error {
	batch := newDelivery()
	size := 0
	for _, m := range due {
		size += int(m.Size)
	}
	records := make([]byte, 0, size)
	var ends, lost []store.Mutation
	var lostItems []timer.Moment
	for _, m := range due {
		var raw []byte
		var err error
		if raw, records, err = t.record(m, records); err == nil {
			err = batch.add(t.b, raw)
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		end := store.Mutation{Key: keyOf(m.Key)}
		if err == nil {
			ends = append(ends, end)
			continue
		}
		t.b.log.Error("a timed message is passed over", "position", m.Position, "error", err)
		lost, lostItems = append(lost, end), append(lostItems, m)
	}
	if err := t.forget(lost, lostItems); err != nil {
		return err
	}
	if len(ends) == 0 {
		return nil
	}
	stored := due
	if len(lost) > 0 {
		stored = slices.DeleteFunc(due, func(m timer.Moment) bool { return slices.Contains(lostItems, m) })
	}
	err := batch.append(t.b.store, kindTimer, ends, func(err error) {
		t.tell(func() { t.delivered(stored, err) })
	})
	if err != nil && len(lost) > 0 { // the lost are settled by their own record
		t.moments.Refused(stored, t.b.timerNow())
		t.complain("timed messages cannot be delivered", err)
		return nil
	}
	return err
}

// forget ends the wait of messages by a change of state alone.
func (t *timedShell) forget(changes []store.Mutation, items []timer.Moment) error {
	if len(changes) == 0 {
		return nil
	}
	return t.b.update(kindTimer, func(err error) { t.tell(func() { t.delivered(items, err) }) }, changes...)
}

// delivered takes the end of a delivery.
func (t *timedShell) delivered(items []timer.Moment, err error) {
	now := t.b.timerNow()
	if err != nil {
		t.moments.Refused(items, now)
		return
	}
	t.moments.Stored(items)
	for _, m := range items {
		if m.Due > atOnce {
			t.late.note(now.Wall - m.Due)
		}
	}
}

// recall deletes what the recall at a position names. That it has been done is one change of state, with the deletions.
func (t *timedShell) recall(m timer.Moment) {
	changes := []store.Mutation{{Key: keyOf(m.Key)}}
	targets, err := t.targets(m)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	for _, target := range targets {
		changes = append(changes, store.Mutation{Key: keyOf(target.Key)})
	}
	letGo := func(recalled bool) {
		for _, target := range targets {
			t.moments.LetGo(target, recalled)
		}
	}
	if err == nil {
		err = t.b.update(kindTimer, func(err error) {
			t.tell(func() {
				letGo(err == nil)
				t.delivered([]timer.Moment{m}, err)
			})
		}, changes...)
	}
	if err != nil {
		letGo(false)
		t.complain("timed messages cannot be recalled", err)
		t.moments.Refused([]timer.Moment{m}, t.b.timerNow())
	}
}

// targets returns what a recall deletes, held: messages that wait with its unique key, in its topic, for its moment.
func (t *timedShell) targets(m timer.Moment) (targets []timer.Moment, err error) {
	raw, _, err := t.record(m, nil)
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
	err = t.b.store.FindKey(message.TopicTimerWheel, string(key), 0, math.MaxInt64, func(r *message.Record, raw []byte) bool {
		at, _ := protocol.ParseInt(message.Property(r.Properties, message.PropTimerOut))
		switch {
		case string(message.Property(r.Properties, message.PropUniqueKey)) != string(key),
			string(message.Property(r.Properties, message.PropRealTopic)) != string(topic),
			message.Property(r.Properties, message.PropTimerDelete) != nil, t.b.out(at+1) != t.b.out(out+1):
			return true
		}
		target := timer.Moment{Key: timer.Key{Due: timedDue(r), Position: r.PhysicalOffset}, Size: int32(len(raw))}
		var value []byte
		if value, failed = t.b.store.StateAt(kindTimer, keyOf(target.Key)); value != nil && t.moments.Hold(target) {
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
