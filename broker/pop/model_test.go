package pop

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The model test drives a queue with random events and compares it with a plain list of deliveries. Its state is kept in a map, from which
// it is made again whenever the machine pretends to crash.

// delivery is one message that was handed out.
type delivery struct {
	id     RunID
	offset int64
	state  string // live, acked, renewed, revived
}

type model struct {
	t          *rapid.T
	q          Queue
	disk       map[string][]byte
	now        int64
	next       int64
	number     int32
	deliveries []*delivery
}

func TestQueueAgainstAModel(t *testing.T) {
	defer func(n int) { runsKept = n }(runsKept)
	runsKept = 8
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, disk: map[string][]byte{}, now: 1000}
		t.Repeat(map[string]func(*rapid.T){
			"pop": m.pop, "ack": m.ack, "renew": m.renew, "revive": m.revive, "crash": m.crash, "reset": m.reset,
			"pass": func(t *rapid.T) { m.now += int64(rapid.IntRange(0, 30).Draw(t, "ms")) },
			"":     m.check,
		})
	})
}

func (m *model) write(writes []Write) {
	for _, w := range writes {
		if w.Value == nil {
			delete(m.disk, w.Key)
		} else {
			m.disk[w.Key] = w.Value
		}
	}
}

// pop hands out some of the next messages: those that a filter lets pass.
func (m *model) pop(t *rapid.T) {
	m.number++
	id := RunID{m.now + int64(rapid.IntRange(0, 40).Draw(t, "invisible")), m.next, m.now, m.number}
	var offsets []int64
	for n := rapid.IntRange(1, 12).Draw(t, "messages"); n > 0; n-- {
		if rapid.IntRange(0, 3).Draw(t, "filter") > 0 {
			offsets = append(offsets, m.next)
			m.deliveries = append(m.deliveries, &delivery{id, m.next, "live"})
		}
		m.next++
	}
	if len(offsets) == 0 {
		m.write(m.q.Advance(nil, m.next))
		return
	}
	m.write(m.q.Popped(nil, id, offsets, m.next))
}

// pick chooses a delivery, and fetches its run as whoever keeps the writes does.
func (m *model) pick(t *rapid.T) *delivery {
	if len(m.deliveries) == 0 {
		t.Skip("nothing was handed out")
	}
	d := rapid.SampledFrom(m.deliveries).Draw(t, "delivery")
	if value := m.disk[d.id.Key()]; value != nil && m.q.Absent(d.id) {
		r, err := ParseRun(d.id.Key(), value)
		if err != nil {
			t.Fatal(err)
		}
		m.q.Fetch(r)
	}
	return d
}

// ended compares an outcome with what the model says, and notes it.
func (m *model) ended(t *rapid.T, d *delivery, writes []Write, outcome Outcome, state string) {
	switch {
	case d.state == "live" && outcome != Done:
		t.Fatalf("a live delivery of %d is %d", d.offset, outcome)
	case d.state != "live" && (outcome == Done || len(writes) > 0):
		t.Fatalf("a delivery of %d that is %s: outcome %d, writes %v", d.offset, d.state, outcome, writes)
	case outcome == Done:
		d.state = state
	}
	m.write(writes)
}

func (m *model) ack(t *rapid.T) {
	d := m.pick(t)
	writes, outcome := m.q.Ack(nil, d.id, d.offset)
	m.ended(t, d, writes, outcome, "acked")
}

func (m *model) renew(t *rapid.T) {
	d := m.pick(t)
	m.number++
	id := RunID{m.now + int64(rapid.IntRange(0, 40).Draw(t, "invisible")), d.offset, m.now, m.number}
	was := d.state
	writes, outcome := m.q.Renew(nil, d.id, d.offset, id, false)
	if m.ended(t, d, writes, outcome, "renewed"); was == "live" {
		m.deliveries = append(m.deliveries, &delivery{id, d.offset, "live"})
	}
}

// fetch brings runs that are absent into memory, in order.
func (m *model) fetch(t *rapid.T) {
	from, count := m.q.Missing()
	if count == 0 {
		return
	}
	id, end := from, true
	var runs []Run
	for _, key := range slices.Sorted(maps.Keys(m.disk)) {
		if !IsRun(key) || key < from.Key() {
			continue
		}
		if count == 0 {
			end = false
			break
		}
		count--
		r, err := ParseRun(key, m.disk[key])
		if err != nil {
			t.Fatal(err)
		}
		runs, id = append(runs, r), r.RunID
	}
	m.q.Fetched(runs, id, end)
}

