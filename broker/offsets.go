package broker

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Consumer offsets: QUERY_CONSUMER_OFFSET (14), UPDATE_CONSUMER_OFFSET (15).
//
// What clients see: a commit that is answered is on disk (or written, by the flush mode); one-way commits and those that come with a
// pull are recorded within offsetRecordInterval: losing one costs redelivery, never a message. Many commits make one record. A group
// without an offset is told 0 while the queue's first message is near the log's end, 22 otherwise (ConsumerManageProcessor).

// offsetKey names a group's position in a queue. In the state (kind "offsets") it is written topic@group\0queue, the value is 8 bytes and,
// while the group has not been told of a reset, a ninth: 1.
type offsetKey struct {
	group, topic string
	queue        int32
}

func (k offsetKey) String() string { return fmt.Sprintf("%s@%s\x00%d", k.topic, k.group, k.queue) }

func parseOffsetKey(s string) (k offsetKey, err error) {
	name, queue, ok := strings.Cut(s, "\x00")
	topic, group, ok2 := strings.Cut(name, "@")
	n, ok3 := protocol.ParseInt([]byte(queue))
	if !ok || !ok2 || !ok3 {
		return k, fmt.Errorf("offset key %q", s)
	}
	return offsetKey{group, topic, int32(n)}, nil
}

type offsetTable struct {
	b *Broker

	mu        sync.Mutex // guards what follows
	offsets   map[offsetKey]int64
	resets    map[offsetKey]struct{} // whose next pull is told to go on at the offset
	given     map[offsetKey]int64    // behind the last message that a pull was answered with
	dirty     map[offsetKey]struct{} // not in the log yet
	waiting   []func(error)          // answers that wait for the next record
	recording bool                   // a record is on its way
}

func newOffsetTable(b *Broker) *offsetTable {
	return &offsetTable{b: b, offsets: map[offsetKey]int64{}, resets: map[offsetKey]struct{}{}, given: map[offsetKey]int64{}, dirty: map[offsetKey]struct{}{}}
}

func (t *offsetTable) load() error {
	return t.b.store.State(kindOffsets, func(key string, value []byte) error {
		k, err := parseOffsetKey(key)
		if err != nil {
			return err
		}
		if len(value) != 8 && len(value) != 9 {
			return fmt.Errorf("offset %q: %d bytes, want 8 or 9", key, len(value))
		}
		t.offsets[k] = int64(binary.BigEndian.Uint64(value))
		if len(value) == 9 {
			t.resets[k] = struct{}{}
		}
		return nil
	})
}

func (t *offsetTable) find(k offsetKey) (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	offset, ok := t.offsets[k]
	return offset, ok
}

// checkRoom refuses a new offset when there are too many.
func (t *offsetTable) checkRoom(k offsetKey) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.offsets[k]; ok || len(t.offsets) < offsetsMax {
		return nil
	}
	return protocol.Errorf(protocol.RespSystemError, "group %s, topic %s, queue %d: %d offsets are kept, the limit is offsetsMax=%d; delete groups or topics", k.group, k.topic, k.queue, len(t.offsets), offsetsMax)
}

// commit notes an offset; done, when not nil, is told once it is recorded. While the group has not been told of a reset, what it commits
// is from before and ignored.
func (t *offsetTable) commit(k offsetKey, offset int64, done func(error)) {
	t.mu.Lock()
	_, reset := t.resets[k]
	if old, ok := t.offsets[k]; !reset && (!ok || old != offset) {
		t.offsets[k] = offset
		t.dirty[k] = struct{}{}
	}
	if done != nil {
		t.waiting = append(t.waiting, done)
	}
	t.mu.Unlock()
	if done != nil {
		t.record()
	}
}

// set notes an offset that the broker knows itself, wherever the group was.
func (t *offsetTable) set(k offsetKey, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.offsets[k] = offset
	t.dirty[k] = struct{}{}
}

// advance notes an offset that the broker knows itself, unless the group is further already.
func (t *offsetTable) advance(k offsetKey, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, reset := t.resets[k]
	if old, ok := t.offsets[k]; !reset && (!ok || old < offset) {
		t.offsets[k] = offset
		t.dirty[k] = struct{}{}
	}
}

