package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

var popLiteFields = fields{
	"clientId": "c1", "consumerGroup": "LG", "topic": "LT", "maxMsgNum": "32", "invisibleTime": "60000", "pollTime": "0", "bornTime": "0",
}

// liteNode is a node with the parent topic LT and group LG.
func liteNode(t *testing.T, fs vfs.FS, change func(*server.Config), attributes ...string) *node {
	t.Helper()
	c := lightConfig(fs)
	if change != nil {
		change(&c)
	}
	n := startConfig(t, c)
	n.liteParent("LT", "60")
	n.liteGroup("LG", "LT", attributes...)
	return n
}

func (n *node) liteParent(name, minutes string) {
	n.t.Helper()
	n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", name, "attributes", "+message.type=LITE,+lite.topic.expiration="+minutes), nil, nil)
}

func (n *node) liteGroup(name, parent string, attributes ...string) {
	n.t.Helper()
	list := []string{`"+lite.bind.topic":"` + parent + `"`}
	for _, a := range attributes {
		k, v, _ := strings.Cut(a, "=")
		list = append(list, fmt.Sprintf("%q:%q", "+"+k, v))
	}
	n.ok(protocol.ReqUpdateAndCreateSubscriptionGroup, nil, []byte(`{"groupName":"`+name+`","attributes":{`+strings.Join(list, ",")+`}}`), nil)
}

func (n *node) sendLite(lite, body string) {
	n.t.Helper()
	n.send(sendFields.with("topic", "LT", "properties", "__LITE_TOPIC\x01"+lite+"\x02INNER_MULTI_DISPATCH\x01%LMQ%other\x02"), body)
}

func liteBody(s protocol.LiteSubscription) []byte {
	if s.Topic == "" {
		s.Topic = "LT"
	}
	if s.Group == "" {
		s.Group = "LG"
	}
	return protocol.MarshalBody(protocol.LiteSubscriptions{Set: []protocol.LiteSubscription{s}})
}

func (n *node) subscribe(client, action string, lites ...string) {
	n.t.Helper()
	n.ok(protocol.ReqLiteSubscriptionCtl, nil, liteBody(protocol.LiteSubscription{Action: action, ClientID: client, LiteTopics: lites}), nil)
}

// lite is a popped message of a lite topic: how it reads, and what acknowledges it.
type lite struct {
	text string
	ack  fields
}

func (n *node) popLite(f fields) []lite {
	n.t.Helper()
	return n.lites(f, n.call(protocol.ReqPopLiteMessage, f, nil))
}

// lites reads an answer as the official client does.
func (n *node) lites(f fields, answer *protocol.Command) (list []lite) {
	n.t.Helper()
	h := protocol.PopResult{Lite: true}
	if err := protocol.DecodeHeader(answer.Fields, &h); err != nil {
		n.t.Fatal(err)
	}
	if protocol.ResponseCode(answer.Code) == protocol.RespPollingTimeout {
		return nil
	}
	if err := answer.Check(); err != nil {
		n.t.Fatal(err)
	}
	records := n.records(answer.Body)
	counts := strings.Split(h.OrderCountInfo, ";")
	if len(counts) != len(records) || h.ReviveQueue != 999 {
		n.t.Fatalf("%d messages with %+v", len(records), h)
	}
	for i, r := range records {
		_, name, _ := message.LiteOf(string(message.Property(r.Properties, message.PropMultiDispatch)))
		offsets, ok := message.LightOffsets(message.Property(r.Properties, message.PropMultiOffset))
		if !ok || len(offsets) != 1 {
			n.t.Fatalf("%s has properties %q", r.Body, r.Properties)
		}
		offset := fmt.Sprint(offsets[0])
		list = append(list, lite{fmt.Sprintf("%s:%s@%s x%s", name, r.Body, offset, counts[i]), fields{
			"consumerGroup": f["consumerGroup"], "topic": f["topic"], "queueId": "0", "offset": offset, "liteTopic": name,
			"extraInfo": fmt.Sprint("0 ", h.PopTime, " ", h.InvisibleMS, " 999 0 broker-a 0 ", offset),
		}})
	}
	return list
}

