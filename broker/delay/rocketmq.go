package delay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/view"
)

// Timed messages in a directory of RocketMQ, and back. RocketMQ knows what waits by timerwheel and timerlog, which it has made from
// rmq_sys_wheel_timer; its config/timercheck says how far it had come: the time up to which all is delivered, and the offset in that queue
// up to which all is in the wheel. What is due later, or was not in the wheel yet, waits here from then on; of a message that was rolled,
// or appended again here, the last copy. On the way back, what waits is appended again, and timercheck says that the wheel is to be made from there.

// FileTimers is TimerCheckpoint: time up to which all is delivered 8, position in timerlog 8, queue offset 8, the master's 8, data version 24.
const (
	FileTimers      = "timercheck"
	fileTimersBytes = 56
)

// KindImport of the state, empty but for an import that has not ended: "" -> as FileTimers, as much of it as there was.
const KindImport = "timer_import"

// Imported gives the state that a take-over begins with: timercheck as it was found, nil for none.
func Imported(timercheck []byte) (store.Mutation, error) {
	if n := len(timercheck); n > 0 && n < fileTimersBytes {
		return store.Mutation{}, fmt.Errorf("%s has %d bytes: want %d or more", FileTimers, n, fileTimersBytes)
	}
	return store.Mutation{Value: append([]byte{}, timercheck[:min(len(timercheck), fileTimersBytes)]...)}, nil
}

// importTimers finds what waits in a directory that was RocketMQ's. It begins anew after a crash.
func (d *Delays) importTimers() error {
	check, err := d.c.Store.StateAt(KindImport, "")
	if err != nil || check == nil {
		return err
	}
	be := binary.BigEndian
	i := timerImport{s: d, delivered: d.c.Now().UnixMilli(), enqueued: math.MaxInt64}
	if len(check) == fileTimersBytes {
		i.delivered, i.enqueued = int64(be.Uint64(check)), int64(be.Uint64(check[16:]))
	}
	q := d.c.Store.Queue(message.TopicTimerWheel, 0)
	var entries []view.Entry
	for next, end := q.Bounds(); next < end; {
		if entries, err = q.Entries(entries[:0], next, 1024); err != nil {
			return err
		}
		for _, e := range entries {
			if err := i.take(e, next); err != nil {
				return err
			}
			next++
		}
		if err := i.flush(KindMoments); err != nil {
			return err
		}
	}
	d.c.Logger.Info("timed messages of RocketMQ were taken over", "messages", i.found, "deliveredUpTo", i.delivered)
	i.changes = []store.Mutation{{Key: ""}}
	return i.flush(KindImport)
}

