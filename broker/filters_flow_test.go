package broker_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// numbered sends a message to T with its number as property a, and as its body.
func (n *node) numbered(a int) {
	n.t.Helper()
	n.send(sendFields.with("properties", fmt.Sprintf("TAGS\x01A\x02a\x01%d\x02", a)), strconv.Itoa(a))
}

// sqlFields pull what an expression lets pass, with the expression in the request.
func sqlFields(expression string) fields {
	return pullFields.with("expressionType", protocol.ExpressionSQL92, "subscription", expression)
}

// subscribeSQL sends a heartbeat of group G.
func (n *node) subscribeSQL(expression string, version int64) {
	n.t.Helper()
	body := strings.Replace(string(heartbeatBody("c1", "G", "T", expression, version)), `"TAG"`, `"SQL92"`, 1)
	n.ok(protocol.ReqHeartBeat, nil, []byte(body), nil)
}

// heartbeatFields pull with what the group's heartbeats said.
var heartbeatFields = pullFields.with("sysFlag", "0", "subscription", "-")

// pulled returns the bodies of a pull's messages, and its next offset.
func (n *node) pulled(f fields) (string, int64) {
	n.t.Helper()
	var h protocol.PullResult
	answer := n.call(protocol.ReqPullMessage, f, nil)
	if err := protocol.DecodeHeader(answer.Fields, &h); err != nil {
		n.t.Fatal(answer.Check(), err)
	}
	return bodies(n.records(answer.Body)), h.NextOffset
}

func (n *node) wantPulled(f fields, want string, next int64) {
	n.t.Helper()
	if got, at := n.pulled(f); got != want || at != next {
		n.t.Errorf("pulled %q, next %d; want %q, next %d", got, at, want, next)
	}
}

func TestSQLDecidesWhatIsPulled(t *testing.T) {
	n := startNode(t, nil)
	for a := range 10 {
		n.numbered(a)
	}
	n.wantPulled(sqlFields("a > 5"), "6 7 8 9", 10)
	n.wantPulled(sqlFields("a > 5").with("maxMsgNums", "2"), "6 7", 8)
	n.wantPulled(sqlFields("TAGS = 'A' AND a BETWEEN 2 AND 3"), "2 3", 10)
	n.wantPulled(sqlFields("b IS NOT NULL"), "", 10)
	n.wantPulled(sqlFields("CLUSTER IS NOT NULL AND a = 1"), "1", 10)
	n.run([]row{
		{"no match", protocol.ReqPullMessage, sqlFields("a > 50"), "", protocol.RespPullRetryImmediately, "NO_MATCHED_MESSAGE"},
		{"lite pull", protocol.ReqLitePullMessage, sqlFields("a > 5"), "", 0, "FOUND"},
	})
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("enablePropertyFilter=false"), nil)
	refused := "does not support consumer to filter message by SQL92"
	n.run([]row{
		{"switched off", protocol.ReqPullMessage, sqlFields("a > 5"), "", protocol.RespSystemError, refused},
		{"switched off, for clients", protocol.ReqCheckClientConfig, nil, `{"subscriptionData":{"expressionType":"SQL92","subString":"a > 5"}}`, protocol.RespSystemError, refused},
	})
}

// One pull looks through a bounded number of messages, and of bytes of them.
func TestSQLLooksThroughABoundedPart(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.SegmentBytes, c.MessageBytesMax = 32<<20, 4<<20 })
	large := strings.Repeat("x", 3<<20)
	for range 7 {
		n.send(sendFields, large)
	}
	n.wantPulled(sqlFields("a = 1"), "", 5)
	n.wantPulled(sqlFields("a = 1").with("queueOffset", "5"), "", 7)
}

