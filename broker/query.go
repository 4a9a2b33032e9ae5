package broker

import (
	"math"
	"strings"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Queries: QUERY_MESSAGE (12) by key, unique key or tag, VIEW_MESSAGE_BY_ID (33) by log position.
//
// What clients see: messages newest first, whole stored records; 22 when there is none. Differences: the index holds 64-bit hashes and
// each hit is compared with the key itself, so that no other message is ever returned; records of Apogee's own state are never found.

// queryMax is the most that one query returns (maxMsgsNumBatch).
const queryMax = 64

// indexTag asks for messages by tag instead of key (MessageConst.INDEX_TAG_TYPE).
const indexTag = "T"

func (b *Broker) queryMessage(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.QueryMessageHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	limit := min(int(h.MaxNum), queryMax)
	begin, end := h.Begin, h.End
	if h.UniqueKey { // RocketMQ looks at all of time for a unique key
		limit, begin, end = queryMax, 0, math.MaxInt64
	}
	var body []byte
	found := 0
	find := b.store.FindKey
	if h.IndexType == indexTag {
		find = b.store.FindTag
	}
	err := find(h.Topic, h.Key, begin, end, func(m *message.Record, raw []byte) bool {
		if !isFoundBy(m, &h) {
			return found < limit
		}
		body = append(body, raw...)
		found++
		return found < limit && len(body) < b.live().transferBytes*4
	})
	if err != nil {
		return nil, err
	}
	if found == 0 {
		return nil, protocol.Errorf(protocol.RespQueryNotFound, "can not find message, maybe time range not correct")
	}
	position, at := b.store.LastRecord()
	resp := remoting.Respond(protocol.RespSuccess, &protocol.QueryMessageResult{LastUpdateTime: at, LastUpdateOffset: position})
	resp.Body = body
	return resp, nil
}

// isFoundBy tells whether the message has the key or tag that its hash was found by.
func isFoundBy(m *message.Record, h *protocol.QueryMessageHeader) bool {
	if h.IndexType == indexTag {
		return string(message.Property(m.Properties, message.PropTags)) == h.Key
	}
	if string(message.Property(m.Properties, message.PropUniqueKey)) == h.Key {
		return true
	}
	if h.UniqueKey {
		return false
	}
	for word := range strings.SplitSeq(string(message.Property(m.Properties, message.PropKeys)), " ") {
		if word == h.Key {
			return true
		}
	}
	return false
}

func (b *Broker) viewMessage(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ViewMessageHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	_, raw, err := b.store.RecordAt(h.Offset)
	if err != nil {
		return nil, protocol.Errorf(protocol.RespSystemError, "can not find message by the offset, %d", h.Offset)
	}
	resp := remoting.Respond(protocol.RespSuccess, nil)
	resp.Body = raw
	return resp, nil
}
