package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// adminSuccesses has a row for every code of administration, for a node with topic T, group G and no clients.
func adminSuccesses() []row {
	group := fields{"group": "G", "topic": "T", "timestamp": "0", "isForce": "true"}
	const off, fault = protocol.RespConsumerNotOnline, protocol.RespSystemError
	return []row{
		{"", protocol.ReqCheckClientConfig, nil, `{"subscriptionData":{"expressionType":"TAG"}}`, 0, ""},
		{"SQL", protocol.ReqCheckClientConfig, nil, `{"subscriptionData":{"expressionType":"SQL92","subString":"a > 5"}}`, 0, ""},
		{"bad SQL", protocol.ReqCheckClientConfig, nil, `{"subscriptionData":{"expressionType":"SQL92","subString":"a > 'x'"}}`, protocol.RespSubscriptionParseFailed, "Invalid MessageSelector. line 1, column 3"},
		{"another language", protocol.ReqCheckClientConfig, nil, `{"subscriptionData":{"expressionType":"XPATH"}}`, fault, "does not support consumer to filter message by XPATH"},
		{"", protocol.ReqUpdateAndCreateTopicList, nil, `{"topicConfigList":[{"topicName":"L1","readQueueNums":2,"writeQueueNums":2,"perm":6}]}`, 0, ""},
		{"a bad name", protocol.ReqUpdateAndCreateTopicList, nil, `{"topicConfigList":[{"topicName":"L2"},{"topicName":"a b"}]}`, protocol.RespInvalidParameter, "illegal"},
		{"", protocol.ReqGetAllTopicConfig, nil, "", 0, ""},
		{"", protocol.ReqGetTopicStatsInfo, group, "", 0, ""},
		{"unknown", protocol.ReqGetTopicStatsInfo, fields{"topic": "Nowhere"}, "", protocol.RespTopicNotExist, "topic[Nowhere] not exist"},
		{"", protocol.ReqGetSystemTopicListFromBroker, nil, "", 0, ""},
		{"", protocol.ReqCleanExpiredConsumeQueue, nil, "", 0, ""},
		{"", protocol.ReqCleanUnusedTopic, nil, "", 0, ""},
		{"", protocol.ReqDeleteExpiredCommitLog, nil, "", 0, ""},
		{"", protocol.ReqUpdateAndCreateSubscriptionGroup, nil, `{"groupName":"G2","retryMaxTimes":3}`, 0, ""},
		{"a bad attribute", protocol.ReqUpdateAndCreateSubscriptionGroup, nil, `{"groupName":"G2","attributes":{"+x":"1"}}`, protocol.RespSystemError, "unsupported key: x"},
		{"a bad retry policy", protocol.ReqUpdateAndCreateSubscriptionGroup, nil, `{"groupName":"G2","groupRetryPolicy":{"customizedRetryPolicy":{"next":["x"]}}}`, fault, `"x" is no number`},
		{"", protocol.ReqUpdateAndCreateSubscriptionGroupList, nil, `{"groupConfigList":[{"groupName":"G3"}]}`, 0, ""},
		{"", protocol.ReqGetSubscriptionGroupConfig, fields{"group": "G2"}, "", 0, ""},
		{"", protocol.ReqGetAllSubscriptionGroupConfig, nil, "", 0, ""},
		{"", protocol.ReqDeleteSubscriptionGroup, fields{"groupName": "G3", "cleanOffset": "true"}, "", 0, ""},
		{"", protocol.ReqUpdateAndGetGroupForbidden, group, "", 0, ""},
		{"", protocol.ReqGetConsumeStats, fields{"consumerGroup": "G"}, "", 0, ""},
		{"", protocol.ReqGetBrokerConsumeStats, fields{"isOrder": "false"}, "", 0, ""},
		{"", protocol.ReqQueryConsumeTimeSpan, group, "", 0, ""},
		{"", protocol.ReqQueryConsumeQueue, fields{"topic": "T", "queueId": "0", "index": "0", "count": "10"}, "", 0, ""},
		{"", protocol.ReqViewBrokerStatsData, fields{"statsName": "TOPIC_PUT_NUMS", "statsKey": "T"}, "", 0, ""},
		{"unknown", protocol.ReqViewBrokerStatsData, fields{"statsName": "X", "statsKey": "T"}, "", fault, "The stats <X> <T> not exist"},
		{"", protocol.ReqInvokeBrokerToResetOffset, group, "", 0, ""},
		{"", protocol.ReqCloneGroupOffset, fields{"srcGroup": "G", "destGroup": "G2"}, "", 0, ""},
		{"", protocol.ReqQueryCorrectionOffset, fields{"compareGroup": "G", "topic": "T"}, "", 0, ""},
		{"", protocol.ReqGetConsumerConnectionList, fields{"consumerGroup": "Off"}, "", off, "the consumer group[Off] not online"},
		{"", protocol.ReqGetProducerConnectionList, fields{"producerGroup": "Off"}, "", fault, "the producer group[Off] not exist"},
		{"", protocol.ReqGetAllProducerInfo, nil, "", 0, ""},
		{"", protocol.ReqQueryTopicConsumeByWho, group, "", 0, ""},
		{"", protocol.ReqQueryTopicsByConsumer, group, "", 0, ""},
		{"", protocol.ReqQuerySubscriptionByConsumer, group, "", 0, ""},
		{"", protocol.ReqInvokeBrokerToGetConsumerStatus, fields{"group": "Off", "topic": "T"}, "", fault, "No Any Consumer online"},
		{"", protocol.ReqGetConsumerRunningInfo, fields{"consumerGroup": "Off", "clientId": "c"}, "", fault, "The Consumer <Off> <c> not online"},
		{"", protocol.ReqConsumeMessageDirectly, fields{"consumerGroup": "Off", "msgId": "x"}, "", protocol.RespInvalidParameter, "msgId"},
		{"", protocol.ReqUpdateBrokerConfig, nil, "pollWaitMax=20000\n", 0, ""},
		{"needs a restart", protocol.ReqUpdateBrokerConfig, nil, "brokerName=x\n", protocol.RespInvalidParameter, `brokerName: it is "broker-a"`},
		{"unknown", protocol.ReqUpdateBrokerConfig, nil, "maxMessageSize=1\nmadeUp=1\n", protocol.RespInvalidParameter, "madeUp"},
		{"wrong value", protocol.ReqUpdateBrokerConfig, nil, "brokerPermission=9\n", protocol.RespInvalidParameter, "brokerPermission"},
		{"black list", protocol.ReqUpdateBrokerConfig, nil, "rocketmqHome=/\n", protocol.RespNoPermission, "black list"},
		{"", protocol.ReqGetBrokerConfig, nil, "", 0, ""},
		{"", protocol.ReqGetBrokerRuntimeInfo, nil, "", 0, ""},
		{"", protocol.ReqGetTimerMetrics, nil, "", 0, ""},
		{"", protocol.ReqUpdateColdDataFlowCtrConfig, nil, "G=1000000\n", 0, ""},
		{"", protocol.ReqGetColdDataFlowCtrInfo, nil, "", 0, ""},
		{"", protocol.ReqRemoveColdDataFlowCtrConfig, nil, "G", 0, ""},
		{"", protocol.ReqSetCommitLogReadMode, fields{"READ_AHEAD_MODE": "0"}, "", 0, "set commitlog readahead mode success, mode: 0"},
	}
}

