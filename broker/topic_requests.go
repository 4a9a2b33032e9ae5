package broker

import (
	"strings"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Topics: UPDATE_AND_CREATE_TOPIC (17), DELETE_TOPIC_IN_BROKER (215), GET_TOPIC_CONFIG (351).
//
// What clients see: an answer once the change is on disk; the name server of the same process routes it at once. System topics are
// refused with 29 as RocketMQ does (validateSystemTopicWhenUpdateTopic). A deleted topic's queues go with it; a new topic of the same name
// begins at offset 0. With a parent topic go its lite topics.

func (b *Broker) createTopic(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.CreateTopicHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	changes, err := attribute.Parse(h.Attributes)
	if err != nil {
		return nil, err
	}
	c := protocol.TopicConfig{
		TopicName: h.Topic, ReadQueues: h.ReadQueues, WriteQueues: h.WriteQueues, Perm: h.Perm,
		FilterType: h.FilterType, SysFlag: h.SysFlag, Order: h.Order, Attributes: changes,
	}
	if err := b.checkTopicConfig(&c); err != nil {
		return nil, err
	}
	if b.isLight(c.TopicName) {
		return nil, nil
	}
	if _, err := b.topics.set(c, func(err error) { r.Reply(nil, err) }); err != nil {
		return nil, sendFailure(err)
	}
	return nil, remoting.ErrLater
}

func (b *Broker) checkNewTopic(name string) error {
	if err := message.CheckTopic(name); err != nil {
		return protocol.Errorf(protocol.RespInvalidParameter, "%s", err)
	}
	if b.topics.isSystem(name) {
		return protocol.Errorf(protocol.RespInvalidParameter, "The topic[%s] is conflict with system topic.", name)
	}
	return nil
}

// CreateTopic makes a topic that clients read and write, or gives one that is there as many queues, 1 to 65536; done is told once that
// is durable.
func (b *Broker) CreateTopic(name string, queues int32, done func(error)) error {
	if err := b.checkNewTopic(name); err != nil {
		return err
	}
	if queues < 1 || queues > topicQueuesMax {
		return protocol.Errorf(protocol.RespInvalidParameter, "topic %s: %d queues; 1 to topicQueuesMax=%d are possible", name, queues, topicQueuesMax)
	}
	c := protocol.TopicConfig{TopicName: name, Perm: protocol.PermRead | protocol.PermWrite, FilterType: protocol.FilterTypeSingleTag}
	if t := b.topics.find(name); t != nil {
		c = t.config
	}
	c.ReadQueues, c.WriteQueues = queues, queues
	_, err := b.topics.set(c, done)
	return err
}

func (b *Broker) deleteTopic(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TopicHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if strings.TrimSpace(h.Topic) == "" {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "The specified topic is blank.")
	}
	if b.topics.isSystem(h.Topic) {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "The topic[%s] is conflict with system topic.", h.Topic)
	}
	t := b.topics.find(h.Topic)
	if t == nil {
		return nil, nil // as RocketMQ: deleting twice is no error
	}
	if t.lite {
		if err := b.pop.DropLites(h.Topic, b.store.LightTopics(message.LiteQueues(h.Topic))); err != nil {
			return nil, sendFailure(err)
		}
	}
	if err := b.pop.DropTopic(h.Topic); err != nil {
		return nil, sendFailure(err)
	}
	if err := b.dropTopic(h.Topic, func(err error) { r.Reply(nil, err) }); err != nil {
		return nil, sendFailure(err)
	}
	b.spawn(func() {
		b.endHeld(h.Topic)
		b.pop.End(h.Topic, "", errNoTopic(h.Topic))
	})
	b.traffic.Forget(h.Topic, "")
	return nil, remoting.ErrLater
}

// dropTopic deletes a topic, its queues and what groups know of them; done is told once that is recorded. The offsets go first, and those that
// are committed meanwhile at the end: were one there after a crash that the queues did not survive, its group would pass over the first
// messages of a new topic of this name.
func (b *Broker) dropTopic(name string, done func(error)) error {
	if err := b.offsets.forgetAll(name, ""); err != nil {
		return err
	}
	return b.topics.remove(name, func(err error) {
		if err != nil {
			done(err)
			return
		}
		b.spawn(func() { done(b.offsets.forgetAll(name, "")) })
	})
}

// endHeld answers the held pulls of a topic that is gone. Their queues are gone with it: one of the same name would not wake them.
func (b *Broker) endHeld(topic string) {
	for _, p := range b.held.of("", topic) {
		if b.stopWaiting(p) {
			b.held.remove(p)
			p.r.Reply(nil, errNoTopic(topic))
		}
	}
}

func (b *Broker) topicConfig(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TopicHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	t := b.topics.find(h.Topic)
	if t == nil {
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "No topic in this broker. topic: %s", h.Topic)
	}
	return remoting.RespondBody(t.config), nil
}