func TestAGroupsExpressionCountsUntilANewerOneComes(t *testing.T) {
	c := testConfig(vfs.NewMem())
	n := startConfig(t, c)
	for a := range 10 {
		n.numbered(a)
	}
	n.subscribeSQL("a > 5", 5)
	n.wantPulled(heartbeatFields.with("subVersion", "5"), "6 7 8 9", 10)
	n.subscribeSQL("a > 7", 6)
	n.wantPulled(heartbeatFields.with("subVersion", "6"), "8 9", 10)
	n.run([]row{{"newer", protocol.ReqPullMessage, heartbeatFields.with("subVersion", "7"), "", protocol.RespSubscriptionNotLatest, "not latest"}})
	var queue protocol.ConsumeQueueResult
	n.body(protocol.ReqQueryConsumeQueue, fields{"topic": "T", "queueId": "0", "index": "0", "count": "1", "consumerGroup": "G"}, &queue)
	if !strings.Contains(queue.FilterData, `"expression":"a \u003e 7"`) && !strings.Contains(queue.FilterData, `"expression":"a > 7"`) {
		t.Errorf("filter data %s", queue.FilterData)
	}
	n.stop()
	n = startConfig(t, c)
	defer n.stop()
	n.run([]row{{"before a heartbeat", protocol.ReqPullMessage, heartbeatFields, "", protocol.RespSubscriptionNotExist, "group info not exist"}})
	n.subscribeSQL("a > 5", 5)
	n.wantPulled(heartbeatFields.with("subVersion", "5"), "8 9", 10) // the older one is not taken back
	n.subscribeSQL("a >", 8)
	n.run([]row{{"a bad one", protocol.ReqPullMessage, heartbeatFields, "", protocol.RespFilterDataNotExist, "line 1, column 4: found the end"}})
	n.subscribeSQL("a > 8", 9)
	n.wantPulled(heartbeatFields.with("subVersion", "9"), "9", 10)
}

// A held pull is not answered by messages that are not for it, and goes on behind them.
func TestAHeldPullWaitsForWhatItsExpressionWants(t *testing.T) {
	n := startNode(t, nil)
	n.numbered(1)
	held := n.poll(n.dial(), sqlFields("a > 5").with("queueOffset", "1", "sysFlag", "6", "suspendTimeoutMillis", "15000"))
	waitFor(t, "the pull to be held", func() bool { return n.heldPulls() == 1 })
	for _, a := range []int{2, 3, 7} {
		n.numbered(a)
	}
	answer := <-held
	var h protocol.PullResult
	if err := protocol.DecodeHeader(answer.Fields, &h); err != nil || h.NextOffset != 4 || bodies(n.records(answer.Body)) != "7" {
		t.Errorf("%v, next %d, %q", err, h.NextOffset, answer.Body)
	}
	held = n.poll(n.dial(), sqlFields("a > 50").with("queueOffset", "4", "sysFlag", "6", "suspendTimeoutMillis", "300"))
	waitFor(t, "the pull to be held", func() bool { return n.heldPulls() == 1 })
	n.numbered(8)
	answer = <-held
	if err := protocol.DecodeHeader(answer.Fields, &h); err != nil || h.NextOffset != 5 {
		t.Errorf("in the end: %v, next %d, want 5", err, h.NextOffset)
	}
}

// With filterSupportRetry what comes again is filtered by what the group wants of the topic that it comes from.
func TestRetryTopicsAreFilteredByTheirMessagesTopics(t *testing.T) {
	n := startNode(t, nil)
	n.numbered(0)
	n.subscribeSQL("a > 5", 5)
	retry := message.RetryTopic("G")
	for a := range 8 {
		n.send(sendFields.with("topic", retry, "properties", fmt.Sprintf("RETRY_TOPIC\x01T\x02a\x01%d\x02", a)), strconv.Itoa(a))
	}
	n.send(sendFields.with("topic", retry, "properties", "RETRY_TOPIC\x01U\x02"), "other")
	all := sqlFields("a IS NOT NULL").with("topic", retry)
	n.wantPulled(all, "0 1 2 3 4 5 6 7", 9)
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("filterSupportRetry=true"), nil)
	n.wantPulled(all, "6 7 other", 9)
	n.wantPulled(pullFields.with("topic", retry), "0 1 2 3 4 5 6 7 other", 9)
}

// A pop passes over what its expression does not want; that counts as consumed.
func TestSQLDecidesWhatIsPopped(t *testing.T) {
	n := startNode(t, nil)
	for a := range 10 {
		n.numbered(a)
	}
	list, _, _ := n.pop(popFields.with("expType", protocol.ExpressionSQL92, "exp", "a > 7 OR a = 2"))
	var got []message.Record
	for _, m := range list {
		got = append(got, m.Record)
		n.ack(m)
	}
	if bodies(got) != "2 8 9" {
		t.Errorf("popped %q", bodies(got))
	}
	var offset protocol.OffsetResult
	if n.ok(protocol.ReqQueryConsumerOffset, offsetFields, nil, &offset); offset.Offset != 10 {
		t.Errorf("the group is at %d, want 10", offset.Offset)
	}
}