// revive delivers again what is due, up to a crash, if there is one.
func (m *model) revive(t *rapid.T) {
	m.fetch(t)
	for _, r := range m.q.Due(m.now, rapid.IntRange(1, 5).Draw(t, "runs"), func(*Run) bool { return false }) {
		if rapid.IntRange(0, 5).Draw(t, "refused") == 0 {
			m.q.Refused(r.RunID)
			continue
		}
		for i := range r.Left.All {
			offset := r.Start + int64(i)
			at := slices.IndexFunc(m.deliveries, func(d *delivery) bool { return d.id == r.RunID && d.offset == offset })
			if at < 0 || m.deliveries[at].state != "live" || r.Deadline > m.now {
				t.Fatalf("%d is delivered again, at %d, of %+v", offset, m.now, r.RunID)
			}
			m.deliveries[at].state = "revived"
			m.write([]Write{r.Without(offset)})
			if rapid.IntRange(0, 20).Draw(t, "crash") == 0 {
				m.crash(t)
				return
			}
		}
		m.q.Revived(r.RunID)
	}
}

func (m *model) crash(t *rapid.T) {
	m.q = Queue{}
	keys := slices.Sorted(maps.Keys(m.disk))
	for _, key := range rapid.Permutation(keys).Draw(t, "order") {
		if err := m.q.Load(key, m.disk[key]); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *model) reset(t *rapid.T) {
	if rapid.IntRange(0, 10).Draw(t, "reset") > 0 {
		t.Skip()
	}
	clear(m.disk)
	m.next = int64(rapid.IntRange(0, int(m.next)).Draw(t, "offset"))
	m.write(m.q.Reset(nil, m.next))
	for _, d := range m.deliveries {
		if d.state == "live" {
			d.state = "reset"
		}
	}
}

// check compares what the queue says, and that nothing is lost: what is live has a run on the disk.
func (m *model) check(t *rapid.T) {
	low, deadline, live := m.next, int64(Never), 0
	for _, d := range m.deliveries {
		if d.state == "live" {
			low, deadline = min(low, d.offset), min(deadline, d.id.Deadline)
			live++
		}
	}
	if next, _ := m.q.Next(); next != m.next {
		t.Fatalf("next is %d, want %d", next, m.next)
	}
	if got := m.q.Low(); got > low || m.q.absent.count == 0 && got != low {
		t.Fatalf("low is %d, want %d; %d runs are absent", got, low, m.q.absent.count)
	}
	if got := m.q.InFlight(); got != live {
		t.Fatalf("%d messages are in flight, want %d", got, live)
	}
	if got := m.q.Deadline(); got > deadline {
		t.Fatalf("the deadline is %d, want %d", got, deadline)
	}
	if len(m.q.runs) > runsKept+1 || m.q.lows.Len() != len(m.q.runs) {
		t.Fatalf("%d runs are in memory, with the lows of %d", len(m.q.runs), m.q.lows.Len())
	}
	onDisk := 0
	for key, value := range m.disk {
		if IsRun(key) {
			r, err := ParseRun(key, value)
			if err != nil {
				t.Fatal(err)
			}
			for range r.Left.All {
				onDisk++
			}
		}
	}
	if onDisk != live {
		t.Fatalf("%d deliveries are on the disk, %d are live", onDisk, live)
	}
}

func TestEntriesThatAreNone(t *testing.T) {
	var q Queue
	run := RunID{1, 2, 3, 4}.Key()
	for _, e := range []Write{
		{"n", nil}, {"n", []byte{0x80}}, {"x", []byte{1}}, {"", []byte{1}}, {"o", nil}, {"o", []byte{1, 2, 200}}, {"o", []byte{1, 2, 0, 5, 0}},
		{run, nil}, {run, []byte{0}}, {run, []byte{2, 1}}, {run, []byte{0, 1, 0}}, {run[:20], []byte{0, 1}}, {run, make([]byte, bitsMax+1)},
	} {
		if err := q.Load(e.Key, e.Value); err == nil || !strings.Contains(err.Error(), "not an entry") {
			t.Errorf("entry %q=%.10x: %v", e.Key, e.Value, err)
		}
	}
}