func texts(list []lite) (all []string) {
	for _, l := range list {
		all = append(all, l.text)
	}
	return all
}

func (n *node) wantLites(f fields, want ...string) []lite {
	n.t.Helper()
	list := n.popLite(f)
	if diff := cmp.Diff(want, texts(list)); diff != "" {
		n.t.Fatal(diff)
	}
	return list
}

func (n *node) ackLites(list []lite) {
	n.t.Helper()
	for _, l := range list {
		n.ok(protocol.ReqAckMessage, l.ack, nil, nil)
	}
}

// liteSuccesses has a row for every code of lite topics.
func liteSuccesses() []row {
	subscription := protocol.LiteSubscription{
		Action: protocol.LitePartialAdd, ClientID: "c1", LiteTopics: []string{"a"}, Offset: &protocol.LiteOffset{Type: protocol.LiteTail, Value: 1},
	}
	return []row{
		{"", protocol.ReqLiteSubscriptionCtl, nil, string(liteBody(subscription)), 0, ""},
		{"", protocol.ReqPopLiteMessage, popLiteFields, "", protocol.RespPollingTimeout, "NO_MESSAGE_IN_QUEUE"},
		{"", protocol.ReqGetBrokerLiteInfo, nil, "", 0, ""},
		{"", protocol.ReqGetParentTopicInfo, fields{"topic": "LT"}, "", 0, ""},
		{"", protocol.ReqGetLiteTopicInfo, fields{"parentTopic": "LT", "liteTopic": "a"}, "", 0, ""},
		{"", protocol.ReqGetLiteClientInfo, fields{"parentTopic": "LT", "group": "LG", "clientId": "c1", "maxCount": "10"}, "", 0, ""},
		{"", protocol.ReqGetLiteGroupInfo, fields{"group": "LG", "topK": "10"}, "", 0, ""},
		{"", protocol.ReqTriggerLiteDispatch, fields{"group": "LG", "clientId": "c1"}, "", 0, ""},
	}
}

func TestLiteTopicsArePoppedInOrder(t *testing.T) {
	fs := vfs.NewMem()
	n := liteNode(t, fs, nil)
	defer func() { n.stop() }()
	n.subscribe("c1", protocol.LitePartialAdd, "a", "b")
	n.subscribe("c2", protocol.LiteCompleteAdd, "c")
	for i, name := range []string{"a", "b", "a", "c", "d"} {
		n.sendLite(name, fmt.Sprint("m", i))
	}
	first := n.wantLites(popLiteFields.with("attemptId", "x"), "a:m0@0 x0", "a:m2@1 x0", "b:m1@0 x0")
	n.sendLite("b", "m5")
	again := n.wantLites(popLiteFields.with("attemptId", "x"), "a:m0@0 x0", "a:m2@1 x0", "b:m1@0 x0", "b:m5@1 x0") // as its answer was lost
	n.wantLites(popLiteFields.with("attemptId", "y"))                                                              // what stands before it is not acknowledged
	if answer := n.call(protocol.ReqAckMessage, first[0].ack, nil); answer.Code != int32(protocol.RespNoMessage) {
		t.Errorf("the receipt of a delivery that is over: %d %s", answer.Code, answer.Remark)
	}
	n.ackLites(again[:2])

	n = n.restarted(fs, false)
	n.wantLites(popLiteFields) // subscriptions are the clients' to send again
	n.subscribe("c1", protocol.LiteCompleteAdd, "a", "b")
	n.subscribe("c2", protocol.LiteCompleteAdd, "c")
	n.wantLites(popLiteFields) // deliveries are there
	n.ackLites(again[2:])
	n.sendLite("a", "m6")
	n.wantLites(popLiteFields, "a:m6@2 x0")
	n.wantLites(popLiteFields.with("clientId", "c2"), "c:m3@0 x0")
	if got := bodies(n.records(n.ok(protocol.ReqPullMessage, pullFields.with("topic", "LT"), nil, nil).Body)); got != "m0 m1 m2 m3 m4 m5 m6" {
		t.Errorf("the parent has %s", got)
	}
}

