package broker

import (
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/broker/popserve"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Light queues (LMQ): with enableLmq every topic and every group whose name begins with %LMQ% is there, without a configuration; such a topic
// has one queue, 0. With enableMultiDispatch, too, a message that names light queues in INNER_MULTI_DISPATCH stands in each of them as well as
// in its own, once it is delivered, and has its offsets there in INNER_MULTI_QUEUE_OFFSET.
//
// What clients see: LmqTopicConfigManager, LmqSubscriptionGroupManager, LmqDispatch of RocketMQ. Name servers know no light topics: who pulls
// from one knows the broker. Traffic of all light topics, and of all light groups, is counted together, under %LMQ%. With enableLmqQuota a
// message that needs a new queue beyond maxLmqConsumeQueueNum is answered 2017. Differences: a list with a name that is no light queue's is
// refused, because RocketMQ stores such a message and its dispatch fails on it; the messages of a transaction are dispatched when it
// is committed, not before; a queue that is named twice has the message once; light queues count for queuesMax.

// LightOptions are those of light queues.
type LightOptions struct {
	Enable        bool // enableLmq
	MultiDispatch bool // enableMultiDispatch
	Quota         bool // enableLmqQuota
	QueuesMax     int  // maxLmqConsumeQueueNum

	SubscriptionsMax    int           // maxLiteSubscriptionCount: to lite topics
	SubscriptionTimeout time.Duration // liteSubscriptionCheckTimeoutMills: those of a client that is silent for so long end
	ExpiryCheck         time.Duration // liteTtlCheckInterval: between looks for lite topics that are too old
	KeptMin             time.Duration // minLiteTTl: how long they are kept at least
}

// DefaultLightOptions are RocketMQ's.
func DefaultLightOptions() LightOptions {
	return LightOptions{
		QueuesMax: 20_000, SubscriptionsMax: 100_000, SubscriptionTimeout: 3 * time.Minute, ExpiryCheck: 2 * time.Minute, KeptMin: 15 * time.Minute,
	}
}

// isLight tells whether a topic or a group is there without having been made.
func (b *Broker) isLight(name string) bool { return b.c.Light.Enable && message.IsLMQ(name) }

// light returns a light topic, nil where its queue would be one too many. It is made for who asks, and is not kept.
func (t *topicTable) light(name string) *topic {
	queue := t.b.store.Find(name, 0)
	if queue == nil {
		if names, ok := message.LightQueues([]byte(name)); !ok || len(names) != 1 || t.lightRoom(name) != nil {
			return nil
		}
		queue = t.b.store.Queue(name, 0)
	}
	n := &topic{
		config: protocol.TopicConfig{
			TopicName: name, ReadQueues: 1, WriteQueues: 1, Perm: protocol.PermRead | protocol.PermWrite, FilterType: protocol.FilterTypeSingleTag,
		},
		name: []byte(name), queues: []*store.Queue{queue}, light: true,
		traffic: t.b.traffic.Of(message.LMQPrefix, "", false), sendTimes: make([]atomic.Pointer[traffic.Counter], 1),
	}
	n.popped = popserve.Topic{Name: n.name, Config: &n.config, Queues: n.queues}
	return n
}

// lightRoom refuses a light queue that would be new when there are too many.
func (t *topicTable) lightRoom(name string) error {
	there := t.b.store.LightQueues()
	t.mu.RLock()
	all := there + t.queues
	t.mu.RUnlock()
	o := &t.b.c.Light
	if quota := o.Quota && there >= o.QueuesMax; !quota && all < t.b.c.QueuesMax || t.b.store.Find(name, 0) != nil {
		return nil
	} else if quota {
		return protocol.Errorf(protocol.RespLMQQuotaExceeded, "[LMQ_CONSUME_QUEUE_NUM_EXCEEDED]lmq consume queue num exceeded. There are %d, the limit is maxLmqConsumeQueueNum=%d; use fewer, or raise it: %s would be new",
			there, o.QueuesMax, name)
	}
	return protocol.Errorf(protocol.RespSystemError, "queue %s: all topics together have %d queues, the limit is queuesMax=%d; delete topics, or raise it", name, all, t.b.c.QueuesMax)
}

// namesLite has a message stand in the light queue of its lite topic (SendMessageProcessor). A parent topic says by its type that there
// must be such queues; RocketMQ would store a message that no consumer of lite topics ever gets.
func (s *sendSink) namesLite(q *sendRequest, lite []byte) error {
	b := s.b
	if !b.c.Light.Enable || !b.c.Light.MultiDispatch {
		if s.topic.lite {
			return b.illegal("%s=%.100s: topic %s is of lite topics, which this broker does not have; set enableLmq=true and enableMultiDispatch=true",
				message.PropLiteTopic, lite, q.topic)
		}
		return nil
	}
	if err := message.CheckLite(string(q.topic), string(lite)); err != nil {
		return b.illegal("%s", err)
	}
	q.light, q.lite = []byte(message.LiteQueue(string(q.topic), string(lite))), true
	return nil
}

// dispatch has a message stand in the light queues that it names, or refuses it.
func (s *sendSink) dispatch(e *store.Entry, q *sendRequest) error {
	b := s.b
	if !b.c.Light.Enable || !b.c.Light.MultiDispatch || !message.MayDispatch(q.topic) {
		return nil
	}
	names, ok := message.LightQueues(q.light)
	if !ok {
		return b.illegal("%s=%.200s: want names that begin with %s, without /, of at most lmqNameMax=255 bytes", message.PropMultiDispatch, q.light, message.LMQPrefix)
	}
	if n := e.Record.EncodedPropertiesSize() + message.StampsSize(message.PropMultiOffset, len(names)); n > message.MaxPropertiesSize {
		return b.illegal("the properties are %d bytes long with the offsets in %d light queues, %d are possible", n, len(names), message.MaxPropertiesSize)
	}
	for _, name := range names {
		if err := b.topics.lightRoom(string(name)); err != nil {
			return err
		}
	}
	s.round.arena = b.store.Number(e, s.round.arena)
	return nil
}

// countedAs is the name that traffic of a topic or a group is counted under (LmqBrokerStatsManager).
func countedAs(name string) string {
	if message.IsLMQ(name) {
		return message.LMQPrefix
	}
	return name
}
