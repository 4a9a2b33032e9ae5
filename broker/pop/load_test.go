package pop

import (
	"math"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// loaded is a queue that much was handed out of and nothing acknowledged. What is not in memory is made again when it is asked for.
type loaded struct {
	t      *testing.T
	q      Queue
	pops   int
	writes int // the most of one event
	reads  int // of runs that are not in memory
}

const perPop = 32

func (l *loaded) id(i int) RunID { return RunID{int64(i) + 60_000, int64(i) * perPop, int64(i), 1} }

func (l *loaded) pop() {
	var offsets [perPop]int64
	for k := range offsets {
		offsets[k] = int64(l.pops*perPop + k)
	}
	w := l.q.Popped(nil, l.id(l.pops), offsets[:], offsets[perPop-1]+1)
	l.writes = max(l.writes, len(w))
	l.pops++
}

// ack acknowledges one of the first messages of a delivery, of which all before it are.
func (l *loaded) ack(i, message int) {
	id := l.id(i)
	if l.q.Absent(id) {
		r := Run{RunID: id}
		for k := message; k < perPop; k++ {
			r.Left.set(k)
		}
		l.q.Fetch(r)
		l.reads++
	}
	w, outcome := l.q.Ack(nil, id, id.Start+int64(message))
	if l.writes = max(l.writes, len(w)); outcome != Done {
		l.t.Fatalf("message %d of delivery %d: %d", message, i, outcome)
	}
}

// Memory and work do not grow with what is not acknowledged: a pop reads nothing and writes two entries, an acknowledgement reads and
// writes one, and what is in memory are so many runs and steps, however much is handed out.
func TestAMillionOpenMessagesCostNoMoreThanAFewThousand(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	l := &loaded{t: t}
	for l.pops < 2*runsKept {
		l.pop()
	}
	before := heap()
	for l.pops < 1_000_000/perPop {
		l.pop()
	}
	if after := heap(); after > before+128<<10 {
		t.Errorf("%d bytes more for %d deliveries than for %d", after-before, l.pops, 2*runsKept)
	}
	if l.reads > 0 || l.writes > 2 || l.q.Open() != l.pops {
		t.Errorf("pops read %d entries and wrote %d at once; %d are open", l.reads, l.writes, l.q.Open())
	}
	bounded := func(when string) {
		t.Helper()
		if len(l.q.runs) > runsKept+1 || cap(l.q.runs) > 4*runsKept || l.q.lows.Len() != len(l.q.runs) || len(l.q.absent.steps) > stepsKept {
			t.Fatalf("%s %d runs are in memory (room for %d), %d lows, %d steps", when, len(l.q.runs), cap(l.q.runs), l.q.lows.Len(), len(l.q.absent.steps))
		}
	}
	bounded("after the pops")
	for i := range l.pops { // of every delivery one: none of them ends
		l.ack(i, 0)
		bounded("between acknowledgements")
	}
	if l.reads > l.pops || l.writes > 2 || l.q.Open() != l.pops {
		t.Errorf("%d acknowledgements read %d entries and wrote %d at once; %d are open", l.pops, l.reads, l.writes, l.q.Open())
	}
	const step = 2 * 1_000_000 / stepsKept
	for i := range 5000 { // the group's offset follows, whatever is not in memory
		for message := 1; message < perPop; message++ {
			l.ack(i, message)
		}
		if want, low := l.id(i+1).Start, l.q.Low(); low > want+1 || low < want-step {
			t.Fatalf("after %d deliveries the offset is %d, want about %d", i+1, low, want)
		}
	}
}

func TestCoarseIsNeverAboveTheLowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c coarse
		var lows []int64
		for range 3000 {
			if len(lows) > 0 && rapid.IntRange(0, 9).Draw(t, "remove") < 4 {
				i := rapid.IntRange(0, len(lows)-1).Draw(t, "which")
				c.remove(lows[i])
				lows[i] = lows[len(lows)-1]
				lows = lows[:len(lows)-1]
			} else {
				lows = append(lows, rapid.Int64Range(0, 1<<20).Draw(t, "low"))
				c.add(lows[len(lows)-1])
			}
			if c.count != len(lows) {
				t.Fatalf("%d counted of %d", c.count, len(lows))
			}
			if len(lows) == 0 {
				continue
			}
			low := int64(math.MaxInt64)
			for _, l := range lows {
				low = min(low, l)
			}
			if got := c.low(); got > low || got < low-(1<<20)*2/stepsKept {
				t.Fatalf("the lowest is %d, want about %d", got, low)
			}
		}
	})
}
