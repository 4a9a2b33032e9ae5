package popserve

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/broker/pop"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Deliveries that are over: what a group did not acknowledge in time is appended to its retry topic, or to its DLQ when it has failed as
// often as the group allows. The record names the message that it delivers again, and in the property POP_CK_OFFSET the delivery that
// it ends; so it is the end of that message's delivery, in the view and in a replay alike: a crash in between loses nothing and delivers
// nothing twice.

const (
	// revivedAtOnce bounds the runs of one queue that are delivered again at a time.
	revivedAtOnce = 64
	// retryQueues is how many queues a retry topic or a DLQ is made with (PopAckConstants.retryQueueNum, DLQ_NUMS_PER_GROUP).
	retryQueues = 1
	// reviveAgainMS is the pause after a delivery was refused; reviveSoonMS that for a change which is on its way to the log.
	reviveAgainMS, reviveSoonMS = 1000, 5
)

// revive delivers again what of a queue is due.
func (v *Service) revive(q *queue, now int64) {
	t := v.table
	q.mu.Lock()
	if q.forgot {
		q.mu.Unlock()
		return
	}
	err := t.fetchMissing(q)
	postponed := false
	runs := q.state.Due(now, revivedAtOnce, func(r *pop.Run) bool {
		fresh := t.journal.IsFresh(q.prefix + r.Key()) // the log would have the two in the wrong order
		postponed = postponed || fresh
		return fresh
	})
	free := q.state.Free()
	t.changed(q, nil)
	q.mu.Unlock()
	if err != nil {
		v.log.Error("deliveries cannot be read; it is tried again", "group", q.key.Group, "topic", q.key.Topic, "queue", q.key.Queue, "error", err)
		t.setAlarm(q, now+reviveAgainMS)
	} else if postponed {
		t.journal.Record()
		t.setAlarm(q, now+reviveSoonMS)
	}
	for i := range runs {
		if err := v.reviveRun(q, &runs[i]); err != nil {
			v.revived(q, &runs[i], err)
		}
	}
	if free > 0 && free <= now {
		v.wakeQueue(q.key)
	}
}

// reviveRun appends the messages of a run to where they come again. After nil revived will be called.
func (v *Service) reviveRun(q *queue, run *pop.Run) error {
	batch := &store.Batch{}
	g, t := v.host.KnownGroup(q.key.Group), v.host.Topic(q.key.Topic)
	if g != nil && t != nil {
		for i := range run.Left.All {
			if err := v.addRevived(batch, q, run, run.Start+int64(i), g); err != nil {
				return err
			}
		}
	}
	if len(batch.Entries) == 0 { // retention was faster, or nobody wants them
		q.mu.Lock()
		v.table.journal.Put(q.prefix+run.Key(), nil)
		q.mu.Unlock()
		v.table.journal.Confirmed(func(err error) { v.revived(q, run, err) })
		return nil
	}
	last := batch.Entries[len(batch.Entries)-1].Target.(*store.WithState)
	last.Changes = []store.Mutation{{Key: q.prefix + run.Key()}}
	batch.Done = func(_ *store.Batch, err error) { v.revived(q, run, err) }
	return v.store.Append(batch)
}

// addRevived adds the next delivery of one message, unless there is none any more.
func (v *Service) addRevived(batch *store.Batch, q *queue, run *pop.Run, offset int64, g *protocol.SubscriptionGroupConfig) error {
	source := v.host.Topic(q.key.Topic).Queue(q.key.Queue)
	var result store.Result
	defer result.Release()
	raw, err := v.store.ReadOne(&result, source, offset)
	if raw == nil || err != nil {
		return err
	}
	r, _, err := message.Decode(raw)
	if err == nil {
		err = r.Verify(raw)
	}
	if err != nil {
		v.log.Error("a damaged message is not delivered again", "group", q.key.Group, "topic", q.key.Topic, "queue", q.key.Queue, "offset", offset, "error", err)
		return nil
	}
	name := q.key.Topic
	if !isRetry(name) {
		name = message.PopRetryTopic(name, q.key.Group, v.host.Settings().RetryTopicV2)
	}
	failed := r.ReconsumeTimes >= g.RetryMaxTimes && !run.Suspend
	if failed {
		name = message.DLQTopic(q.key.Group)
	}
	target, err := v.host.EnsureTopic(name, retryQueues)
	if err != nil {
		return err
	}
	queue := target.Queue(0)
	if queue == nil {
		return fmt.Errorf("topic %s has no queue", name)
	}
	ends := run.Without(offset)
	original := r.Properties
	r.Properties = properties(&r, q.key, run, retiredText(ends), failed)
	r.Topic, r.PreparedOffset = target.Name, r.PhysicalOffset
	if r.EncodedPropertiesSize() > message.MaxPropertiesSize { // without a place for ours: a replay would deliver it twice
		r.Properties, r.PreparedOffset = message.AppendWithout(nil, original, message.PropCRC), 0
	}
	if !run.Suspend {
		r.ReconsumeTimes++
	}
	r.Body = bytes.Clone(r.Body)
	e := v.host.NewEntry(r, queue)
	e.Target = &store.WithState{Queue: queue, Kind: kindPop, Changes: []store.Mutation{{Key: q.prefix + ends.Key, Value: ends.Value}}}
	batch.Entries = append(batch.Entries, e)
	if failed {
		v.host.CountDead(topicOf(q.key), q.key.Group)
	} else {
		v.host.Count(traffic.PopRevived, topicOf(q.key), q.key.Group)
	}
	return nil
}

