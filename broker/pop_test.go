package broker_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

var popFields = fields{
	"consumerGroup": "G", "topic": "T", "queueId": "0", "maxMsgNums": "32", "invisibleTime": "60000", "pollTime": "0", "bornTime": "0",
	"initMode": "0", "expType": "TAG", "exp": "*", "order": "false",
}

// farReceipt names a delivery whose time is not over and that was never made, which is taken as one that was acknowledged.
const (
	farReceipt   = "0 1763720000000 8000000000000 1 0 broker-a 0 0"
	batchAckBody = `{"brokerName":"b","acks":[{"c":"G","t":"T","r":"0","so":0,"q":0,"rq":1,"pt":1763720000000,"it":8000000000000,"b":"Aw=="}]}`
)

// popped is a message that was popped, with what acknowledges it.
type popped struct {
	message.Record
	ack fields
}

// pop pops and returns what came; the code is SUCCESS or one of empty.
func (n *node) pop(f fields) (list []popped, h protocol.PopResult, code protocol.ResponseCode) {
	n.t.Helper()
	answer := n.call(protocol.ReqPopMessage, f, nil)
	code = protocol.ResponseCode(answer.Code)
	if code != protocol.RespSuccess && code != protocol.RespPollingTimeout && code != protocol.RespPollingFull {
		n.t.Fatalf("pop %v: %v", f, answer.Check())
	}
	if err := protocol.DecodeHeader(answer.Fields, &h); err != nil {
		n.t.Fatal(err)
	}
	starts := map[string]string{}
	for part := range strings.SplitSeq(h.StartOffsetInfo, ";") {
		if w := strings.Split(part, " "); len(w) == 3 {
			starts[w[0]+" "+w[1]] = w[2]
		}
	}
	for body := answer.Body; len(body) > 0; {
		r, size, err := message.Decode(body)
		if err != nil {
			n.t.Fatal(err)
		}
		body = body[size:]
		receipt, topic := string(message.Property(r.Properties, message.PropPopCheckpoint)), f["topic"]
		if receipt == "" {
			start := starts[fmt.Sprint("0 ", r.QueueID)]
			receipt = fmt.Sprint(start, " ", h.PopTime, " ", h.InvisibleMS, " ", h.ReviveQueue, " 0 broker-a ", r.QueueID, " ", r.QueueOffset)
		} else if strings.Split(receipt, " ")[4] == "1" {
			topic = message.PopRetryTopic(topic, f["consumerGroup"], false)
		}
		list = append(list, popped{r, fields{
			"consumerGroup": f["consumerGroup"], "topic": topic, "queueId": strconv.Itoa(int(r.QueueID)), "extraInfo": receipt,
			"offset": strconv.FormatInt(r.QueueOffset, 10),
		}})
	}
	return list, h, code
}

func (n *node) ack(p popped) { n.t.Helper(); n.ok(protocol.ReqAckMessage, p.ack, nil, nil) }

// A pop of no messages would be woken by those that are there, again and again.
func TestAPopOfNothingDoesNotWait(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m")
	began := time.Now()
	list, _, code := n.pop(popFields.with("maxMsgNums", "0", "pollTime", "20000", "bornTime", strconv.FormatInt(began.UnixMilli(), 10)))
	if took := time.Since(began); len(list) != 0 || code != protocol.RespPollingTimeout || took > 10*time.Second {
		t.Errorf("popped %d, %v, after %s", len(list), code, took)
	}
}

func TestPoppedMessagesComeAgainUnlessAcknowledged(t *testing.T) {
	n := startNode(t, nil)
	for i := range 3 {
		n.send(sendFields, fmt.Sprint("m", i))
	}
	list, h, _ := n.pop(popFields.with("invisibleTime", "300"))
	if len(list) != 3 || h.MsgOffsetInfo != "0 0 0,1,2" || h.StartOffsetInfo != "0 0 0" || h.Rest != 0 {
		t.Fatalf("popped %d, %+v", len(list), h)
	}
	n.ack(list[1])
	if again, _, code := n.pop(popFields); len(again) != 0 || code != protocol.RespPollingTimeout {
		t.Fatalf("popped %d twice, %v", len(again), code)
	}
	var again []popped
	for len(again) < 2 {
		more, _, _ := n.pop(popFields.with("pollTime", "5000", "queueId", "-1"))
		if len(more) == 0 {
			t.Fatal("what was not acknowledged did not come again")
		}
		again = append(again, more...)
	}
	for i, want := range []string{"m0", "m2"} {
		if r := again[i]; string(r.Body) != want || r.ReconsumeTimes != 1 || string(r.Topic) != "T" {
			t.Errorf("message %d is %q of %s, attempt %d, want %s", i, r.Body, r.Topic, r.ReconsumeTimes, want)
		}
		n.ack(again[i])
	}
	if answer := n.call(protocol.ReqAckMessage, list[0].ack, nil); protocol.ResponseCode(answer.Code) != protocol.RespNoMessage {
		t.Errorf("a receipt whose time is over was taken: %v", answer)
	}
}

