package broker_test

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/broker"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
)

// row is one request and what it is answered with.
type row struct {
	name   string
	code   protocol.RequestCode
	f      fields
	body   string
	want   protocol.ResponseCode
	remark string // contained in the answer's
}

func (n *node) run(rows []row) {
	n.t.Helper()
	for _, r := range rows {
		answer := n.call(r.code, r.f, []byte(r.body))
		if got := protocol.ResponseCode(answer.Code); got != r.want || !strings.Contains(string(answer.Remark), r.remark) {
			n.t.Errorf("%s, %s: %s (%d) %q; want %s, %q", r.code, r.name, got, got, answer.Remark, r.want, r.remark)
		}
	}
}

// successes has a row for every code that the broker serves.
func successes(offset int64) []row {
	batch := message.AppendBatchItem(message.AppendBatchItem(nil, message.BatchItem{Body: []byte("b1")}), message.BatchItem{Body: []byte("b2")})
	short := fields{"a": "P", "b": "T", "c": "TBW102", "d": "4", "e": "1", "f": "0", "g": "1763720000000", "h": "0", "i": "TAGS\x01A"}
	group := fields{"consumerGroup": "G"}
	return []row{
		{"", protocol.ReqSendMessage, sendFields, "m", 0, ""},
		{"any queue", protocol.ReqSendMessage, sendFields.with("queueId", "-1"), "m", 0, ""},
		{"", protocol.ReqSendMessageV2, short, "m", 0, ""},
		{"", protocol.ReqSendBatchMessage, short.with("m", "true"), string(batch), 0, ""},
		{"", protocol.ReqEndTransaction, endFields(protocol.SendResult{MsgID: string(message.AppendOffsetID(nil, netip.AddrPort{}, offset))}, unknown), "", 0, ""},
		{"", protocol.ReqPullMessage, pullFields, "", 0, "FOUND"},
		{"", protocol.ReqLitePullMessage, pullFields, "", 0, "FOUND"},
		{"", protocol.ReqPopMessage, popFields, "", 0, "FOUND"},
		{"", protocol.ReqPeekMessage, popFields.with("consumerGroup", "Other"), "", 0, "FOUND"},
		{"", protocol.ReqNotification, popFields, "", 0, ""},
		{"", protocol.ReqPollingInfo, popFields, "", 0, ""},
		{"", protocol.ReqAckMessage, popFields.with("offset", "0", "extraInfo", farReceipt), "", 0, ""},
		{"", protocol.ReqBatchAckMessage, nil, batchAckBody, 0, ""},
		{"", protocol.ReqChangeMessageInvisibleTime, popFields.with("offset", "0", "extraInfo", farReceipt), "", 0, ""},
		{"", protocol.ReqSetMessageRequestMode, nil, `{"topic":"T","consumerGroup":"G","mode":"POP","popShareQueueNum":0}`, 0, ""},
		{"", protocol.ReqGetAllMessageRequestMode, nil, "", 0, ""},
		{"", protocol.ReqQueryAssignment, nil, `{"topic":"T","consumerGroup":"G","clientId":"c1","strategyName":"AVG","messageModel":"CLUSTERING"}`, 0, ""},
		{"", protocol.ReqUpdateConsumerOffset, offsetFields, "", 0, ""},
		{"", protocol.ReqQueryConsumerOffset, offsetFields, "", 0, ""},
		{"", protocol.ReqLockBatchMQ, nil, string(lockBody("G", "c1", 0)), 0, ""},
		{"", protocol.ReqUnlockBatchMQ, nil, string(lockBody("G", "c1", 0)), 0, ""},
		{"", protocol.ReqHeartBeat, nil, string(heartbeatBody("c1", "G", "T", "*", 1)), 0, ""},
		{"", protocol.ReqSendReplyMessage, sendFields.with("properties", "REPLY_TO_CLIENT\x01c1"), "m", 0, ""},
		{"", protocol.ReqSendReplyMessageV2, short.with("i", "REPLY_TO_CLIENT\x01c1"), "m", 0, ""},
		{"", protocol.ReqGetConsumerListByGroup, group, "", 0, ""},
		{"", protocol.ReqUnregisterClient, fields{"clientID": "c1", "consumerGroup": "G", "producerGroup": "P"}, "", 0, ""},
		{"", protocol.ReqSearchOffsetByTimestamp, queueFields, "", 0, ""},
		{"", protocol.ReqGetMaxOffset, queueFields, "", 0, ""},
		{"", protocol.ReqGetMinOffset, queueFields, "", 0, ""},
		{"", protocol.ReqGetEarliestMsgStoreTime, queueFields, "", 0, ""},
		{"", protocol.ReqQueryMessage, keyFields, "", 0, ""},
		{"by tag", protocol.ReqQueryMessage, keyFields.with("key", "A", "indexType", "T"), "", 0, ""},
		{"", protocol.ReqViewMessageByID, fields{"offset": strconv.FormatInt(offset, 10)}, "", 0, ""},
		{"", protocol.ReqRecallMessage, fields{"topic": "T", "recallHandle": recallHandle("T", time.Now().Add(time.Hour), "id")}, "", 0, ""},
		{"", protocol.ReqUpdateAndCreateTopic, topicFields, "", 0, ""},
		{"", protocol.ReqGetTopicConfig, fields{"topic": "Made"}, "", 0, ""},
		{"", protocol.ReqDeleteTopicInBroker, fields{"topic": "Made"}, "", 0, ""},
		{"twice", protocol.ReqDeleteTopicInBroker, fields{"topic": "Made"}, "", 0, ""},
	}
}

