package delay

import (
	"math"
	"strconv"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/view"
)

// Retention and messages that wait for their moment: before the log's oldest segments go, what waits in them is appended again, at a
// bounded rate. The copy names what it replaces, so that it is the one that waits from then on.

const (
	// carryBytesMax and carryPauseMS bound the rate at which messages are appended again: 1 MiB every 20 ms.
	carryBytesMax = 1 << 20
	carryPauseMS  = 20
	// carryAheadMS: what is due sooner is not appended again; it goes by itself.
	carryAheadMS = 10_000
	// carryLookMax is how many messages one look goes through to find those that still wait.
	carryLookMax = 50_000
)

// carrier appends messages again that wait before a log position.
type carrier struct {
	before    int64 // log position; 0: there is nothing to do
	next      int64 // offset in the timers' queue to go on at
	busy      bool
	restUntil int64 // elapsed time
}

// oldest returns the log position, and the offset in the queue, of the oldest message that waits, as far as it stands before a position;
// math.MaxInt64 when none does. What it has not looked through yet counts as waiting. Retention calls it.
func (t *momentsShell) oldest(before int64) (position, offset int64, err error) {
	var entries []view.Entry
	for looked := 0; ; {
		first, end := t.queue.Bounds()
		next := max(t.known.Load(), first)
		if next >= end {
			return math.MaxInt64, next, nil
		}
		if entries, err = t.queue.Entries(entries[:0], next, 1024); err != nil {
			return 0, 0, err
		}
		for _, e := range entries {
			if e.Position >= before {
				return math.MaxInt64, next, nil
			}
			waits, _, err := t.waits(e)
			if err != nil {
				return 0, 0, err
			}
			if looked++; waits || looked > carryLookMax {
				return e.Position, next, nil
			}
			next++
			t.known.Store(next)
		}
	}
}

// waits tells whether the message of an entry of the queue still waits, and for which topic.
func (t *momentsShell) waits(e view.Entry) (waits bool, topic []byte, err error) {
	if e.Hole() || e.TagsCode == never {
		return false, nil, nil
	}
	key := timerKey(e.TagsCode, e.Position)
	value, err := t.s.c.Store.StateAt(KindMoments, key)
	if value == nil || err != nil {
		return false, nil, err
	}
	_, topic, err = parseMoment(key, value)
	return true, topic, err
}

// carryOn appends again some of what waits before the position that is wanted; false when there is nothing to do now.
func (t *momentsShell) carryOn() bool {
	c, now := &t.carry, t.s.now()
	if c.before == 0 || c.busy || now.Elapsed < c.restUntil {
		return false
	}
	items, err := t.toCarry(now.Wall)
	if err == nil && len(items) > 0 {
		err = t.copyAgain(items)
	}
	if err != nil {
		t.complain("timed messages in old segments cannot be appended again", err)
	}
	if err != nil || len(items) == 0 {
		c.before = 0 // retention asks again
	}
	return len(items) > 0
}

// toCarry returns the next messages to append again, held.
func (t *momentsShell) toCarry(wall int64) (items []timer.Moment, err error) {
	c, bytes := &t.carry, 0
	for looked := 0; looked < carryLookMax && bytes < carryBytesMax; {
		first, end := t.queue.Bounds()
		if c.next = max(c.next, first); c.next >= end {
			return items, nil
		}
		if t.entries, err = t.queue.Entries(t.entries[:0], c.next, 1024); err != nil {
			return items, err
		}
		for _, e := range t.entries {
			if e.Position >= c.before || bytes >= carryBytesMax {
				return items, nil
			}
			c.next++
			looked++
			m := timer.Moment{Key: timer.Key{Due: e.TagsCode, Position: e.Position}, Size: e.Size}
			waits, topic, err := t.waits(e)
			if err != nil {
				return items, err
			}
			m.Topic = t.topic(topic)
			if waits && m.Due > wall+carryAheadMS && t.moments.Hold(m) {
				items, bytes = append(items, m), bytes+int(m.Size)
			}
		}
	}
	return items, nil
}

// copyAgain appends copies of messages that are held.
func (t *momentsShell) copyAgain(items []timer.Moment) error {
	letGo := func(err error) {
		for _, m := range items {
			t.moments.LetGo(m, err == nil)
		}
	}
	batch := newDelivery()
	raw, errs := t.s.records(&t.result, items)
	for i := range items {
		err := errs[i]
		if err == nil {
			err = batch.addCopy(t.s.c.Store, raw[i], t.queue)
		}
		if err != nil {
			letGo(err)
			return err
		}
	}
	t.carry.busy, batch.frees = true, true
	err := batch.append(t.s.c.Store, KindMoments, waitEnds(items), func(err error) {
		t.tell(func() {
			letGo(err)
			for _, m := range items {
				if err == nil && m.Topic != "" {
					t.s.c.Count(m.Topic, 1) // the copy
				}
			}
			t.carry.busy, t.carry.restUntil = false, t.s.now().Elapsed+carryPauseMS
		})
	})
	if err != nil {
		t.carry.busy = false
		letGo(err)
	}
	return err
}

// addCopy adds a stored record for a queue as it is. It is stored at another time than the message was sent at, from which a delay counts:
// the copy says when that was.
func (d *delivery) addCopy(s *store.Store, raw []byte, queue *store.Queue) error {
	r, err := decodeWhole(raw)
	if err != nil {
		return err
	}
	start := len(d.arena)
	d.arena = message.AppendWithout(d.arena, r.Properties, message.PropTimerEnqueue, message.PropCRC)
	bare := len(d.arena)
	d.arena = message.AppendProperty(d.arena, message.PropTimerEnqueue, strconv.AppendInt(nil, since(&r), 10))
	if len(d.arena)-start+message.CRCPropertySize > message.MaxPropertiesSize {
		d.arena = d.arena[:bare] // rather up to a second late than not at all
	}
	r.Topic, r.Properties, r.PreparedOffset = timerTopic, d.arena[start:len(d.arena):len(d.arena)], r.PhysicalOffset
	d.Entries = append(d.Entries, s.EntryFor(r, queue))
	return nil
}
