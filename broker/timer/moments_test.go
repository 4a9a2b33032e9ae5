package timer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/broker/transcript"
)

// momentWorld stands in for state, clocks and log. Messages are named by their log positions.
type momentWorld struct {
	moments  *Moments
	now      Time
	next     int64            // log position
	state    map[Key]int32    // what waits, by its size
	inFlight [][]Moment       // handed out, oldest first
	held     map[int64]Moment // by position
	ofTopic  int              // what waits, as counted by topic
	out      strings.Builder
}

func newMomentWorld() *momentWorld {
	w := &momentWorld{now: Time{Wall: 1_000_000}, state: map[Key]int32{}, held: map[int64]Moment{}}
	w.start(0)
	return w
}

// start begins anew: what waits was stored before a log position.
func (w *momentWorld) start(from int64) {
	w.ofTopic = 0
	w.moments = NewMoments(from, func(_ string, n int) { w.ofTopic += n })
}

func (w *momentWorld) say(format string, args ...any) { fmt.Fprintf(&w.out, format+"\n", args...) }

// put adds count messages that are due in ms from now, each one ms after the other.
func (w *momentWorld) put(in int64, count int, size int32) {
	for i := range count {
		m := Moment{Key: Key{w.now.Wall + in + int64(i), w.next}, Size: size}
		w.next++
		w.state[m.Key] = size
		w.moments.Added(m)
		w.ofTopic++ // as who sends it says
	}
}

// waiting returns up to n of what waits from a key on.
func (w *momentWorld) waiting(from Key, n int) (items []Moment, all bool) {
	for _, k := range slices.SortedFunc(maps.Keys(w.state), Key.Compare) {
		if k.Compare(from) >= 0 {
			items = append(items, Moment{Key: k, Size: w.state[k], Topic: "T"})
		}
	}
	return items[:min(n, len(items))], len(items) < n
}

func (w *momentWorld) waitingUpTo(from Key, n int) (items []Moment, last Key, all bool) {
	if items, all = w.waiting(from, n); len(items) > 0 {
		last = items[len(items)-1].Key
	}
	return items, last, all
}

func span(items []Moment) string {
	if len(items) == 1 {
		return fmt.Sprintf("1 message, %d", items[0].Position)
	}
	return fmt.Sprintf("%d messages, %d to %d", len(items), items[0].Position, items[len(items)-1].Position)
}

// run steps until there is nothing left to do at this time. Deliveries stay in flight.
func (w *momentWorld) run() {
	for {
		if from, wanted := w.moments.Load(w.now); wanted {
			items, last, all := w.waitingUpTo(from, MomentsLoad)
			if len(items) > 0 {
				w.say("load: %s", span(items))
			}
			w.moments.Loaded(items, last, all)
			continue
		}
		due, wake := w.moments.Step(w.now, nil)
		if len(due) > 0 {
			w.say("deliver: %s", span(due))
			w.inFlight = append(w.inFlight, due)
			continue
		}
		if wake == Never {
			w.say("sleep until an event")
		} else {
			w.say("wake after %d ms", wake-w.now.Elapsed)
		}
		return
	}
}

// stored ends the oldest delivery, refused takes it back.
func (w *momentWorld) stored() {
	for i, m := range w.inFlight[0] {
		delete(w.state, m.Key)
		w.inFlight[0][i].Topic = "T" // as its record says
	}
	w.moments.Stored(w.inFlight[0])
	w.inFlight = w.inFlight[1:]
}

func (w *momentWorld) refused() {
	w.moments.Refused(w.inFlight[0], w.now)
	w.inFlight = w.inFlight[1:]
}

// count counts what has not been counted.
func (w *momentWorld) count() {
	for from, more := w.moments.Uncounted(); more; from, more = w.moments.Uncounted() {
		w.moments.Counted(w.waitingUpTo(from, 100))
	}
}

func (w *momentWorld) hold(position int64) bool {
	for k, size := range w.state {
		if m := (Moment{Key: k, Size: size, Topic: "T"}); k.Position == position && w.moments.Hold(m) {
			w.held[position] = m
			return true
		}
	}
	return false
}

func (w *momentWorld) letGo(position int64, waitsNoMore bool) {
	m := w.held[position]
	delete(w.held, position)
	if waitsNoMore {
		delete(w.state, m.Key)
	}
	w.moments.LetGo(m, waitsNoMore)
}

func (w *momentWorld) command(line string) error {
	var a, b, c int64
	scan := func(format string, into ...any) bool {
		n, err := fmt.Sscanf(line, format, into...)
		return err == nil && n == len(into)
	}
	switch {
	case scan("put %d in %d ms, %d bytes", &a, &b, &c):
		w.put(b, int(a), int32(c))
		w.run()
	case scan("pass %d ms", &a):
		w.now.Wall += a
		w.now.Elapsed += a
		w.run()
	case scan("set the wall clock by %d ms", &a):
		w.now.Wall += a
		w.run()
	case line == "stored":
		w.stored()
		w.run()
	case line == "refused":
		w.refused()
		w.run()
	case line == "restart":
		from := w.next
		w.start(from)
		w.inFlight, w.now.Elapsed = nil, 0
		w.run()
	case line == "count":
		w.count()
		messages, bytes := w.moments.Count()
		w.say("%d messages, %d bytes", messages, bytes)
	case scan("hold %d", &a):
		w.say("%v", w.hold(a))
		w.run()
	case scan("let go %d", &a):
		w.letGo(a, false)
		w.run()
	case scan("delete %d", &a):
		w.letGo(a, true)
		w.run()
	default:
		return fmt.Errorf("unknown command %q", line)
	}
	return nil
}