// recallHandle makes one as the broker does.
func recallHandle(topic string, at time.Time, key string) string {
	return base64.URLEncoding.EncodeToString(fmt.Appendf(nil, "v1 %s broker-a %d %s", topic, at.UnixMilli(), key))
}

// testedElsewhere are rows whose tests stand beside what they serve.
var testedElsewhere = map[protocol.RequestCode]string{
	protocol.ReqConsumerSendMsgBack: "retry.go", protocol.ReqResumeCheckHalfMessage: "transaction_test.go",
}

func TestEveryRouteSucceeds(t *testing.T) {
	n := startNode(t, nil)
	_, offset, err := message.ParseOffsetID(n.send(sendFields, "first").MsgID)
	if err != nil {
		t.Fatal(err)
	}
	n.liteParent("LT", "60")
	n.liteGroup("LG", "LT")
	rows := slices.Concat(successes(offset), liteSuccesses(), adminSuccesses())
	n.run(rows)
	covered := map[protocol.RequestCode]bool{}
	for _, r := range rows {
		covered[r.code] = true
	}
	for _, r := range new(broker.Broker).Routes() {
		if !covered[r.Code] && testedElsewhere[r.Code] == "" {
			t.Errorf("no test sends %s", r.Code)
		}
	}
}

// What RocketMQ refuses too stands in testdata/apache; here is what it does not have, and what is beyond what one says of the other.
func TestSendsAreRefused(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	const one, batchCode = protocol.ReqSendMessage, protocol.ReqSendBatchMessage
	illegal, denied := protocol.RespMessageIllegal, protocol.RespNoPermission
	large := strings.Repeat("x", 64<<10+1)
	n.run([]row{
		{"large body", one, sendFields, large, illegal, "msg body length limit 65536B, msg properties length limit 32KB. the body is 65537 bytes long"},
		{"state", one, sendFields.with("topic", "rmq_sys_apogee_topics"), "m", denied, "topic[rmq_sys_apogee_topics] is forbidden"},
		{"new state", one, sendFields.with("topic", "rmq_sys_apogee_new"), "m", denied, "topic[rmq_sys_apogee_new] is forbidden"},
		{"long properties", one, sendFields.with("properties", "k\x01"+strings.Repeat("v", 32767)), "m", illegal, "as stored, 32767 are possible"},
		{"text as a number", one, sendFields.with("queueId", "zero"), "m", protocol.RespSystemError, `<queueId> is not a number: "zero"`},
		{"number too large", one, sendFields.with("flag", "2147483648"), "m", protocol.RespSystemError, `<flag> is not a number: "2147483648"`},
		{"broken batch", batchCode, sendFields.with("batch", "true"), "\x00\x00\x00\x63xxxxxxxxxxxxxxxxxxx", illegal, "message of 99 in 23 bytes"},
		{"large batch", batchCode, sendFields.with("batch", "true"), large, illegal, "msg body length limit 65536B, msg properties length limit 32KB. the batch is 65537 bytes long"},
	})
	var end protocol.OffsetResult
	if n.ok(protocol.ReqGetMaxOffset, queueFields, nil, &end); end.Offset != 1 {
		t.Errorf("refused sends are stored: the queue ends at %d, want 1", end.Offset)
	}
}

