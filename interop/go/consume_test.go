package interop

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/apogeemq/apogee/interop/go/harness"
)

func TestTwoPushGroupsEachGetEveryMessage(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 4)
	p := newProducer(t, c)
	var one, two inbox
	before := sendBodies(t, p, topic, "before", 20)
	startPush(t, c, unique(t), topic, everything, &one)
	startPush(t, c, unique(t), topic, everything, &two)
	after := sendBodies(t, p, topic, "after", 20)
	all := slices.Concat(before, after)
	one.waitExactly(t, all)
	two.waitExactly(t, all)
}

func TestTagFilterDeliversNothingElse(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 1)
	p := newProducer(t, c)
	var in inbox
	startPush(t, c, unique(t), topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "TagA || TagB"}, &in)
	var want []string
	for i := range 60 {
		tag := []string{"TagA", "TagB", "TagC", ""}[i%4]
		m := primitive.NewMessage(topic, fmt.Appendf(nil, "%d %s", i, tag))
		if tag != "" {
			m.WithTag(tag)
		}
		send(t, p, m)
		if tag == "TagA" || tag == "TagB" {
			want = append(want, string(m.Body))
		}
	}
	// The queue is read in order: with the last message, all that stood before it was filtered.
	last := primitive.NewMessage(topic, []byte("last"))
	send(t, p, last.WithTag("TagB"))
	in.waitExactly(t, append(want, "last"))
}

func TestPullFromReadsAnyOffsetAndReportsBounds(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 1)
	p := newProducer(t, c)
	bodies := sendBodies(t, p, topic, "m", 50)
	pull := startPull(t, c, unique(t), topic)
	queue := queuesOf(t, c, topic)[0]
	for _, from := range []int{0, 1, 30, 49} {
		result, err := pull.PullFrom(t.Context(), queue, int64(from), 10)
		if err != nil {
			t.Fatal(err)
		}
		want := bodies[from:min(from+10, len(bodies))]
		var got []string
		for _, m := range result.GetMessageExts() {
			got = append(got, string(m.Body))
		}
		if !slices.Equal(got, want) {
			t.Errorf("from %d: got %q, want %q", from, got, want)
		}
		if next := int64(from + len(want)); result.NextBeginOffset != next || result.MinOffset != 0 || result.MaxOffset != 50 {
			t.Errorf("from %d: next %d, min %d, max %d; want %d, 0, 50", from, result.NextBeginOffset, result.MinOffset,
				result.MaxOffset, next)
		}
	}
	beyond, err := pull.PullFrom(t.Context(), queue, 1_000, 10)
	if err != nil {
		t.Fatal(err)
	}
	if beyond.Status != primitive.PullOffsetIllegal || beyond.NextBeginOffset != 50 {
		t.Errorf("beyond the end: status %d, next %d; want PullOffsetIllegal, 50", beyond.Status, beyond.NextBeginOffset)
	}
}

// The client's pull consumer asks for zero messages unless a batch size is set. RocketMQ then
// answers with one.
func TestPollAndAckConsumeWithAndWithoutABatchSize(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]consumer.Option{
		"default batch size":  nil,
		"batch size of eight": {consumer.WithPullBatchSize(8)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harness.Shared(t)
			topic := newTopic(t, c, 2)
			bodies := sendBodies(t, newProducer(t, c), topic, "m", 20)
			pull := startPull(t, c, unique(t), topic, options...)
			var in inbox
			deadline := time.Now().Add(waitMax)
			for len(in.all()) < len(bodies) && time.Now().Before(deadline) {
				request, err := pull.Poll(t.Context(), time.Second)
				if consumer.IsNoNewMsgError(err) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				in.add(request.GetMsgList()...)
				pull.ACK(t.Context(), request, consumer.ConsumeSuccess)
			}
			in.waitExactly(t, bodies)
		})
	}
}

// An idle consumer has a pull that the broker holds. A message ends it at once: neither the
// rescan of held pulls (5 s) nor their time-out (20 s) is what delivers.
func TestLongPollDeliversAtOnce(t *testing.T) {
	const (
		messages  = 20
		medianMax = time.Second // half of what waits for the rescan waits 2.5 s and more
		eachMax   = 4 * time.Second
	)
	c := harness.Shared(t)
	topic := newTopic(t, c, 1)
	p := newProducer(t, c)
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	sendBodies(t, p, topic, "settled", 1)
	in.wait(t, 1)
	var latencies []time.Duration
	for i := range messages {
		sent := time.Now()
		sendBodies(t, p, topic, fmt.Sprint(i), 1)
		in.wait(t, i+2)
		latencies = append(latencies, in.timeOf(i+1).Sub(sent))
	}
	slices.Sort(latencies)
	median, slowest := latencies[messages/2], latencies[messages-1]
	t.Logf("send to receive: p50 %v, max %v", median, slowest)
	if median > medianMax || slowest > eachMax {
		t.Errorf("send to receive took %v (p50) and %v (max); want up to %v and %v", median, slowest, medianMax, eachMax)
	}
}

