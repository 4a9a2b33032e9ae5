package broker

import (
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// Limits of what clients can make the broker remember. RocketMQ has none of them.
const (
	// DefaultQueuesMax bounds the queues of all topics together; a topic counts for one at least.
	DefaultQueuesMax = 1 << 20
	// DefaultGroupsMax bounds the consumer groups.
	DefaultGroupsMax = 100_000

	// topicQueuesMax bounds a topic's queues.
	topicQueuesMax = 65536
	// offsetsMax bounds the offsets of all groups together, and how far they pulled, which is kept for statistics only.
	offsetsMax = 1 << 22
	// locksMax bounds the locks of all groups together, locksSweptMax how many that have expired are forgotten in one record.
	locksMax      = 1 << 20
	locksSweptMax = 1 << 16
	// trafficMax bounds the counters of topics and groups; beyond it what is pulled counts without names.
	trafficMax = 1 << 20
	// heldPullsMax bounds the pulls that are held.
	heldPullsMax = 1 << 18
	// clientIDBytesMax bounds a client's id.
	clientIDBytesMax = 1024
	// groupNameBytesMax bounds the name of a producer group, which is not checked otherwise.
	groupNameBytesMax = 255
	// clientGroupsMax bounds the groups, of producers and of consumers, that one connection is in.
	clientGroupsMax = 10_000
	// subscriptionBytesMax bounds the expression of a subscription.
	subscriptionBytesMax = 64 << 10
	// batchMessagesMax bounds a batch: tiny messages cost many times their size until they are stored.
	batchMessagesMax = 32768
	// roundEntriesKept is how many messages a round of sends may have had for its memory to be used again.
	roundEntriesKept = 4096
	// propertiesLinesMax bounds a properties text.
	propertiesLinesMax = 1000
)

// queueCount is what a topic counts for queuesMax.
func queueCount(c *protocol.TopicConfig) int { return int(max(c.ReadQueues, c.WriteQueues, 1)) }

// checkRoom refuses topics that would have too many queues together with the others. The caller holds mu.
func (t *topicTable) checkRoom(list ...protocol.TopicConfig) error {
	n := t.queues
	for i := range list {
		n += queueCount(&list[i])
		if old := t.topics[list[i].TopicName]; old != nil {
			n -= queueCount(&old.config)
		}
	}
	if n > t.b.c.QueuesMax && n > t.queues {
		return protocol.Errorf(protocol.RespSystemError, "topic[%s]: all topics together would have %d queues, the limit is queuesMax=%d; delete topics, or raise it",
			list[0].TopicName, n, t.b.c.QueuesMax)
	}
	return nil
}

// checkRoom refuses new groups when there are too many. The caller holds mu.
func (t *groupTable) checkRoom(list []*protocol.SubscriptionGroupConfig) error {
	n := len(t.groups)
	for _, c := range list {
		if t.groups[c.GroupName] == nil {
			n++
		}
	}
	if n > t.b.c.GroupsMax && n > len(t.groups) {
		return protocol.Errorf(protocol.RespSystemError, "group %s: there would be %d groups, the limit is groupsMax=%d; delete groups, or raise it", list[0].GroupName, n, t.b.c.GroupsMax)
	}
	return nil
}

// checkClientID refuses a client's id that is no name.
func checkClientID(id string) error {
	if len(id) > clientIDBytesMax {
		return protocol.Errorf(protocol.RespInvalidParameter, "the client id has %d bytes, the limit is clientIDBytesMax=%d; choose a shorter instance name: %.100q", len(id), clientIDBytesMax, id)
	}
	return nil
}

// checkHeartbeat refuses what would cost memory and mean nothing.
func checkHeartbeat(h *protocol.Heartbeat) error {
	if err := checkClientID(h.ClientID); err != nil {
		return err
	}
	if n := len(h.Producers) + len(h.Consumers); n > clientGroupsMax {
		return protocol.Errorf(protocol.RespInvalidParameter, "client %s is in %d groups, the limit is clientGroupsMax=%d; use more clients", h.ClientID, n, clientGroupsMax)
	}
	for _, p := range h.Producers {
		if len(p.Group) > groupNameBytesMax {
			return protocol.Errorf(protocol.RespInvalidParameter, "the producer group has %d bytes, the limit is groupNameBytesMax=%d; choose a shorter name: %.100q", len(p.Group), groupNameBytesMax, p.Group)
		}
	}
	for i := range h.Consumers {
		for k := range h.Consumers[i].Subscriptions {
			d := &h.Consumers[i].Subscriptions[k]
			if err := checkSubscription(d); err != nil {
				return err
			}
			// What the broker needs is the expression; it computes the codes itself.
			if len(d.Tags) > subscriptionBytesMax || len(d.Codes) > subscriptionBytesMax {
				return protocol.Errorf(protocol.RespSubscriptionParseFailed, "the subscription to topic %s has %d tags, the limit is subscriptionBytesMax=%d; subscribe to fewer", d.Topic, len(d.Tags), subscriptionBytesMax)
			}
		}
	}
	return nil
}

// checkSubscription bounds the expression and the name of a subscription.
func checkSubscription(d *protocol.SubscriptionData) error {
	if n := len(d.Expression); n > subscriptionBytesMax {
		return protocol.Errorf(protocol.RespSubscriptionParseFailed, "the subscription to topic %.100q has %d bytes, the limit is subscriptionBytesMax=%d; shorten it: %.100q", d.Topic, n, subscriptionBytesMax, d.Expression)
	}
	if n := len(d.Topic); n > message.MaxRetryTopicLength {
		return protocol.Errorf(protocol.RespSubscriptionParseFailed, "the subscribed topic has %d bytes, the limit is %d: %.100q", n, message.MaxRetryTopicLength, d.Topic)
	}
	return nil
}
