package broker_test

import (
	"fmt"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// prioritySend sends a message of a priority to a topic with four queues, and returns the queue that it is in.
func (n *node) prioritySend(body, properties string) int32 {
	n.t.Helper()
	return n.send(sendFields.with("topic", "Made", "queueId", "1", "properties", properties), body).QueueID
}

func (n *node) priorityTopic(messageType string) {
	n.t.Helper()
	n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("readQueueNums", "4", "writeQueueNums", "4", "attributes", "+message.type="+messageType), nil, nil)
}

func TestPrioritiesChooseQueues(t *testing.T) {
	n := startNode(t, nil)
	n.priorityTopic("NORMAL") // it says nothing of what a broker does
	priority := message.PropPriority + "\x01"
	for _, c := range []struct {
		properties string
		queue      int32
		kept       string
	}{
		{"", 1, ""},
		{priority + "0", 0, "0"},
		{priority + "2\x02", 2, "2"},
		{priority + "9\x02TAGS\x01A\x02", 3, "9"},
		{priority + "-1\x02", 1, "-1"},
		{priority + "high\x02", 1, "high"},
		{priority + "99999999999\x02", 1, "99999999999"},
		{priority + "2\x02__SHARDINGKEY\x01k\x02", 1, ""},
		{"x\x01" + message.PropPriority, 1, ""},
	} {
		if got := n.prioritySend("m", c.properties); got != c.queue {
			t.Errorf("%q goes to queue %d, want %d", c.properties, got, c.queue)
		}
		pull := pullFields.with("topic", "Made", "queueId", fmt.Sprint(c.queue))
		list := n.records(n.call(protocol.ReqPullMessage, pull, nil).Body)
		if got := string(message.Property(list[len(list)-1].Properties, message.PropPriority)); got != c.kept {
			t.Errorf("%q is stored with priority %q, want %q", c.properties, got, c.kept)
		}
	}
	n.prioritySend("m", priority+"2\x02DELAY\x011\x02")
	waits := n.records(n.call(protocol.ReqPullMessage, pullFields.with("topic", message.TopicSchedule), nil).Body)
	if len(waits) != 1 || string(message.Property(waits[0].Properties, message.PropRealQueueID)) != "1" || message.Property(waits[0].Properties, message.PropPriority) != nil {
		t.Errorf("a delayed message with a priority: %+v", waits)
	}
}

func TestTheMostUrgentIsPoppedFirst(t *testing.T) {
	n := startNode(t, nil)
	n.priorityTopic("PRIORITY")
	for _, p := range []int{0, 3, 1, 2, 3, 0} {
		n.prioritySend(fmt.Sprint("p", p), fmt.Sprintf("%s\x01%d\x02", message.PropPriority, p))
	}
	f := popFields.with("topic", "Made", "queueId", "-1", "maxMsgNums", "3")
	for _, want := range []string{"p3 p3 p2", "p1 p0 p0"} {
		list, _, _ := n.pop(f)
		var got []message.Record
		for _, m := range list {
			got = append(got, m.Record)
		}
		if bodies(got) != want {
			t.Errorf("popped %q, want %q", bodies(got), want)
		}
	}
}
