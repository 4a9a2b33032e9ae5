package broker

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Offsets of groups from outside: INVOKE_BROKER_TO_RESET_OFFSET (222), QUERY_CORRECTION_OFFSET (308), CLONE_GROUP_OFFSET (314); pushed to
// clients: RESET_CONSUMER_CLIENT_OFFSET (220).
//
// What clients see: a reset is on disk when it is answered, also for a group that is offline. An online member is told by its next pull,
// which is answered 21 with the new offset; a pull that is held is answered at once. Until then what the group commits is ignored, as in
// RocketMQ (useServerSideResetOffset). Members older than 5.0 are pushed 220 besides. As there, isForce changes nothing. Differences: a
// reset outlives a restart of the broker, and 314 without a topic clones those of every topic.

// versionServerReset is the first client version that is not pushed a reset (MQVersion.V5_0_0).
const versionServerReset = 413

// value returns what the state holds of an offset: nil when it was removed. The caller holds mu.
func (t *offsetTable) value(k offsetKey) []byte {
	offset, ok := t.offsets[k]
	if !ok {
		return nil
	}
	v := binary.BigEndian.AppendUint64(nil, uint64(offset))
	if _, reset := t.resets[k]; reset {
		v = append(v, 1)
	}
	return v
}

// assign sets offsets whatever the group commits; with reset its members are told. done is told once they are recorded.
func (t *offsetTable) assign(offsets map[offsetKey]int64, reset bool, done func(error)) {
	t.mu.Lock()
	for k, offset := range offsets {
		t.offsets[k] = offset
		t.dirty[k] = struct{}{}
		delete(t.given, k)
		if reset {
			t.resets[k] = struct{}{}
		}
	}
	t.waiting = append(t.waiting, done)
	t.mu.Unlock()
	t.record()
}

// takeReset returns the offset that the group is to go on at, once.
func (t *offsetTable) takeReset(k offsetKey) (offset int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.resets) == 0 { // nearly always
		return 0, false
	}
	if _, ok = t.resets[k]; ok {
		delete(t.resets, k)
		t.dirty[k] = struct{}{}
	}
	return t.offsets[k], ok
}

// hasReset tells whether the group has not been told of a reset yet.
func (t *offsetTable) hasReset(k offsetKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.resets[k]
	return ok
}

// gave notes that a pull was answered with what stands before next.
func (t *offsetTable) gave(k offsetKey, next int64) {
	t.mu.Lock()
	if len(t.given) >= offsetsMax {
		clear(t.given)
	}
	t.given[k] = next
	t.mu.Unlock()
}

// progress returns a group's offset, -1 when it has none, and how far it has pulled.
func (t *offsetTable) progress(k offsetKey) (offset, given int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	offset, ok := t.offsets[k]
	if !ok {
		offset = -1
	}
	return offset, max(offset, t.given[k])
}

// remove drops the offsets of a topic, or of a group. It is recorded soon.
func (t *offsetTable) remove(topic, group string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	matches := func(k offsetKey) bool { return (topic == "" || k.topic == topic) && (group == "" || k.group == group) }
	for k := range t.offsets {
		if matches(k) {
			delete(t.offsets, k)
			delete(t.resets, k)
			t.dirty[k] = struct{}{}
		}
	}
	for k := range t.given {
		if matches(k) {
			delete(t.given, k)
		}
	}
}

// forget drops single offsets; done is told once that is recorded.
func (t *offsetTable) forget(keys []offsetKey, done func(error)) {
	t.mu.Lock()
	for _, k := range keys {
		if _, ok := t.offsets[k]; ok {
			delete(t.offsets, k)
			delete(t.resets, k)
			t.dirty[k] = struct{}{}
		}
		delete(t.given, k)
	}
	t.waiting = append(t.waiting, done)
	t.mu.Unlock()
	t.record()
}

// forgetAll drops all offsets in a topic, or of a group, and returns once that is recorded.
func (t *offsetTable) forgetAll(topic, group string) error {
	t.remove(topic, group)
	done := make(chan error, 1)
	t.forget(nil, func(err error) { done <- err })
	return <-done
}

// named counts the pairs of a topic and a group that have offsets.
func (t *offsetTable) named() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := map[offsetKey]struct{}{}
	for k := range t.offsets {
		names[offsetKey{k.group, k.topic, 0}] = struct{}{}
	}
	return len(names)
}

