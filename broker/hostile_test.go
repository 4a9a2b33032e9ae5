package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/broker"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
)

// hostileValues are put into every field that any request has, one at a time; "-" leaves it out.
var hostileValues = []string{
	"-", "", "-1", "2147483647", "2147483648", "-2147483648", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
	"no number", "\x00\x01\x02", "%RETRY%", "{{{{", strings.Repeat("x", 70_000),
}

// hostileBodies are put into every request.
var hostileBodies = []string{
	"", "\x00", "{", "[", "[]", "{}", "null", "0", `"text"`, "{\"a\":", "=", "=\n=\n", "\xff\xfe\xfd",
	strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), strings.Repeat("{{", 50_000), strings.Repeat("0,", 300_000),
	"[" + strings.Repeat("0,", 200_000) + "0]", strings.Repeat("a=b\n", 100_000),
	`{"consumerDataSet":[null,{"subscriptionDataSet":[null]}],"producerDataSet":[null]}`,
	`{"clientID":-1,"mqSet":[{"queueId":99999999999}]}`, `{"mqSet":null,"topicConfigList":[null,{}],"groupConfigList":[null,{},1]}`,
	"\x7f\xff\xff\xff" + strings.Repeat("\xff", 40), "\x00\x00\x00\x17" + strings.Repeat("\xff", 40),
}

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
		n.hostileRow(r, names)
	}
	for _, r := range new(broker.Broker).Routes() {
		if !covered[r.Code] {
			t.Errorf("nothing hostile sends %s", r.Code)
		}
	}
	n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", "After"), nil, nil)
	n.send(sendFields.with("topic", "After"), "still there")
}

// hostileRow sends a request with each hostile value in each field, and with each hostile body.
func (n *node) hostileRow(r row, names []string) {
	n.t.Helper()
	for _, name := range names {
		_, given := r.f[name]
		for i, value := range hostileValues {
			if !given && i%4 != 2 { // nearly always a field that the request does not have
				continue
			}
			serialize := protocol.SerializeJSON
			if i%2 == 1 {
				serialize = protocol.SerializeBinary
			}
			n.hostile(serialize, r, r.f.with(name, value), r.body, name, value)
		}
	}
	for _, body := range hostileBodies {
		n.hostile(protocol.SerializeJSON, r, r.f, body, "", "")
	}
}

// statusCodes are no refusals.
var statusCodes = []protocol.ResponseCode{
	protocol.RespSuccess, protocol.RespPullNotFound, protocol.RespPullRetryImmediately, protocol.RespPullOffsetMoved, protocol.RespQueryNotFound,
	protocol.RespPollingTimeout, protocol.RespPollingFull,
}

func (n *node) hostile(s protocol.Serialization, r row, f fields, body, name, value string) {
	n.t.Helper()
	c := command(r.code, f, []byte(body))
	c.Serialize = s
	answer, err := n.client.Invoke(n.t.Context(), n.s.BrokerAddr(), c)
	if err != nil {
		n.t.Fatalf("%s with %.40q=%.40q and body %.40q: %v", r.code, name, value, body, err)
	}
	code, remark := protocol.ResponseCode(answer.Code), string(answer.Remark)
	if slices.Contains(statusCodes, code) {
		return
	}
	if !code.Known() || remark == "" {
		n.t.Errorf("%s with %.40q=%.40q and body %.40q: code %s, remark %q", r.code, name, value, body, code, remark)
	}
	if r.code == protocol.ReqDeleteExpiredCommitLog || r.code == protocol.ReqResumeCheckHalfMessage {
		return // refused whatever it says
	}
	if name != "" && value != "-" && !strings.Contains(remark, name) && !strings.Contains(remark, strings.TrimLeft(value[:min(len(value), 20)], "-")) && !strings.Contains(remark, fmt.Sprintf("%.20q", value)) {
		n.t.Errorf("%s with %.40q=%.40q: %s %q does not say so", r.code, name, value, code, remark)
	}
}
