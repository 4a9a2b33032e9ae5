package broker

import (
	"strings"

	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Retries: CONSUMER_SEND_MSG_BACK (36), and sends to %RETRY%group by codes 10 and 310, which clients fall back to.
//
// What clients see: a message that a consumer sends back comes again in the group's retry topic after a delay, its reconsume times one
// higher, its topic in RETRY_TOPIC and the id of its first copy in ORIGIN_MESSAGE_ID. Delay level 0 leaves it to the broker (3 + times),
// a negative one, or having failed as often as the group or the request allows, takes it to %DLQ%group. Both topics are made when they
// are first needed. The answer comes once the copy is on disk, or written, by the flush mode.
//
// A client's own resend is checked in the same way, but one failure later (more than the maximum, not as many as); and while the group
// holds queue locks it goes to the DLQ at once: an ordered consumer has given the message up.
//
// Differences: a message that is sent back for a queue goes to queue 0 of a retry topic that has been narrowed since; copies in a DLQ
// carry no DELAY property.

// firstRetryLevel is the delay level of the first retry, when the broker chooses.
const firstRetryLevel = 3

func (b *Broker) sendBack(r *remoting.Request) (*remoting.Response, error) {
	h := protocol.SendBackHeader{MaxReconsumeTimes: -1}
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if b.isDraining() {
		return nil, protocol.Errorf(protocol.RespGoAway, "the broker is shutting down")
	}
	g := b.groups.find(h.Group)
	switch {
	case g == nil:
		return nil, protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "subscription group not exist, %s", h.Group)
	case b.live().permission&protocol.PermWrite == 0:
		return nil, protocol.Errorf(protocol.RespNoPermission, "the broker[%s] sending message is forbidden", b.storeHost(r.Conn.LocalAddr()).Addr())
	case g.RetryQueues <= 0: // the group wants no retries
		return nil, nil
	}
	retry, err := b.topics.ensure(message.RetryTopic(h.Group), g.RetryQueues)
	if err != nil {
		return nil, sendFailure(err)
	}
	if retry.config.Perm&protocol.PermWrite == 0 {
		return nil, protocol.Errorf(protocol.RespNoPermission, "the topic[%s] sending message is forbidden", retry.name)
	}
	failed, _, err := b.store.RecordAt(h.Offset)
	if err != nil {
		return nil, protocol.Errorf(protocol.RespSystemError, "look message by offset failed, %d", h.Offset)
	}
	if failed.InnerMessages() > 0 {
		return nil, protocol.Errorf(protocol.RespSystemError, "MESSAGE_ILLEGAL: the record at log position %d holds a batch; send the message itself to %s", h.Offset, retry.name)
	}
	e, err := b.retryOf(&failed, &h, g, retry)
	if err != nil {
		return nil, err
	}
	origin, dead := string(message.Property(e.Record.Properties, message.PropRetryTopic)), string(e.Record.Topic) == message.DLQTopic(h.Group)
	batch := &store.Batch{Entries: []store.Entry{e}, Done: func(_ *store.Batch, err error) {
		if err != nil {
			r.Reply(nil, sendFailure(err))
			return
		}
		b.traffic.NoteSentBack(origin, h.Group, dead)
		r.Reply(nil, nil)
	}}
	if err := b.store.Append(batch); err != nil {
		return nil, sendFailure(err)
	}
	return nil, remoting.ErrLater
}

