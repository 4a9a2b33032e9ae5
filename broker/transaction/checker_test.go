package transaction

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/broker/transcript"
	"github.com/google/go-cmp/cmp"
)

// world stands in for the state of half messages, the log and producers.
type world struct {
	checker  *Checker
	rules    Rules
	now      Time
	halves   map[int64]Half // pending
	next     int64
	inFlight []Effect
	deaf     bool // what is scanned cannot be read
	out      strings.Builder
}

func newWorld() *world {
	w := &world{
		rules: Rules{Interval: 30_000, Timeout: 6_000, ChecksMax: 15, ReservedMS: 72 * 3_600_000}, now: Time{Wall: 1_000_000_000},
		halves: map[int64]Half{},
	}
	w.checker = New(w.rules, w.now)
	return w
}

func (w *world) say(format string, args ...any) { fmt.Fprintf(&w.out, format+"\n", args...) }

// run steps until there is nothing left to do at this time. Checks stay in flight.
func (w *world) run() (wake int64) {
	var effects []Effect
	for {
		if effects, wake = w.checker.Step(w.now, w.rules, w.next, effects[:0]); len(effects) == 0 {
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
	case Scan:
		if w.deaf {
			w.say("scan from %d: fails", e.From)
			w.checker.ScanFailed()
			return
		}
		var page []Half
		for _, offset := range slices.Sorted(maps.Keys(w.halves)) {
			if offset >= e.From && len(page) < e.Count {
				page = append(page, w.halves[offset])
			}
		}
		w.say("scan from %d: %d", e.From, len(page))
		w.checker.Scanned(e, page, w.rules, w.now)
	case Check, GiveUp:
		w.say("%s %s", map[Action]string{Check: "check", GiveUp: "give up"}[e.Action], offsets(e.Halves))
		w.inFlight = append(w.inFlight, e)
	}
}

func offsets(halves []Half) string {
	if len(halves) > 3 {
		return fmt.Sprintf("%d to %d, %d of them", halves[0].Offset, halves[len(halves)-1].Offset, len(halves))
	}
	var list []string
	for _, h := range halves {
		list = append(list, fmt.Sprintf("%d (%d checks)", h.Offset, h.Checks))
	}
	return strings.Join(list, ", ")
}

// done makes what is in flight durable, or refuses it.
func (w *world) done(refuse bool) {
	for _, e := range w.inFlight {
		w.checker.Done()
		for _, h := range e.Halves {
			if _, pending := w.halves[h.Offset]; !pending || refuse {
				continue
			}
			if h.Checks++; e.Action == Check {
				w.halves[h.Offset] = h
			} else {
				delete(w.halves, h.Offset)
			}
		}
	}
	w.inFlight = nil
}

func (w *world) put(count int, age int64, immunity string, size int32) {
	for range count {
		w.halves[w.next] = Half{Offset: w.next, Size: size, Born: w.now.Wall - age, Immunity: immunity}
		w.next++
	}
}

// command carries out one line of a transcript.
func (w *world) command(line string) error {
	var a, b, c int64
	var text string
	scan := func(format string, into ...any) bool {
		n, err := fmt.Sscanf(line, format, into...)
		return err == nil && n == len(into)
	}
	switch {
	case scan("put count=%d size=%d", &a, &b):
		w.put(int(a), 0, "", int32(b))
	case scan("put age=%d", &a):
		w.put(1, a, "", 100)
	case scan("put immunity=%s", &text):
		w.put(1, 0, text, 100)
	case scan("pass %d ms", &a):
		w.now.Wall += a
		w.now.Elapsed += a
		w.run()
	case scan("set the wall clock by %d ms", &a):
		w.now.Wall += a
	case scan("decide %d", &c):
		delete(w.halves, c)
	case line == "crash": // what is in flight may be durable, or not: done or refused comes before, or not
		w.inFlight = nil
		w.checker = New(w.rules, w.now)
		w.say("%d pending", len(w.halves))
		w.run()
	case scan("interval %d ms", &a):
		w.rules.Interval = a
		w.run()
	case scan("checks %d", &a):
		w.rules.ChecksMax = int32(a)
	case line == "done", line == "refused":
		w.done(line == "refused")
		w.run()
	case line == "deaf", line == "hearing":
		w.deaf = line == "deaf"
	default:
		return fmt.Errorf("unknown command %q", line)
	}
	return nil
}

func TestTranscripts(t *testing.T) {
	transcript.Play(t, "testdata/*.txt", func(*testing.T) (*strings.Builder, func(string) error) {
		w := newWorld()
		return &w.out, w.command
	})
}

// Whatever happens, every half message that is not decided is checked as often as the rules say, once in a round, and then given up.
func TestEachHalfMessageIsCheckedOnceARound(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld()
		w.rules.ChecksMax = 3
		rounds := map[int64]int64{} // when a half message was last checked
		for range 100 {
			w.out.Reset()
			switch r.IntN(8) {
			case 0:
				w.put(r.IntN(300), r.Int64N(10_000), []string{"", "", "20", "x"}[r.IntN(4)], int32(r.IntN(10_000)))
			case 1:
				for offset := range w.halves {
					delete(w.halves, offset)
					break
				}
			case 2:
				w.deaf = !w.deaf
			default:
				d := r.Int64N(8_000)
				w.now.Wall += d
				w.now.Elapsed += d
			}
			w.run()
			for len(w.inFlight) > 0 {
				if len(w.inFlight) > inFlightMax {
					t.Fatalf("seed %d: %d batches in flight", seed, len(w.inFlight))
				}
				refuse := r.IntN(10) == 0
				for _, e := range w.inFlight {
					for _, h := range e.Halves {
						if last, again := rounds[h.Offset]; again && w.now.Elapsed < last+w.rules.Interval {
							t.Fatalf("seed %d: %d is looked at after %d ms", seed, h.Offset, w.now.Elapsed-last)
						}
						rounds[h.Offset] = w.now.Elapsed
						if age := w.now.Wall - h.Born; age <= w.rules.Timeout && e.Action == Check {
							t.Fatalf("seed %d: %d is checked at the age of %d ms", seed, h.Offset, age)
						}
						if e.Action == GiveUp && h.Checks != 3 {
							t.Fatalf("seed %d: %d is given up after %d checks", seed, h.Offset, h.Checks)
						}
					}
				}
				w.done(refuse)
				w.run()
			}
		}
		for w.deaf = false; len(w.halves) > 0; w.run() {
			w.out.Reset()
			if w.now.Wall > 2_000_000_000 {
				t.Fatalf("seed %d: %d are never given up", seed, len(w.halves))
			}
			w.now.Wall += 1_000
			w.now.Elapsed += 1_000
			for w.run(); len(w.inFlight) > 0; w.run() {
				w.done(false)
			}
		}
	}
}

