package broker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// movedProperties are of a message that failed once before: it has waited for a moment, and has all that means something while one does.
func movedProperties(body string) []byte {
	var p []byte
	for _, pair := range [][2]string{
		{message.PropUniqueKey, "id-" + body}, {message.PropTags, "blue"}, {message.PropKeys, "k"}, {message.PropRetryTopic, "Origin"},
		{message.PropTimerOut, "1000"}, {message.PropTimerEnqueue, "2000"}, {message.PropTimerDequeue, "3000"},
		{message.PropTimerDelete, "someone"}, {"APOGEE_LEVEL_DELAY", "user's own"}, {"own", "x"},
	} {
		p = message.AppendProperty(p, pair[0], []byte(pair[1]))
	}
	return p
}

// mustSendFailed sends such a message to wait in a level.
func (n *delayNode) mustSendFailed(topic string, level int, body string) (sent message.Record) {
	n.t.Helper()
	t, err := n.topics.ensure(topic, 1)
	if err != nil {
		n.t.Fatal(err)
	}
	e := n.store.EntryFor(message.Record{
		Topic: t.name, Body: []byte(body), Properties: movedProperties(body), BornHost: testHost, StoreHost: testHost, BornTime: 1234, Flag: 7, ReconsumeTimes: 3,
	}, t.queue(0))
	n.delays.Schedule(&e, level, nil)
	done := make(chan error, 1)
	if err = n.store.Append(&store.Batch{Entries: []store.Entry{e}, Done: func(b *store.Batch, err error) {
		sent = b.Entries[0].Record
		done <- err
	}}); err == nil {
		err = <-done
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return sent
}

// A message that waits in a level does not keep its segment: it is moved, and comes once, when its level says, as if it had stayed; also
// where the view was made anew from either base meanwhile.
func TestRetentionMovesWhatWaitsInALevel(t *testing.T) {
	for _, base := range []string{"none", "newer", "older"} {
		t.Run("view from base "+base, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { moveLevel(t, base) })
		})
	}
}

