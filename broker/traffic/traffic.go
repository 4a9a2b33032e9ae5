package traffic

import (
	"sync"
	"sync/atomic"
	"time"
)

// Key names a counter: a topic, or a group's part of a topic; with a kind, what else is counted of them.
type Key struct {
	Topic, Group string
	Kind         Kind
	Queue        int32 // of latencies
}

// Kind is what a counter counts.
type Kind uint8

// The kinds.
const (
	Messages     Kind = iota
	SentBack          // messages that the group sent back
	Dead              // those of them that went to the dead letters
	SendTime          // milliseconds that sends took, instead of messages
	PullTime          // milliseconds that pulls took
	Half              // half messages of the topic that are pending
	Committed         // those that were committed
	RolledBack        // those that were rolled back
	Timed             // messages that wait for a moment
	PopDelivered      // deliveries by POP: one may hold many messages
	PopAcked          // messages of them that were acknowledged
	PopRevived        // messages of them that were not, and are delivered again
)

// Counter counts messages, their bytes and the requests that they came in.
type Counter struct {
	messages, bytes, requests atomic.Int64

	system  bool
	windows [windowCount]window // guarded by Table.mu
}

// Add counts messages that came in one request.
func (c *Counter) Add(messages, bytes int) {
	c.messages.Add(int64(messages))
	c.bytes.Add(int64(bytes))
	c.requests.Add(1)
}

func (c *Counter) now(at time.Time) sample {
	return sample{at, c.messages.Load(), c.bytes.Load(), c.requests.Load()}
}

// sample is a reading of a counter.
type sample struct {
	at                        time.Time
	messages, bytes, requests int64
}

// The windows, with how often they are sampled and how many samples they span.
const (
	windowMinute = iota
	windowHour
	windowDay
	windowCount
)

var (
	windowEvery = [windowCount]time.Duration{10 * time.Second, 10 * time.Minute, time.Hour}
	windowSpan  = [windowCount]int{6, 6, 24}
)

// window holds the samples of its span.
type window []sample

// take adds a sample; a first one is preceded by a zero, so that what was counted before it is in the window.
func (w *window) take(s sample, i int) {
	if len(*w) == 0 {
		*w = append(*w, sample{at: s.at.Add(-windowEvery[i])})
	}
	if *w = append(*w, s); len(*w) > windowSpan[i] {
		*w = append((*w)[:0], (*w)[1:]...)
	}
}

// span returns what a counter counted since its window began, and for how long. The caller holds mu.
func (t *Table) span(c *Counter, i int, now time.Time) (d sample, over time.Duration) {
	first := sample{at: t.sampled[i]} // it was not there then
	if w := c.windows[i]; len(w) > 0 {
		first = w[0]
	}
	last := c.now(now)
	d = sample{now, last.messages - first.messages, last.bytes - first.bytes, last.requests - first.requests}
	return d, max(now.Sub(first.at), windowEvery[i])
}

// Bounds of the distribution of the time that sends took (putMessageDistributeTime); the last class has no end.
var sendTimeBounds = [...]time.Duration{
	0, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second, 10 * time.Second,
}

// flowSample is what is kept of each second for the rates in GET_BROKER_RUNTIME_INFO.
type flowSample struct {
	at                           time.Time
	put, found, missed, returned int64
}

// flowSamples spans the longest rate, 600 s.
const flowSamples = 601

// Table holds the counters.
type Table struct {
	countersMax int

	sendTimes        [len(sendTimeBounds) + 1]atomic.Int64
	sendTimeMaxMS    atomic.Int64
	sendFailures     atomic.Int64
	found, missed    atomic.Int64 // pulls that were answered with and without messages
	put, got         Counter      // of the whole broker
	userPut, userGot Counter      // without system topics

	mu      sync.RWMutex // guards what follows
	items   map[Key]*Counter
	sampled [windowCount]time.Time
	flow    []flowSample
	days    dayTotals
}

// dayTotals are the broker's totals at the last two midnights.
type dayTotals struct {
	day                                            int // of the year; 0 before the first tick
	putYesterday, putToday, gotYesterday, gotToday int64
}

// New returns a table of so many counters; what is counted beyond them has no names.
func New(countersMax int) *Table { return &Table{countersMax: countersMax, items: map[Key]*Counter{}} }

// Of returns the counter of a topic, or with a group that of the group's part of it.
func (t *Table) Of(topic, group string, system bool) *Counter {
	return t.OfKey(Key{Topic: topic, Group: group}, system)
}

func (t *Table) OfKey(k Key, system bool) *Counter {
	t.mu.RLock()
	c := t.items[k]
	t.mu.RUnlock()
	if c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c = t.items[k]; c == nil && len(t.items) >= t.countersMax {
		k = restKey(k, system)
		c = t.items[k]
	}
	if c == nil {
		c = &Counter{system: system}
		t.items[k] = c
	}
	return c
}

// restKey is the nameless counter that counts what has no counter of its own.
func restKey(k Key, system bool) (rest Key) {
	rest.Kind = k.Kind
	if k.Group != "" {
		rest.Group = "\x00"
	}
	if system {
		rest.Topic = "\x00"
	}
	return rest
}