func TestLiteMessagesComeAgain(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil)
	defer n.stop()
	n.subscribe("c1", protocol.LiteCompleteAdd, "a")
	n.sendLite("a", "m0")
	n.sendLite("a", "m1")
	held := popLiteFields.with("pollTime", "20000", "invisibleTime", "300")
	n.wantLites(held, "a:m0@0 x0", "a:m1@1 x0")
	list := n.wantLites(held.with("invisibleTime", "60000"), "a:m0@0 x1", "a:m1@1 x1")
	n.ackLites(list[:1])
	renew := func(l lite, pairs ...string) {
		t.Helper()
		var r protocol.ChangeInvisibleResult
		n.ok(protocol.ReqChangeMessageInvisibleTime, l.ack.with(pairs...), nil, &r)
		if r.ReviveQueue != 999 {
			t.Errorf("renewed as %+v", r)
		}
	}
	renew(list[1], "invisibleTime", "0", "suspend", "true")
	list = n.wantLites(held.with("invisibleTime", "60000"), "a:m1@1 x1") // the second one did not count
	renew(list[0], "invisibleTime", "10")
	list = n.wantLites(held.with("invisibleTime", "60000"), "a:m1@1 x2")
	n.sendLite("a", "m2")
	n.wantLites(popLiteFields)
	n.ackLites(list)
	n.wantLites(popLiteFields, "a:m2@2 x0")
	var r protocol.OffsetResult
	n.ok(protocol.ReqQueryConsumerOffset, offsetFields.with("consumerGroup", "LG", "topic", message.LiteQueue("LT", "a")), nil, &r)
	if r.Offset != 2 {
		t.Errorf("the group is at %d", r.Offset)
	}
}

// waitLite sends a pop that waits; its answer comes over the channel.
func (n *node) waitLite(client *remoting.Client, f fields) chan []string {
	n.t.Helper()
	before := n.heldPops()
	answers := make(chan []string, 1)
	f = f.with("pollTime", "20000")
	client.Go(n.s.BrokerAddr(), command(protocol.ReqPopLiteMessage, f, nil), func(answer *protocol.Command, err error) {
		if err != nil {
			answers <- []string{err.Error()}
			return
		}
		answers <- texts(n.lites(f, answer))
	})
	waitFor(n.t, "the pop to be held", func() bool { return n.heldPops() == before+1 })
	return answers
}

func (n *node) heldPops() int { return n.metric(`apogee_broker_objects{kind="held_pops"}`) }

func wantAnswer(t *testing.T, answers chan []string, want ...string) {
	t.Helper()
	select {
	case got := <-answers:
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("no answer; want %v", want)
	}
}

func TestPopsOfLiteTopicsWait(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil)
	defer n.stop()
	n.sendLite("a", "m0")
	one := n.waitLite(n.client, popLiteFields)
	n.subscribe("c1", protocol.LitePartialAdd, "a") // what is there counts
	wantAnswer(t, one, "a:m0@0 x0")

	one = n.waitLite(n.client, popLiteFields)
	n.sendLite("b", "m1") // nobody's yet
	n.subscribe("c1", protocol.LitePartialAdd, "b", "c")
	wantAnswer(t, one, "b:m1@0 x0")

	n.subscribe("c2", protocol.LiteCompleteAdd, "c", "d")
	one = n.waitLite(n.client, popLiteFields)
	two := n.waitLite(n.client, popLiteFields.with("clientId", "c2"))
	n.sendLite("c", "m2") // to the first of them
	wantAnswer(t, one, "c:m2@0 x0")
	lone := n.newClient() // that goes away
	n.subscribe("c3", protocol.LiteCompleteAdd, "d")
	n.waitLite(lone, popLiteFields.with("clientId", "c3"))
	lone.Close()
	waitFor(t, "its end", func() bool { return n.heldPops() == 1 })
	n.sendLite("d", "m3")
	wantAnswer(t, two, "d:m3@0 x0")
}