// body sends a request and decodes the JSON that it is answered with.
func (n *node) body(code protocol.RequestCode, f fields, into any) {
	n.t.Helper()
	if err := protocol.UnmarshalBody(n.ok(code, f, nil, nil).Body, into); err != nil {
		n.t.Fatalf("%s: %v", code, err)
	}
}

func TestStatisticsOfATopicAndItsGroup(t *testing.T) {
	n := startNode(t, nil)
	for i := range 5 {
		n.send(sendFields, fmt.Sprint("m", i))
	}
	n.ok(protocol.ReqPullMessage, pullFields.with("maxMsgNums", "4"), nil, nil)
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "2"), nil, nil)
	var topic protocol.TopicStats
	n.body(protocol.ReqGetTopicStatsInfo, fields{"topic": "T"}, &topic)
	end, updated := int64(0), false
	for _, e := range topic.Offsets {
		end += e.Value.Max
		updated = updated || e.Value.LastUpdate > 0
	}
	if len(topic.Offsets) != 4 || end != 5 || !updated {
		t.Errorf("topic statistics: %d queues with %d messages, updated %v; want 4, 5, true", len(topic.Offsets), end, updated)
	}
	for _, f := range []fields{{"consumerGroup": "G"}, {"consumerGroup": "G", "topic": "T"}, {"consumerGroup": "G", "topicList": "T;Nowhere"}} {
		var stats protocol.ConsumeStats
		n.body(protocol.ReqGetConsumeStats, f, &stats)
		lag, inflight := stats.Lag()
		if lag != 3 || inflight != 2 {
			t.Errorf("%v: lag %d, in flight %d; want 3 and 2", f, lag, inflight)
		}
	}
	var groups protocol.GroupList
	n.body(protocol.ReqQueryTopicConsumeByWho, fields{"topic": "T"}, &groups)
	var topics protocol.TopicList
	n.body(protocol.ReqQueryTopicsByConsumer, fields{"group": "G"}, &topics)
	if fmt.Sprint(groups.Groups, topics.Topics) != "[G] [T]" {
		t.Errorf("who consumes what: %v %v", groups.Groups, topics.Topics)
	}
	var stats protocol.BrokerStats
	n.body(protocol.ReqViewBrokerStatsData, fields{"statsName": "GROUP_GET_NUMS", "statsKey": "T@G"}, &stats)
	if stats.Minute.Sum != 4 || stats.Hour.Sum != 4 || stats.Day.Sum != 4 || stats.Day.AvgPT != 4 || stats.Minute.TPS <= 0 {
		t.Errorf("what the group got: %+v", stats)
	}
	n.body(protocol.ReqViewBrokerStatsData, fields{"statsName": "TOPIC_PUT_SIZE", "statsKey": "T"}, &stats)
	if stats.Minute.Sum != 10 || stats.Day.AvgPT != 2 {
		t.Errorf("bytes that were put: %+v", stats)
	}
	var runtime protocol.KVTable
	n.body(protocol.ReqGetBrokerRuntimeInfo, nil, &runtime)
	for key, want := range map[string]string{
		"putMessageTimesTotal": "5", "msgPutTotalTodayNow": "5", "msgGetTotalTodayNow": "4", "putMessageSizeTotal": "10",
		"putMessageAverageSize": "2.0", "brokerActive": "true", "brokerVersionDesc": "V5_5_0", "commitLogMinOffset": "0",
	} {
		if got := runtime.Table[key]; got != want {
			t.Errorf("runtime %s=%q, want %q", key, got, want)
		}
	}
	if got := len(strings.Fields(runtime.Table["putTps"])); got != 3 {
		t.Errorf("putTps has %d rates, want 3", got)
	}
}

