package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
	"github.com/google/go-cmp/cmp"
)

// halfFields are those of a half message as RocketMQ's client sends it.
func halfFields(id string, properties ...string) fields {
	p := "TRAN_MSG\x01true\x02UNIQ_KEY\x01" + id + "\x02WAIT\x01true\x02PGROUP\x01P\x02TAGS\x01A\x02"
	for i := 0; i < len(properties); i += 2 {
		p += properties[i] + "\x01" + properties[i+1] + "\x02"
	}
	return sendFields.with("properties", p, "sysFlag", "4", "bornTimestamp", strconv.FormatInt(time.Now().UnixMilli(), 10))
}

// endFields decide about a half message.
func endFields(r protocol.SendResult, decision int) fields {
	_, position, err := message.ParseOffsetID(r.MsgID)
	if err != nil {
		panic(err)
	}
	return fields{
		"topic": "T", "producerGroup": "P", "tranStateTableOffset": fmt.Sprint(r.QueueOffset), "commitLogOffset": fmt.Sprint(position),
		"commitOrRollback": fmt.Sprint(decision), "msgId": r.TransactionID, "transactionId": r.TransactionID,
	}
}

const commit, rollback, unknown = 8, 12, 0

func (n *node) end(r protocol.SendResult, decision int) {
	n.t.Helper()
	n.ok(protocol.ReqEndTransaction, endFields(r, decision), nil, nil)
}

// queue returns the records in a topic's queue 0.
func (n *node) queue(topic string) []message.Record {
	n.t.Helper()
	answer := n.call(protocol.ReqPullMessage, pullFields.with("topic", topic), nil)
	if answer.Code != int32(protocol.RespSuccess) {
		return nil
	}
	return n.records(answer.Body)
}

func TestTransactions(t *testing.T) {
	n := startNode(t, nil)
	n.group("G")
	n.send(sendFields, "before")
	half := n.send(halfFields("id1", "user", "x"), "hello")
	if half.QueueOffset != 0 || half.TransactionID != "id1" || half.QueueID != 0 {
		t.Errorf("the half message is answered %+v", half)
	}
	if got := bodies(n.queue("T")); got != "before" {
		t.Fatalf("before the end of the transaction T has %q", got)
	}
	stored := n.queue(message.TopicHalf)
	if len(stored) != 1 || stored[0].SysFlag&message.FlagTransactionMask != 0 || stored[0].QueueID != 0 {
		t.Fatalf("the half topic has %+v", stored)
	}
	want := "TRAN_MSG\x01true\x02UNIQ_KEY\x01id1\x02WAIT\x01true\x02PGROUP\x01P\x02TAGS\x01A\x02user\x01x\x02MSG_REGION\x01DefaultRegion\x02" +
		"TRACE_ON\x01true\x02CLUSTER\x01DefaultCluster\x02__transactionId__\x01id1\x02REAL_TOPIC\x01T\x02REAL_QID\x010\x02"
	if diff := cmp.Diff(want, withoutCRC(&stored[0])); diff != "" {
		t.Errorf("the half message has the properties %s", diff)
	}

	n.end(half, commit)
	got := n.queue("T")
	if bodies(got) != "before hello" {
		t.Fatalf("after the commit T has %q", bodies(got))
	}
	m := got[1]
	if m.SysFlag&message.FlagTransactionMask != message.FlagCommit || m.PreparedOffset != stored[0].PhysicalOffset || m.BornTime != stored[0].BornTime {
		t.Errorf("committed %+v from %+v", m, stored[0])
	}
	want = strings.Replace(want, "REAL_TOPIC\x01T\x02REAL_QID\x010\x02", "", 1)
	if diff := cmp.Diff(want, withoutCRC(&m)); diff != "" {
		t.Errorf("the message has the properties %s", diff)
	}
	n.end(half, commit)
	n.end(half, rollback)
	rolledBack := n.send(halfFields("id2"), "never")
	n.end(rolledBack, rollback)
	n.end(rolledBack, commit)
	undecided := n.send(halfFields("id3"), "late")
	n.end(undecided, unknown)
	if got := bodies(n.queue("T")); got != "before hello" {
		t.Errorf("T has %q, want nothing more", got)
	}
	n.end(undecided, commit)
	if got := bodies(n.queue("T")); got != "before hello late" {
		t.Errorf("T has %q", got)
	}
}

