package broker_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
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
