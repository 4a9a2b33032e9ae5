package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// poll starts a pull that waits; its answer comes over the channel.
func (n *node) poll(conn *remoting.Conn, f fields) chan *protocol.Command {
	n.t.Helper()
	answers := make(chan *protocol.Command, 1)
	conn.Send(command(protocol.ReqPullMessage, f, nil), func(c *protocol.Command, err error) {
		if err != nil {
			answers <- nil
			return
		}
		copied := &protocol.Command{Code: c.Code, Remark: bytes.Clone(c.Remark), Body: bytes.Clone(c.Body)}
		for _, f := range c.Fields {
			copied.Fields.Add(string(f.Key), string(f.Value))
		}
		answers <- copied
	})
	return answers
}

func (n *node) dial() *remoting.Conn {
	n.t.Helper()
	return must(n.client.Dial(context.Background(), n.s.BrokerAddr()))
}

// heldPulls is the broker's gauge.
func (n *node) heldPulls() int { return n.metric(`apogee_broker_objects{kind="held_pulls"}`) }

var held = pullFields.with("sysFlag", "6", "suspendTimeoutMillis", "15000")

func TestHeldPullIsWokenByItsMessage(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	answers := n.poll(n.dial(), held.with("queueOffset", "1", "subscription", "B"))
	waitFor(t, "the pull to be held", func() bool { return n.heldPulls() == 1 })
	n.send(sendFields, "tag A does not wake")
	n.send(sendFields.with("queueId", "1", "properties", "TAGS\x01B"), "another queue does not wake")
	if n.heldPulls() != 1 {
		t.Error("woken by a message that it does not want")
	}
	began := time.Now()
	n.send(sendFields.with("properties", "TAGS\x01B\x02"), "wakes")
	answer := <-answers
	if took := time.Since(began); took > 10*time.Second { // it would be answered after 15 s anyhow
		t.Errorf("woken after %v", took)
	}
	if got := bodies(n.records(answer.Body)); answer.Code != 0 || got != "wakes" {
		t.Errorf("answered %d %q with %q", answer.Code, answer.Remark, got)
	}
	if n.heldPulls() != 0 {
		t.Error("still held")
	}
}

func TestHeldPullEndsWithItsTime(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	began := time.Now()
	answer := n.ok19(held.with("queueOffset", "1", "suspendTimeoutMillis", "150"))
	if took := time.Since(began); took < 150*time.Millisecond || took > 10*time.Second {
		t.Errorf("answered after %v", took)
	}
	if string(answer.Remark) != "OFFSET_OVERFLOW_ONE" {
		t.Errorf("remark %q", answer.Remark)
	}
	short := startNode(t, func(c *server.Config) { c.PollWaitMax = 100 * time.Millisecond })
	short.send(sendFields, "first")
	if began = time.Now(); short.ok19(held.with("queueOffset", "1", "suspendTimeoutMillis", "60000")) != nil && time.Since(began) > 10*time.Second {
		t.Errorf("pollWaitMax did not end it: %v", time.Since(began))
	}
}

func (n *node) ok19(f fields) *protocol.Command {
	n.t.Helper()
	answer := n.call(protocol.ReqPullMessage, f, nil)
	if protocol.ResponseCode(answer.Code) != protocol.RespPullNotFound {
		n.t.Errorf("answered %d %q, want PULL_NOT_FOUND", answer.Code, answer.Remark)
	}
	return answer
}

func TestClientClosesWhileItsPullIsHeld(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "first")
	conn := n.dial()
	answers := n.poll(conn, held.with("queueOffset", "1"))
	waitFor(t, "the pull to be held", func() bool { return n.heldPulls() == 1 })
	conn.Close("test")
	if answer := <-answers; answer != nil {
		t.Errorf("answered %d", answer.Code)
	}
	n.send(sendFields, "wakes a pull that nobody waits for")
	waitFor(t, "the pull to go", func() bool { return n.heldPulls() == 0 })
	if got := bodies(n.records(n.ok(protocol.ReqPullMessage, pullFields, nil, nil).Body)); !strings.HasSuffix(got, "waits for") {
		t.Errorf("pulled %q", got)
	}
}

