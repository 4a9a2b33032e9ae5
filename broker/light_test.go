package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// lightConfig is a node with light queues.
func lightConfig(fs vfs.FS) server.Config {
	c := testConfig(fs)
	c.Light.Enable, c.Light.MultiDispatch = true, true
	return c
}

// lightFields are those of a message that is to stand in light queues as well.
func lightFields(names string, properties ...string) fields {
	return sendFields.with("properties", "INNER_MULTI_QUEUE_OFFSET\x0199\x02INNER_MULTI_DISPATCH\x01"+names+"\x02"+strings.Join(properties, ""))
}

// inLight is what a pull of a light queue gives: bodies with the offsets that the messages say they have there.
func (n *node) inLight(queue string) (list []string) {
	n.t.Helper()
	answer := n.call(protocol.ReqPullMessage, pullFields.with("topic", queue, "consumerGroup", "%LMQ%G"), nil)
	if answer.Code == int32(protocol.RespPullNotFound) {
		return nil
	}
	for _, r := range n.records(answer.Body) {
		names, _ := message.LightQueues(message.Property(r.Properties, message.PropMultiDispatch))
		offsets, ok := message.LightOffsets(message.Property(r.Properties, message.PropMultiOffset))
		if !ok || len(offsets) != len(names) {
			n.t.Errorf("%s has properties %q", r.Body, r.Properties)
			continue
		}
		for i, name := range names {
			if string(name) == queue {
				list = append(list, fmt.Sprint(string(r.Body), "@", offsets[i]))
				break
			}
		}
	}
	return list
}

