package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// wantLag compares the metrics of a group's lag in T with the truth; a time is that of the oldest message, 0 for none.
func (n *node) wantLag(group string, retry bool, lag, inFlight, ready int, behind, queueing int64) {
	n.t.Helper()
	labels := fmt.Sprintf(`{cluster="DefaultCluster",consumer_group="%s",is_retry="%v",is_system="false",node_id="broker-a",node_type="broker",topic="T"}`, group, retry)
	for name, want := range map[string]int{"lag_messages": lag, "inflight_messages": inFlight, "ready_messages": ready} {
		if got, found := n.findMetric("rocketmq_consumer_" + name + labels); got != want || !found {
			n.t.Errorf("%s retry=%v: %s is %d (%v), want %d", group, retry, name, got, found, want)
		}
	}
	for name, stored := range map[string]int64{"lag_latency": behind, "queueing_latency": queueing} {
		least := time.Now().UnixMilli() - stored
		got, found := n.findMetric("rocketmq_consumer_" + name + "_milliseconds" + labels)
		most := time.Now().UnixMilli() - stored
		if stored == 0 {
			least, most = 0, 0
		}
		if int64(got) < least || int64(got) > most || !found {
			n.t.Errorf("%s retry=%v: %s is %d ms (%v), want %d to %d", group, retry, name, got, found, least, most)
		}
	}
}

// storeTimes are those of what is in queue 0 of a topic.
func (n *node) storeTimes(topic string) (times []int64) {
	n.t.Helper()
	for _, r := range n.records(n.call(protocol.ReqPullMessage, pullFields.with("topic", topic, "consumerGroup", "TOOLS_CONSUMER"), nil).Body) {
		times = append(times, r.StoreTime)
	}
	return times
}

// spaced sends messages that have store times of their own.
func (n *node) spaced(count int) {
	n.t.Helper()
	for i := range count {
		began := time.Now().UnixMilli()
		n.send(sendFields, fmt.Sprint("m", i))
		waitFor(n.t, "the next millisecond", func() bool { return time.Now().UnixMilli() > began+1 })
	}
}

func TestTheLagOfAGroupThatPulls(t *testing.T) {
	n := startNode(t, nil)
	n.spaced(5)
	at := n.storeTimes("T")
	n.ok(protocol.ReqPullMessage, pullFields.with("maxMsgNums", "2"), nil, nil)
	n.wantLag("G", false, 3, 0, 3, at[2], at[2]) // it has not said where it is: at the end of what it was given
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "1"), nil, nil)
	n.ok(protocol.ReqPullMessage, pullFields.with("maxMsgNums", "2", "queueOffset", "1"), nil, nil)
	n.wantLag("G", false, 4, 2, 2, at[1], at[3])
	n.ok(protocol.ReqHeartBeat, nil, heartbeatBody("c1", "G", "T", "*", 1), nil)
	n.wantLag("G", false, 4, 2, 2, at[1], at[3])
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "5"), nil, nil)
	n.wantLag("G", false, 0, 0, 0, 0, 0)
	n.ok(protocol.ReqHeartBeat, nil, heartbeatBody("c1", "G", "Other", "*", 2), nil)
	if _, found := n.findMetric(`rocketmq_consumer_lag_messages{cluster="DefaultCluster",consumer_group="G",is_retry="false",is_system="false",node_id="broker-a",node_type="broker",topic="T"}`); found {
		t.Error("a topic that the group has left is in its lag")
	}
}

func TestTheLagOfAGroupThatPops(t *testing.T) {
	n := startNode(t, nil)
	n.spaced(5)
	at := n.storeTimes("T")
	list, _, _ := n.pop(popFields.with("maxMsgNums", "3"))
	n.wantLag("G", false, 5, 3, 2, at[0], at[3])
	n.ack(list[1]) // what lies before it is still the oldest
	n.wantLag("G", false, 4, 2, 2, at[0], at[3])
	n.ack(list[0])
	n.wantLag("G", false, 3, 1, 2, at[2], at[3])
	n.ack(list[2])
	n.wantLag("G", false, 2, 0, 2, at[3], at[3])
	n.pop(popFields.with("invisibleTime", "200"))
	retry := message.PopRetryTopic("T", "G", false)
	waitFor(t, "both to come again", func() bool { return n.maxOffset(retry) == 2 })
	again := n.storeTimes(retry)
	waitFor(t, "their delivery to end", func() bool {
		got, _ := n.findMetric(`rocketmq_pop_checkpoint_buffer_size{cluster="DefaultCluster",node_id="broker-a",node_type="broker"}`)
		return got == 0
	})
	n.wantLag("G", false, 0, 0, 0, 0, 0)
	n.wantLag("G", true, 2, 0, 2, again[0], again[0])
	n.pop(popFields.with("maxMsgNums", "1"))
	n.wantLag("G", true, 2, 1, 1, again[0], again[1])
}
