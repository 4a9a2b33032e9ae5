package popserve

import (
	"github.com/apogeemq/apogee/broker/pop"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Ends of deliveries: ACK_MESSAGE (200051), BATCH_ACK_MESSAGE (200151), CHANGE_MESSAGE_INVISIBLETIME (200053).
//
// What clients see: an answer once it is in the log: what was acknowledged stays so. The topic is that of the receipt, so the retry topic
// for what came from there. A new invisible time makes a new receipt of the answer's fields; the old one is over. Unknown topic 17, queue
// 13, offset 208. Acknowledging twice is no error. A batch is always answered SUCCESS.

func (v *Service) ackMessage(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.AckHeader
	k, receipt, err := v.readAck(r, &h)
	if err != nil {
		return nil, err
	}
	if err := v.ack(k, receipt.ID(), h.Offset); err != nil {
		return nil, err
	}
	v.table.journal.Confirmed(func(err error) { r.Reply(nil, err) })
	return nil, remoting.ErrLater
}

// readAck reads the request and checks where its message is.
func (v *Service) readAck(r *remoting.Request, h *protocol.AckHeader) (k Key, receipt pop.Receipt, err error) {
	if err := r.Read(h); err != nil {
		return k, receipt, err
	}
	t := v.host.Topic(h.Topic)
	if t == nil {
		return k, receipt, noTopic(h.Topic)
	}
	if h.QueueID < 0 || h.QueueID >= t.Config.ReadQueues {
		return k, receipt, protocol.Errorf(protocol.RespMessageIllegal, "queueId[%d] is illegal, topic:[%s] topicConfig.readQueueNums:[%d] consumer:[%s]",
			h.QueueID, h.Topic, t.Config.ReadQueues, asker(r))
	}
	if h.LiteTopic != "" {
		return v.liteReceipt(h)
	}
	first, end := t.Queue(h.QueueID).Bounds()
	if h.Offset < first || h.Offset > end || h.Change && h.Offset == end {
		return k, receipt, protocol.Errorf(protocol.RespNoMessage, "offset is illegal, key:%s@%d, commit:%d, store:%d~%d", h.Topic, h.QueueID, h.Offset, first, end)
	}
	receipt, err = parseReceipt(h)
	return Key{h.Group, h.Topic, h.QueueID}, receipt, err
}

func parseReceipt(h *protocol.AckHeader) (pop.Receipt, error) {
	receipt, err := pop.ParseReceipt(h.Receipt)
	if err != nil {
		return receipt, protocol.Errorf(protocol.RespSystemError, "%s", err)
	}
	return receipt, nil
}

// ack acknowledges a message of a delivery.
func (v *Service) ack(k Key, id pop.RunID, offset int64) error {
	if id.Number == pop.OrderedNumber {
		return v.change(k, id, offset, traffic.PopAcked, func(q *queue) ([]pop.Write, pop.Outcome) {
			return q.state.AckOrdered(nil, id.Time, offset)
		})
	}
	return v.change(k, id, offset, traffic.PopAcked, func(q *queue) ([]pop.Write, pop.Outcome) {
		return q.state.Ack(nil, id, offset)
	})
}

// change applies a change of a delivery, and counts it. A delivery that is not there, although its time is not over, was acknowledged.
func (v *Service) change(k Key, id pop.RunID, offset int64, counted traffic.Kind, change func(q *queue) ([]pop.Write, pop.Outcome)) error {
	q := v.table.find(k)
	if q == nil {
		return errOver(k, id, offset)
	}
	q.mu.Lock()
	if id.Number != pop.OrderedNumber {
		if err := v.table.fetch(q, id); err != nil {
			q.mu.Unlock()
			return err
		}
	}
	writes, outcome := change(q)
	if outcome == pop.Done {
		v.table.changed(q, writes)
		v.host.Count(counted, topicOf(k), k.Group)
	}
	now := v.host.Now().UnixMilli()
	free := id.Number == pop.OrderedNumber && outcome == pop.Done && !q.state.Blocked("", now)
	q.mu.Unlock()
	if free {
		v.wakeQueue(k)
	}
	if outcome == pop.Over && (id.Number == pop.OrderedNumber || id.Deadline <= now) {
		return errOver(k, id, offset)
	}
	return nil
}

// errOver refuses a receipt whose time is over.
func errOver(k Key, id pop.RunID, offset int64) error {
	return protocol.Errorf(protocol.RespNoMessage, "the receipt is not valid any more: offset %d of queue %d, topic %s, was delivered to group %s at %d; its time is over",
		offset, k.Queue, k.Topic, k.Group, id.Time)
}

func (v *Service) batchAck(r *remoting.Request) (*remoting.Response, error) {
	var body protocol.BatchAckBody
	if len(r.Body) > 0 {
		if err := protocol.UnmarshalBody(r.Body, &body); err != nil {
			return nil, err
		}
	}
	if len(body.Acks) == 0 {
		return nil, protocol.Errorf(protocol.RespNoMessage, "the body has no acknowledgements")
	}
	for _, a := range body.Acks {
		k := Key{a.Group, a.Topic, a.QueueID}
		if a.Retry == "1" || a.Retry == "2" {
			k.Topic = message.PopRetryTopic(a.Topic, a.Group, a.Retry == "2")
		}
		receipt := pop.Receipt{Start: a.StartOffset, Time: a.PopTime, Invisible: a.InvisibleMS, Number: a.ReviveQueue}
		for i := range pop.Bits(a.Bits).All {
			_ = v.ack(k, receipt.ID(), a.StartOffset+int64(i)) // what is over is over: the answer does not tell
		}
	}
	v.table.journal.Confirmed(func(err error) { r.Reply(nil, err) })
	return nil, remoting.ErrLater
}

func (v *Service) changeInvisible(r *remoting.Request) (*remoting.Response, error) {
	h := protocol.AckHeader{Change: true}
	k, receipt, err := v.readAck(r, &h)
	if err != nil {
		return nil, err
	}
	if h.InvisibleMS < 0 || h.InvisibleMS > invisibleMSMax {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "invisibleTime is %d ms; 0 to invisibleMSMax=%d are possible", h.InvisibleMS, int64(invisibleMSMax))
	}
	id, now := receipt.ID(), v.host.Now().UnixMilli()
	answer := &protocol.ChangeInvisibleResult{PopTime: now, InvisibleMS: h.InvisibleMS, ReviveQueue: (id.Number + 1) % pop.OrderedNumber}
	change := func(q *queue) ([]pop.Write, pop.Outcome) {
		renewed := pop.Receipt{Start: h.Offset, Time: now, Invisible: h.InvisibleMS, Number: answer.ReviveQueue}
		return q.state.Renew(nil, id, h.Offset, renewed.ID(), h.Suspend)
	}
	if id.Number == pop.OrderedNumber {
		visible := now + h.InvisibleMS
		answer = &protocol.ChangeInvisibleResult{PopTime: id.Time, InvisibleMS: visible - id.Time, ReviveQueue: id.Number}
		change = func(q *queue) ([]pop.Write, pop.Outcome) {
			if h.LiteTopic != "" && h.Suspend {
				return q.state.SuspendOrdered(nil, id.Time, h.Offset, visible)
			}
			return q.state.RenewOrdered(nil, id.Time, h.Offset, visible)
		}
	}
	if err := v.change(k, id, h.Offset, traffic.PopDelivered, change); err != nil {
		return nil, err
	}
	v.table.journal.Confirmed(func(err error) {
		if err != nil {
			r.Reply(nil, v.host.Refusal(err))
			return
		}
		r.Reply(remoting.Respond(protocol.RespSuccess, answer), nil)
	})
	return nil, remoting.ErrLater
}
