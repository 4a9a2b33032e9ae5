package timer

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
)

// Key is the identity of a message that waits for a moment: keys are ordered as messages fall due, those of one moment as they stand in
// the log.
type Key struct {
	Due      int64 // wall clock, ms
	Position int64 // in the log
}

// Compare orders keys.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Due, o.Due), cmp.Compare(k.Position, o.Position))
}

// Moment is a message that waits for its own moment.
type Moment struct {
	Key
	Size  int32
	Topic string // that it goes to; empty: not known here, and not counted
}

const (
	// momentsMax is how many of the messages that wait are known at a time: those due next.
	momentsMax = 1 << 15
	// MomentsLoad is how many are asked for at a time, whenever there is room for them: what falls due meanwhile waits for the answer.
	MomentsLoad = momentsMax / 16
	// handedOutMax and handedOutBytesMax bound what is handed out and not stored yet. The first is 200 ms of 50,000 due a second: a sync
	// that takes long must not hold up what falls due meanwhile. One message always may be.
	handedOutMax      = 10_000
	handedOutBytesMax = 16 << 20
)

// farthest is behind every key.
var farthest = Key{math.MaxInt64, math.MaxInt64}

// where a known message is.
type where uint8

const (
	waiting   where = iota
	handedOut       // and not yet stored
	gone            // it waits no more, and is passed over
)

// Moments is the state of all messages that wait for a moment of their own. Of those beyond the horizon it knows nothing but their
// number.
type Moments struct {
	window  momentWindow
	known   map[Key]where // what is in the window or handed out
	held    map[Key]bool  // not handed out before LetGo
	horizon Key           // all that wait and are before it are known

	messages, bytes int   // handed out and not stored
	restUntil       int64 // elapsed time

	tally tally
}

// NewMoments returns the state of a start: whatever waits was stored before the log position from. What waits is also told to count, by
// topic; but those who send a message for a moment tell count themselves that it has begun to wait.
func NewMoments(from int64, count func(topic string, n int)) *Moments {
	return &Moments{
		known: map[Key]where{}, held: map[Key]bool{}, horizon: Key{math.MinInt64, 0},
		tally: tally{from: from, counted: Key{math.MinInt64, 0}, count: count},
	}
}

// Added tells of a message that has just begun to wait. What was added must be found by a Load that comes later.
func (t *Moments) Added(m Moment) {
	if m.Position >= t.tally.from {
		t.tally.add(m, 1)
	}
	if m.Compare(t.horizon) < 0 {
		t.enter(m)
	}
}

// enter puts a message into the window.
func (t *Moments) enter(m Moment) {
	if _, ok := t.known[m.Key]; ok {
		return
	}
	t.known[m.Key] = waiting
	t.window.push(m)
	if t.window.len() < 2*momentsMax {
		return
	}
	far := t.window.cut(momentsMax)
	for _, m := range far {
		delete(t.known, m.Key)
	}
	t.horizon = far[0].Key
}

// Load returns from which key on up to MomentsLoad messages are wanted: answer with Loaded or LoadFailed. False: none are.
func (t *Moments) Load(now Time) (from Key, wanted bool) {
	return t.horizon, t.window.len() <= momentsMax-MomentsLoad && t.horizon != farthest && now.Elapsed >= t.restUntil
}

// Loaded answers Load with what waits from the horizon on up to a key, in order; all: there is no more.
func (t *Moments) Loaded(items []Moment, last Key, all bool) {
	if t.horizon = (Key{last.Due, last.Position + 1}); all {
		t.horizon = farthest
	}
	for _, m := range items {
		t.enter(m)
	}
}

// LoadFailed answers Load when nothing can be read now; it is wanted again after a rest.
func (t *Moments) LoadFailed(now Time) { t.restUntil = now.Elapsed + refusedPauseMS }

// Step appends to due the messages to deliver now: answer with Stored or Refused. It returns the elapsed time to call it again at the
// latest, Never when only an event can bring work.
func (t *Moments) Step(now Time, due []Moment) ([]Moment, int64) {
	if now.Elapsed < t.restUntil {
		return due, t.restUntil
	}
	n, bytes, next := 0, 0, t.window.first()
	for ; next != nil && next.Due <= now.Wall && n < batchMessagesMax; next = t.window.first() {
		m := *next
		if t.known[m.Key] == gone || t.held[m.Key] { // what is held comes back when it is let go
			t.window.pop()
			delete(t.known, m.Key)
			continue
		}
		size := int(m.Size)
		if t.messages >= handedOutMax || t.messages > 0 && t.bytes+size > handedOutBytesMax {
			return due, Never // Stored brings the next
		}
		if n > 0 && bytes+size > batchBytesMax {
			break
		}
		t.window.pop()
		t.known[m.Key] = handedOut
		t.tally.take(m)
		due = append(due, m)
		n, bytes = n+1, bytes+size
		t.messages, t.bytes = t.messages+1, t.bytes+size
	}
	switch {
	case n > 0:
		return due, now.Elapsed
	case next != nil:
		return due, now.Elapsed + min(max(next.Due-now.Wall, 1), lookMaxMS)
	}
	return due, Never
}

