package broker

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// sendTimed appends a message for queue 0 of the topic that asks for a moment, as the send path does.
func (n *delayNode) sendTimed(topic, property string, value int64, body string, done func(r *message.Record, err error)) {
	t, err := n.topics.ensure(topic, 1)
	if err != nil {
		done(nil, err)
		return
	}
	p := message.AppendProperty(nil, message.PropUniqueKey, []byte("id-"+body))
	p = message.AppendProperty(p, property, strconv.AppendInt(nil, value, 10))
	e := n.store.EntryFor(message.Record{
		Topic: t.name, Body: []byte(body), Properties: p, BornHost: testHost, StoreHost: testHost, BornTime: 1234, Flag: 7,
	}, t.queue(0))
	if _, err = n.delays.WaitForMoment(&e, nil); err == nil {
		err = n.store.Append(&store.Batch{Entries: []store.Entry{e}, Done: func(b *store.Batch, err error) {
			done(&b.Entries[0].Record, err)
		}})
	}
	if err != nil {
		done(nil, err)
	}
}

// mustSendTimed waits for the answer.
func (n *delayNode) mustSendTimed(topic, property string, value int64, body string) (sent message.Record) {
	n.t.Helper()
	var wait sync.WaitGroup
	wait.Add(1)
	n.sendTimed(topic, property, value, body, func(r *message.Record, err error) {
		if err != nil {
			n.t.Error(err)
		} else {
			sent = *r
		}
		wait.Done()
	})
	wait.Wait()
	return sent
}

// recallNow recalls and waits for the answer.
func (n *delayNode) recallNow(topic, handle string) error {
	answer := make(chan error, 1)
	r := remoting.NewLocalRequest(protocol.NewRequest(protocol.ReqRecallMessage, &protocol.RecallHeader{Topic: topic, Handle: handle}),
		func(_ *remoting.Response, err error) { answer <- err })
	if _, err := n.recall(r); err != remoting.ErrLater { //nolint:errorlint // a sentinel
		return err
	}
	return <-answer
}

// timerState returns what waits as the state has it.
func (n *delayNode) timerState() string {
	var list []string
	err := n.store.StateFrom(delay.KindMoments, "", 1<<20, func(key string, value []byte) error {
		list = append(list, fmt.Sprintf("%x=%x", key, value))
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.Join(list, " ")
}

func (n *delayNode) wantCount(messages int64) {
	n.t.Helper()
	got, bytes := n.delays.Waiting()
	if got != messages {
		n.t.Errorf("%d messages are counted that wait, want %d", got, messages)
	}
	if (bytes == 0) != (messages == 0) {
		n.t.Errorf("%d messages wait with %d bytes", messages, bytes)
	}
}

func TestMomentsAreKeptExactly(t *testing.T) {
	for _, c := range []struct {
		property string
		value    func(now int64) int64
		wait     time.Duration
	}{
		{message.PropTimerDeliver, func(now int64) int64 { return now + 12_345 }, 12_345 * time.Millisecond},
		{message.PropTimerDelayMS, func(int64) int64 { return 700 }, 700 * time.Millisecond},
		{message.PropTimerDelayMS, func(int64) int64 { return 1 }, time.Millisecond},
		{message.PropTimerDelaySec, func(int64) int64 { return 7200 }, 2 * time.Hour},
	} {
		t.Run(fmt.Sprint(c.property, c.wait), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := startDelayNode(t, vfs.NewMem(), delay.DefaultLevels())
				defer n.stop()
				time.Sleep(123 * time.Millisecond)
				sent := n.mustSendTimed("T", c.property, c.value(time.Now().UnixMilli()), "hello")
				due := time.Now().Add(c.wait)
				out := strconv.FormatInt((due.UnixMilli()-1)/1000*1000, 10)
				for name, want := range map[string]string{message.PropRealTopic: "T", message.PropRealQueueID: "0", message.PropTimerOut: out} {
					if got := string(message.Property(sent.Properties, name)); got != want {
						t.Errorf("stored with %s=%q, want %q", name, got, want)
					}
				}
				synctest.Wait()
				n.wantCount(1)
				time.Sleep(c.wait - time.Millisecond)
				synctest.Wait()
				if got := len(n.read("T")); c.wait > time.Millisecond && got > 0 {
					t.Fatalf("it came a millisecond early")
				}
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
				got := n.read("T")
				if len(got) != 1 {
					t.Fatalf("%d are delivered a millisecond late", len(got))
				}
				n.wantCount(0)
				m := got[0]
				if string(m.Topic) != "T" || m.PreparedOffset != sent.PhysicalOffset || m.BornTime != 1234 || m.BornHost != testHost || m.Flag != 7 {
					t.Errorf("delivered %+v from %d", m, sent.PhysicalOffset)
				}
				names := []string{}
				for k := range message.Properties(m.Properties) {
					names = append(names, string(k))
				}
				want := []string{"UNIQ_KEY", c.property, "TIMER_OUT_MS", "TIMER_ENQUEUE_MS", "TIMER_DEQUEUE_MS", message.PropCRC}
				if diff := cmp.Diff(want, names); diff != "" {
					t.Errorf("delivered with %q: %s", m.Properties, diff)
				}
			})
		})
	}
}

func TestRecallsDeleteWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		n := startDelayNode(t, fs, delay.DefaultLevels())
		var handles []string
		for i := range 4 {
			r := n.mustSendTimed("T", message.PropTimerDelaySec, 100, fmt.Sprint("m", i))
			handles = append(handles, n.delays.RecallHandle(&r))
		}
		other := n.mustSendTimed("Other", message.PropTimerDelaySec, 100, "m1") // the same unique key, in another topic
		if err := n.recallNow("T", handles[1]); err != nil {
			t.Fatal(err)
		}
		if err := n.recallNow("T", handles[1]); err != nil { // again
			t.Fatal(err)
		}
		synctest.Wait()
		n.wantCount(4)
		before := n.timerState()
		n.stop()
		if err := fs.RemoveAll("store/view"); err != nil {
			t.Fatal(err)
		}
		n = startDelayNode(t, fs, delay.DefaultLevels())
		defer func() { n.stop() }()
		synctest.Wait()
		n.wantCount(4)
		if after := n.timerState(); after != before {
			t.Errorf("with a new view %s waits, %s before", after, before)
		}
		if err := n.recallNow("T", handles[3]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(101 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{"m0", "m2"}, bodies(n.read("T"))); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"m1"}, bodies(n.read("Other"))); diff != "" {
			t.Error(diff, other)
		}
		n.wantCount(0)
		handle := func(text string) string { return base64.URLEncoding.EncodeToString([]byte(text)) }
		soon := time.Now().Add(time.Minute).UnixMilli()
		for _, c := range []struct {
			name, topic, handle string
			code                protocol.ResponseCode
		}{
			{"past", "T", handles[0], protocol.RespIllegalOperation},
			{"another topic", "Other", handles[0], protocol.RespIllegalOperation},
			{"no topic", "None", handles[0], protocol.RespTopicNotExist},
			{"nothing", "T", "", protocol.RespIllegalOperation},
			{"not base64", "T", "!", protocol.RespIllegalOperation},
			{"another version", "T", handle(fmt.Sprint("v2 T b ", soon, " id")), protocol.RespIllegalOperation},
			{"too few words", "T", handle(fmt.Sprint("v1 T b ", soon)), protocol.RespIllegalOperation},
			{"another broker", "T", handle(fmt.Sprint("v1 T c ", soon, " id")), protocol.RespIllegalOperation},
			{"no time", "T", handle("v1 T b x id"), protocol.RespIllegalOperation},
			{"too far", "T", handle(fmt.Sprint("v1 T b ", soon+4*86_400_000, " id")), protocol.RespIllegalOperation},
			{"nothing with that key", "T", handle(fmt.Sprint("v1 T b ", soon, " id")), protocol.RespSuccess},
		} {
			got := protocol.RespSuccess
			if err := n.recallNow(c.topic, c.handle); err != nil {
				got, _ = protocol.CodeOf(err)
			}
			if got != c.code {
				t.Errorf("%s: %v, want %v", c.name, got, c.code)
			}
		}
	})
}