func TestAResetReachesTheGroup(t *testing.T) {
	n := startNode(t, nil)
	for i := range 3 {
		n.send(sendFields, fmt.Sprint("m", i))
	}
	n.group("G")
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "3"), nil, nil)
	held := make(chan *protocol.Command, 1)
	c := command(protocol.ReqPullMessage, pullFields.with("queueOffset", "3", "sysFlag", "6", "suspendTimeoutMillis", "15000"), nil)
	n.client.Go(n.s.BrokerAddr(), c, func(answer *protocol.Command, err error) {
		if err != nil {
			close(held)
			return
		}
		copied := *answer
		copied.Fields = nil
		held <- &copied
	})
	var reset protocol.ResetOffsetBody
	n.body(protocol.ReqInvokeBrokerToResetOffset, fields{"group": "G", "topic": "T", "timestamp": "0", "isForce": "true"}, &reset)
	if len(reset.Offsets) != 4 {
		t.Fatalf("reset %d queues, want 4", len(reset.Offsets))
	}
	if answer := <-held; answer == nil || answer.Code != int32(protocol.RespPullOffsetMoved) {
		t.Fatalf("the held pull: %v, want PULL_OFFSET_MOVED", answer)
	}
	var pulled protocol.PullResult
	answer := n.call(protocol.ReqPullMessage, pullFields.with("queueId", "1"), nil)
	if err := protocol.DecodeHeader(answer.Fields, &pulled); err != nil || answer.Code != int32(protocol.RespPullOffsetMoved) || pulled.NextOffset != 0 {
		t.Errorf("a pull after the reset: %v, next %d; want PULL_OFFSET_MOVED to 0", protocol.ResponseCode(answer.Code), pulled.NextOffset)
	}
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("queueId", "2", "commitOffset", "9"), nil, nil)
	var offset protocol.OffsetResult
	if n.ok(protocol.ReqQueryConsumerOffset, offsetFields.with("queueId", "2"), nil, &offset); offset.Offset != 0 {
		t.Errorf("a commit before the group learnt of the reset changed the offset to %d", offset.Offset)
	}
	n.body(protocol.ReqInvokeBrokerToResetOffset, fields{"group": "G", "topic": "T", "timestamp": "-1", "isForce": "true", "queueId": "0"}, &reset)
	if n.ok(protocol.ReqQueryConsumerOffset, offsetFields, nil, &offset); offset.Offset != 3 || len(reset.Offsets) != 1 {
		t.Errorf("reset of queue 0 to its end: offset %d of %d queues, want 3 of 1", offset.Offset, len(reset.Offsets))
	}
}