func TestPullsAreRefused(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	n.ok(protocol.ReqHeartBeat, nil, heartbeatBody("c1", "Seen", "T", "A", 5), nil)
	n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", "WriteOnly", "perm", "2"), nil, nil)
	const pull = protocol.ReqPullMessage
	invalid := protocol.RespInvalidParameter
	seen := pullFields.with("consumerGroup", "Seen", "sysFlag", "0", "subscription", "-")
	rows := []row{
		{"unknown topic", pull, pullFields.with("topic", "None"), "", protocol.RespTopicNotExist, "topic[None] not exist"},
		{"illegal group", pull, pullFields.with("consumerGroup", "a b"), "", protocol.RespSubscriptionGroupNotExist, "subscription group [a b] does not exist"},
		{"negative queue", pull, pullFields.with("queueId", "-1"), "", invalid, "queueId[-1] is illegal, topic:[T] topicConfig.readQueueNums:[4]"},
		{"queue that is not there", pull, pullFields.with("queueId", "4"), "", invalid, "queueId[4] is illegal, topic:[T] topicConfig.readQueueNums:[4]"},
		{"topic that is not read", pull, pullFields.with("topic", "WriteOnly"), "", protocol.RespNoPermission, "topic[WriteOnly] pulling message is forbidden"},
		{"no subscription", pull, pullFields.with("sysFlag", "0"), "", protocol.RespSubscriptionNotExist, "the consumer's group info not exist"},
		{"other subscription", pull, seen.with("topic", "BenchmarkTest"), "", protocol.RespSubscriptionNotExist, "the consumer's subscription not exist"},
		{"newer subscription", pull, seen.with("subVersion", "6"), "", protocol.RespSubscriptionNotLatest, "the consumer's subscription not latest"},
		{"same subscription", pull, seen.with("subVersion", "5"), "", 0, "FOUND"},
		{"SQL", pull, pullFields.with("expressionType", "SQL92", "subscription", "a ="), "", protocol.RespSubscriptionParseFailed, "line 1, column 4: found the end"},
		{"empty SQL", pull, pullFields.with("expressionType", "SQL92", "subscription", ""), "", protocol.RespSubscriptionParseFailed, "is empty"},
		{"another language", pull, pullFields.with("expressionType", "XPATH"), "", protocol.RespSystemError, "does not support consumer to filter message by XPATH"},
		{"negative offset", pull, pullFields.with("queueOffset", "-1"), "", protocol.RespPullOffsetMoved, "OFFSET_TOO_SMALL"},
		{"offset beyond the end", pull, pullFields.with("queueOffset", "2"), "", protocol.RespPullOffsetMoved, "OFFSET_OVERFLOW_BADLY"},
		{"offset at the end", pull, pullFields.with("queueOffset", "1"), "", protocol.RespPullNotFound, "OFFSET_OVERFLOW_ONE"},
		{"no match", pull, pullFields.with("subscription", "B"), "", protocol.RespPullRetryImmediately, "NO_MATCHED_MESSAGE"},
		{"text as a number", pull, pullFields.with("queueOffset", "x"), "", protocol.RespSystemError, `<queueOffset> is not a long: "x"`},
	}
	for _, name := range []string{"consumerGroup", "topic", "queueId", "queueOffset", "maxMsgNums", "sysFlag"} {
		rows = append(rows, row{"without " + name, pull, pullFields.with(name, "-"), "", protocol.RespSystemError, "the custom field <" + name + "> is null"})
	}
	n.run(rows)
}

