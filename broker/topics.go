package broker

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/broker/popserve"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// topic is a topic with its queues at hand. A send path holds it across rounds: a change makes a new value and marks the old one stale.
type topic struct {
	config    protocol.TopicConfig
	name      []byte
	queues    []*store.Queue // max(read, write) of them
	forbidden bool           // clients may not send to it
	system    bool
	compacts  bool           // cleanup.policy=COMPACTION: the last message of a key is left
	batches   bool           // those that are sent to it are one record
	light     bool           // it has no configuration
	lite      bool           // message.type=LITE: messages stand in queues of lite topics
	popped    popserve.Topic // what POP sees of it
	traffic   *traffic.Counter
	sendTimes []atomic.Pointer[traffic.Counter] // of each queue that was sent to
	stale     atomic.Bool
}

// queue maps a queue id, as clients know it, to the queue that holds its messages. The mapping is the identity today; static topics and
// repartitioning change it here.
func (t *topic) queue(id int32) *store.Queue {
	if id < 0 || int(id) >= len(t.queues) {
		return nil
	}
	return t.queues[id]
}

// sendTime returns the counter of how long sends to a queue took.
func (t *topic) sendTime(b *Broker, queue int32) *traffic.Counter {
	c := t.sendTimes[queue].Load()
	if c == nil {
		c = b.traffic.OfKey(traffic.Key{Topic: countedAs(t.config.TopicName), Kind: traffic.SendTime, Queue: queue}, t.system)
		t.sendTimes[queue].Store(c)
	}
	return c
}

// topicTable holds the topics' configuration: kind "topics" of the state, name -> TopicConfig as JSON, and "" -> DataVersion.
// System topics come from the configuration at every start and are not written.
type topicTable struct {
	b *Broker

	mu      sync.RWMutex // guards what follows; writers hold it while they append to the log, so that the log has their order
	topics  map[string]*topic
	queues  int // as checkRoom counts them
	version protocol.DataVersion
	changed func() // told after each change
}

func newTopicTable(b *Broker) *topicTable {
	return &topicTable{b: b, topics: map[string]*topic{}, changed: func() {}}
}

func (t *topicTable) load() error {
	// a table that was never changed has the same version after every start
	t.version = protocol.DataVersion{Timestamp: 0, Counter: 0}
	for _, c := range t.systemTopics() {
		t.put(c)
	}
	return t.b.store.State(kindTopics, func(key string, value []byte) error {
		if key == "" {
			return json.Unmarshal(value, &t.version)
		}
		var c protocol.TopicConfig
		if err := json.Unmarshal(value, &c); err != nil {
			return fmt.Errorf("topic %s: %w", key, err)
		}
		t.put(c)
		return nil
	})
}

// systemTopics are those that every broker has (TopicConfigManager.init).
func (t *topicTable) systemTopics() []protocol.TopicConfig {
	const rw = protocol.PermRead | protocol.PermWrite
	c := &t.b.c
	system := func(name string, queues, perm int32) protocol.TopicConfig {
		return protocol.TopicConfig{TopicName: name, ReadQueues: queues, WriteQueues: queues, Perm: perm, FilterType: protocol.FilterTypeSingleTag}
	}
	list := []protocol.TopicConfig{
		system(message.TopicSelfTest, 1, rw),
		system(message.TopicBenchmark, 1024, rw),
		system(c.Cluster, 16, rw|protocol.PermInherit),
		system(c.Name, 1, rw|protocol.PermInherit),
		system(message.TopicOffsetMoved, 1, rw),
		system(message.TopicSchedule, 18, rw),
		system(c.Cluster+"_"+message.ReplyTopicSuffix, 1, rw),
		system(message.ReviveLogPrefix+c.Cluster, 8, rw),
		system(message.SyncMemberPrefix+c.Name, 1, protocol.PermInherit),
		system(message.TopicHalf, 1, rw),
		system(message.TopicOpHalf, 1, rw),
		system(message.TopicRocksHalf, 1, rw),
		system(message.TopicRocksOpHalf, 1, rw),
		system(message.TopicTimerWheel, 1, rw),
	}
	if t.b.live().autoCreateTopic {
		list = append(list, system(message.TopicAutoCreate, t.b.live().defaultTopicQueues, rw|protocol.PermInherit))
	}
	if c.TraceTopic {
		list = append(list, system(message.TopicTrace, 1, rw))
	}
	return list
}

