package broker

import (
	"cmp"
	"slices"
	"strings"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/broker/popserve"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
)

// lagsMax bounds the pairs of groups and topics whose lag is told.
const lagsMax = 10_000

// Lag is how far a group is behind in a topic, as RocketMQ's ConsumerLagCalculator counts it. Filters do not count: what a group passes over
// is part of its lag until it has.
type Lag struct {
	Group, Topic string
	Retry        bool // in the topic from which it is given messages again that it has popped
	System       bool
	Messages     int64 // that it has not acknowledged: InFlight and Ready
	InFlight     int64 // that it was given
	Ready        int64 // that it was not given
	BehindMS     int64 // age of the oldest of Messages, 0 when there is none
	QueueingMS   int64 // age of the oldest of Ready
}

// Lags returns them for the groups that have an offset, sorted, and at most lagsMax. Unlike RocketMQ's they go on while a group is offline.
// A topic that a group's members do not subscribe to is left out, and so are retry topics (but those of POP count for their topic), light
// queues and groups of lite topics. It looks at each queue once, and at two messages of each that has a lag.
func (b *Broker) Lags() (list []Lag) {
	for _, k := range b.offsets.pairs() {
		if strings.HasPrefix(k.topic, message.RetryPrefix) || b.isLight(k.topic) || b.isLight(k.group) || !b.clients.consumes(k.group, k.topic) {
			continue
		}
		g, t := b.groups.known(k.group), b.topics.find(k.topic)
		if g == nil || t == nil || g.Attributes[attribute.LiteBindTopic] != "" {
			continue
		}
		topics := []*topic{t}
		for _, v2 := range []bool{false, true} {
			if retry := b.topics.find(message.PopRetryTopic(k.topic, k.group, v2)); retry != nil {
				topics = append(topics, retry)
			}
		}
		for i, t := range topics {
			if len(list) == lagsMax {
				return list
			}
			lag := Lag{Group: k.group, Topic: k.topic, Retry: i > 0, System: t.system || isSystemGroup(k.group) || slices.Contains(systemGroups, k.group)}
			if err := b.addLag(&lag, t); err != nil {
				b.log.Warn("the lag of a group is not known", "group", k.group, "topic", t.config.TopicName, "error", err)
				continue
			}
			if n := len(list); lag.Retry && n > 0 && list[n-1].Retry && list[n-1].Group == lag.Group && list[n-1].Topic == lag.Topic {
				list[n-1].add(&lag) // both forms of a retry topic's name are one to the group
				continue
			}
			list = append(list, lag)
		}
	}
	return list
}

func (l *Lag) add(o *Lag) {
	l.Messages, l.InFlight, l.Ready = l.Messages+o.Messages, l.InFlight+o.InFlight, l.Ready+o.Ready
	l.BehindMS, l.QueueingMS = max(l.BehindMS, o.BehindMS), max(l.QueueingMS, o.QueueingMS)
}

// addLag adds what the group has before it in the queues of a topic.
func (b *Broker) addLag(l *Lag, t *topic) error {
	for id := range t.config.WriteQueues {
		q := t.queue(id)
		k := offsetKey{l.Group, t.config.TopicName, id}
		offset, next := b.offsets.progress(k)
		if offset < 0 {
			if offset = next; next == 0 && !l.Retry { // nothing was asked for; a retry topic is read from its start
				continue
			}
		}
		first, end := q.Bounds()
		offset = min(max(offset, first), end)
		next = min(max(next, offset), end)
		inFlight := next - offset
		if popped, left, ok := b.pop.Progress(popserve.Key{Group: k.group, Topic: k.topic, Queue: k.queue}); ok && popped >= next {
			next, inFlight = min(popped, end), left
		}
		add := Lag{Messages: inFlight + end - next, InFlight: inFlight, Ready: end - next}
		var err error
		if add.Messages > 0 {
			if add.BehindMS, err = b.age(q, offset); err != nil {
				return err
			}
		}
		if add.Ready > 0 {
			if add.QueueingMS, err = b.age(q, next); err != nil {
				return err
			}
		}
		l.add(&add)
	}
	return nil
}

// age returns for how many ms a message has been in its queue, 0 when it is not there any more.
func (b *Broker) age(q *store.Queue, offset int64) (int64, error) {
	now := b.c.Now().UnixMilli()
	at, err := b.storeTime(q, offset, now)
	return max(0, now-at), err
}

// pairs returns the groups and topics that have offsets, or pulls, sorted; the queue of each is 0.
func (t *offsetTable) pairs() []offsetKey {
	seen := map[offsetKey]struct{}{}
	t.mu.Lock()
	for k := range t.offsets {
		seen[offsetKey{group: k.group, topic: k.topic}] = struct{}{}
	}
	for k := range t.given {
		seen[offsetKey{group: k.group, topic: k.topic}] = struct{}{}
	}
	t.mu.Unlock()
	list := make([]offsetKey, 0, len(seen))
	for k := range seen {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b offsetKey) int { return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.topic, b.topic)) })
	return list
}
