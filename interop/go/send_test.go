package interop

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"github.com/apogeemq/apogee/interop/go/harness"
)

func TestSyncSendIsAcknowledgedWithOffsetsAndDelivered(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 4)
	p := newProducer(t, c)
	nextOffset := map[int]int64{}
	ids := map[string]bool{}
	var bodies []string
	for i := range 40 {
		body := fmt.Sprintf("message %d", i)
		result := send(t, p, primitive.NewMessage(topic, []byte(body)))
		queue := result.MessageQueue.QueueId
		if result.QueueOffset != nextOffset[queue] {
			t.Errorf("queue %d: offset %d, want %d", queue, result.QueueOffset, nextOffset[queue])
		}
		nextOffset[queue]++
		if result.MsgID == "" || result.OffsetMsgID == "" || ids[result.MsgID] || ids[result.OffsetMsgID] {
			t.Errorf("ids are not there or not unique: %s", result)
		}
		ids[result.MsgID], ids[result.OffsetMsgID] = true, true
		bodies = append(bodies, body)
	}
	if len(nextOffset) != 4 {
		t.Errorf("round robin used %d of 4 queues", len(nextOffset))
	}
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	in.waitExactly(t, bodies)
	for _, m := range in.all() {
		if !ids[m.MsgId] || !ids[m.OffsetMsgId] {
			t.Errorf("ids %s and %s were not acknowledged", m.MsgId, m.OffsetMsgId)
		}
	}
}

func TestAsyncSendsAreAcknowledgedAndDelivered(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 4)
	p := newProducer(t, c)
	const n = 100
	var bodies []string
	var done sync.WaitGroup
	for i := range n {
		body := fmt.Sprintf("message %d", i)
		bodies = append(bodies, body)
		done.Add(1)
		err := p.SendAsync(t.Context(), func(_ context.Context, result *primitive.SendResult, err error) {
			defer done.Done()
			if err != nil || result.Status != primitive.SendOK {
				t.Errorf("%s: %v, %v", body, result, err)
			}
		}, primitive.NewMessage(topic, []byte(body)))
		if err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	in.waitExactly(t, bodies)
}

func TestOneWaySendsAreDelivered(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 4)
	p := newProducer(t, c)
	var bodies []string
	for i := range 40 {
		body := fmt.Sprintf("message %d", i)
		bodies = append(bodies, body)
		if err := p.SendOneWay(t.Context(), primitive.NewMessage(topic, []byte(body))); err != nil {
			t.Fatal(err)
		}
	}
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	in.waitExactly(t, bodies)
}

func TestBatchSendKeepsMessagesApartAndInOrder(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 1)
	p := newProducer(t, c)
	const batches, size = 3, 20
	for b := range batches {
		var batch []*primitive.Message
		for i := range size {
			m := primitive.NewMessage(topic, fmt.Appendf(nil, "message %d", b*size+i))
			m.WithTag(fmt.Sprintf("Tag%d", i)).WithProperty("index", fmt.Sprint(i))
			batch = append(batch, m)
		}
		result := send(t, p, batch...)
		if want := int64(b * size); result.QueueOffset != want {
			t.Errorf("batch %d: offset %d, want %d", b, result.QueueOffset, want)
		}
	}
	pull := startPull(t, c, unique(t), topic)
	for i, m := range readQueue(t, pull, queuesOf(t, c, topic)[0], batches*size) {
		if want := fmt.Sprintf("message %d", i); string(m.Body) != want {
			t.Errorf("offset %d: body %q, want %q", i, m.Body, want)
		}
		if tag := fmt.Sprintf("Tag%d", i%size); m.GetTags() != tag || m.GetProperty("index") != fmt.Sprint(i%size) {
			t.Errorf("offset %d: tag %q, index %q, want %q", i, m.GetTags(), m.GetProperty("index"), tag)
		}
	}
}