// isSystem tells whether the broker owns the topic.
func (t *topicTable) isSystem(name string) bool {
	c := &t.b.c
	return message.IsSystemTopic(name) || name == c.Cluster || name == c.Name || name == c.Cluster+"_"+message.ReplyTopicSuffix
}

// queueFor returns a queue of a topic, and the topic's name in memory that stays; nil for none.
func (t *topicTable) queueFor(name []byte, id int32) ([]byte, *store.Queue) {
	if found := t.findBytes(name); found != nil {
		return found.name, found.queue(id)
	}
	return nil, nil
}

// put enters a topic. The caller holds mu, or nobody else is there yet.
func (t *topicTable) put(c protocol.TopicConfig) *topic {
	n := &topic{config: c, name: []byte(c.TopicName), forbidden: message.IsForbiddenToSend(c.TopicName), system: t.isSystem(c.TopicName),
		compacts: c.Attributes[attribute.CleanupPolicy] == attribute.Compaction}
	n.lite = c.Attributes[attribute.MessageType] == attribute.Lite
	n.batches = c.Attributes[attribute.QueueType] == attribute.BatchQueue && !n.compacts
	n.sendTimes = make([]atomic.Pointer[traffic.Counter], max(c.ReadQueues, c.WriteQueues))
	n.traffic = t.b.traffic.Of(c.TopicName, "", n.system)
	for id := range max(c.ReadQueues, c.WriteQueues) {
		n.queues = append(n.queues, t.b.store.Queue(c.TopicName, id))
	}
	n.popped = popserve.Topic{Name: n.name, Config: &n.config, Queues: n.queues}
	if old := t.topics[c.TopicName]; old != nil {
		old.stale.Store(true)
		t.queues -= queueCount(&old.config)
	}
	t.topics[c.TopicName] = n
	t.queues += queueCount(&c)
	return n
}

// compacted returns the names of the compaction topics.
func (t *topicTable) compacted() (names []string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name, topic := range t.topics {
		if topic.compacts {
			names = append(names, name)
		}
	}
	return names
}

// configured returns a topic that was made, nil when there is none.
func (t *topicTable) configured(name string) *topic {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.topics[name]
}

// find returns a topic, nil when there is none.
func (t *topicTable) find(name string) *topic {
	found := t.configured(name)
	if found == nil && t.b.isLight(name) {
		return t.light(name)
	}
	return found
}

// findBytes is find without making a string.
func (t *topicTable) findBytes(name []byte) *topic {
	t.mu.RLock()
	found := t.topics[string(name)]
	t.mu.RUnlock()
	if found == nil {
		return t.find(string(name))
	}
	return found
}

// set creates or changes a topic; done is told once it is durable. The topic is usable at once: what is appended to it comes behind its
// record in the log.
func (t *topicTable) set(c protocol.TopicConfig, done func(error)) (*topic, error) {
	t.mu.Lock()
	n, err := t.setLocked(c, done)
	t.mu.Unlock()
	if err == nil {
		t.changed()
	}
	return n, err
}

func (t *topicTable) setLocked(c protocol.TopicConfig, done func(error)) (*topic, error) {
	if err := t.checkRoom(c); err != nil {
		return nil, err
	}
	version := t.next()
	changes := []store.Mutation{{Key: c.TopicName, Value: protocol.MarshalBody(c)}, {Key: "", Value: protocol.MarshalBody(version)}}
	if err := t.b.update(kindTopics, done, changes...); err != nil {
		return nil, err
	}
	t.version = version
	return t.put(c), nil
}

func (t *topicTable) next() protocol.DataVersion {
	v := t.version
	v.Counter++
	v.Timestamp = t.b.c.Now().UnixMilli()
	return v
}

// remove deletes a topic and its queues; done is told once that is durable.
func (t *topicTable) remove(name string, done func(error)) error {
	t.mu.Lock()
	defer t.changed()
	defer t.mu.Unlock()
	version := t.next()
	// The queues go first: were the topic's record to come first, a crash between the two would leave them to a new topic of that name.
	if err := t.b.update(store.KindQueues, func(error) {}, store.Mutation{Key: name}); err != nil {
		return err
	}
	err := t.b.update(kindTopics, done, store.Mutation{Key: name}, store.Mutation{Key: "", Value: protocol.MarshalBody(version)})
	if err != nil {
		return err
	}
	t.version = version
	if old := t.topics[name]; old != nil {
		old.stale.Store(true)
		t.queues -= queueCount(&old.config)
		delete(t.topics, name)
	}
	return nil
}

