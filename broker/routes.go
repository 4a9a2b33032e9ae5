package broker

import (
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Routes is the broker's table: one row per request code that it serves. Sends are taken by the connection's sink (NewSink).
func (b *Broker) Routes() []remoting.Route {
	const (
		send, pull, ack, beat, admin = remoting.LaneSend, remoting.LanePull, remoting.LaneAck, remoting.LaneHeartbeat, remoting.LaneAdmin

		open, pub, sub, create, remove, get = remoting.ActionNone, remoting.ActionPub, remoting.ActionSub,
			remoting.ActionCreate, remoting.ActionDelete, remoting.ActionGet
	)
	return []remoting.Route{
		{Code: protocol.ReqSendMessage, Lane: send, Action: pub},
		{Code: protocol.ReqSendMessageV2, Lane: send, Action: pub},
		{Code: protocol.ReqSendBatchMessage, Lane: send, Action: pub},

		{Code: protocol.ReqPullMessage, Lane: pull, Action: sub, Handle: b.pull},
		{Code: protocol.ReqLitePullMessage, Lane: pull, Action: sub, Handle: b.pull},

		{Code: protocol.ReqQueryConsumerOffset, Lane: ack, Action: sub, Handle: b.queryConsumerOffset},
		{Code: protocol.ReqUpdateConsumerOffset, Lane: ack, Action: sub, Handle: b.updateConsumerOffset},
		{Code: protocol.ReqLockBatchMQ, Lane: ack, Action: sub, Handle: b.lockBatch},
		{Code: protocol.ReqUnlockBatchMQ, Lane: ack, Action: sub, Handle: b.unlockBatch},

		{Code: protocol.ReqConsumerSendMsgBack, Lane: ack, Action: sub, Handle: b.sendBack},

		{Code: protocol.ReqHeartBeat, Lane: beat, Action: open, Handle: b.heartbeat},
		{Code: protocol.ReqUnregisterClient, Lane: beat, Action: open, Handle: b.unregisterClient},
		{Code: protocol.ReqGetConsumerListByGroup, Lane: beat, Action: sub, Handle: b.consumerList},

		{Code: protocol.ReqSearchOffsetByTimestamp, Lane: admin, Action: sub, Handle: b.searchOffset},
		{Code: protocol.ReqGetMaxOffset, Lane: admin, Action: sub, Handle: b.maxOffset},
		{Code: protocol.ReqGetMinOffset, Lane: admin, Action: sub, Handle: b.minOffset},
		{Code: protocol.ReqGetEarliestMsgStoreTime, Lane: admin, Action: sub, Handle: b.earliestTime},
		{Code: protocol.ReqQueryMessage, Lane: admin, Action: get, Handle: b.queryMessage},
		{Code: protocol.ReqViewMessageByID, Lane: admin, Action: get, Handle: b.viewMessage},

		{Code: protocol.ReqUpdateAndCreateTopic, Lane: admin, Action: create, Handle: b.createTopic},
		{Code: protocol.ReqDeleteTopicInBroker, Lane: admin, Action: remove, Handle: b.deleteTopic},
		{Code: protocol.ReqGetTopicConfig, Lane: admin, Action: get, Handle: b.topicConfig},
	}
}
