package popserve

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/apogeemq/apogee/broker/journal"
	"github.com/apogeemq/apogee/broker/pop"
	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
)

// kindPop of the state: group\0topic\0queue\0 and then the entries of pop.Queue, of every queue that a group popped.
const kindPop = "pop"

// queue is a queue that a group pops. A group's deliveries of it are one pop.Queue.
type queue struct {
	key    Key
	prefix string // of its entries in the state

	mu      sync.Mutex // guards what follows; never held while appending
	state   pop.Queue
	forgot  bool // the queue was dropped: whoever holds it asks for it again
	settled int64
}

// table has the queues that groups pop.
type table struct {
	v       *Service
	journal *journal.Journal
	turn    atomic.Uint64 // of pops
	nudge   chan struct{} // tells the shell that a deadline may have come nearer

	mu     sync.RWMutex // guards queues
	queues map[Key]*queue

	alarmsMu  sync.Mutex // guards deadlines
	deadlines timer.Alarms[*queue]
}

func newTable(v *Service) *table {
	t := &table{v: v, queues: map[Key]*queue{}, nudge: make(chan struct{}, 1)}
	t.journal = journal.New(func(changes []store.Mutation, done func(error)) error {
		return v.store.UpdateState(kindPop, changes, done)
	}, v.spawn)
	return t
}

func prefixOf(k Key) string {
	return k.Group + "\x00" + k.Topic + "\x00" + strconv.Itoa(int(k.Queue)) + "\x00"
}

// parseKey splits the key of an entry of the state.
func parseKey(key string) (k Key, entry string, err error) {
	parts := strings.SplitN(key, "\x00", 4)
	if len(parts) < 4 {
		return k, "", fmt.Errorf("pop key %q", key)
	}
	n, err := strconv.ParseInt(parts[2], 10, 32)
	if err != nil {
		return k, "", fmt.Errorf("pop key %q: %w", key, err)
	}
	return Key{parts[0], parts[1], int32(n)}, parts[3], nil
}

// InFlight returns the queues of which something is popped and neither acknowledged nor due again, in order.
func InFlight(s *store.Store) (list []Key, err error) {
	err = s.State(kindPop, func(key string, _ []byte) error {
		k, entry, err := parseKey(key)
		if err == nil && !pop.IsNext(entry) && (len(list) == 0 || list[len(list)-1] != k) {
			list = append(list, k)
		}
		return err
	})
	return list, err
}

// load reads the state. What belongs to a group or topic that is gone is dropped.
func (t *table) load() error {
	gone := map[Key]bool{}
	err := t.v.store.State(kindPop, func(key string, value []byte) error {
		k, entry, err := parseKey(key)
		if err != nil {
			return err
		}
		q := t.queues[k]
		if q == nil {
			q = &queue{key: k, prefix: prefixOf(k)}
			t.queues[k] = q
			gone[k] = t.v.host.KnownGroup(k.Group) == nil || t.v.host.Topic(k.Topic) == nil
		}
		if gone[k] {
			t.journal.Put(key, nil)
			return nil
		}
		return q.state.Load(entry, value)
	})
	for k, q := range t.queues {
		if gone[k] {
			delete(t.queues, k)
			continue
		}
		t.changed(q, nil)
	}
	return err
}

// find returns a queue that a group has popped, nil for any other.
func (t *table) find(k Key) *queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.queues[k]
}

// lock returns a queue, made when it is new, and holds its lock.
func (t *table) lock(k Key) (*queue, error) {
	for {
		q := t.find(k)
		if q == nil {
			if err := t.v.host.CheckOffsets(k); err != nil {
				return nil, err
			}
			t.mu.Lock()
			if q = t.queues[k]; q == nil {
				q = &queue{key: k, prefix: prefixOf(k)}
				t.queues[k] = q
			}
			t.mu.Unlock()
		}
		q.mu.Lock()
		if !q.forgot {
			return q, nil
		}
		q.mu.Unlock()
	}
}

// changed notes what an event did to a queue, whose lock the caller holds: the writes, the group's offset, the next deadline.
func (t *table) changed(q *queue, writes []pop.Write) {
	for _, w := range writes {
		t.journal.Put(q.prefix+w.Key, w.Value)
	}
	if low := q.state.Low(); low != q.settled {
		q.settled = low
		t.v.host.AdvanceOffset(q.key, low)
	}
	at := q.state.Deadline()
	if free := q.state.Free(); free > t.v.host.Now().UnixMilli() {
		at = min(at, free)
	}
	t.setAlarm(q, at)
}

func (t *table) setAlarm(q *queue, at int64) {
	t.alarmsMu.Lock()
	before, any := t.deadlines.First()
	if at == pop.Never {
		t.deadlines.Remove(q)
	} else {
		t.deadlines.Set(q, at)
	}
	nearer := at != pop.Never && (!any || at < before)
	t.alarmsMu.Unlock()
	if nearer {
		select {
		case t.nudge <- struct{}{}:
		default:
		}
	}
}