// autoCreate makes a topic from the template that the producer names, as RocketMQ does
// (TopicConfigManager.createTopicInSendMessageMethod); nil when it may not.
func (t *topicTable) autoCreate(name, template string, queues int32) (*topic, error) {
	t.mu.Lock()
	if there := t.topics[name]; there != nil {
		t.mu.Unlock()
		return there, nil
	}
	from := t.topics[template]
	if from == nil || from.config.Perm&protocol.PermInherit == 0 || template == message.TopicAutoCreate && !t.b.live().autoCreateTopic {
		t.mu.Unlock()
		return nil, nil
	}
	n := max(0, min(queues, from.config.WriteQueues))
	made, err := t.setLocked(protocol.TopicConfig{
		TopicName: name, ReadQueues: n, WriteQueues: n,
		Perm: from.config.Perm &^ protocol.PermInherit, FilterType: from.config.FilterType,
	}, func(error) {})
	t.mu.Unlock()
	if err == nil {
		t.changed()
	}
	return made, err
}

// ensure makes a topic of the broker's own (retry, DLQ) where it is missing.
func (t *topicTable) ensure(name string, queues int32) (*topic, error) {
	if there := t.find(name); there != nil {
		return there, nil
	}
	t.mu.Lock()
	if there := t.topics[name]; there != nil {
		t.mu.Unlock()
		return there, nil
	}
	made, err := t.setLocked(protocol.TopicConfig{
		TopicName: name, ReadQueues: queues, WriteQueues: queues,
		Perm: protocol.PermRead | protocol.PermWrite, FilterType: protocol.FilterTypeSingleTag,
	}, func(error) {})
	t.mu.Unlock()
	if err == nil {
		t.changed()
	}
	return made, err
}

// OnTopicsChanged sets who is told of changes. Before the first request.
func (b *Broker) OnTopicsChanged(f func()) { b.topics.changed = f }

// table returns the topics as they are configured.
func (t *topicTable) table() protocol.TopicConfigTable {
	t.mu.RLock()
	defer t.mu.RUnlock()
	table := protocol.TopicConfigTable{Topics: make(map[string]protocol.TopicConfig, len(t.topics)), DataVersion: t.version}
	for name, topic := range t.topics {
		table.Topics[name] = topic.config
	}
	return table
}

// registered returns a topic's configuration as name servers are told: no more than the broker itself permits
// (BrokerController.registerBrokerAll).
func (b *Broker) registered(c protocol.TopicConfig) protocol.TopicConfig {
	const both = protocol.PermRead | protocol.PermWrite
	if permission := b.live().permission; permission&both != both {
		c.Perm &= permission
	}
	return c
}

// TopicTable returns the topic table as it is registered with a name server.
func (b *Broker) TopicTable() protocol.TopicConfigTable {
	table := b.topics.table()
	for name, c := range table.Topics {
		table.Topics[name] = b.registered(c)
	}
	return table
}

// Topics calls yield for every topic, as it is registered, until it returns false. With Topic and DataVersion it is what a name server in
// the same process reads.
func (b *Broker) Topics(yield func(protocol.TopicConfig) bool) {
	b.topics.mu.RLock()
	defer b.topics.mu.RUnlock()
	for _, t := range b.topics.topics {
		if !yield(b.registered(t.config)) {
			return
		}
	}
}

// Topic returns one topic's configuration, as it is registered.
func (b *Broker) Topic(name string) (protocol.TopicConfig, bool) {
	if t := b.topics.configured(name); t != nil {
		return b.registered(t.config), true
	}
	return protocol.TopicConfig{}, false
}

// touch gives the table a new version, because what is registered of it has changed.
func (t *topicTable) touch() error {
	t.mu.Lock()
	version := t.next()
	err := t.b.update(kindTopics, func(error) {}, store.Mutation{Key: "", Value: protocol.MarshalBody(version)})
	if err == nil {
		t.version = version
	}
	t.mu.Unlock()
	if err == nil {
		t.changed()
	}
	return err
}

// DataVersion returns the topic table's version.
func (b *Broker) DataVersion() protocol.DataVersion {
	b.topics.mu.RLock()
	defer b.topics.mu.RUnlock()
	return b.topics.version
}
