package delay

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Delays to any moment: the properties TIMER_DELAY_SEC, TIMER_DELAY_MS and TIMER_DELIVER_MS of a send (codes 10, 310), the first of them
// that is there, and their recall: RECALL_MESSAGE (370).
//
// What clients see: the checks of RocketMQ (HookUtils.handleScheduleMessage); a moment that is past means at once; a delay level goes
// before a moment. The answer has the id and offset in rmq_sys_wheel_timer, and the recall handle. The message comes to its topic and queue
// with TIMER_OUT_MS, TIMER_ENQUEUE_MS and TIMER_DEQUEUE_MS, without REAL_TOPIC and REAL_QID. A recall names topic, moment and unique key
// (RecallMessageProcessor): it succeeds whether there is such a message or not, up to the moment that TIMER_OUT_MS says.
//
// How it is stored, as in RocketMQ: queue 0 of rmq_sys_wheel_timer, with TIMER_OUT_MS (the moment rounded to timerPrecisionMs), REAL_TOPIC
// and REAL_QID. While it waits it is an entry of the state of kind "timer". At its moment it is appended to where it belongs, and its
// prepared-offset field names the log position of what it replaces: that record ends the wait, in memory, in the view and in a replay
// alike. What retention appends again until then says with TIMER_ENQUEUE_MS from when on it has waited, so that its moment stays the same. A
// recall is a record there too, as RocketMQ's is (TIMER_DEL_UNIQKEY): it waits for nothing, and deletes at once.
//
// Differences: messages are delivered at their moment, not at the end of its second; they are not rolled, so that no window bounds the
// wait; there is no limit per slot, but one of all that waits, timerLiveBytesMax, with RocketMQ's answer. Recall is enabled unless
// recallMessageEnable says otherwise, which in RocketMQ it does by default.
//
// A moment is one of the wall clock, also where a delay was asked for. When it is set forward, what it has passed comes within a second; set
// back, all waits until it shows the moment. What is sent while it shows an earlier time than the log's last record may come up to a second late.

// KindMoments of the state: due time and log position of a message that waits, each 8 bytes big-endian -> size of its record, 4 bytes, and
// the topic that it goes to; none of a recall, which goes nowhere.
const KindMoments = "timer"

const (
	// DefaultMaxDelaySec and DefaultPrecisionMS are RocketMQ's.
	DefaultMaxDelaySec = 3 * 24 * 3600
	DefaultPrecisionMS = 1000
	// MaxDelaySecMax bounds timerMaxDelaySec.
	MaxDelaySecMax = 366 * 24 * 3600
	// DefaultLiveBytesMax bounds the records of messages that wait.
	DefaultLiveBytesMax = 16 << 30
	// timerPrecisionMSMax is the coarsest there is: no message is due later than that after its TIMER_OUT_MS.
	timerPrecisionMSMax = 1000
	// atOnce is when a recall is due: before all else.
	atOnce = 0
)

var timerTopic = []byte(message.TopicTimerWheel)

// timerKey makes the key of what waits, in whose bytes' order messages fall due.
func timerKey(due, position int64) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(due))
	return string(binary.BigEndian.AppendUint64(b, uint64(position)))
}

func keyOf(k timer.Key) string { return timerKey(max(k.Due, 0), k.Position) }

// waits makes the entry of the state of what waits, parseMoment reads it.
func waits(m timer.Moment) store.Mutation {
	value := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(m.Topic)), uint32(m.Size))
	return store.Mutation{Key: keyOf(m.Key), Value: append(value, m.Topic...)}
}

// The topic is left where it is.
func parseMoment(key string, value []byte) (m timer.Moment, topic []byte, err error) {
	if len(key) != 16 || len(value) < 4 {
		return m, nil, fmt.Errorf("timer %x: %x", key, value)
	}
	be := binary.BigEndian
	k := []byte(key)
	return timer.Moment{
		Key:  timer.Key{Due: int64(be.Uint64(k)), Position: int64(be.Uint64(k[8:]))},
		Size: int32(be.Uint32(value)),
	}, value[4:], nil
}

