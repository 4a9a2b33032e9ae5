package broker

import (
	"fmt"
	"math"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/view"
)

// delayShell drives the levels of package timer: one goroutine reads the schedule queues and appends what is due.
type delayShell struct {
	mailbox[delayEvent]
	b      *Broker
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

// delayEvent is the end of a delivery, or news of a queue.
type delayEvent struct {
	effect timer.Effect
	err    error
	grown  bool // the queue of the effect's level has grown
}

func newDelayShell(b *Broker) (*delayShell, error) {
	if end, _ := b.store.LastRecord(); end == 0 {
		// A record cannot name one at position 0 as its source: a log does not begin with a message. Where this is refused, so are those.
		_ = b.update(kindDelay, func(error) {}, delayProgress(0, 0))
	}
	next, err := b.loadDelayProgress()
	if err != nil {
		return nil, err
	}
	d := &delayShell{b: b, mailbox: newMailbox[delayEvent]()}
	delays := make([]int64, len(next))
	for i := range next {
		delays[i] = b.c.DelayLevels.of(int32(i)).Milliseconds()
		q := b.store.Queue(message.TopicSchedule, int32(i))
		_, end := q.Bounds()
		next[i] = min(next[i], end)
		d.queues = append(d.queues, q)
	}
	d.levels = timer.New(delays, next)
	return d, nil
}

func (d *delayShell) turn() (worked bool, wake int64) {
	d.events = d.read(d.events[:0])
	for _, e := range d.events {
		d.take(e)
	}
	d.look()
	d.effects, wake = d.levels.Step(d.b.timerNow(), d.effects[:0])
	for _, e := range d.effects {
		d.perform(e)
	}
	return len(d.effects) > 0, wake
}

func (d *delayShell) take(e delayEvent) {
	switch {
	case e.grown: // look finds how far
		d.levels.Woken(e.effect.Level)
	case e.err != nil:
		d.levels.Refused(e.effect, d.b.timerNow())
	default:
		d.levels.Stored(e.effect)
	}
}

// look notes how far the queues reach that have something waiting.
func (d *delayShell) look() {
	for i, q := range d.queues {
		if d.levels.Waiting(i) {
			_, end := q.Bounds()
			d.levels.Seen(i, end)
		}
	}
}

func (d *delayShell) perform(e timer.Effect) {
	switch e.Action {
	case timer.Load:
		d.load(e)
	case timer.Watch:
		if !d.queues[e.Level].Wait(&delayWaiter{d, e}, e.Offset) {
			d.levels.Woken(e.Level)
		}
	case timer.Deliver:
		if err := d.deliver(e); err != nil {
			if !d.refused {
				d.b.log.Error("delayed messages cannot be delivered; they are tried again until they can", "level", e.Level+1, "error", err)
			}
			d.refused = true
			d.levels.Refused(e, d.b.timerNow())
			return
		}
		d.refused = false
	}
}

// delayWaiter wakes the goroutine when an empty schedule queue gets a message.
type delayWaiter struct {
	d *delayShell
	e timer.Effect
}

// Arrived implements the queue's Waiter.
func (w *delayWaiter) Arrived(int64) bool {
	w.d.tell(delayEvent{effect: w.e, grown: true})
	return true
}

func (d *delayShell) load(e timer.Effect) {
	q := d.queues[e.Level]
	first, _ := q.Bounds()
	first = max(first, e.Offset)
	var err error
	d.entries, err = q.Entries(d.entries[:0], first, e.Count)
	if err != nil || (len(d.entries) == 0 && first == e.Offset) {
		d.b.log.Error("the index of delayed messages cannot be read; it is tried again", "level", e.Level+1, "offset", first, "error", err)
		d.levels.LoadFailed(e, d.b.timerNow())
		return
	}
	d.items = d.items[:0]
	for _, entry := range d.entries {
		item := timer.Item{Due: entry.TagsCode, Size: entry.Size}
		if entry.Hole() { // a damaged record left a hole: passed over at once
			item.Due = math.MinInt64
		}
		d.items = append(d.items, item)
	}
	d.levels.Loaded(e, first, d.items)
}

// deliver appends a run of due messages to their queues. After nil the goroutine will be told what became of it.
func (d *delayShell) deliver(e timer.Effect) error {
	batch := newDelivery()
	defer d.result.Release()
	last := int64(-1)
	for offset := e.Offset; offset < e.Offset+int64(e.Count); offset++ {
		raw, err := d.record(e.Level, offset)
		if err != nil {
			return err
		}
		if raw == nil {
			continue
		}
		if err := batch.add(d.b, raw); err != nil {
			d.b.log.Error("a delayed message is passed over", "level", e.Level+1, "offset", offset, "error", err)
			continue
		}
		last = offset
	}
	if len(batch.Entries) == 0 {
		d.tell(delayEvent{effect: e})
		return nil
	}
	return batch.append(d.b.store, kindDelay, []store.Mutation{delayProgress(int32(e.Level), last+1)},
		func(err error) { d.tell(delayEvent{effect: e, err: err}) })
}

// record returns the record at an offset of a schedule queue, valid until the result's release; nil where there is none any more.
func (d *delayShell) record(level int, offset int64) ([]byte, error) {
	return d.b.readOne(&d.result, d.queues[level], offset)
}

// readOne returns the record at a queue's offset, valid until the result's release; nil where there is none any more.
func (b *Broker) readOne(result *store.Result, q *store.Queue, offset int64) ([]byte, error) {
	err := b.store.Read(result, q, offset, store.ReadLimits{Messages: 1, Bytes: math.MaxInt32, Scanned: 1}, store.Match{})
	switch {
	case err != nil:
		return nil, err
	case result.Status == store.NoMatch || result.Status == store.OffsetMoved:
		return nil, nil
	case result.Status != store.Found:
		return nil, fmt.Errorf("nothing at offset %d of queue %d, topic %s", offset, q.ID, q.Topic)
	}
	return whole(result.Slices), nil
}
