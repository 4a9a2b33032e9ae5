package broker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/google/go-cmp/cmp"
)

// Bodies of messages of the revive log, as RocketMQ 5.5.0 wrote them, and as its AckMsg and BatchAckMsg are written.
const (
	checkPointBody = `{"bm":0,"bn":"b","c":"G","d":[%s],"it":60000,"n":%d,"pt":%d,"q":0,"reviveTime":%d,"ro":0,"so":%d,"sp":%v,"t":"T"}`
	ackBody        = `{"ao":%d,"bn":"b","c":"G","pt":%d,"q":0,"so":%d,"t":"T"}`
	batchAckBody   = `{"ao":-1,"aol":[%d,%d],"bn":"b","c":"G","pt":%d,"q":0,"so":%d,"t":"T"}`
)

const testReviveLog = "rmq_sys_REVIVE_LOG_c"

// revive appends a message to queue 3 of the revive log, or as one that waits to come there.
func (n *delayNode) revive(waits bool, tag, body string, deliver int64) {
	n.t.Helper()
	p := message.AppendProperty(nil, message.PropTags, []byte(tag))
	p = message.AppendProperty(p, message.PropTimerDeliver, fmt.Append(nil, deliver))
	topic, queue := testReviveLog, int32(3)
	if waits {
		p = message.AppendProperty(p, message.PropRealTopic, []byte(topic))
		p = message.AppendProperty(p, message.PropRealQueueID, []byte("3"))
		p = message.AppendProperty(p, message.PropTimerOut, fmt.Append(nil, deliver/1000*1000))
		topic, queue = message.TopicTimerWheel, 0
	}
	n.appendNow(n.store.EntryFor(message.Record{Topic: []byte(topic), Body: []byte(body), Properties: p, BornHost: testHost, StoreHost: testHost}, n.store.Queue(topic, queue)))
}

// offsetsOf returns the offsets of a group that RocketMQ finds.
func offsetsOf(t *testing.T, files map[string][]byte, name string) map[int32]int64 {
	t.Helper()
	var o foreignOffsets
	if err := json.Unmarshal(files[fileOffsets], &o); err != nil {
		t.Fatal(err)
	}
	return o.Offsets[name]
}

// popped pops for group G and returns what it is given.
func (c *popClient) popped() (list []string) {
	resp := <-c.ask(protocol.ReqPopMessage, popRequestFields(time.Minute, 0))
	if protocol.ResponseCode(resp.Code) != protocol.RespSuccess {
		return nil
	}
	messages, _ := c.messages("G", resp)
	for _, m := range messages {
		list = append(list, m.body)
	}
	slices.Sort(list)
	return list
}

// reviving appends what RocketMQ has of its deliveries of m0 to m9 to G, which it popped at a time.
func (c *popClient) reviving(popped int64) {
	over, times := popped-120_000, popped+60_000
	ck := func(waits bool, at, start int64, count int, suspend bool) {
		distances := strings.Trim(strings.ReplaceAll("0 1 2 3 4 5"[:2*count-1], " ", ","), ",")
		body := fmt.Sprintf(checkPointBody, distances, count, at, at+60_000, start, suspend)
		c.n.revive(waits, "ck", body, at+59_000)
	}
	ck(false, over-1000, 0, 6, false) // offset 0: RocketMQ has handled it
	ck(false, over, 6, 2, false)      // its time is over
	c.n.revive(false, "ack", fmt.Sprintf(ackBody, 7, over, 6), over+60_000)
	ck(true, popped, 0, 6, false)
	c.n.revive(true, "ack", fmt.Sprintf(ackBody, 0, popped, 0), times)
	c.n.revive(true, "bAck", fmt.Sprintf(batchAckBody, 2, 3, popped, 0), times)
	c.n.revive(true, "ack", fmt.Sprintf(ackBody, 1, popped-7, 0), times-7) // of another delivery
	ck(true, popped+1000, 5, 1, true)                                      // m5 was renewed
	c.n.revive(true, "ack", fmt.Sprintf(ackBody, 5, popped, 0), times)
	c.n.revive(true, "ck", "{", times)
}

// What RocketMQ popped and was not acknowledged comes in its time, once; receipts of RocketMQ are worth as much as ours.
func TestDeliveriesThatRocketMQLeftOpenAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &popClient{t: t, fs: crashfs.New()}
		leave := func(offsets string) (files map[string][]byte) {
			c.n.Broker.Stop()
			files, _, err := ExportRocketMQ(c.n.store)
			if err != nil {
				t.Fatal(err)
			}
			if offsets != "" {
				files[fileOffsets] = []byte(offsets)
			}
			if err := c.n.store.Leave(files); err != nil {
				t.Fatal(err)
			}
			return files
		}
		want := func(when string, list ...string) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			if diff := cmp.Diff(list, c.popped()); diff != "" {
				t.Errorf("%s: %s", when, diff)
			}
		}
		c.start()
		c.n.groups.find("G") // makes it
		if _, err := c.n.topics.set(protocol.TopicConfig{TopicName: testReviveLog, ReadQueues: 8, WriteQueues: 8, Perm: 6}, func(error) {}); err != nil {
			t.Fatal(err)
		}
		c.send(10)
		popped := time.Now().UnixMilli()
		c.reviving(popped)
		leave(`{"offsetTable":{"T@G":{0:8},"rmq_sys_REVIVE_LOG_c@CID_RMQ_SYS_REVIVE_GROUP":{3:0}}}`)

		c.start()
		if low, ok := c.n.offsets.find(offsetKey{"G", "T", 0}); !ok || low != 1 {
			t.Errorf("the group is at %d, %v; the lowest that it has not acknowledged is 1", low, ok)
		}
		want("whose time is over, and what is new", "m6", "m8", "m9")
		c.n.stop()
		c.start()
		want("after a start")
		receipt := fmt.Sprintf("0 %d 60000 3 0 b 0 4", popped)
		resp := <-c.ask(protocol.ReqAckMessage, map[string]string{"consumerGroup": "G", "topic": "T", "queueId": "0", "offset": "4", "extraInfo": receipt})
		if protocol.ResponseCode(resp.Code) != protocol.RespSuccess {
			t.Errorf("a receipt of RocketMQ: %d %s", resp.Code, resp.Remark)
		}
		time.Sleep(time.Until(time.UnixMilli(popped + 60_000)))
		want("after a minute", "m1", "m5", "m6", "m8", "m9")
		if _, waiting := c.n.store.Queue(testReviveLog, 3).Bounds(); waiting != 3 {
			t.Errorf("the revive log has %d messages, RocketMQ left 3", waiting)
		}
		files := leave("")
		if diff := cmp.Diff(map[int32]int64{3: 2}, offsetsOf(t, files, "rmq_sys_REVIVE_LOG_c@CID_RMQ_SYS_REVIVE_GROUP")); diff != "" {
			t.Errorf("RocketMQ goes on in the revive log: %s", diff)
		}
		c.start() // as if RocketMQ had done nothing meanwhile
		time.Sleep(10 * time.Minute)
		want("from the lowest offset on", "m1", "m5", "m6", "m8", "m9")
		c.n.stop()
	})
}
