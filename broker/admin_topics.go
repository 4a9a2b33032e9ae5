package broker

import (
	"slices"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Tables of topics and cleaning: UPDATE_AND_CREATE_TOPIC_LIST (18), GET_ALL_TOPIC_CONFIG (21), GET_SYSTEM_TOPIC_LIST_FROM_BROKER (305),
// CLEAN_EXPIRED_CONSUMEQUEUE (306), CLEAN_UNUSED_TOPIC (316), DELETE_EXPIRED_COMMITLOG (329).
//
// What clients see: 18 is answered once the change is on disk, and changes everything or nothing. 306 and 316 succeed at once, because
// nothing can be left over: a deleted topic takes its queues with it, and queues have no files of their own. 329 has retention
// look at once, and is answered before it has, as in RocketMQ.

// createTopics makes or changes several topics in one record.
func (b *Broker) createTopics(r *remoting.Request) (*remoting.Response, error) {
	var list protocol.TopicConfigList
	if err := protocol.UnmarshalBody(r.Body, &list); err != nil {
		return nil, err
	}
	for i := range list.Topics {
		if err := b.checkTopicConfig(&list.Topics[i]); err != nil {
			return nil, err
		}
	}
	list.Topics = slices.DeleteFunc(list.Topics, func(c protocol.TopicConfig) bool { return b.isLight(c.TopicName) })
	if len(list.Topics) == 0 {
		return nil, nil
	}
	if err := b.topics.setAll(list.Topics, func(err error) { r.Reply(nil, err) }); err != nil {
		return nil, sendFailure(err)
	}
	return nil, remoting.ErrLater
}

// checkTopicConfig refuses what a topic may not be, and applies its changes of attributes.
func (b *Broker) checkTopicConfig(c *protocol.TopicConfig) error {
	if err := b.checkNewTopic(c.TopicName); err != nil {
		return err
	}
	if c.ReadQueues < 0 || c.WriteQueues < 0 || c.ReadQueues > topicQueuesMax || c.WriteQueues > topicQueuesMax {
		return protocol.Errorf(protocol.RespInvalidParameter, "topic %s: %d read and %d write queues; 0 to topicQueuesMax=%d are possible", c.TopicName, c.ReadQueues, c.WriteQueues, topicQueuesMax)
	}
	if c.FilterType == "" {
		c.FilterType = protocol.FilterTypeSingleTag
	}
	if !slices.Contains([]string{protocol.FilterTypeSingleTag, protocol.FilterTypeMultiTag}, c.FilterType) {
		return protocol.Errorf(protocol.RespSystemError, "topicFilterType = [%s] value invalid", c.FilterType)
	}
	var old map[string]string
	if t := b.topics.find(c.TopicName); t != nil {
		old = t.config.Attributes
		if old == nil {
			old = map[string]string{}
		}
	}
	var err error
	c.Attributes, err = attribute.Alter(old, c.Attributes, attribute.Topics)
	return err
}

// setAll creates or changes topics; done is told once they are durable.
func (t *topicTable) setAll(list []protocol.TopicConfig, done func(error)) error {
	t.mu.Lock()
	if err := t.checkRoom(list...); err != nil {
		t.mu.Unlock()
		return err
	}
	version := t.next()
	changes := []store.Mutation{{Key: "", Value: protocol.MarshalBody(version)}}
	for i := range list {
		changes = append(changes, store.Mutation{Key: list[i].TopicName, Value: protocol.MarshalBody(list[i])})
	}
	err := t.b.update(kindTopics, done, changes...)
	if err == nil {
		t.version = version
		for _, c := range list {
			t.put(c)
		}
	}
	t.mu.Unlock()
	if err == nil {
		t.changed()
	}
	return err
}

func (b *Broker) allTopics(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TablePageHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	table := b.topics.table()
	total := len(table.Topics)
	if h.Paged {
		names := make([]string, 0, total)
		for name := range table.Topics {
			names = append(names, name)
		}
		slices.Sort(names)
		part := map[string]protocol.TopicConfig{}
		for _, name := range page(names, &h, table.DataVersion) {
			part[name] = table.Topics[name]
		}
		table.Topics = part
	}
	resp := remoting.Respond(protocol.RespSuccess, &protocol.TablePageResult{Total: int32(total)})
	resp.Body = protocol.MarshalBody(table)
	return resp, nil
}

func (b *Broker) systemTopicList(r *remoting.Request) (*remoting.Response, error) {
	list := protocol.TopicList{Topics: []string{message.TopicCheckMax, message.TopicCheckpoint}, BrokerAddr: b.addr(r)}
	for _, c := range b.topics.systemTopics() {
		list.Topics = append(list.Topics, c.TopicName)
	}
	slices.Sort(list.Topics)
	list.Topics = slices.Compact(list.Topics)
	return remoting.RespondBody(list), nil
}

// nothingToClean serves 306 and 316.
func (b *Broker) nothingToClean(*remoting.Request) (*remoting.Response, error) { return nil, nil }

func (b *Broker) deleteExpiredLog(*remoting.Request) (*remoting.Response, error) {
	b.store.RetainNow()
	return nil, nil
}
