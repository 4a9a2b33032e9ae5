package timer

// Time is what the caller's clocks say, in ms: the wall clock, which may jump, and the time elapsed since the start, which does not.
type Time struct{ Wall, Elapsed int64 }

// Item is a message that waits.
type Item struct {
	Due  int64 // wall clock, ms
	Size int32
}

// Action is what an Effect asks for.
type Action uint8

// The actions.
const (
	// Load asks for up to Count items from Offset on: answer with Loaded.
	Load Action = iota
	// Deliver asks to store the Count messages from Offset on where they belong: answer with Stored or Refused.
	Deliver
	// Watch asks for Woken once the queue reaches beyond Offset: there is nothing to do at this level before that.
	Watch
	// Move asks to store the Count messages from Offset on where each waits for a moment of its own: answer with Stored or Refused.
	Move
)

// Effect is what the caller has to do, before the next Step. A step gives at most one for each level.
type Effect struct {
	Action Action
	Level  int // from 0
	Offset int64
	Count  int
	Bytes  int
}

// Never is the time to wake at when only an event can bring work.
const Never = int64(-1)

const (
	// inFlightMessagesMax and inFlightBytesMax bound what is delivered and not stored yet, per level. One message always may be.
	inFlightMessagesMax = 2000
	inFlightBytesMax    = 4 << 20
	// batchMessagesMax and batchBytesMax bound one Deliver, so that storing one and reading the next overlap.
	batchMessagesMax = 250
	batchBytesMax    = 1 << 20
	// windowMax is how many items of a level are known at most.
	windowMax = 4000
	// refusedPauseMS is how long a level rests after a refusal.
	refusedPauseMS = 1000
	// lookMaxMS is how long a level with messages sleeps at most: the wall clock may have jumped.
	lookMaxMS = 1000
	// marksMax is how many marks a level keeps: how finely it knows how long its messages have waited.
	marksMax = 64
	// moveMessagesMax bounds one Move, beside batchBytesMax, movePauseMS is the pause between two: at most 1 MiB every 20 ms are moved.
	moveMessagesMax = 1000
	movePauseMS     = 20
	// moveAheadMS: what is due sooner is not moved, nor is anything of levels that are not longer; it goes by itself.
	moveAheadMS = 10_000
)

// Levels is the state of all levels.
type Levels struct {
	levels []level
	moving bool  // a Move is not answered yet
	moveAt int64 // elapsed time before which there is none
}

type level struct {
	delay   int64
	next    int64  // first offset that was not handed out
	end     int64  // the queue's, as far as known
	window  []Item // from next on
	buffer  []Item // the window's memory
	loading bool
	watched bool

	messages, bytes int   // handed out and not stored
	restUntil       int64 // elapsed time

	marks  []mark // oldest first
	waited int64  // messages before this offset have waited their time, whatever the wall clock says

	moveBefore int64 // offset in the queue before which messages are to wait elsewhere
}

// mark notes that the queue reached to end at some elapsed time.
type mark struct{ end, at int64 }

// New returns the levels with their delays in ms, each to go on at an offset of its queue.
func New(delays, next []int64) *Levels {
	l := &Levels{levels: make([]level, len(delays))}
	for i := range l.levels {
		l.levels[i] = level{delay: delays[i], next: next[i], end: next[i], waited: next[i]}
	}
	return l
}

// Seen tells that the level's queue ends at an offset.
func (t *Levels) Seen(i int, end int64) {
	t.levels[i].end = max(t.levels[i].end, end)
}

// Woken answers Watch.
func (t *Levels) Woken(i int) { t.levels[i].watched = false }

// Waiting tells whether the level may have messages that wait, so that the caller should look how far its queue reaches (Seen) before a
// Step. Where it is watched, it has none.
func (t *Levels) Waiting(i int) bool { return !t.levels[i].watched }

// MoveBefore asks for Moves of what still waits before an offset of the level's queue, as far as that is not due soon.
func (t *Levels) MoveBefore(i int, offset int64) { t.levels[i].moveBefore = offset }

// Loaded answers Load: the items from first on, which lies behind the effect's offset when nothing is left before it; then there may be
// no items.
func (t *Levels) Loaded(e Effect, first int64, items []Item) {
	l := &t.levels[e.Level]
	l.loading = false
	if e.Offset != l.next || len(l.window) > 0 { // a refusal came in between
		return
	}
	l.next, l.end = first, max(l.end, first)
	l.buffer = append(l.buffer[:0], items...)
	l.window = l.buffer
}

// LoadFailed answers Load when nothing can be read now. The level rests before it tries again.
func (t *Levels) LoadFailed(e Effect, now Time) {
	l := &t.levels[e.Level]
	l.loading = false
	l.restUntil = now.Elapsed + refusedPauseMS
}

// Stored answers Deliver and Move: the messages are where they belong, for good.
func (t *Levels) Stored(e Effect) {
	if e.Action == Move {
		t.moving = false
	}
	l := &t.levels[e.Level]
	l.messages -= e.Count
	l.bytes -= e.Bytes
}

