package broker

import (
	"sync"
	"sync/atomic"
	"time"
)

// Traffic: what went through topics and groups, for VIEW_BROKER_STATS_DATA (315), GET_BROKER_RUNTIME_INFO (28) and the rates in other answers.
//
// What clients see: windows of a minute (samples of 10 s), an hour (10 min) and a day (1 h), as in RocketMQ (StatsItem), but up to now
// instead of up to the last sample; rates of the last 10, 60 and 600 s. The counters begin with the process. A send or a pull costs a few atomic additions; samples are taken by Tick.

// trafficKey names a counter: a topic, or a group's part of a topic; with a kind, what else is counted of them.
type trafficKey struct {
	topic, group string
	kind         trafficKind
	queue        int32 // of latencies
}

type trafficKind uint8

const (
	trafficMessages trafficKind = iota
	trafficSentBack             // messages that the group sent back
	trafficDead                 // those of them that went to the dead letters
	trafficSendTime             // milliseconds that sends took, instead of messages
	trafficPullTime             // milliseconds that pulls took
)

// traffic counts messages, their bytes and the requests that they came in.
type traffic struct {
	messages, bytes, requests atomic.Int64

	system  bool
	windows [windowCount]window // guarded by trafficTable.mu
}

func (t *traffic) add(messages, bytes int) {
	t.messages.Add(int64(messages))
	t.bytes.Add(int64(bytes))
	t.requests.Add(1)
}

func (t *traffic) now(at time.Time) trafficSample {
	return trafficSample{at, t.messages.Load(), t.bytes.Load(), t.requests.Load()}
}

