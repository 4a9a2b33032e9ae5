package traffic

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// Stats returns a statistic as VIEW_BROKER_STATS_DATA answers it; false where nothing was counted.
func (t *Table) Stats(name, key, cluster string, now time.Time) (s protocol.BrokerStats, found bool) {
	c, sizes := t.named(name, key, cluster)
	if c == nil || c.requests.Load() == 0 {
		return s, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	var items [windowCount]protocol.BrokerStatsItem
	for i := range items {
		d, over := t.span(c, i, now)
		items[i] = statsItem(d, over, sizes)
	}
	return protocol.BrokerStats{Minute: items[windowMinute], Hour: items[windowHour], Day: items[windowDay]}, true
}

// Each calls fn for the counters of a kind that have names, with what they have counted.
func (t *Table) Each(kind Kind, fn func(topic, group string, messages int64)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for k, c := range t.items {
		if k.Kind == kind {
			fn(k.Topic, k.Group, c.messages.Load())
		}
	}
}

// named returns the counter that a statistic reads, and whether it is about bytes; nil where there is none.
func (t *Table) named(name, key, cluster string) (c *Counter, sizes bool) {
	switch name {
	case "TOPIC_PUT_NUMS", "TOPIC_PUT_SIZE":
		return t.Find(key, ""), name == "TOPIC_PUT_SIZE"
	case "SNDBCK_PUT_NUMS", "SNDBCK2DLQ_TIMES", "TOPIC_PUT_LATENCY", "GROUP_GET_LATENCY":
		return t.special(name, strings.Split(key, "@")), false
	case "GROUP_GET_NUMS", "GROUP_GET_SIZE":
		topic, group, ok := strings.Cut(key, "@")
		if !ok || group == "" {
			return nil, false
		}
		return t.Find(topic, group), name == "GROUP_GET_SIZE"
	}
	if key != cluster {
		return nil, false
	}
	switch name {
	case "BROKER_PUT_NUMS":
		return &t.put, false
	case "BROKER_GET_NUMS":
		return &t.got, false
	case "BROKER_PUT_NUMS_WITHOUT_SYSTEM_TOPIC":
		return &t.userPut, false
	case "BROKER_GET_NUMS_WITHOUT_SYSTEM_TOPIC":
		return &t.userGot, false
	}
	return nil, false
}

// special returns the counters whose keys have parts of their own (BrokerStatsManager.buildStatsKey and its relatives).
func (t *Table) special(name string, parts []string) *Counter {
	var k Key
	var queue string
	switch {
	case name == "SNDBCK_PUT_NUMS" && len(parts) == 2:
		k = Key{Topic: parts[0], Group: parts[1], Kind: SentBack}
	case name == "SNDBCK2DLQ_TIMES" && len(parts) == 4: // owner@topic@group@SEND_BACK_TO_DLQ
		k = Key{Topic: parts[1], Group: parts[2], Kind: Dead}
	case name == "TOPIC_PUT_LATENCY" && len(parts) == 2:
		queue, k = parts[0], Key{Topic: parts[1], Kind: SendTime}
	case name == "GROUP_GET_LATENCY" && len(parts) == 3:
		queue, k = parts[0], Key{Topic: parts[1], Group: parts[2], Kind: PullTime}
	default:
		return nil
	}
	if queue != "" {
		n, _ := protocol.ParseInt([]byte(queue))
		k.Queue = int32(n)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.items[k]
}

// statsItem is a window as it is answered.
func statsItem(d sample, over time.Duration, sizes bool) protocol.BrokerStatsItem {
	sum := d.messages
	if sizes {
		sum = d.bytes
	}
	item := protocol.BrokerStatsItem{Sum: sum, TPS: perSecond(sum, over)}
	if d.requests > 0 {
		item.AvgPT = float64(sum) / float64(d.requests)
	}
	return item
}

// Runtime adds what GET_BROKER_RUNTIME_INFO has of it.
func (t *Table) Runtime(info map[string]string, now time.Time) {
	t.addSends(info)
	t.addRates(info, now)
}

// addSends adds what was sent: times, totals and the totals by day.
func (t *Table) addSends(info map[string]string) {
	t.mu.Lock()
	t.total()
	days := t.days
	t.mu.Unlock()
	put, got := t.put.messages.Load(), t.got.messages.Load()
	info["msgPutTotalYesterdayMorning"], info["msgPutTotalTodayMorning"] = number(days.putYesterday), number(days.putToday)
	info["msgGetTotalYesterdayMorning"], info["msgGetTotalTodayMorning"] = number(days.gotYesterday), number(days.gotToday)
	info["msgPutTotalTodayNow"], info["msgGetTotalTodayNow"] = number(put), number(got)
	info["putMessageTimesTotal"] = number(put)
	info["putMessageFailedTimes"] = number(t.sendFailures.Load())
	info["putMessageSizeTotal"] = number(t.put.bytes.Load())
	info["putMessageAverageSize"] = Decimal(float64(t.put.bytes.Load()) / float64(max(put, 1)))
	info["putMessageEntireTimeMax"] = number(t.sendTimeMaxMS.Load())
	names := [...]string{"<=0ms", "0~10ms", "10~50ms", "50~100ms", "100~200ms", "200~500ms", "500ms~1s", "1~2s", "2~3s", "3~4s", "4~5s", "5~10s", "10s~"}
	var distribution strings.Builder
	for i, name := range names {
		fmt.Fprintf(&distribution, "[%s]:%d ", name, t.sendTimes[i].Load())
	}
	info["putMessageDistributeTime"] = distribution.String()
	info["pageCacheLockTimeMills"] = "0"
}

func (t *Table) addRates(info map[string]string, at time.Time) {
	now := flowSample{at, t.put.messages.Load(), t.found.Load(), t.missed.Load(), t.got.messages.Load()}
	rates := func(pick func(flowSample) int64) string {
		var parts []string
		for _, over := range []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute} {
			before := t.before(now, over)
			parts = append(parts, Decimal(perSecond(pick(now)-pick(before), now.at.Sub(before.at))))
		}
		return strings.Join(parts, " ")
	}
	info["putTps"] = rates(func(s flowSample) int64 { return s.put })
	info["getFoundTps"] = rates(func(s flowSample) int64 { return s.found })
	info["getMissTps"] = rates(func(s flowSample) int64 { return s.missed })
	info["getTotalTps"] = rates(func(s flowSample) int64 { return s.found + s.missed })
	info["getTransferredTps"] = rates(func(s flowSample) int64 { return s.returned })
	info["getTransferedTps"] = info["getTransferredTps"] // the name that 4.x tools read
}

// before returns the youngest sample that is at least that old, else the oldest there is; now itself where there is none.
func (t *Table) before(now flowSample, age time.Duration) flowSample {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := len(t.flow) - 1; i >= 0; i-- {
		if i == 0 || now.at.Sub(t.flow[i].at) >= age {
			return t.flow[i]
		}
	}
	return now
}

// Decimal writes a number as Java does: never without a fraction.
func Decimal(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