// drained tells whether the consumer has taken note of everything in a topic of one queue.
func drained(push rocketmq.PushConsumer, topic string) func() bool {
	return func() bool {
		behind, known := push.GetOffsetDiffMap()[topic]
		return known && behind == 0
	}
}

func TestConsumerResumesWhereItStopped(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic, group := newTopic(t, c, 1), unique(t)
	p := newProducer(t, c)
	first := sendBodies(t, p, topic, "first", 20)
	var in inbox
	push := startPush(t, c, group, topic, everything, &in)
	in.waitExactly(t, first)
	eventually(t, "the consumer's offset to be at the end", drained(push, topic))
	push.Shutdown()
	second := sendBodies(t, p, topic, "second", 20)
	var resumed inbox
	startPush(t, c, group, topic, everything, &resumed)
	resumed.waitExactly(t, second)
}

func TestOffsetsTopicsAndMessagesSurviveARestartOfTheBroker(t *testing.T) {
	s, c := harness.Own(t)
	topic, group := newTopic(t, c, 1), unique(t)
	first := sendBodies(t, newProducer(t, c), topic, "first", 20)
	var in inbox
	push := startPush(t, c, group, topic, everything, &in)
	in.waitExactly(t, first)
	eventually(t, "the consumer's offset to be at the end", drained(push, topic))
	push.Shutdown()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the route of the topic after the restart", func() bool { return len(queuesOf(t, c, topic)) == 1 })
	second := sendBodies(t, newProducer(t, c), topic, "second", 20)
	var resumed, fresh inbox
	startPush(t, c, group, topic, everything, &resumed)
	startPush(t, c, unique(t), topic, everything, &fresh)
	resumed.waitExactly(t, second)
	fresh.waitExactly(t, slices.Concat(first, second))
}

// Two members share the queues; when one leaves, the other gets its queues.
func TestMembersOfAGroupShareTheQueues(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic, group := newTopic(t, c, 4), unique(t)
	p := newProducer(t, c)
	var one, two inbox
	startPush(t, c, group, topic, everything, &one)
	leaver := startPush(t, c, group, topic, everything, &two)
	round := 0
	queuesReached := func(in *inbox, prefix string) int {
		queues := map[int]bool{}
		for _, m := range in.all() {
			if strings.HasPrefix(string(m.Body), prefix+"-") {
				queues[m.Queue.QueueId] = true
			}
		}
		return len(queues)
	}
	// sendRound sends to every queue and waits for all of it: every queue has an owner.
	sendRound := func() string {
		round++
		prefix := fmt.Sprintf("round%d", round)
		sendBodies(t, p, topic, prefix, 8)
		eventually(t, prefix+" to arrive", func() bool {
			return queuesReached(&one, prefix)+queuesReached(&two, prefix) >= 4
		})
		return prefix
	}
	eventually(t, "two queues for each member", func() bool {
		prefix := sendRound()
		return queuesReached(&one, prefix) == 2 && queuesReached(&two, prefix) == 2
	})
	leaver.Shutdown()
	left := time.Now()
	eventually(t, "all queues for the member that stays", func() bool { return queuesReached(&one, sendRound()) == 4 })
	t.Logf("took over after %v", time.Since(left))
}

// A consumer learns of its retry topic with its next look at the routes, half a minute later.
// So the group exists before the consumer that fails.
func TestFailedMessageComesAgainWithItsCount(t *testing.T) {
	t.Parallel()
	c := harness.Shared(t)
	topic, group := newTopic(t, c, 1), unique(t)
	var unused inbox
	startPush(t, c, group, topic, everything, &unused).Shutdown()
	eventually(t, "the retry topic of the group", func() bool { return len(queuesOf(t, c, "%RETRY%"+group)) == 1 })
	var in inbox
	push, err := rocketmq.NewPushConsumer(
		consumer.WithNsResolver(resolver(c)),
		consumer.WithGroupName(group),
		consumer.WithInstance(unique(t)),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { push.Shutdown() })
	if err := push.Subscribe(topic, everything, in.failOnce); err != nil {
		t.Fatal(err)
	}
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	send(t, newProducer(t, c), primitive.NewMessage(topic, []byte("once more")))
	again := in.wait(t, 2)[1]
	retryOf := again.GetProperty(primitive.PropertyRetryTopic)
	if string(again.Body) != "once more" || again.ReconsumeTimes != 1 || retryOf != topic {
		t.Errorf("came again as %q, reconsumed %d times, from topic %q", again.Body, again.ReconsumeTimes, retryOf)
	}
}

// failOnce fails what comes for the first time, to be delivered again after a second.
func (in *inbox) failOnce(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	in.add(messages...)
	if messages[0].ReconsumeTimes > 0 {
		return consumer.ConsumeSuccess, nil
	}
	again, _ := primitive.GetConcurrentlyCtx(ctx)
	again.DelayLevelWhenNextConsume = 1
	return consumer.ConsumeRetryLater, nil
}
