package server

import (
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// syncsSampled is how many syncs of the log are waited for before the node says what one takes: those that it makes anyway.
	syncsSampled = 100
	// slowSync is from how long a sync on is said to be slow: a sender that waits for each answer sends fewer than 200 messages a second.
	slowSync = 5 * time.Millisecond
)

// syncTimes measures what durability costs on this disk. Calls of note follow one another.
type syncTimes struct {
	log   *slog.Logger
	all   prometheus.Histogram
	first []time.Duration // nil once they have been told
}

// newSyncTimes returns one that says in the log what the first syncs took if senders wait for them.
func newSyncTimes(awaited bool, log *slog.Logger) *syncTimes {
	s := &syncTimes{log: log, all: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "apogee_log_sync_seconds", Help: "How long it took to bring what was written to the commit log to the disk (fdatasync).",
		Buckets: []float64{50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 1},
	})}
	if awaited {
		s.first = make([]time.Duration, 0, syncsSampled)
	}
	return s
}

func (s *syncTimes) note(took time.Duration) {
	s.all.Observe(took.Seconds())
	if s.first == nil {
		return
	}
	if s.first = append(s.first, took); len(s.first) == syncsSampled {
		slices.Sort(s.first)
		s.tell(s.first[syncsSampled/2-1], s.first[syncsSampled*99/100-1])
		s.first = nil
	}
}

func (s *syncTimes) tell(p50, p99 time.Duration) {
	if p50 < slowSync {
		s.log.Info("what durability costs: each send waits for a sync of the disk, which it shares with those beside it", "syncs", syncsSampled, "p50", p50, "p99", p99)
		return
	}
	s.log.Warn("the disk is slow to sync, and each send waits for it, together with those beside it: send more of them at a time, put --dir on a disk "+
		"whose cache outlives a power cut, or let a power cut lose the last messages with --flush-disk-type ASYNC_FLUSH",
		"syncs", syncsSampled, "p50", p50, "p99", p99, "slowFrom", slowSync)
}
