package compaction

import (
	"sync"
	"time"
)

// stepPause bounds the rate: at most 2048 messages, or 1 MiB of copies, each time.
const stepPause = 10 * time.Millisecond

func (r *Rounds) start(wait *sync.WaitGroup) {
	go func() {
		defer wait.Done()
		r.run()
	}()
}

func (r *Rounds) run() {
	began := time.Now()
	elapsed := func() int64 { return time.Since(began).Milliseconds() }
	for {
		r.mu.Lock()
		do, at := r.plan.Next(elapsed(), r.c.Interval().Milliseconds())
		r.mu.Unlock()
		switch do {
		case Age:
			r.note(r.age())
		case Retire:
			err := r.retire(at)
			r.note(err)
			r.mu.Lock()
			r.plan.Retired(at, elapsed(), err)
			r.mu.Unlock()
			if err == nil {
				r.c.Store.RetainNow()
			}
		case Rest:
			select {
			case <-time.After(time.Duration(at-elapsed()) * time.Millisecond):
			case <-r.wake:
			case <-r.stop:
				return
			}
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
