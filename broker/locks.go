package broker

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Queue locks of ordered consumers: LOCK_BATCH_MQ (41), UNLOCK_BATCH_MQ (42).
//
// What clients see: the queues that the client holds after the request; a lock that another client holds is refused until that one
// releases it or has not renewed it for 60 s (RebalanceLockManager). A grant is answered once it is in the log, so that it outlives the
// broker: after a restart the holder has 60 s to renew.

// lockExpiry is how long a lock lives without renewal (rocketmq.broker.rebalance.lockMaxLiveTime).
const lockExpiry = 60 * time.Second

// queueLock names a lock. In the state (kind "locks") it is written group\0topic\0queue, the value is the client's id.
type queueLock struct {
	group, topic string
	queue        int32
}

func (k queueLock) String() string { return fmt.Sprintf("%s\x00%s\x00%d", k.group, k.topic, k.queue) }

type lockHolder struct {
	client  string
	renewed time.Time
}

type lockTable struct {
	b *Broker

	mu    sync.Mutex // guards what follows; held while a grant is appended, so that the log has the same order
	locks map[queueLock]lockHolder
	swept time.Time // when sweep last looked
}

func newLockTable(b *Broker) *lockTable { return &lockTable{b: b, locks: map[queueLock]lockHolder{}} }

func (t *lockTable) load() error {
	return t.b.store.State(kindLocks, func(key string, value []byte) error {
		parts := strings.Split(key, "\x00")
		if len(parts) != 3 {
			return fmt.Errorf("lock %q", key)
		}
		n, _ := protocol.ParseInt([]byte(parts[2]))
		t.locks[queueLock{parts[0], parts[1], int32(n)}] = lockHolder{string(value), t.b.c.Now()}
		return nil
	})
}

// lock gives the client what is free of the queues, and returns what it holds of them. granted is told once new grants are recorded.
func (t *lockTable) lock(body *protocol.LockBatchBody, granted func(held []protocol.MessageQueue, err error)) {
	now := t.b.c.Now()
	held := []protocol.MessageQueue{}
	var changes []store.Mutation
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.locks) + len(body.Queues); n > locksMax {
		changes = t.sweep(now)
	}
	if n := len(t.locks) + len(body.Queues); n > locksMax {
		if len(changes) > 0 {
			_ = t.b.update(kindLocks, func(error) {}, changes...) // after an error they expire again
		}
		granted(nil, protocol.Errorf(protocol.RespSystemError, "group %s: %d locks more, %d are held, the limit is locksMax=%d; have fewer ordered consumers", body.Group, len(body.Queues), len(t.locks), locksMax))
		return
	}
	for _, q := range body.Queues {
		k := queueLock{body.Group, q.Topic, q.QueueID}
		holder, ok := t.locks[k]
		if ok && holder.client != body.ClientID && now.Sub(holder.renewed) <= lockExpiry {
			continue
		}
		if !ok || holder.client != body.ClientID {
			changes = append(changes, store.Mutation{Key: k.String(), Value: []byte(body.ClientID)})
		}
		t.locks[k] = lockHolder{body.ClientID, now}
		held = append(held, q)
	}
	if len(changes) == 0 {
		granted(held, nil)
		return
	}
	if err := t.b.update(kindLocks, func(err error) { granted(held, err) }, changes...); err != nil {
		granted(nil, err)
	}
}

// sweep forgets locks that have expired, every lockExpiry at most. The caller holds mu.
func (t *lockTable) sweep(now time.Time) (changes []store.Mutation) {
	if now.Sub(t.swept) < lockExpiry {
		return nil
	}
	t.swept = now
	for k, holder := range t.locks {
		if now.Sub(holder.renewed) > lockExpiry && len(changes) < locksSweptMax {
			delete(t.locks, k)
			changes = append(changes, store.Mutation{Key: k.String()})
		}
	}
	return changes
}

// unlock releases what the client holds of the queues.
func (t *lockTable) unlock(body *protocol.LockBatchBody, released func(error)) {
	var changes []store.Mutation
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range body.Queues {
		k := queueLock{body.Group, q.Topic, q.QueueID}
		if holder, ok := t.locks[k]; ok && holder.client == body.ClientID {
			delete(t.locks, k)
			changes = append(changes, store.Mutation{Key: k.String()})
		}
	}
	if len(changes) == 0 {
		released(nil)
		return
	}
	if err := t.b.update(kindLocks, released, changes...); err != nil {
		released(err)
	}
}

func (b *Broker) lockBatch(r *remoting.Request) (*remoting.Response, error) {
	body, err := readLockBody(r)
	if err != nil {
		return nil, err
	}
	b.locks.lock(body, func(held []protocol.MessageQueue, err error) {
		if err != nil {
			r.Reply(nil, sendFailure(err))
			return
		}
		r.Reply(remoting.RespondBody(protocol.LockBatchResult{Locked: held}), nil)
	})
	return nil, remoting.ErrLater
}

func (b *Broker) unlockBatch(r *remoting.Request) (*remoting.Response, error) {
	body, err := readLockBody(r)
	if err != nil {
		return nil, err
	}
	b.locks.unlock(body, func(err error) { r.Reply(nil, err) })
	return nil, remoting.ErrLater
}

func readLockBody(r *remoting.Request) (*protocol.LockBatchBody, error) {
	var body protocol.LockBatchBody
	if err := protocol.UnmarshalBody(r.Body, &body); err != nil {
		return nil, err
	}
	if body.Group == "" || body.ClientID == "" {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "consumerGroup %q and clientId %q must not be empty", body.Group, body.ClientID)
	}
	if err := message.CheckGroup(body.Group); err != nil {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "%s", err)
	}
	for _, q := range body.Queues {
		if len(q.Topic) > message.MaxRetryTopicLength {
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "a topic of %d bytes, the limit is %d: %.100q", len(q.Topic), message.MaxRetryTopicLength, q.Topic)
		}
	}
	return &body, checkClientID(body.ClientID)
}
