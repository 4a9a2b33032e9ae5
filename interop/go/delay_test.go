package interop

import (
	"context"
	"fmt"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/apogeemq/apogee/interop/go/harness"
)

// A message of a delay level arrives when its time has come, as it was sent.
func TestDelayLevelsDeliverAtTheirTime(t *testing.T) {
	const lateMax = 3 * time.Second // on a busy machine; that the moment is exact is TestEveryLevelDeliversAtItsTime's to show
	t.Parallel()
	c := harness.Shared(t)
	topic := newTopic(t, c, 1)
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	p := newProducer(t, c)
	sendBodies(t, p, topic, "settled", 1)
	in.wait(t, 1)
	levels := map[int]time.Duration{1: time.Second, 2: 5 * time.Second}
	due := map[string]time.Time{}
	for level, delay := range levels {
		for i := range 10 {
			m := primitive.NewMessage(topic, fmt.Appendf(nil, "level %d, %d", level, i))
			m.WithTag("blue").WithDelayTimeLevel(level)
			m.WithProperty("mine", "kept")
			due[string(m.Body)] = time.Now().Add(delay) // at the earliest
			send(t, p, m)
		}
	}
	for i, m := range in.wait(t, 21)[1:] {
		at, ok := due[string(m.Body)]
		late := in.timeOf(i + 1).Sub(at)
		if !ok || m.Topic != topic || m.GetTags() != "blue" || m.GetProperty("mine") != "kept" {
			t.Errorf("received %s", m)
		}
		if late < -10*time.Millisecond || late > lateMax { // the broker counts whole milliseconds, of another clock
			t.Errorf("%q came %v after it was due", m.Body, late)
		}
		delete(due, string(m.Body))
	}
	if len(due) > 0 {
		t.Errorf("did not come: %v", due)
	}
}

// What fails as often as the consumer allows comes to rest in the group's dead-letter topic.
func TestWhatKeepsFailingEndsInTheDeadLetterTopic(t *testing.T) {
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
		consumer.WithMaxReconsumeTimes(1),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { push.Shutdown() })
	err = push.Subscribe(topic, everything, func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		in.add(messages...)
		again, _ := primitive.GetConcurrentlyCtx(ctx)
		again.DelayLevelWhenNextConsume = 1
		return consumer.ConsumeRetryLater, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	sent := send(t, newProducer(t, c), primitive.NewMessage(topic, []byte("poison")).WithKeys([]string{"key"}))
	dlq := "%DLQ%" + group
	eventually(t, "the dead-letter topic of the group", func() bool { return len(queuesOf(t, c, dlq)) == 1 })
	var dead inbox
	startPush(t, c, unique(t), dlq, everything, &dead)
	m := dead.wait(t, 1)[0]
	if string(m.Body) != "poison" || m.GetKeys() != "key" || m.ReconsumeTimes != 2 ||
		m.GetProperty(primitive.PropertyRetryTopic) != topic || m.GetProperty(primitive.PropertyOriginMessageId) != sent.OffsetMsgID {
		t.Errorf("dead letter: %s", m)
	}
	if got := in.all(); len(got) != 2 || got[0].ReconsumeTimes != 0 || got[1].ReconsumeTimes != 1 {
		t.Errorf("it was consumed %d times before", len(got))
	}
}

// TestKill9WhileDelayedMessagesFallDue kills the broker with SIGKILL in the middle of their delivery: each is delivered once.
func TestKill9WhileDelayedMessagesFallDue(t *testing.T) {
	const (
		messages = 3_000
		kills    = 3
		settle   = 2 * time.Second
	)
	t.Parallel()
	s, c := harness.Own(t)
	topic := newTopic(t, c, 1)
	p := newProducer(t, c)
	missing := map[string]bool{}
	began := time.Now()
	for i := range messages {
		m := primitive.NewMessage(topic, fmt.Append(nil, "delayed ", i))
		send(t, p, m.WithDelayTimeLevel(1))
		missing[string(m.Body)] = true
	}
	sending := time.Since(began)
	time.Sleep(time.Until(began.Add(time.Second)))
	for range kills { // spread over the time that the deliveries take
		time.Sleep(sending / (kills + 1))
		s.Kill()
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	pull := startPull(t, c, unique(t), topic)
	queue := queuesOf(t, c, topic)[0]
	end := func() int64 {
		result, err := pull.PullFrom(t.Context(), queue, 0, 1)
		if err != nil {
			return -1
		}
		return result.MaxOffset
	}
	eventually(t, "all delayed messages", func() bool { return end() >= messages })
	time.Sleep(settle)
	if got := end(); got != messages {
		t.Errorf("%d were sent and %d delivered", messages, got)
	}
	for _, m := range readQueue(t, pull, queue, messages) {
		if !missing[string(m.Body)] {
			t.Errorf("%q was delivered twice", m.Body)
		}
		delete(missing, string(m.Body))
	}
	if len(missing) > 0 {
		t.Errorf("%d were not delivered", len(missing))
	}
}