// Crashes at any moment, also while messages are being delivered, recalled and, where retention is at work, appended again: each message
// that was acknowledged is delivered once, each other at most once, none whose recall was acknowledged; a view that is made anew agrees.
func TestCrashesLoseAndDoubleNoTimedMessage(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			c := &timedCrasher{
				t: t, random: rand.New(rand.NewPCG(seed, 4)), fs: crashfs.New(),
				acknowledged: map[string]bool{}, recalled: map[string]bool{}, seen: map[int64]string{},
			}
			if seed%2 == 1 {
				c.retention.BytesMax = 512 << 10
			}
			c.run()
		})
	}
}

// timedCrasher sends timed messages to one node after the other, each on what a crash of the one before has left.
type timedCrasher struct {
	t         *testing.T
	random    *rand.Rand
	fs        crashfs.FS
	retention store.Retention
	n         *delayNode
	sent      int

	mu                     sync.Mutex // guards what follows
	acknowledged, recalled map[string]bool
	seen                   map[int64]string // offset in T -> body
}

func (c *timedCrasher) burst(count int) {
	for range count {
		i, n := c.sent, c.n
		c.sent++
		body := fmt.Sprint("m", i, strings.Repeat("-", i%1500))
		delay := []int64{1, 30, 200, 20_000, 50_000}[i%5]
		n.sendTimed("T", message.PropTimerDelayMS, delay, body, func(r *message.Record, err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.acknowledged[body] = err == nil; err != nil || i%15 != 14 {
				return
			}
			handle := n.delays.RecallHandle(r)
			c.recalled[body] = false // not known: it may come or not
			go func() {
				err := n.recallNow("T", handle)
				c.mu.Lock()
				defer c.mu.Unlock()
				c.recalled[body] = err == nil
			}()
		})
	}
}

// look notes what is delivered; retention takes it away.
func (c *timedCrasher) look() {
	records := c.n.read("T")
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range records {
		if before, ok := c.seen[r.QueueOffset]; ok && before != string(r.Body) {
			c.t.Fatalf("at offset %d stood %.10s, and now %.10s", r.QueueOffset, before, r.Body)
		}
		c.seen[r.QueueOffset] = string(r.Body)
	}
}

func (c *timedCrasher) run() {
	t, r := c.t, c.random
	carried := int64(0)
	for range 6 {
		c.n = startRetainingNode(t, c.fs, delay.DefaultLevels(), c.retention)
		for end := time.Now().Add(time.Duration(r.IntN(15_000)) * time.Millisecond); time.Now().Before(end); c.look() {
			c.burst(1 + r.IntN(40))
			if r.IntN(4) == 0 {
				if err := c.n.store.Stage(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
		}
		go c.burst(100)
		for range r.IntN(3000) {
			runtime.Gosched()
		}
		c.look()
		c.mu.Lock() // what is acknowledged by now has to be so after the crash
		acknowledged, recalled := maps.Clone(c.acknowledged), maps.Clone(c.recalled)
		c.mu.Unlock()
		next := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(r.Uint64(), 3))})
		synctest.Wait()
		carried = max(carried, c.n.store.Log().First())
		c.n.stop()
		c.fs, c.acknowledged, c.recalled = next, acknowledged, recalled
	}
	c.n = startRetainingNode(t, c.fs, delay.DefaultLevels(), c.retention)
	for range 60 {
		time.Sleep(time.Second)
		synctest.Wait()
		c.look()
	}
	c.n.wantCount(0)
	counts := map[string]int{}
	for _, body := range c.seen {
		if counts[body]++; counts[body] > 1 || c.recalled[body] {
			t.Errorf("%.10s is delivered %d times; recalled %v", body, counts[body], c.recalled[body])
		}
	}
	for body, ok := range c.acknowledged {
		if _, asked := c.recalled[body]; ok && counts[body] == 0 && !asked {
			t.Errorf("%.10s was acknowledged and is lost", body)
		}
	}
	t.Logf("%d sent, %d acknowledged, %d recalled, %d delivered; the log began at %d", c.sent, len(c.acknowledged), len(c.recalled), len(counts), carried)
	if (carried > 0) != (c.retention.BytesMax > 0) {
		t.Errorf("the log began at %d", carried)
	}
	before := bodies(c.n.read("T"))
	c.n.stop()
	if c.retention.BytesMax > 0 {
		return
	}
	if err := c.fs.RemoveAll("store/view"); err != nil {
		t.Fatal(err)
	}
	c.n = startDelayNode(t, c.fs, delay.DefaultLevels())
	defer c.n.stop()
	time.Sleep(time.Second)
	synctest.Wait()
	if after := bodies(c.n.read("T")); !slices.Equal(before, after) {
		t.Errorf("with a new view %d messages are there, %d before", len(after), len(before))
	}
	if waiting := c.n.timerState(); waiting != "" {
		t.Errorf("with a new view there waits %s", waiting)
	}
}