func TestStoppingAnswersHeldPulls(t *testing.T) {
	n := startConfig(t, testConfig(vfs.NewMem()))
	n.send(sendFields, "first")
	answers := n.poll(n.dial(), held.with("queueOffset", "1"))
	waitFor(t, "the pull to be held", func() bool { return n.heldPulls() == 1 })
	if err := n.s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if answer := <-answers; answer == nil || protocol.ResponseCode(answer.Code) != protocol.RespPullNotFound {
		t.Errorf("answered %+v, want PULL_NOT_FOUND", answer)
	}
	n.client.Close()
}

// offset asks for the group's offset in queue 0, -1 where there is none.
func (n *node) offset() int64 {
	n.t.Helper()
	answer := n.call(protocol.ReqQueryConsumerOffset, offsetFields.with("setZeroIfNotFound", "false"), nil)
	if protocol.ResponseCode(answer.Code) == protocol.RespQueryNotFound {
		return -1
	}
	var h protocol.OffsetResult
	if err := protocol.DecodeHeader(answer.Fields, &h); err != nil {
		n.t.Fatal(err)
	}
	return h.Offset
}

func TestAnsweredCommitSurvivesACrash(t *testing.T) {
	fs := crashfs.New()
	n := startConfig(t, testConfig(fs))
	n.send(sendFields, "kept")
	if got := n.offset(); got != -1 {
		t.Errorf("offset %d before any commit", got)
	}
	n.group("G")
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "7"), nil, nil)
	n.ok(protocol.ReqLockBatchMQ, nil, lockBody("G", "c1", 0), nil)
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	n.stop()

	n = startConfig(t, testConfig(crashed))
	defer n.stop()
	if got := n.offset(); got != 7 {
		t.Errorf("offset %d after the crash, want 7", got)
	}
	if got := bodies(n.records(n.ok(protocol.ReqPullMessage, pullFields, nil, nil).Body)); got != "kept" {
		t.Errorf("pulled %q after the crash", got)
	}
	if got := n.lock("c2"); got != "" {
		t.Errorf("another client got queues %s of c1's", got)
	}
	if got := n.lock("c1"); got != "0" {
		t.Errorf("the holder got %q back", got)
	}
}

// Crashes after a topic's deletion was answered, and at any moment of it: no group has an offset in a queue that is empty.
func TestADeletedTopicLeavesNoOffsets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 20 {
		fs := crashfs.New()
		n := startConfig(t, testConfig(fs))
		n.send(sendFields, "m")
		n.group("G")
		n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "1"), nil, nil)
		deleted := make(chan struct{})
		go func() {
			defer close(deleted)
			n.ok(protocol.ReqDeleteTopicInBroker, fields{"topic": "T"}, nil, nil)
		}()
		if round == 0 {
			<-deleted
		} else {
			time.Sleep(time.Duration(r.IntN(1500)) * time.Microsecond)
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(r.Uint64(), 3))})
		<-deleted
		n.stop()

		n = startConfig(t, testConfig(crashed))
		var end protocol.OffsetResult
		n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", "T"), nil, nil)
		n.ok(protocol.ReqGetMaxOffset, queueFields, nil, &end)
		if at := n.offset(); at > end.Offset || round == 0 && at != -1 {
			t.Errorf("round %d: the group is at %d, the queue ends at %d", round, at, end.Offset)
		}
		n.stop()
	}
}

