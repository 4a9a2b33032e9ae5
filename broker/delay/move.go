package delay

import (
	"errors"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
)

// Retention and the delay levels: what a level still holds before the log's oldest segments go is moved to the timers' topic, in the queue's
// order and at a bounded rate, and waits there for the moment that its level gave it. The copy names what it replaces: one record is the
// level's progress and the begin of the other wait, so that no crash can come between. It is delivered as if it had stayed. RocketMQ reads
// it as a timed message; there it must not have the property DELAY, by which it would be delayed again when it is due.
//
// While timerLiveBytesMax is reached nothing is moved, and retention stops at what waits.

// setAside is put before the names of the properties that mean something else where a message waits for a moment.
const (
	setAside  = "APOGEE_LEVEL_"
	propMoved = setAside + message.PropDelay // every moved message has it, and no other of the timers' topic
)

var movedNames = []string{
	message.PropDelay, message.PropTimerOut, message.PropTimerEnqueue, message.PropTimerDequeue, message.PropTimerRolls, message.PropTimerDelete,
	message.PropTimerDeliver, message.PropTimerDelayMS, message.PropTimerDelaySec,
}

// moved tells whether a record of the timers' topic has waited in a level before.
func moved(r *message.Record) bool { return message.Property(r.Properties, propMoved) != nil }

// appendMoved appends the properties of a level's message as one that is due at a moment, ms; appendMovedBack makes them what they were.
func appendMoved(dst, properties []byte, due int64) []byte {
	for k, v := range message.Properties(properties) {
		switch name := string(k); {
		case name == message.PropCRC:
		case slices.Contains(movedNames, name) || strings.HasPrefix(name, setAside):
			dst = message.AppendProperty(dst, setAside+name, v)
		default:
			dst = message.AppendProperty(dst, name, v)
		}
	}
	return message.AppendProperty(dst, message.PropTimerOut, strconv.AppendInt(nil, due, 10))
}

func appendMovedBack(dst, properties []byte) []byte {
	for k, v := range message.Properties(properties) {
		name := string(k)
		if name != message.PropCRC && !slices.Contains(movedNames, name) {
			dst = message.AppendProperty(dst, strings.TrimPrefix(name, setAside), v)
		}
	}
	return dst
}

// errStays: a message cannot be moved, so that it keeps its segment until it is due.
var errStays = errors.New("the message has no room in its properties for the moment that it is due at, or does not say what it waits for")

// addMoved adds a level's message as one that is due at a moment, ms.
func (d *delivery) addMoved(s *Delays, r *message.Record, due int64) error {
	start := len(d.arena)
	d.arena = appendMoved(d.arena, r.Properties, due)
	if len(d.arena)-start+message.CRCPropertySize > message.MaxPropertiesSize || message.Property(r.Properties, message.PropDelay) == nil ||
		message.Property(r.Properties, message.PropRealTopic) == nil {
		return errStays
	}
	copied := *r
	copied.Topic, copied.Properties, copied.PreparedOffset = timerTopic, d.arena[start:len(d.arena):len(d.arena)], r.PhysicalOffset
	d.Entries = append(d.Entries, s.c.Store.EntryFor(copied, s.timed.queue))
	return nil
}

// moveBefore has each level move what waits before a log position.
func (l *levelsShell) moveBefore(position int64) {
	for i, q := range l.queues {
		first, end := q.Bounds()
		n := sort.Search(int(end-first), func(at int) bool {
			entries, err := q.Entries(l.entries[:0], first+int64(at), 1)
			return err != nil || len(entries) > 0 && entries[0].Position >= position // where it cannot be read, retention asks again
		})
		l.levels.MoveBefore(i, first+int64(n))
	}
}

// move appends a run of messages to the timers' topic. After nil the goroutine will be told what became of it. What cannot be read any more
// is passed over.
func (l *levelsShell) move(e timer.Effect) error {
	if l.s.timed.bytes.Load() >= l.s.c.LiveBytesMax {
		l.stay(e, e.Offset)
		return nil
	}
	var items []timer.Moment
	var offsets []int64
	for offset := e.Offset; offset < e.Offset+int64(e.Count); offset++ {
		entries, err := l.queues[e.Level].Entries(l.entries[:0], offset, 1)
		if err != nil {
			return err
		}
		if len(entries) > 0 && !entries[0].Hole() {
			items = append(items, timer.Moment{Key: timer.Key{Due: entries[0].TagsCode, Position: entries[0].Position}, Size: entries[0].Size})
			offsets = append(offsets, offset)
		}
	}
	batch, topics, last := newDelivery(), []string(nil), int64(-1)
	raw, errs := l.s.records(&l.result, items)
	for i, m := range items {
		if err := errs[i]; err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		r, err := decodeWhole(raw[i])
		if err != nil {
			l.s.c.Logger.Error("a delayed message is passed over", "level", e.Level+1, "offset", offsets[i], "error", err)
			continue
		}
		if err := batch.addMoved(l.s, &r, m.Due); err != nil {
			l.stay(e, offsets[i])
			return nil
		}
		last, topics = offsets[i], append(topics, waitsFor(&batch.Entries[len(batch.Entries)-1].Record))
	}
	if len(batch.Entries) == 0 {
		l.tell(delayEvent{effect: e})
		return nil
	}
	batch.frees = true
	return batch.append(l.s.c.Store, KindLevels, []store.Mutation{Progress(int32(e.Level), last+1)},
		func(err error) { l.tell(delayEvent{effect: e, err: err, topics: topics}) })
}

// stay has nothing moved from an offset on, until retention asks again.
func (l *levelsShell) stay(e timer.Effect, from int64) {
	l.levels.MoveBefore(e.Level, from)
	l.levels.Refused(e, l.s.now())
}
