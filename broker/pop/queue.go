package pop

import (
	"cmp"
	"math"
	"slices"

	"github.com/apogeemq/apogee/broker/timer"
)

// runsKept is how many runs of a queue are in memory; half as many are fetched at once. Tests have fewer.
var runsKept = 1024

// Never is later than any deadline.
const Never = math.MaxInt64

// RunID names a delivery. In this order runs are kept.
type RunID struct {
	Deadline int64 // when what is not acknowledged is delivered again
	Start    int64 // offset that the read began at
	Time     int64 // of the delivery
	Number   int32 // tells deliveries of the same time apart
}

func (a RunID) compare(b RunID) int {
	return cmp.Or(cmp.Compare(a.Deadline, b.Deadline), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Time, b.Time), cmp.Compare(a.Number, b.Number))
}

// Run is what of one delivery is not acknowledged.
type Run struct {
	RunID
	Left    Bits // by distance from Start
	Suspend bool // its next delivery does not count as another attempt
}

// NewRun returns what is not acknowledged of a delivery: these offsets, none before id.Start.
func NewRun(id RunID, offsets []int64, suspend bool) Run {
	r := Run{RunID: id, Suspend: suspend}
	for _, offset := range offsets {
		r.Left.set(int(offset - id.Start))
	}
	return r
}

// Low returns the lowest offset that is not acknowledged, of a run of which something is left.
func (r *Run) Low() int64 { return r.Start + int64(r.Left.first()) }

// Count returns how many messages are not acknowledged.
func (r *Run) Count() int { return r.Left.count() }

// Ack acknowledges a message; false when there is nothing to.
func (r *Run) Ack(offset int64) bool { return offset >= r.Start && r.Left.clear(int(offset-r.Start)) }

// lows are runs by their lowest offset: to go through all at every change would take longer than the change.
type lows = timer.Alarms[RunID]

// Queue is what one group was given of one queue.
type Queue struct {
	next     int64 // offset behind what was handed out
	known    bool  // next is
	runs     []Run // in order: all up to horizon, and some behind it
	lows     lows  // of runs
	absent   coarse
	horizon  RunID // no absent run lies before it
	reviving []Run // being delivered again
	left     int   // messages of all runs that are not acknowledged
	batch    *Batch
	last     int64 // time of the last ordered delivery
}

// Next returns the offset to read at; ok is false for a queue that nothing was handed out of.
func (q *Queue) Next() (offset int64, ok bool) { return q.next, q.known }

// Low returns the lowest offset that is not acknowledged; while runs are absent, or one below it.
func (q *Queue) Low() int64 {
	low := q.next
	if first, ok := q.lows.First(); ok {
		low = min(low, first)
	}
	for i := range q.reviving {
		low = min(low, q.reviving[i].Low())
	}
	if q.absent.count > 0 {
		low = min(low, q.absent.low())
	}
	if q.batch != nil {
		low = min(low, q.batch.low())
	}
	return low
}

// Open returns how many deliveries are not acknowledged as a whole.
func (q *Queue) Open() int {
	n := len(q.runs) + q.absent.count + len(q.reviving)
	if q.batch != nil {
		n++
	}
	return n
}

// InFlight returns how many messages were handed out and are not acknowledged.
func (q *Queue) InFlight() int {
	n := q.left
	if q.batch != nil {
		for i := range q.batch.messages {
			if !q.batch.messages[i].acked {
				n++
			}
		}
	}
	return n
}

// Deadline returns when Due has something, Never if nothing is handed out.
func (q *Queue) Deadline() int64 {
	d := int64(Never)
	if len(q.runs) > 0 {
		d = q.runs[0].Deadline
	}
	if q.absent.count > 0 {
		d = min(d, q.horizon.Deadline)
	}
	return d
}

// Advance moves on to an offset: what lies before it is not handed out.
func (q *Queue) Advance(w []Write, offset int64) []Write {
	if q.known && offset <= q.next {
		return w
	}
	q.next, q.known = offset, true
	return append(w, q.writeNext())
}

// Popped notes a delivery: these offsets, in order and at least one, of what was read from id.Start up to next.
func (q *Queue) Popped(w []Write, id RunID, offsets []int64, next int64) []Write {
	r := NewRun(id, offsets, false)
	q.insert(r)
	q.next, q.known = next, true
	return append(w, r.Write(), q.writeNext())
}

// Outcome is what became of an acknowledgement.
type Outcome uint8

// Outcomes.
const (
	Done    Outcome = iota // it counts
	Already                // the message was acknowledged before
	Over                   // there is no such delivery any more
)

