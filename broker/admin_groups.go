package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Groups: UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200), GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201), DELETE_SUBSCRIPTIONGROUP (207),
// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST (225), GET_SUBSCRIPTIONGROUP_CONFIG (352), UPDATE_AND_GET_GROUP_FORBIDDEN (353).
//
// What clients see: a change is answered once it is on disk. Attributes are changed by "+name": value and "-name", as in RocketMQ, where
// only known names pass. A group that is deleted while its members are online comes back with its defaults at the next heartbeat, if
// groups are made automatically. groupRetryPolicy and consumeMessageOrderly are kept as they came and change nothing here: RocketMQ's broker
// reads neither (its retries go by delay levels, and a request says whether it wants order); its proxy tells both to gRPC clients.
// Differences: a list of groups is taken as a whole or not at all, and a wrong attribute is 29 there too.

// permReadBit is the bit of "may not read" in a forbidden entry (PermName.INDEX_PERM_READ).
const permReadBit = 2

// groupsPageMax bounds one page of the table (splitMetadataSize).
const groupsPageMax = 2000

// set creates or changes groups in one record; done is told once it is durable.
func (t *groupTable) set(configs []*protocol.SubscriptionGroupConfig, done func(error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.setLocked(configs, done)
}

func (t *groupTable) setLocked(configs []*protocol.SubscriptionGroupConfig, done func(error)) error {
	if err := t.checkRoom(configs); err != nil {
		return err
	}
	version := t.next()
	changes := []store.Mutation{{Key: "", Value: protocol.MarshalBody(version)}}
	for _, c := range configs {
		changes = append(changes, store.Mutation{Key: c.GroupName, Value: protocol.MarshalBody(c)})
	}
	if err := t.b.update(kindGroups, done, changes...); err != nil {
		return err
	}
	t.version = version
	for _, c := range configs {
		t.groups[c.GroupName] = c
	}
	return nil
}

func (t *groupTable) next() protocol.DataVersion {
	v := t.version
	v.Counter++
	v.Timestamp = t.b.c.Now().UnixMilli()
	return v
}

// remove deletes a group; done is told once that is durable.
func (t *groupTable) remove(name string, done func(error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	version := t.next()
	err := t.b.update(kindGroups, done, store.Mutation{Key: name}, store.Mutation{Key: "", Value: protocol.MarshalBody(version)})
	if err != nil {
		return err
	}
	t.version = version
	delete(t.groups, name)
	return nil
}

// names returns the groups, sorted.
func (t *groupTable) names() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := make([]string, 0, len(t.groups))
	for name := range t.groups {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// forbiddenKey is group\0topic in the state (kind "forbidden"), whose value is the bits as JSON.
func forbiddenKey(group, topic string) string { return group + "\x00" + topic }

func (t *groupTable) loadForbidden() error {
	return t.b.store.State(kindForbidden, func(key string, value []byte) error {
		var bits int32
		if err := json.Unmarshal(value, &bits); err != nil {
			return fmt.Errorf("forbidden %q: %w", key, err)
		}
		t.forbidden[key] = bits
		return nil
	})
}

// mayRead tells whether the group may consume the topic.
func (t *groupTable) mayRead(group, topic string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.forbidden) == 0 || t.forbidden[forbiddenKey(group, topic)]&(1<<permReadBit) == 0
}

// setReadable allows or forbids a group to consume a topic.
func (t *groupTable) setReadable(group, topic string, readable bool, done func(error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := forbiddenKey(group, topic)
	bits := t.forbidden[key] &^ (1 << permReadBit)
	m := store.Mutation{Key: key}
	if !readable {
		bits |= 1 << permReadBit
	}
	if bits != 0 {
		m.Value = protocol.MarshalBody(bits)
	}
	if err := t.b.update(kindForbidden, done, m); err != nil {
		return err
	}
	if bits == 0 {
		delete(t.forbidden, key)
	} else {
		t.forbidden[key] = bits
	}
	return nil
}

// readGroup makes the configuration that a body asks for, on top of the defaults, with the attributes that the group has or is to get.
func (b *Broker) readGroup(body []byte) (*protocol.SubscriptionGroupConfig, error) {
	c := newGroupConfig("")
	if err := protocol.UnmarshalBody(body, c); err != nil {
		return nil, err
	}
	if err := message.CheckGroup(c.GroupName); err != nil {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "%s", err)
	}
	if c.RetryQueues < 0 || c.RetryQueues > topicQueuesMax {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "group %s: retryQueueNums=%d; 0 to topicQueuesMax=%d are possible", c.GroupName, c.RetryQueues, topicQueuesMax)
	}
	if c.GroupRetryPolicy != nil {
		if err := protocol.CheckRetryPolicy(*c.GroupRetryPolicy); err != nil {
			return nil, protocol.Errorf(protocol.RespSystemError, "group %s: %s", c.GroupName, err)
		}
	}
	var old map[string]string
	if g := b.groups.known(c.GroupName); g != nil {
		if old = g.Attributes; old == nil {
			old = map[string]string{}
		}
	}
	var err error
	c.Attributes, err = attribute.Alter(old, c.Attributes, attribute.Groups)
	return c, err
}

func (b *Broker) createGroup(r *remoting.Request) (*remoting.Response, error) {
	c, err := b.readGroup(r.Body)
	if err != nil {
		return nil, err
	}
	if b.isLight(c.GroupName) {
		return nil, nil
	}
	if err := b.groups.set([]*protocol.SubscriptionGroupConfig{c}, func(err error) { r.Reply(nil, err) }); err != nil {
		return nil, sendFailure(err)
	}
	return nil, remoting.ErrLater
}

func (b *Broker) createGroups(r *remoting.Request) (*remoting.Response, error) {
	var list protocol.GroupConfigList
	if err := protocol.UnmarshalBody(r.Body, &list); err != nil {
		return nil, err
	}
	configs := make([]*protocol.SubscriptionGroupConfig, 0, len(list.Groups))
	for _, body := range list.Groups {
		c, err := b.readGroup(body)
		if err != nil {
			return nil, err
		}
		if !b.isLight(c.GroupName) {
			configs = append(configs, c)
		}
	}
	if len(configs) == 0 {
		return nil, nil
	}
	if err := b.groups.set(configs, func(err error) { r.Reply(nil, err) }); err != nil {
		return nil, sendFailure(err)
	}
	return nil, remoting.ErrLater
}

func (b *Broker) deleteGroup(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.DeleteGroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if strings.TrimSpace(h.Group) == "" {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "The specified group is blank.")
	}
	if g := b.groups.known(h.Group); h.CleanOffsets || g != nil && g.Attributes[attribute.LiteBindTopic] != "" {
		if err := b.offsets.forgetAll("", h.Group); err != nil {
			return nil, sendFailure(err)
		}
	}
	b.traffic.Forget("", h.Group)
	b.pop.DropGroup(h.Group)
	b.pop.End("", h.Group, protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "subscription group [%s] was deleted", h.Group))
	if err := b.groups.remove(h.Group, func(err error) { r.Reply(nil, err) }); err != nil {
		return nil, sendFailure(err)
	}
	return nil, remoting.ErrLater
}