// Find returns a counter, nil where nothing was counted.
func (t *Table) Find(topic, group string) *Counter {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.items[Key{Topic: topic, Group: group}]
}

// SendsDone notes how long n sends took.
func (t *Table) SendsDone(took time.Duration, n int, failed bool) {
	if failed {
		t.sendFailures.Add(int64(n))
		return
	}
	class := 0
	for class < len(sendTimeBounds) && took.Truncate(time.Millisecond) > sendTimeBounds[class] {
		class++
	}
	t.sendTimes[class].Add(int64(n))
	if ms := took.Milliseconds(); ms > t.sendTimeMaxMS.Load() {
		t.sendTimeMaxMS.Store(ms) // a race may keep the smaller of two: it is an indication
	}
}

// Pulled notes messages that were given to a group, and how long that took.
func (t *Table) Pulled(topic, group string, system bool, queue int32, messages, bytes int, took time.Duration) {
	t.found.Add(1)
	t.Of(topic, group, system).Add(messages, bytes)
	t.OfKey(Key{topic, group, PullTime, queue}, system).Add(int(took.Milliseconds()), 0)
}

// PulledNothing notes a pull that was answered without messages.
func (t *Table) PulledNothing() { t.missed.Add(1) }

// Took notes how long n sends to the counter's queue took.
func (c *Counter) Took(n int, took time.Duration) {
	c.messages.Add(int64(n) * took.Milliseconds())
	c.requests.Add(int64(n))
}

// NoteSentBack notes that a group sent a message of a topic back, and whether that was the end of it.
func (t *Table) NoteSentBack(topic, group string, dead bool) {
	t.OfKey(Key{Topic: topic, Group: group, Kind: SentBack}, false).Add(1, 0)
	if dead {
		t.OfKey(Key{Topic: topic, Group: group, Kind: Dead}, false).Add(1, 0)
	}
}

// Tick takes the samples that are due.
func (t *Table) Tick(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.flow); n == 0 || now.Sub(t.flow[n-1].at) >= time.Second {
		t.sampleFlow(now)
	}
	for i := range t.sampled {
		if now.Sub(t.sampled[i]) < windowEvery[i] {
			continue
		}
		t.sampled[i] = now
		t.total()
		for _, c := range t.items {
			c.windows[i].take(c.now(now), i)
		}
		for _, c := range []*Counter{&t.put, &t.got, &t.userPut, &t.userGot} {
			c.windows[i].take(c.now(now), i)
		}
	}
}

// total sums the counters up. The caller holds mu.
func (t *Table) total() {
	var sums [4]sample // put, got, and both without system topics
	for k, c := range t.items {
		if k.Kind != Messages {
			continue
		}
		kind := 0
		if k.Group != "" {
			kind = 1
		}
		now := c.now(time.Time{})
		for _, i := range [2]int{kind, kind + 2} {
			if i < 2 || !c.system {
				sums[i].messages += now.messages
				sums[i].bytes += now.bytes
				sums[i].requests += now.requests
			}
		}
	}
	for i, c := range []*Counter{&t.put, &t.got, &t.userPut, &t.userGot} {
		c.messages.Store(sums[i].messages)
		c.bytes.Store(sums[i].bytes)
		c.requests.Store(sums[i].requests)
	}
}

// sampleFlow takes the second's sample and notices midnight. The caller holds mu.
func (t *Table) sampleFlow(now time.Time) {
	t.total()
	put, got := t.put.messages.Load(), t.got.messages.Load()
	t.flow = append(t.flow, flowSample{now, put, t.found.Load(), t.missed.Load(), got})
	if len(t.flow) > flowSamples {
		t.flow = append(t.flow[:0], t.flow[1:]...)
	}
	day := now.YearDay()
	if t.days.day == 0 {
		t.days.day = day
	}
	if day != t.days.day {
		t.days = dayTotals{day: day, putYesterday: t.days.putToday, putToday: put, gotYesterday: t.days.gotToday, gotToday: got}
	}
}

// Rate returns the messages a second over the last minute.
func (t *Table) Rate(topic, group string, now time.Time) float64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	c := t.items[Key{Topic: topic, Group: group}]
	if c == nil {
		return 0
	}
	d, over := t.span(c, windowMinute, now)
	return perSecond(d.messages, over)
}

func perSecond(n int64, over time.Duration) float64 {
	if over <= 0 {
		return 0
	}
	return float64(n) / over.Seconds()
}

// Forget drops the counters of a deleted topic or group. The totals must not go back, so what they counted stays in a nameless one.
func (t *Table) Forget(topic, group string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, c := range t.items {
		if (topic == "" || k.Topic != topic) && (group == "" || k.Group != group) {
			continue
		}
		if k.Kind != Messages {
			delete(t.items, k)
			continue
		}
		rest := restKey(k, c.system)
		if t.items[rest] == nil {
			t.items[rest] = &Counter{system: c.system}
		}
		t.items[rest].messages.Add(c.messages.Load())
		t.items[rest].bytes.Add(c.bytes.Load())
		t.items[rest].requests.Add(c.requests.Load())
		delete(t.items, k)
	}
}