// topicsOf returns the topics that a group has offsets of, groupsOf the groups that have offsets of a topic; sorted.
func (t *offsetTable) topicsOf(group string) []string {
	return t.names(func(k offsetKey) (string, bool) { return k.topic, k.group == group })
}

func (t *offsetTable) groupsOf(topic string) []string {
	return t.names(func(k offsetKey) (string, bool) { return k.group, k.topic == topic })
}

func (t *offsetTable) names(pick func(offsetKey) (string, bool)) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []string{}
	for k := range t.offsets {
		if name, ok := pick(k); ok {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// topicsByGroup is topicsOf for every group, in one look.
func (t *offsetTable) topicsByGroup() map[string][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	groups := map[string][]string{}
	for k := range t.offsets {
		groups[k.group] = append(groups[k.group], k.topic)
	}
	for group, topics := range groups {
		slices.Sort(topics)
		groups[group] = slices.Compact(topics)
	}
	return groups
}

// moved answers a pull with the offset that its group was reset to.
func (p *pull) moved(offset int64) *remoting.Response {
	first, end := p.queue.Bounds()
	resp := remoting.Respond(protocol.RespPullOffsetMoved, &protocol.PullResult{
		NextOffset: offset, MinOffset: first, MaxOffset: end,
		TopicSysFlag: p.topic.config.SysFlag, GroupSysFlag: p.group.GroupSysFlag,
	})
	resp.Remark = []byte("OFFSET_RESET")
	return resp
}

func (b *Broker) resetOffset(r *remoting.Request) (*remoting.Response, error) {
	h := protocol.ResetOffsetHeader{QueueID: -1, Offset: -1}
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	t := b.topics.find(h.Topic)
	if t == nil {
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "Topic %s does not exist", h.Topic)
	}
	if b.groups.known(h.Group) == nil {
		return nil, protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "Group %s does not exist", h.Group)
	}
	offsets, err := b.resetTargets(t, &h)
	if err != nil {
		return nil, err
	}
	var body protocol.ResetOffsetBody
	for id := range t.config.ReadQueues {
		if offset, ok := offsets[offsetKey{h.Group, h.Topic, id}]; ok {
			body.Offsets = append(body.Offsets, protocol.QueueEntry[int64]{Queue: b.messageQueue(h.Topic, id), Value: offset})
		}
	}
	b.offsets.assign(offsets, true, func(err error) {
		if err != nil {
			r.Reply(nil, sendFailure(err))
			return
		}
		b.pushReset(&h, &body)
		b.spawn(func() { b.serveGroup(h.Group, h.Topic) })
		resp := remoting.Respond(protocol.RespSuccess, nil)
		resp.Body = body.Encode()
		r.Reply(resp, nil)
	})
	return nil, remoting.ErrLater
}

// resetTargets returns the offsets that a reset asks for.
func (b *Broker) resetTargets(t *topic, h *protocol.ResetOffsetHeader) (map[offsetKey]int64, error) {
	offsets := map[offsetKey]int64{}
	if h.QueueID >= 0 {
		q := t.queue(h.QueueID)
		if q == nil || h.QueueID >= t.config.ReadQueues {
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "queue %d of topic %s: it has %d queues to read", h.QueueID, h.Topic, t.config.ReadQueues)
		}
		offset := h.Offset
		if offset == -1 {
			var err error
			if offset, err = b.offsetByTime(q, h.Timestamp); err != nil {
				return nil, err
			}
		} else if first, end := q.Bounds(); offset < first || offset > end {
			return nil, protocol.Errorf(protocol.RespSystemError, "Target offset %d not in consume queue range [%d-%d]", offset, first, end)
		}
		offsets[offsetKey{h.Group, h.Topic, h.QueueID}] = offset
		return offsets, nil
	}
	for id := range t.config.ReadQueues {
		offset, err := b.offsetByTime(t.queue(id), h.Timestamp)
		if err != nil {
			return nil, err
		}
		offsets[offsetKey{h.Group, h.Topic, id}] = offset
	}
	if len(offsets) == 0 {
		return nil, protocol.Errorf(protocol.RespSystemError, "No queues to reset.")
	}
	return offsets, nil
}