func moveLevel(t *testing.T, base string) {
	fs := vfs.NewMem()
	retention := store.Retention{BytesMax: 3 << 20} // longer than from base to the next but one
	levels := delay.Levels{time.Second, time.Hour, 2 * time.Hour}
	n := startRetainingNode(t, fs, levels, retention)
	time.Sleep(345 * time.Millisecond)
	const count = 30
	var first, last message.Record
	for i := range count {
		last = n.mustSendFailed("%RETRY%g", 2, fmt.Sprint("late", i))
		if i == 0 {
			first = last
		}
	}
	later := n.mustSendFailed("%RETRY%g", 3, "later")
	filled := func() bool {
		bases := n.bases(fs)
		if len(bases) < 2 || later.PhysicalOffset >= min(n.store.Log().First(), bases[0]) {
			return false
		}
		entries, err := n.store.Find(message.TopicTimerWheel, 0).Entries(nil, 0, 1)
		return base != "older" || err == nil && len(entries) == 1 && bases[0] <= entries[0].Position // all was moved behind the older base
	}
	for tries := 0; !filled(); tries++ {
		for i := range 10 {
			n.mustSend("T", 0, fmt.Sprint(i, strings.Repeat("x", 30<<10)))
		}
		if err := n.store.Stage(); err != nil { // with a base
			t.Fatal(err)
		}
		n.store.RetainNow()
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if tries == 50 {
			t.Fatalf("the log begins at %d, messages wait at %d to %d, bases %v", n.store.Log().First(), first.PhysicalOffset, later.PhysicalOffset, n.bases(fs))
		}
	}
	n.wantCount(count + 1)
	before, bases := n.timerState(), n.bases(fs)
	n.stop()
	if base != "none" {
		if err := fs.RemoveAll("store/view"); err != nil {
			t.Fatal(err)
		}
	}
	if base == "older" {
		if err := fs.RemoveAll(basePath(bases[1])); err != nil {
			t.Fatal(err)
		}
	}
	n = startRetainingNode(t, fs, levels, retention)
	defer func() { n.stop() }()
	if after := n.timerState(); after != before {
		t.Errorf("after the start %q waits, before %q", after, before)
	}
	due := first.StoreTime + levels[1].Milliseconds()
	time.Sleep(time.Until(time.UnixMilli(due - 1)))
	synctest.Wait()
	if got := bodies(n.read("%RETRY%g")); len(got) > 0 {
		t.Fatalf("early: %q", got)
	}
	time.Sleep(time.Until(time.UnixMilli(last.StoreTime + levels[1].Milliseconds() + 1)))
	synctest.Wait()
	got := n.read("%RETRY%g")
	var want []string
	for i := range count {
		want = append(want, fmt.Sprint("late", i))
	}
	if diff := cmp.Diff(want, bodies(got)); diff != "" {
		t.Fatal(diff)
	}
	m := got[0]
	if m.ReconsumeTimes != 3 || m.Flag != 7 || m.BornTime != 1234 || m.BornHost != testHost || m.StoreTime-due > 1 {
		t.Errorf("due at %d comes %+v", due, m)
	}
	stayed, _, _ := strings.Cut(string(first.Properties), message.PropCRC)
	if came, _, _ := strings.Cut(string(m.Properties), message.PropCRC); came != stayed {
		t.Errorf("came with    %q\nwas sent with %q", came, stayed)
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	if got := bodies(n.read("%RETRY%g")); len(got) == 0 || got[len(got)-1] != "later" {
		t.Errorf("at last came %q", got)
	}
	n.wantCount(0)
}

// timerLiveBytesMax bounds what is moved, too: then retention stops at what waits in a level.
func TestRetentionStopsAtLevelsBeyondTimerLiveBytesMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		levels := delay.Levels{time.Hour}
		n := startClockNode(t, vfs.NewMem(), Config{DelayLevels: levels, Now: time.Now, TimerLiveBytesMax: 1000}, store.Retention{BytesMax: 512 << 10})
		defer n.stop()
		n.mustSendTimed("Late", message.PropTimerDelaySec, 7200, strings.Repeat("t", 1000))
		waiting := n.mustSend("Late", 1, "late")
		for range 8 {
			n.fill()
			time.Sleep(15 * time.Second)
		}
		if first := n.store.Log().First(); first > waiting {
			t.Errorf("the log begins at %d, and a message at %d waits", first, waiting)
		}
		time.Sleep(time.Hour)
		if diff := cmp.Diff([]string{"late"}, bodies(n.read("Late"))); diff != "" {
			t.Error(diff)
		}
		n.fill()
		time.Sleep(30 * time.Second)
		if first := n.store.Log().First(); first < waiting {
			t.Errorf("the log still begins at %d", first)
		}
	})
}

// Crashes at any moment, while messages of levels are sent, moved and delivered, and retention takes segments; each start makes the view anew
// from one of the bases, or not: each message that was acknowledged is delivered once, and none early.
func TestCrashesLoseAndDoubleNothingThatIsMoved(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			c := &movedCrasher{t: t, random: rand.New(rand.NewPCG(seed, 6)), fs: crashfs.New(), acknowledged: map[string]int64{}, seen: map[int64]string{}}
			c.run()
		})
	}
}

var movedLevels = delay.Levels{time.Second, 12 * time.Second, 40 * time.Second, 90 * time.Second}

type movedCrasher struct {
	t      *testing.T
	random *rand.Rand
	fs     crashfs.FS
	n      *delayNode
	sent   int
	moves  int64 // records of the timers' topic

	mu           sync.Mutex       // guards what follows
	acknowledged map[string]int64 // -> when it is due
	seen         map[int64]string // offset in T -> body
}

func (c *movedCrasher) start() {
	if c.n = startRetainingNode(c.t, c.fs, movedLevels, store.Retention{BytesMax: 2 << 20}); c.n.store.Find(message.TopicTimerWheel, 0) != nil {
		_, c.moves = c.n.store.Find(message.TopicTimerWheel, 0).Bounds()
	}
}

