package broker

import (
	"errors"
	"strconv"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// Batches that are one record: sends of a batch to a topic with the attribute queue.type=BatchCQ.
//
// What clients see: the batch is stored as it came, with the properties of the batch as a whole (its unique key and keys, its tag), and
// takes a queue offset for each of its messages; the answer has its unique key in batchUniqId, and one msgId. A pull from any of these
// offsets gives the whole record, and goes on behind it; clients take it apart (NEED_UNWRAP_FLAG). Tags and expressions of consumers look
// at the properties of the batch. A pop gives it as one message, with its first offset.
//
// A batch whose header has no unique key, or whose topic is compacted, is stored message by message, as in other topics. Differences: that, and what is sent alone, can be
// read here (RocketMQ stores it, but its index leaves it out); INNER_NUM is counted, whatever the sender says; a batch that a consumer sends
// back is refused with RocketMQ's code, upon which clients send the message itself.

// addInner adds a batch as one record.
func (s *sendSink) addInner(q *sendRequest, t *topic, queue *store.Queue, body []byte) error {
	for rest := body; len(rest) > 0; q.inner++ {
		if q.inner == message.InnerMessagesMax {
			return protocol.Errorf(protocol.RespMessageIllegal, "the batch has more messages than InnerMessagesMax=%d; send fewer at once", message.InnerMessagesMax)
		}
		var err error
		if _, rest, err = message.NextBatchItem(rest); err != nil {
			return s.b.illegal("%s", err)
		}
	}
	q.sysFlag |= message.FlagInnerBatch | message.FlagNeedUnwrap
	return s.add(q, t, queue, q.flag, body, q.properties)
}

// number notes in an entry's properties, which end the arena, how many messages it holds, and has it take as many offsets.
func (s *sendSink) number(e *store.Entry, q *sendRequest) {
	round := s.round
	start := len(round.arena) - len(e.Record.Properties)
	round.arena = message.AppendProperty(round.arena, message.PropInnerNum, strconv.AppendInt(nil, int64(q.inner), 10))
	e.Record.Properties = round.arena[start:len(round.arena):len(round.arena)]
	round.arena = s.b.store.Number(e, round.arena)
}

// notInner refuses what is marked as a batch that is one record, by what, and is none, or is one where none can be (HookUtils.checkInnerBatch).
func (s *sendSink) notInner(topic []byte, format string, what any) error {
	return s.b.illegal(format+" stands for a batch that is one record: topic[%s] takes those by SEND_BATCH_MESSAGE only, and with the attribute %s=%s",
		what, topic, attribute.QueueType, attribute.BatchQueue)
}

// batchByTime returns where a search by time ends in a queue of batches, by what one of messages gives: at the first message of a batch, and at
// that of the last one where all are older (BatchConsumeQueue.getOffsetInQueueByTime).
func (b *Broker) batchByTime(q *store.Queue, offset int64) (int64, error) {
	if first, end := q.Bounds(); offset == end && end > first {
		offset--
	}
	start, err := b.store.RecordStart(q, offset)
	if errors.Is(err, store.ErrNotFound) {
		return offset, nil
	}
	return start, err
}
