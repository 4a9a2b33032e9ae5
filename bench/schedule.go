package bench

import "time"

// schedule says when each message of a sender should leave: message i at offset + i x interval. It does not know whether the server
// keeps up; that is the point of it.
type schedule struct {
	offset   time.Duration // of the first message, so that senders do not leave in step
	interval time.Duration
	total    int // messages of warm-up and measurement
	measured int // the first one that is measured
}

// newSchedule gives sender i of n its share of rate over warm-up and measurement.
func newSchedule(rate float64, i, n int, warmup, measure time.Duration) schedule {
	s := schedule{interval: time.Duration(float64(n) / rate * float64(time.Second))}
	s.interval = max(s.interval, 1)
	s.offset = s.interval * time.Duration(i) / time.Duration(n)
	s.measured = s.before(warmup)
	s.total = s.before(warmup + measure)
	return s
}

// before returns how many messages should have left before t.
func (s schedule) before(t time.Duration) int {
	if t <= s.offset {
		return 0
	}
	return int((t - s.offset + s.interval - 1) / s.interval)
}

// at returns when message i should leave.
func (s schedule) at(i int) time.Duration { return s.offset + time.Duration(i)*s.interval }

// due returns how many messages may leave at t, when sent of them have left.
func (s schedule) due(t time.Duration, sent int) int { return min(s.before(t+1), s.total) - sent }