// timedDue returns when a record of the timers' topic is due, ms. RocketMQ keeps the moment in whole steps of its precision: the properties
// that the producer set say it exactly, as long as they agree.
func timedDue(r *message.Record) int64 {
	out, ok := protocol.ParseInt(message.Property(r.Properties, message.PropTimerOut))
	switch {
	case !ok || out < 0 || out > math.MaxInt64-timerPrecisionMSMax:
		return never
	case moved(r):
		return out
	case message.Property(r.Properties, message.PropTimerDelete) != nil:
		return atOnce
	}
	exact, err := moment(r.Properties, since(r))
	if err != nil {
		exact = out
	}
	return min(max(exact, out), out+timerPrecisionMSMax)
}

// since returns from when on a record of the timers' topic has waited, ms: of a copy, what it says of the message that was sent, as a message
// does that RocketMQ has rolled.
func since(r *message.Record) int64 {
	at, ok := protocol.ParseInt(message.Property(r.Properties, message.PropTimerEnqueue))
	if !ok || at < 0 || at > r.StoreTime {
		return r.StoreTime
	}
	return at
}

// Due returns when a record of the timers' topic is due, ms; false for one that waits for nothing, such as a recall.
func Due(r *message.Record) (due int64, ok bool) {
	due = timedDue(r)
	return due, due != never && due != atOnce
}

// Pending is the store's, of a record of the timers' topic: what it changes by waiting.
func Pending(r *message.Record) (kind string, changes []store.Mutation) {
	due := timedDue(r)
	if due == never {
		return "", nil
	}
	size := r.EncodedSize()
	if message.Property(r.Properties, message.PropCRC) != nil { // a decoded record has it already
		size -= message.CRCPropertySize
	}
	return KindMoments, []store.Mutation{waits(timer.Moment{Key: timer.Key{Due: due, Position: r.PhysicalOffset}, Size: int32(size), Topic: waitsFor(r)})}
}

// waitsFor returns the topic that a record of the timers' topic goes to, empty for a recall.
func waitsFor(r *message.Record) string {
	if message.Property(r.Properties, message.PropTimerDelete) != nil && !moved(r) {
		return ""
	}
	return string(message.Property(r.Properties, message.PropRealTopic))
}

// moment returns the moment that properties ask for, ms, of a message that is sent at now.
func moment(properties []byte, now int64) (int64, error) {
	for _, p := range [...]struct {
		name        string
		base, units int64
	}{{message.PropTimerDelaySec, now, 1000}, {message.PropTimerDelayMS, now, 1}, {message.PropTimerDeliver, 0, 1}} {
		value := message.Property(properties, p.name)
		if value == nil {
			continue
		}
		n, ok := protocol.ParseInt(value)
		if !ok || n > (math.MaxInt64-p.base)/p.units || n < (math.MinInt64+p.base)/p.units {
			return 0, fmt.Errorf("the property %s is %q: want a number", p.name, value)
		}
		return p.base + n*p.units, nil
	}
	return 0, fmt.Errorf("no moment")
}

// out rounds a moment as RocketMQ does: down to its precision, and a multiple of it one step earlier.
func (d *Delays) out(moment int64) int64 {
	precision := d.c.PrecisionMS
	if moment%precision == 0 {
		return moment - precision
	}
	return moment / precision * precision
}

// WaitForMoment makes of an entry for some queue one for the timers' topic, from which it comes back at its moment; one whose moment is past stays as
// it is. The properties are made anew at the end of arena, which is returned. Only what IsTimed may be given.
func (d *Delays) WaitForMoment(e *store.Entry, arena []byte) ([]byte, error) {
	if d.c.NoMoments {
		return arena, protocol.Errorf(protocol.RespSystemError, "accurate timer message is not enabled, timerWheelEnable is false")
	}
	now := d.c.Now().UnixMilli()
	at, err := moment(e.Record.Properties, now)
	most := d.c.MaxDelaySec * 1000
	deletes := message.Property(e.Record.Properties, message.PropTimerDelete) != nil
	switch {
	case err != nil || at > now && at-now > most || at <= now && deletes:
		refusal := protocol.Errorf(protocol.RespMessageIllegal, "timer message illegal, the delay time should not be bigger than the max delay %dms; "+
			"or if set del msg, the delay time should be bigger than the current time", most)
		if err != nil {
			refusal.Remark += "; " + err.Error()
		}
		return arena, refusal
	case at <= now:
		return arena, nil
	case d.timed.bytes.Load() >= d.c.LiveBytesMax && !deletes:
		return arena, protocol.Errorf(protocol.RespSystemError, "timer message is under flow control, %d bytes of messages wait for their moment, "+
			"the limit is timerLiveBytesMax=%d; send again later, or raise it", d.timed.bytes.Load(), d.c.LiveBytesMax)
	}
	start := len(arena)
	arena = message.AppendWithout(arena, e.Record.Properties, message.PropRealTopic, message.PropRealQueueID, message.PropTimerEnqueue, propMoved, message.PropCRC)
	arena = message.AppendProperty(arena, message.PropTimerOut, strconv.AppendInt(nil, d.out(at), 10))
	arena = message.AppendProperty(arena, message.PropRealTopic, e.Record.Topic)
	arena = message.AppendProperty(arena, message.PropRealQueueID, strconv.AppendInt(nil, int64(e.Record.QueueID), 10))
	e.Record.Properties = arena[start:len(arena):len(arena)]
	e.Record.Topic, e.Record.QueueID = timerTopic, 0
	e.Sequence, e.Target = &d.timed.queue.Sequence, d.timed.queue
	store.IndexEntry(e)
	return arena, nil
}

