package broker

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/broker/popserve"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// popHost is what package popserve sees of the broker.
type popHost struct{ *Broker }

func (h popHost) Now() time.Time                                      { return h.c.Now() }
func (h popHost) Address(local netip.AddrPort) netip.Addr             { return h.storeHost(local).Addr() }
func (h popHost) Group(name string) *protocol.SubscriptionGroupConfig { return h.groups.find(name) }
func (h popHost) KnownGroup(name string) *protocol.SubscriptionGroupConfig {
	return h.groups.known(name)
}
func (h popHost) GroupsOf(topic string) []string   { return h.offsets.groupsOf(topic) }
func (h popHost) MayRead(group, topic string) bool { return h.groups.mayRead(group, topic) }
func (h popHost) Members(group string) []string    { return h.clients.ids(group) }
func (h popHost) CheckClientID(id string) error    { return checkClientID(id) }
func (h popHost) IsYoung(q *store.Queue) bool      { return h.isYoung(q) }
func (h popHost) Refusal(err error) error          { return sendFailure(err) }
func (h popHost) NewEntry(r message.Record, q *store.Queue) store.Entry {
	return h.store.EntryFor(r, q)
}

func (h popHost) Settings() popserve.Settings {
	s := h.live()
	return popserve.Settings{
		Permission: s.permission, TransferBytes: s.transferBytes, TransferCount: s.transferCount, PollWaitMax: s.pollWaitMax,
		RetryTopicV2: s.retryTopicV2, ScanEntries: filterScanBytes / entrySize, ProbeBytes: filterProbeBytes,
		LightQueuesMax: h.c.Light.QueuesMax, LiteSubscriptionsMax: h.c.Light.SubscriptionsMax, LiteSubscriptionTimeout: h.c.Light.SubscriptionTimeout,
		LiteExpiryCheck: h.c.Light.ExpiryCheck, LiteKeptMin: h.c.Light.KeptMin,
	}
}

func (h popHost) Topic(name string) *popserve.Topic {
	if t := h.topics.find(name); t != nil {
		return &t.popped
	}
	return nil
}

func (h popHost) TopicsWith(prefix string) (list []*popserve.Topic) {
	for name, t := range h.topics.topics {
		if strings.HasPrefix(name, prefix) {
			list = append(list, &t.popped)
		}
	}
	return list
}

func (h popHost) RecordOffsets() { h.offsets.record() }
func (h popHost) EachTimed(topicPrefix string, fn func(r *message.Record) error) error {
	return h.delays.EachWaiting(topicPrefix, fn)
}
func (h popHost) ForgetTimed(topicPrefix string) error { return h.delays.Forget(topicPrefix) }

func (h popHost) EnsureTopic(name string, queues int32) (*popserve.Topic, error) {
	t, err := h.topics.ensure(name, queues)
	if err != nil {
		return nil, err
	}
	return &t.popped, nil
}

func (h popHost) RemoveTopic(name string) error { return h.dropTopic(name, func(error) {}) }

func (h popHost) LiteParents() (minutes map[string]int64, groups map[string][]string) {
	minutes, groups = map[string]int64{}, map[string][]string{}
	h.topics.mu.RLock()
	for name, t := range h.topics.topics {
		if t.lite {
			minutes[name] = attribute.Number(t.config.Attributes, attribute.LiteExpiration, -1)
		}
	}
	h.topics.mu.RUnlock()
	h.groups.mu.RLock()
	for name, g := range h.groups.groups {
		if parent := g.Attributes[attribute.LiteBindTopic]; parent != "" {
			groups[parent] = append(groups[parent], name)
		}
	}
	h.groups.mu.RUnlock()
	for _, list := range groups {
		slices.Sort(list)
	}
	return minutes, groups
}

func (h popHost) CountTopics() int {
	h.topics.mu.RLock()
	defer h.topics.mu.RUnlock()
	return len(h.topics.topics)
}

func (h popHost) TopicsOf(group string) []string { return h.offsets.topicsOf(group) }
func (h popHost) CountOffsets() int              { return h.offsets.named() }
func (h popHost) ForgetOffsets(keys []popserve.Key, done func(error)) {
	list := make([]offsetKey, len(keys))
	for i, k := range keys {
		list[i] = poppedKey(k)
	}
	h.offsets.forget(list, done)
}

func (h popHost) Match(group string, d protocol.SubscriptionData) (store.Match, error) {
	s, err := h.ownSubscription(group, d)
	if err != nil {
		return store.Match{}, err
	}
	return s.match(), nil
}

func (h popHost) Routed(ctx context.Context, topic string) (queues []protocol.MessageQueue, err error) {
	if h.c.Host.Queues != nil {
		return h.c.Host.Queues(ctx, topic)
	}
	if t := h.topics.find(topic); t != nil {
		for id := range t.config.ReadQueues {
			queues = append(queues, protocol.MessageQueue{Topic: topic, BrokerName: h.c.Name, QueueID: id})
		}
	}
	return queues, nil
}

func poppedKey(k popserve.Key) offsetKey { return offsetKey{k.Group, k.Topic, k.Queue} }

func (h popHost) Offset(k popserve.Key) (int64, bool)        { return h.offsets.find(poppedKey(k)) }
func (h popHost) AdvanceOffset(k popserve.Key, offset int64) { h.offsets.advance(poppedKey(k), offset) }
func (h popHost) SetOffset(k popserve.Key, offset int64)     { h.offsets.set(poppedKey(k), offset) }
func (h popHost) TakeReset(k popserve.Key) (offset int64, ok bool) {
	return h.offsets.takeReset(poppedKey(k))
}
func (h popHost) NoteGiven(k popserve.Key, next int64) { h.offsets.gave(poppedKey(k), next) }
func (h popHost) CheckOffsets(k popserve.Key) error    { return h.offsets.checkRoom(poppedKey(k)) }

func (h popHost) CountPopped(topic, group string, queue int32, messages, bytes int, took time.Duration) {
	h.stats.pulled(messages, bytes)
	h.traffic.Pulled(countedAs(topic), countedAs(group), h.topics.isSystem(topic), queue, messages, bytes, took)
}

func (h popHost) Count(kind traffic.Kind, topic, group string) {
	h.traffic.OfKey(traffic.Key{Topic: topic, Group: group, Kind: kind}, false).Add(1, 0)
}

func (h popHost) CountDead(topic, group string) { h.traffic.NoteSentBack(topic, group, true) }
