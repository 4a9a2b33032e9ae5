package pop

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The model test of ordered deliveries: what was handed out last is a plain list.

type orderedDelivery struct {
	time, offset int64
	acked        bool
	free         int64 // when it may be handed out again
	count        int32 // of deliveries before
}

type orderedModel struct {
	model
	attempt string
	batch   []*orderedDelivery
	given   []*orderedDelivery // ever
	last    int64
}

func TestOrderedQueueAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &orderedModel{model: model{t: t, disk: map[string][]byte{}, now: 1000}}
		t.Repeat(map[string]func(*rapid.T){
			"pop": m.pop, "ack": m.ack, "renew": m.renew, "crash": m.crash,
			"pass": func(t *rapid.T) { m.now += int64(rapid.IntRange(0, 30).Draw(t, "ms")) },
			"":     m.check,
		})
	})
}

// low is the first offset that is not acknowledged.
func (m *orderedModel) low() int64 {
	for _, d := range m.batch {
		if !d.acked {
			return d.offset
		}
	}
	if len(m.batch) == 0 {
		return m.next
	}
	return m.batch[len(m.batch)-1].offset + 1
}

func (m *orderedModel) blocked(attempt string) bool {
	if attempt != "" && attempt == m.attempt {
		return false
	}
	for _, d := range m.batch {
		if !d.acked && m.now < d.free {
			return true
		}
	}
	return false
}

// pop hands out what follows, of which a filter lets three of four pass.
func (m *orderedModel) pop(t *rapid.T) {
	attempt := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "attempt")
	if m.blocked(attempt) {
		return
	}
	time, start := m.q.Time(m.now), m.q.NextOrdered()
	if time <= m.last || time < m.now || start != m.low() {
		t.Fatalf("a delivery at %d, after one at %d, begins at %d, want %d", time, m.last, start, m.low())
	}
	invisible := int64(rapid.IntRange(0, 40).Draw(t, "invisible"))
	var offsets []int64
	var want []Attempts
	var batch []*orderedDelivery
	for n := rapid.IntRange(1, 6).Draw(t, "messages"); n > 0; start++ {
		if start%4 == 3 {
			continue
		}
		n--
		d := &orderedDelivery{time: time, offset: start, free: time + invisible}
		for _, before := range m.batch {
			if before.offset == start {
				if d.count = before.count; attempt == "" || attempt != m.attempt {
					d.count++
				}
			}
		}
		if offsets = append(offsets, start); d.count > 0 {
			want = append(want, Attempts{start, d.count})
		}
		batch = append(batch, d)
	}
	writes, counts := m.q.PoppedOrdered(nil, attempt, time, invisible, offsets)
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Fatal("how often messages were handed out before", diff)
	}
	m.write(writes)
	m.attempt, m.batch, m.given, m.last, m.next = attempt, batch, append(m.given, batch...), time, max(m.next, start)
}

// pick chooses a delivery, and says what becomes of an acknowledgement.
func (m *orderedModel) pick(t *rapid.T) (d *orderedDelivery, want Outcome) {
	if len(m.given) == 0 {
		t.Skip("nothing was handed out")
	}
	from := m.batch
	if rapid.IntRange(0, 3).Draw(t, "old") == 0 {
		from = m.given
	}
	switch d = rapid.SampledFrom(from).Draw(t, "delivery"); {
	case d.offset < m.low() || d.time == m.last && d.acked:
		return d, Already
	case d.time != m.last:
		return d, Over
	}
	return d, Done
}

func (m *orderedModel) ack(t *rapid.T) {
	d, want := m.pick(t)
	writes, got := m.q.AckOrdered(nil, d.time, d.offset)
	if got != want || (got == Done) != (len(writes) > 0) {
		t.Fatalf("the acknowledgement of %d, given at %d, is %d with %d writes, want %d", d.offset, d.time, got, len(writes), want)
	}
	m.write(writes)
	d.acked = d.acked || got == Done
}

func (m *orderedModel) renew(t *rapid.T) {
	d, want := m.pick(t)
	visible := m.now + int64(rapid.IntRange(0, 40).Draw(t, "invisible"))
	writes, got := m.q.RenewOrdered(nil, d.time, d.offset, visible)
	if got != want || (got == Done) != (len(writes) > 0) {
		t.Fatalf("a new time for %d, given at %d, is %d with %d writes, want %d", d.offset, d.time, got, len(writes), want)
	}
	if m.write(writes); got == Done {
		d.free = visible
	}
}

func (m *orderedModel) check(t *rapid.T) {
	if low := m.low(); m.q.Low() != low || m.q.NextOrdered() != low {
		t.Fatalf("the first that is not acknowledged is %d, and read at %d, want %d", m.q.Low(), m.q.NextOrdered(), low)
	}
	for _, attempt := range []string{"", "a", "z"} {
		if got, want := m.q.Blocked(attempt, m.now), m.blocked(attempt); got != want {
			t.Fatalf("at %d attempt %q is blocked: %v, want %v", m.now, attempt, got, want)
		}
	}
}
