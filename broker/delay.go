package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/broker/popserve"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Delay levels: the property DELAY=n of a send (codes 10, 310), and every retry (code 36).
//
// What clients see: a message of level n is delivered to its topic and queue after the n-th time of messageDelayLevel, levels above the
// last one count as the last; it keeps its unique key, born time and host, reconsume times and user properties. DELAY, REAL_TOPIC and
// REAL_QID stay in it, as RocketMQ 5.5.0 leaves them (ScheduleMessageService.messageTimeUp). The answer to the send has the id and offset
// in the schedule topic. A query for the message under its topic finds it once it is delivered.
//
// How it is stored, as in RocketMQ: queue n-1 of SCHEDULE_TOPIC_XXXX, with REAL_TOPIC and REAL_QID; the queue index holds the due time
// in place of the tag's code. At that time the message is appended to where it belongs, and its prepared-offset field names the log
// position of what it replaces. That record is also the progress of the level (state kind "delay"), in memory, in the view and in a
// replay alike: a crash can neither lose a message nor deliver it twice.
//
// Differences: messages are delivered at their due time, not at the next tenth of a second; when the wall clock is set back, messages
// wait their delay by the clock that does not jump, where RocketMQ delivers them at once. A message whose topic was deleted is delivered all
// the same, as in RocketMQ: it would hold up its level, and whoever makes the topic again finds it.

// kindDelay of the state: delay level as a decimal number -> offset in its schedule queue, 8 bytes, before which all is delivered.
const kindDelay = "delay"

// defaultDelayLevel is RocketMQ's messageDelayLevel.
const defaultDelayLevel = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"

const (
	// delayLevelsMax bounds the table: every level costs a queue.
	delayLevelsMax = 64
	// delayMax bounds one level.
	delayMax = 365 * 24 * time.Hour
	// unlistedDelay is that of a schedule queue that the table does not list any more.
	unlistedDelay = time.Second
)

// DelayLevels are the delays of levels 1, 2 and so on.
type DelayLevels []time.Duration

// DefaultDelayLevels are RocketMQ's.
func DefaultDelayLevels() DelayLevels {
	levels, err := ParseDelayLevels(defaultDelayLevel)
	if err != nil {
		panic(err)
	}
	return levels
}

// ParseDelayLevels reads the form of messageDelayLevel: numbers with the unit s, m, h or d, separated by spaces.
func ParseDelayLevels(s string) (DelayLevels, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	var levels DelayLevels
	for word := range strings.FieldsSeq(s) {
		unit, ok := units[word[len(word)-1]]
		n, err := strconv.ParseInt(word[:len(word)-1], 10, 32)
		if !ok || err != nil || n < 0 || time.Duration(n) > delayMax/unit {
			return nil, fmt.Errorf("level %d is %q: want a number with s, m, h or d, up to 365d", len(levels)+1, word)
		}
		levels = append(levels, time.Duration(n)*unit)
	}
	if len(levels) == 0 || len(levels) > delayLevelsMax {
		return nil, fmt.Errorf("%d levels: want 1 to %d, such as %q", len(levels), delayLevelsMax, defaultDelayLevel)
	}
	return levels, nil
}

// of returns the delay of a schedule queue.
func (d DelayLevels) of(queueID int32) time.Duration {
	if queueID < 0 || int(queueID) >= len(d) {
		return unlistedDelay
	}
	return d[queueID]
}

// DueTime is the store's: what the index of a queue of delays holds of a message.
func (d DelayLevels) DueTime(r *message.Record) int64 {
	if string(r.Topic) == message.TopicTimerWheel {
		return timedDue(r)
	}
	return r.StoreTime + d.of(r.QueueID).Milliseconds()
}

// Retired is the store's: what a record changes by replacing its source. A delivered message is its level's progress, or ends its wait for
// a moment; a half message's transaction is decided; or the delivery of what a group did not acknowledge ends.
func Retired(r, source *message.Record) (kind string, changes []store.Mutation) {
	switch string(source.Topic) {
	case message.TopicSchedule:
		return kindDelay, []store.Mutation{delayProgress(source.QueueID, source.QueueOffset+1)}
	case message.TopicTimerWheel:
		return kindTimer, []store.Mutation{{Key: timerKey(timedDue(source), source.PhysicalOffset)}}
	case message.TopicHalf:
		return kindTransactions, decidedHalf(r, source)
	}
	return popserve.Retired(r, source)
}

func delayProgress(queueID int32, next int64) store.Mutation {
	return store.Mutation{Key: strconv.Itoa(int(queueID) + 1), Value: binary.BigEndian.AppendUint64(nil, uint64(next))}
}

// loadDelayProgress returns, for each schedule queue, the offset of the first message that is not delivered.
func (b *Broker) loadDelayProgress() ([]int64, error) {
	next := make([]int64, max(len(b.c.DelayLevels), delayLevelsMax))
	err := b.store.State(kindDelay, func(key string, value []byte) error {
		level, err := strconv.Atoi(key)
		if err != nil || level < 1 || level > len(next) || len(value) != 8 {
			return fmt.Errorf("delay level %q: progress %x", key, value)
		}
		next[level-1] = int64(binary.BigEndian.Uint64(value))
		return nil
	})
	for len(next) > len(b.c.DelayLevels) && b.store.Find(message.TopicSchedule, int32(len(next)-1)) == nil {
		next = next[:len(next)-1]
	}
	return next, err
}