// trafficSample is a reading of a traffic.
type trafficSample struct {
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
type window []trafficSample

// take adds a sample; a first one is preceded by a zero, so that what was counted before it is in the window.
func (w *window) take(s trafficSample, i int) {
	if len(*w) == 0 {
		*w = append(*w, trafficSample{at: s.at.Add(-windowEvery[i])})
	}
	if *w = append(*w, s); len(*w) > windowSpan[i] {
		*w = append((*w)[:0], (*w)[1:]...)
	}
}

// span returns what a counter counted since its window began, and for how long. The caller holds mu.
func (t *trafficTable) span(c *traffic, i int, now time.Time) (d trafficSample, over time.Duration) {
	first := trafficSample{at: t.sampled[i]} // it was not there then
	if w := c.windows[i]; len(w) > 0 {
		first = w[0]
	}
	last := c.now(now)
	d = trafficSample{now, last.messages - first.messages, last.bytes - first.bytes, last.requests - first.requests}
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

// trafficTable holds the counters.
type trafficTable struct {
	sendTimes        [len(sendTimeBounds) + 1]atomic.Int64
	sendTimeMaxMS    atomic.Int64
	sendFailures     atomic.Int64
	found, missed    atomic.Int64 // pulls that were answered with and without messages
	put, got         traffic      // of the whole broker
	userPut, userGot traffic      // without system topics

	mu      sync.RWMutex // guards what follows
	items   map[trafficKey]*traffic
	sampled [windowCount]time.Time
	flow    []flowSample
	days    dayTotals
}

// dayTotals are the broker's totals at the last two midnights.
type dayTotals struct {
	day                                            int // of the year; 0 before the first tick
	putYesterday, putToday, gotYesterday, gotToday int64
}

func newTrafficTable() *trafficTable { return &trafficTable{items: map[trafficKey]*traffic{}} }

// of returns the counter of a topic, or with a group that of the group's part of it.
func (t *trafficTable) of(topic, group string, system bool) *traffic {
	return t.ofKey(trafficKey{topic: topic, group: group}, system)
}

func (t *trafficTable) ofKey(k trafficKey, system bool) *traffic {
	t.mu.RLock()
	c := t.items[k]
	t.mu.RUnlock()
	if c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c = t.items[k]; c == nil && len(t.items) >= trafficMax {
		k = restKey(k, system)
		c = t.items[k]
	}
	if c == nil {
		c = &traffic{system: system}
		t.items[k] = c
	}
	return c
}

// restKey is the nameless counter that counts what has no counter of its own.
func restKey(k trafficKey, system bool) (rest trafficKey) {
	rest.kind = k.kind
	if k.group != "" {
		rest.group = "\x00"
	}
	if system {
		rest.topic = "\x00"
	}
	return rest
}

// find returns a counter, nil where nothing was counted.
func (t *trafficTable) find(topic, group string) *traffic {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.items[trafficKey{topic: topic, group: group}]
}

// sendsDone notes how long n sends took.
func (t *trafficTable) sendsDone(took time.Duration, n int, failed bool) {
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

// pulled notes messages that were given to a group, and how long that took.
func (t *trafficTable) pulled(p *topic, group string, queue int32, messages, bytes int, took time.Duration) {
	t.found.Add(1)
	t.of(p.config.TopicName, group, p.system).add(messages, bytes)
	t.ofKey(trafficKey{p.config.TopicName, group, trafficPullTime, queue}, p.system).add(int(took.Milliseconds()), 0)
}

// sent notes how long n sends to a queue took.
func (t *trafficTable) sent(p *topic, queue int32, n int, took time.Duration) {
	c := p.sendTimes[queue].Load()
	if c == nil {
		c = t.ofKey(trafficKey{topic: p.config.TopicName, kind: trafficSendTime, queue: queue}, p.system)
		p.sendTimes[queue].Store(c)
	}
	c.messages.Add(int64(n) * took.Milliseconds())
	c.requests.Add(int64(n))
}

// sentBack notes that a group sent a message of a topic back, and whether that was the end of it.
func (t *trafficTable) sentBack(topic, group string, dead bool) {
	t.ofKey(trafficKey{topic: topic, group: group, kind: trafficSentBack}, false).add(1, 0)
	if dead {
		t.ofKey(trafficKey{topic: topic, group: group, kind: trafficDead}, false).add(1, 0)
	}
}

// tick takes the samples that are due.
func (t *trafficTable) tick(now time.Time) {
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
		for _, c := range []*traffic{&t.put, &t.got, &t.userPut, &t.userGot} {
			c.windows[i].take(c.now(now), i)
		}
	}
}

// total sums the counters up. The caller holds mu.
func (t *trafficTable) total() {
	var sums [4]trafficSample // put, got, and both without system topics
	for k, c := range t.items {
		if k.kind != trafficMessages {
			continue
		}
		kind := 0
		if k.group != "" {
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
	for i, c := range []*traffic{&t.put, &t.got, &t.userPut, &t.userGot} {
		c.messages.Store(sums[i].messages)
		c.bytes.Store(sums[i].bytes)
		c.requests.Store(sums[i].requests)
	}
}

// sampleFlow takes the second's sample and notices midnight. The caller holds mu.
func (t *trafficTable) sampleFlow(now time.Time) {
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

// rate returns the messages a second over the last minute.
func (t *trafficTable) rate(topic, group string, now time.Time) float64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	c := t.items[trafficKey{topic: topic, group: group}]
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

// forget drops the counters of a deleted topic or group. The totals must not go back, so what they counted stays in a nameless one.
func (t *trafficTable) forget(topic, group string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, c := range t.items {
		if (topic == "" || k.topic != topic) && (group == "" || k.group != group) {
			continue
		}
		if k.kind != trafficMessages {
			delete(t.items, k)
			continue
		}
		rest := restKey(k, c.system)
		if t.items[rest] == nil {
			t.items[rest] = &traffic{system: c.system}
		}
		t.items[rest].messages.Add(c.messages.Load())
		t.items[rest].bytes.Add(c.bytes.Load())
		t.items[rest].requests.Add(c.requests.Load())
		delete(t.items, k)
	}
}
