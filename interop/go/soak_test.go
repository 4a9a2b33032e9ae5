package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	soakQueues        = 8
	soakRate          = 500  // messages a second of one producer
	soakBodyBytes     = 2048 // so that the memory for the log is full before the last third
	soakRestartEvery  = time.Minute
	soakShort         = 32 * time.Second
	soakShortRestart  = 8 * time.Second
	soakSettleMax     = 3 * time.Minute
	soakSlopeMax      = 1 << 20 // bytes a minute
	soakSlopeFrom     = 5       // minutes; in less the memory has not settled
	goroutinesMetric  = "go_goroutines"
	residentMetric    = "process_resident_memory_bytes"
	soakSamplesPeriod = time.Second
	idleLookPeriod    = 20 * time.Millisecond
)

// TestSoak keeps producers and consumers of all languages busy for SOAK_MINUTES, 32 s by default:
// with a restart of the broker every minute, SIGTERM and SIGKILL in turn, and without one, as only
// then memory can be watched. The goroutines, files and memory are the broker's own figures.
func TestSoak(t *testing.T) {
	lasting, every := soakLengths(t)
	t.Run("restarts", func(t *testing.T) {
		t.Parallel()
		soak(t, lasting, every)
	})
	t.Run("steady", func(t *testing.T) {
		t.Parallel()
		soak(t, lasting, lasting)
	})
}

func soakLengths(t *testing.T) (lasting, restartEvery time.Duration) {
	text := os.Getenv("SOAK_MINUTES")
	if text == "" {
		return soakShort, soakShortRestart
	}
	minutes, err := strconv.Atoi(text)
	if err != nil || minutes < 1 {
		t.Fatalf("SOAK_MINUTES=%q is not a number of minutes", text)
	}
	return time.Duration(minutes) * time.Minute, soakRestartEvery
}

// soak restarts the broker whenever another `every` has passed.
func soak(t *testing.T, lasting, every time.Duration) {
	s, c := harness.Own(t)
	f := newFleet(t, c, newTopic(t, c, soakQueues))
	restart(t, s, 1) // ends the connections that newTopic's clients leave open
	idle := measureIdle(t, s)
	var groups []*group
	var producers []*worker
	together := &group{name: unique(t), listener: "concurrently", unknownMax: unknownMax}
	for _, language := range languages() {
		producers = append(producers, f.produce(t, language, soakRate, soakBodyBytes))
		together.join(t, f, language, "")
		f.waitReady(t, f.all...)
		ordered := &group{name: unique(t), listener: "orderly", unknownMax: unknownMax}
		ordered.join(t, f, language, "")
		f.waitReady(t, f.all...)
		groups = append(groups, ordered)
	}
	groups = append(groups, together)
	watch := startWatch(s)
	restarts := 0
	for began := time.Now(); time.Since(began) < lasting; {
		time.Sleep(min(every, lasting-time.Since(began)))
		f.follow(t)
		if time.Since(began) < lasting {
			restarts++
			restart(t, s, restarts)
		}
	}
	for _, w := range producers {
		w.stop(t)
	}
	samples := watch.stop()
	f.follow(t)
	acked := acknowledged(t, producers)
	fmt.Printf("soak: lasting=%v restarts=%d acked=%d\n", lasting, restarts, len(acked))
	settle(t, f, groups, acked, soakSettleMax)
	checkMemory(t, samples, restarts)
	checkIdle(t, s, idle)
}

// restart ends the broker with SIGTERM and with SIGKILL in turn.
func restart(t *testing.T, s *harness.Server, n int) {
	t.Helper()
	if n%2 == 0 {
		s.Kill()
	} else if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
}

// sample is the broker's resident memory at a time.
type sample struct {
	at    time.Time
	bytes float64
}

// watch samples a broker each second, as long as it is up.
type watch struct {
	done    chan struct{}
	samples []sample
	ended   sync.WaitGroup
}