// delayedFrom returns the log position of the oldest message that waits for its delay, math.MaxInt64 where none does: retention stops there.
func (b *Broker) delayedFrom() (int64, error) {
	next, err := b.loadDelayProgress()
	if err != nil {
		return 0, err
	}
	oldest := int64(math.MaxInt64)
	for i, offset := range next {
		q := b.store.Find(message.TopicSchedule, int32(i))
		if q == nil {
			continue
		}
		first, end := q.Bounds()
		if offset = max(offset, first); offset >= end {
			continue
		}
		entries, err := q.Entries(nil, offset, 1)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			oldest = min(oldest, e.Position)
		}
	}
	return oldest, nil
}

// requestedDelay returns the level that a message asks for, 0 for none (MessageExt.getDelayTimeLevel, HookUtils.handleScheduleMessage).
func requestedDelay(value []byte, sysFlag int32) (int, error) {
	n, ok := protocol.ParseInt(value)
	if !ok || n != int64(int32(n)) {
		return 0, protocol.Errorf(protocol.RespMessageIllegal, "the property %s is not a number: %q", message.PropDelay, value)
	}
	if n <= 0 || !mayWait(sysFlag) {
		return 0, nil
	}
	return int(min(n, delayLevelsMax)), nil
}

// mayWait tells whether what a message says of its delivery counts: not while its transaction is undecided.
func mayWait(sysFlag int32) bool {
	kind := sysFlag & message.FlagTransactionMask
	return kind == 0 || kind == message.FlagCommit
}

// notScheduled are the properties that a scheduled message gets anew or loses.
var notScheduled = []string{
	message.PropDelay, message.PropRealTopic, message.PropRealQueueID,
	message.PropTimerDeliver, message.PropTimerDelayMS, message.PropTimerDelaySec, message.PropCRC,
}

var scheduleTopic = []byte(message.TopicSchedule)

// schedule makes of an entry for some queue one for the schedule queue of a level, from which it comes back. The properties are made
// anew at the end of arena, which is returned.
func (b *Broker) schedule(e *store.Entry, level int, arena []byte) []byte {
	level = min(level, len(b.c.DelayLevels))
	start := len(arena)
	arena = message.AppendWithout(arena, e.Record.Properties, notScheduled...)
	arena = message.AppendProperty(arena, message.PropDelay, strconv.AppendInt(nil, int64(level), 10))
	arena = message.AppendProperty(arena, message.PropRealTopic, e.Record.Topic)
	arena = message.AppendProperty(arena, message.PropRealQueueID, strconv.AppendInt(nil, int64(e.Record.QueueID), 10))
	e.Record.Properties = arena[start:len(arena):len(arena)]
	queue := b.store.Queue(message.TopicSchedule, int32(level-1))
	e.Record.Topic, e.Record.QueueID = scheduleTopic, queue.ID
	e.Sequence, e.Target = &queue.Sequence, queue
	index(e)
	return arena
}

// index notes what the indexes hold of the entry's record.
func index(e *store.Entry) {
	e.TagsCode = store.TagsCodeOf(&e.Record)
	keys := store.Keys(e.Keys[:0], e.Record.Topic, e.Record.Properties)
	e.KeyCount, e.MoreKeys = int8(min(len(keys), len(e.Keys))), nil
	if len(keys) > len(e.Keys) {
		e.MoreKeys = keys[len(e.Keys):]
	}
}

// entryFor makes the entry of a record that goes to a queue.
func entryFor(r message.Record, queue *store.Queue) store.Entry {
	r.QueueID = queue.ID
	e := store.Entry{Record: r, BodyCRC: crc32.ChecksumIEEE(r.Body), Sequence: &queue.Sequence, Target: queue}
	index(&e)
	return e
}

// realQueueMax bounds a queue id that was read from a log, so that none makes a table of any size.
const realQueueMax = 65535

// errNowhere: a scheduled message does not say where it belongs.
var errNowhere = errors.New("the message does not name a topic that it may be delivered to")

// deliveryOf makes the entry that a scheduled message becomes when it is due, without the properties in drop. Its properties are made at
// the end of arena.
func (b *Broker) deliveryOf(source *message.Record, arena []byte, drop ...string) (store.Entry, []byte, error) {
	name := message.Property(source.Properties, message.PropRealTopic)
	id, ok := protocol.ParseInt(message.Property(source.Properties, message.PropRealQueueID))
	if !ok || id < 0 || id > realQueueMax || message.CheckTopic(string(name)) != nil || message.IsForbiddenToSend(string(name)) ||
		string(name) == string(source.Topic) {
		return store.Entry{}, arena, errNowhere
	}
	var queue *store.Queue
	if t := b.topics.findBytes(name); t != nil {
		queue, name = t.queue(int32(id)), t.name
	}
	if queue == nil {
		queue = b.store.Queue(string(name), int32(id))
	}
	start := len(arena)
	if string(source.Topic) == message.TopicTimerWheel {
		arena = b.deliveredTimed(source, arena)
	} else {
		arena = message.AppendWithout(arena, source.Properties, drop...)
	}
	r := *source
	r.Topic, r.Properties, r.PreparedOffset = name, arena[start:len(arena):len(arena)], source.PhysicalOffset
	return entryFor(r, queue), arena, nil
}