// A message that waits does not keep its segment: it is appended again, its copy waits in its place, and it comes once, at its moment.
func TestRetentionTakesMessagesAlongThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		retention := store.Retention{BytesMax: 512 << 10}
		n := startRetainingNode(t, fs, delay.DefaultLevels(), retention)
		const count = 300
		due := time.Now().Add(time.Hour).UnixMilli() + 345
		var last message.Record
		for i := range count {
			last = n.mustSendTimed("Late", message.PropTimerDeliver, due+int64(i), fmt.Sprint("late", i))
		}
		handle := n.delays.RecallHandle(&last)
		for round := range 8 {
			n.fill()
			time.Sleep(30 * time.Second)
			if round == 5 {
				before := n.timerState()
				n.stop()
				if err := fs.RemoveAll("store/view"); err != nil {
					t.Fatal(err)
				}
				n = startRetainingNode(t, fs, delay.DefaultLevels(), retention)
				time.Sleep(time.Second) // until all is counted
				synctest.Wait()
				if after := n.timerState(); after != before {
					t.Errorf("with a new view %d bytes of state wait, %d before", len(after), len(before))
				}
			}
		}
		if first := n.store.Log().First(); first <= last.PhysicalOffset {
			t.Errorf("the log begins at %d, the last message that waits was sent to %d", first, last.PhysicalOffset)
		}
		n.wantCount(count)
		if err := n.recallNow("Late", handle); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(time.UnixMilli(due - 1)))
		synctest.Wait()
		if got := len(n.read("Late")); got > 0 {
			t.Fatalf("%d came early", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		var want []string
		for i := range count - 1 {
			want = append(want, fmt.Sprint("late", i))
		}
		if diff := cmp.Diff(want, bodies(n.read("Late"))); diff != "" {
			t.Error(diff)
		}
		n.wantCount(0)
		n.stop()
	})
}

// What waits is longer than the log may be: it is written again as the log grows, not over and over while nothing else is sent.
func TestWhatWaitsIsNotWrittenOverAndOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startRetainingNode(t, vfs.NewMem(), delay.DefaultLevels(), store.Retention{BytesMax: 512 << 10})
		const count, rounds = 40, 8
		due := time.Now().Add(time.Hour).UnixMilli()
		for i := range count {
			n.mustSendTimed("Late", message.PropTimerDeliver, due, fmt.Sprint("late", i, strings.Repeat("x", 25<<10)))
		}
		for range rounds {
			n.fill()
			time.Sleep(time.Minute)
		}
		if _, end := n.store.Find(message.TopicTimerWheel, 0).Bounds(); end < 2*count || end > (rounds+4)*count {
			t.Errorf("%d messages were written %d times in all", count, end)
		}
		if first, end := n.store.Log().Bounds(); end-first > 5<<20 {
			t.Errorf("the log has %d bytes", end-first)
		}
		n.wantCount(count)
		n.stop()
	})
}

// crowdedDisk says how much of it is in use.
type crowdedDisk struct {
	vfs.FS
	percent atomic.Uint64
}

func (d *crowdedDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	used := d.percent.Load()
	return vfs.DiskUsage{TotalBytes: 100 << 30, UsedBytes: used << 30, AvailBytes: (100 - used) << 30}, nil
}

