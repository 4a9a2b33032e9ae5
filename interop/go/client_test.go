package interop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	// waitMax bounds every wait. It is generous: what is slow on purpose has a bound of its own.
	waitMax  = 30 * time.Second
	waitPoll = 10 * time.Millisecond
)

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// unique makes a topic, group or instance name that no other test and no earlier run has used.
func unique(t *testing.T) string {
	var random [6]byte
	rand.Read(random[:])
	return notInNames.ReplaceAllString(t.Name(), "_") + "-" + hex.EncodeToString(random[:])
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	within(t, waitMax, what, holds)
}

// within is eventually for what is slow on purpose.
func within(t *testing.T, most time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(most)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", most, what)
		}
		time.Sleep(waitPoll)
	}
}

func resolver(c harness.Cluster) primitive.NsResolver {
	return primitive.NewPassthroughResolver([]string{c.NameServer})
}

func newProducer(t *testing.T, c harness.Cluster, options ...producer.Option) rocketmq.Producer {
	t.Helper()
	name := unique(t)
	p, err := rocketmq.NewProducer(append([]producer.Option{
		producer.WithNsResolver(resolver(c)),
		producer.WithGroupName(name),
		producer.WithInstanceName(name),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Shutdown() })
	return p
}

func newAdmin(t *testing.T, c harness.Cluster) admin.Admin {
	t.Helper()
	a, err := admin.NewAdmin(admin.WithResolver(resolver(c)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// newTopic creates a topic and returns when clients can find it. The client reports transport
// errors only, so it is the route that tells.
func newTopic(t *testing.T, c harness.Cluster, queues int) string {
	t.Helper()
	topic := unique(t)
	a := newAdmin(t, c)
	err := a.CreateTopic(t.Context(), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(c.Broker),
		admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("a route with %d queues for topic %s", queues, topic), func() bool {
		return len(queuesOf(t, c, topic)) == queues
	})
	return topic
}

// queuesOf asks the name server, with a client that has nothing cached.
func queuesOf(t *testing.T, c harness.Cluster, topic string) []*primitive.MessageQueue {
	t.Helper()
	a, err := admin.NewAdmin(admin.WithResolver(resolver(c)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	queues, err := a.FetchPublishMessageQueues(t.Context(), topic)
	if err != nil {
		return nil
	}
	return queues
}

// send sends synchronously and wants SendOK.
func send(t *testing.T, p rocketmq.Producer, messages ...*primitive.Message) *primitive.SendResult {
	t.Helper()
	result, err := p.SendSync(t.Context(), messages...)
	if err != nil {
		t.Fatal(err)
	}
	if result.Status != primitive.SendOK {
		t.Fatalf("send status %d, want SendOK: %s", result.Status, result)
	}
	return result
}

// sendBodies sends one message for each body and returns the bodies.
func sendBodies(t *testing.T, p rocketmq.Producer, topic, prefix string, n int) []string {
	t.Helper()
	var bodies []string
	for i := range n {
		body := fmt.Sprintf("%s-%04d", prefix, i)
		send(t, p, primitive.NewMessage(topic, []byte(body)))
		bodies = append(bodies, body)
	}
	return bodies
}

// inbox collects what a consumer is given.
type inbox struct {
	mu       sync.Mutex // guards messages
	messages []*primitive.MessageExt
	times    []time.Time
}

func (in *inbox) add(messages ...*primitive.MessageExt) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, m := range messages {
		in.messages = append(in.messages, m)
		in.times = append(in.times, time.Now())
	}
}

func (in *inbox) all() []*primitive.MessageExt {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.messages)
}

func (in *inbox) timeOf(i int) time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.times[i]
}

func (in *inbox) bodies() []string {
	var bodies []string
	for _, m := range in.all() {
		bodies = append(bodies, string(m.Body))
	}
	return bodies
}

// wait returns when n messages have come.
func (in *inbox) wait(t *testing.T, n int) []*primitive.MessageExt {
	t.Helper()
	deadline := time.Now().Add(waitMax)
	for {
		got := in.all()
		if len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d messages came within %v", len(got), n, waitMax)
		}
		time.Sleep(waitPoll)
	}
}

// waitExactly wants these bodies, each once, in any order.
func (in *inbox) waitExactly(t *testing.T, want []string) {
	t.Helper()
	in.wait(t, len(want))
	got := in.bodies()
	wantSorted := slices.Sorted(slices.Values(want))
	slices.Sort(got)
	if !slices.Equal(got, wantSorted) {
		t.Fatalf("got %d messages %q, want %d: %q", len(got), got, len(want), wantSorted)
	}
}

func (in *inbox) handle(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	in.add(messages...)
	return consumer.ConsumeSuccess, nil
}

var everything = consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}

// startPush starts a push consumer of the group from the first offset. The caller may shut it
// down before the test ends.
func startPush(t *testing.T, c harness.Cluster, group, topic string, selector consumer.MessageSelector, in *inbox,
	options ...consumer.Option,
) rocketmq.PushConsumer {
	t.Helper()
	push, err := rocketmq.NewPushConsumer(append([]consumer.Option{
		consumer.WithNsResolver(resolver(c)),
		consumer.WithGroupName(group),
		consumer.WithInstance(unique(t)),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Subscribe(topic, selector, in.handle); err != nil {
		t.Fatal(err)
	}
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { push.Shutdown() })
	return push
}

func startPull(t *testing.T, c harness.Cluster, group, topic string, options ...consumer.Option) rocketmq.PullConsumer {
	t.Helper()
	pull, err := rocketmq.NewPullConsumer(append([]consumer.Option{
		consumer.WithNsResolver(resolver(c)),
		consumer.WithGroupName(group),
		consumer.WithInstance(unique(t)),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := pull.Subscribe(topic, everything); err != nil {
		t.Fatal(err)
	}
	if err := pull.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pull.Shutdown() })
	return pull
}

// readQueue pulls [0, end) of a queue and wants every offset once and in order.
func readQueue(t *testing.T, pull rocketmq.PullConsumer, queue *primitive.MessageQueue, end int64) []*primitive.MessageExt {
	t.Helper()
	return readFrom(t, pull, queue, 0, end)
}

// readFrom reads the messages of offsets from up to end.
func readFrom(t *testing.T, pull rocketmq.PullConsumer, queue *primitive.MessageQueue, from, end int64) []*primitive.MessageExt {
	t.Helper()
	var messages []*primitive.MessageExt
	for next := from; next < end; {
		result, err := pull.PullFrom(t.Context(), queue, next, 32)
		if err != nil {
			t.Fatalf("cannot pull %s from offset %d: %v", queue, next, err)
		}
		if result.Status != primitive.PullFound {
			t.Fatalf("pull of %s from offset %d below %d: status %d, next %d, min %d, max %d", queue, next, end,
				result.Status, result.NextBeginOffset, result.MinOffset, result.MaxOffset)
		}
		for _, m := range result.GetMessageExts() {
			if m.QueueOffset != next {
				t.Fatalf("%s: offset %d follows %d", queue, m.QueueOffset, next-1)
			}
			next++
			messages = append(messages, m)
		}
		if result.NextBeginOffset != next {
			t.Fatalf("%s: the next offset is said to be %d, after a message at %d", queue, result.NextBeginOffset, next-1)
		}
	}
	return messages[:end-from] // the last answer may hold more
}