// isRetry tells whether a topic holds what groups have failed on.
func isRetry(topic string) bool { return strings.HasPrefix(topic, message.RetryPrefix) }

// properties are those of a message that is delivered again.
func properties(r *message.Record, k Key, run *pop.Run, ends string, failed bool) []byte {
	p := message.AppendWithout(nil, r.Properties, message.PropCRC, message.PropPopRetired, message.PropOriginGroup)
	if message.Property(p, message.PropFirstPopTime) == nil {
		p = message.AppendProperty(p, message.PropFirstPopTime, strconv.AppendInt(nil, run.Time, 10))
	}
	if failed && message.Property(p, message.PropRetryTopic) == nil {
		p = message.AppendProperty(p, message.PropRetryTopic, []byte(topicOf(k)))
	}
	p = message.AppendProperty(p, message.PropOriginGroup, []byte(k.Group))
	return message.AppendProperty(p, message.PropPopRetired, []byte(ends))
}

// revived ends a run whose messages have been delivered again, or takes it back.
func (v *Service) revived(q *queue, run *pop.Run, err error) {
	q.mu.Lock()
	if err != nil {
		q.state.Refused(run.RunID)
	} else {
		q.state.Revived(run.RunID)
	}
	if !q.forgot {
		v.table.changed(q, nil)
	}
	q.mu.Unlock()
	if err != nil {
		v.log.Error("messages cannot be delivered again; it is tried until they can", "group", q.key.Group, "topic", q.key.Topic, "error", err)
		v.table.setAlarm(q, v.host.Now().UnixMilli()+reviveAgainMS)
		return
	}
	retry := q.key
	if !isRetry(retry.Topic) {
		retry.Topic = message.PopRetryTopic(retry.Topic, retry.Group, v.host.Settings().RetryTopicV2)
	}
	retry.Queue = 0
	v.wakeQueue(retry)
}

// Retired is what a record changes that delivers a message again: the delivery before it ends. It has no changes for any other record.
func Retired(r, source *message.Record) (kind string, changes []store.Mutation) {
	ends := message.Property(r.Properties, message.PropPopRetired)
	if ends == nil {
		return "", nil
	}
	group := message.Property(r.Properties, message.PropOriginGroup)
	changes, err := retired(Key{string(group), string(source.Topic), source.QueueID}, string(ends))
	if err != nil {
		return "", nil
	}
	return kindPop, changes
}

// retiredText is what a message that was delivered again says of the delivery that it ends: the run's entry, and what is left of it.
func retiredText(w pop.Write) string { return fmt.Sprintf("%x.%x", w.Key, w.Value) }

// retired reads it.
func retired(k Key, text string) ([]store.Mutation, error) {
	first, second, _ := strings.Cut(text, ".")
	key, err := hex.DecodeString(first)
	value, err2 := hex.DecodeString(second)
	if err = errors.Join(err, err2); err != nil || !pop.IsRun(string(key)) {
		return nil, fmt.Errorf("retired delivery %.200q: %w", text, err)
	}
	m := store.Mutation{Key: prefixOf(k) + string(key)}
	if len(value) > 0 {
		m.Value = value
	}
	return []store.Mutation{m}, nil
}
