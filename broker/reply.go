package broker

import (
	"strconv"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Replies: SEND_REPLY_MESSAGE (324), SEND_REPLY_MESSAGE_V2 (325); pushed to who asked: PUSH_REPLY_MESSAGE_TO_CLIENT (326).
//
// What clients see (ReplyMessageProcessor): a reply is pushed to the producer whose client id its property REPLY_TO_CLIENT names, with
// PUSH_REPLY_TIME added, and then stored as any message (storeReplyMessageEnable). It is answered by how the push went: 1 when that client
// is not connected, refuses it, or takes longer than remoting.DefaultCallTimeout. Differences: what may not be stored is refused before
// it is pushed, and a reply that could not be stored is answered as a send would be.

func (b *Broker) reply(r *remoting.Request) (*remoting.Response, error) {
	h := protocol.ReplyHeader{SendHeader: protocol.SendHeader{Short: r.Code == int32(protocol.ReqSendReplyMessageV2)}}
	if err := r.Read(&h.SendHeader); err != nil {
		return nil, err
	}
	var q sendRequest
	if err := q.parse(r.Fields); err != nil {
		return nil, err
	}
	q.batch = false
	s := &sendSink{b: b, conn: r.Conn, round: &sendRound{}, next: uint32(r.Opaque)}
	t, queue, id, err := s.place(r, &q)
	if err == nil {
		err = s.add(&q, t, queue, q.flag, r.Body, q.properties)
	}
	if err != nil {
		return nil, err
	}
	b.stats.sent(1, len(r.Body))
	t.traffic.Add(1, len(r.Body))
	to := string(message.Property(q.properties, message.PropReplyTo))
	b.pushReply(r, to, &h, func(failed error) {
		b.keepReply(r, &s.round.batch, id, failed)
	})
	return nil, remoting.ErrLater
}

// pushReply gives a reply to the client that asked; done is told how it went, on a goroutine that may wait.
func (b *Broker) pushReply(r *remoting.Request, to string, h *protocol.ReplyHeader, done func(error)) {
	fault := func(format string, args ...any) error {
		return protocol.Errorf(protocol.RespSystemError, format, args...)
	}
	if to == "" {
		done(fault("reply message properties[%s] is null", message.PropReplyTo))
		return
	}
	conn := b.clients.reach(to)
	if conn == nil {
		done(fault("push reply message fail, channel of <%s> not found.", to))
		return
	}
	now := b.c.Now().UnixMilli()
	h.Short, h.StoreTime = false, now
	h.BornHost, h.StoreHost = r.Conn.RemoteAddr().String(), b.storeHost(r.Conn.LocalAddr()).String()
	properties := message.AppendWithout(nil, []byte(h.Properties), message.PropPushReplyTime)
	h.Properties = string(message.AppendProperty(properties, message.PropPushReplyTime, strconv.AppendInt(nil, now, 10)))
	c := protocol.NewRequest(protocol.ReqPushReplyMessageToClient, h)
	c.Body = r.Body
	conn.Send(c, func(answer *protocol.Command, err error) {
		if err == nil {
			err = answer.Check()
		}
		if err != nil {
			err = fault("push reply message to %s fail: %v", to, err)
		}
		b.spawn(func() { done(err) }) // the connection's reader does not wait for the log
	})
}

// keepReply stores a reply and answers it by how its push went.
func (b *Broker) keepReply(r *remoting.Request, batch *store.Batch, queueID int32, pushed error) {
	answer := func(id string, offset int64) {
		if pushed != nil {
			r.Reply(nil, pushed)
			return
		}
		resp := remoting.Respond(protocol.RespSuccess, &protocol.SendResult{MsgID: id, QueueID: queueID, QueueOffset: offset})
		resp.Fields.Add(message.PropRegion, b.c.Region)
		resp.Fields.Add(message.PropTraceSwitch, "true")
		r.Reply(resp, nil)
	}
	if !b.live().storeReplies {
		answer("0", 0)
		return
	}
	batch.Done = func(stored *store.Batch, err error) {
		if err != nil {
			r.Reply(nil, sendFailure(err))
			return
		}
		record := &stored.Entries[0].Record
		answer(string(message.AppendOffsetID(nil, record.StoreHost, record.PhysicalOffset)), record.QueueOffset)
	}
	if err := b.store.Append(batch); err != nil {
		batch.Done(batch, err)
	}
}
