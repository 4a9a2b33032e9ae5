package cold

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// windows drives a control through windows in which groups read.
type windows struct {
	*Control
	o   Options
	now time.Time
}

func newWindows(o Options) *windows {
	w := &windows{New(), o, time.UnixMilli(1_000_000)}
	w.Tick(w.now, o)
	return w
}

func (w *windows) pass() {
	w.now = w.now.Add(Window)
	w.Tick(w.now, w.o)
}

func TestAGroupReadsAsMuchAsItMayInAWindow(t *testing.T) {
	w := newWindows(Options{GroupBytes: 100, GlobalBytes: 1000})
	exhausted := func(want bool, group string) {
		t.Helper()
		if got := w.Exhausted(group, w.o); got != want {
			t.Errorf("%s exhausted: %v, want %v", group, got, want)
		}
	}
	w.Read("a", 99, w.now)
	exhausted(false, "a")
	w.Read("a", 1, w.now)
	exhausted(true, "a")
	exhausted(false, "b")
	w.SetLimit("a", 500)
	exhausted(false, "a")
	w.SetLimit("b", 10_000)
	w.Read("b", 900, w.now)
	exhausted(true, "b") // all together
	exhausted(true, "a")
	exhausted(false, "c") // reads nothing cold
	want := Info{
		Readers: map[string]ReaderInfo{"a": {100, 1_000_000, 1_000_000}, "b": {900, 1_000_000, 1_000_000}},
		Limits:  map[string]int64{"a": 500, "b": 10_000}, Group: 100, Global: 1000, Total: 1000,
	}
	if diff := cmp.Diff(want, w.Info(w.o)); diff != "" {
		t.Error(diff)
	}
	w.pass()
	exhausted(false, "a")
	exhausted(false, "b")
	w.Remove("a")
	w.Read("a", 100, w.now)
	exhausted(true, "a")
	for range 12 { // a minute
		w.pass()
	}
	if left := w.Info(w.o).Readers; len(left) != 0 {
		t.Errorf("after a minute there are %v", left)
	}
}

func TestLimitsFollowWhatAllReadTogether(t *testing.T) {
	for _, withPID := range []bool{false, true} {
		w := newWindows(Options{Adaptive: true, PID: withPID, GroupBytes: 100, GlobalBytes: 1000})
		w.SetLimit("fixed", 50)
		for range pidWindows + 1 {
			w.Read("fixed", 50, w.now)
			w.Read("a", 200, w.now)
			w.pass()
		}
		limits := w.Info(w.o).Limits
		if limits["a"+adaptiveSuffix] < 150 || limits["fixed"] != 50 || len(limits) != 2 {
			t.Fatalf("PID %v: there is room, and limits are %v", withPID, limits)
		}
		raised := limits["a"+adaptiveSuffix]
		for range 2 * pidWindows {
			w.Read("a", 5000, w.now)
			w.pass()
		}
		if got := w.Info(w.o).Limits["a"+adaptiveSuffix]; got >= raised || got < 100 {
			t.Errorf("PID %v: too much is read, and the limit went from %d to %d", withPID, raised, got)
		}
		w.o.Adaptive = false
		w.pass()
		if diff := cmp.Diff(map[string]int64{"fixed": 50}, w.Info(w.o).Limits); diff != "" {
			t.Errorf("PID %v: without the strategy %s", withPID, diff)
		}
	}
}