// A disk that is beyond the watermark refuses messages; what waits for a moment is taken along all the same, or there would never be room
// again.
func TestAFullDiskIsFreedOfWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &crowdedDisk{FS: vfs.NewMem()}
		disk.percent.Store(50)
		n := startRetainingNode(t, disk, delay.DefaultLevels(), store.Retention{CleanRatio: 0.85, FullRatio: 0.9, FreeBytes: 50 << 30})
		due := time.Now().Add(time.Hour).UnixMilli()
		const count = 50
		var last message.Record
		for i := range count {
			last = n.mustSendTimed("Late", message.PropTimerDeliver, due, fmt.Sprint("late", i))
		}
		for range 8 {
			n.fill()
			time.Sleep(30 * time.Second)
		}
		if n.store.Log().First() > 0 {
			t.Fatal("retention took what it had room for")
		}
		disk.percent.Store(95)
		n.store.RetainNow()
		synctest.Wait()
		if n.store.Writable() == nil {
			t.Fatal("messages are taken on a full disk")
		}
		time.Sleep(5 * time.Minute)
		if first := n.store.Log().First(); first <= last.PhysicalOffset {
			t.Errorf("the log begins at %d, the last message that waits was sent to %d", first, last.PhysicalOffset)
		}
		n.wantCount(count)
		disk.percent.Store(50)
		time.Sleep(time.Until(time.UnixMilli(due)) + time.Minute)
		synctest.Wait()
		if got := len(n.read("Late")); got != count {
			t.Errorf("%d of %d came", got, count)
		}
		n.stop()
	})
}

// However often a message is appended again that asked for a delay, and whatever the view was made from: it comes at the millisecond that its
// delay is over since it was sent, as it was sent.
func TestADelayThatIsTakenAlongEndsAtItsMoment(t *testing.T) {
	for property, value := range map[string]int64{message.PropTimerDelaySec: 3600, message.PropTimerDelayMS: 3_600_345} {
		t.Run(property, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { takeAlong(t, property, value) })
		})
	}
}

// dueAfter is when a message comes, ms, that was sent with a delay.
func dueAfter(sent message.Record, property string, value int64) int64 {
	if property == message.PropTimerDelaySec {
		value *= 1000
	}
	return sent.StoreTime + value
}

func takeAlong(t *testing.T, property string, value int64) {
	fs := vfs.NewMem()
	retention := store.Retention{BytesMax: 512 << 10}
	n := startRetainingNode(t, fs, delay.DefaultLevels(), retention)
	defer func() { n.stop() }()
	time.Sleep(123 * time.Millisecond)
	sent := n.mustSendTimed("Late", property, value, "late")
	due := dueAfter(sent, property, value)
	position := sent.PhysicalOffset
	for round := range 6 {
		n.fill()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		at, copied := n.waits()
		if at != due || copied <= position {
			t.Fatalf("round %d: a copy at %d is due at %d ms; want one behind %d, due at %d", round, copied, at, position, due)
		}
		position = copied
		n.stop()
		if round%2 == 1 {
			if err := fs.RemoveAll("store/view"); err != nil {
				t.Fatal(err)
			}
		}
		n = startRetainingNode(t, fs, delay.DefaultLevels(), retention)
		if at, same := n.waits(); at != due || same != copied {
			t.Fatalf("round %d: after the start the message at %d waits until %d, before it was %d until %d", round, same, at, copied, due)
		}
	}
	time.Sleep(time.Until(time.UnixMilli(due - 1)))
	synctest.Wait()
	if got := n.read("Late"); len(got) > 0 {
		t.Fatalf("it came a millisecond early")
	}
	time.Sleep(2 * time.Millisecond)
	synctest.Wait()
	got := n.read("Late")
	if len(got) != 1 {
		t.Fatalf("%d are delivered a millisecond late", len(got))
	}
	names := []string{}
	for k := range message.Properties(got[0].Properties) {
		names = append(names, string(k))
	}
	want := []string{"UNIQ_KEY", property, "TIMER_OUT_MS", "TIMER_ENQUEUE_MS", "TIMER_DEQUEUE_MS", message.PropCRC}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("delivered with %q: %s", got[0].Properties, diff)
	}
	if enqueued := string(message.Property(got[0].Properties, message.PropTimerEnqueue)); enqueued != fmt.Sprint(sent.StoreTime) {
		t.Errorf("delivered as if sent at %s, it was %d", enqueued, sent.StoreTime)
	}
}