func TestMessagesStandInTheLightQueuesThatTheyName(t *testing.T) {
	fs := vfs.NewMem()
	n := startConfig(t, lightConfig(fs))
	defer func() { n.stop() }()
	n.send(lightFields("%LMQ%a"), "m0")
	n.send(lightFields("%LMQ%b,%LMQ%a"), "m1")
	n.send(lightFields("%LMQ%a,%LMQ%a,%LMQ%c", "DELAY\x011\x02"), "m2") // later
	n.send(lightFields(""), "m3")
	n.send(sendFields.with("topic", "%LMQ%d"), "m4") // straight into one
	n.ok(protocol.ReqSendBatchMessage, sendFields.with("batch", "true"),
		message.AppendBatchItem(nil, message.BatchItem{Body: []byte("m5"), Properties: []byte("INNER_MULTI_DISPATCH\x01%LMQ%a\x02")}), nil) // not from batches
	waitFor(t, "m2", func() bool { return len(n.inLight("%LMQ%c")) == 1 })
	n.send(lightFields("%LMQ%a"), "m6")

	want := map[string][]string{
		"%LMQ%a": {"m0@0", "m1@1", "m2@2", "m6@3"}, "%LMQ%b": {"m1@0"}, "%LMQ%c": {"m2@0"}, "%LMQ%e": nil,
	}
	check := func() {
		t.Helper()
		got := map[string][]string{}
		for queue := range want {
			got[queue] = n.inLight(queue)
			var end protocol.OffsetResult
			n.ok(protocol.ReqGetMaxOffset, queueFields.with("topic", queue), nil, &end)
			if int(end.Offset) != len(want[queue]) {
				t.Errorf("the maximum of %s is %d", queue, end.Offset)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got := bodies(n.records(n.ok(protocol.ReqPullMessage, pullFields, nil, nil).Body)); got != "m0 m1 m3 m5 m2 m6" {
			t.Errorf("the topic has %s", got)
		}
		if got := bodies(n.records(n.ok(protocol.ReqPullMessage, pullFields.with("topic", "%LMQ%d"), nil, nil).Body)); got != "m4" {
			t.Errorf("%%LMQ%%d has %s", got)
		}
	}
	check()
	n = n.restarted(fs, false)
	check()
	n = n.restarted(fs, true)
	check()
	n.send(lightFields("%LMQ%a"), "m7")
	if got := n.inLight("%LMQ%a"); len(got) != 5 || got[4] != "m7@4" {
		t.Errorf("after it: %v", got)
	}
}

func TestLightTopicsAndGroupsNeedNotBeMade(t *testing.T) {
	fs := vfs.NewMem()
	n := startConfig(t, lightConfig(fs))
	defer func() { n.stop() }()
	n.send(lightFields("%LMQ%a"), "m0")
	n.send(lightFields("%LMQ%a"), "m1")
	offset := fields{"consumerGroup": "%LMQ%G", "topic": "%LMQ%a", "queueId": "0", "commitOffset": "1"}
	n.ok(protocol.ReqUpdateConsumerOffset, offset, nil, nil)
	var found protocol.OffsetResult
	n.ok(protocol.ReqSearchOffsetByTimestamp, queueFields.with("topic", "%LMQ%a", "timestamp", "9000000000000"), nil, &found)
	if found.Offset != 2 {
		t.Errorf("the end is found at %d", found.Offset)
	}
	stats := string(n.ok(protocol.ReqGetTopicStatsInfo, fields{"topic": "%LMQ%a"}, nil, nil).Body)
	if !strings.Contains(stats, `"maxOffset":2`) {
		t.Errorf("statistics %s", stats)
	}
	if answer, err := n.client.Invoke(t.Context(), n.s.NamesrvAddr(), command(protocol.ReqGetRouteInfoByTopic, fields{"topic": "%LMQ%a"}, nil)); err != nil ||
		answer.Code != int32(protocol.RespTopicNotExist) {
		t.Errorf("the name server answers %v, %v", answer, err)
	}
	n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", "%LMQ%a"), nil, nil) // as in RocketMQ, which does nothing
	n.group("%LMQ%G")
	table := string(n.ok(protocol.ReqGetAllTopicConfig, nil, nil, nil).Body) + string(n.ok(protocol.ReqGetAllSubscriptionGroupConfig, nil, nil, nil).Body)
	if strings.Contains(table, "%LMQ%") {
		t.Errorf("light names are in the tables: %s", table)
	}
	n = n.restarted(fs, false)
	found = protocol.OffsetResult{}
	n.ok(protocol.ReqQueryConsumerOffset, offset, nil, &found)
	if found.Offset != 1 {
		t.Errorf("the group's offset is %d", found.Offset)
	}
	n.ok(protocol.ReqDeleteTopicInBroker, fields{"topic": "%LMQ%a"}, nil, nil)
	n.send(lightFields("%LMQ%a"), "m2")
	if got := n.inLight("%LMQ%a"); len(got) != 1 || got[0] != "m2@0" {
		t.Errorf("after its deletion %%LMQ%%a has %v", got)
	}
	n = n.restarted(fs, true)
	if got := n.inLight("%LMQ%a"); len(got) != 1 || got[0] != "m2@0" {
		t.Errorf("rebuilt, %%LMQ%%a has %v", got)
	}
}

func TestAPullWaitsForALightQueue(t *testing.T) {
	n := startConfig(t, lightConfig(vfs.NewMem()))
	defer n.stop()
	n.send(sendFields, "before")
	done := make(chan string, 1)
	go func() {
		answer, err := n.newClient().Invoke(t.Context(), n.s.BrokerAddr(),
			command(protocol.ReqPullMessage, pullFields.with("topic", "%LMQ%a", "consumerGroup", "%LMQ%G", "sysFlag", "6", "suspendTimeoutMillis", "15000"), nil))
		if err != nil {
			done <- err.Error()
			return
		}
		done <- bodies(n.records(answer.Body))
	}()
	waitFor(t, "the pull", func() bool { return n.metric(`apogee_broker_objects{kind="held_pulls"}`) == 1 })
	n.send(lightFields("%LMQ%b,%LMQ%a"), "m")
	if got := <-done; got != "m" {
		t.Errorf("the pull was answered %q", got)
	}
}

func TestWhatCannotBeDispatchedIsRefused(t *testing.T) {
	n := startNode(t, func(c *server.Config) {
		*c = lightConfig(c.FS)
		c.Light.Quota, c.Light.QueuesMax = true, 2
	})
	long := strings.Repeat("x", 250)
	for names, want := range map[string]protocol.ResponseCode{
		"%LMQ%b,other":                  protocol.RespMessageIllegal,
		"%LMQ%b/c":                      protocol.RespMessageIllegal,
		"%LMQ%x" + long:                 protocol.RespMessageIllegal,
		strings.Repeat("%LMQ%a,", 1300): protocol.RespMessageIllegal,
	} {
		if answer := n.call(protocol.ReqSendMessage, lightFields(names), []byte("x")); answer.Code != int32(want) {
			t.Errorf("%.40s: %d %s", names, answer.Code, answer.Remark)
		}
	}
	n.send(lightFields("%LMQ%a,%LMQ%b"), "x")
	if answer := n.call(protocol.ReqSendMessage, lightFields("%LMQ%c"), []byte("x")); answer.Code != int32(protocol.RespLMQQuotaExceeded) {
		t.Errorf("beyond the quota: %d %s", answer.Code, answer.Remark)
	}
	n.send(lightFields("%LMQ%b"), "x")
}

func TestWithoutLightQueuesTheirNamesMeanNothing(t *testing.T) {
	n := startNode(t, nil)
	n.send(lightFields("%LMQ%a"), "x")
	answer := n.ok(protocol.ReqPullMessage, pullFields, nil, nil)
	if p := n.records(answer.Body)[0].Properties; message.Property(p, message.PropMultiOffset) != nil {
		t.Errorf("stored with %q", p)
	}
	if answer := n.call(protocol.ReqPullMessage, pullFields.with("topic", "%LMQ%a"), nil); answer.Code != int32(protocol.RespTopicNotExist) {
		t.Errorf("a pull is answered %d %s", answer.Code, answer.Remark)
	}
}

func TestTransactionsAreDispatchedWhenTheyAreCommitted(t *testing.T) {
	n := startConfig(t, lightConfig(vfs.NewMem()))
	defer n.stop()
	kept := n.send(halfFields("id1", message.PropMultiDispatch, "%LMQ%a"), "committed")
	gone := n.send(halfFields("id2", message.PropMultiDispatch, "%LMQ%a"), "rolled back")
	n.send(lightFields("%LMQ%a"), "beside")
	if got := n.inLight("%LMQ%a"); len(got) != 1 || got[0] != "beside@0" {
		t.Errorf("before the end: %v", got)
	}
	n.end(gone, rollback)
	n.end(kept, commit)
	if got := n.inLight("%LMQ%a"); len(got) != 2 || got[1] != "committed@1" {
		t.Errorf("after it: %v", got)
	}
}