// Ack acknowledges a message of a delivery.
func (q *Queue) Ack(w []Write, id RunID, offset int64) ([]Write, Outcome) {
	i, ok := q.find(id)
	if !ok {
		return w, Over
	}
	r := &q.runs[i]
	if !r.Ack(offset) {
		return w, Already
	}
	q.left--
	w = append(w, r.Write())
	if r.Left.empty() {
		q.runs = slices.Delete(q.runs, i, i+1)
		q.lows.Remove(id)
	} else {
		q.lows.Set(id, r.Low())
	}
	return w, Done
}

// Renew makes of a message of one delivery a delivery of its own, with a new deadline.
func (q *Queue) Renew(w []Write, id RunID, offset int64, renewed RunID, suspend bool) ([]Write, Outcome) {
	w, outcome := q.Ack(w, id, offset)
	if outcome != Done {
		return w, outcome
	}
	r := NewRun(renewed, []int64{offset}, suspend)
	q.insert(r)
	return append(w, r.Write()), Done
}

// Due takes up to most runs whose deadline has passed, except those that skip wants left: they are to be delivered again. Revived or
// Refused says what became of each.
func (q *Queue) Due(now int64, most int, skip func(*Run) bool) []Run {
	var due []Run
	q.runs = slices.DeleteFunc(q.runs, func(r Run) bool {
		if r.Deadline > now || len(due) >= most || skip(&r) {
			return false
		}
		due = append(due, r)
		q.lows.Remove(r.RunID)
		return true
	})
	q.reviving = append(q.reviving, due...)
	return due
}

// Revived ends a run whose messages have been delivered again; the caller has recorded it.
func (q *Queue) Revived(id RunID) {
	q.reviving = slices.DeleteFunc(q.reviving, func(r Run) bool {
		if r.RunID != id {
			return false
		}
		q.left -= r.Count()
		return true
	})
}

// Refused takes back a run that could not be delivered again, with what is still left of it.
func (q *Queue) Refused(id RunID) {
	for _, r := range q.reviving {
		if r.RunID == id {
			q.insert(r)
		}
	}
	q.Revived(id)
}

// Reset forgets what was handed out, whose entries the caller deletes, and goes on at an offset.
func (q *Queue) Reset(w []Write, offset int64) []Write {
	*q = Queue{next: offset, known: true, last: q.last}
	return append(w, q.writeNext())
}

// Absent tells whether a run that Ack would not find may be one that has to be fetched.
func (q *Queue) Absent(id RunID) bool {
	_, found := q.find(id)
	return !found && q.absent.count > 0 && id.compare(q.horizon) >= 0
}

// Fetch takes a run that was absent into memory, where it is at least until the next one is.
func (q *Queue) Fetch(r Run) {
	q.trim() // not after: it may be the last one itself
	q.take(r)
}

// Missing returns how many runs to fetch, in order and from the one named on, before Due is asked; 0 for none.
func (q *Queue) Missing() (from RunID, count int) {
	if i, _ := q.find(q.horizon); q.absent.count == 0 || i > runsKept/4 {
		return from, 0
	}
	return q.horizon, runsKept / 2
}

// Fetched takes the runs that were Missing. All up to id are in memory now; with end, there are no others.
func (q *Queue) Fetched(runs []Run, id RunID, end bool) {
	for i := range runs {
		q.take(runs[i])
	}
	if q.horizon = id; end {
		q.absent = coarse{}
	}
	q.trim()
}

// take has a run that was absent in memory.
func (q *Queue) take(r Run) {
	if _, found := q.find(r.RunID); found || slices.ContainsFunc(q.reviving, func(o Run) bool { return o.RunID == r.RunID }) {
		return
	}
	q.put(r)
	q.absent.remove(r.Low())
}

// find returns where a run is, or belongs.
func (q *Queue) find(id RunID) (int, bool) {
	return slices.BinarySearchFunc(q.runs, id, func(r Run, id RunID) int { return r.compare(id) })
}

func (q *Queue) insert(r Run) {
	q.left += r.Count()
	q.put(r)
	q.trim()
}

func (q *Queue) put(r Run) {
	i, _ := q.find(r.RunID)
	q.runs = slices.Insert(q.runs, i, r)
	q.lows.Set(r.RunID, r.Low())
}

// trim lets the last runs go from memory when there are too many.
func (q *Queue) trim() {
	for len(q.runs) > runsKept {
		last := q.runs[len(q.runs)-1]
		q.runs[len(q.runs)-1] = Run{}
		q.runs = q.runs[:len(q.runs)-1]
		q.lows.Remove(last.RunID)
		if q.absent.count == 0 || last.compare(q.horizon) < 0 {
			q.horizon = last.RunID
		}
		q.absent.add(last.Low())
	}
}