func TestJudgement(t *testing.T) {
	rules := Rules{Timeout: 6_000, ChecksMax: 15, ReservedMS: 1_000_000}
	for _, tc := range []struct {
		name     string
		age      int64
		immunity string
		checks   int32
		want     verdict
	}{
		{"new", 0, "", 0, keep},
		{"at the time-out", 6_000, "", 0, keep},
		{"beyond it", 6_001, "", 0, check},
		{"from the future", -1, "", 0, check},
		{"immune", 20_000, "20", 0, keep},
		{"immune no more", 20_001, "20", 0, check},
		{"immune for less than the time-out", 3_001, "3", 0, check},
		{"immune in the future", -1_000, "20", 0, keep},
		{"immunity of -1", 6_000, "-1", 0, keep},
		{"immunity of -1, later", 6_001, "-1", 0, check},
		{"immunity that is no number", 6_001, "soon", 0, check},
		{"checked often", 6_001, "", 14, check},
		{"too often", 6_001, "", 15, giveUp},
		{"too often, and immune", 1, "20", 15, giveUp},
		{"too old", 1_000_001, "", 0, giveUp},
	} {
		h := Half{Born: 5_000_000 - tc.age, Immunity: tc.immunity, Checks: tc.checks}
		if got := rules.judge(&h, 5_000_000); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	for _, tc := range []struct {
		age      int64
		immunity string
		want     bool
	}{
		{1e9, "", false}, {20_000, "20", false}, {20_001, "20", true}, {6_000, "3", false}, {6_001, "3", true}, {6_001, "x", true}, {6_000, "x", false},
	} {
		if got := rules.TooLate(5_000_000-tc.age, tc.immunity, 5_000_000); got != tc.want {
			t.Errorf("a decision after %d ms with an immunity of %q is too late: %v, want %v", tc.age, tc.immunity, got, tc.want)
		}
	}
}

func TestHalfMessagesAsState(t *testing.T) {
	for _, want := range []Half{
		{}, {Offset: 1, Position: 2, Size: 3, Born: 4, Immunity: "60", Checks: 5, Topic: "Orders"},
		{Offset: math.MaxInt64, Position: math.MaxInt64, Size: math.MaxInt32, Born: -1, Checks: math.MaxInt32, Topic: strings.Repeat("t", 300)},
	} {
		got, list, err := Decode(Key(GivenUp, want.Offset), want.Value())
		if diff := cmp.Diff(want, got); diff != "" || list != GivenUp || err != nil {
			t.Errorf("list %c, %v: %s", list, err, diff)
		}
	}
	whole := (&Half{Immunity: "60", Topic: "T"}).Value()
	for _, value := range [][]byte{nil, whole[:25], append([]byte{2}, whole[1:]...), whole[:27]} {
		if _, _, err := Decode(Key(Pending, 1), value); err == nil {
			t.Errorf("%x is taken", value)
		}
	}
	if _, _, err := Decode("p", whole); err == nil {
		t.Error("a short key is taken")
	}
}
