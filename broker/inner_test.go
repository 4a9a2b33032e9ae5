package broker_test

import (
	"fmt"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// batchFields are those of a batch with a unique key.
var batchFields = sendFields.with("topic", "Batches", "batch", "true", "properties", "UNIQ_KEY\x01U1\x02KEYS\x01whole\x02INNER_BASE\x0177\x02")

// batchOf is a batch's body, of n messages whose bodies are name and a number.
func batchOf(name string, n int) (body []byte) {
	for i := range n {
		body = message.AppendBatchItem(body, message.BatchItem{Body: fmt.Append(nil, name, i), Properties: []byte("TAGS\x01A\x02")})
	}
	return body
}

// batchTopic makes a topic whose batches are one record.
func (n *node) batchTopic(name string) {
	n.t.Helper()
	n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", name, "attributes", "+queue.type=BatchCQ"), nil, nil)
}

// restarted is the node after another start, on what the file system holds; without its view, if that is to be made anew.
func (n *node) restarted(fs vfs.FS, withoutView bool) *node {
	n.t.Helper()
	n.stop()
	if withoutView {
		if err := fs.RemoveAll("data/store/view"); err != nil {
			n.t.Fatal(err)
		}
	}
	c := testConfig(fs)
	c.Light.Enable, c.Light.MultiDispatch = true, true
	return startConfig(n.t, c)
}

func TestABatchIsOneRecordAndTakesAnOffsetForEachMessage(t *testing.T) {
	fs := vfs.NewMem()
	n := startConfig(t, testConfig(fs))
	defer func() { n.stop() }()
	n.group("G")
	n.batchTopic("Batches")
	var sent protocol.SendResult
	n.ok(protocol.ReqSendBatchMessage, batchFields, batchOf("a", 3), &sent)
	if sent.QueueOffset != 0 || sent.BatchUniqID != "U1" || sent.TransactionID != "U1" || len(sent.MsgID) != 32 {
		t.Errorf("answered %+v", sent)
	}
	n.send(sendFields.with("topic", "Batches"), "alone")
	n.ok(protocol.ReqSendBatchMessage, batchFields, batchOf("b", 40), &sent)
	if sent.QueueOffset != 4 {
		t.Errorf("the second batch is at offset %d", sent.QueueOffset)
	}
	sent = protocol.SendResult{}
	n.ok(protocol.ReqSendBatchMessage, batchFields.with("properties", ""), batchOf("c", 2), &sent) // no unique key: message by message
	if sent.QueueOffset != 44 || sent.BatchUniqID != "" {
		t.Errorf("answered %+v", sent)
	}

	type pulled struct {
		Bodies string
		Next   int64
	}
	want := map[int64]pulled{ // by the offset that is asked for
		0:  {string(batchOf("a", 3)) + " alone", 4},
		2:  {string(batchOf("a", 3)) + " alone", 4}, // from the middle, the whole batch again
		3:  {"alone", 4},                            // the next one is more than what may be pulled at once
		4:  {string(batchOf("b", 40)), 44},          // but the first may be more
		43: {string(batchOf("b", 40)) + " c0 c1", 46},
		44: {"c0 c1", 46},
	}
	check := func() {
		t.Helper()
		got := map[int64]pulled{}
		for offset := range want {
			var h protocol.PullResult
			answer := n.ok(protocol.ReqPullMessage, pullFields.with("topic", "Batches", "queueOffset", fmt.Sprint(offset)), nil, &h)
			list := n.records(answer.Body)
			got[offset] = pulled{bodies(list), h.NextOffset}
			for _, r := range list {
				if r.InnerMessages() > 0 && fmt.Sprintf("%019d", r.QueueOffset) != string(message.Property(r.Properties, message.PropInnerBase)) {
					t.Errorf("the record at offset %d has properties %q", r.QueueOffset, r.Properties)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		var end protocol.OffsetResult
		n.ok(protocol.ReqGetMaxOffset, queueFields.with("topic", "Batches"), nil, &end)
		if end.Offset != 46 {
			t.Errorf("the maximum is %d", end.Offset)
		}
	}
	check()
	n = n.restarted(fs, false)
	check()
	n = n.restarted(fs, true)
	check()
}

func TestBatchesAreFoundByTimeAtTheirFirstMessage(t *testing.T) {
	n := startNode(t, nil)
	n.batchTopic("Batches")
	var sent protocol.SendResult
	for range 2 {
		n.ok(protocol.ReqSendBatchMessage, batchFields, batchOf("a", 5), &sent)
	}
	for _, c := range []struct {
		time, boundary string
		want           int64
	}{{"0", "LOWER", 0}, {"9000000000000", "LOWER", 5}, {"9000000000000", "UPPER", 5}} {
		var found protocol.OffsetResult
		n.ok(protocol.ReqSearchOffsetByTimestamp, queueFields.with("topic", "Batches", "timestamp", c.time, "boundaryType", c.boundary), nil, &found)
		if found.Offset != c.want {
			t.Errorf("time %s %s is at offset %d, want %d", c.time, c.boundary, found.Offset, c.want)
		}
	}
}

func TestWhatIsNoBatchOfOneRecordIsRefused(t *testing.T) {
	n := startNode(t, nil)
	n.group("G")
	n.batchTopic("Batches")
	n.send(sendFields, "x")
	innerFlag := fmt.Sprint(message.FlagInnerBatch)
	for name, c := range map[string]struct {
		code protocol.RequestCode
		f    fields
		body []byte
	}{
		"marked, in a topic of single messages": {protocol.ReqSendBatchMessage, batchFields.with("topic", "T", "sysFlag", innerFlag), batchOf("a", 2)},
		"marked, and a single message":          {protocol.ReqSendMessage, sendFields.with("sysFlag", innerFlag), []byte("x")},
		"with a number of messages":             {protocol.ReqSendMessage, sendFields.with("properties", "INNER_NUM\x012\x02"), []byte("x")},
		"cut short":                             {protocol.ReqSendBatchMessage, batchFields, batchOf("a", 2)[:40]},
		"empty":                                 {protocol.ReqSendBatchMessage, batchFields, nil},
	} {
		if answer := n.call(c.code, c.f, c.body); answer.Code != int32(protocol.RespMessageIllegal) {
			t.Errorf("%s: %d %s", name, answer.Code, answer.Remark)
		}
	}
	var sent protocol.SendResult
	n.ok(protocol.ReqSendBatchMessage, batchFields, batchOf("a", 2), &sent)
	answer := n.ok(protocol.ReqPullMessage, pullFields.with("topic", "Batches"), nil, nil)
	at := n.records(answer.Body)[0].PhysicalOffset
	back := n.call(protocol.ReqConsumerSendMsgBack, fields{"group": "G", "offset": fmt.Sprint(at), "delayLevel": "0", "originTopic": "Batches"}, nil)
	if back.Code != int32(protocol.RespSystemError) {
		t.Errorf("a batch was taken back: %d %s", back.Code, back.Remark)
	}
}

func TestABatchIsPoppedAsOneMessage(t *testing.T) {
	fs := vfs.NewMem()
	n := startConfig(t, testConfig(fs))
	defer func() { n.stop() }()
	n.group("G")
	n.batchTopic("Batches")
	n.ok(protocol.ReqSendBatchMessage, batchFields, batchOf("a", 3), nil)
	n.ok(protocol.ReqSendBatchMessage, batchFields, batchOf("b", 4), nil)
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("topic", "Batches", "commitOffset", "1"), nil, nil) // in the middle of one
	pop := popFields.with("topic", "Batches")
	list, h, _ := n.pop(pop.with("invisibleTime", "300"))
	if len(list) != 2 || list[0].QueueOffset != 0 || list[1].QueueOffset != 3 || h.MsgOffsetInfo != "0 0 0,3" {
		t.Fatalf("popped %d records, offsets %q", len(list), h.MsgOffsetInfo)
	}
	n.ack(list[1])
	again, _, _ := n.pop(pop.with("pollTime", "10000", "queueId", "-1"))
	if len(again) != 1 || string(again[0].Body) != string(batchOf("a", 3)) || again[0].InnerMessages() != 3 {
		t.Fatalf("%d records came again", len(again))
	}
	n.ack(again[0])
	check := func() {
		t.Helper()
		for topic, want := range map[string]int64{"Batches": 7, message.PopRetryTopic("Batches", "G", false): 3} {
			var end protocol.OffsetResult
			n.ok(protocol.ReqGetMaxOffset, queueFields.with("topic", topic), nil, &end)
			if end.Offset != want {
				t.Errorf("the maximum of %s is %d, want %d", topic, end.Offset, want)
			}
		}
		if more, _, _ := n.pop(pop); len(more) != 0 {
			t.Errorf("%d records are popped again", len(more))
		}
	}
	check()
	n = n.restarted(fs, true)
	check()
}
