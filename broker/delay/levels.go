package delay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

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
// What still waits when retention takes its segment is moved to rmq_sys_wheel_timer (move.go), where it waits for the same moment.
//
// Differences: messages are delivered at their due time, not at the next tenth of a second; when the wall clock is set back, messages
// wait their delay by the clock that does not jump (from the last start on, if that was later; what was moved goes by the wall clock), where
// RocketMQ delivers them at once. A message whose topic was deleted is delivered all the same, as in RocketMQ: it would hold up its level,
// and whoever makes the topic again finds it.

// KindLevels of the state: delay level as a decimal number -> offset in its schedule queue, 8 bytes, before which all is delivered.
const KindLevels = "delay"

// defaultLevels is RocketMQ's messageDelayLevel.
const defaultLevels = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"

const (
	// levelsMax bounds the table: every level costs a queue.
	levelsMax = 64
	// levelMax bounds one level.
	levelMax = 365 * 24 * time.Hour
	// unlistedDelay is that of a schedule queue that the table does not list any more.
	unlistedDelay = time.Second
)

// Levels are the delays of levels 1, 2 and so on.
type Levels []time.Duration

// DefaultLevels are RocketMQ's.
func DefaultLevels() Levels {
	levels, err := ParseLevels(defaultLevels)
	if err != nil {
		panic(err)
	}
	return levels
}

// ParseLevels reads the form of messageDelayLevel: numbers with the unit s, m, h or d, separated by spaces.
func ParseLevels(s string) (Levels, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	var levels Levels
	for word := range strings.FieldsSeq(s) {
		unit, ok := units[word[len(word)-1]]
		n, err := strconv.ParseInt(word[:len(word)-1], 10, 32)
		if !ok || err != nil || n < 0 || time.Duration(n) > levelMax/unit {
			return nil, fmt.Errorf("level %d is %q: want a number with s, m, h or d, up to 365d", len(levels)+1, word)
		}
		levels = append(levels, time.Duration(n)*unit)
	}
	if len(levels) == 0 || len(levels) > levelsMax {
		return nil, fmt.Errorf("%d levels: want 1 to %d, such as %q", len(levels), levelsMax, defaultLevels)
	}
	return levels, nil
}

// String is the form of messageDelayLevel.
func (l Levels) String() string {
	var parts []string
	for _, level := range l {
		text, unit := level/time.Second, "s"
		switch {
		case level%(24*time.Hour) == 0:
			text, unit = level/(24*time.Hour), "d"
		case level%time.Hour == 0:
			text, unit = level/time.Hour, "h"
		case level%time.Minute == 0:
			text, unit = level/time.Minute, "m"
		}
		parts = append(parts, strconv.FormatInt(int64(text), 10)+unit)
	}
	return strings.Join(parts, " ")
}

// of returns the delay of a schedule queue.
func (l Levels) of(queueID int32) time.Duration {
	if queueID < 0 || int(queueID) >= len(l) {
		return unlistedDelay
	}
	return l[queueID]
}

// DueTime is the store's: what the index of a queue of delays holds of a message.
func (l Levels) DueTime(r *message.Record) int64 {
	if string(r.Topic) == message.TopicTimerWheel {
		return timedDue(r)
	}
	return r.StoreTime + l.of(r.QueueID).Milliseconds()
}

// Progress is the change of state by which a schedule queue is delivered before an offset.
func Progress(queueID int32, next int64) store.Mutation {
	return store.Mutation{Key: strconv.Itoa(int(queueID) + 1), Value: binary.BigEndian.AppendUint64(nil, uint64(next))}
}

// LevelProgress returns, for each schedule queue, the offset of the first message that is not delivered.
func (d *Delays) LevelProgress() ([]int64, error) {
	next := make([]int64, max(len(d.c.Levels), levelsMax))
	err := d.c.Store.State(KindLevels, func(key string, value []byte) error {
		level, err := strconv.Atoi(key)
		if err != nil || level < 1 || level > len(next) || len(value) != 8 {
			return fmt.Errorf("delay level %q: progress %x", key, value)
		}
		next[level-1] = int64(binary.BigEndian.Uint64(value))
		return nil
	})
	for len(next) > len(d.c.Levels) && d.c.Store.Find(message.TopicSchedule, int32(len(next)-1)) == nil {
		next = next[:len(next)-1]
	}
	return next, err
}

// delayedFrom returns the log position of the oldest message that waits for its delay, math.MaxInt64 where none does: retention stops there.
func (d *Delays) delayedFrom() (int64, error) {
	next, err := d.LevelProgress()
	if err != nil {
		return 0, err
	}
	oldest := int64(math.MaxInt64)
	for i, offset := range next {
		q := d.c.Store.Find(message.TopicSchedule, int32(i))
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

// RequestedLevel returns the level that a message asks for, 0 for none (MessageExt.getDelayTimeLevel, HookUtils.handleScheduleMessage).
func RequestedLevel(value []byte, sysFlag int32) (int, error) {
	n, ok := protocol.ParseInt(value)
	if !ok || n != int64(int32(n)) {
		return 0, protocol.Errorf(protocol.RespMessageIllegal, "the property %s is not a number: %q", message.PropDelay, value)
	}
	if n <= 0 || !MayWait(sysFlag) {
		return 0, nil
	}
	return int(min(n, levelsMax)), nil
}

// MayWait tells whether what a message says of its delivery counts: not while its transaction is undecided.
func MayWait(sysFlag int32) bool {
	kind := sysFlag & message.FlagTransactionMask
	return kind == 0 || kind == message.FlagCommit
}

// notScheduled are the properties that a scheduled message gets anew or loses.
var notScheduled = []string{
	message.PropDelay, message.PropRealTopic, message.PropRealQueueID,
	message.PropTimerDeliver, message.PropTimerDelayMS, message.PropTimerDelaySec, message.PropCRC,
}

var scheduleTopic = []byte(message.TopicSchedule)

// Schedule makes of an entry for some queue one for the schedule queue of a level, from which it comes back. The properties are made
// anew at the end of arena, which is returned.
func (d *Delays) Schedule(e *store.Entry, level int, arena []byte) []byte {
	level = min(level, len(d.c.Levels))
	start := len(arena)
	arena = message.AppendWithout(arena, e.Record.Properties, notScheduled...)
	arena = message.AppendProperty(arena, message.PropDelay, strconv.AppendInt(nil, int64(level), 10))
	arena = message.AppendProperty(arena, message.PropRealTopic, e.Record.Topic)
	arena = message.AppendProperty(arena, message.PropRealQueueID, strconv.AppendInt(nil, int64(e.Record.QueueID), 10))
	e.Record.Properties = arena[start:len(arena):len(arena)]
	queue := d.c.Store.Queue(message.TopicSchedule, int32(level-1))
	e.Record.Topic, e.Record.QueueID = scheduleTopic, queue.ID
	e.Sequence, e.Target = &queue.Sequence, queue
	store.IndexEntry(e)
	return arena
}

// errNowhere: a scheduled message does not say where it belongs.
var errNowhere = errors.New("the message does not name a topic that it may be delivered to")