// The client asks for 4 queues, whatever its options say.
func TestFirstSendCreatesTheTopic(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := unique(t)
	if queues := queuesOf(t, c, topic); len(queues) != 0 {
		t.Fatalf("the topic is there before the first send: %v", queues)
	}
	p := newProducer(t, c)
	send(t, p, primitive.NewMessage(topic, []byte("first")))
	eventually(t, "a route of the new topic", func() bool { return len(queuesOf(t, c, topic)) > 0 })
	if n := len(queuesOf(t, c, topic)); n != 4 {
		t.Errorf("the topic has %d queues; the producer asked for 4", n)
	}
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	in.waitExactly(t, []string{"first"})
}

func TestKeysTagsFlagAndPropertiesRoundTrip(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 1)
	p := newProducer(t, c)
	properties := map[string]string{
		"plain":  "value",
		"spaces": " with spaces ",
		"texts":  "naïve 日本語 🚀",
		"json":   `{"a":"b=c;d"}`,
	}
	m := primitive.NewMessage(topic, []byte("body"))
	m.WithTag("TagA").WithKeys([]string{"order-1", "order-2"})
	m.Flag = 0x1234
	for k, v := range properties {
		m.WithProperty(k, v)
	}
	result := send(t, p, m)
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	got := in.wait(t, 1)[0]
	if got.GetTags() != "TagA" || got.GetKeys() != "order-1 order-2" || got.Flag != 0x1234 {
		t.Errorf("tags %q, keys %q, flag %#x", got.GetTags(), got.GetKeys(), got.Flag)
	}
	for k, v := range properties {
		if got.GetProperty(k) != v {
			t.Errorf("property %s is %q, want %q", k, got.GetProperty(k), v)
		}
	}
	if got.MsgId != result.MsgID || got.OffsetMsgId != result.OffsetMsgID {
		t.Errorf("ids %s, %s; acknowledged were %s, %s", got.MsgId, got.OffsetMsgId, result.MsgID, result.OffsetMsgID)
	}
	if got.StoreHost != c.Broker || got.BornTimestamp <= 0 || got.StoreTimestamp <= 0 || got.ReconsumeTimes != 0 {
		t.Errorf("store host %s (broker %s), born %d, stored %d, reconsumed %d times", got.StoreHost, c.Broker,
			got.BornTimestamp, got.StoreTimestamp, got.ReconsumeTimes)
	}
}

func TestMebibyteBodiesRoundTrip(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 1)
	p := newProducer(t, c)
	compressible := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	random := make([]byte, 1<<20)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(random)
	bodies := [][]byte{compressible, random}
	for _, body := range bodies {
		send(t, p, primitive.NewMessage(topic, body))
	}
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	for i, m := range in.wait(t, len(bodies)) {
		if !bytes.Equal(m.Body, bodies[m.QueueOffset]) {
			t.Errorf("message %d: a body of %d bytes is not the one that was sent", i, len(m.Body))
		}
	}
}

func TestOrderWithinAQueueIsTheOrderOfSends(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 2)
	queues := queuesOf(t, c, topic)
	p := newProducer(t, c, producer.WithQueueSelector(producer.NewManualQueueSelector()))
	const perQueue = 200
	for i := range perQueue {
		for _, queue := range queues {
			m := primitive.NewMessage(topic, fmt.Appendf(nil, "%d", i))
			m.Queue = queue
			if result := send(t, p, m); result.MessageQueue.QueueId != queue.QueueId {
				t.Fatalf("sent to queue %d, stored in %d", queue.QueueId, result.MessageQueue.QueueId)
			}
		}
	}
	pull := startPull(t, c, unique(t), topic)
	for _, queue := range queues {
		for i, m := range readQueue(t, pull, queue, perQueue) {
			if string(m.Body) != fmt.Sprint(i) {
				t.Fatalf("%s, offset %d: body %q", queue, i, m.Body)
			}
		}
	}
}

func TestEveryOneOfManyQueuesIsConsumed(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	const queues = 64
	topic := newTopic(t, c, queues)
	p := newProducer(t, c)
	bodies := sendBodies(t, p, topic, "m", 2*queues)
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	in.waitExactly(t, bodies)
	used := map[int]bool{}
	for _, m := range in.all() {
		used[m.Queue.QueueId] = true
	}
	if len(used) != queues {
		t.Errorf("messages came from %d of %d queues", len(used), queues)
	}
}
