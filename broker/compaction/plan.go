package compaction

import "math"

// Action is what a Plan wants done.
type Action uint8

// The actions.
const (
	Rest   Action = iota // until a time
	Age                  // compact what was there when the last round began
	Retire               // compact all before a log position, and copy what is left of it
)

// Plan decides what is compacted, and when: a state machine without I/O, clock or goroutines. Times are ms since its start.
type Plan struct {
	safe   int64 // log position before which compaction needs nothing
	wanted int64 // what retention would like it to be
	aged   int64 // when the last round began
	retry  int64 // when retention's wish may be met again
}

// NeededFrom takes retention's wish that nothing before a log position is needed, and returns from where on something is.
func (p *Plan) NeededFrom(wanted int64) int64 {
	if wanted <= p.safe {
		return math.MaxInt64
	}
	p.wanted = wanted
	return p.safe
}

// Next returns what to do now: Rest until a time, or Retire before a log position. What retention waits for comes first.
func (p *Plan) Next(now, interval int64) (do Action, at int64) {
	round := p.aged + interval
	switch waits := p.wanted > p.safe; {
	case waits && now >= p.retry:
		return Retire, p.wanted
	case now >= round:
		p.aged = now
		return Age, 0
	case waits:
		return Rest, min(round, p.retry)
	}
	return Rest, round
}

// Retired answers Retire.
func (p *Plan) Retired(before, now int64, err error) {
	if err != nil {
		p.retry = now + retryMS
		return
	}
	p.safe = before
}

// retryMS is the pause after retention's wish could not be met.
const retryMS = 1000