func startWatch(s *harness.Server) *watch {
	w := &watch{done: make(chan struct{})}
	w.ended.Go(func() {
		tick := time.NewTicker(soakSamplesPeriod)
		defer tick.Stop()
		for {
			select {
			case <-w.done:
				return
			case now := <-tick.C:
				if figures, err := s.Metrics(); err == nil { // it may be down
					w.samples = append(w.samples, sample{now, figures[residentMetric]})
				}
			}
		}
	})
	return w
}

func (w *watch) stop() []sample {
	close(w.done)
	w.ended.Wait()
	return w.samples
}

// checkMemory wants a broker that was not restarted to have stopped growing in the last third.
func checkMemory(t *testing.T, samples []sample, restarts int) {
	t.Helper()
	if len(samples) == 0 {
		t.Fatal("no sample of the broker's memory")
	}
	last := samples[len(samples)*2/3:]
	slope := bytesPerMinute(last)
	most := slices.MaxFunc(samples, func(a, b sample) int { return int(a.bytes - b.bytes) })
	fmt.Printf("memory: samples=%d max=%.1fMiB last=%.1fMiB slope_of_last_third=%.3fMiB/min restarts=%d\n", len(samples),
		most.bytes/(1<<20), last[len(last)-1].bytes/(1<<20), slope/(1<<20), restarts)
	lasting := samples[len(samples)-1].at.Sub(samples[0].at)
	if restarts == 0 && lasting > soakSlopeFrom*time.Minute && slope >= soakSlopeMax {
		t.Errorf("resident memory grows by %.0f bytes a minute in the last third, want under %d", slope, soakSlopeMax)
	}
}

// bytesPerMinute is the slope of the straight line with the least squares.
func bytesPerMinute(samples []sample) float64 {
	var n, x, y, xx, xy float64
	for _, s := range samples {
		minutes := s.at.Sub(samples[0].at).Minutes()
		n, x, y, xx, xy = n+1, x+minutes, y+s.bytes, xx+minutes*minutes, xy+minutes*s.bytes
	}
	return (n*xy - x*y) / (n*xx - x*x)
}

// use is what clients make a broker have open and running.
type use struct {
	goroutines int
	files      []string
}

// measureIdle looks until a second has brought nothing more: what starts with the first requests, and what a look needs itself, which
// has a goroutine more or less from one time to the next, is there without clients too.
func measureIdle(t *testing.T, s *harness.Server) use {
	t.Helper()
	most := measureUse(t, s)
	for since := time.Now(); time.Since(since) < time.Second; time.Sleep(idleLookPeriod) {
		if now := measureUse(t, s); now.exceeds(most) {
			most = use{max(most.goroutines, now.goroutines), longer(most.files, now.files)}
			since = time.Now()
		}
	}
	return most
}

func longer(a, b []string) []string {
	if len(b) > len(a) {
		return b
	}
	return a
}

func measureUse(t *testing.T, s *harness.Server) use {
	t.Helper()
	figures, err := s.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	files, err := s.OpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	return use{int(figures[goroutinesMetric]), slices.DeleteFunc(files, isTable)}
}

// isTable tells whether a file is one of the view's tables, which hold data and stay open, up to a limit.
func isTable(path string) bool { return filepath.Ext(path) == ".sst" }

// checkIdle wants no more goroutines and open files than before the first client came.
func checkIdle(t *testing.T, s *harness.Server, idle use) {
	t.Helper()
	now := measureUse(t, s)
	for deadline := time.Now().Add(waitMax); now.exceeds(idle) && time.Now().Before(deadline); now = measureUse(t, s) {
		time.Sleep(soakSamplesPeriod) // a look is a connection too
	}
	fmt.Printf("idle: goroutines=%d (before %d) files=%d (before %d)\n", now.goroutines, idle.goroutines, len(now.files), len(idle.files))
	if now.exceeds(idle) {
		goroutines, err := s.Goroutines()
		t.Errorf("more goroutines or files than before the first client; open before: %q, now: %q; running (%v):\n%s",
			idle.files, now.files, err, goroutines)
	}
}

func (u use) exceeds(other use) bool {
	return u.goroutines > other.goroutines || len(u.files) > len(other.files)
}