func TestMomentTranscripts(t *testing.T) {
	transcript.Play(t, "testdata/moments/*.txt", func(*testing.T) (*strings.Builder, func(string) error) {
		w := newMomentWorld()
		return &w.out, w.command
	})
}

// Whatever happens, each message is stored once, not before its moment, and none that was deleted; the count is right.
func TestEachMessageAtItsMomentAndOnce(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newMomentWorld()
		stored, deleted := map[int64]bool{}, map[int64]bool{}
		settle := func(refuse bool) {
			for len(w.inFlight) > 0 {
				for _, m := range w.inFlight[0] {
					if refuse {
						break
					}
					if stored[m.Position] || deleted[m.Position] || m.Due > w.now.Wall {
						t.Fatalf("seed %d: %+v is stored at %d; before: %v, deleted: %v", seed, m, w.now.Wall, stored[m.Position], deleted[m.Position])
					}
					stored[m.Position] = true
				}
				if refuse {
					w.refused()
				} else {
					w.stored()
				}
			}
		}
		for range 250 {
			w.out.Reset()
			switch r.IntN(12) {
			case 0:
				if w.now.Wall += r.Int64N(2000); r.IntN(2) == 0 {
					w.now.Wall -= 4000
					settle(true) // what is handed out may not be due any more
				}
			case 1, 2, 3:
				w.put(r.Int64N(20_000)-100, 1+r.IntN(100), int32(1+r.IntN(20_000)))
			case 4, 5:
				w.hold(r.Int64N(w.next + 1))
			case 6:
				for position := range w.held {
					yes := r.IntN(2) == 0
					deleted[position] = yes
					w.letGo(position, yes)
					break
				}
			case 7:
				if from, more := w.moments.Uncounted(); more {
					w.moments.Counted(w.waitingUpTo(from, 1+r.IntN(100)))
				}
			case 8:
				if r.IntN(5) == 0 {
					w.held = map[int64]Moment{}
					w.start(w.next)
					w.inFlight = nil
				}
			default:
				d := r.Int64N(1_000)
				w.now.Wall += d
				w.now.Elapsed += d
			}
			if w.run(); r.IntN(2) == 0 {
				settle(r.IntN(8) == 0)
			}
		}
		for position := range w.held {
			w.letGo(position, false)
		}
		w.count()
		var bytes int64
		for _, size := range w.state {
			bytes += int64(size)
		}
		if n, b := w.moments.Count(); int(n) != len(w.state) || b != bytes {
			t.Fatalf("seed %d: %d messages with %d bytes are counted, %d with %d wait", seed, n, b, len(w.state), bytes)
		}
		if w.ofTopic != len(w.state) {
			t.Fatalf("seed %d: %d messages are counted by topic, %d wait", seed, w.ofTopic, len(w.state))
		}
		w.now.Wall += 1_000_000
		w.now.Elapsed += 1_000_000
		for settle(false); len(w.state) > 0; settle(false) {
			before := len(w.state)
			if w.run(); len(w.inFlight) == 0 {
				t.Fatalf("seed %d: %d are left", seed, before)
			}
		}
		if n, b := w.moments.Count(); n != 0 || b != 0 {
			t.Fatalf("seed %d: %d messages with %d bytes are counted at the end", seed, n, b)
		}
	}
}

// Of any number of messages only a window is known, and all come in the order of their moments.
func TestTheWindowIsBounded(t *testing.T) {
	w := newMomentWorld()
	const n = 5 * momentsMax
	for i := range int64(n) {
		m := Moment{Key: Key{w.now.Wall + 1 + (i*7919)%n, i}, Size: 100}
		w.state[m.Key] = 100
		w.moments.Added(m)
		if i == 0 {
			w.run()
		}
	}
	sorted := slices.SortedFunc(maps.Keys(w.state), Key.Compare)
	w.now.Wall += 2 * n
	next := 0
	for next < n {
		for {
			from, wanted := w.moments.Load(w.now)
			if !wanted {
				break
			}
			at, _ := slices.BinarySearchFunc(sorted, from, Key.Compare)
			var items []Moment
			for _, k := range sorted[at:min(at+MomentsLoad, n)] {
				items = append(items, Moment{Key: k, Size: 100})
			}
			w.moments.Loaded(items, sorted[at+len(items)-1], len(items) < MomentsLoad)
		}
		due, _ := w.moments.Step(w.now, nil)
		for _, m := range due {
			if m.Key != sorted[next] {
				t.Fatalf("%+v came, %+v is next", m, sorted[next])
			}
			next++
		}
		w.moments.Stored(due)
		if known := len(w.moments.known); known > 2*momentsMax {
			t.Fatalf("%d messages are known", known)
		}
	}
}
