package broker

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Runtime figures: GET_BROKER_RUNTIME_INFO (28), GET_TIMER_METRICS (61).
//
// What clients see: RocketMQ's keys in RocketMQ's shapes, which tools take apart; the version is the one of the protocol. Counters begin
// with the process. A rate is over what there is of its 10, 60 and 600 seconds. Differences: keys about what Apogee does not have are left
// out (page cache transfer pools, transient buffers, per-path disk ratios), or 0 where clusterList prints
// them; sends wait in their connections, never in a queue. What waits for a moment is counted by topic; after a start it is in the course of
// seconds, and a count stands for the time at which it was asked for.

// Host are figures of the machine and of the server around the broker, which the broker itself cannot know. Nil functions give nothing.
type Host struct {
	Dir  string                                                  // of the store
	Disk func() (total, free int64)                              // bytes of the file system that holds it
	Lane func(remoting.Lane) (queued int, l remoting.LaneLimits) // requests that wait
	// Queues returns the queues of a topic that consumers may read, on all brokers; nil: the broker knows none but its own.
	Queues func(ctx context.Context, topic string) ([]protocol.MessageQueue, error)
	// NamesrvAddr are the name servers that the broker is known to, host:port separated by semicolons: that of its own process, as reached by
	// host, and those that it registers with. nil: it knows none.
	NamesrvAddr func(host netip.Addr) string
}

func (b *Broker) runtimeInfo(*remoting.Request) (*remoting.Response, error) {
	info := map[string]string{}
	b.addIdentity(info)
	b.traffic.Runtime(info, b.c.Now())
	b.addLog(info)
	b.addLanes(info)
	b.addTimers(info)
	return remoting.RespondBody(protocol.KVTable{Table: info}), nil
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func (b *Broker) addIdentity(info map[string]string) {
	now := b.c.Now()
	up := now.Sub(b.started)
	info["brokerActive"] = strconv.FormatBool(!b.isDraining() && b.store.Writable() == nil)
	info["brokerVersion"] = number(protocol.Version)
	info["brokerVersionDesc"] = "V5_5_0"
	info["bootTimestamp"] = number(b.started.UnixMilli())
	info["startAcceptSendRequestTimeStamp"] = "0"
	info["runtime"] = fmt.Sprintf("[ %d days, %d hours, %d minutes, %d seconds ]",
		int(up.Hours())/24, int(up.Hours())%24, int(up.Minutes())%60, int(up.Seconds())%60)
}

func (b *Broker) addLog(info map[string]string) {
	l := b.store.Log()
	written, flushed := l.Written(), l.Flushed()
	applied, _ := b.store.LastRecord()
	info["commitLogMinOffset"], info["commitLogMaxOffset"] = number(l.First()), number(l.Confirmed())
	info["dispatchBehindBytes"], info["dispatchMaxBuffer"] = number(max(written-applied, 0)), "0"
	info["remainHowManyDataToFlush"] = bytesText(max(written-flushed, 0))
	info["earliestMessageTimeStamp"] = "-1"
	if first, found, err := l.ReadRecord(l.First()); err == nil && found {
		info["earliestMessageTimeStamp"] = number(first.StoreTime)
	}
	if b.c.Host.Disk == nil {
		return
	}
	total, free := b.c.Host.Disk()
	if total <= 0 {
		return
	}
	ratio := traffic.Decimal(float64(total-free) / float64(total))
	info["commitLogDiskRatio"], info["consumeQueueDiskRatio"] = ratio, ratio
	info["commitLogDiskRatio_"+b.c.Host.Dir] = ratio
	info["commitLogDirCapacity"] = fmt.Sprintf("Total : %s, Free : %s.", bytesText(total), bytesText(free))
}

// bytesText writes a size as RocketMQ does (MixAll.humanReadableByteCount).
func bytesText(n int64) string {
	if n < 1024 {
		return number(n) + " B"
	}
	f, unit := float64(n), 0
	for f >= 1024 && unit < 6 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTPE"[unit])
}

func (b *Broker) addLanes(info map[string]string) {
	for name, lane := range map[string]remoting.Lane{
		"send": remoting.LaneSend, "pull": remoting.LanePull, "litePull": remoting.LanePull, "query": remoting.LaneAdmin, "ack": remoting.LaneAck,
	} {
		var queued int
		var limits remoting.LaneLimits
		if b.c.Host.Lane != nil && lane != remoting.LaneSend {
			queued, limits = b.c.Host.Lane(lane)
		}
		info[name+"ThreadPoolQueueSize"] = number(int64(queued))
		info[name+"ThreadPoolQueueCapacity"] = number(int64(limits.Queue))
		info[name+"ThreadPoolQueueHeadWaitTimeMills"] = "0"
	}
	// Ends of transactions wait where sends do.
	info["EndTransactionQueueSize"], info["EndTransactionThreadPoolQueueCapacity"] = info["sendThreadPoolQueueSize"], info["sendThreadPoolQueueCapacity"]
}

// addTimers adds what waits for its time.
func (b *Broker) addTimers(info map[string]string) {
	info["timerReadBehind"], info["timerOffsetBehind"] = "0", "0"
	timed, _ := b.delays.Waiting()
	info["timerCongestNum"] = strconv.FormatInt(timed, 10)
	info["timerEnqueueTps"], info["timerDequeueTps"] = "0.0", "0.0"
	t := b.topics.find(message.TopicSchedule)
	delivered, err := b.delays.LevelProgress()
	if t == nil || err != nil {
		return
	}
	for id, next := range delivered {
		if q := t.queue(int32(id)); q != nil {
			if _, end := q.Bounds(); end > 0 {
				info[fmt.Sprintf("scheduleMessageOffset_%d", id+1)] = fmt.Sprintf("%d,%d", next, end)
			}
		}
	}
}

func (b *Broker) timerMetrics(*remoting.Request) (*remoting.Response, error) {
	if b.c.NoTimers {
		return nil, protocol.Errorf(protocol.RespSystemError, "The timer message store is null")
	}
	now := b.c.Now().UnixMilli()
	answer := protocol.TimerMetrics{Timing: map[string]protocol.TimerMetric{}, DataVersion: protocol.DataVersion{Timestamp: now}}
	for topic, n := range b.timedMessages() {
		answer.Timing[topic] = protocol.TimerMetric{Count: n, Timestamp: now}
	}
	return remoting.RespondBody(answer), nil
}

// timedMessages counts what waits for a moment, by topic.
func (b *Broker) timedMessages() map[string]int64 {
	counts := map[string]int64{}
	b.traffic.Each(traffic.Timed, func(topic, _ string, n int64) {
		counts[topic] = max(n, 0) // a message may be counted as delivered just before it is as sent
	})
	return counts
}