func TestPopWaitsForAMessage(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	list, _, _ := n.pop(popFields)
	n.ack(list[0])
	got := make(chan []popped)
	began := time.Now()
	go func() {
		list, _, _ := n.pop(popFields.with("pollTime", "10000", "queueId", "-1"))
		got <- list
	}()
	for waiting := int32(0); waiting == 0; {
		var h protocol.PollingInfoResult
		n.ok(protocol.ReqPollingInfo, fields{"consumerGroup": "G", "topic": "T", "queueId": "-1"}, nil, &h)
		waiting = h.Polling
	}
	n.send(sendFields, "second")
	if list := <-got; len(list) != 1 || string(list[0].Body) != "second" {
		t.Fatalf("popped %d", len(list))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestPoppedInOrder(t *testing.T) {
	n := startNode(t, nil)
	for i := range 5 {
		n.send(sendFields, fmt.Sprint("m", i))
	}
	ordered := popFields.with("order", "true", "attemptId", "one", "maxMsgNums", "2", "invisibleTime", "400", "queueId", "-1")
	first, h, _ := n.pop(ordered)
	if len(first) != 2 || h.ReviveQueue != 999 || h.OrderCountInfo != "0 0 0" {
		t.Fatalf("popped %d, %+v", len(first), h)
	}
	if list, _, _ := n.pop(ordered.with("attemptId", "two")); len(list) != 0 {
		t.Fatal("popped behind a batch that is not acknowledged")
	}
	again, h, _ := n.pop(ordered)
	if len(again) != 2 || string(again[0].Body) != "m0" || h.OrderCountInfo != "0 0 0" {
		t.Fatalf("the same attempt got %d, %+v", len(again), h)
	}
	n.ack(again[0])
	if answer := n.call(protocol.ReqAckMessage, first[1].ack, nil); protocol.ResponseCode(answer.Code) != protocol.RespNoMessage {
		t.Errorf("a receipt of the first delivery was taken: %v", answer)
	}
	third, h, _ := n.pop(ordered.with("attemptId", "three", "pollTime", "5000")) // waits until the time is over
	if len(third) != 2 || string(third[0].Body) != "m1" || h.OrderCountInfo != "0 qo0%1 1;0 0 0" {
		t.Fatalf("another attempt got %d, %+v", len(third), h)
	}
	got := make(chan []popped)
	go func() {
		list, _, _ := n.pop(ordered.with("attemptId", "four", "pollTime", "5000", "invisibleTime", "60000"))
		got <- list
	}()
	n.ack(third[0])
	n.ack(third[1])
	list := <-got
	if len(list) != 2 || string(list[0].Body) != "m3" {
		t.Fatalf("what follows is %d", len(list))
	}
	var renewed protocol.ChangeInvisibleResult
	n.ok(protocol.ReqChangeMessageInvisibleTime, list[0].ack.with("invisibleTime", "200"), nil, &renewed)
	if time := strings.Split(list[0].ack["extraInfo"], " ")[1]; fmt.Sprint(renewed.PopTime) != time || renewed.ReviveQueue != 999 {
		t.Errorf("renewed %+v, delivered at %s", renewed, time)
	}
	n.ack(list[1])
	if list, _, _ = n.pop(ordered.with("attemptId", "five", "pollTime", "5000")); len(list) != 2 || string(list[0].Body) != "m3" {
		t.Errorf("what was renewed did not come again: %d", len(list))
	}
}

// Retries are counted; what fails too often goes to the DLQ.
func TestPoppedTooOftenIsDead(t *testing.T) {
	n := startNode(t, nil)
	n.ok(protocol.ReqUpdateAndCreateSubscriptionGroup, nil, []byte(`{"groupName":"G","retryMaxTimes":1}`), nil)
	n.send(sendFields, "bad")
	f := popFields.with("invisibleTime", "1", "pollTime", "10000", "queueId", "-1")
	for attempt := range int32(2) {
		list, _, _ := n.pop(f)
		if len(list) != 1 || list[0].ReconsumeTimes != attempt {
			t.Fatalf("attempt %d: popped %d", attempt, len(list))
		}
	}
	waitFor(t, "the message in the DLQ", func() bool {
		var end protocol.OffsetResult
		n.ok(protocol.ReqGetMaxOffset, fields{"topic": "%DLQ%G", "queueId": "0"}, nil, &end)
		return end.Offset == 1
	})
	dead := n.records(n.ok(protocol.ReqPullMessage, pullFields.with("topic", "%DLQ%G"), nil, nil).Body)
	if p := dead[0].Properties; string(dead[0].Body) != "bad" || string(message.Property(p, message.PropRetryTopic)) != "T" || dead[0].ReconsumeTimes != 2 {
		t.Errorf("dead is %q, attempt %d, %q", dead[0].Body, dead[0].ReconsumeTimes, p)
	}
	if list, _, _ := n.pop(popFields.with("queueId", "-1")); len(list) != 0 {
		t.Error("the dead come again")
	}
}

// A message whose properties have no room for the broker's comes again as it is.
func TestLongPropertiesComeAgain(t *testing.T) {
	n := startNode(t, nil)
	long := strings.Repeat("x", 32650)
	n.send(sendFields.with("properties", "k\x01"+long+"\x02UNIQ_KEY\x01id\x02"), "long")
	if list, _, _ := n.pop(popFields.with("invisibleTime", "1")); len(list) != 1 {
		t.Fatalf("popped %d", len(list))
	}
	list, _, _ := n.pop(popFields.with("pollTime", "10000"))
	if len(list) != 1 || list[0].ReconsumeTimes != 1 || string(message.Property(list[0].Properties, "k")) != long {
		t.Fatalf("popped %d again", len(list))
	}
	n.ack(list[0])
}

// More deliveries than are kept in memory are acknowledged, and come again, after a crash too.
func TestManyDeliveriesAtOnce(t *testing.T) {
	fs := crashfs.New()
	n := startConfig(t, testConfig(fs))
	const count = 1300
	for i := range count {
		n.send(sendFields, fmt.Sprint("m", i))
	}
	var list []popped
	for range count {
		one, _, _ := n.pop(popFields.with("maxMsgNums", "1", "invisibleTime", "600000"))
		list = append(list, one...)
	}
	if len(list) != count {
		t.Fatalf("popped %d", len(list))
	}
	for i := count - 1; i >= 100; i-- { // those that are not in memory first
		n.ack(list[i])
	}
	n.ack(list[0])
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	n.stop()
	n = startConfig(t, testConfig(crashed))
	defer n.stop()
	waitFor(t, "the group's offset", func() bool { return n.offset() == 1 })
	for _, p := range list[1:99] {
		n.ack(p)
	}
	if n.offset() != 99 {
		t.Errorf("the group's offset is %d, want 99", n.offset())
	}
	n.ok(protocol.ReqChangeMessageInvisibleTime, list[99].ack.with("invisibleTime", "1"), nil, nil)
	if again, _, _ := n.pop(popFields.with("pollTime", "20000", "queueId", "-1")); len(again) != 1 || string(again[0].Body) != "m99" {
		t.Errorf("%d came again", len(again))
	}
}

func TestWaitingPopsEndWithTheirConnection(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	list, _, _ := n.pop(popFields)
	n.ack(list[0])
	other := n.newClient()
	answered := make(chan error, 1)
	other.Go(n.s.BrokerAddr(), command(protocol.ReqPopMessage, popFields.with("pollTime", "30000"), nil), func(_ *protocol.Command, err error) { answered <- err })
	waiting := func(want int32) func() bool {
		return func() bool {
			var h protocol.PollingInfoResult
			n.ok(protocol.ReqPollingInfo, fields{"consumerGroup": "G", "topic": "T", "queueId": "0"}, nil, &h)
			return h.Polling == want
		}
	}
	waitFor(t, "the pop to wait", waiting(1))
	other.Close()
	waitFor(t, "it to be gone", waiting(0))
	if err := <-answered; err == nil {
		t.Error("answered though its connection is closed")
	}
	n.send(sendFields, "second")
	if list, _, _ := n.pop(popFields.with("pollTime", "5000")); len(list) != 1 || string(list[0].Body) != "second" {
		t.Errorf("popped %d: the connection that has ended took it", len(list))
	}
}

func TestResetsAndDeletionsForgetWhatWasPopped(t *testing.T) {
	n := startNode(t, nil)
	for i := range 4 {
		n.send(sendFields, fmt.Sprint("m", i))
	}
	list, _, _ := n.pop(popFields.with("invisibleTime", "300"))
	n.ok(protocol.ReqInvokeBrokerToResetOffset, fields{"topic": "T", "group": "G", "timestamp": "0", "isForce": "true", "offset": "2", "queueId": "0"}, nil, nil)
	again, _, _ := n.pop(popFields)
	if len(again) != 2 || string(again[0].Body) != "m2" {
		t.Fatalf("after the reset %d came", len(again))
	}
	if answer := n.call(protocol.ReqAckMessage, list[3].ack.with("offset", "2"), nil); protocol.ResponseCode(answer.Code) == protocol.RespSuccess && n.offset() != 2 {
		t.Error("a receipt from before the reset acknowledged a message")
	}
	waiting := make(chan protocol.ResponseCode)
	go func() {
		waiting <- protocol.ResponseCode(n.call(protocol.ReqPopMessage, popFields.with("pollTime", "10000"), nil).Code)
	}()
	waitFor(t, "the waiting pop", func() bool {
		var h protocol.PollingInfoResult
		n.ok(protocol.ReqPollingInfo, fields{"consumerGroup": "G", "topic": "T", "queueId": "0"}, nil, &h)
		return h.Polling == 1
	})
	n.ok(protocol.ReqDeleteTopicInBroker, fields{"topic": "T"}, nil, nil)
	if code := <-waiting; code != protocol.RespTopicNotExist {
		t.Errorf("a waiting pop of a deleted topic is answered %v", code)
	}
	n.send(sendFields, "new")
	if list, _, _ := n.pop(popFields); len(list) != 1 || string(list[0].Body) != "new" {
		t.Errorf("of the new topic %d came", len(list))
	}
}

func TestPopsAreRefused(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m")
	n.group("G")
	const one, ack, change = protocol.ReqPopMessage, protocol.ReqAckMessage, protocol.ReqChangeMessageInvisibleTime
	receipt := popFields.with("extraInfo", farReceipt, "offset", "0")
	late := fmt.Sprint(time.Now().Add(-time.Minute).UnixMilli())
	n.run([]row{
		{"late", one, popFields.with("bornTime", late, "pollTime", "1000"), "", protocol.RespPollingTimeout, "timeout too much"},
		{"too many", one, popFields.with("maxMsgNums", "33"), "", protocol.RespInvalidParameter, "pop message's num is greater than 32"},
		{"no topic", one, popFields.with("topic", "None"), "", protocol.RespTopicNotExist, "topic[None] not exist"},
		{"no queue", one, popFields.with("queueId", "9"), "", protocol.RespInvalidParameter, "queueId[9] is illegal, topic:[T]"},
		{"bad expression", one, popFields.with("expType", "SQL92", "exp", "a >"), "", protocol.RespSubscriptionParseFailed, "a >"},
		{"ack: no topic", ack, receipt.with("topic", "None"), "", protocol.RespTopicNotExist, "topic[None] not exist"},
		{"ack: no queue", ack, receipt.with("queueId", "9"), "", protocol.RespMessageIllegal, "queueId[9] is illegal"},
		{"ack: no offset", ack, receipt.with("offset", "9"), "", protocol.RespNoMessage, "offset is illegal, key:T@0, commit:9, store:0~1"},
		{"ack: no receipt", ack, receipt.with("extraInfo", "0 x"), "", protocol.RespSystemError, `receipt "0 x": 2 words`},
		{"ack: over", ack, receipt.with("extraInfo", "0 1763720000000 1 1 0 b 0 0"), "", protocol.RespNoMessage, "not valid any more"},
		{"change: no offset", change, receipt.with("offset", "1"), "", protocol.RespNoMessage, "offset is illegal"},
		{"batch: nothing", protocol.ReqBatchAckMessage, nil, `{"acks":[]}`, protocol.RespNoMessage, "no acknowledgements"},
		{"peek: nothing", protocol.ReqPeekMessage, popFields.with("queueId", "1"), "", protocol.RespPullNotFound, "NO_MESSAGE_IN_QUEUE"},
		{"mode of a retry topic", protocol.ReqSetMessageRequestMode, nil, `{"topic":"%RETRY%G","consumerGroup":"G","mode":"POP"}`, protocol.RespNoPermission, "retry topic is not allowed"},
		{"mode: no topic", protocol.ReqSetMessageRequestMode, nil, `{"topic":"None","consumerGroup":"G","mode":"POP"}`, protocol.RespTopicNotExist, "topic[None] not exist"},
		{"mode: no mode", protocol.ReqSetMessageRequestMode, nil, `{"topic":"T","consumerGroup":"G","mode":"PUSH"}`, protocol.RespInvalidParameter, `"PUSH": want PULL or POP`},
	})
	n.ok(protocol.ReqUpdateAndGetGroupForbidden, fields{"group": "G", "topic": "T", "readable": "false"}, nil, nil)
	n.run([]row{{"forbidden", one, popFields, "", protocol.RespNoPermission, "group[G] is forbidden for topic[T]"}})
	n.ok(protocol.ReqUpdateAndCreateSubscriptionGroup, nil, []byte(`{"groupName":"G","consumeEnable":false}`), nil)
	n.run([]row{{"disabled", one, popFields, "", protocol.RespNoPermission, "subscription group no permission, G"}})
}

func TestPopAndTransactionsHaveRocketMQsMetrics(t *testing.T) {
	n := startNode(t, nil)
	for range 3 {
		n.send(sendFields, "m")
	}
	list, _, _ := n.pop(popFields.with("invisibleTime", "200"))
	n.ack(list[0])
	waitFor(t, "the other two to come again", func() bool { return n.maxOffset("%RETRY%G_T") == 2 })
	n.end(n.send(halfFields("id1", "user", "x"), "half"), commit)
	const node = `cluster="DefaultCluster",`
	for metric, want := range map[string]int{
		`rocketmq_pop_revive_in_message_total{` + node + `consumer_group="G",node_id="broker-a",node_type="broker",put_status="PUT_OK",revive_message_type="CK",topic="T"}`:  1,
		`rocketmq_pop_revive_in_message_total{` + node + `consumer_group="G",node_id="broker-a",node_type="broker",put_status="PUT_OK",revive_message_type="ACK",topic="T"}`: 1,
		`rocketmq_pop_revive_retry_messages_total{` + node + `consumer_group="G",node_id="broker-a",node_type="broker",put_status="PUT_OK",topic="T"}`:                       2,
		`rocketmq_pop_revive_lag{` + node + `node_id="broker-a",node_type="broker",queue_id="0"}`:                                                                            0,
		`rocketmq_pop_revive_latency_milliseconds{` + node + `node_id="broker-a",node_type="broker",queue_id="0"}`:                                                           0,
		`rocketmq_finish_message_latency_milliseconds_bucket{` + node + `node_id="broker-a",node_type="broker",topic="T",le="5"}`:                                            1,
	} {
		if got, found := n.findMetric(metric); got != want || !found {
			t.Errorf("%s is %d, want %d", metric, got, want)
		}
	}
	const open = `rocketmq_pop_checkpoint_buffer_size{` + node + `node_id="broker-a",node_type="broker"}`
	waitFor(t, "the delivery to end", func() bool { got, found := n.findMetric(open); return found && got == 0 })
	n.pop(popFields)
	if got, _ := n.findMetric(open); got != 2 {
		t.Errorf("%d deliveries are open, want one of each topic", got)
	}
	var runtime protocol.KVTable
	n.body(protocol.ReqGetBrokerRuntimeInfo, nil, &runtime)
	for _, key := range []string{"EndTransactionQueueSize", "EndTransactionThreadPoolQueueCapacity"} {
		if runtime.Table[key] == "" {
			t.Errorf("the runtime info has no %s", key)
		}
	}
}

// A group that has acknowledged nothing yet has a lag, and what it popped is in flight.
func TestTheFirstPopShowsInAGroupsProgress(t *testing.T) {
	n := startNode(t, nil)
	for range 3 {
		n.send(sendFields, "m")
	}
	n.pop(popFields.with("maxMsgNums", "2"))
	var stats protocol.ConsumeStats
	n.body(protocol.ReqGetConsumeStats, fields{"consumerGroup": "G", "topic": "T"}, &stats)
	var got []protocol.OffsetWrapper
	for _, e := range stats.Offsets {
		if e.Queue.QueueID == 0 {
			got = append(got, e.Value)
		}
	}
	want := []protocol.OffsetWrapper{{Broker: 3, Consumer: 0, Pull: 2}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