// Stored tells that messages that were handed out wait no more.
func (t *Moments) Stored(items []Moment) {
	for _, m := range items {
		t.settle(m)
		t.tally.add(m, -1)
	}
}

// Refused tells that messages could not be stored. All rests before they come again.
func (t *Moments) Refused(items []Moment, now Time) {
	t.restUntil = now.Elapsed + refusedPauseMS
	for _, m := range items {
		t.settle(m)
		t.tally.putBack(m)
		t.back(m)
	}
}

func (t *Moments) settle(m Moment) {
	delete(t.known, m.Key)
	t.messages--
	t.bytes -= int(m.Size)
}

// back lets a message wait again.
func (t *Moments) back(m Moment) {
	if m.Compare(t.horizon) < 0 {
		t.enter(m)
	}
}

// Hold keeps a message that waits from being handed out until LetGo; false when it is handed out or held already.
func (t *Moments) Hold(m Moment) bool {
	if where, ok := t.known[m.Key]; t.held[m.Key] || ok && where != waiting {
		return false
	}
	t.held[m.Key] = true
	t.tally.take(m)
	return true
}

// LetGo ends Hold: the message waits no more, or goes on waiting.
func (t *Moments) LetGo(m Moment, waitsNoMore bool) {
	delete(t.held, m.Key)
	if !waitsNoMore {
		t.tally.putBack(m)
		t.back(m)
		return
	}
	t.tally.add(m, -1)
	if _, ok := t.known[m.Key]; ok {
		t.known[m.Key] = gone
	}
}

// Count returns how many messages wait, and their bytes. What waited at the start is counted in the course of time: as long as Uncounted
// says so, Counted is to be told the next.
func (t *Moments) Count() (messages, bytes int64) { return t.tally.messages, t.tally.bytes }

// Uncounted returns from which key on messages have not been counted yet; false when all have.
func (t *Moments) Uncounted() (from Key, more bool) {
	return t.tally.counted, t.tally.counted != farthest
}

// Counted tells of the messages that wait from where Uncounted says up to a key, in order; all: there is no more.
func (t *Moments) Counted(items []Moment, last Key, all bool) {
	for _, m := range items {
		if where, ok := t.known[m.Key]; m.Position < t.tally.from && !t.held[m.Key] && !(ok && where == handedOut) {
			t.tally.add(m, 1)
		}
	}
	if t.tally.counted = (Key{last.Due, last.Position + 1}); all {
		t.tally.counted = farthest
	}
}

// tally counts what waits. Messages from the log position from on are counted as they come, those before it when Counted comes to them, or
// when they are taken earlier than that.
type tally struct {
	from            int64
	counted         Key
	messages, bytes int64
	count           func(topic string, n int)
}

func (c *tally) add(m Moment, sign int64) {
	c.messages += sign
	c.bytes += sign * int64(m.Size)
	if m.Topic != "" {
		c.count(m.Topic, int(sign))
	}
}

// ahead tells whether Counted is still to come to a message.
func (c *tally) ahead(m Moment) bool { return m.Position < c.from && m.Compare(c.counted) >= 0 }

// take counts a message before Counted comes to it, which will find it taken, or gone; putBack undoes it.
func (c *tally) take(m Moment) {
	if c.ahead(m) {
		c.add(m, 1)
	}
}

func (c *tally) putBack(m Moment) {
	if c.ahead(m) {
		c.add(m, -1)
	}
}

// momentWindow holds messages in order. What is loaded comes in order, behind all that there is, and costs nothing to keep so.
type momentWindow struct {
	run  []Moment   // in order
	rest momentHeap // what came out of order
}

func (w *momentWindow) len() int { return len(w.run) + len(w.rest) }

func (w *momentWindow) push(m Moment) {
	if n := len(w.run); n == 0 || w.run[n-1].Compare(m.Key) < 0 {
		w.run = append(w.run, m)
		return
	}
	heap.Push(&w.rest, m)
}

// first returns what is due first, nil when there is nothing.
func (w *momentWindow) first() *Moment {
	switch {
	case w.restFirst():
		return &w.rest[0]
	case len(w.run) > 0:
		return &w.run[0]
	}
	return nil
}

func (w *momentWindow) restFirst() bool {
	return len(w.rest) > 0 && (len(w.run) == 0 || w.rest[0].Compare(w.run[0].Key) < 0)
}

// pop takes out what first returns.
func (w *momentWindow) pop() {
	if w.restFirst() {
		heap.Pop(&w.rest)
		return
	}
	w.run = w.run[1:]
}

// cut keeps the first n, and returns the others in order.
func (w *momentWindow) cut(n int) (others []Moment) {
	all := append(w.run, w.rest...)
	slices.SortFunc(all, func(a, b Moment) int { return a.Compare(b.Key) })
	w.run, w.rest = slices.Clone(all[:n]), nil
	return all[n:]
}

// momentHeap is a heap by key.
type momentHeap []Moment

func (h momentHeap) Len() int           { return len(h) }
func (h momentHeap) Less(i, j int) bool { return h[i].Compare(h[j].Key) < 0 }
func (h momentHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *momentHeap) Push(x any)        { *h = append(*h, x.(Moment)) }
func (h *momentHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