// withoutCRC returns a record's properties but for its checksum.
func withoutCRC(r *message.Record) string {
	p, _, _ := strings.Cut(string(r.Properties), message.PropCRC)
	return p
}

func TestEndsOfTransactionsThatAreRefused(t *testing.T) {
	n := startNode(t, nil)
	n.group("G")
	normal := n.send(sendFields, "normal")
	half := n.send(halfFields("id1"), "hello")
	late := n.send(halfFields("id2", message.PropCheckImmunity, "1").with("bornTimestamp", "1763720000000"), "old")
	end := endFields(half, commit)
	for _, tc := range []struct {
		name   string
		f      fields
		code   protocol.ResponseCode
		remark string
	}{
		{"group", end.with("producerGroup", "Q"), protocol.RespSystemError, "The producer group wrong"},
		{"queue offset", end.with("tranStateTableOffset", "7"), protocol.RespSystemError, "The transaction state table offset wrong"},
		{"no record", end.with("commitLogOffset", "99999999"), protocol.RespSystemError, "Find prepared transaction message failed"},
		{"negative", end.with("commitLogOffset", "-1"), protocol.RespSystemError, "Find prepared transaction message failed"},
		{"not a record", end.with("commitLogOffset", "3"), protocol.RespSystemError, "Find prepared transaction message failed"},
		{"not a half message", endFields(normal, commit), protocol.RespSystemError, "Find prepared transaction message failed"},
		{"decision", end.with("commitOrRollback", "3"), protocol.RespSystemError, "commitOrRollback field wrong"},
		{"no group", end.with("producerGroup", "-"), protocol.RespSystemError, "<producerGroup>"},
		{"no position", end.with("commitLogOffset", "-"), protocol.RespSystemError, "<commitLogOffset>"},
		{"no number", end.with("commitLogOffset", "x"), protocol.RespSystemError, "<commitLogOffset>"},
		{"later than its immunity", endFields(late, commit), protocol.RespIllegalOperation, ""},
	} {
		answer := n.call(protocol.ReqEndTransaction, tc.f, nil)
		if answer.Code != int32(tc.code) || !strings.Contains(string(answer.Remark), tc.remark) {
			t.Errorf("%s: %s %q, want %s %q", tc.name, protocol.ResponseCode(answer.Code), answer.Remark, tc.code, tc.remark)
		}
	}
	if got := bodies(n.queue("T")); got != "normal" {
		t.Errorf("T has %q", got)
	}
	n.ok(protocol.ReqEndTransaction, endFields(late, commit).with("fromTransactionCheck", "true"), nil, nil)
	if got := bodies(n.queue("T")); got != "normal old" {
		t.Errorf("after a check T has %q", got)
	}
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("rejectTransactionMessage=true"), nil)
	answer := n.call(protocol.ReqSendMessage, halfFields("id3"), []byte("x"))
	if answer.Code != int32(protocol.RespNoPermission) || !strings.Contains(string(answer.Remark), "sending transaction message is forbidden") {
		t.Errorf("rejectTransactionMessage: %s %q", protocol.ResponseCode(answer.Code), answer.Remark)
	}
}

