package compaction

import (
	"sync"
	"time"
)

const (
	// stepPause bounds the rate: at most 2048 messages, or 1 MiB of copies, each time.
	stepPause = 10 * time.Millisecond
	// retryPause is that after a round that failed.
	retryPause = time.Second
)

func (r *Rounds) start(wait *sync.WaitGroup) {
	go func() {
		defer wait.Done()
		r.run()
	}()
}

func (r *Rounds) run() {
	last := time.Now()
	for {
		var err error
		if before := r.wanted.Load(); before > r.safe.Load() {
			err = r.retire(before)
			r.note(err)
		}
		left := r.c.Interval() - time.Since(last)
		if left <= 0 {
			last = time.Now()
			aged := r.age()
			r.note(aged)
			left = r.c.Interval()
		}
		if err != nil {
			left = min(left, retryPause)
		}
		select {
		case <-time.After(left):
		case <-r.wake:
		case <-r.stop:
			return
		}
	}
}

// rest waits; false when the broker stops.
func (r *Rounds) rest(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.stop:
		return false
	}
}
