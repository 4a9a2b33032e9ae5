package broker

import (
	"bytes"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/view"
)

// delayShell drives package timer: one goroutine reads the schedule queues and appends what is due.
type delayShell struct {
	b       *Broker
	levels  *timer.Levels
	queues  []*store.Queue
	started time.Time

	mu     sync.Mutex // guards what follows: what the log's goroutine tells
	events []delayEvent
	free   []*delayBatch
	nudge  chan struct{}

	// of the goroutine alone
	result  store.Result
	items   []timer.Item
	entries []view.Entry
	refused bool // the last append was; logged once
}

// delayEvent is the end of a delivery, or news of a queue.
type delayEvent struct {
	effect timer.Effect
	err    error
	grown  bool // the queue of the effect's level has grown
}

// delayBatch is one delivery on its way.
type delayBatch struct {
	store.Batch
	arena  []byte
	last   store.WithState
	effect timer.Effect
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
	d := &delayShell{b: b, started: b.c.Now(), nudge: make(chan struct{}, 1)}
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

func (d *delayShell) now() timer.Time {
	now := d.b.c.Now()
	return timer.Time{Wall: now.UnixMilli(), Elapsed: now.Sub(d.started).Milliseconds()}
}

// tell hands an event to the goroutine. It never blocks: the log's goroutine calls it.
func (d *delayShell) tell(e delayEvent, done *delayBatch) {
	d.mu.Lock()
	d.events = append(d.events, e)
	if done != nil {
		d.free = append(d.free, done)
	}
	d.mu.Unlock()
	select {
	case d.nudge <- struct{}{}:
	default:
	}
}

func (d *delayShell) run() {
	defer d.b.wait.Done()
	var events []delayEvent
	var effects []timer.Effect
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-d.nudge:
		case <-alarm.C:
		case <-d.b.stop:
			return
		}
		for again := true; again && !d.stopped(); {
			d.mu.Lock()
			events, d.events = d.events, events[:0]
			d.mu.Unlock()
			for _, e := range events {
				d.take(e)
			}
			d.look()
			now, wake := d.now(), int64(0)
			effects, wake = d.levels.Step(now, effects[:0])
			for _, e := range effects {
				d.perform(e)
			}
			if again = len(effects) > 0; !again && wake != timer.Never {
				alarm.Reset(time.Duration(max(wake-now.Elapsed, 1)) * time.Millisecond)
			}
		}
	}
}

func (d *delayShell) stopped() bool {
	select {
	case <-d.b.stop:
		return true
	default:
		return false
	}
}

func (d *delayShell) take(e delayEvent) {
	switch {
	case e.grown: // look finds how far
		d.levels.Woken(e.effect.Level)
	case e.err != nil:
		d.levels.Refused(e.effect, d.now())
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
			d.levels.Refused(e, d.now())
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
	w.d.tell(delayEvent{effect: w.e, grown: true}, nil)
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
		d.levels.LoadFailed(e, d.now())
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
	batch := d.batch()
	batch.effect = e
	defer d.result.Release()
	last := int64(-1)
	for offset := e.Offset; offset < e.Offset+int64(e.Count); offset++ {
		raw, err := d.read(e.Level, offset)
		if err != nil {
			return err
		}
		if raw == nil {
			continue
		}
		if err := d.add(batch, raw); err != nil {
			d.b.log.Error("a delayed message is passed over", "level", e.Level+1, "offset", offset, "error", err)
			continue
		}
		last = offset
	}
	if len(batch.Entries) == 0 {
		d.tell(delayEvent{effect: e}, batch)
		return nil
	}
	// The records are applied together, so one change of the state stands for all.
	end := &batch.Entries[len(batch.Entries)-1]
	batch.last = store.WithState{
		Queue: end.Target.(*store.Queue), Kind: kindDelay, Changes: []store.Mutation{delayProgress(int32(e.Level), last+1)},
	}
	end.Target = &batch.last
	batch.Done = func(_ *store.Batch, err error) { d.tell(delayEvent{effect: batch.effect, err: err}, batch) }
	return d.b.store.Append(&batch.Batch)
}

// batch returns an empty one.
func (d *delayShell) batch() *delayBatch {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.free)
	if n == 0 {
		return &delayBatch{}
	}
	batch := d.free[n-1]
	d.free = d.free[:n-1]
	clear(batch.Entries)
	batch.Entries, batch.arena = batch.Entries[:0], batch.arena[:0]
	return batch
}

// read returns the record at an offset of a schedule queue, valid until the result's release; nil where there is none any more.
func (d *delayShell) read(level int, offset int64) ([]byte, error) {
	err := d.b.store.Read(&d.result, d.queues[level], offset, store.ReadLimits{Messages: 1, Bytes: math.MaxInt32, Scanned: 1}, nil)
	switch {
	case err != nil:
		return nil, err
	case d.result.Status == store.NoMatch || d.result.Status == store.OffsetMoved:
		return nil, nil
	case d.result.Status != store.Found:
		return nil, fmt.Errorf("nothing at offset %d of schedule queue %d", offset, level)
	case len(d.result.Slices) == 1:
		return d.result.Slices[0], nil
	}
	return bytes.Join(d.result.Slices, nil), nil
}

// add adds the delivery of one stored record.
func (d *delayShell) add(batch *delayBatch, raw []byte) error {
	source, _, err := message.Decode(raw)
	if err != nil {
		return err
	}
	if err := source.Verify(raw); err != nil {
		return err
	}
	var e store.Entry
	if e, batch.arena, err = d.b.deliveryOf(&source, batch.arena); err != nil {
		return err
	}
	batch.Entries = append(batch.Entries, e)
	return nil
}