// A half message may not name a topic of its own choice to be committed to.
func TestHalfMessagesGoWhereTheyWereSent(t *testing.T) {
	n := startNode(t, nil)
	n.group("G")
	half := n.send(halfFields("id1", message.PropRealTopic, "Other", message.PropRealQueueID, "7", message.PropTransactionID, "forged"), "hello")
	n.end(half, commit)
	got := n.queue("T")
	if bodies(got) != "hello" || string(message.Property(got[0].Properties, message.PropTransactionID)) != "id1" {
		t.Errorf("T has %q, %+v", bodies(got), got)
	}
}

func TestADelayCountsFromTheCommit(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.DelayLevels = must(delay.ParseLevels("1s")) })
	n.group("G")
	half := n.send(halfFields("id1", message.PropDelay, "1"), "hello")
	if got := n.queue(message.TopicSchedule); len(got) != 0 {
		t.Fatalf("scheduled before the commit: %+v", got)
	}
	n.end(half, commit)
	if got := n.queue(message.TopicSchedule); bodies(got) != "hello" || message.Property(got[0].Properties, message.PropTransaction) != nil {
		t.Errorf("scheduled: %+v", got)
	}
	waitFor(t, "the delay", func() bool { return bodies(n.queue("T")) == "hello" })
	n.end(half, commit)
}

// question is a CHECK_TRANSACTION_STATE that a producer got.
type question struct {
	protocol.CheckTransactionHeader
	record message.Record
}