// orderedTime returns a time for an ordered delivery of a queue: at, or later.
func (t *table) orderedTime(k Key, at int64) int64 {
	q := t.find(k)
	if q == nil {
		return at
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state.Time(at)
}

// fetch brings a run into memory that only the state has. The caller holds the queue's lock.
func (t *table) fetch(q *queue, id pop.RunID) error {
	if !q.state.Absent(id) {
		return nil
	}
	value, known := t.journal.At(q.prefix + id.Key())
	if !known {
		var err error
		if value, err = t.v.store.StateAt(kindPop, q.prefix+id.Key()); err != nil {
			return err
		}
	}
	if value == nil {
		return nil
	}
	r, err := pop.ParseRun(id.Key(), value)
	if err == nil {
		q.state.Fetch(r)
	}
	return err
}

// fetchMissing brings the runs with the earliest deadlines into memory. The caller holds the queue's lock.
func (t *table) fetchMissing(q *queue) error {
	from, count := q.state.Missing()
	if count == 0 {
		return nil
	}
	entries, last, err := t.entries(q, q.prefix+from.Key(), count)
	if err != nil {
		return err
	}
	end := last == ""
	id := from
	var runs []pop.Run
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		entry := key[len(q.prefix):]
		if !pop.IsRun(entry) || entries[key] == nil || key < q.prefix+from.Key() || !end && key > last {
			continue
		}
		r, err := pop.ParseRun(entry, entries[key])
		if err != nil {
			return err
		}
		runs, id = append(runs, r), r.RunID
	}
	q.state.Fetched(runs, id, end)
	return nil
}

// entries returns up to count entries of a queue's state from a key on, with what is on its way to it (nil: to be deleted); last is the
// last key that the state was read up to, empty when that was all.
func (t *table) entries(q *queue, from string, count int) (entries map[string][]byte, last string, err error) {
	entries = map[string][]byte{}
	n := 0
	err = t.v.store.StateFrom(kindPop, from, count, func(key string, value []byte) error {
		if strings.HasPrefix(key, q.prefix) {
			entries[key], last = slices.Clone(value), key
			n++
		}
		return nil
	})
	if n < count {
		last = ""
	}
	t.journal.Overlay(q.prefix, entries)
	return entries, last, err
}

// errForeign ends a reading of the state behind the entries of a queue.
var errForeign = errors.New("of another queue")

// clear puts the deletion of all of a queue's entries. The caller holds its lock.
func (t *table) clear(q *queue) error {
	const step = 4096
	under := map[string][]byte{} // what is on its way to the state
	t.journal.Overlay(q.prefix, under)
	for key, value := range under {
		if value != nil {
			t.journal.Put(key, nil)
		}
	}
	for from, n := q.prefix, step; n == step; {
		n = 0
		err := t.v.store.StateFrom(kindPop, from, step, func(key string, _ []byte) error {
			if n++; !strings.HasPrefix(key, q.prefix) {
				return errForeign
			}
			t.journal.Put(key, nil)
			from = key + "\x00"
			return nil
		})
		if errors.Is(err, errForeign) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reset has a queue go on at an offset, whatever was handed out. The caller holds its lock.
func (t *table) reset(q *queue, offset int64) error {
	if err := t.clear(q); err != nil {
		return err
	}
	t.changed(q, q.state.Reset(nil, offset))
	return nil
}

// drop forgets the queues of a group, or of a topic; those that another group or topic has stay.
func (t *table) drop(topic, group string) {
	t.mu.Lock()
	var list []*queue
	for k, q := range t.queues {
		if (topic == "" || k.Topic == topic) && (group == "" || k.Group == group) {
			list = append(list, q)
			delete(t.queues, k)
		}
	}
	t.mu.Unlock()
	t.forget(list)
}

// recorded waits until what was dropped is in the log.
func (t *table) recorded() error {
	done := make(chan error, 1)
	t.journal.Confirmed(func(err error) { done <- err })
	return <-done
}

// dropQueues forgets the queues with these keys.
func (t *table) dropQueues(keys []Key) {
	t.mu.Lock()
	var list []*queue
	for _, k := range keys {
		if q := t.queues[k]; q != nil {
			list = append(list, q)
			delete(t.queues, k)
		}
	}
	t.mu.Unlock()
	t.forget(list)
}

// forget drops what was handed out of queues that the table does not have any more.
func (t *table) forget(list []*queue) {
	for _, q := range list {
		q.mu.Lock()
		q.forgot = true
		if err := t.clear(q); err != nil {
			t.v.log.Error("what a group popped cannot be forgotten; it is at the next start", "group", q.key.Group, "topic", q.key.Topic, "error", err)
		}
		q.mu.Unlock()
		t.setAlarm(q, pop.Never)
	}
	t.journal.Record()
}

// DropTopic forgets what groups have popped of a topic that is deleted, with their retry topics, and returns once that is recorded
// (AdminBrokerProcessor.deleteTopic).
func (v *Service) DropTopic(topic string) error {
	v.table.drop(topic, "")
	for _, group := range v.host.GroupsOf(topic) {
		for _, v2 := range []bool{false, true} {
			retry := message.PopRetryTopic(topic, group, v2)
			if v.host.Topic(retry) == nil {
				continue
			}
			v.table.drop(retry, "")
			if err := v.host.RemoveTopic(retry); err != nil {
				v.log.Warn("a retry topic cannot be deleted", "topic", retry, "error", err)
			}
		}
	}
	return v.table.recorded()
}

// DropGroup forgets what a group that is deleted has popped.
func (v *Service) DropGroup(group string) {
	v.table.drop("", group)
	v.lites.dropGroup(group)
}