// fill appends more than retention keeps.
func (n *delayNode) fill() {
	n.t.Helper()
	for i := range 40 {
		n.mustSend("T", 0, fmt.Sprint(i, strings.Repeat("x", 30<<10)))
	}
}

// waits returns when the one message is due that waits for a moment, and where it stands in the log.
func (n *delayNode) waits() (due, position int64) {
	n.t.Helper()
	count := 0
	for _, entry := range strings.Fields(n.timerState()) {
		if _, err := fmt.Sscanf(entry, "%16x%16x=", &due, &position); err != nil {
			n.t.Fatalf("there waits %q: %v", entry, err)
		}
		count++
	}
	if count != 1 {
		n.t.Fatalf("%d messages wait", count)
	}
	return due, position
}

// A view that is made anew from the older base, before which what waits was taken along: its source is gone, and it waits once.
func TestAViewOfAnOlderBaseListsWhatWaitsOnce(t *testing.T) {
	for _, property := range []string{message.PropTimerDeliver, message.PropTimerDelayMS} {
		t.Run(property, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { listOnce(t, property) })
		})
	}
}

func listOnce(t *testing.T, property string) {
	fs := vfs.NewMem()
	retention := store.Retention{BytesMax: 2 << 20} // longer than from base to base
	n := startRetainingNode(t, fs, delay.DefaultLevels(), retention)
	value := int64(3_600_345)
	if property == message.PropTimerDeliver {
		value += time.Now().UnixMilli()
	}
	n.mustSendTimed("Late", property, value, "late")
	due, _ := n.waits()
	for tries := 0; ; tries++ {
		n.fill()
		time.Sleep(12 * time.Second)
		synctest.Wait()
		_, copied := n.waits()
		r, _, err := n.store.RecordAt(copied)
		if err != nil {
			t.Fatal(err)
		}
		source := r.PreparedOffset
		if bases := n.bases(fs); len(bases) == 2 && source < min(n.store.Log().First(), bases[0]) && bases[0] < copied {
			break
		}
		if tries == 50 {
			t.Fatalf("bases %v, the log begins at %d, the source is at %d and its copy at %d", n.bases(fs), n.store.Log().First(), source, copied)
		}
	}
	bases, before := n.bases(fs), n.timerState()
	n.stop()
	for _, path := range []string{"store/view", basePath(bases[1])} {
		if err := fs.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	s, _, err := store.Open(storeConfig(fs, Config{DelayLevels: delay.DefaultLevels(), Now: time.Now, Logger: slog.New(slog.DiscardHandler)}, retention))
	if err != nil {
		t.Fatal(err)
	}
	n = &delayNode{t: t, store: s}
	if after := n.timerState(); after != before {
		t.Errorf("with a view from an older base waits %s, before %s", after, before)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	n = startClockNode(t, fs, Config{DelayLevels: delay.DefaultLevels(), Now: time.Now, Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))}, retention)
	time.Sleep(time.Until(time.UnixMilli(due + 1)))
	synctest.Wait()
	if diff := cmp.Diff([]string{"late"}, bodies(n.read("Late"))); diff != "" {
		t.Error(diff)
	}
	before = n.timerState()
	n.stop()
	if before != "" || log.Len() > 0 {
		t.Errorf("there waits %q still; the log has %q", before, log)
	}
}

// bases returns the log positions of the bases.
func (n *delayNode) bases(fs vfs.FS) (bases []int64) {
	names, err := fs.List("store/state")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, name := range names {
		if at, err := strconv.ParseInt(strings.TrimSuffix(name, ".snap"), 10, 64); err == nil && strings.HasSuffix(name, ".snap") {
			bases = append(bases, at)
		}
	}
	slices.Sort(bases)
	return bases
}

func basePath(position int64) string { return fmt.Sprintf("store/state/%020d.snap", position) }