// producer joins a group of producers and returns what it is asked.
func (n *node) producer(client, group string) (c *remoting.Client, asked chan question) {
	n.t.Helper()
	asked = make(chan question, 100)
	c = remoting.NewClient(remoting.ClientConfig{Timeout: 20 * time.Second, OnRequest: func(r *remoting.Request) (*remoting.Response, error) {
		var q question
		if r.Code == int32(protocol.ReqCheckTransactionState) && r.Read(&q.CheckTransactionHeader) == nil {
			q.record = n.records(bytes.Clone(r.Body))[0]
			asked <- q
		}
		return nil, nil
	}})
	n.t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	beat := protocol.MarshalBody(protocol.Heartbeat{ClientID: client, Producers: []protocol.ProducerData{{Group: group}}})
	answer, err := c.Invoke(ctx, n.s.BrokerAddr(), command(protocol.ReqHeartBeat, nil, beat))
	if err == nil {
		err = answer.Check()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return c, asked
}

func next(t testing.TB, asked chan question) question {
	t.Helper()
	select {
	case q := <-asked:
		return q
	case <-time.After(10 * time.Second):
		t.Fatal("the producer is not asked")
		panic("unreachable")
	}
}

// quickChecks has half messages checked every few milliseconds.
func quickChecks(most int32) func(c *server.Config) {
	return func(c *server.Config) {
		c.Transactions.CheckInterval, c.Transactions.Timeout, c.Transactions.ChecksMax = 20*time.Millisecond, time.Millisecond, most
	}
}

func TestProducersAreAskedHowTheirTransactionsEnded(t *testing.T) {
	n := startNode(t, quickChecks(1000))
	n.group("G")
	half := n.send(halfFields("id1"), "hello")
	n.send(halfFields("id2", message.PropCheckImmunity, "3600"), "immune")
	first, asked := n.producer("c1", "P")
	_, others := n.producer("c2", "Q")
	q := next(t, asked)
	want := protocol.CheckTransactionHeader{
		Topic: message.TopicHalf, QueueOffset: half.QueueOffset, MsgID: "id1", TransactionID: "id1", OffsetMsgID: half.MsgID, BrokerName: "broker-a",
	}
	_, want.LogOffset, _ = message.ParseOffsetID(half.MsgID)
	if diff := cmp.Diff(want, q.CheckTransactionHeader); diff != "" {
		t.Errorf("asked with %s", diff)
	}
	r := &q.record
	if string(r.Topic) != "T" || r.QueueID != 0 || string(r.Body) != "hello" || r.QueueOffset != half.QueueOffset || r.PhysicalOffset != want.LogOffset {
		t.Errorf("asked for %+v", r)
	}
	times := func(q question) int {
		return must(strconv.Atoi(string(message.Property(q.record.Properties, message.PropCheckTimes))))
	}
	if a, b := times(q), times(next(t, asked)); a < 1 || b != a+1 {
		t.Errorf("check %d comes after %d", b, a)
	}
	first.Close()
	_, asked = n.producer("c3", "P")
	q = next(t, asked)
	end := endFields(half, commit).with("fromTransactionCheck", "true")
	n.ok(protocol.ReqEndTransaction, end, nil, nil)
	if got := bodies(n.queue("T")); got != "hello" {
		t.Errorf("T has %q", got)
	}
	n.ok(protocol.ReqEndTransaction, end, nil, nil)
	for len(asked) > 0 { // what was on its way
		<-asked
	}
	n.send(halfFields("id4"), "next")
	if q := next(t, asked); q.MsgID != "id4" {
		t.Errorf("asked for %s, which is decided, or immune", q.MsgID)
	}
	if len(others) > 0 {
		t.Errorf("another group is asked %+v", <-others)
	}
}

func TestWhatIsCheckedTooOftenIsGivenUpAndCanBeResumed(t *testing.T) {
	n := startNode(t, quickChecks(3))
	n.group("G")
	half := n.send(halfFields("id1"), "hello")
	lost := n.send(halfFields("id2"), "late")
	waitFor(t, "both messages to be given up", func() bool { return len(n.queue(message.TopicCheckMax)) == 2 })
	given := n.queue(message.TopicCheckMax)
	_, position, _ := message.ParseOffsetID(half.MsgID)
	if got := string(message.Property(given[0].Properties, message.PropCheckTimes)); got != "3" || given[0].PreparedOffset != position {
		t.Errorf("given up after %s checks: %+v", got, given[0])
	}
	if got := string(message.Property(given[0].Properties, message.PropRealTopic)); got != "T" {
		t.Errorf("given up without its topic: %q", got)
	}
	n.end(lost, commit) // RocketMQ commits it too
	if got := bodies(n.queue("T")); got != "late" {
		t.Fatalf("T has %q", got)
	}

	id := func(r *message.Record) string {
		return string(message.AppendOffsetID(nil, r.StoreHost, r.PhysicalOffset))
	}
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("transactionCheckMax=1000"), nil)
	resume := fields{"topic": message.TopicCheckMax, "msgId": id(&given[0])}
	n.ok(protocol.ReqResumeCheckHalfMessage, resume, nil, nil)
	_, asked := n.producer("c1", "P")
	q := next(t, asked)
	if q.MsgID != "id1" || q.QueueOffset == half.QueueOffset {
		t.Errorf("asked again for %+v", q.CheckTransactionHeader)
	}
	n.end(half, commit) // its first place: whether it is committed is for the check to find out
	n.ok(protocol.ReqEndTransaction, fields{
		"topic": q.Topic, "producerGroup": "P", "tranStateTableOffset": fmt.Sprint(q.QueueOffset), "commitLogOffset": fmt.Sprint(q.LogOffset),
		"commitOrRollback": "8", "msgId": "id1", "fromTransactionCheck": "true",
	}, nil, nil)
	if got := bodies(n.queue("T")); got != "late hello" {
		t.Errorf("T has %q", got)
	}
	for name, f := range map[string]fields{
		"resumed already": resume, "decided": resume.with("msgId", id(&given[1])), "another topic": resume.with("msgId", half.MsgID),
		"no id": resume.with("msgId", "x"), "nothing there": resume.with("msgId", "7F00000100002A9F0000000000FFFFFF"),
	} {
		if answer := n.call(protocol.ReqResumeCheckHalfMessage, f, nil); answer.Code != int32(protocol.RespSystemError) {
			t.Errorf("%s: %s %q", name, protocol.ResponseCode(answer.Code), answer.Remark)
		}
	}
}

