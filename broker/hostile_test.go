package broker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apogeemq/apogee/broker"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/protocol/hostile"
	"github.com/apogeemq/apogee/server"
)

// fieldNames are those of all requests of rows, and the optional ones that no row has.
func fieldNames(rows []row) []string {
	names := []string{
		"attributes", "boundaryType", "brokerId", "clientGroup", "clientId", "delayLevel", "expressionType", "isForce", "isOffline", "maxMsgBytes", "maxReconsumeTimes",
		"maxTopicNum", "groupSeq", "maxGroupNum", "dataVersion", "lo", "msgId", "ns", "nsd", "offset", "originMsgId", "originTopic", "reconsumeTimes", "setZeroIfNotFound",
		"topicList", "topicSeq", "unitMode", "_UNIQUE_KEY_QUERY", "indexType", "lastKey", "index", "count", "filterGroups", "compareGroup", "readable",
	}
	for _, r := range rows {
		for name := range r.f {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestHostileFieldsAndBodies has every request carry what it should not: the broker answers each, and says what was wrong.
func TestHostileFieldsAndBodies(t *testing.T) {
	n := startNode(t, func(c *server.Config) {
		c.PollWaitMax, c.QueuesMax = time.Millisecond, 200_000
		c.LogLevel = "error"
	})
	_, offset, err := message.ParseOffsetID(n.send(sendFields, "first").MsgID)
	if err != nil {
		t.Fatal(err)
	}
	n.ok(protocol.ReqHeartBeat, nil, heartbeatBody("c1", "G", "T", "*", 1), nil)
	n.liteParent("LT", "60")
	n.liteGroup("LG", "LT")
	rows := slices.Concat(successes(offset), liteSuccesses(), adminSuccesses())
	online := fields{"consumerGroup": "G", "clientId": "c1", "topic": "T", "msgId": n.send(sendFields, "second").MsgID}
	rows = append([]row{ // of a client that is there, before those of one that is not
		{"", protocol.ReqSendReplyMessage, sendFields.with("properties", "REPLY_TO_CLIENT\x01c1"), "m", 0, ""},
		{"", protocol.ReqSendReplyMessageV2, fields{"a": "P", "b": "T", "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "1763720000000", "h": "0", "i": "REPLY_TO_CLIENT\x01c1"}, "m", 0, ""},
		{"", protocol.ReqGetConsumerConnectionList, online, "", 0, ""},
		{"", protocol.ReqGetProducerConnectionList, fields{"producerGroup": "P"}, "", 0, ""},
		{"", protocol.ReqInvokeBrokerToGetConsumerStatus, fields{"group": "G", "topic": "T"}, "", 0, ""},
		{"", protocol.ReqGetConsumerRunningInfo, online, "", 0, ""},
		{"", protocol.ReqConsumeMessageDirectly, online, "", 0, ""},
		{"", protocol.ReqEndTransaction, endFields(n.send(halfFields("id1"), "half"), commit), "", 0, ""},
		{"", protocol.ReqResumeCheckHalfMessage, online, "", 0, ""},
	}, rows...)
	rows = append(rows, row{"", protocol.ReqConsumerSendMsgBack, fields{"group": "G", "offset": fmt.Sprint(offset), "delayLevel": "0"}, "", 0, ""})
	covered := map[protocol.RequestCode]bool{}
	names := fieldNames(rows)
	for _, r := range rows {
		if covered[r.code] {
			continue
		}
		covered[r.code] = true
		refused := r.code == protocol.ReqDeleteExpiredCommitLog || r.code == protocol.ReqResumeCheckHalfMessage
		hostile.Check(t, hostile.Request{Code: r.code, Fields: r.f, Body: r.body, Refused: refused}, names, func(c *protocol.Command) (*protocol.Command, error) {
			return n.client.Invoke(t.Context(), n.s.BrokerAddr(), c)
		})
	}
	for _, r := range new(broker.Broker).Routes() {
		if !covered[r.Code] {
			t.Errorf("nothing hostile sends %s", r.Code)
		}
	}
	n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", "After"), nil, nil)
	n.send(sendFields.with("topic", "After"), "still there")
}