// Members that are too old to learn of a reset from a pull are pushed the offsets, in the form that their language reads; others are not.
func TestAResetIsPushedToMembersOfOldClients(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m0")
	n.send(sendFields, "m1")
	n.group("G")
	type push struct{ client, body string }
	pushed := make(chan push, 8)
	for _, m := range []struct {
		client   string
		version  int32
		language protocol.Language
	}{{"java-4.9.7", 405, protocol.LanguageJava}, {"cpp", 317, protocol.LanguageCPP}, {"java-5.0", 413, protocol.LanguageJava}} {
		client := remoting.NewClient(remoting.ClientConfig{OnRequest: func(r *remoting.Request) (*remoting.Response, error) {
			var h protocol.ResetOffsetHeader
			if protocol.RequestCode(r.Code) != protocol.ReqResetConsumerClientOffset {
				return nil, nil
			}
			if err := r.Read(&h); err != nil || h.Topic != "T" || h.Group != "G" || h.Timestamp != -1 || !h.Force {
				t.Errorf("%s was pushed %+v, %v", m.client, h, err)
			}
			pushed <- push{m.client, string(r.Body)}
			return nil, nil
		}})
		defer client.Close()
		heartbeat := command(protocol.ReqHeartBeat, nil, heartbeatBody(m.client, "G", "T", "*", 1))
		heartbeat.Version, heartbeat.Language = m.version, m.language
		if _, err := client.Invoke(t.Context(), n.s.BrokerAddr(), heartbeat); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string][]string{}
	for range 2 { // what the first round pushed to anybody is there before the second is
		n.ok(protocol.ReqInvokeBrokerToResetOffset, fields{"group": "G", "topic": "T", "timestamp": "-1", "isForce": "true", "queueId": "0"}, nil, nil)
		for range 2 {
			p := <-pushed
			got[p.client] = append(got[p.client], p.body)
		}
	}
	const java = `{"offsetTable":{{"topic":"T","brokerName":"broker-a","queueId":0}:2}}`
	const cpp = `{"offsetTable":[{"topic":"T","brokerName":"broker-a","queueId":0,"offset":2}]}`
	if diff := cmp.Diff(map[string][]string{"java-4.9.7": {java, java}, "cpp": {cpp, cpp}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatAdministratorsChangeSurvivesARestart(t *testing.T) {
	c := testConfig(vfs.NewMem())
	n := startConfig(t, c)
	n.send(sendFields, "m")
	const policy = `{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":100,"max":60000,"multiplier":3},"later":1}`
	n.ok(protocol.ReqUpdateAndCreateSubscriptionGroup, nil, []byte(`{"groupName":"G","retryMaxTimes":3,"attributes":{"+priority.factor":"2"},
		"consumeMessageOrderly":true,"groupRetryPolicy":`+policy+`}`), nil)
	n.ok(protocol.ReqUpdateAndGetGroupForbidden, fields{"group": "G", "topic": "T", "readable": "false"}, nil, nil)
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("maxMessageSize=3\nautoCreateTopicEnable=false"), nil)
	n.ok(protocol.ReqInvokeBrokerToResetOffset, fields{"group": "G", "topic": "T", "timestamp": "-1", "isForce": "true"}, nil, nil)
	n.stop()
	n = startConfig(t, c)
	defer n.stop()
	var group protocol.SubscriptionGroupConfig
	n.body(protocol.ReqGetSubscriptionGroupConfig, fields{"group": "G"}, &group)
	if group.RetryMaxTimes != 3 || group.Attributes["priority.factor"] != "2" || !group.ConsumeEnable {
		t.Errorf("group %+v", group)
	}
	if group.GroupRetryPolicy == nil || string(*group.GroupRetryPolicy) != policy || !group.ConsumeMessageOrderly {
		t.Errorf("group %s, want the retry policy as it came, and order", protocol.MarshalBody(group))
	}
	var table protocol.GroupTable
	n.body(protocol.ReqGetAllSubscriptionGroupConfig, nil, &table)
	if table.Forbidden["G"]["T"] != 4 || table.DataVersion.Counter == 0 {
		t.Errorf("forbidden %v, version %+v", table.Forbidden, table.DataVersion)
	}
	n.run([]row{
		{"too long by now", protocol.ReqSendMessage, sendFields, "long", protocol.RespMessageIllegal, "msg body length limit 3B"},
		{"not made", protocol.ReqSendMessage, sendFields.with("topic", "New"), "m", protocol.RespTopicNotExist, "New"},
		{"reset", protocol.ReqPullMessage, pullFields, "", protocol.RespPullOffsetMoved, "OFFSET_RESET"},
		{"told once", protocol.ReqPullMessage, pullFields, "", protocol.RespSuccess, "FOUND"},
	})
	text := string(n.ok(protocol.ReqGetBrokerConfig, nil, nil, nil).Body)
	for _, line := range []string{"maxMessageSize=3\n", "autoCreateTopicEnable=false\n", "brokerName=broker-a\n", "flushDiskType=SYNC_FLUSH\n", "brokerIP1=127.0.0.1\n", "namesrvAddr=" + n.s.NamesrvAddr() + "\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("the configuration has no line %q:\n%s", line, text)
		}
	}
}

func TestRequestsAreSentOnToConsumers(t *testing.T) {
	n := startNode(t, func(c *server.Config) {})
	id := n.send(sendFields, "m").MsgID
	consumer := remoting.NewClient(remoting.ClientConfig{OnRequest: func(r *remoting.Request) (*remoting.Response, error) {
		resp := remoting.Respond(protocol.RespSuccess, nil)
		switch protocol.RequestCode(r.Code) {
		case protocol.ReqGetConsumerStatusFromClient:
			resp.Body = []byte(`{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:7}}`)
		case protocol.ReqConsumeMessageDirectly:
			name, _ := r.Fields.Get("brokerName")
			resp.Body = fmt.Appendf(nil, "%s %d", name, len(n.records(r.Body)))
		case protocol.ReqGetConsumerRunningInfo:
			return nil, protocol.Errorf(protocol.RespSystemError, "too busy")
		}
		return resp, nil
	}})
	defer consumer.Close()
	done := make(chan error, 1)
	consumer.Go(n.s.BrokerAddr(), command(protocol.ReqHeartBeat, nil, heartbeatBody("c1", "G", "T", "*", 1)), func(a *protocol.Command, err error) {
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := string(n.ok(protocol.ReqInvokeBrokerToGetConsumerStatus, fields{"group": "G", "topic": "T"}, nil, nil).Body); !strings.Contains(got, `"c1":{{"topic":"T"`) || !strings.Contains(got, `:7}`) {
		t.Errorf("consumer status: %s", got)
	}
	direct := fields{"consumerGroup": "G", "clientId": "c1", "msgId": id, "topic": "T"}
	if got := string(n.ok(protocol.ReqConsumeMessageDirectly, direct, nil, nil).Body); got != "broker-a 1" {
		t.Errorf("consumed directly: %q", got)
	}
	n.run([]row{{"refused by the client", protocol.ReqGetConsumerRunningInfo, direct, "", protocol.RespSystemError, "too busy"}})
	var connection protocol.ConsumerConnection
	n.body(protocol.ReqGetConsumerConnectionList, fields{"consumerGroup": "G"}, &connection)
	if len(connection.Connections) != 1 || connection.Connections[0].ClientID != "c1" || connection.Subscriptions["T"].Expression != "*" {
		t.Errorf("consumers: %+v", connection)
	}
	var producers protocol.ProducerTable
	n.body(protocol.ReqGetAllProducerInfo, nil, &producers)
	if len(producers.Data["P"]) != 1 {
		t.Errorf("producers: %+v", producers)
	}
}

func TestFailuresAndTimesAreCounted(t *testing.T) {
	n := startNode(t, nil)
	n.group("G")
	_, first, err := message.ParseOffsetID(n.send(sendFields, "m").MsgID)
	if err != nil {
		t.Fatal(err)
	}
	n.ok(protocol.ReqPullMessage, pullFields, nil, nil)
	back := fields{"offset": fmt.Sprint(first), "group": "G", "originTopic": "T"}
	n.ok(protocol.ReqConsumerSendMsgBack, back.with("delayLevel", "18"), nil, nil)
	n.ok(protocol.ReqConsumerSendMsgBack, back.with("delayLevel", "-1"), nil, nil)
	stats := func(name, key string) (s protocol.BrokerStats) {
		t.Helper()
		n.body(protocol.ReqViewBrokerStatsData, fields{"statsName": name, "statsKey": key}, &s)
		return s
	}
	if got := stats("SNDBCK_PUT_NUMS", "T@G").Minute.Sum; got != 2 {
		t.Errorf("%d messages sent back, want 2", got)
	}
	if got := stats("SNDBCK2DLQ_TIMES", "null@T@G@SEND_BACK_TO_DLQ").Minute.Sum; got != 1 {
		t.Errorf("%d dead letters, want 1", got)
	}
	for name, key := range map[string]string{"TOPIC_PUT_LATENCY": "0@T", "GROUP_GET_LATENCY": "0@T@G"} {
		if got := stats(name, key).Minute; got.Sum < 0 || got.AvgPT < 0 || got.AvgPT > 5_000 {
			t.Errorf("%s %+v", name, got)
		}
	}
	n.run([]row{
		{"of no queue", protocol.ReqViewBrokerStatsData, fields{"statsName": "TOPIC_PUT_LATENCY", "statsKey": "9@T"}, "", protocol.RespSystemError, "not exist"},
		{"without a queue", protocol.ReqViewBrokerStatsData, fields{"statsName": "GROUP_GET_LATENCY", "statsKey": "T@G"}, "", protocol.RespSystemError, "not exist"},
	})
	if got := n.metric(`apogee_delayed_messages{level="18"}`); got != 1 {
		t.Errorf("%d messages wait in level 18, want 1", got)
	}
	dead := `rocketmq_send_to_dlq_messages_total{cluster="DefaultCluster",consumer_group="G",is_system="false",node_id="broker-a",node_type="broker",topic="T"}`
	if got := n.metric(dead); got != 1 {
		t.Errorf("%d dead letters in the metrics, want 1", got)
	}
}