// Two connections decide the same half messages at once, each in the other's order: each half message is decided once.
func TestDecisionsThatRaceAreOne(t *testing.T) {
	n := startNode(t, nil)
	n.group("G")
	const count = 200
	var halves []protocol.SendResult
	for i := range count {
		halves = append(halves, n.send(halfFields(fmt.Sprint("id", i)), fmt.Sprint(i)))
	}
	var wait sync.WaitGroup
	for c := range 4 {
		client := n.newClient()
		defer client.Close()
		for i := range halves {
			r := halves[i]
			if c%2 == 1 {
				r = halves[count-1-i]
			}
			wait.Add(2)
			for range 2 {
				client.Go(n.s.BrokerAddr(), command(protocol.ReqEndTransaction, endFields(r, commit), nil), func(answer *protocol.Command, err error) {
					if err == nil {
						err = answer.Check()
					}
					if err != nil {
						t.Error(err)
					}
					wait.Done()
				})
			}
		}
	}
	wait.Wait()
	if max := n.maxOffset("T"); max != count {
		t.Errorf("%d messages were committed, want %d", max, count)
	}
}

func (n *node) maxOffset(topic string) int64 {
	n.t.Helper()
	var r protocol.OffsetResult
	n.ok(protocol.ReqGetMaxOffset, queueFields.with("topic", topic), nil, &r)
	return r.Offset
}

// listed returns the half messages that RocketMQ's group of transactions is given, from an offset on.
func (n *node) listed(from string) []message.Record {
	n.t.Helper()
	answer := n.call(protocol.ReqPullMessage, pullFields.with("topic", message.TopicHalf, "consumerGroup", message.GroupTransactions,
		"queueOffset", from, "maxMsgNums", "2"), nil)
	var r protocol.PullResult
	if err := protocol.DecodeHeader(answer.Fields, &r); err != nil {
		n.t.Fatal(err)
	}
	list := n.records(answer.Body)
	if want := protocol.RespPullNotFound; len(list) == 0 && (answer.Code != int32(want) || r.NextOffset != r.MaxOffset) {
		n.t.Errorf("nothing pending from %s on is answered %s, %+v", from, protocol.ResponseCode(answer.Code), r)
	}
	if len(list) == 2 && r.NextOffset != list[1].QueueOffset+1 {
		n.t.Errorf("after offset %d comes %d", list[1].QueueOffset, r.NextOffset)
	}
	return list
}

func TestPendingHalfMessagesAreListedWithTheirChecks(t *testing.T) {
	n := startNode(t, quickChecks(1000))
	n.group("G")
	var halves []protocol.SendResult
	for i := range 5 {
		f := halfFields(fmt.Sprint("id", i))
		if i == 1 {
			f = halfFields("id1", message.PropCheckImmunity, "3600")
		}
		halves = append(halves, n.send(f, fmt.Sprint(i)))
	}
	n.end(halves[0], commit)
	n.end(halves[3], rollback)
	if got := bodies(n.listed("0")); got != "1 2" {
		t.Errorf("pending are %q, want two of those that are not decided", got)
	}
	if got := bodies(n.listed(fmt.Sprint(halves[2].QueueOffset + 1))); got != "4" {
		t.Errorf("then %q", got)
	}
	if got := n.listed(fmt.Sprint(halves[4].QueueOffset + 1)); len(got) > 0 {
		t.Errorf("behind the last there is %q", bodies(got))
	}
	checks := func(r message.Record) string { return string(message.Property(r.Properties, message.PropCheckTimes)) }
	waitFor(t, "a check to be counted", func() bool { return checks(n.listed("0")[1]) > "1" })
	if got := checks(n.listed("0")[0]); got != "0" {
		t.Errorf("one that is immune was checked %s times", got)
	}
	if got := bodies(n.queue(message.TopicHalf)); got != "0 1 2 3 4" {
		t.Errorf("another group is given %q, want all", got)
	}
}
