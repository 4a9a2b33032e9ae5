package timer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/broker/transcript"
)

// world stands in for queues, clocks and log. Its queues grow only.
type world struct {
	levels   *Levels
	delays   []int64
	now      Time
	queues   [][]Item
	watched  []bool
	inFlight []Effect
	out      strings.Builder
}

func newWorld(delays, next []int64) *world {
	return &world{
		levels: New(delays, next), delays: delays, now: Time{Wall: 1_000_000},
		queues: make([][]Item, len(delays)), watched: make([]bool, len(delays)),
	}
}

func (w *world) say(format string, args ...any) { fmt.Fprintf(&w.out, format+"\n", args...) }

func (w *world) put(level, count int, size int32) {
	for range count {
		w.queues[level] = append(w.queues[level], Item{w.now.Wall + w.delays[level], size})
	}
	if w.watched[level] {
		w.watched[level] = false
		w.levels.Woken(level)
		w.run()
	}
}

// run steps until there is nothing left to do at this time. Deliveries stay in flight.
func (w *world) run() (wake int64) {
	var effects []Effect
	for {
		for i := range w.queues {
			if w.levels.Waiting(i) {
				w.levels.Seen(i, int64(len(w.queues[i])))
			}
		}
		if effects, wake = w.levels.Step(w.now, effects[:0]); len(effects) == 0 {
			break
		}
		for _, e := range effects {
			w.perform(e)
		}
	}
	if wake == Never {
		w.say("sleep until an event")
	} else {
		w.say("wake after %d ms", wake-w.now.Elapsed)
	}
	return wake
}

func (w *world) perform(e Effect) {
	switch e.Action {
	case Load:
		w.say("level %d: load %d from %d", e.Level, e.Count, e.Offset)
		w.levels.Loaded(e, e.Offset, w.queues[e.Level][e.Offset:e.Offset+int64(e.Count)])
	case Watch:
		w.say("level %d: watch for offset %d", e.Level, e.Offset)
		w.watched[e.Level] = true
	case Deliver, Move:
		w.say("level %d: "+map[Action]string{Deliver: "deliver", Move: "move"}[e.Action]+" %d to %d, %d bytes", e.Level, e.Offset, e.Offset+int64(e.Count)-1, e.Bytes)
		w.inFlight = append(w.inFlight, e)
	}
}

// command carries out one line of a transcript.
func (w *world) command(line string) error {
	var a, b, c int64
	scan := func(format string, into ...any) bool {
		n, err := fmt.Sscanf(line, format, into...)
		return err == nil && n == len(into)
	}
	switch {
	case scan("put level=%d count=%d size=%d", &a, &b, &c):
		w.put(int(a), int(b), int32(c))
	case scan("move level=%d before=%d", &a, &b):
		w.levels.MoveBefore(int(a), b)
		w.run()
	case scan("pass %d ms", &a):
		w.now.Wall += a
		w.now.Elapsed += a
		w.run()
	case scan("set the wall clock by %d ms", &a):
		w.now.Wall += a
		w.run()
	case line == "stored":
		for _, e := range w.inFlight {
			w.levels.Stored(e)
		}
		w.inFlight = nil
		w.run()
	case line == "refused":
		e := w.inFlight[0]
		w.inFlight = w.inFlight[1:]
		w.levels.Refused(e, w.now)
		w.run()
	default:
		return fmt.Errorf("unknown command %q", line)
	}
	return nil
}

func TestTranscripts(t *testing.T) {
	transcript.Play(t, "testdata/*.txt", func(*testing.T) (*strings.Builder, func(string) error) {
		w := newWorld([]int64{1_000, 5_000, 7_200_000}, []int64{0, 0, 0})
		return &w.out, w.command
	})
}

// Whatever happens, each message is stored once, in queue order, and no earlier than one of the clocks allows.
func TestEachMessageOnceInOrderAndNotEarly(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld([]int64{1_000, 3_000, 60_000}, []int64{0, 0, 0})
		stored := make([]int64, len(w.queues))
		arrived := make([][]int64, len(w.queues))
		settle := func(refuse bool) {
			for len(w.inFlight) > 0 {
				e := w.inFlight[0]
				w.inFlight = w.inFlight[1:]
				if refuse { // as when a segment is full: this and all after it
					w.levels.Refused(e, w.now)
					continue
				}
				if e.Offset != stored[e.Level] {
					t.Fatalf("seed %d: level %d delivers from %d, %d is next", seed, e.Level, e.Offset, stored[e.Level])
				}
				for n := range int64(e.Count) {
					due := w.queues[e.Level][e.Offset+n].Due
					if e.Action == Move {
						continue
					}
					if waited := w.now.Elapsed - arrived[e.Level][e.Offset+n]; w.now.Wall < due && waited < w.delays[e.Level] {
						t.Fatalf("seed %d: level %d offset %d is delivered %d ms early", seed, e.Level, e.Offset+n, due-w.now.Wall)
					}
				}
				stored[e.Level] += int64(e.Count)
				w.levels.Stored(e)
			}
		}
		for range 200 {
			w.out.Reset()
			switch r.IntN(11) {
			case 10:
				level := r.IntN(3)
				w.levels.MoveBefore(level, r.Int64N(int64(len(w.queues[level]))+1))
			case 0:
				w.now.Wall += r.Int64N(200_000) - 100_000
			case 1, 2, 3, 4:
				level, count := r.IntN(3), 1+r.IntN(700)
				w.put(level, count, int32(r.IntN(20_000)))
				for range count {
					arrived[level] = append(arrived[level], w.now.Elapsed)
				}
			default:
				d := r.Int64N(2_000)
				w.now.Wall += d
				w.now.Elapsed += d
			}
			w.run()
			settle(r.IntN(8) == 0)
		}
		// 60 s and a 64th of it, however the wall clock stands, and a pause after a refusal
		for range 40 {
			w.now.Elapsed += 2_000
			for w.run(); len(w.inFlight) > 0; w.run() {
				settle(false)
			}
		}
		for i := range stored {
			if int(stored[i]) != len(w.queues[i]) {
				t.Fatalf("seed %d: level %d: %d of %d are stored", seed, i, stored[i], len(w.queues[i]))
			}
		}
	}
}

func TestAnswersThatComeTooLateChangeNothing(t *testing.T) {
	l := New([]int64{1_000}, []int64{5})
	l.Seen(0, 20)
	items := make([]Item, 10)
	step := func(now Time) Effect {
		effects, _ := l.Step(now, nil)
		if len(effects) != 1 {
			t.Fatalf("effects %+v", effects)
		}
		return effects[0]
	}
	l.Loaded(step(Time{}), 5, items)
	delivery := step(Time{})
	load := step(Time{})
	l.Refused(delivery, Time{})
	l.Loaded(load, 15, items) // asked for before the refusal
	again := step(Time{Elapsed: 1_000})
	if again.Action != Load || again.Offset != 5 {
		t.Fatalf("after a refusal: %+v, want a load from 5", again)
	}
}
