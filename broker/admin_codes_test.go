package broker_test

import (
	"slices"
	"testing"

	"github.com/apogeemq/apogee/protocol"
	"github.com/google/go-cmp/cmp"
)

func TestTimeSpansSayHowFarAGroupIsBehind(t *testing.T) {
	n := startNode(t, nil)
	n.spaced(3)
	at := n.storeTimes("T")
	n.group("G")
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "2"), nil, nil)
	var spans protocol.ConsumeTimeSpans
	n.body(protocol.ReqQueryConsumeTimeSpan, fields{"topic": "T", "group": "G"}, &spans)
	if len(spans.Spans) != 4 {
		t.Fatalf("%d queues, want 4", len(spans.Spans))
	}
	got := spans.Spans[0]
	if got.MinTime != at[0] || got.MaxTime != at[2] || got.ConsumeTime != at[1] || got.Delay <= 0 {
		t.Errorf("queue 0: %+v, want times %v", got, at)
	}
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "3"), nil, nil)
	spans = protocol.ConsumeTimeSpans{}
	n.body(protocol.ReqQueryConsumeTimeSpan, fields{"topic": "T", "group": "G"}, &spans)
	if got := spans.Spans[0]; got.Delay != 0 || got.ConsumeTime != at[2] {
		t.Errorf("queue 0, all consumed: %+v", got)
	}
}

func TestCorrectionsAreTheLeastOffsetsOfOtherGroups(t *testing.T) {
	n := startNode(t, nil)
	n.spaced(3)
	for group, offset := range map[string]string{"G1": "1", "G2": "2", "G3": "3"} {
		n.group(group)
		n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("consumerGroup", group, "commitOffset", offset), nil, nil)
	}
	for filter, want := range map[string]int64{"": 1, "G1": 2, "G1,G2": 3} {
		var got protocol.CorrectionOffsets
		n.body(protocol.ReqQueryCorrectionOffset, fields{"topic": "T", "compareGroup": "G3", "filterGroups": filter}, &got)
		if d := cmp.Diff(map[int32]int64{0: want}, got.Offsets); d != "" {
			t.Errorf("without %q: %s", filter, d)
		}
	}
}

func TestSubscriptionsAndSystemTopicsAreListed(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m")
	n.ok(protocol.ReqHeartBeat, nil, heartbeatBody("c1", "G", "T", "A || B", 1), nil)
	var got protocol.GroupSubscription
	n.body(protocol.ReqQuerySubscriptionByConsumer, fields{"group": "G", "topic": "T"}, &got)
	if got.Group != "G" || got.Topic != "T" || got.Subscription == nil || got.Subscription.Expression != "A || B" {
		t.Errorf("subscription %+v", got)
	}
	got = protocol.GroupSubscription{}
	if n.body(protocol.ReqQuerySubscriptionByConsumer, fields{"group": "Off", "topic": "T"}, &got); got.Subscription != nil {
		t.Errorf("of a group that is offline: %+v", got.Subscription)
	}
	var topics protocol.TopicList
	n.body(protocol.ReqGetSystemTopicListFromBroker, nil, &topics)
	for _, want := range []string{"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "DefaultCluster", "broker-a"} {
		if !slices.Contains(topics.Topics, want) {
			t.Errorf("%q is missing in %q", want, topics.Topics)
		}
	}
	if slices.Contains(topics.Topics, "T") {
		t.Error("T is a system topic")
	}
}

func TestRequestModesAreListed(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m")
	n.ok(protocol.ReqSetMessageRequestMode, nil, []byte(`{"topic":"T","consumerGroup":"G","mode":"POP","popShareQueueNum":2}`), nil)
	var got protocol.RequestModes
	n.body(protocol.ReqGetAllMessageRequestMode, nil, &got)
	want := map[string]map[string]protocol.RequestMode{"T": {"G": {Topic: "T", Group: "G", Mode: "POP", PopShareQueues: 2}}}
	if d := cmp.Diff(want, got.Modes); d != "" {
		t.Error(d)
	}
}

// What is peeked is not handed out: the next pop gets it.
func TestPeeksTakeNothing(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	n.send(sendFields, "second")
	for range 2 {
		if got := bodies(n.records(n.ok(protocol.ReqPeekMessage, popFields, nil, nil).Body)); got != "first second" {
			t.Errorf("peeked %q", got)
		}
	}
	if list, _, _ := n.pop(popFields); len(list) != 2 || string(list[0].Body) != "first" {
		t.Errorf("popped %d, want both", len(list))
	}
}