func (b *Broker) groupConfig(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.NamedGroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	c := b.groups.find(h.Group)
	if c == nil {
		return nil, protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "No group in this broker: %s", h.Group)
	}
	return remoting.RespondBody(c), nil
}

func (b *Broker) allGroups(r *remoting.Request) (*remoting.Response, error) {
	h := protocol.TablePageHeader{Groups: true}
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	names := b.groups.names()
	total := len(names)
	t := protocol.GroupTable{Groups: map[string]protocol.SubscriptionGroupConfig{}, Forbidden: map[string]map[string]int32{}}
	b.groups.mu.RLock()
	t.DataVersion = b.groups.version
	for _, name := range page(names, &h, t.DataVersion) {
		if g := b.groups.groups[name]; g != nil {
			t.Groups[name] = *g
		}
	}
	for key, bits := range b.groups.forbidden {
		group, topic, _ := strings.Cut(key, "\x00")
		if _, ok := t.Groups[group]; !ok {
			continue
		}
		if t.Forbidden[group] == nil {
			t.Forbidden[group] = map[string]int32{}
		}
		t.Forbidden[group][topic] = bits
	}
	b.groups.mu.RUnlock()
	resp := remoting.Respond(protocol.RespSuccess, &protocol.TablePageResult{Groups: true, Total: int32(total)})
	resp.Body = protocol.MarshalBody(t)
	return resp, nil
}

// page returns the names that a request for a part of a table means. The first part is given again when the table has changed since.
func page(names []string, h *protocol.TablePageHeader, version protocol.DataVersion) []string {
	if !h.Paged {
		return names
	}
	from := int(h.Sequence)
	var seen protocol.DataVersion
	if h.DataVersion != "" && (json.Unmarshal([]byte(h.DataVersion), &seen) != nil || seen != version) {
		from = 0
	}
	from = min(from, len(names))
	most := groupsPageMax
	if h.Most > 0 {
		most = min(most, int(h.Most))
	}
	return names[from:min(from+most, len(names))]
}

func (b *Broker) groupForbidden(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ForbiddenHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	answer := protocol.GroupForbidden{Group: h.Group, Topic: h.Topic, Readable: h.Readable == "true"}
	if err := errors.Join(message.CheckGroup(h.Group), message.CheckTopic(h.Topic)); err != nil {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "%s", err)
	}
	if h.Readable == "" {
		answer.Readable = b.groups.mayRead(h.Group, h.Topic)
		return remoting.RespondBody(answer), nil
	}
	err := b.groups.setReadable(h.Group, h.Topic, answer.Readable, func(err error) {
		if err != nil {
			r.Reply(nil, sendFailure(err))
			return
		}
		r.Reply(remoting.RespondBody(answer), nil)
	})
	if err != nil {
		return nil, sendFailure(err)
	}
	return nil, remoting.ErrLater
}
