package broker

import (
	"bytes"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// propShardingKey makes a message one of an order (MessageConst.PROPERTY_SHARDING_KEY).
const propShardingKey = "__SHARDINGKEY"

// byPriority chooses the queue of a message that says how urgent it is: queue n for priority n, the last one for all above
// (SendMessageProcessor, Message.getPriority). Whatever the type of its topic; but a transaction, a delay or an order excludes it, and then
// the property is not stored.
func (q *sendRequest) byPriority(t *topic) {
	if q.batch || !bytes.Contains(q.properties, []byte(message.PropPriority)) {
		return
	}
	priority, ok := protocol.ParseInt(message.Property(q.properties, message.PropPriority))
	if !ok || priority < 0 || priority != int64(int32(priority)) {
		return
	}
	for k, v := range message.Properties(q.properties) {
		switch string(k) {
		case message.PropTransaction:
			q.withoutPriority = q.withoutPriority || bytes.EqualFold(v, []byte("true"))
		case message.PropDelay, message.PropTimerDeliver, message.PropTimerDelayMS, message.PropTimerDelaySec, propShardingKey, message.PropLiteTopic:
			q.withoutPriority = true
		}
	}
	if !q.withoutPriority {
		q.queueID = max(min(int32(priority), t.config.WriteQueues-1), 0)
	}
}
