package broker

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// wallClock is a clock whose wall time somebody sets, in whole seconds; the time that elapses does not jump with it.
type wallClock struct {
	began time.Time // in the test's bubble
	ahead time.Duration
}

// outside is a time as no bubble has it: with the reading of a monotonic clock.
var outside = time.Now()

// now is what time.Now returns on a machine whose clock is set so. Only the runtime makes times whose two clocks disagree: the seconds of the
// wall clock begin at bit 30 of a Time's first word.
func (c *wallClock) now() time.Time {
	t := outside.Add(time.Since(c.began) - time.Duration(outside.Nanosecond()))
	*(*uint64)(unsafe.Pointer(&t)) += uint64(c.ahead/time.Second) << 30
	return t
}

func TestTheTestsClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
			clock := wallClock{began: time.Now()}
			before := clock.now()
			clock.ahead = ahead
			time.Sleep(time.Minute)
			after := clock.now()
			if wall, elapsed := after.UnixMilli()-before.UnixMilli(), after.Sub(before); wall != (ahead+time.Minute).Milliseconds() || elapsed != time.Minute {
				t.Errorf("set by %v the wall clock is ahead by %d ms, and %v have elapsed", ahead, wall, elapsed)
			}
		}
	})
}

// When the wall clock is set, what waits for a moment comes when the clock shows it; what has waited for that long already, at once. What
// waits for the time of a level comes at the earlier of two: when the clock shows it, and when that time has elapsed, of which a start
// knows nothing and begins anew. Nothing is lost, nothing comes twice.
func TestTheWallClockIsSetWhileMessagesWait(t *testing.T) {
	const never = time.Duration(0)
	type arrivals map[string]time.Duration // since the start
	for _, c := range []struct {
		name          string
		ahead         time.Duration
		stop, restart time.Duration // the clock is set after a minute
		want          arrivals
	}{
		{"forward", time.Hour, never, never, arrivals{
			"moment in 5m": time.Minute, "moment in 90m": 30 * time.Minute, "level of 10m": time.Minute, "level of 2h": time.Hour,
		}},
		{"forward, then restarted", time.Hour, 2 * time.Minute, 2 * time.Minute, arrivals{
			"moment in 5m": time.Minute, "moment in 90m": 30 * time.Minute, "level of 10m": time.Minute, "level of 2h": time.Hour,
		}},
		{"forward while it is down", time.Hour, time.Minute / 2, 2 * time.Minute, arrivals{
			"moment in 5m": 2 * time.Minute, "moment in 90m": 30 * time.Minute, "level of 10m": 2 * time.Minute, "level of 2h": time.Hour,
		}},
		{"back", -time.Hour, never, never, arrivals{
			"moment in 5m": 65 * time.Minute, "moment in 90m": 150 * time.Minute, "level of 10m": 10 * time.Minute, "level of 2h": 2 * time.Hour,
		}},
		{"back, then restarted", -time.Hour, 2 * time.Minute, 2 * time.Minute, arrivals{
			"moment in 5m": 65 * time.Minute, "moment in 90m": 150 * time.Minute, "level of 10m": 12 * time.Minute, "level of 2h": 122 * time.Minute,
		}},
		{"back while it is down", -time.Hour, time.Minute / 2, 2 * time.Minute, arrivals{
			"moment in 5m": 65 * time.Minute, "moment in 90m": 150 * time.Minute, "level of 10m": 12 * time.Minute, "level of 2h": 122 * time.Minute,
		}},
	} {
		// what is sent after it was set
		c.want["later moment in 5m"], c.want["later level of 10m"] = 8*time.Minute, 13*time.Minute
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, seen := time.Now(), map[string]time.Duration{}
				clock := wallClock{began: began}
				fs, options := vfs.NewMem(), Config{DelayLevels: delay.Levels{10 * time.Minute, 2 * time.Hour}, Now: clock.now}
				n := startClockNode(t, fs, options, store.Retention{})
				defer func() { n.stop() }()
				look := func(until time.Duration) { // notes what is there at every second
					for ; time.Since(began) < until && len(seen) < len(c.want); time.Sleep(time.Second) {
						if n == nil {
							continue
						}
						synctest.Wait()
						if _, end := n.store.Queue("T", 0).Bounds(); end == int64(len(seen)) {
							continue
						}
						for _, body := range bodies(n.read("T")) {
							if _, ok := seen[body]; !ok {
								seen[body] = time.Since(began)
							}
						}
					}
				}
				n.mustSendTimed("T", message.PropTimerDelayMS, 300_000, "moment in 5m")
				n.mustSendTimed("T", message.PropTimerDelaySec, 5400, "moment in 90m")
				n.mustSend("T", 1, "level of 10m")
				n.mustSend("T", 2, "level of 2h")
				set := func(upTo time.Duration) {
					if look(min(upTo, time.Minute)); upTo >= time.Minute {
						clock.ahead = c.ahead
						look(upTo)
					}
				}
				if c.restart > 0 {
					set(c.stop)
					n.stop()
					n = nil
					set(c.restart)
					n = startClockNode(t, fs, options, store.Retention{})
				}
				set(3 * time.Minute)
				n.mustSendTimed("T", message.PropTimerDelaySec, 300, "later moment in 5m")
				n.mustSend("T", 1, "later level of 10m")
				look(4 * time.Hour)
				for body, want := range c.want {
					if got, ok := seen[body]; !ok || got < want || got > want+2*time.Second {
						t.Errorf("%q came after %v, want %v", body, got, want)
					}
				}
				n.wantCount(0)
				n.stop()
				if err := fs.RemoveAll("store/view"); err != nil {
					t.Fatal(err)
				}
				n = startClockNode(t, fs, options, store.Retention{})
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				got := bodies(n.read("T"))
				slices.Sort(got)
				if diff := cmp.Diff(slices.Sorted(maps.Keys(c.want)), got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// The longest wait that timerMaxDelaySec may allow for: a message comes at its millisecond after a year, in which the log it was sent to has
// gone many times over.
func TestAMessageComesAfterAYear(t *testing.T) {
	for property, value := range map[string]int64{message.PropTimerDelaySec: 365 * 86_400, message.PropTimerDelayMS: 365*86_400_000 - 655} {
		t.Run(property, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { aYear(t, property, value) }) })
	}
}

func aYear(t *testing.T, property string, value int64) {
	var passed time.Duration // with nothing going on: a second of idleness is work for a test, too
	options := Config{
		DelayLevels: delay.DefaultLevels(), TimerMaxDelaySec: 365 * 86_400,
		Now: func() time.Time { return time.Now().Add(passed) },
	}
	fs, retention := vfs.NewMem(), store.Retention{Age: 72 * time.Hour}
	n := startClockNode(t, fs, options, retention)
	defer func() { n.stop() }()
	time.Sleep(123 * time.Millisecond)
	sent := n.mustSendTimed("Late", property, value, "late")
	due := dueAfter(sent, property, value)
	refused := make(chan error, 1)
	n.sendTimed("Late", message.PropTimerDelaySec, 365*86_400+1, "beyond", func(_ *message.Record, err error) { refused <- err })
	if err := <-refused; err == nil {
		t.Error("a delay of a second more is taken")
	}
	left := func() time.Duration { return time.UnixMilli(due).Sub(options.Now()) }
	carried, position := 0, sent.PhysicalOffset
	for month := range 12 {
		passed += 30 * 24 * time.Hour
		n.fill()
		time.Sleep(time.Minute)
		n.fill()
		time.Sleep(time.Minute)
		if month%4 == 3 {
			n.stop()
			if err := fs.RemoveAll("store/view"); err != nil {
				t.Fatal(err)
			}
			n = startClockNode(t, fs, options, retention)
		}
		at, now := n.waits()
		if at != due {
			t.Fatalf("month %d: it is due at %d, want %d", month, at, due)
		}
		if now != position {
			carried, position = carried+1, now
		}
	}
	if first := n.store.Log().First(); carried < 10 || first <= sent.PhysicalOffset {
		t.Errorf("it was taken along %d times, and the log begins at %d", carried, first)
	}
	passed += left() - time.Hour
	time.Sleep(left() - time.Millisecond)
	synctest.Wait()
	if got := n.read("Late"); len(got) > 0 {
		t.Fatal("it came a millisecond early")
	}
	time.Sleep(2 * time.Millisecond)
	synctest.Wait()
	if diff := cmp.Diff([]string{"late"}, bodies(n.read("Late"))); diff != "" {
		t.Error(fmt.Sprint("a millisecond late: ", diff))
	}
	n.wantCount(0)
}