// EachWaiting calls fn for each message that waits for a moment to go to a topic whose name begins with prefix. Before Start.
func (d *Delays) EachWaiting(prefix string, fn func(r *message.Record) error) error {
	return d.eachWaiting(prefix, func(items []timer.Moment) error {
		for _, m := range items {
			r, _, err := d.c.Store.RecordAt(m.Position)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err == nil {
				err = fn(&r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Forget has none of them wait any more. Before Start.
func (d *Delays) Forget(prefix string) error {
	return d.eachWaiting(prefix, func(items []timer.Moment) error {
		i := timerImport{s: d, changes: waitEnds(items)}
		return i.flush(KindMoments)
	})
}

func (d *Delays) eachWaiting(prefix string, fn func(items []timer.Moment) error) error {
	from := timer.Key{}
	for all := false; !all; from.Position++ {
		var items []timer.Moment
		var err error
		if items, from, all, err = d.timed.waiting(from, timer.MomentsLoad); err != nil {
			return err
		}
		items = slices.DeleteFunc(items, func(m timer.Moment) bool { return !strings.HasPrefix(m.Topic, prefix) })
		if len(items) == 0 {
			continue
		}
		if err := fn(items); err != nil {
			return err
		}
	}
	return nil
}

// timerImport is one run of importTimers.
type timerImport struct {
	s                   *Delays
	delivered, enqueued int64 // as timercheck says
	changes             []store.Mutation
	found               int
}

// take looks at the message at an offset of the timers' queue.
func (i *timerImport) take(e view.Entry, offset int64) error {
	if e.Hole() || e.TagsCode == never {
		return nil
	}
	r, raw, err := i.s.c.Store.RecordAt(e.Position)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	out, _ := protocol.ParseInt(message.Property(r.Properties, message.PropTimerOut))
	if out < i.delivered && offset < i.enqueued {
		return nil
	}
	if r.PreparedOffset > 0 || message.Property(r.Properties, message.PropTimerRolls) != nil {
		if err := i.dropEarlier(&r, out); err != nil {
			return err
		}
	}
	i.found++
	i.changes = append(i.changes, waits(timer.Moment{Key: timer.Key{Due: e.TagsCode, Position: e.Position}, Size: int32(len(raw)), Topic: waitsFor(&r)}))
	return nil
}

// dropEarlier forgets the copies that one that was made later has replaced.
func (i *timerImport) dropEarlier(r *message.Record, out int64) error {
	key := message.Property(r.Properties, message.PropUniqueKey)
	return i.s.c.Store.FindKey(message.TopicTimerWheel, string(key), 0, math.MaxInt64, func(c *message.Record, _ []byte) bool {
		at, _ := protocol.ParseInt(message.Property(c.Properties, message.PropTimerOut))
		same := string(message.Property(c.Properties, message.PropUniqueKey)) == string(key) && at == out &&
			string(message.Property(c.Properties, message.PropRealTopic)) == string(message.Property(r.Properties, message.PropRealTopic))
		if same && c.PhysicalOffset < r.PhysicalOffset {
			i.found--
			i.changes = append(i.changes, store.Mutation{Key: timerKey(timedDue(c), c.PhysicalOffset)})
		}
		return true
	})
}

// flush writes what has been found.
func (i *timerImport) flush(kind string) error {
	if len(i.changes) == 0 {
		return nil
	}
	done := make(chan error, 1)
	if err := i.s.c.Store.UpdateState(kind, i.changes, func(err error) { done <- err }); err != nil {
		return err
	}
	i.changes = nil
	return <-done
}

// ExportTimers appends again what waits, and returns the timercheck by which RocketMQ finds it, and how many of the messages waited in a level
// before.
func ExportTimers(s *store.Store) (check []byte, fromLevels int, err error) {
	end, storeTime := s.LastRecord()
	q := s.Queue(message.TopicTimerWheel, 0)
	_, offset := q.Bounds()
	from := timer.Key{}
	for all := false; !all; {
		var items []timer.Moment
		n := 0
		err := s.StateFrom(KindMoments, keyOf(from), timer.MomentsLoad, func(key string, value []byte) error {
			m, _, err := parseMoment(key, value)
			if m.Position < end { // not a copy that was made here
				items = append(items, m)
			}
			from = timer.Key{Due: m.Due, Position: m.Position + 1}
			n++
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		all = n < timer.MomentsLoad
		count, err := copyHome(s, q, items)
		if err != nil {
			return nil, 0, err
		}
		fromLevels += count
	}
	be := binary.BigEndian
	delivered := (storeTime/timerPrecisionMSMax + 1) * timerPrecisionMSMax // whatever step RocketMQ's wheel has
	check = be.AppendUint64(nil, uint64(delivered))
	check = be.AppendUint64(check, 0)
	check = be.AppendUint64(check, uint64(offset))
	check = be.AppendUint64(check, uint64(offset))
	return append(check, make([]byte, 24)...), fromLevels, nil
}

// copyHome appends copies of what waits, and waits for them. It returns how many waited in a level before.
func copyHome(s *store.Store, q *store.Queue, items []timer.Moment) (fromLevels int, err error) {
	for len(items) > 0 {
		batch, copied, bytes := newDelivery(), 0, 0
		for ; copied < len(items) && bytes < carryBytesMax; copied++ {
			r, raw, err := s.RecordAt(items[copied].Position)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err == nil {
				err = batch.addCopy(s, raw, q)
			}
			if err != nil {
				return 0, err
			}
			if bytes += len(raw); moved(&r) {
				fromLevels++
			}
		}
		if len(batch.Entries) > 0 {
			done := make(chan error, 1)
			err := batch.append(s, KindMoments, waitEnds(items[:copied]), func(err error) { done <- err })
			if err == nil {
				err = <-done
			}
			if err != nil {
				return 0, err
			}
		}
		items = items[copied:]
	}
	return fromLevels, nil
}