func TestExclusiveSubscriptionsEndOthers(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil, "lite.sub.model=Exclusive", "lite.sub.reset.offset.exclusive=true", "lite.sub.reset.offset.unsubscribe=true")
	defer n.stop()
	ended := make(chan string, 10)
	client := remoting.NewClient(remoting.ClientConfig{Timeout: 20 * time.Second, OnRequest: func(r *remoting.Request) (*remoting.Response, error) {
		var h protocol.NotifyUnsubscribeLiteHeader
		if r.Code == int32(protocol.ReqNotifyUnsubscribeLite) && r.Read(&h) == nil {
			ended <- h.LiteTopic + " of " + h.ClientID + ", " + h.Group
		}
		return nil, nil
	}})
	defer client.Close()
	body := liteBody(protocol.LiteSubscription{Action: protocol.LitePartialAdd, ClientID: "c1", LiteTopics: []string{"a", "b"}})
	for range 2 { // it does not end its own
		if answer, err := client.Invoke(t.Context(), n.s.BrokerAddr(), command(protocol.ReqLiteSubscriptionCtl, nil, body)); err != nil || answer.Check() != nil {
			t.Fatal(answer, err)
		}
	}
	n.sendLite("a", "m0")
	n.ackLites(n.wantLites(popLiteFields, "a:m0@0 x0"))
	n.subscribe("c2", protocol.LitePartialAdd, "a")
	select {
	case got := <-ended:
		if got != "a of c1, LG" {
			t.Error(got)
		}
	case <-time.After(10 * time.Second):
		t.Error("not told")
	}
	second := popLiteFields.with("clientId", "c2")
	n.ackLites(n.wantLites(second, "a:m0@0 x0")) // from the start again
	n.sendLite("a", "m1")
	n.wantLites(popLiteFields)
	n.ackLites(n.wantLites(second, "a:m1@1 x0"))
	n.subscribe("c2", protocol.LitePartialRemove, "a", "never")
	n.subscribe("c3", protocol.LiteCompleteAdd, "a")
	n.wantLites(popLiteFields.with("clientId", "c3"), "a:m0@0 x0", "a:m1@1 x0")
	n.subscribe("c3", protocol.LiteCompleteRemove)
	n.sendLite("b", "m2")
	n.wantLites(popLiteFields, "b:m2@0 x0")
	if len(ended) > 0 {
		t.Error("told of another: ", <-ended)
	}
}

func TestASubscriptionBeginsWhereItSays(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil)
	defer n.stop()
	for i := range 4 {
		n.sendLite("a", fmt.Sprint("m", i))
	}
	from := func(kind string, value int64, want ...string) {
		t.Helper()
		n.ok(protocol.ReqLiteSubscriptionCtl, nil, liteBody(protocol.LiteSubscription{
			Action: protocol.LitePartialAdd, ClientID: "c1", LiteTopics: []string{"a", "none"}, Offset: &protocol.LiteOffset{Type: kind, Value: value},
		}), nil)
		n.ackLites(n.wantLites(popLiteFields, want...))
	}
	from(protocol.LitePolicy, protocol.LitePolicyMax)
	from(protocol.LiteTail, 1, "a:m3@3 x0")
	from(protocol.LiteAtOffset, 2, "a:m2@2 x0", "a:m3@3 x0")
	from(protocol.LitePolicy, 0)
	from("TIMESTAMP", 1)
	from(protocol.LiteAtOffset, 99)
	from(protocol.LitePolicy, protocol.LitePolicyMin, "a:m0@0 x0", "a:m1@1 x0", "a:m2@2 x0", "a:m3@3 x0")
	n.sendLite("none", "m4")
	n.wantLites(popLiteFields, "none:m4@0 x0")
}

