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
	return append([]remoting.Route{
		{Code: protocol.ReqSendMessage, Lane: send, Action: pub},
		{Code: protocol.ReqSendMessageV2, Lane: send, Action: pub},
		{Code: protocol.ReqSendBatchMessage, Lane: send, Action: pub},
		{Code: protocol.ReqEndTransaction, Lane: send, Action: pub},

		{Code: protocol.ReqPullMessage, Lane: pull, Action: sub, Handle: b.pull},
		{Code: protocol.ReqLitePullMessage, Lane: pull, Action: sub, Handle: b.pull},

		{Code: protocol.ReqQueryConsumerOffset, Lane: ack, Action: sub, Handle: b.queryConsumerOffset},
		{Code: protocol.ReqUpdateConsumerOffset, Lane: ack, Action: sub, Handle: b.updateConsumerOffset},
		{Code: protocol.ReqLockBatchMQ, Lane: ack, Action: sub, Handle: b.lockBatch},
		{Code: protocol.ReqUnlockBatchMQ, Lane: ack, Action: sub, Handle: b.unlockBatch},

		{Code: protocol.ReqRecallMessage, Lane: ack, Action: pub, Handle: b.recall},

		{Code: protocol.ReqConsumerSendMsgBack, Lane: ack, Action: sub, Handle: b.sendBack},

		{Code: protocol.ReqSendReplyMessage, Lane: ack, Action: pub, Handle: b.reply},
		{Code: protocol.ReqSendReplyMessageV2, Lane: ack, Action: pub, Handle: b.reply},

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
	}, append(b.adminRoutes(), b.pop.Routes()...)...)
}

// adminRoutes are the rows that administrators and their tools use.
func (b *Broker) adminRoutes() []remoting.Route {
	const (
		admin = remoting.LaneAdmin

		sub, create, update, remove, get, list = remoting.ActionSub, remoting.ActionCreate, remoting.ActionUpdate,
			remoting.ActionDelete, remoting.ActionGet, remoting.ActionList
	)
	return []remoting.Route{
		{Code: protocol.ReqUpdateBrokerConfig, Lane: admin, Action: update, Handle: b.updateBrokerConfig},
		{Code: protocol.ReqGetBrokerConfig, Lane: admin, Action: get, Handle: b.brokerConfig},
		{Code: protocol.ReqGetBrokerRuntimeInfo, Lane: admin, Action: get, Handle: b.runtimeInfo},
		{Code: protocol.ReqUpdateColdDataFlowCtrConfig, Lane: admin, Action: update, Handle: b.updateColdLimits},
		{Code: protocol.ReqRemoveColdDataFlowCtrConfig, Lane: admin, Action: update, Handle: b.removeColdLimit},
		{Code: protocol.ReqGetColdDataFlowCtrInfo, Lane: admin, Action: get, Handle: b.coldInfo},
		{Code: protocol.ReqSetCommitLogReadMode, Lane: admin, Action: update, Handle: b.setReadMode},
		{Code: protocol.ReqGetTimerMetrics, Lane: admin, Action: get, Handle: b.timerMetrics},
		{Code: protocol.ReqResumeCheckHalfMessage, Lane: admin, Action: update, Handle: b.resumeCheck},
		{Code: protocol.ReqCheckClientConfig, Lane: admin, Action: sub, Handle: b.checkClient},
		{Code: protocol.ReqUpdateAndCreateTopicList, Lane: admin, Action: create, Handle: b.createTopics},
		{Code: protocol.ReqGetAllTopicConfig, Lane: admin, Action: list, Handle: b.allTopics},
		{Code: protocol.ReqGetTopicStatsInfo, Lane: admin, Action: get, Handle: b.topicStats},
		{Code: protocol.ReqGetSystemTopicListFromBroker, Lane: admin, Action: list, Handle: b.systemTopicList},
		{Code: protocol.ReqCleanExpiredConsumeQueue, Lane: admin, Action: update, Handle: b.nothingToClean},
		{Code: protocol.ReqCleanUnusedTopic, Lane: admin, Action: update, Handle: b.nothingToClean},
		{Code: protocol.ReqDeleteExpiredCommitLog, Lane: admin, Action: update, Handle: b.deleteExpiredLog},

		{Code: protocol.ReqUpdateAndCreateSubscriptionGroup, Lane: admin, Action: create, Handle: b.createGroup},
		{Code: protocol.ReqUpdateAndCreateSubscriptionGroupList, Lane: admin, Action: create, Handle: b.createGroups},
		{Code: protocol.ReqGetSubscriptionGroupConfig, Lane: admin, Action: get, Handle: b.groupConfig},
		{Code: protocol.ReqGetAllSubscriptionGroupConfig, Lane: admin, Action: list, Handle: b.allGroups},
		{Code: protocol.ReqDeleteSubscriptionGroup, Lane: admin, Action: remove, Handle: b.deleteGroup},
		{Code: protocol.ReqUpdateAndGetGroupForbidden, Lane: admin, Action: update, Handle: b.groupForbidden},

		{Code: protocol.ReqGetConsumeStats, Lane: admin, Action: get, Handle: b.consumeStats},
		{Code: protocol.ReqGetBrokerConsumeStats, Lane: admin, Action: get, Handle: b.brokerConsumeStats},
		{Code: protocol.ReqQueryConsumeTimeSpan, Lane: admin, Action: get, Handle: b.consumeTimeSpans},
		{Code: protocol.ReqQueryConsumeQueue, Lane: admin, Action: get, Handle: b.queryConsumeQueue},
		{Code: protocol.ReqViewBrokerStatsData, Lane: admin, Action: get, Handle: b.viewStats},
		{Code: protocol.ReqInvokeBrokerToResetOffset, Lane: admin, Action: update, Handle: b.resetOffset},
		{Code: protocol.ReqCloneGroupOffset, Lane: admin, Action: update, Handle: b.cloneOffsets},
		{Code: protocol.ReqQueryCorrectionOffset, Lane: admin, Action: get, Handle: b.correctionOffsets},

		{Code: protocol.ReqGetConsumerConnectionList, Lane: admin, Action: get, Handle: b.consumerConnections},
		{Code: protocol.ReqGetProducerConnectionList, Lane: admin, Action: get, Handle: b.producerConnections},
		{Code: protocol.ReqGetAllProducerInfo, Lane: admin, Action: get, Handle: b.allProducers},
		{Code: protocol.ReqQueryTopicConsumeByWho, Lane: admin, Action: get, Handle: b.groupsOfTopic},
		{Code: protocol.ReqQueryTopicsByConsumer, Lane: admin, Action: get, Handle: b.topicsOfGroup},
		{Code: protocol.ReqQuerySubscriptionByConsumer, Lane: admin, Action: get, Handle: b.groupSubscription},
		{Code: protocol.ReqInvokeBrokerToGetConsumerStatus, Lane: admin, Action: get, Handle: b.consumerStatus},
		{Code: protocol.ReqGetConsumerRunningInfo, Lane: admin, Action: get, Handle: b.runningInfo},
		{Code: protocol.ReqConsumeMessageDirectly, Lane: admin, Action: sub, Handle: b.consumeDirectly},
	}
}
