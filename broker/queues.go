package broker

import (
	"math"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Questions about queues: SEARCH_OFFSET_BY_TIMESTAMP (29), GET_MAX_OFFSET (30), GET_MIN_OFFSET (31), GET_EARLIEST_MSG_STORETIME (32).
//
// What clients see: the maximum is the offset that the next message will get, counting confirmed messages only. A queue that does not
// exist answers 0 (and -1 for a time), as RocketMQ does, and is not made by asking. A search may name a lite topic of its topic, queue 0.

// namedQueue returns the queue that a request names, nil when there is none. Queues of Apogee's own state are never found.
func (b *Broker) namedQueue(h *protocol.QueueHeader) *store.Queue {
	if h.LiteTopic != "" {
		return b.store.Find(message.LiteQueue(h.Topic, h.LiteTopic), h.QueueID)
	}
	if b.isLight(h.Topic) {
		return b.store.Find(h.Topic, h.QueueID)
	}
	if t := b.topics.find(h.Topic); t != nil {
		return t.queue(h.QueueID)
	}
	return nil
}

func (b *Broker) queueQuestion(r *remoting.Request, answer func(q *store.Queue, h *protocol.QueueHeader) (protocol.Header, error)) (*remoting.Response, error) {
	var h protocol.QueueHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	result, err := answer(b.namedQueue(&h), &h)
	if err != nil {
		return nil, err
	}
	return remoting.Respond(protocol.RespSuccess, result), nil
}

func (b *Broker) maxOffset(r *remoting.Request) (*remoting.Response, error) {
	return b.queueQuestion(r, func(q *store.Queue, _ *protocol.QueueHeader) (protocol.Header, error) {
		if q == nil {
			return &protocol.OffsetResult{}, nil
		}
		_, end := q.Bounds()
		return &protocol.OffsetResult{Offset: end}, nil
	})
}

func (b *Broker) minOffset(r *remoting.Request) (*remoting.Response, error) {
	return b.queueQuestion(r, func(q *store.Queue, _ *protocol.QueueHeader) (protocol.Header, error) {
		if q == nil {
			return &protocol.OffsetResult{}, nil
		}
		first, _ := q.Bounds()
		return &protocol.OffsetResult{Offset: first}, nil
	})
}

func (b *Broker) earliestTime(r *remoting.Request) (*remoting.Response, error) {
	return b.queueQuestion(r, func(q *store.Queue, _ *protocol.QueueHeader) (protocol.Header, error) {
		if q == nil {
			return &protocol.TimestampResult{Timestamp: -1}, nil
		}
		first, end := q.Bounds()
		if first == end {
			return &protocol.TimestampResult{Timestamp: -1}, nil
		}
		at, err := b.store.StoreTime(q, first)
		return &protocol.TimestampResult{Timestamp: at}, err
	})
}

func (b *Broker) searchOffset(r *remoting.Request) (*remoting.Response, error) {
	if _, ok := r.Fields.Get("timestamp"); !ok {
		return nil, protocol.Errorf(protocol.RespSystemError, "the custom field <timestamp> is null")
	}
	return b.queueQuestion(r, func(q *store.Queue, h *protocol.QueueHeader) (protocol.Header, error) {
		if q == nil {
			return &protocol.OffsetResult{}, nil
		}
		upper := h.BoundaryType == "upper" || h.BoundaryType == "UPPER"
		offset, err := b.store.OffsetByTime(q, min(h.Timestamp, math.MaxInt64-1), upper)
		if t := b.topics.find(h.Topic); err == nil && t != nil && t.batches {
			offset, err = b.batchByTime(q, offset)
		}
		return &protocol.OffsetResult{Offset: offset}, err
	})
}