// A pull without a commit offset commits none, one without a time to wait is not held, one without a version takes any subscription.
func TestPullsWithoutWhatRocketMQDoesNotNeed(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	n.ok(protocol.ReqHeartBeat, nil, heartbeatBody("c1", "Seen", "T", "A", 5), nil)
	const pull, query = protocol.ReqPullMessage, protocol.ReqQueryConsumerOffset
	bare := pullFields.with("commitOffset", "-", "suspendTimeoutMillis", "-", "subVersion", "-")
	n.run([]row{
		{"bare", pull, bare, "", 0, "FOUND"},
		{"a commit of nothing", pull, bare.with("sysFlag", "5"), "", 0, "FOUND"},
		{"which is none", query, offsetFields.with("setZeroIfNotFound", "false"), "", protocol.RespQueryNotFound, ""},
		{"a wait for nothing", pull, bare.with("sysFlag", "6", "queueOffset", "1"), "", protocol.RespPullNotFound, ""},
		{"a subscription of any version", pull, bare.with("consumerGroup", "Seen", "sysFlag", "0", "subscription", "-"), "", 0, "FOUND"},
	})
}

func TestOtherRequestsAreRefused(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	const create, remove, commit = protocol.ReqUpdateAndCreateTopic, protocol.ReqDeleteTopicInBroker, protocol.ReqUpdateConsumerOffset
	invalid, failed, missing := protocol.RespInvalidParameter, protocol.RespSystemError, protocol.RespQueryNotFound
	none := fields{"topic": "None"}
	n.group("G")
	n.run([]row{
		{"illegal group", commit, offsetFields.with("consumerGroup", "a b"), "", protocol.RespSubscriptionGroupNotExist, "Group a b not exist"},
		{"unknown topic", commit, offsetFields.with("topic", "None"), "", protocol.RespTopicNotExist, "Topic None not exist"},
		{"queue that is not there", commit, offsetFields.with("queueId", "9"), "", invalid, "queue 9 of topic T, offset 1: the topic has queues 0 to 3"},
		{"negative offset", commit, offsetFields.with("commitOffset", "-1"), "", invalid, "offset -1"},
		{"without an offset", commit, offsetFields.with("commitOffset", "-"), "", failed, "<commitOffset> is null"},
		{"no offset", protocol.ReqQueryConsumerOffset, offsetFields.with("setZeroIfNotFound", "false"), "", missing, "Not found"},
		{"without a queue", protocol.ReqQueryConsumerOffset, offsetFields.with("queueId", "-"), "", failed, "<queueId> is null"},
		{"no client", protocol.ReqLockBatchMQ, nil, string(lockBody("G", "", 0)), invalid, `clientId ""`},
		{"no group", protocol.ReqUnlockBatchMQ, nil, string(lockBody("", "c", 0)), invalid, `consumerGroup ""`},
		{"no JSON", protocol.ReqLockBatchMQ, nil, "{", failed, "JSON"},
		{"no JSON", protocol.ReqUnlockBatchMQ, nil, "", failed, "JSON"},
		{"no JSON", protocol.ReqHeartBeat, nil, "[", failed, "JSON"},
		{"no client", protocol.ReqUnregisterClient, nil, "", failed, "<clientID> is null"},
		{"nobody", protocol.ReqGetConsumerListByGroup, fields{"consumerGroup": "Nobody"}, "", failed, "no consumer for this group, Nobody"},
		{"no group", protocol.ReqGetConsumerListByGroup, nil, "", failed, "<consumerGroup> is null"},
		{"no queue", protocol.ReqGetMaxOffset, none, "", failed, "<queueId> is null"},
		{"no queue", protocol.ReqGetMinOffset, none, "", failed, "<queueId> is null"},
		{"no queue", protocol.ReqGetEarliestMsgStoreTime, none, "", failed, "<queueId> is null"},
		{"no time", protocol.ReqSearchOffsetByTimestamp, none, "", failed, "<timestamp> is null"},
		{"tag instead of a key", protocol.ReqQueryMessage, keyFields.with("key", "A"), "", missing, "can not find message"},
		{"key instead of a tag", protocol.ReqQueryMessage, keyFields.with("indexType", "T"), "", missing, "can not find message"},
		{"no such key", protocol.ReqQueryMessage, keyFields.with("key", "k3"), "", missing, "can not find message"},
		{"time before", protocol.ReqQueryMessage, keyFields.with("endTimestamp", "1"), "", missing, "can not find message"},
		{"without a key", protocol.ReqQueryMessage, keyFields.with("key", "-"), "", failed, "<key> is null"},
		{"beyond the end", protocol.ReqViewMessageByID, fields{"offset": "99999999"}, "", failed, "can not find message by the offset, 99999999"},
		{"negative", protocol.ReqViewMessageByID, fields{"offset": "-5"}, "", failed, "can not find message by the offset, -5"},
		{"without an offset", protocol.ReqViewMessageByID, nil, "", failed, "<offset> is null"},
		{"illegal name", create, topicFields.with("topic", "a/b"), "", invalid, "allowing only ^[%|a-zA-Z0-9_-]+$: not '/'"},
		{"system topic", create, topicFields.with("topic", "TBW102"), "", invalid, "topic[TBW102] is conflict with system topic"},
		{"the cluster's topic", create, topicFields.with("topic", "DefaultCluster"), "", invalid, "topic[DefaultCluster] is conflict"},
		{"negative queues", create, topicFields.with("readQueueNums", "-1"), "", invalid, "-1 read and 2 write queues"},
		{"too many queues", create, topicFields.with("writeQueueNums", "65537"), "", invalid, "65537 write queues; 0 to topicQueuesMax=65536"},
		{"unknown attribute", create, topicFields.with("attributes", "+colour=red"), "", failed, "unsupported key: colour"},
		{"attribute without a value", create, topicFields.with("attributes", "+queue.type"), "", failed, "delete attribute format is wrong: +queue.type"},
		{"without permissions", create, topicFields.with("perm", "-"), "", failed, "<perm> is null"},
		{"blank name", remove, fields{"topic": " "}, "", invalid, "blank"},
		{"system topic", remove, fields{"topic": "SCHEDULE_TOPIC_XXXX"}, "", invalid, "topic[SCHEDULE_TOPIC_XXXX] is conflict"},
		{"without a name", remove, nil, "", failed, "<topic> is null"},
		{"unknown topic", protocol.ReqGetTopicConfig, none, "", protocol.RespTopicNotExist, "No topic in this broker. topic: None"},
		{"a code of nobody", 9999, nil, "", protocol.RespRequestCodeNotSupported, "9999"},
	})
}

