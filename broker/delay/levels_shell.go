package delay

import (
	"math"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/view"
)

// levelsShell drives the levels of package timer: one goroutine reads the schedule queues and appends what is due.
type levelsShell struct {
	mailbox[delayEvent]
	s      *Delays
	levels *timer.Levels
	queues []*store.Queue

	// of the goroutine alone
	result  store.Result
	items   []timer.Item
	entries []view.Entry
	events  []delayEvent
	effects []timer.Effect
	refused bool // the last append was; logged once
}

// delayEvent is the end of a delivery or move, news of a queue, or a wish of retention's.
type delayEvent struct {
	effect timer.Effect
	err    error
	topics []string // that moved messages are for
	grown  bool     // the queue of the effect's level has grown
	move   int64    // log position: what waits before it is to wait elsewhere
}

func newLevelsShell(d *Delays) (*levelsShell, error) {
	if end, _ := d.c.Store.LastRecord(); end == 0 {
		// A record cannot name one at position 0 as its source: a log does not begin with a message. Where this is refused, so are those.
		_ = d.c.Store.UpdateState(KindLevels, []store.Mutation{Progress(0, 0)}, func(error) {})
	}
	next, err := d.LevelProgress()
	if err != nil {
		return nil, err
	}
	l := &levelsShell{s: d, mailbox: newMailbox[delayEvent]()}
	delays := make([]int64, len(next))
	for i := range next {
		delays[i] = d.c.Levels.of(int32(i)).Milliseconds()
		q := d.c.Store.Queue(message.TopicSchedule, int32(i))
		_, end := q.Bounds()
		next[i] = min(next[i], end)
		l.queues = append(l.queues, q)
	}
	l.levels = timer.New(delays, next)
	return l, nil
}

func (l *levelsShell) turn() (worked bool, wake int64) {
	l.events = l.read(l.events[:0])
	for _, e := range l.events {
		l.take(e)
	}
	l.look()
	l.effects, wake = l.levels.Step(l.s.now(), l.effects[:0])
	for _, e := range l.effects {
		l.perform(e)
	}
	return len(l.effects) > 0, wake
}

func (l *levelsShell) take(e delayEvent) {
	switch {
	case e.move > 0:
		l.moveBefore(e.move)
	case e.grown: // look finds how far
		l.levels.Woken(e.effect.Level)
	case e.err != nil:
		l.levels.Refused(e.effect, l.s.now())
	default:
		l.levels.Stored(e.effect)
		for _, topic := range e.topics {
			l.s.c.Count(topic, 1)
		}
	}
}

// look notes how far the queues reach that have something waiting.
func (l *levelsShell) look() {
	for i, q := range l.queues {
		if l.levels.Waiting(i) {
			_, end := q.Bounds()
			l.levels.Seen(i, end)
		}
	}
}

func (l *levelsShell) perform(e timer.Effect) {
	switch e.Action {
	case timer.Load:
		l.load(e)
	case timer.Watch:
		if !l.queues[e.Level].Wait(&delayWaiter{l, e}, e.Offset) {
			l.levels.Woken(e.Level)
		}
	case timer.Deliver, timer.Move:
		do := l.deliver
		if e.Action == timer.Move {
			do = l.move
		}
		if err := do(e); err != nil {
			if !l.refused {
				l.s.c.Logger.Error("delayed messages cannot be delivered or taken along; they are tried again until they can", "level", e.Level+1, "error", err)
			}
			l.refused = true
			l.levels.Refused(e, l.s.now())
			return
		}
		l.refused = false
	}
}

// delayWaiter wakes the goroutine when an empty schedule queue gets a message.
type delayWaiter struct {
	l *levelsShell
	e timer.Effect
}

// Arrived implements the queue's Waiter.
func (w *delayWaiter) Arrived(int64) bool {
	w.l.tell(delayEvent{effect: w.e, grown: true})
	return true
}

func (l *levelsShell) load(e timer.Effect) {
	q := l.queues[e.Level]
	first, _ := q.Bounds()
	first = max(first, e.Offset)
	var err error
	l.entries, err = q.Entries(l.entries[:0], first, e.Count)
	if err != nil || (len(l.entries) == 0 && first == e.Offset) {
		l.s.c.Logger.Error("the index of delayed messages cannot be read; it is tried again", "level", e.Level+1, "offset", first, "error", err)
		l.levels.LoadFailed(e, l.s.now())
		return
	}
	l.items = l.items[:0]
	for _, entry := range l.entries {
		item := timer.Item{Due: entry.TagsCode, Size: entry.Size}
		if entry.Hole() { // a damaged record left a hole: passed over at once
			item.Due = math.MinInt64
		}
		l.items = append(l.items, item)
	}
	l.levels.Loaded(e, first, l.items)
}

// deliver appends a run of due messages to their queues. After nil the goroutine will be told what became of it.
func (l *levelsShell) deliver(e timer.Effect) error {
	batch := newDelivery()
	defer l.result.Release()
	last := int64(-1)
	for offset := e.Offset; offset < e.Offset+int64(e.Count); offset++ {
		raw, err := l.s.c.Store.ReadOne(&l.result, l.queues[e.Level], offset)
		if err != nil {
			return err
		}
		if raw == nil {
			continue
		}
		if err := batch.add(l.s, raw); err != nil {
			l.s.c.Logger.Error("a delayed message is passed over", "level", e.Level+1, "offset", offset, "error", err)
			continue
		}
		last = offset
	}
	if len(batch.Entries) == 0 {
		l.tell(delayEvent{effect: e})
		return nil
	}
	return batch.append(l.s.c.Store, KindLevels, []store.Mutation{Progress(int32(e.Level), last+1)},
		func(err error) { l.tell(delayEvent{effect: e, err: err}) })
}
