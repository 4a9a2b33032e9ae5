package popserve

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/broker/pop"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Deliveries that RocketMQ left open. Its POP appends a check point for each pop and a message for each acknowledgement to the revive log,
// most of them as timed messages that come there when the delivery's time is over, and only then compares them (PopReviveService). The
// group's offset lies behind all that is popped. So each check point becomes a delivery here, with the identity that the clients' receipts
// have, and what acknowledgements name is taken out of it; what is left comes again in its time.

// Tags of the revive log's messages (PopAckConstants).
const (
	checkPointTag = "ck"
	ackTag        = "ack"
	batchAckTag   = "bAck"
)

// takeOverMax is how many changes one record of the state holds when deliveries are taken over, distanceMax bounds a check point's distances.
const takeOverMax, distanceMax = 1000, 1 << 18

// revived is the body of a check point (PopCheckPoint), or of an acknowledgement (AckMsg, BatchAckMsg).
type revived struct {
	Topic string `json:"t"`
	Group string `json:"c"`
	Queue int32  `json:"q"`
	Start int64  `json:"so"`
	Time  int64  `json:"pt"`

	Invisible int64   `json:"it"`
	Count     int     `json:"n"`
	Distances []int64 `json:"d"`  // of the messages from Start; none: 0, 1...
	Acked     int64   `json:"bm"` // by their index
	Suspend   bool    `json:"sp"`

	Offset  int64   `json:"ao"`
	Offsets []int64 `json:"aol"`
}

// kindImport of the state: there when the deliveries of RocketMQ are in the state of POP.
const kindImport = "pop_import"

// reviveGroup has the offsets of what RocketMQ has handled last in the queues of the revive log (PopAckConstants.REVIVE_GROUP).
const reviveGroup = message.SystemGroupPrefix + "REVIVE_GROUP"

// Heir is a broker that a directory of RocketMQ is taken over by, with its topics, the offsets of groups and what waits for a moment.
type Heir interface {
	TopicsWith(prefix string) []*Topic
	Offset(k Key) (offset int64, ok bool)
	SetOffset(k Key, offset int64)
	RecordOffsets() // appends what was set
	EachTimed(topicPrefix string, fn func(r *message.Record) error) error
	ForgetTimed(topicPrefix string) error
}

// takeOver is one run of TakeOver.
type takeOver struct {
	heir    Heir
	s       *store.Store
	log     *slog.Logger
	changes map[string][]byte // not in the state yet; nil deletes
}

// TakeOver makes the deliveries that RocketMQ left open the state of POP, once, and sets groups back to the lowest offset that they have not
// acknowledged.
func TakeOver(h Heir, s *store.Store, log *slog.Logger) error {
	if s.ForeignEnd() == 0 {
		return nil
	}
	if done, err := s.StateAt(kindImport, ""); err != nil || done != nil {
		return err
	}
	t := takeOver{heir: h, s: s, log: log, changes: map[string][]byte{}}
	for _, take := range []func(body *revived, number int32, r *message.Record) error{t.open, t.acknowledge} {
		err := t.eachRecord(func(r *message.Record) error {
			if body, number, ok := t.parse(r); ok {
				return take(&body, number, r)
			}
			return nil
		})
		if err == nil {
			err = t.flush()
		}
		if err != nil {
			return err
		}
	}
	if err := t.settle(); err != nil {
		return err
	}
	h.RecordOffsets() // before the mark: the log keeps the order
	if err := s.UpdateState(kindImport, []store.Mutation{{Value: []byte{1}}}, func(error) {}); err != nil {
		return err
	}
	return h.ForgetTimed(message.ReviveLogPrefix)
}

// eachRecord calls fn for what RocketMQ has not handled of the revive log, and for what waits to come to it.
func (t *takeOver) eachRecord(fn func(r *message.Record) error) error {
	for _, topic := range t.heir.TopicsWith(message.ReviveLogPrefix) {
		for id, q := range topic.Queues {
			from := int64(0)
			if handled, ok := t.heir.Offset(Key{reviveGroup, string(topic.Name), int32(id)}); ok {
				from = handled + 1
			}
			if err := t.s.EachForeign(q, from, fn); err != nil {
				return err
			}
		}
	}
	return t.heir.EachTimed(message.ReviveLogPrefix, fn)
}

// settle has groups read on where they were, and their offsets say what is not acknowledged.
func (t *takeOver) settle() error {
	lows, messages := map[Key]int64{}, 0
	err := t.s.State(kindPop, func(key string, value []byte) error {
		k, entry, err := parseKey(key)
		if err != nil || !pop.IsRun(entry) {
			return err
		}
		r, err := pop.ParseRun(entry, value)
		if err != nil {
			return err
		}
		if low, ok := lows[k]; !ok || r.Low() < low {
			lows[k] = r.Low()
		}
		messages += r.Count()
		return nil
	})
	if err != nil {
		return err
	}
	for k, low := range lows {
		next, ok := t.heir.Offset(k)
		if !ok {
			continue // it begins as any new group
		}
		w := new(pop.Queue).Advance(nil, next)[0]
		t.changes[prefixOf(k)+w.Key] = w.Value
		if low < next {
			t.heir.SetOffset(k, low)
		}
	}
	t.log.Info("what groups had popped from RocketMQ and not acknowledged was taken over", "queues", len(lows), "messages", messages)
	return t.flush()
}