// lock asks for queue 0 and returns what the client holds.
func (n *node) lock(client string) string {
	n.t.Helper()
	var held protocol.LockBatchResult
	if err := protocol.UnmarshalBody(n.ok(protocol.ReqLockBatchMQ, nil, lockBody("G", client, 0), nil).Body, &held); err != nil {
		n.t.Fatal(err)
	}
	ids := make([]string, 0, 1)
	for _, q := range held.Locked {
		ids = append(ids, fmt.Sprint(q.QueueID))
	}
	return strings.Join(ids, " ")
}

func TestOneWayCommitsAreRecordedSoon(t *testing.T) {
	fs := crashfs.New()
	n := startConfig(t, testConfig(fs))
	n.send(sendFields, "m")
	n.group("G")
	n.group("G3")
	before := n.metric(`apogee_log_position_bytes{position="confirmed"}`)
	if err := n.client.OneWay(n.s.BrokerAddr(), command(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "5"), nil)); err != nil {
		t.Fatal(err)
	}
	n.ok(protocol.ReqPullMessage, pullFields.with("consumerGroup", "G2", "sysFlag", "5", "commitOffset", "3"), nil, nil) // with a pull
	began := time.Now()
	waitFor(t, "the offsets' record", func() bool {
		return n.metric(`apogee_log_position_bytes{position="confirmed"}`) > before && n.offset() == 5
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("recorded after %v", took)
	}
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("consumerGroup", "G3"), nil, nil) // answered behind what came before
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	n.stop()
	n = startConfig(t, testConfig(crashed))
	defer n.stop()
	if got := n.offset(); got != 5 {
		t.Errorf("offset %d after the crash, want 5", got)
	}
}

func TestNewGroupsBeginAtTheirQueuesStart(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m")
	var h protocol.OffsetResult
	if n.ok(protocol.ReqQueryConsumerOffset, offsetFields, nil, &h); h.Offset != 0 {
		t.Errorf("offset %d", h.Offset)
	}
	n.group("G")
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("commitOffset", "0"), nil, nil)
	if got := n.offset(); got != 0 {
		t.Errorf("offset %d after a commit of 0", got)
	}
}

func TestMembersAreToldOfJoiningAndLeaving(t *testing.T) {
	n := startNode(t, nil)
	beat := func(c *remoting.Conn, id string) protocol.HeartbeatResult {
		t.Helper()
		answer := must(c.Invoke(context.Background(), command(protocol.ReqHeartBeat, nil, heartbeatBody(id, "G", "T", "*", 1))))
		var h protocol.HeartbeatResult
		if err := protocol.DecodeHeader(answer.Fields, &h); err != nil || answer.Check() != nil {
			t.Fatal(answer.Check(), err)
		}
		return h
	}
	members := func() string {
		answer := n.call(protocol.ReqGetConsumerListByGroup, fields{"consumerGroup": "G"}, nil)
		var list protocol.ConsumerList
		_ = protocol.UnmarshalBody(answer.Body, &list)
		return fmt.Sprint(len(list.IDs))
	}
	one, two := n.dial(), n.dial()
	if h := beat(one, "c1"); !h.SupportsV2 {
		t.Error("heartbeat V2 is not offered")
	}
	n.wantPush("G") // to c1 itself
	beat(one, "c1")
	beat(two, "c2")
	n.wantPush("G")
	n.wantPush("G") // both, once each
	if got := members(); got != "2" {
		t.Errorf("%s members", got)
	}
	if _, ok := n.topic("%RETRY%G"); !ok {
		t.Error("no retry topic")
	}
	two.Close("test")
	n.wantPush("G")
	waitFor(t, "c2 to leave", func() bool { return members() == "1" })
	must(one.Invoke(context.Background(), command(protocol.ReqUnregisterClient, fields{"clientID": "c1", "consumerGroup": "G"}, nil)))
	if got := members(); got != "0" {
		t.Errorf("%s members", got)
	}
	if len(n.pushes) != 0 {
		t.Errorf("told of %q once more", <-n.pushes)
	}
}