func (c *movedCrasher) burst(count int) {
	for range count {
		i := c.sent
		c.sent++
		level := []int{1, 2, 3, 4, 4}[i%5]
		body := fmt.Sprint("m", i, strings.Repeat("-", i%300))
		due := time.Now().Add(movedLevels[level-1]).UnixMilli()
		c.n.send("T", level, body, func(_ int64, err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if err == nil {
				c.acknowledged[body] = due
			}
		})
	}
}

// look notes what is delivered; retention takes it away.
func (c *movedCrasher) look() {
	records := c.n.read("T")
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range records {
		if before, ok := c.seen[r.QueueOffset]; ok && before != string(r.Body) {
			c.t.Fatalf("at offset %d stood %.10s, and now %.10s", r.QueueOffset, before, r.Body)
		}
		if due := c.acknowledged[string(r.Body)]; r.StoreTime < due {
			c.t.Errorf("%.10s came %d ms early", r.Body, due-r.StoreTime)
		}
		if name := string(message.Property(r.Properties, message.PropDelay)); name == "" || message.Property(r.Properties, message.PropTimerOut) != nil {
			c.t.Errorf("%.10s came with %q", r.Body, r.Properties)
		}
		c.seen[r.QueueOffset] = string(r.Body)
	}
}

func (c *movedCrasher) run() {
	t, r := c.t, c.random
	for range 6 {
		c.start()
		for end := time.Now().Add(time.Duration(r.IntN(25_000)) * time.Millisecond); time.Now().Before(end); c.look() {
			c.burst(1 + r.IntN(60))
			for i := range r.IntN(6) {
				c.n.send("Other", 0, fmt.Sprint(i, strings.Repeat("x", 25<<10)), func(int64, error) {})
			}
			if r.IntN(4) == 0 {
				if err := c.n.store.Stage(); err != nil {
					t.Fatal(err)
				}
			}
			if r.IntN(3) == 0 {
				c.n.store.RetainNow()
			}
			time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
		}
		c.n.store.RetainNow()
		go c.burst(100)
		for range r.IntN(6000) {
			runtime.Gosched()
		}
		c.look()
		c.mu.Lock() // what is acknowledged by now has to be so after the crash
		acknowledged := maps.Clone(c.acknowledged)
		c.mu.Unlock()
		next := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(r.Uint64(), 3))})
		synctest.Wait()
		c.n.stop()
		c.fs, c.acknowledged = next, acknowledged
		c.loseView(r.IntN(3))
	}
	c.start()
	for range 100 {
		time.Sleep(time.Second)
		synctest.Wait()
		c.look()
	}
	c.n.wantCount(0)
	counts := map[string]int{}
	for _, body := range c.seen {
		if counts[body]++; counts[body] > 1 {
			t.Errorf("%.10s is delivered %d times", body, counts[body])
		}
	}
	for body := range c.acknowledged {
		if counts[body] == 0 {
			t.Errorf("%.10s was acknowledged and is lost", body)
		}
	}
	_, c.moves = c.n.store.Find(message.TopicTimerWheel, 0).Bounds()
	t.Logf("%d sent, %d acknowledged, %d delivered, %d moved; the log begins at %d", c.sent, len(c.acknowledged), len(counts), c.moves, c.n.store.Log().First())
	if c.moves == 0 || c.n.store.Log().First() == 0 {
		t.Error("nothing was moved")
	}
	c.n.stop()
}

// loseView removes nothing, the view, or the newest of two bases as well.
func (c *movedCrasher) loseView(how int) {
	bases := c.n.bases(c.fs)
	if how == 0 || len(bases) < 2 {
		return
	}
	paths := []string{"store/view", basePath(bases[len(bases)-1])}
	for _, path := range paths[:how] {
		if err := c.fs.RemoveAll(path); err != nil {
			c.t.Fatal(err)
		}
	}
}
