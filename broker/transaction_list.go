package broker

import (
	"errors"

	"github.com/apogeemq/apogee/broker/transaction"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Pulls of RMQ_SYS_TRANS_HALF_TOPIC by the group of RocketMQ's transactions (code 11).
//
// What clients see: the half messages that are pending, and no others, with the number of checks as RocketMQ has it in their properties. In
// RocketMQ who wants to know what is pending reads the half topic from this group's offset on, and leaves out what the op topic names; here
// nothing is written to the op topic, and reading both comes to the same. Any other group is given all half messages as they were stored.

// readsPending tells whether a pull asks for the transactions that have not ended.
func (p *pull) readsPending() bool {
	return p.h.Group == message.GroupTransactions && p.h.Topic == message.TopicHalf
}

// pending answers with half messages that are pending, from the pull's offset on.
func (p *pull) pending() (*remoting.Response, error) {
	b, s := p.b, p.b.live()
	first, end := p.queue.Bounds()
	answer := protocol.PullResult{NextOffset: max(end, p.h.QueueOffset), MinOffset: first, MaxOffset: end}
	most := min(max(int(p.h.MaxMessages), 1), s.transferCount)
	halves, err := b.halves(transaction.Pending, max(p.h.QueueOffset, first), most)
	if err != nil {
		return nil, err
	}
	var body []byte
	taken := 0
	for ; taken < len(halves) && len(body) < s.transferBytes; taken++ {
		if body, err = b.appendHalf(body, &halves[taken]); err != nil && !errors.Is(err, store.ErrNotFound) { // it was decided meanwhile
			return nil, err
		}
	}
	if taken == most || taken < len(halves) {
		answer.NextOffset = halves[taken-1].Offset + 1
	}
	if len(body) == 0 {
		return remoting.Respond(protocol.RespPullNotFound, &answer), nil
	}
	resp := remoting.Respond(protocol.RespSuccess, &answer)
	resp.Body = body
	return resp, nil
}

// appendHalf appends the record of a half message with the number of its checks.
func (b *Broker) appendHalf(body []byte, h *transaction.Half) ([]byte, error) {
	var pins store.Pins
	defer pins.Release()
	half, _, err := b.store.Look(h.Position, &pins)
	if err != nil {
		return body, err
	}
	half.Properties = withChecks(half.Properties, h.Checks)
	return half.Append(body), nil
}