func TestHeartbeatWithoutSubscriptionsKeepsThem(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m")
	short := protocol.Heartbeat{ClientID: "c1", Fingerprint: 42, WithoutSub: true, Consumers: []protocol.ConsumerData{{
		Group: "G", ConsumeType: protocol.ConsumePassively, Model: protocol.ModelClustering,
	}}}
	full := short
	full.WithoutSub = false
	full.Consumers = []protocol.ConsumerData{short.Consumers[0]}
	full.Consumers[0].Subscriptions = []protocol.SubscriptionData{{Topic: "T", Expression: "A", Version: 1, Type: "TAG"}}
	beat := func(b protocol.Heartbeat) (h protocol.HeartbeatResult) {
		t.Helper()
		n.ok(protocol.ReqHeartBeat, nil, protocol.MarshalBody(b), &h)
		return h
	}
	beat(full)
	if h := beat(short); h.SubscriptionChanged {
		t.Error("the same fingerprint counts as a change")
	}
	n.run([]row{{"by the heartbeat's subscription", protocol.ReqPullMessage, pullFields.with("sysFlag", "0", "subscription", "-"), "", 0, "FOUND"}})
	n.ok(protocol.ReqUnregisterClient, fields{"clientID": "c1", "consumerGroup": "G"}, nil, nil)
	if h := beat(short); !h.SubscriptionChanged {
		t.Error("a group without subscriptions is not told to send them")
	}
	n.run([]row{{"no heartbeat brought a subscription", protocol.ReqPullMessage, pullFields.with("sysFlag", "0", "subscription", "-"), "", protocol.RespSubscriptionNotExist, ""}})
	if h := beat(full); h.SubscriptionChanged {
		t.Error("the group's only subscriptions count as changed")
	}
	if h := beat(short); h.SubscriptionChanged {
		t.Error("subscriptions that were sent again count as changed")
	}
	other := short
	other.Fingerprint = 43
	if h := beat(other); !h.SubscriptionChanged {
		t.Error("another fingerprint does not count as a change")
	}
}

// topic returns how many queues the name server routes of a topic.
func (n *node) topic(name string) (queues int32, ok bool) {
	n.t.Helper()
	q, ok := n.route(name)
	return q.WriteQueues, ok
}

// route returns what the name server knows of a topic.
func (n *node) route(name string) (protocol.QueueData, bool) {
	n.t.Helper()
	c := protocol.NewRequest(protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: name, AcceptStandardJSON: true})
	answer := must(n.client.Invoke(context.Background(), n.s.NamesrvAddr(), c))
	if answer.Check() != nil {
		return protocol.QueueData{}, false
	}
	var route protocol.TopicRoute
	if err := protocol.UnmarshalBody(answer.Body, &route); err != nil || len(route.Queues) != 1 {
		n.t.Fatalf("%s: %d queue data, %v", name, len(route.Queues), err)
	}
	return route.Queues[0], true
}

func TestAutoCreatedTopicIsRoutedAtOnce(t *testing.T) {
	n := startNode(t, nil)
	for i := range 20 {
		name := fmt.Sprint("New", i)
		if _, ok := n.topic(name); ok {
			t.Fatalf("%s is routed before it was made", name)
		}
		n.send(sendFields.with("topic", name, "defaultTopicQueueNums", "5"), "m")
		if queues, ok := n.topic(name); !ok || queues != 5 {
			t.Fatalf("%s: %d queues, routed %t", name, queues, ok)
		}
	}
	n.send(sendFields.with("topic", "Many", "defaultTopicQueueNums", "100"), "m")
	if queues, _ := n.topic("Many"); queues != 8 {
		t.Errorf("%d queues, want the template's 8", queues)
	}
}