// deliveredTimed appends the properties that a message is delivered with which has waited for its moment.
func (d *Delays) deliveredTimed(source *message.Record, arena []byte) []byte {
	if moved(source) {
		return appendMovedBack(arena, source.Properties)
	}
	start := len(arena)
	arena = message.AppendWithout(arena, source.Properties, message.PropRealTopic, message.PropRealQueueID, message.PropCRC,
		message.PropTimerEnqueue, message.PropTimerDequeue)
	bare := len(arena)
	arena = message.AppendProperty(arena, message.PropTimerEnqueue, strconv.AppendInt(nil, since(source), 10))
	arena = message.AppendProperty(arena, message.PropTimerDequeue, strconv.AppendInt(nil, d.c.Now().UnixMilli(), 10))
	if len(arena)-start+message.CRCPropertySize > message.MaxPropertiesSize {
		arena = arena[:bare] // rather than not at all
	}
	return arena
}

// RecallHandle returns what a message that waits for its moment is recalled by, empty for one that cannot be
// (SendMessageProcessor.attachRecallHandle).
func (d *Delays) RecallHandle(r *message.Record) string {
	topic, out := message.Property(r.Properties, message.PropRealTopic), message.Property(r.Properties, message.PropTimerOut)
	n, ok := protocol.ParseInt(out)
	if string(r.Topic) != message.TopicTimerWheel || !ok || topic == nil || strings.HasPrefix(string(topic), message.RetryPrefix) {
		return ""
	}
	key := message.Property(r.Properties, message.PropUniqueKey)
	return protocol.RecallHandle{Topic: string(topic), Broker: d.c.Broker, At: n + 1, UniqueKey: string(key)}.String()
}

// newLateness counts how late messages are delivered.
func newLateness() *traffic.Histogram {
	const ms = time.Millisecond
	return traffic.NewHistogram(ms, 5*ms, 10*ms, 50*ms, 100*ms, 500*ms, time.Second, 10*time.Second)
}

// recallTag marks a recall's record (RecallMessageProcessor.RECALL_MESSAGE_TAG).
const recallTag = "_RECALL_TAG_"

// RecallOf makes the entry of a recall (RecallMessageProcessor.buildMessage).
func (d *Delays) RecallOf(h *protocol.RecallHandle, group string, born, storeHost netip.AddrPort) store.Entry {
	now := d.c.Now().UnixMilli()
	var p []byte
	for _, pair := range [][2]string{
		{message.PropTimerDelete, h.UniqueKey}, {message.PropUniqueKey, h.UniqueKey}, {message.PropTags, recallTag},
		{message.PropTimerDeliver, strconv.FormatInt(h.At, 10)}, {message.PropBornTimestamp, strconv.FormatInt(now, 10)},
		{message.PropProducerGroup, group}, {message.PropTimerOut, strconv.FormatInt(d.out(h.At), 10)},
		{message.PropRealTopic, h.Topic}, {message.PropRealQueueID, "0"},
	} {
		if pair[1] != "" {
			p = message.AppendProperty(p, pair[0], []byte(pair[1]))
		}
	}
	return d.c.Store.EntryFor(message.Record{
		Topic: timerTopic, Body: []byte("0"), Properties: p, BornTime: now, BornHost: born, StoreHost: storeHost,
	}, d.timed.queue)
}