func TestClientsOfAWildcardGroupShareAllLiteTopics(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil, "lite.sub.wildcard=true")
	defer n.stop()
	n.sendLite("a", "m0")
	n.sendLite("b", "m1")
	if answer := n.call(protocol.ReqLiteSubscriptionCtl, nil, liteBody(protocol.LiteSubscription{
		Action: protocol.LitePartialAdd, ClientID: "c1", LiteTopics: []string{"a"},
	})); answer.Code != int32(protocol.RespIllegalOperation) {
		t.Errorf("part of them: %d %s", answer.Code, answer.Remark)
	}
	n.subscribe("c1", protocol.LiteCompleteAdd)
	n.subscribe("c2", protocol.LiteCompleteAdd)
	second := popLiteFields.with("clientId", "c2")
	got := texts(append(n.popLite(popLiteFields.with("maxMsgNum", "1")), n.popLite(second)...))
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a:m0@0 x0", "b:m1@0 x0"}, got); diff != "" {
		t.Error(diff)
	}
	one, two := n.waitLite(n.client, popLiteFields), n.waitLite(n.client, second)
	n.sendLite("new", "m2")
	wantAnswer(t, one, "new:m2@0 x0")
	n.sendLite("newer", "m3")
	wantAnswer(t, two, "newer:m3@0 x0")
	n.subscribe("c1", protocol.LiteCompleteRemove)
	n.subscribe("c2", protocol.LiteCompleteRemove)
	n.sendLite("newest", "m4")
	n.wantLites(popLiteFields)
}

func TestQuotasOfLiteSubscriptions(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), func(c *server.Config) { c.Light.SubscriptionsMax = 4 }, "lite.sub.client.quota=3")
	defer n.stop()
	refused := func(s protocol.LiteSubscription) {
		t.Helper()
		answer := n.call(protocol.ReqLiteSubscriptionCtl, nil, liteBody(s))
		if answer.Code != int32(protocol.RespLiteSubscriptionQuotaExceeded) || !strings.Contains(string(answer.Remark), "lite subscription quota exceeded") {
			t.Errorf("%+v: %d %s", s, answer.Code, answer.Remark)
		}
	}
	n.subscribe("c1", protocol.LitePartialAdd, "a", "b", "a")
	refused(protocol.LiteSubscription{Action: protocol.LitePartialAdd, ClientID: "c1", LiteTopics: []string{"c", "d"}})
	n.subscribe("c1", protocol.LiteCompleteAdd, "c", "d", "e")
	refused(protocol.LiteSubscription{Action: protocol.LiteCompleteAdd, ClientID: "c1", LiteTopics: []string{"c", "d", "e", "f"}})
	refused(protocol.LiteSubscription{Action: protocol.LitePartialAdd, ClientID: "c2", LiteTopics: []string{"a", "b"}})
	n.subscribe("c2", protocol.LitePartialAdd, "a")
	refused(protocol.LiteSubscription{Action: protocol.LiteCompleteAdd, ClientID: "c3", LiteTopics: []string{"a"}})
	n.subscribe("c1", protocol.LitePartialRemove, "c")
	n.subscribe("c3", protocol.LiteCompleteAdd, "a")
	n.liteGroup("wild", "LT", "lite.sub.wildcard=true")
	refused(protocol.LiteSubscription{Action: protocol.LiteCompleteAdd, ClientID: "w", Group: "wild"})
}

func TestSilentClientsLoseTheirLiteSubscriptions(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), func(c *server.Config) { c.Light.SubscriptionTimeout = 2 * time.Second }) // the last pop comes within it
	defer n.stop()
	n.subscribe("c1", protocol.LiteCompleteAdd, "a")
	waitFor(t, "the end of its subscription", func() bool { return n.metric(`apogee_broker_objects{kind="lite_subscriptions"}`) == 0 })
	n.sendLite("a", "m0")
	n.wantLites(popLiteFields)
	n.subscribe("c1", protocol.LiteCompleteAdd, "a")
	n.wantLites(popLiteFields, "a:m0@0 x0")
}

func (n *node) liteInfo() (info protocol.BrokerLiteInfo) {
	n.t.Helper()
	n.readBody(n.ok(protocol.ReqGetBrokerLiteInfo, nil, nil, nil), &info)
	return info
}

func (n *node) readBody(answer *protocol.Command, into any) {
	n.t.Helper()
	if err := protocol.UnmarshalBody(answer.Body, into); err != nil {
		n.t.Fatal(err)
	}
}

