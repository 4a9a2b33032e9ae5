package bench

import "time"

// schedule says when each message of a sender should leave: message i at offset + i x interval. It does not know whether the server
// keeps up; that is the point of it. Between warm-up and measurement nothing is due for settle, so that what a server was late with
// in the warm-up does not count against the measurement.
type schedule struct {
	offset   time.Duration // of the first message, so that senders do not leave in step
	interval time.Duration
	warmup   time.Duration
	settle   time.Duration
	total    int // messages of warm-up and measurement
	measured int // the first one that is measured
}

// newSchedule gives sender i of n its share of rate over warm-up and measurement.
func newSchedule(rate float64, i, n int, warmup, settle, measure time.Duration) schedule {
	s := schedule{interval: max(time.Duration(float64(n)/rate*float64(time.Second)), 1), warmup: warmup, settle: settle}
	s.offset = s.interval * time.Duration(i) / time.Duration(n)
	s.measured = s.steps(warmup)
	s.total = s.steps(warmup + measure)
	return s
}

// steps returns how many messages are due before t, were there no settling.
func (s schedule) steps(t time.Duration) int {
	if t <= s.offset {
		return 0
	}
	return int((t - s.offset + s.interval - 1) / s.interval)
}

// at returns when message i should leave.
func (s schedule) at(i int) time.Duration {
	t := s.offset + time.Duration(i)*s.interval
	if i >= s.measured {
		t += s.settle
	}
	return t
}

// due returns the messages that should have left by t: those before last, of which first is the earliest that is still worth
// sending when sent of them have left. After the warm-up its late messages are not.
func (s schedule) due(t time.Duration, sent int) (first, last int) {
	if t < s.warmup {
		return sent, min(s.steps(t+1), s.measured)
	}
	return max(sent, s.measured), min(max(s.steps(t+1-s.settle), s.measured), s.total)
}
