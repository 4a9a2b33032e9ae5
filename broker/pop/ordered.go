package pop

import "slices"

// Batch is what was handed out last of a queue that is consumed in order.
type Batch struct {
	attempt         string // of the client that asked: the same one gets the same messages again
	time, invisible int64
	messages        []ordered // at least one
}

// ordered is a message of a batch.
type ordered struct {
	offset   int64
	acked    bool
	visible  int64 // when it may be handed out again, if that was changed; 0: with the batch
	attempts int32 // how often it was handed out before
}

// Attempts says how often a message was handed out before.
type Attempts struct {
	Offset int64
	Count  int32
}

// low returns the lowest offset that is not acknowledged.
func (b *Batch) low() int64 {
	for i := range b.messages {
		if !b.messages[i].acked {
			return b.messages[i].offset
		}
	}
	return b.messages[len(b.messages)-1].offset + 1
}

func (b *Batch) find(offset int64) *ordered {
	i := slices.IndexFunc(b.messages, func(m ordered) bool { return m.offset == offset })
	if i < 0 {
		return nil
	}
	return &b.messages[i]
}

// Free returns when the queue hands something out in order again, if nothing is acknowledged until then.
func (q *Queue) Free() int64 {
	if q.batch == nil {
		return 0
	}
	free := int64(0)
	for _, m := range q.batch.messages {
		switch {
		case m.acked:
		case m.visible > 0:
			free = max(free, m.visible)
		default:
			free = max(free, q.batch.time+q.batch.invisible)
		}
	}
	return free
}

// Blocked tells whether nothing is handed out in order at a time; never to the attempt that has the last batch.
func (q *Queue) Blocked(attempt string, now int64) bool {
	if q.batch == nil || q.batch.attempt != "" && q.batch.attempt == attempt {
		return false
	}
	return now < q.Free()
}

// NextOrdered returns the offset to read at in order.
func (q *Queue) NextOrdered() int64 {
	if q.batch != nil {
		return q.batch.low()
	}
	return q.next
}

// Time returns a time for an ordered delivery that no earlier one had: now, or later.
func (q *Queue) Time(now int64) int64 { return max(now, q.last+1) }

// PoppedOrdered notes an ordered delivery of these offsets, at least one, and returns how often those that were handed out before were.
// A repeated attempt does not count.
func (q *Queue) PoppedOrdered(w []Write, attempt string, time, invisible int64, offsets []int64) ([]Write, []Attempts) {
	b := &Batch{attempt: attempt, time: time, invisible: invisible}
	var counts []Attempts
	for _, offset := range offsets {
		m := ordered{offset: offset}
		if q.batch != nil {
			if before := q.batch.find(offset); before != nil {
				m.attempts = before.attempts
				if attempt == "" || attempt != q.batch.attempt {
					m.attempts++
				}
			}
		}
		if m.attempts > 0 {
			counts = append(counts, Attempts{offset, m.attempts})
		}
		b.messages = append(b.messages, m)
	}
	q.batch, q.last = b, time
	q.next, q.known = max(q.next, offsets[len(offsets)-1]+1), true
	return append(w, b.write(), q.writeNext()), counts
}

// AckOrdered acknowledges a message of the batch that was handed out at a time.
func (q *Queue) AckOrdered(w []Write, time, offset int64) ([]Write, Outcome) {
	m, outcome := q.ordered(time, offset)
	if outcome != Done {
		return w, outcome
	}
	m.acked = true
	return append(w, q.batch.write()), Done
}

// RenewOrdered changes when a message may be handed out again.
func (q *Queue) RenewOrdered(w []Write, time, offset, visible int64) ([]Write, Outcome) {
	m, outcome := q.ordered(time, offset)
	if outcome != Done {
		return w, outcome
	}
	m.visible = visible
	return append(w, q.batch.write()), Done
}

// SuspendOrdered has all of the batch that was handed out at a time come again at another one; a delivery that was one more does not count
// (MemoryConsumerOrderInfoManager.suspendQueue).
func (q *Queue) SuspendOrdered(w []Write, time, offset, visible int64) ([]Write, Outcome) {
	if _, outcome := q.ordered(time, offset); outcome != Done {
		return w, outcome
	}
	q.batch.invisible = max(visible-time, 0)
	for i := range q.batch.messages {
		m := &q.batch.messages[i]
		m.visible, m.attempts = 0, max(m.attempts-1, 0)
	}
	return append(w, q.batch.write()), Done
}

func (q *Queue) ordered(time, offset int64) (*ordered, Outcome) {
	if offset < q.Low() {
		return nil, Already
	}
	if q.batch == nil || q.batch.time != time {
		return nil, Over
	}
	switch m := q.batch.find(offset); {
	case m == nil:
		return nil, Over
	case m.acked:
		return nil, Already
	default:
		return m, Done
	}
}