func TestLiteTopicsGoWithTheirParentAndTheirGroup(t *testing.T) {
	fs := vfs.NewMem()
	n := liteNode(t, fs, nil)
	defer func() { n.stop() }()
	left := func() string {
		n.t.Helper()
		info := n.liteInfo()
		return fmt.Sprint(info.Light, info.Subscriptions, info.Offsets, info.Orders)
	}
	n.subscribe("c1", protocol.LitePartialAdd, "a")
	n.sendLite("a", "m0")
	n.ackLites(n.wantLites(popLiteFields, "a:m0@0 x0"))
	n.ok(protocol.ReqDeleteTopicInBroker, fields{"topic": "LT"}, nil, nil)
	if got := left(); got != "0 0 0 0" {
		t.Errorf("without the parent there are %s", got)
	}
	n.liteParent("LT", "60")
	n = n.restarted(fs, true)
	n.subscribe("c1", protocol.LitePartialAdd, "a")
	n.sendLite("a", "m1")
	n.wantLites(popLiteFields, "a:m1@0 x0")
	n.ok(protocol.ReqDeleteSubscriptionGroup, fields{"groupName": "LG", "cleanOffset": "false"}, nil, nil)
	if got := left(); got != "1 0 0 0" {
		t.Errorf("without the group there are %s", got)
	}
}

func TestLiteRequestsAreRefused(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil)
	defer n.stop()
	n.send(sendFields, "x")
	n.group("G")
	n.sendLite("a", "m0")
	n.subscribe("c1", protocol.LiteCompleteAdd, "a")
	l := n.wantLites(popLiteFields, "a:m0@0 x0")[0]
	for _, c := range []struct {
		code protocol.RequestCode
		f    fields
		body string
		want protocol.ResponseCode
	}{
		{protocol.ReqPopLiteMessage, popLiteFields.with("maxMsgNum", "33"), "", protocol.RespInvalidParameter},
		{protocol.ReqPopLiteMessage, popLiteFields.with("topic", "none"), "", protocol.RespTopicNotExist},
		{protocol.ReqPopLiteMessage, popLiteFields.with("topic", "T"), "", protocol.RespInvalidParameter},
		{protocol.ReqPopLiteMessage, popLiteFields.with("consumerGroup", "G"), "", protocol.RespInvalidParameter},
		{protocol.ReqPopLiteMessage, popLiteFields.with("clientId", ""), "", protocol.RespInvalidParameter},
		{protocol.ReqPopLiteMessage, popLiteFields.with("bornTime", "1763720000000"), "", protocol.RespPollingTimeout},
		{protocol.ReqAckMessage, l.ack.with("consumerGroup", "G"), "", protocol.RespInvalidParameter},
		{protocol.ReqAckMessage, l.ack.with("offset", "2"), "", protocol.RespNoMessage},
		{protocol.ReqAckMessage, l.ack.with("liteTopic", "none"), "", protocol.RespNoMessage},
		{protocol.ReqAckMessage, l.ack.with("extraInfo", farReceipt), "", protocol.RespInvalidParameter},
		{protocol.ReqLiteSubscriptionCtl, nil, "", protocol.RespIllegalOperation},
		{protocol.ReqLiteSubscriptionCtl, nil, "{}", protocol.RespIllegalOperation},
		{protocol.ReqLiteSubscriptionCtl, nil, `{"subscriptionSet":[{"action":"SOME","clientId":"c","group":"LG","topic":"LT"}]}`, protocol.RespIllegalOperation},
		{protocol.ReqLiteSubscriptionCtl, nil, `{"subscriptionSet":[{"action":"PARTIAL_ADD","clientId":"c","group":"LG","topic":"LT","liteTopicSet":["a$b"]}]}`, protocol.RespIllegalOperation},
		{protocol.ReqLiteSubscriptionCtl, nil, `{"subscriptionSet":[{"action":"PARTIAL_ADD","clientId":" ","group":"LG","topic":"LT"}]}`, protocol.RespSuccess},
		{protocol.ReqSendMessage, sendFields.with("topic", "LT", "properties", "__LITE_TOPIC\x01a$b\x02"), "x", protocol.RespMessageIllegal},
		{protocol.ReqSendMessage, sendFields.with("topic", "LT", "properties", "__LITE_TOPIC\x01"+strings.Repeat("x", 255)+"\x02"), "x", protocol.RespMessageIllegal},
		{protocol.ReqPullMessage, pullFields.with("topic", "LT", "liteTopic", "a/b"), "", protocol.RespInvalidParameter},
		{protocol.ReqPullMessage, pullFields.with("topic", "LT", "liteTopic", "a", "queueId", "1"), "", protocol.RespInvalidParameter},
		{protocol.ReqGetParentTopicInfo, fields{"topic": "T"}, "", protocol.RespInvalidParameter},
		{protocol.ReqGetLiteTopicInfo, fields{"parentTopic": "none", "liteTopic": "a"}, "", protocol.RespTopicNotExist},
		{protocol.ReqGetLiteClientInfo, fields{"parentTopic": "LT", "group": "G", "clientId": "c1"}, "", protocol.RespInvalidParameter},
		{protocol.ReqGetLiteGroupInfo, fields{"group": "G", "topK": "1"}, "", protocol.RespInvalidParameter},
		{protocol.ReqGetLiteGroupInfo, fields{"group": "LG", "topK": "0"}, "", protocol.RespInvalidParameter},
		{protocol.ReqTriggerLiteDispatch, fields{"group": "G"}, "", protocol.RespInvalidParameter},
	} {
		if answer := n.call(c.code, c.f, []byte(c.body)); answer.Code != int32(c.want) {
			t.Errorf("%s %v %s: %d %s, want %s", c.code, c.f, c.body, answer.Code, answer.Remark, c.want)
		}
	}
}

