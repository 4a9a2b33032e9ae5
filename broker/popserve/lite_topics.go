package popserve

import (
	"errors"
	"slices"
	"time"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Lite topics come with their first message and go when nothing was sent to them for as long as lite.topic.expiration of their parent
// says (minutes; -1, the default: never), and minLiteTTl at least, whoever is subscribed to them or behind (AbstractLiteLifecycleManager);
// or with their parent. What goes is the light queue with the offsets, deliveries and subscriptions of the groups that are bound to the
// parent. The messages stay in the parent topic for as long as the log has them.

// expireLites drops the lite topics that are too old.
func (v *Service) expireLites(now time.Time) {
	minutes, _ := v.host.LiteParents()
	if len(minutes) == 0 {
		return
	}
	look := v.ages.Next()
	over := map[string][]string{}
	for _, name := range v.store.LightTopics(message.LMQPrefix) {
		parent, _, ok := message.LiteOf(name)
		if kept := time.Duration(minutes[parent]) * time.Minute; ok && kept > 0 {
			if look.Over(name, max(kept, v.host.Settings().LiteKeptMin).Milliseconds(), now.UnixMilli(), func() int64 { return v.lastStored(name, now) }) {
				over[parent] = append(over[parent], name)
			}
		}
	}
	v.ages.End(look)
	for parent, list := range over {
		if err := v.DropLites(parent, list); err != nil {
			v.log.Error("lite topics that are too old cannot be dropped; it is tried again", "parent", parent, "topics", len(list), "error", err)
		}
	}
}

// lastStored returns when the last message came to a light queue, long ago when the log does not have it any more; now when that cannot be
// read, or nothing came yet.
func (v *Service) lastStored(name string, now time.Time) int64 {
	q := v.store.Find(name, 0)
	if q == nil {
		return now.UnixMilli()
	}
	first, end := q.Bounds()
	if end == 0 {
		return now.UnixMilli()
	}
	if first == end {
		return 0
	}
	at, err := v.store.StoreTime(q, end-1)
	if errors.Is(err, store.ErrNotFound) {
		return 0
	} else if err != nil {
		v.log.Warn("the age of a lite topic cannot be read", "topic", name, "error", err)
		return now.UnixMilli()
	}
	return at
}

// DropLites drops lite topics of a parent, named by their queues. What groups know of them goes first: were it to be there after a crash
// while the queues are not, it would be taken for what they know of a new lite topic of that name. It waits for the log.
func (v *Service) DropLites(parent string, names []string) error {
	_, bound := v.host.LiteParents()
	for part := range slices.Chunk(names, litesDropped) {
		var keys []Key
		v.lites.mu.Lock()
		for _, name := range part {
			v.lites.Gone(name)
			for _, group := range bound[parent] {
				keys = append(keys, Key{group, name, 0})
			}
		}
		v.lites.mu.Unlock()
		v.table.dropQueues(keys)
		forgotten := make(chan error, 1)
		v.host.ForgetOffsets(keys, func(err error) { forgotten <- err })
		if err := errors.Join(v.table.recorded(), <-forgotten); err != nil {
			return err
		}
		changes := make([]store.Mutation, len(part))
		for i, name := range part {
			changes[i].Key = name
		}
		if err := v.store.UpdateState(store.KindQueues, changes, func(error) {}); err != nil {
			return err
		}
	}
	return nil
}

// litesDropped is how many lite topics go in one record.
const litesDropped = 1024

// liteParent returns a topic whose messages stand in lite topics (LiteManagerProcessor's checks).
func (v *Service) liteParent(name string) (*Topic, error) {
	t := v.host.Topic(name)
	if t == nil {
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "Topic [%s] not exist.", name)
	}
	if t.Config.Attributes[attribute.MessageType] != attribute.Lite {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "Topic [%s] type not match. It is to have %s=%s", name, attribute.MessageType, attribute.Lite)
	}
	return t, nil
}
