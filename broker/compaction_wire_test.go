package broker_test

import (
	"fmt"
	"testing"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
	"github.com/google/go-cmp/cmp"
)

func TestACompactionTopicWantsKeysAndHasGaps(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.CompactEvery = 1e6 })
	n.group("G")
	policy := topicFields.with("topic", "C", "readQueueNums", "1", "writeQueueNums", "1")
	n.ok(protocol.ReqUpdateAndCreateTopic, policy.with("attributes", "+cleanup.policy=COMPACTION"), nil, nil)
	if answer := n.call(protocol.ReqUpdateAndCreateTopic, policy.with("attributes", "+cleanup.policy=DELETE"), nil); answer.Check() == nil {
		t.Error("the policy of a topic was changed")
	}
	to := sendFields.with("topic", "C")
	for _, properties := range []string{"TAGS\x01A\x02", "KEYS\x01 \x02"} {
		answer := n.call(protocol.ReqSendMessage, to.with("properties", properties), []byte("x"))
		if answer.Code != int32(protocol.RespMessageIllegal) || string(answer.Remark) != "Required message key is missing" {
			t.Errorf("a message without a key: %d %s", answer.Code, answer.Remark)
		}
	}
	for i := range 100 {
		n.send(to.with("properties", fmt.Sprintf("KEYS\x01k%d\x02", i%10)), fmt.Sprint(i))
	}
	var offsets []int64
	waitFor(t, "compaction", func() bool {
		var pulled protocol.PullResult
		answer := n.ok(protocol.ReqPullMessage, pullFields.with("topic", "C"), nil, &pulled)
		list := n.records(answer.Body)
		if offsets = nil; len(list) != 10 || pulled.NextOffset != 100 || pulled.MinOffset != 90 || pulled.MaxOffset != 100 {
			return false
		}
		for _, r := range list {
			offsets = append(offsets, r.QueueOffset)
		}
		return true
	})
	if diff := cmp.Diff([]int64{90, 91, 92, 93, 94, 95, 96, 97, 98, 99}, offsets); diff != "" {
		t.Error(diff)
	}
}