func TestLiteTopicsNeedLightQueues(t *testing.T) {
	n := startNode(t, nil)
	n.liteParent("LT", "-1")
	f := sendFields.with("topic", "LT", "properties", "__LITE_TOPIC\x01a\x02")
	if answer := n.call(protocol.ReqSendMessage, f, []byte("x")); answer.Code != int32(protocol.RespMessageIllegal) || !strings.Contains(string(answer.Remark), "enableLmq=true") {
		t.Errorf("%d %s", answer.Code, answer.Remark)
	}
	n.send(f.with("topic", "T"), "x") // means nothing there, as in RocketMQ
}

func TestLiteTopicsArePulledAndSearched(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil)
	defer n.stop()
	for i, name := range []string{"a", "b", "a"} {
		n.sendLite(name, fmt.Sprint("m", i))
	}
	f := pullFields.with("topic", "LT", "liteTopic", "a", "queueOffset", "1")
	if got := bodies(n.records(n.ok(protocol.ReqPullMessage, f, nil, nil).Body)); got != "m2" {
		t.Errorf("pulled %s", got)
	}
	if got := bodies(n.records(n.ok(protocol.ReqLitePullMessage, f.with("queueOffset", "0"), nil, nil).Body)); got != "m0 m2" {
		t.Errorf("pulled %s", got)
	}
	for name, want := range map[string]int64{"a": 2, "none": 0} {
		var r protocol.OffsetResult
		n.ok(protocol.ReqSearchOffsetByTimestamp, queueFields.with("topic", "LT", "liteTopic", name, "timestamp", "9000000000000"), nil, &r)
		if r.Offset != want {
			t.Errorf("%s ends at %d, want %d", name, r.Offset, want)
		}
	}
}

