package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
)

func TestWhatClientsMakeIsBounded(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.QueuesMax, c.GroupsMax = 2048, 16 })
	n.send(sendFields, "first")
	const invalid, failed, illegal, unparsed = protocol.RespInvalidParameter, protocol.RespSystemError, protocol.RespMessageIllegal, protocol.RespSubscriptionParseFailed
	long := strings.Repeat("x", 70_000)
	consumer := func(group, topic, expression string) string {
		return fmt.Sprintf(`{"clientID":"c","consumerDataSet":[{"groupName":%q,"subscriptionDataSet":[{"topic":%q,"subString":%q}]}]}`, group, topic, expression)
	}
	var batch []byte
	for range 70_000 / 23 {
		batch = message.AppendBatchItem(batch, message.BatchItem{Body: []byte("b")})
	}
	rows := []row{
		{"queues", protocol.ReqUpdateAndCreateTopic, topicFields.with("readQueueNums", "2000"), "", failed, "topic[Made]: all topics together would have"},
		{"queues of a list", protocol.ReqUpdateAndCreateTopicList, nil, `{"topicConfigList":[{"topicName":"L1","readQueueNums":1000},{"topicName":"L2","readQueueNums":1000}]}`, failed, "queuesMax=2048; delete topics, or raise it"},
		{"client id", protocol.ReqHeartBeat, nil, `{"clientID":"` + long + `"}`, invalid, "the client id has 70000 bytes, the limit is clientIDBytesMax=1024; choose a shorter instance name"},
		{"client id of a lock", protocol.ReqLockBatchMQ, nil, `{"consumerGroup":"G","clientId":"` + long + `"}`, invalid, "the client id has 70000 bytes"},
		{"topic of a lock", protocol.ReqLockBatchMQ, nil, `{"consumerGroup":"G","clientId":"c","mqSet":[{"topic":"` + long + `"}]}`, invalid, "a topic of 70000 bytes"},
		{"producer group", protocol.ReqHeartBeat, nil, `{"clientID":"c","producerDataSet":[{"groupName":"` + long + `"}]}`, invalid, "the producer group has 70000 bytes, the limit is groupNameBytesMax=255; choose a shorter name"},
		{"groups of a client", protocol.ReqHeartBeat, nil, `{"clientID":"c","producerDataSet":[` + strings.Repeat(`{},`, 10_000) + `{}]}`, invalid, "client c is in 10001 groups, the limit is clientGroupsMax=10000; use more clients"},
		{"expression", protocol.ReqHeartBeat, nil, consumer("G", "T", long), unparsed, `the subscription to topic "T" has 70000 bytes, the limit is subscriptionBytesMax=65536; shorten it`},
		{"topic of a subscription", protocol.ReqHeartBeat, nil, consumer("G", long, "*"), unparsed, "the subscribed topic has 70000 bytes"},
		{"expression of a pull", protocol.ReqPullMessage, pullFields.with("subscription", long), "", unparsed, "has 70000 bytes"},
		{"values of a body", protocol.ReqHeartBeat, nil, "[" + strings.Repeat("0,", 300_000) + "0]", failed, "it has 300000 commas, the limit is bodyCommasMax=262144; send less at once"},
		{"lines of properties", protocol.ReqUpdateBrokerConfig, nil, strings.Repeat("pollWaitMax=1000\n", 1001), invalid, "more lines than propertiesLinesMax=1000"},
		{"a page before the first", protocol.ReqGetAllSubscriptionGroupConfig, fields{"groupSeq": "-1", "maxGroupNum": "10"}, "", 0, ""},
		{"a page before the first", protocol.ReqGetAllTopicConfig, fields{"topicSeq": "-2147483648", "maxTopicNum": "-1"}, "", 0, ""},
		{"a position at the end of all", protocol.ReqViewMessageByID, fields{"offset": "9223372036854775807"}, "", failed, "9223372036854775807"},
		{"forbidden of no group", protocol.ReqUpdateAndGetGroupForbidden, fields{"group": "a b", "topic": "T", "readable": "false"}, "", invalid, "group: a b, contains"},
		{"offsets of no group", protocol.ReqCloneGroupOffset, fields{"srcGroup": "G", "destGroup": long, "topic": "T"}, "", invalid, "xxx"},
		{"batch", protocol.ReqSendBatchMessage, sendFields.with("batch", "true"), string(batch), illegal, "the batch is 69989 bytes long"},
	}
	n.run(rows)
	for i := range 16 {
		n.call(protocol.ReqUpdateAndCreateSubscriptionGroup, nil, fmt.Appendf(nil, `{"groupName":"Group%d"}`, i))
	}
	n.run([]row{
		{"one group too many", protocol.ReqUpdateAndCreateSubscriptionGroup, nil, `{"groupName":"More"}`, failed, "group More: there would be 17 groups, the limit is groupsMax=16; delete groups, or raise it"},
		{"one that is made by itself", protocol.ReqPullMessage, pullFields.with("consumerGroup", "More"), "", protocol.RespSubscriptionGroupNotExist, "[More] does not exist"},
		{"one that is there", protocol.ReqUpdateAndCreateSubscriptionGroup, nil, `{"groupName":"Group0"}`, 0, ""},
	})
}

func TestABatchOfVeryManyMessages(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.SegmentBytes, c.MessageBytesMax = 16<<20, 1<<20 })
	var batch []byte
	for range 32769 {
		batch = message.AppendBatchItem(batch, message.BatchItem{Body: []byte("b")})
	}
	n.run([]row{
		{"too many", protocol.ReqSendBatchMessage, sendFields.with("batch", "true"), string(batch), protocol.RespMessageIllegal, "more messages than batchMessagesMax=32768; send fewer at once"},
		{"as many as may be", protocol.ReqSendBatchMessage, sendFields.with("batch", "true"), string(batch[:32768*23]), 0, ""},
	})
}

// A connection that ends takes its held pulls with it, whatever their deadline.
func TestHeldPullsEndWithTheirConnection(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	other := n.newClient()
	f := pullFields.with("queueOffset", "1", "sysFlag", "6", "suspendTimeoutMillis", "30000")
	const pulls = 100
	answers := make(chan error, pulls)
	for range pulls {
		other.Go(n.s.BrokerAddr(), command(protocol.ReqPullMessage, f, nil), func(_ *protocol.Command, err error) { answers <- err })
	}
	held := func(want int) func() bool {
		return func() bool { return n.heldPulls() == want }
	}
	waitFor(t, "the pulls to be held", held(pulls))
	other.Close()
	waitFor(t, "them to be gone", held(0))
	for range pulls {
		if err := <-answers; err == nil {
			t.Error("answered though its connection is closed")
		}
	}
	n.send(sendFields, "second")
}
