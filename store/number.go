package store

import (
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
)

// Records that take more than one offset:
//
//   - A batch that is one record (FlagInnerBatch) takes one of its queue for each of its INNER_NUM messages; INNER_BASE is the first.
//   - A message that names light queues (INNER_MULTI_DISPATCH) takes one of each as well; INNER_MULTI_QUEUE_OFFSET has them in the same
//     order.
//
// Number provides for that before a record is appended; numberingOf finds it again in a record of the log, be it RocketMQ's. A record that
// was not numbered must not look as if it had been.

// Number has an entry take the offsets that its record asks for. Where that changes the properties they are made anew, at the end of arena.
func (s *Store) Number(e *Entry, arena []byte) []byte {
	r := &e.Record
	if n := r.InnerMessages(); n > 0 {
		if hasRoom(r, message.PropInnerBase, 1) {
			return number(e, arena, message.PropInnerBase, n, queueOf(e))
		}
		r.SysFlag &^= message.FlagInnerBatch
	}
	if !message.MayDispatch(r.Topic) {
		return arena
	}
	names, ok := message.LightQueues(message.Property(r.Properties, message.PropMultiDispatch))
	if ok && len(names) > 0 && s.c.MultiDispatch && string(r.Topic) != message.TopicHalf && hasRoom(r, message.PropMultiOffset, len(names)) {
		queues := make([]*Queue, len(names))
		for i, name := range names {
			queues[i] = s.view.Queue(string(name), 0)
		}
		return number(e, arena, message.PropMultiOffset, 1, queues...)
	}
	if message.Property(r.Properties, message.PropMultiOffset) != nil { // of the message that this one is a copy of
		start := len(arena)
		arena = message.AppendWithout(arena, r.Properties, message.PropMultiOffset)
		r.Properties = arena[start:len(arena):len(arena)]
	}
	return arena
}

// hasRoom tells whether n offsets can be added to a record's properties.
func hasRoom(r *message.Record, property string, n int) bool {
	return r.EncodedPropertiesSize()+message.StampsSize(property, n) <= message.MaxPropertiesSize
}

// number has an entry take span offsets of its queue, and the next one of each of queues, which stand in a property.
func number(e *Entry, arena []byte, property string, span int64, queues ...*Queue) []byte {
	start := len(arena)
	arena = message.AppendWithout(arena, e.Record.Properties, property)
	arena, at := message.AppendStamps(arena, property, len(queues))
	n := &commitlog.Numbering{Span: span, Stamps: make([]commitlog.Stamp, len(queues))}
	for i, q := range queues {
		n.Stamps[i] = commitlog.Stamp{Sequence: &q.Sequence, At: at - start + i*(message.StampSize+1), Target: q}
	}
	e.Record.Properties, e.Numbering = arena[start:len(arena):len(arena)], n
	return arena
}

// queueOf returns the queue that a message's entry goes to.
func queueOf(e *Entry) *Queue {
	if t, ok := e.Target.(*WithState); ok {
		return t.Queue
	}
	return e.Target.(*Queue)
}

// numberingOf returns what a record of the log takes beyond one offset of its queue, nil for nothing.
func (s *Store) numberingOf(r *message.Record) *commitlog.Numbering {
	if n := r.InnerMessages(); n > 0 && message.Property(r.Properties, message.PropInnerBase) != nil {
		return &commitlog.Numbering{Span: n}
	}
	if !message.MayDispatch(r.Topic) {
		return nil
	}
	names, ok := message.LightQueues(message.Property(r.Properties, message.PropMultiDispatch))
	if !ok || len(names) == 0 {
		return nil
	}
	offsets, ok := message.LightOffsets(message.Property(r.Properties, message.PropMultiOffset))
	if !ok || len(offsets) != len(names) {
		return nil
	}
	n := &commitlog.Numbering{Span: 1}
	for i, name := range names {
		q := s.view.Queue(string(name), 0)
		n.Stamps = append(n.Stamps, commitlog.Stamp{Sequence: &q.Sequence, Offset: offsets[i], Target: q})
	}
	return n
}