// retryOf makes the entry that a failed message becomes: one for the retry topic, by way of its delay, or one for the DLQ.
func (b *Broker) retryOf(failed *message.Record, h *protocol.SendBackHeader, g *protocol.SubscriptionGroupConfig, retry *topic) (store.Entry, error) {
	most := g.RetryMaxTimes
	if h.MaxReconsumeTimes >= 0 {
		most = h.MaxReconsumeTimes
	}
	to, queue, level := retry, retry.queue(b.spread(g.RetryQueues)), int(h.DelayLevel)
	if failed.ReconsumeTimes >= most || level < 0 {
		var err error
		if to, err = b.topics.ensure(message.DLQTopic(h.Group), dlqQueues); err != nil {
			return store.Entry{}, sendFailure(err)
		}
		queue, level = to.queue(0), 0
	} else if level == 0 {
		level = firstRetryLevel + int(failed.ReconsumeTimes)
	}
	if queue == nil {
		if queue = to.queue(0); queue == nil {
			return store.Entry{}, protocol.Errorf(protocol.RespSystemError, "topic[%s] has no queue to write to", to.name)
		}
	}
	r := *failed
	r.Topic, r.Properties = to.name, retryProperties(failed)
	r.ReconsumeTimes++
	r.PreparedOffset = 0
	r.StoreHost = b.storeHost(failed.StoreHost)
	e := b.store.EntryFor(r, queue)
	if level > 0 {
		b.delays.Schedule(&e, level, nil)
	}
	if n := e.Record.EncodedPropertiesSize(); n > message.MaxPropertiesSize {
		return e, protocol.Errorf(protocol.RespSystemError, "PROPERTIES_SIZE_EXCEEDED: %d bytes, the limit is %d", n, message.MaxPropertiesSize)
	}
	return e, nil
}

// retryProperties are those of a failed message, with where it came from.
func retryProperties(failed *message.Record) []byte {
	p := message.AppendWithout(nil, failed.Properties, message.PropDelay, message.PropRealTopic, message.PropRealQueueID, message.PropWait, message.PropCRC)
	if message.Property(p, message.PropRetryTopic) == nil {
		p = message.AppendProperty(p, message.PropRetryTopic, failed.Topic)
	}
	if strings.TrimSpace(string(message.Property(p, message.PropOriginMessageID))) == "" {
		p = message.AppendWithout(nil, p, message.PropOriginMessageID)
		p = message.AppendProperty(p, message.PropOriginMessageID, message.AppendOffsetID(nil, failed.StoreHost, failed.PhysicalOffset))
	}
	return message.AppendProperty(p, message.PropWait, []byte("false"))
}

// dlqQueues is how many queues a dead-letter topic is made with (DLQ_NUMS_PER_GROUP).
const dlqQueues = 1

// spread chooses one of n queues.
func (b *Broker) spread(n int32) int32 { return int32(b.stats.uniqueID.Add(1) % uint64(n)) }

// retryTarget applies the rules for sends to %RETRY% topics: the target stays, or is the group's DLQ.
func (b *Broker) retryTarget(q *sendRequest, t *topic, queue *store.Queue) (*topic, *store.Queue, error) {
	group, ok := retryTopicGroup(string(t.name))
	if !ok {
		return t, queue, nil
	}
	if q.batch {
		return nil, nil, protocol.Errorf(protocol.RespMessageIllegal, "batch request does not support retry group %s", t.name)
	}
	g := b.groups.find(group)
	if g == nil {
		return nil, nil, protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "subscription group not exist, %s", group)
	}
	most := g.RetryMaxTimes
	if q.maxReconsumeTimes >= 0 {
		most = q.maxReconsumeTimes
	}
	if q.reconsumeTimes <= most && !b.locks.live(group) {
		return t, queue, nil
	}
	dead, err := b.topics.ensure(message.DLQTopic(group), dlqQueues)
	if err != nil {
		return nil, nil, sendFailure(err)
	}
	if queue = dead.queue(0); queue == nil {
		return nil, nil, protocol.Errorf(protocol.RespSystemError, "topic[%s] has no queue to write to", dead.name)
	}
	q.dead = true
	b.traffic.OfKey(traffic.Key{Topic: string(t.name), Group: group, Kind: traffic.Dead}, false).Add(1, 0)
	return dead, queue, nil
}

// live tells whether any lock of the group has not expired (RebalanceLockManager.isLockAllExpired).
func (t *lockTable) live(group string) bool {
	now := t.b.c.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, holder := range t.locks {
		if k.group == group && now.Sub(holder.renewed) <= lockExpiry {
			return true
		}
	}
	return false
}
