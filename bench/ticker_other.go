//go:build !linux

package bench

import "time"

// ticker wakes a sender at short intervals, as exactly as the runtime's timers can.
type ticker struct{ t *time.Ticker }

func newTicker(d time.Duration) (*ticker, error) { return &ticker{time.NewTicker(d)}, nil }

func (t *ticker) wait() (uint64, error) {
	<-t.t.C
	return 1, nil
}

func (t *ticker) close() { t.t.Stop() }
