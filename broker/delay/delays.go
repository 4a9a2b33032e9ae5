package delay

import (
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Config says how messages wait, and where they are delivered to.
type Config struct {
	Store  *store.Store
	Broker string // name in recall handles
	// Queue returns a queue of a topic that there is, and the topic's name in memory that stays; nil for none.
	Queue func(topic []byte, id int32) (name []byte, queue *store.Queue)

	Levels       Levels // messageDelayLevel
	NoMoments    bool   // timerWheelEnable=false: moments are refused
	MaxDelaySec  int64  // timerMaxDelaySec
	PrecisionMS  int64  // timerPrecisionMs: what TIMER_OUT_MS is rounded to
	LiveBytesMax int64  // timerLiveBytesMax: records of messages that wait for a moment

	// Count is told how many messages more or less of a topic wait for a moment. It is called from several goroutines.
	Count func(topic string, n int)

	Now    func() time.Time
	Logger *slog.Logger
}

// Delays keeps the messages of one store that wait for their time.
type Delays struct {
	c       Config
	levels  *levelsShell
	timed   *momentsShell
	started time.Time
	stop    <-chan struct{}
	wait    *sync.WaitGroup
}

// New finds what waits in the store.
func New(c Config) (d *Delays, err error) {
	d = &Delays{c: c, started: c.Now()}
	if d.levels, err = newLevelsShell(d); err != nil {
		return nil, err
	}
	if err := d.importTimers(); err != nil && !errors.Is(err, store.ErrDamaged) { // a damaged log is served; what waits in it, once the damage is accepted
		return nil, err
	}
	d.timed = newMomentsShell(d)
	return d, nil
}

func (d *Delays) now() timer.Time {
	now := d.c.Now()
	return timer.Time{Wall: now.UnixMilli(), Elapsed: now.Sub(d.started).Milliseconds()}
}

// Retired is the store's, of a source that waited: what a record changes by replacing it. A delivered message is its level's progress, or
// ends its wait for a moment.
func Retired(source *message.Record) (kind string, changes []store.Mutation) {
	switch string(source.Topic) {
	case message.TopicSchedule:
		return KindLevels, []store.Mutation{Progress(source.QueueID, source.QueueOffset+1)}
	case message.TopicTimerWheel:
		return KindMoments, []store.Mutation{{Key: timerKey(timedDue(source), source.PhysicalOffset)}}
	}
	return "", nil
}

// RetiredUnread is Retired where the log does not hold the source any more. What waited for a moment can be told from what replaces it: the
// moment is the same. A level's progress is past it anyway, because its queue begins behind it.
func RetiredUnread(r *message.Record) (kind string, changes []store.Mutation) {
	due, ok := Due(r)
	if !ok {
		return "", nil
	}
	return KindMoments, []store.Mutation{{Key: timerKey(due, r.PreparedOffset)}}
}

// NeededFrom is the store's Hold: from which log position on records are still needed by what waits. What waits before wanted is appended
// again in the course of time, unless that is most of the log: it would be written more often than it makes room, and the log becomes longer
// instead.
func (d *Delays) NeededFrom(wanted int64) (int64, error) {
	delayed, err := d.delayedFrom()
	if err != nil {
		return 0, err
	}
	log := d.c.Store.Log()
	rewrite := d.timed.bytes.Load() <= (log.Confirmed()-log.First())/2
	if delayed < wanted && rewrite {
		d.levels.tell(delayEvent{move: wanted})
	}
	timed, offset, err := d.timed.oldest(wanted)
	if err != nil {
		return 0, err
	}
	if timed < wanted && rewrite {
		d.timed.tell(func() {
			if c := &d.timed.carry; !c.busy && c.before == 0 {
				c.before, c.next = wanted, offset
			}
		})
	}
	return min(delayed, timed), nil
}

// Waiting returns how many messages wait for a moment, and their bytes. After a start they are counted in the course of seconds.
func (d *Delays) Waiting() (messages, bytes int64) {
	return d.timed.messages.Load(), d.timed.bytes.Load()
}

// Late returns how late messages came that waited for a moment.
func (d *Delays) Late() traffic.Distribution { return d.timed.late.Read() }

// Appended tells of entries that are in the log, among which may be messages that wait for a moment.
func (d *Delays) Appended(entries []store.Entry) {
	for i := range entries {
		if e := &entries[i]; d.Kept(e) {
			if topic := waitsFor(&e.Record); topic != "" {
				d.c.Count(topic, 1)
			}
		}
	}
}

// Kept tells whether an entry goes to the topic of messages that wait for a moment.
func (d *Delays) Kept(e *store.Entry) bool { return e.Sequence == &d.timed.queue.Sequence }

// realQueueMax bounds a queue id that was read from a log, so that none makes a table of any size.
const realQueueMax = 65535

// DeliveryOf makes the entry that a message becomes when it goes to where it belongs (REAL_TOPIC, REAL_QID), without the properties in drop.
// Its properties are made at the end of arena.
func (d *Delays) DeliveryOf(source *message.Record, arena []byte, drop ...string) (store.Entry, []byte, error) {
	topic := message.Property(source.Properties, message.PropRealTopic)
	return d.DeliveryTo(topic, message.Property(source.Properties, message.PropRealQueueID), source, arena, drop...)
}

// DeliveryTo is DeliveryOf for who knows already where the message belongs.
func (d *Delays) DeliveryTo(topic, queueID []byte, source *message.Record, arena []byte, drop ...string) (store.Entry, []byte, error) {
	id, ok := protocol.ParseInt(queueID)
	if !ok || id < 0 || id > realQueueMax || message.CheckTopic(string(topic)) != nil || message.IsForbiddenToSend(string(topic)) ||
		string(topic) == string(source.Topic) {
		return store.Entry{}, arena, errNowhere
	}
	name, queue := d.c.Queue(topic, int32(id))
	if queue == nil {
		name, queue = topic, d.c.Store.Queue(string(topic), int32(id))
	}
	start := len(arena)
	if string(source.Topic) == message.TopicTimerWheel {
		arena = d.deliveredTimed(source, arena)
	} else {
		arena = message.AppendWithout(arena, source.Properties, drop...)
	}
	r := *source
	r.Topic, r.Properties, r.PreparedOffset = name, arena[start:len(arena):len(arena)], source.PhysicalOffset
	return d.c.Store.EntryFor(r, queue), arena, nil
}

// never is when a record of the timers' topic is due that waits for nothing.
const never = math.MaxInt64
