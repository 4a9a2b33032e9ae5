package broker_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// metric reads one of the node's metrics; name is how its line begins.
func (n *node) metric(name string) int {
	n.t.Helper()
	value, found := n.findMetric(name)
	if !found {
		n.t.Fatalf("no metric %s", name)
	}
	return value
}

func (n *node) findMetric(name string) (value int, found bool) {
	n.t.Helper()
	resp, err := http.Get("http://" + n.s.AdminAddr() + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	for line := range strings.Lines(string(must(io.ReadAll(resp.Body)))) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return int(must(strconv.ParseFloat(strings.TrimSpace(value), 64))), true
		}
	}
	return 0, false
}

// What the broker keeps in rmq_sys_apogee_* topics is out of every client's reach.
func TestStateIsInvisible(t *testing.T) {
	n := startNode(t, nil)
	_, first, err := message.ParseOffsetID(n.send(sendFields, "first").MsgID)
	if err != nil {
		t.Fatal(err)
	}
	n.group("G")
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields, nil, nil)
	n.ok(protocol.ReqLockBatchMQ, nil, lockBody("G", "c1", 0), nil)
	end := n.metric(`apogee_log_position_bytes{position="confirmed"}`)
	missing, denied, invalid := protocol.RespTopicNotExist, protocol.RespNoPermission, protocol.RespInvalidParameter
	for _, kind := range []string{"topics", "groups", "offsets", "locks", "filters", "queues"} {
		topic := message.StatePrefix + kind
		n.run([]row{
			{topic, protocol.ReqPullMessage, pullFields.with("topic", topic), "", missing, topic},
			{topic, protocol.ReqSendMessage, sendFields.with("topic", topic), "m", denied, topic},
			{topic, protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", topic), "", invalid, topic},
			{topic, protocol.ReqDeleteTopicInBroker, fields{"topic": topic}, "", invalid, topic},
			{topic, protocol.ReqGetTopicConfig, fields{"topic": topic}, "", missing, topic},
			{topic, protocol.ReqUpdateConsumerOffset, offsetFields.with("topic", topic), "", missing, topic},
			{topic, protocol.ReqQueryMessage, keyFields.with("topic", topic), "", protocol.RespQueryNotFound, ""},
		})
		for _, code := range []protocol.RequestCode{protocol.ReqGetMaxOffset, protocol.ReqGetMinOffset, protocol.ReqSearchOffsetByTimestamp} {
			var h protocol.OffsetResult
			if n.ok(code, queueFields.with("topic", topic), nil, &h); h.Offset != 0 {
				t.Errorf("%s of %s: %d", code, topic, h.Offset)
			}
		}
		if _, ok := n.topic(topic); ok {
			t.Errorf("%s is routed", topic)
		}
	}
	seen := 0
	for at := range int64(end) {
		answer := n.call(protocol.ReqViewMessageByID, fields{"offset": strconv.FormatInt(at, 10)}, nil)
		if answer.Check() != nil {
			continue
		}
		if r := n.records(answer.Body); len(r) != 1 || string(r[0].Topic) != "T" || at != first {
			t.Errorf("at %d stands %q", at, answer.Body)
		}
		seen++
	}
	if seen != 1 {
		t.Errorf("%d records are seen, want the message alone", seen)
	}
	for _, code := range []protocol.RequestCode{protocol.ReqGetAllTopicListFromNameserver, protocol.ReqGetBrokerClusterInfo} {
		answer := must(n.client.Invoke(context.Background(), n.s.NamesrvAddr(), protocol.NewRequest(code, nil)))
		if strings.Contains(string(answer.Body), message.StatePrefix) {
			t.Errorf("%s: %s", code, answer.Body)
		}
	}
}

func TestSyncsOfTheLogAreMeasured(t *testing.T) {
	n := startNode(t, nil)
	before := n.metric("apogee_log_sync_seconds_count")
	n.send(sendFields, "m")
	if got := n.metric("apogee_log_sync_seconds_count"); got <= before {
		t.Errorf("%d syncs before a send, %d after it", before, got)
	}
}
