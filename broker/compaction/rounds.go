package compaction

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/apogeemq/apogee/store"
)

// Config says what is compacted, and when.
type Config struct {
	Store *store.Store
	// Topics returns the names of the compaction topics.
	Topics func() []string
	// Interval is the pause between rounds, and so the age that a message has at least when a newer one of its key takes it away
	// (compactionScheduleInternal).
	Interval func() time.Duration
	Logger   *slog.Logger
}

// Rounds has queues compacted.
type Rounds struct {
	c    Config
	wake chan struct{}

	mu   sync.Mutex // guards plan
	plan Plan

	// of the goroutine alone
	ends    map[*store.Queue]int64 // of the queues, as the last round found them
	refused bool                   // the last round was; logged once
	stop    <-chan struct{}
}

// New makes it; nothing happens before Start.
func New(c Config) *Rounds { return &Rounds{c: c, wake: make(chan struct{}, 1)} }

// NeededFrom is the store's Hold: from which log position on records are still needed. What is to be left of what stands before wanted is
// copied in the course of time. It asks nobody: who waits for a segment, which retention's goroutine makes, may hold the table of topics.
func (r *Rounds) NeededFrom(wanted int64) int64 {
	r.mu.Lock()
	from := r.plan.NeededFrom(wanted)
	r.mu.Unlock()
	if from < wanted {
		r.Wake()
	}
	return from
}

// Wake has the rounds look at what is to do: another interval holds, perhaps.
func (r *Rounds) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// age compacts what was there when the last round began.
func (r *Rounds) age() error {
	before := r.ends
	r.ends = map[*store.Queue]int64{}
	return r.each(func(q *store.Queue) error {
		_, r.ends[q] = q.Bounds()
		return r.repeat(func() (bool, error) { return r.c.Store.Compact(q, before[q]) })
	})
}

// retire compacts all that stands before a log position, and copies what is left of it.
func (r *Rounds) retire(before int64) error {
	return r.each(func(q *store.Queue) error {
		err := r.repeat(func() (bool, error) { return r.c.Store.CompactBefore(q, before) })
		next := int64(0)
		if err != nil {
			return err
		}
		return r.repeat(func() (more bool, err error) {
			next, err = r.c.Store.CarryCompacted(q, next, before)
			return next >= 0, err
		})
	})
}

// errStopped ends a round because the broker stops.
var errStopped = errors.New("compaction stops")

// each calls fn for every queue. A topic that is deleted meanwhile needs nothing any more.
func (r *Rounds) each(fn func(q *store.Queue) error) error {
	var failed error
	for _, topic := range r.c.Topics() {
		for _, q := range r.c.Store.QueuesOf(topic) {
			if err := fn(q); errors.Is(err, errStopped) {
				return err
			} else if err != nil && !errors.Is(err, store.ErrEnded) {
				failed = err
			}
		}
	}
	return failed
}

// repeat calls step until there is no more to do, with pauses.
func (r *Rounds) repeat(step func() (more bool, err error)) error {
	for {
		more, err := step()
		if err != nil || !more {
			return err
		}
		if !r.rest(stepPause) {
			return errStopped
		}
	}
}

// note logs that a round could not be made, once.
func (r *Rounds) note(err error) {
	if err != nil && !r.refused && !errors.Is(err, errStopped) {
		r.c.Logger.Error("queues cannot be compacted; it is tried again until they can", "error", err)
	}
	r.refused = err != nil
}

// Start begins the rounds; they end when stop is closed.
func (r *Rounds) Start(stop <-chan struct{}, wait *sync.WaitGroup) {
	r.stop = stop
	wait.Add(1)
	r.start(wait)
}
