package broker

import (
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// recallTag marks a recall's record (RecallMessageProcessor.RECALL_MESSAGE_TAG).
const recallTag = "_RECALL_TAG_"

// recallTarget is what a recall handle names.
type recallTarget struct {
	topic, broker, uniqueKey string
	at                       int64 // ms
}

// parseRecallHandle reads the form of recallHandle.
func parseRecallHandle(handle string) (t recallTarget, ok bool) {
	raw, err := base64.URLEncoding.DecodeString(handle)
	if err != nil {
		raw, err = base64.RawURLEncoding.DecodeString(handle) // Java's decoder does not ask for the padding
	}
	words := strings.Split(string(raw), " ")
	if err != nil || len(words) < 5 || words[0] != "v1" {
		return t, false
	}
	at, ok := protocol.ParseInt([]byte(words[3]))
	if !ok {
		at = -1
	}
	return recallTarget{topic: words[1], broker: words[2], at: at, uniqueKey: words[4]}, true
}

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
	target, ok := parseRecallHandle(h.Handle)
	now := b.c.Now().UnixMilli()
	switch {
	case !ok:
		return nil, illegal("recall handle is invalid: %.40q", h.Handle)
	case target.topic != h.Topic:
		return nil, illegal("recall failed, topic not match: the handle is of topic %s, not of %s", target.topic, h.Topic)
	case target.broker != b.c.Name:
		return nil, illegal("recall failed, broker service not available: the handle is of broker %s", target.broker)
	case target.at <= now || target.at-now >= b.c.TimerMaxDelaySec*1000:
		return nil, illegal("recall failed, timestamp invalid: %d, it is %d, and timerMaxDelaySec is %d", target.at, now, b.c.TimerMaxDelaySec)
	}
	e := b.recallOf(&target, h.ProducerGroup, r)
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
			resp := remoting.Respond(protocol.RespSuccess, &protocol.RecallResult{MessageID: target.uniqueKey})
			resp.Fields.Add(message.PropRegion, b.c.Region)
			r.Reply(resp, nil)
		},
	}
	if err := b.store.Append(batch); err != nil {
		return nil, protocol.Errorf(protocol.RespSystemError, "recall failed, execute error: %s", err)
	}
	return nil, remoting.ErrLater
}

// recallOf makes the entry of a recall (RecallMessageProcessor.buildMessage).
func (b *Broker) recallOf(t *recallTarget, group string, r *remoting.Request) store.Entry {
	now := b.c.Now().UnixMilli()
	var born, local netip.AddrPort
	if r.Conn != nil {
		born, local = r.Conn.RemoteAddr(), r.Conn.LocalAddr()
	} else { // from within the process
		born = b.storeHost(local)
	}
	var p []byte
	for _, pair := range [][2]string{
		{message.PropTimerDelete, t.uniqueKey}, {message.PropUniqueKey, t.uniqueKey}, {message.PropTags, recallTag},
		{message.PropTimerDeliver, strconv.FormatInt(t.at, 10)}, {message.PropBornTimestamp, strconv.FormatInt(now, 10)},
		{message.PropProducerGroup, group}, {message.PropTimerOut, strconv.FormatInt(b.out(t.at), 10)},
		{message.PropRealTopic, t.topic}, {message.PropRealQueueID, "0"},
	} {
		if pair[1] != "" {
			p = message.AppendProperty(p, pair[0], []byte(pair[1]))
		}
	}
	return entryFor(message.Record{
		Topic: timerTopic, Body: []byte("0"), Properties: p, BornTime: now,
		BornHost: born, StoreHost: b.storeHost(local),
	}, b.timed.queue)
}