func TestRecreatedTopicBeginsAtZero(t *testing.T) {
	fs := vfs.NewMem()
	n := startConfig(t, testConfig(fs))
	create := topicFields.with("topic", "T")
	n.ok(protocol.ReqUpdateAndCreateTopic, create, nil, nil)
	for i := range 5 {
		n.send(sendFields, fmt.Sprint("old", i))
	}
	n.ok(protocol.ReqDeleteTopicInBroker, fields{"topic": "T"}, nil, nil)
	if _, ok := n.topic("T"); ok {
		t.Error("a deleted topic is routed")
	}
	n.run([]row{
		{"gone", protocol.ReqPullMessage, pullFields, "", protocol.RespTopicNotExist, "topic[T] not exist"},
	})
	n.ok(protocol.ReqUpdateAndCreateTopic, create, nil, nil)
	if r := n.send(sendFields, "new"); r.QueueOffset != 0 {
		t.Errorf("the first message has offset %d", r.QueueOffset)
	}
	check := func() {
		t.Helper()
		var end protocol.OffsetResult
		if n.ok(protocol.ReqGetMaxOffset, queueFields, nil, &end); end.Offset != 1 {
			t.Errorf("the queue ends at %d, want 1", end.Offset)
		}
		if got := bodies(n.records(n.ok(protocol.ReqPullMessage, pullFields, nil, nil).Body)); got != "new" {
			t.Errorf("pulled %q", got)
		}
	}
	check()
	n.stop()
	n = startConfig(t, testConfig(fs))
	defer n.stop()
	check()
}

func TestBatchesAreStoredAndAnsweredAsRocketMQDoes(t *testing.T) {
	n := startNode(t, nil)
	var batch []byte
	for i := range 3 {
		batch = message.AppendBatchItem(batch, message.BatchItem{Body: fmt.Append(nil, "b", i), Flag: int32(i), Properties: fmt.Appendf(nil, "UNIQ_KEY\x01ID%d\x02", i)})
	}
	var r protocol.SendResult
	n.ok(protocol.ReqSendBatchMessage, sendFields.with("batch", "true", "properties", "UNIQ_KEY\x01WHOLE\x02WAIT\x01true\x02"), batch, &r)
	if r.TransactionID != "WHOLE" || r.BatchUniqID != "" || strings.Count(r.MsgID, ",") != 2 || r.QueueOffset != 0 {
		t.Errorf("answered %+v", r)
	}
	for i, m := range n.records(n.ok(protocol.ReqPullMessage, pullFields, nil, nil).Body) {
		if got := message.Property(m.Properties, message.PropUniqueKey); string(got) != fmt.Sprint("ID", i) || m.Flag != int32(i) || strings.Count(string(m.Properties), "UNIQ_KEY") != 1 {
			t.Errorf("message %d: flag %d, properties %q", i, m.Flag, m.Properties)
		}
	}
	n.run([]row{{"of the whole", protocol.ReqQueryMessage, keyFields.with("key", "WHOLE", "_UNIQUE_KEY_QUERY", "true"), "", protocol.RespQueryNotFound, ""}})
}

func TestADeletedTopicEndsItsHeldPulls(t *testing.T) {
	n := startNode(t, nil)
	n.send(sendFields, "m")
	answered := make(chan protocol.ResponseCode, 1)
	c := command(protocol.ReqPullMessage, pullFields.with("queueOffset", "1", "sysFlag", "6", "suspendTimeoutMillis", "15000"), nil)
	n.client.Go(n.s.BrokerAddr(), c, func(answer *protocol.Command, err error) {
		if err != nil {
			t.Error(err)
			return
		}
		answered <- protocol.ResponseCode(answer.Code)
	})
	waitFor(t, "the pull to be held", func() bool { return n.heldPulls() == 1 })
	n.ok(protocol.ReqDeleteTopicInBroker, fields{"topic": "T"}, nil, nil)
	select {
	case code := <-answered:
		if code != protocol.RespTopicNotExist {
			t.Errorf("answered %s", code)
		}
	case <-time.After(10 * time.Second):
		t.Error("the pull is held on, of a queue that nobody can write to")
	}
}
