package broker

import (
	"net/netip"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// recall answers RECALL_MESSAGE (370) once its record is confirmed. Its checks come in RocketMQ's order.
func (b *Broker) recall(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.RecallHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	illegal := func(format string, args ...any) error {
		return protocol.Errorf(protocol.RespIllegalOperation, format, args...)
	}
	switch {
	case b.c.NoRecall:
		return nil, protocol.Errorf(protocol.RespNoPermission, "recall failed, operation is forbidden: recallMessageEnable is false")
	case b.live().permission&protocol.PermWrite == 0:
		return nil, protocol.Errorf(protocol.RespServiceNotAvailable, "recall failed, broker service not available")
	case b.topics.find(h.Topic) == nil:
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "recall failed, the topic[%s] not exist", h.Topic)
	}
	target, err := protocol.ParseRecallHandle(h.Handle)
	now := b.c.Now().UnixMilli()
	switch {
	case err != nil:
		return nil, illegal("%s", err)
	case target.Topic != h.Topic:
		return nil, illegal("recall failed, topic not match: the handle is of topic %s, not of %s", target.Topic, h.Topic)
	case target.Broker != b.c.Name:
		return nil, illegal("recall failed, broker service not available: the handle is of broker %s", target.Broker)
	case target.At <= now || target.At-now >= b.c.TimerMaxDelaySec*1000:
		return nil, illegal("recall failed, timestamp invalid: %d, it is %d, and timerMaxDelaySec is %d", target.At, now, b.c.TimerMaxDelaySec)
	}
	var born, local netip.AddrPort // none of a request from within the process
	if r.Conn != nil {
		born, local = r.Conn.RemoteAddr(), r.Conn.LocalAddr()
	} else {
		born = b.storeHost(local)
	}
	e := b.delays.RecallOf(&target, h.ProducerGroup, born, b.storeHost(local))
	if n := e.Record.EncodedPropertiesSize(); n > message.MaxPropertiesSize {
		return nil, illegal("recall failed, producerGroup, topic and recallHandle make %d bytes of properties, the limit is %d", n, message.MaxPropertiesSize)
	}
	batch := &store.Batch{
		Entries: []store.Entry{e},
		Done: func(_ *store.Batch, err error) {
			if err != nil {
				r.Reply(nil, protocol.Errorf(protocol.RespSystemError, "recall failed, execute error: %s", err))
				return
			}
			resp := remoting.Respond(protocol.RespSuccess, &protocol.RecallResult{MessageID: target.UniqueKey})
			resp.Fields.Add(message.PropRegion, b.c.Region)
			r.Reply(resp, nil)
		},
	}
	if err := b.store.Append(batch); err != nil {
		return nil, protocol.Errorf(protocol.RespSystemError, "recall failed, execute error: %s", err)
	}
	return nil, remoting.ErrLater
}
