package transaction

// Time is what the caller's clocks say, in ms: the wall clock, which may jump, and the time elapsed since the start, which does not.
type Time struct{ Wall, Elapsed int64 }

// Action is what an Effect asks for.
type Action uint8

// The actions.
const (
	// Scan asks for up to Count pending half messages from offset From on, in order: answer with Scanned.
	Scan Action = iota
	// Check asks to count a check of each half message and then to ask its producer: answer with Done.
	Check
	// GiveUp asks to move each half message to the check-max topic: answer with Done.
	GiveUp
)

// Effect is what the caller has to do.
type Effect struct {
	Action Action
	From   int64
	Count  int
	Halves []Half
}

const (
	// pageMax is how many half messages are known at once.
	pageMax = 2048
	// batchMessagesMax and batchBytesMax bound one Check or GiveUp; one message always may be.
	batchMessagesMax = 256
	batchBytesMax    = 1 << 20
	// inFlightMax is how many batches may be handed out and not done.
	inFlightMax = 4
)

// Never is the time to wake at when only an event can bring work.
const Never = int64(-1)

// Checker is the state of the rounds.
type Checker struct {
	next     int64 // elapsed time of the next round
	round    bool  // one is under way
	from     int64 // where the round's next page begins
	until    int64 // offset behind what was pending when the round began
	scanning bool
	queue    []Effect // decided, not handed out
	inFlight int
}

// New returns a checker whose first round begins an interval after the start.
func New(r Rules, now Time) *Checker { return &Checker{next: now.Elapsed + r.Interval} }

// Scanned answers Scan. Fewer than were asked for are the last ones.
func (c *Checker) Scanned(e Effect, halves []Half, r Rules, now Time) {
	c.scanning = false
	if len(halves) < e.Count {
		c.from = c.until
	}
	var checks, lost []Half
	for i := range halves {
		h := &halves[i]
		c.from = max(c.from, h.Offset+1)
		if h.Offset >= c.until {
			break
		}
		switch r.judge(h, now.Wall) {
		case keep:
		case check:
			checks = append(checks, *h)
		case giveUp:
			lost = append(lost, *h)
		}
	}
	c.queue = batches(batches(c.queue, Check, checks), GiveUp, lost)
}

// ScanFailed answers Scan when nothing can be read: the round ends, and the next one looks again.
func (c *Checker) ScanFailed() {
	c.scanning = false
	c.from = c.until
}

// batches appends the half messages in effects of a bounded size.
func batches(queue []Effect, action Action, halves []Half) []Effect {
	for len(halves) > 0 {
		n, bytes := 0, 0
		for n < len(halves) && n < batchMessagesMax && (n == 0 || bytes+int(halves[n].Size) <= batchBytesMax) {
			bytes += int(halves[n].Size)
			n++
		}
		queue = append(queue, Effect{Action: action, Halves: halves[:n:n]})
		halves = halves[n:]
	}
	return queue
}

// Done answers Check and GiveUp, whether they were done or refused: what was refused, the next round meets again.
func (c *Checker) Done() { c.inFlight-- }

// Step appends what there is to do, and returns the elapsed time to call it again at the latest: Never when only an event can bring
// work. end is the offset behind the last pending half message there can be now.
func (c *Checker) Step(now Time, r Rules, end int64, effects []Effect) ([]Effect, int64) {
	if !c.round {
		if at := min(c.next, now.Elapsed+r.Interval); now.Elapsed < at { // the interval may have been made shorter
			c.next = at
			return effects, at
		}
		c.round, c.from, c.until = true, 0, end
	}
	for len(c.queue) > 0 && c.inFlight < inFlightMax {
		effects = append(effects, c.queue[0])
		c.queue = c.queue[1:]
		c.inFlight++
	}
	switch {
	case c.scanning || len(c.queue) > 0:
	case c.from < c.until:
		c.scanning = true
		effects = append(effects, Effect{Action: Scan, From: c.from, Count: pageMax})
	case c.inFlight == 0:
		c.round, c.next = false, now.Elapsed+r.Interval
		return effects, c.next
	}
	return effects, Never
}