// Leave says by offsets that all in a revive log is handled, once a broker has run here: groups begin again in RocketMQ at the lowest offset
// that they have not acknowledged.
func Leave(s *store.Store, topic string, offset func(topic, group string, queue int32, handled int64)) error {
	if done, err := s.StateAt(kindImport, ""); err != nil || done == nil || !strings.HasPrefix(topic, message.ReviveLogPrefix) {
		return err
	}
	for _, q := range s.QueuesOf(topic) {
		if _, end := q.Bounds(); end > 0 {
			offset(topic, reviveGroup, q.ID, end-1)
		}
	}
	return nil
}

// parse reads a message of the revive log, and the number of the queue that it is in, or waits to come to.
func (t *takeOver) parse(r *message.Record) (body revived, number int32, ok bool) {
	err := json.Unmarshal(r.Body, &body)
	number = r.QueueID
	if real := message.Property(r.Properties, message.PropRealQueueID); err == nil && real != nil {
		var n int64
		n, err = strconv.ParseInt(string(real), 10, 32)
		number = int32(n)
	}
	for _, d := range body.Distances {
		if d < 0 || d > distanceMax {
			err = fmt.Errorf("distance %d from offset %d", d, body.Start)
		}
	}
	if err == nil && (body.Topic == "" || body.Group == "" || strings.Contains(body.Group+body.Topic, "\x00") || body.Start < 0) {
		err = fmt.Errorf("group %q, topic %q, offset %d", body.Group, body.Topic, body.Start)
	}
	if err != nil {
		t.log.Warn("a check point or an acknowledgement of RocketMQ's POP cannot be read and is passed over", "position", r.PhysicalOffset, "error", err)
	}
	return body, number, err == nil
}

// open takes a check point.
func (t *takeOver) open(body *revived, number int32, r *message.Record) error {
	if string(message.Property(r.Properties, message.PropTags)) != checkPointTag {
		return nil
	}
	if len(body.Distances) == 0 { // one of an old RocketMQ
		for i := range int64(min(body.Count, popMessagesMax)) {
			body.Distances = append(body.Distances, i)
		}
	}
	var left []int64
	for i, d := range body.Distances {
		if i >= 32 || body.Acked&(1<<i) == 0 {
			left = append(left, body.Start+d)
		}
	}
	run := pop.NewRun(pop.RunID{Deadline: body.Time + body.Invisible, Start: body.Start, Time: body.Time, Number: number}, left, body.Suspend)
	return t.put(Key{body.Group, body.Topic, body.Queue}, run)
}

// acknowledge takes an acknowledgement, or one of many messages: they come to the revive log at the end of the delivery's time.
func (t *takeOver) acknowledge(body *revived, number int32, r *message.Record) error {
	switch string(message.Property(r.Properties, message.PropTags)) {
	case ackTag:
		body.Offsets = []int64{body.Offset}
	case batchAckTag:
	default:
		return nil
	}
	deadline, _ := protocol.ParseInt(message.Property(r.Properties, message.PropTimerDeliver))
	id := pop.RunID{Deadline: deadline, Start: body.Start, Time: body.Time, Number: number}
	k := Key{body.Group, body.Topic, body.Queue}
	key := prefixOf(k) + id.Key()
	value, known := t.changes[key]
	if !known {
		var err error
		if value, err = t.s.StateAt(kindPop, key); err != nil {
			return err
		}
	}
	if value == nil {
		return nil // it is over
	}
	run, err := pop.ParseRun(id.Key(), value)
	if err != nil {
		return err
	}
	for _, offset := range body.Offsets {
		run.Ack(offset)
	}
	return t.put(k, run)
}

func (t *takeOver) put(k Key, run pop.Run) error {
	w := run.Write()
	t.changes[prefixOf(k)+w.Key] = w.Value
	if len(t.changes) < takeOverMax {
		return nil
	}
	return t.flush()
}

// flush writes what has been found.
func (t *takeOver) flush() error {
	var list []store.Mutation
	for key, value := range t.changes {
		list = append(list, store.Mutation{Key: key, Value: value})
	}
	clear(t.changes)
	for part := range slices.Chunk(list, takeOverMax) {
		done := make(chan error, 1)
		err := t.s.UpdateState(kindPop, part, func(err error) { done <- err })
		if err == nil {
			err = <-done
		}
		if err != nil {
			return err
		}
	}
	return nil
}