func TestAdministratorsSeeLiteTopics(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil)
	defer n.stop()
	started := time.Now().Add(-time.Minute).UnixMilli()
	n.liteGroup("wild", "LT", "lite.sub.wildcard=true")
	n.subscribe("c1", protocol.LiteCompleteAdd, "a", "b")
	n.ok(protocol.ReqLiteSubscriptionCtl, nil, liteBody(protocol.LiteSubscription{Action: protocol.LiteCompleteAdd, ClientID: "w", Group: "wild"}), nil)
	for i, name := range []string{"a", "b", "a", "a"} {
		n.sendLite(name, fmt.Sprint("m", i))
	}
	n.ackLites(n.wantLites(popLiteFields.with("maxMsgNum", "1"), "a:m0@0 x0"))
	var rest []string
	for len(rest) < 3 { // a's next delivery is not of the same millisecond as its first
		rest = append(rest, texts(n.popLite(popLiteFields.with("pollTime", "5000")))...)
	}
	slices.Sort(rest)
	if diff := cmp.Diff([]string{"a:m2@1 x0", "a:m3@2 x0", "b:m1@0 x0"}, rest); diff != "" {
		t.Fatal(diff)
	}
	info := n.liteInfo()
	info.Queues = 0
	if diff := cmp.Diff(protocol.BrokerLiteInfo{
		StoreType: "default", LightMax: 20000, Light: 2, Subscriptions: 3, Orders: 2, Offsets: 2, Events: 2,
		Topics: map[string]int64{"LT": 60}, Groups: map[string][]string{"LT": {"LG", "wild"}},
	}, info); diff != "" {
		t.Error(diff)
	}
	var parent protocol.ParentTopicInfo
	n.readBody(n.ok(protocol.ReqGetParentTopicInfo, fields{"topic": "LT"}, nil, nil), &parent)
	if diff := cmp.Diff(protocol.ParentTopicInfo{Topic: "LT", TTL: 60, Groups: []string{"LG", "wild"}, Light: 2, LiteTopics: 2}, parent); diff != "" {
		t.Error(diff)
	}
	var topic protocol.LiteTopicInfo
	n.readBody(n.ok(protocol.ReqGetLiteTopicInfo, fields{"parentTopic": "LT", "liteTopic": "a"}, nil, nil), &topic)
	if topic.Offset.LastUpdate < started {
		t.Errorf("last sent at %d", topic.Offset.LastUpdate)
	}
	topic.Offset.LastUpdate = 0
	if diff := cmp.Diff(protocol.LiteTopicInfo{
		Parent: "LT", LiteTopic: "a", Subscribers: []protocol.ClientGroup{{ClientID: "c1", Group: "LG"}, {ClientID: "*", Group: "wild"}},
		Offset: protocol.TopicOffset{Max: 3}, Here: true,
	}, topic); diff != "" {
		t.Error(diff)
	}
	var client protocol.LiteClientInfo
	n.readBody(n.ok(protocol.ReqGetLiteClientInfo, fields{"parentTopic": "LT", "group": "LG", "clientId": "c1", "maxCount": "1"}, nil, nil), &client)
	if client.Accessed < started {
		t.Errorf("last access at %d", client.Accessed)
	}
	client.Accessed = 0
	if diff := cmp.Diff(protocol.LiteClientInfo{Parent: "LT", Group: "LG", ClientID: "c1", Count: 2, LiteTopics: []string{"%LMQ%$LT$a"}}, client); diff != "" {
		t.Error(diff)
	}
	var group protocol.LiteGroupInfo
	n.readBody(n.ok(protocol.ReqGetLiteGroupInfo, fields{"group": "LG", "topK": "1"}, nil, nil), &group)
	if group.Lag != 3 || len(group.MostLag) != 1 || group.MostLag[0].LiteTopic != "a" || group.MostLag[0].Lag != 2 || group.MostLag[0].Earliest < started {
		t.Errorf("the group is %+v", group)
	}
	group = protocol.LiteGroupInfo{}
	n.readBody(n.ok(protocol.ReqGetLiteGroupInfo, fields{"group": "LG", "liteTopic": "a"}, nil, nil), &group)
	if group.Lag != 2 || group.Offset == nil || group.Offset.Broker != 3 || group.Offset.Consumer != 1 || group.Earliest < started {
		t.Errorf("in a it is %+v, %+v", group, group.Offset)
	}
	n.ok(protocol.ReqTriggerLiteDispatch, fields{"group": "LG"}, nil, nil)
	n.ok(protocol.ReqTriggerLiteDispatch, fields{"group": "wild", "clientId": "w"}, nil, nil)
	if got := len(n.popLite(popLiteFields.with("consumerGroup", "wild", "clientId", "w"))); got != 4 {
		t.Errorf("the wildcard group is given %d", got)
	}
}

func TestALiteTopicThatWasMadeAnewIsReadFromItsStart(t *testing.T) {
	n := liteNode(t, vfs.NewMem(), nil)
	defer n.stop()
	n.sendLite("a", "m0")
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("consumerGroup", "LG", "topic", message.LiteQueue("LT", "a"), "commitOffset", "7"), nil, nil)
	n.subscribe("c1", protocol.LiteCompleteAdd, "a")
	n.wantLites(popLiteFields, "a:m0@0 x0") // an offset behind the end is from before
}