func TestNothingIsMadeWhereThatIsOff(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.AutoCreateTopic, c.AutoCreateGroup = false, false })
	n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", "T"), nil, nil)
	n.run([]row{
		{"topic", protocol.ReqSendMessage, sendFields.with("topic", "New"), "m", protocol.RespTopicNotExist, "topic[New] not exist, apply first please!"},
		{"group that pulls", protocol.ReqPullMessage, pullFields, "", protocol.RespSubscriptionGroupNotExist, "subscription group [G] does not exist"},
		{"group that commits", protocol.ReqUpdateConsumerOffset, offsetFields, "", protocol.RespSubscriptionGroupNotExist, "Group G not exist!"},
		{"system group", protocol.ReqUpdateConsumerOffset, offsetFields.with("consumerGroup", "TOOLS_CONSUMER"), "", 0, ""},
	})
}

func TestRoutesHaveNoMoreThanTheBrokerPermits(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m")
	var table protocol.TopicConfigTable
	n.body(protocol.ReqGetAllTopicConfig, nil, &table)
	for _, want := range []int32{protocol.PermRead, protocol.PermWrite, protocol.PermRead | protocol.PermWrite} {
		n.ok(protocol.ReqUpdateBrokerConfig, nil, fmt.Appendf(nil, "brokerPermission=%d", want), nil)
		if q, _ := n.route("T"); q.Perm != want {
			t.Errorf("permission %d in the route while the broker permits %d", q.Perm, want)
		}
		var c protocol.TopicConfig
		if n.body(protocol.ReqGetTopicConfig, fields{"topic": "T"}, &c); c.Perm != 6 {
			t.Errorf("the topic's own permission is %d", c.Perm)
		}
		version := table.DataVersion.Counter
		if n.body(protocol.ReqGetAllTopicConfig, nil, &table); table.DataVersion.Counter <= version {
			t.Error("a change of the broker's permission does not show in the topics' version")
		}
	}
}

func TestABrokerThatMayNotRead(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.BrokerPermission = 2 })
	n.send(sendFields, "m")
	n.run([]row{{"pull", protocol.ReqPullMessage, pullFields, "", protocol.RespNoPermission, "the broker[127.0.0.1] pulling message is forbidden"}})
}
