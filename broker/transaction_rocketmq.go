package broker

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/broker/transaction"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Transactions of a RocketMQ directory. RocketMQ keeps them as two queues: half messages, of which those before the offset of
// CID_RMQ_SYS_TRANS are settled, and op messages, whose bodies list offsets of half messages that are settled too. A half message that was
// checked, or not yet, was appended anew, and only its last copy is pending.

const (
	// opTag marks an op message (TransactionalMessageUtil.REMOVE_TAG).
	opTag = "d"
	// opBytesMax bounds an op message (transactionOpMsgMaxSize).
	opBytesMax = 4096
	// takenOver is the key of the state that says that the half messages of RocketMQ are in it.
	takenOver = "t"
	// takeOverMax is how many half messages one record of the state holds when a directory is taken over.
	takeOverMax = 1000
)

// takeOverTransactions makes what is pending in a directory of RocketMQ pending here, once.
func (b *Broker) takeOverTransactions() error {
	if b.store.ForeignEnd() == 0 {
		return nil
	}
	if done, err := b.store.StateAt(kindTransactions, takenOver); err != nil || done != nil {
		return err
	}
	settled, err := b.foreignOps()
	if err != nil {
		return err
	}
	var pending []store.Mutation
	write := func() (err error) {
		if len(pending) > 0 {
			err = b.update(kindTransactions, func(error) {}, pending...)
		}
		pending = nil
		return err
	}
	err = b.foreignRecords(message.TopicHalf, func(r *message.Record) error {
		if settled[r.QueueOffset] {
			return nil
		}
		if first, ok := protocol.ParseInt(message.Property(r.Properties, message.PropPreparedOffset)); ok && settled[first] {
			return nil
		}
		pending = append(pending, pendingHalf(r))
		if len(pending) < takeOverMax {
			return nil
		}
		return write()
	})
	if err != nil {
		return err
	}
	pending = append(pending, store.Mutation{Key: takenOver, Value: []byte{1}})
	if err = write(); err == nil {
		b.store.Settle()
	}
	return err
}

// foreignOps returns the offsets of half messages that RocketMQ's op messages settle.
func (b *Broker) foreignOps() (settled map[int64]bool, err error) {
	settled = map[int64]bool{}
	err = b.foreignRecords(message.TopicOpHalf, func(r *message.Record) error {
		if string(message.Property(r.Properties, message.PropTags)) != opTag {
			return nil
		}
		for word := range strings.SplitSeq(string(r.Body), ",") {
			if offset, err := strconv.ParseInt(word, 10, 64); err == nil {
				settled[offset] = true
			}
		}
		return nil
	})
	return settled, err
}

// foreignRecords calls fn for the messages of a topic's queue 0 that RocketMQ wrote and CID_RMQ_SYS_TRANS has not gone past.
func (b *Broker) foreignRecords(topic string, fn func(r *message.Record) error) error {
	from, _ := b.offsets.find(offsetKey{message.GroupTransactions, topic, 0})
	return b.store.EachForeign(b.store.Queue(topic, 0), from, fn)
}

// leaveTransactions gives the half messages back to RocketMQ: it begins at the first one that is pending, and op messages settle those
// behind it that are not. Offsets of CID_RMQ_SYS_TRANS go into table, as consumerOffset.json has them.
func leaveTransactions(s *store.Store, table map[string]map[int32]int64) error {
	b := &Broker{store: s}
	if done, err := s.StateAt(kindTransactions, takenOver); err != nil || done == nil && s.ForeignEnd() > 0 {
		return err // no broker has run here: they are as RocketMQ left them
	}
	half, op := s.Queue(message.TopicHalf, 0), s.Queue(message.TopicOpHalf, 0)
	_, end := half.Bounds()
	_, opEnd := op.Bounds()
	from, next := end, int64(math.MaxInt64)
	var body []byte
	settle := func(to int64) error {
		for ; next < to; next++ {
			body = append(strconv.AppendInt(body, next, 10), ',')
			if len(body) >= opBytesMax {
				if err := appendOp(s, op, body); err != nil {
					return err
				}
				body = nil
			}
		}
		return nil
	}
	var failed error
	err := b.eachHalf(transaction.Pending, 0, func(h *transaction.Half) bool {
		from = min(from, h.Offset)
		failed = settle(h.Offset)
		next = h.Offset + 1
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil {
		err = settle(end)
	}
	if err == nil && len(body) > 0 {
		err = appendOp(s, op, body)
	}
	if err != nil {
		return fmt.Errorf("cannot tell RocketMQ which transactions are settled: %w", err)
	}
	if end > 0 || opEnd > 0 {
		table[message.TopicHalf+"@"+message.GroupTransactions] = map[int32]int64{0: from}
		table[message.TopicOpHalf+"@"+message.GroupTransactions] = map[int32]int64{0: opEnd}
	}
	return nil
}

// appendOp appends an op message in RocketMQ's form (TransactionalMessageBridge.makeOpMessageInner).
func appendOp(s *store.Store, queue *store.Queue, body []byte) error {
	_, now := s.LastRecord()
	done := make(chan error, 1)
	e := s.EntryFor(message.Record{
		Topic: []byte(message.TopicOpHalf), Body: body, BornTime: now, Properties: message.AppendProperty(nil, message.PropTags, []byte(opTag)),
	}, queue)
	if err := s.Append(&store.Batch{Entries: []store.Entry{e}, Done: func(_ *store.Batch, err error) { done <- err }}); err != nil {
		return err
	}
	return <-done
}
