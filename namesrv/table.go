package namesrv

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

const (
	masterID             = 0
	brokerTimeoutDefault = 2 * time.Minute
)

// table is the name server's state. It does no I/O and knows no clock: times are handed in, what is to be done is handed out.
type table struct {
	cfg      Config
	version  uint64                          // changes with everything stored here that a route depends on
	topics   map[string][]protocol.QueueData // by topic; ordered by broker name
	brokers  map[string]*broker              // by name
	live     map[brokerKey]*liveness
	mappings map[string]map[string]any // static topics: topic, broker name, TopicQueueMappingInfo
	owners   []*localBroker            // the local brokers whose topics count
	kv       keyValues
	pairs    int // of topic and broker name, in topics
}

// broker is a broker name: one master and its slaves.
type broker struct {
	name, cluster, zone string
	actingMaster        bool
	addrs               map[int64]address // by broker id
}

// brokerKey names one broker process.
type brokerKey struct {
	cluster string
	addr    address
}

// liveness is what the last registration of a broker process said. A local broker's never expires.
type liveness struct {
	name    string
	id      int64
	last    time.Time
	timeout time.Duration
	version protocol.DataVersion
	conn    Peer       // compared only
	via     netip.Addr // this end of conn
	ha      string
	filters []string
	size    int
}

// effects is what the caller has to do after it released the lock.
type effects struct {
	closing []Peer
	pushes  []push
	events  []event
}

// push is a request to a broker's own address.
type push struct {
	addr   string
	header protocol.NotifyMinBrokerHeader
}

// event is worth a line in the log.
type event struct {
	what string
	key  brokerKey
	name string
	id   int64
}

func (e *effects) add(more effects) {
	e.closing = append(e.closing, more.closing...)
	e.pushes = append(e.pushes, more.pushes...)
	e.events = append(e.events, more.events...)
}

func newTable(cfg Config, kv keyValues) *table {
	return &table{
		cfg:      cfg,
		topics:   map[string][]protocol.QueueData{},
		brokers:  map[string]*broker{},
		live:     map[brokerKey]*liveness{},
		mappings: map[string]map[string]any{},
		kv:       kv,
	}
}

func (b *broker) minID() int64 {
	first, low := true, int64(0)
	for id := range b.addrs {
		if first || id < low {
			first, low = false, id
		}
	}
	return low
}

// owner is the local broker whose topics are the broker name's.
func (b *broker) owner() *localBroker {
	if len(b.addrs) == 0 {
		return nil
	}
	return b.addrs[b.minID()].local
}

// readOnly says whether a slave acts for a missing master, which takes reads only.
func (b *broker) readOnly() bool { return b.actingMaster && b.minID() > masterID }

func queueData(name string, c *protocol.TopicConfig, readOnly bool) protocol.QueueData {
	q := protocol.QueueData{BrokerName: name, ReadQueues: c.ReadQueues, WriteQueues: c.WriteQueues, Perm: c.Perm, SysFlag: c.SysFlag, SynFlag: c.SysFlag}
	if readOnly {
		q.Perm &^= protocol.PermWrite
	}
	return q
}

// storedQueues returns the topic's stored queues on the broker name, nil when there are none.
func (t *table) storedQueues(topic, name string) *protocol.QueueData {
	all := t.topics[topic]
	if i, ok := slices.BinarySearchFunc(all, name, byBrokerName); ok {
		return &all[i]
	}
	return nil
}

func byBrokerName(q protocol.QueueData, name string) int { return cmp.Compare(q.BrokerName, name) }

func (t *table) storeQueues(topic string, q protocol.QueueData) {
	all := t.topics[topic]
	i, ok := slices.BinarySearchFunc(all, q.BrokerName, byBrokerName)
	switch {
	case !ok:
		t.topics[topic] = slices.Insert(all, i, q)
		t.pairs++
	case all[i] == q:
		return
	default:
		all[i] = q
	}
	t.version++
}

func (t *table) removeQueues(topic string, gone func(name string) bool) {
	all, ok := t.topics[topic]
	if !ok {
		return
	}
	left := slices.DeleteFunc(all, func(q protocol.QueueData) bool { return gone(q.BrokerName) })
	if len(left) == len(all) {
		return
	}
	t.version++
	t.pairs -= len(all) - len(left)
	if len(left) == 0 {
		delete(t.topics, topic)
		delete(t.mappings, topic)
		return
	}
	t.topics[topic] = left
}

// brokersChanged recomputes whose topics are read from a local broker. What was stored for a broker name that it takes over goes.
func (t *table) brokersChanged() {
	t.version++
	before := t.owners
	t.owners = nil
	taken := false
	for _, b := range t.brokers {
		if l := b.owner(); l != nil {
			t.owners = append(t.owners, l)
			taken = taken || !slices.Contains(before, l)
		}
	}
	slices.SortFunc(t.owners, func(a, b *localBroker) int { return cmp.Compare(a.Name, b.Name) })
	if taken {
		for topic := range t.topics {
			t.removeQueues(topic, t.owned)
		}
	}
}

func (t *table) owned(name string) bool {
	for _, l := range t.owners {
		if l.Name == name {
			return true
		}
	}
	return false
}

// eachTopic calls yield with every topic that clients may see and its queues on one broker name.
func (t *table) eachTopic(yield func(topic string, q protocol.QueueData)) {
	for topic, queues := range t.topics {
		for _, q := range queues {
			yield(topic, q)
		}
	}
	for _, l := range t.owners {
		readOnly := t.brokers[l.Name].readOnly()
		l.Topics.Topics(func(c protocol.TopicConfig) bool {
			if !message.IsStateTopic(c.TopicName) {
				yield(c.TopicName, l.data(&c, readOnly))
			}
			return true
		})
	}
}

// topicList returns the topics of which keep says so for one of their brokers, sorted.
func (t *table) topicList(keep func(q protocol.QueueData) bool) protocol.TopicList {
	set := map[string]struct{}{}
	t.eachTopic(func(topic string, q protocol.QueueData) {
		if keep(q) {
			set[topic] = struct{}{}
		}
	})
	return protocol.TopicList{Topics: sorted(set)}
}

// clusters returns the broker names by cluster.
func (t *table) clusters() map[string][]string {
	all := map[string][]string{}
	for _, b := range t.brokers {
		all[b.cluster] = append(all[b.cluster], b.name)
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

func sorted(set map[string]struct{}) []string {
	all := slices.AppendSeq(make([]string, 0, len(set)), maps.Keys(set)) // never nil: an empty list is [] on the wire
	slices.Sort(all)
	return all
}