// Refused answers Deliver and Move: from the effect's offset on nothing was stored. The level rests before it tries again.
func (t *Levels) Refused(e Effect, now Time) {
	t.Stored(e)
	l := &t.levels[e.Level]
	l.restUntil = now.Elapsed + refusedPauseMS
	if e.Offset < l.next {
		l.next, l.window = e.Offset, nil
	}
}

// Step appends what there is to do at now, and returns the elapsed time to call it again at the latest: Never when only an event can
// bring work.
func (t *Levels) Step(now Time, effects []Effect) ([]Effect, int64) {
	wake := Never
	for i := range t.levels {
		var at int64
		before := len(effects)
		effects, at = t.levels[i].step(i, now, effects)
		if len(effects) == before {
			effects, at = t.move(i, now, effects, at)
		}
		wake = sooner(wake, at)
	}
	return effects, wake
}

func sooner(a, b int64) int64 {
	if a == Never || b != Never && b < a {
		return b
	}
	return a
}

// move appends a Move of a level that has nothing else to do before wake.
func (t *Levels) move(i int, now Time, effects []Effect, wake int64) ([]Effect, int64) {
	l := &t.levels[i]
	n, bytes := l.movable(now.Wall)
	if n == 0 || t.moving { // Stored brings the next
		return effects, wake
	}
	if at := max(t.moveAt, l.restUntil); now.Elapsed < at {
		return effects, sooner(wake, at)
	}
	t.moving, t.moveAt = true, now.Elapsed+movePauseMS
	return append(effects, l.handOut(Move, i, n, bytes)), now.Elapsed
}

// movable returns how many messages, with how many bytes, make the next Move.
func (l *level) movable(wall int64) (n, bytes int) {
	for l.delay > moveAheadMS && n < min(len(l.window), moveMessagesMax) && l.next+int64(n) < l.moveBefore {
		item := l.window[n]
		if item.Due <= wall+moveAheadMS || l.next+int64(n) < l.waited || n > 0 && bytes+int(item.Size) > batchBytesMax {
			break
		}
		n++
		bytes += int(item.Size)
	}
	return n, bytes
}

// handOut takes messages off the window.
func (l *level) handOut(action Action, i, n, bytes int) Effect {
	e := Effect{action, i, l.next, n, bytes}
	l.next += int64(n)
	l.window = l.window[n:]
	l.messages += n
	l.bytes += bytes
	return e
}

func (l *level) step(i int, now Time, effects []Effect) ([]Effect, int64) {
	l.measure(now.Elapsed)
	if now.Elapsed < l.restUntil {
		return effects, l.restUntil
	}
	n, bytes, full := l.due(now.Wall)
	if n > 0 {
		return append(effects, l.handOut(Deliver, i, n, bytes)), now.Elapsed
	}
	if full {
		return effects, Never // Stored brings the next
	}
	switch {
	case len(l.window) > 0:
		wait := min(max(l.window[0].Due-now.Wall, 1), lookMaxMS)
		if len(l.marks) > 0 { // the longest that its first message can still have to wait
			wait = min(wait, max(l.marks[0].at+l.delay-now.Elapsed, 1))
		}
		return effects, now.Elapsed + wait
	case l.next < l.end && !l.loading:
		l.loading = true
		effects = append(effects, Effect{Action: Load, Level: i, Offset: l.next, Count: int(min(l.end-l.next, windowMax))})
	case l.next >= l.end && !l.watched:
		l.watched = true
		effects = append(effects, Effect{Action: Watch, Level: i, Offset: l.end})
	}
	return effects, Never
}

// due returns how many messages, with how many bytes, make the next delivery. full: there may be more that have to wait for room.
func (l *level) due(wall int64) (n, bytes int, full bool) {
	for n < len(l.window) && n < batchMessagesMax {
		item := l.window[n]
		if item.Due > wall && l.next+int64(n) >= l.waited {
			break
		}
		size := int(item.Size)
		if l.messages+n >= inFlightMessagesMax || (l.messages+n > 0 && l.bytes+bytes+size > inFlightBytesMax) {
			return n, bytes, true
		}
		if n > 0 && bytes+size > batchBytesMax {
			break
		}
		n++
		bytes += size
	}
	return n, bytes, false
}

// measure keeps account of how long the queue's messages have waited by the clock that does not jump: when the wall clock is set back,
// nothing waits longer than its delay after all.
func (l *level) measure(elapsed int64) {
	newest := l.waited
	if n := len(l.marks); n > 0 {
		newest = l.marks[n-1].end
	}
	if l.end > newest && (len(l.marks) == 0 || elapsed-l.marks[len(l.marks)-1].at >= l.delay/marksMax) {
		l.marks = append(l.marks, mark{l.end, elapsed})
	}
	for len(l.marks) > 0 && elapsed-l.marks[0].at >= l.delay {
		l.waited = l.marks[0].end
		l.marks = l.marks[1:]
	}
}
