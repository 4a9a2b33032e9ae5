package bench

import (
	"context"
	"time"
)

// Progress is told to an Observer a few times per second.
type Progress struct {
	Phase    string // warm-up, fill, measure
	Elapsed  time.Duration
	Total    time.Duration // 0 when the end is not a time
	Messages int64
	Of       int64   // how many there will be; 0 when that is not known
	Rate     float64 // of the last interval
}

// Observer is told how a workload goes on; nil is allowed.
type Observer func(Progress)

const (
	progressInterval = 200 * time.Millisecond
	// A warm-up is over when a window's rate is less than 2% above the best before it.
	stableWindow = 5 * time.Second
	stableRise   = 1.02
)

// watcher samples a counter, for the observer and for the end of a warm-up.
type watcher struct {
	observe Observer
	counter func() int64
	want    int64 // at which the counter ends; 0: at none
}

// window runs for d, or until done is closed, or until the rate is stable. It returns how long that took.
func (w watcher) window(ctx context.Context, phase string, d time.Duration, untilStable bool, done <-chan struct{}) (time.Duration, error) {
	start := time.Now()
	first := w.counter()
	last, lastAt := first, start
	var steady stability
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	end := make(<-chan time.Time)
	if d > 0 {
		end = time.After(d)
	}
	for {
		select {
		case <-ctx.Done():
			return time.Since(start), ctx.Err()
		case <-done:
			return time.Since(start), nil
		case <-end:
			return time.Since(start), nil
		case <-tick.C:
		}
		now, n := time.Now(), w.counter()
		if w.observe != nil {
			w.observe(Progress{phase, now.Sub(start), d, n - first, w.want, float64(n-last) / now.Sub(lastAt).Seconds()})
		}
		last, lastAt = n, now
		if untilStable && steady.sample(now.Sub(start), n-first) {
			return now.Sub(start), nil
		}
	}
}

// stability decides when a rate stops rising, from samples of a running total.
type stability struct {
	at    time.Duration
	total int64
	best  float64
}

// sample returns true at the end of the first window that is not faster than the best one before it.
func (s *stability) sample(at time.Duration, total int64) bool {
	if at-s.at < stableWindow {
		return false
	}
	rate := float64(total-s.total) / (at - s.at).Seconds()
	s.at, s.total = at, total
	if s.best > 0 && rate < s.best*stableRise {
		return true
	}
	s.best = max(s.best, rate)
	return false
}