// record writes what has changed, unless a record is on its way: then the next one follows it.
func (t *offsetTable) record() {
	t.mu.Lock()
	if t.recording || (len(t.dirty) == 0 && len(t.waiting) == 0) {
		t.mu.Unlock()
		return
	}
	changes := make([]store.Mutation, 0, len(t.dirty))
	for k := range t.dirty {
		changes = append(changes, store.Mutation{Key: k.String(), Value: t.value(k)})
	}
	waiting := t.waiting
	dirty := t.dirty
	t.dirty, t.waiting, t.recording = map[offsetKey]struct{}{}, nil, true
	t.mu.Unlock()

	finish := func(err error) {
		t.mu.Lock()
		t.recording = false
		if err != nil {
			for k := range dirty {
				t.dirty[k] = struct{}{}
			}
		}
		again := len(t.waiting) > 0
		t.mu.Unlock()
		for _, done := range waiting {
			done(err)
		}
		if again {
			t.b.spawn(t.record) // not here: the log's goroutine must not wait for the log
		}
	}
	if len(changes) == 0 {
		finish(nil)
		return
	}
	if err := t.b.update(kindOffsets, finish, changes...); err != nil {
		finish(err)
	}
}

// flush returns once all that was noted is recorded, or cannot be.
func (t *offsetTable) flush() {
	done := make(chan error, 1)
	t.mu.Lock()
	t.waiting = append(t.waiting, func(err error) { done <- err })
	t.mu.Unlock()
	t.record()
	<-done
}

func (b *Broker) queryConsumerOffset(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ConsumerOffsetHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if offset, ok := b.offsets.find(offsetKey{h.Group, h.Topic, h.QueueID}); ok {
		return remoting.Respond(protocol.RespSuccess, &protocol.OffsetResult{Offset: offset}), nil
	}
	if h.SetZeroIfNotFound == "false" {
		return nil, protocol.Errorf(protocol.RespQueryNotFound, "Not found, do not set to zero, maybe this group boot first")
	}
	if q := b.namedQueue(&protocol.QueueHeader{Topic: h.Topic, QueueID: h.QueueID}); q != nil && b.isYoung(q) {
		return remoting.Respond(protocol.RespSuccess, &protocol.OffsetResult{}), nil
	}
	return nil, protocol.Errorf(protocol.RespQueryNotFound, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first")
}

// isYoung tells whether a queue still has its first message, near the log's end: a new group then starts at 0
// (MessageStore.checkInMemByConsumeOffset).
func (b *Broker) isYoung(q *store.Queue) bool {
	first, end := q.Bounds()
	return first == 0 && end > 0 && b.store.DistanceFromEnd(q, 0) <= b.c.HotBytes
}

func (b *Broker) updateConsumerOffset(r *remoting.Request) (*remoting.Response, error) {
	h := protocol.ConsumerOffsetHeader{Update: true}
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if b.groups.known(h.Group) == nil {
		return nil, protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "Group %s not exist!", h.Group)
	}
	t := b.topics.find(h.Topic)
	if t == nil {
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "Topic %s not exist!", h.Topic)
	}
	if t.queue(h.QueueID) == nil || h.CommitOffset < 0 {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "queue %d of topic %s, offset %d: the topic has queues 0 to %d, and offsets are not negative",
			h.QueueID, h.Topic, h.CommitOffset, len(t.queues)-1)
	}
	k := offsetKey{h.Group, h.Topic, h.QueueID}
	if err := b.offsets.checkRoom(k); err != nil {
		return nil, err
	}
	if b.offsets.hasReset(k) {
		resp := remoting.Respond(protocol.RespSuccess, nil)
		resp.Remark = []byte("Offset has been previously reset")
		return resp, nil
	}
	if r.IsOneWay() {
		b.offsets.commit(k, h.CommitOffset, nil)
		return nil, nil
	}
	b.offsets.commit(k, h.CommitOffset, func(err error) { r.Reply(nil, err) })
	return nil, remoting.ErrLater
}