// offsetByTime returns the first offset stored at ms or later; a negative time means the end.
func (b *Broker) offsetByTime(q *store.Queue, ms int64) (int64, error) {
	if ms < 0 {
		_, end := q.Bounds()
		return end, nil
	}
	return b.store.OffsetByTime(q, min(ms, math.MaxInt64-1), false)
}

// pushReset tells members that are too old to learn of a reset from a pull.
func (b *Broker) pushReset(h *protocol.ResetOffsetHeader, body *protocol.ResetOffsetBody) {
	for _, m := range b.clients.members(h.Group) {
		if m.version >= versionServerReset {
			continue
		}
		c := protocol.NewRequest(protocol.ReqResetConsumerClientOffset, &protocol.ResetOffsetHeader{
			Topic: h.Topic, Group: h.Group, Timestamp: h.Timestamp, Force: h.Force, QueueID: h.QueueID, Offset: h.Offset,
		})
		if c.Body = body.Encode(); m.language == protocol.LanguageCPP {
			c.Body = body.EncodeForC()
		}
		_ = m.conn.OneWay(c) // a connection that is gone has nothing to reset
	}
}

// serveGroup has the group's held pulls of a topic answered, because something other than a message came.
func (b *Broker) serveGroup(group, topic string) {
	for _, p := range b.held.of(group, topic) {
		if b.stopWaiting(p) {
			b.serveHeld(p, true)
		}
	}
}

// of returns a group's held pulls of a topic; of every group's where none is named.
func (h *heldPulls) of(group, topic string) (list []*heldPull) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.list {
		if (group == "" || p.h.Group == group) && p.h.Topic == topic {
			list = append(list, p)
		}
	}
	return list
}

func (b *Broker) cloneOffsets(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.CloneOffsetHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	topics := []string{h.Topic}
	if strings.TrimSpace(h.Topic) == "" {
		topics = b.offsets.topicsOf(h.From)
	}
	offsets := map[offsetKey]int64{}
	if err := message.CheckGroup(h.To); err != nil {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "%s", err)
	}
	for _, name := range topics {
		t := b.topics.find(name)
		if t == nil || !h.Offline && !b.clients.consumes(h.From, name) {
			continue
		}
		for id := range t.config.ReadQueues {
			if offset, ok := b.offsets.find(offsetKey{h.From, name, id}); ok {
				offsets[offsetKey{h.To, name, id}] = offset
			}
		}
	}
	b.offsets.assign(offsets, false, func(err error) { r.Reply(nil, err) })
	return nil, remoting.ErrLater
}

func (b *Broker) correctionOffsets(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.CorrectionOffsetHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	t := b.topics.find(h.Topic)
	if t == nil {
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "topic[%s] not exist", h.Topic)
	}
	excluded := map[string]bool{}
	for group := range strings.SplitSeq(h.FilterGroups, ",") {
		excluded[group] = true
	}
	result := protocol.CorrectionOffsets{Offsets: map[int32]int64{}}
	for _, group := range b.offsets.groupsOf(h.Topic) {
		if excluded[group] {
			continue
		}
		for id := range t.config.ReadQueues {
			offset, ok := b.offsets.find(offsetKey{group, h.Topic, id})
			if least, seen := result.Offsets[id]; ok && (!seen || offset < least) {
				result.Offsets[id] = offset
			}
		}
	}
	for id, least := range result.Offsets {
		if offset, ok := b.offsets.find(offsetKey{h.CompareGroup, h.Topic, id}); ok && least > offset {
			result.Offsets[id] = math.MaxInt64
		}
	}
	return remoting.RespondBody(result), nil
}

// storeTime is the store time of the message at an offset, or otherwise where there is none.
func (b *Broker) storeTime(q *store.Queue, offset, otherwise int64) (int64, error) {
	if offset < 0 {
		return otherwise, nil
	}
	at, err := b.store.StoreTime(q, offset)
	if errors.Is(err, store.ErrNotFound) {
		return otherwise, nil
	}
	return at, err
}

// gather collects the answers of n clients and calls done with the last of them.
type gather struct {
	mu      sync.Mutex // guards what follows
	waiting int
	done    func()
}

// arrived calls f, and done when nobody is waited for any more.
func (g *gather) arrived(f func()) {
	g.mu.Lock()
	f()
	g.waiting--
	last := g.waiting == 0
	g.mu.Unlock()
	if last {
		g.done()
	}
}
