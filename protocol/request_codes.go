package protocol

import (
	"slices"
	"strconv"
)

// RequestCode says what a request asks for.
type RequestCode int32

// Every constant of RocketMQ 5.5.0 (RequestCode).
const (
	ReqSendMessage                          RequestCode = 10
	ReqPullMessage                          RequestCode = 11
	ReqQueryMessage                         RequestCode = 12
	ReqQueryBrokerOffset                    RequestCode = 13
	ReqQueryConsumerOffset                  RequestCode = 14
	ReqUpdateConsumerOffset                 RequestCode = 15
	ReqUpdateAndCreateTopic                 RequestCode = 17
	ReqUpdateAndCreateTopicList             RequestCode = 18
	ReqGetAllTopicConfig                    RequestCode = 21
	ReqGetTopicConfigList                   RequestCode = 22
	ReqGetTopicNameList                     RequestCode = 23
	ReqUpdateBrokerConfig                   RequestCode = 25
	ReqGetBrokerConfig                      RequestCode = 26
	ReqTriggerDeleteFiles                   RequestCode = 27
	ReqGetBrokerRuntimeInfo                 RequestCode = 28
	ReqSearchOffsetByTimestamp              RequestCode = 29
	ReqGetMaxOffset                         RequestCode = 30
	ReqGetMinOffset                         RequestCode = 31
	ReqGetEarliestMsgStoreTime              RequestCode = 32
	ReqViewMessageByID                      RequestCode = 33
	ReqHeartBeat                            RequestCode = 34
	ReqUnregisterClient                     RequestCode = 35
	ReqConsumerSendMsgBack                  RequestCode = 36
	ReqEndTransaction                       RequestCode = 37
	ReqGetConsumerListByGroup               RequestCode = 38
	ReqCheckTransactionState                RequestCode = 39
	ReqNotifyConsumerIDsChanged             RequestCode = 40
	ReqLockBatchMQ                          RequestCode = 41
	ReqUnlockBatchMQ                        RequestCode = 42
	ReqGetAllConsumerOffset                 RequestCode = 43
	ReqGetAllDelayOffset                    RequestCode = 45
	ReqCheckClientConfig                    RequestCode = 46
	ReqGetClientConfig                      RequestCode = 47
	ReqGetTimerCheckPoint                   RequestCode = 60
	ReqGetTimerMetrics                      RequestCode = 61
	ReqPutKVConfig                          RequestCode = 100
	ReqGetKVConfig                          RequestCode = 101
	ReqDeleteKVConfig                       RequestCode = 102
	ReqRegisterBroker                       RequestCode = 103
	ReqUnregisterBroker                     RequestCode = 104
	ReqGetRouteInfoByTopic                  RequestCode = 105
	ReqGetBrokerClusterInfo                 RequestCode = 106
	ReqUpdateAndCreateSubscriptionGroup     RequestCode = 200
	ReqGetAllSubscriptionGroupConfig        RequestCode = 201
	ReqGetTopicStatsInfo                    RequestCode = 202
	ReqGetConsumerConnectionList            RequestCode = 203
	ReqGetProducerConnectionList            RequestCode = 204
	ReqWipeWritePermOfBroker                RequestCode = 205
	ReqGetAllTopicListFromNameserver        RequestCode = 206
	ReqDeleteSubscriptionGroup              RequestCode = 207
	ReqGetConsumeStats                      RequestCode = 208
	ReqSuspendConsumer                      RequestCode = 209
	ReqResumeConsumer                       RequestCode = 210
	ReqResetConsumerOffsetInConsumer        RequestCode = 211
	ReqResetConsumerOffsetInBroker          RequestCode = 212
	ReqAdjustConsumerThreadPool             RequestCode = 213
	ReqWhoConsumeTheMessage                 RequestCode = 214
	ReqDeleteTopicInBroker                  RequestCode = 215
	ReqDeleteTopicInNamesrv                 RequestCode = 216
	ReqRegisterTopicInNamesrv               RequestCode = 217
	ReqGetKVListByNamespace                 RequestCode = 219
	ReqResetConsumerClientOffset            RequestCode = 220
	ReqGetConsumerStatusFromClient          RequestCode = 221
	ReqInvokeBrokerToResetOffset            RequestCode = 222
	ReqInvokeBrokerToGetConsumerStatus      RequestCode = 223
	ReqGetTopicsByCluster                   RequestCode = 224
	ReqUpdateAndCreateSubscriptionGroupList RequestCode = 225
	ReqQueryTopicConsumeByWho               RequestCode = 300
	ReqRegisterFilterServer                 RequestCode = 301
	ReqRegisterMessageFilterClass           RequestCode = 302
	ReqQueryConsumeTimeSpan                 RequestCode = 303
	ReqGetSystemTopicListFromNS             RequestCode = 304
	ReqGetSystemTopicListFromBroker         RequestCode = 305
	ReqCleanExpiredConsumeQueue             RequestCode = 306
	ReqGetConsumerRunningInfo               RequestCode = 307
	ReqQueryCorrectionOffset                RequestCode = 308
	ReqConsumeMessageDirectly               RequestCode = 309
	ReqSendMessageV2                        RequestCode = 310
	ReqGetUnitTopicList                     RequestCode = 311
	ReqGetHasUnitSubTopicList               RequestCode = 312
	ReqGetHasUnitSubUnunitTopicList         RequestCode = 313
	ReqCloneGroupOffset                     RequestCode = 314
	ReqViewBrokerStatsData                  RequestCode = 315
	ReqCleanUnusedTopic                     RequestCode = 316
	ReqGetBrokerConsumeStats                RequestCode = 317
	ReqUpdateNamesrvConfig                  RequestCode = 318
	ReqGetNamesrvConfig                     RequestCode = 319
	ReqSendBatchMessage                     RequestCode = 320
	ReqQueryConsumeQueue                    RequestCode = 321
	ReqQueryDataVersion                     RequestCode = 322
	ReqResumeCheckHalfMessage               RequestCode = 323
	ReqSendReplyMessage                     RequestCode = 324
	ReqSendReplyMessageV2                   RequestCode = 325
	ReqPushReplyMessageToClient             RequestCode = 326
	ReqAddWritePermOfBroker                 RequestCode = 327
	ReqGetAllProducerInfo                   RequestCode = 328
	ReqDeleteExpiredCommitLog               RequestCode = 329
	ReqQueryTopicsByConsumer                RequestCode = 343
	ReqQuerySubscriptionByConsumer          RequestCode = 345
	ReqGetTopicConfig                       RequestCode = 351
	ReqGetSubscriptionGroupConfig           RequestCode = 352
	ReqUpdateAndGetGroupForbidden           RequestCode = 353
	ReqCheckRocksDBCQWriteProgress          RequestCode = 354
	ReqExportRocksDBConfigToJson            RequestCode = 355
	ReqLitePullMessage                      RequestCode = 361
	ReqRecallMessage                        RequestCode = 370
	ReqQueryAssignment                      RequestCode = 400
	ReqSetMessageRequestMode                RequestCode = 401
	ReqGetAllMessageRequestMode             RequestCode = 402
	ReqUpdateAndCreateStaticTopic           RequestCode = 513
	ReqGetBrokerMemberGroup                 RequestCode = 901
	ReqAddBroker                            RequestCode = 902
	ReqRemoveBroker                         RequestCode = 903
	ReqBrokerHeartbeat                      RequestCode = 904
	ReqNotifyMinBrokerIDChange              RequestCode = 905
	ReqExchangeBrokerHAInfo                 RequestCode = 906
	ReqGetBrokerHAStatus                    RequestCode = 907
	ReqResetMasterFlushOffset               RequestCode = 908
	ReqControllerAlterSyncStateSet          RequestCode = 1001
	ReqControllerElectMaster                RequestCode = 1002
	ReqControllerRegisterBroker             RequestCode = 1003
	ReqControllerGetReplicaInfo             RequestCode = 1004
	ReqControllerGetMetadataInfo            RequestCode = 1005
	ReqControllerGetSyncStateData           RequestCode = 1006
	ReqGetBrokerEpochCache                  RequestCode = 1007
	ReqNotifyBrokerRoleChanged              RequestCode = 1008
	ReqUpdateControllerConfig               RequestCode = 1009
	ReqGetControllerConfig                  RequestCode = 1010
	ReqCleanBrokerData                      RequestCode = 1011
	ReqControllerGetNextBrokerID            RequestCode = 1012
	ReqControllerApplyBrokerID              RequestCode = 1013
	ReqBrokerCloseChannelRequest            RequestCode = 1014
	ReqCheckNotActiveBrokerRequest          RequestCode = 1015
	ReqGetBrokerLiveInfoRequest             RequestCode = 1016
	ReqGetSyncStateDataRequest              RequestCode = 1017
	ReqRaftBrokerHeartBeatEventRequest      RequestCode = 1018
	ReqUpdateColdDataFlowCtrConfig          RequestCode = 2001
	ReqRemoveColdDataFlowCtrConfig          RequestCode = 2002
	ReqGetColdDataFlowCtrInfo               RequestCode = 2003
	ReqSetCommitLogReadMode                 RequestCode = 2004
	ReqAuthCreateUser                       RequestCode = 3001
	ReqAuthUpdateUser                       RequestCode = 3002
	ReqAuthDeleteUser                       RequestCode = 3003
	ReqAuthGetUser                          RequestCode = 3004
	ReqAuthListUser                         RequestCode = 3005
	ReqAuthCreateACL                        RequestCode = 3006
	ReqAuthUpdateACL                        RequestCode = 3007
	ReqAuthDeleteACL                        RequestCode = 3008
	ReqAuthGetACL                           RequestCode = 3009
	ReqAuthListACL                          RequestCode = 3010
	ReqSwitchTimerEngine                    RequestCode = 5001
	ReqPopMessage                           RequestCode = 200050
	ReqAckMessage                           RequestCode = 200051
	ReqPeekMessage                          RequestCode = 200052
	ReqChangeMessageInvisibleTime           RequestCode = 200053
	ReqNotification                         RequestCode = 200054
	ReqPollingInfo                          RequestCode = 200055
	ReqPopRollback                          RequestCode = 200056
	ReqPopLiteMessage                       RequestCode = 200070
	ReqLiteSubscriptionCtl                  RequestCode = 200071
	ReqAckLiteMessage                       RequestCode = 200072
	ReqNotifyUnsubscribeLite                RequestCode = 200073
	ReqGetBrokerLiteInfo                    RequestCode = 200074
	ReqGetParentTopicInfo                   RequestCode = 200075
	ReqGetLiteTopicInfo                     RequestCode = 200076
	ReqGetLiteClientInfo                    RequestCode = 200077
	ReqGetLiteGroupInfo                     RequestCode = 200078
	ReqTriggerLiteDispatch                  RequestCode = 200079
	ReqBatchAckMessage                      RequestCode = 200151
)

var namesRequestCode = map[RequestCode]string{
	ReqSendMessage:                          "SEND_MESSAGE",
	ReqPullMessage:                          "PULL_MESSAGE",
	ReqQueryMessage:                         "QUERY_MESSAGE",
	ReqQueryBrokerOffset:                    "QUERY_BROKER_OFFSET",
	ReqQueryConsumerOffset:                  "QUERY_CONSUMER_OFFSET",
	ReqUpdateConsumerOffset:                 "UPDATE_CONSUMER_OFFSET",
	ReqUpdateAndCreateTopic:                 "UPDATE_AND_CREATE_TOPIC",
	ReqUpdateAndCreateTopicList:             "UPDATE_AND_CREATE_TOPIC_LIST",
	ReqGetAllTopicConfig:                    "GET_ALL_TOPIC_CONFIG",
	ReqGetTopicConfigList:                   "GET_TOPIC_CONFIG_LIST",
	ReqGetTopicNameList:                     "GET_TOPIC_NAME_LIST",
	ReqUpdateBrokerConfig:                   "UPDATE_BROKER_CONFIG",
	ReqGetBrokerConfig:                      "GET_BROKER_CONFIG",
	ReqTriggerDeleteFiles:                   "TRIGGER_DELETE_FILES",
	ReqGetBrokerRuntimeInfo:                 "GET_BROKER_RUNTIME_INFO",
	ReqSearchOffsetByTimestamp:              "SEARCH_OFFSET_BY_TIMESTAMP",
	ReqGetMaxOffset:                         "GET_MAX_OFFSET",
	ReqGetMinOffset:                         "GET_MIN_OFFSET",
	ReqGetEarliestMsgStoreTime:              "GET_EARLIEST_MSG_STORETIME",
	ReqViewMessageByID:                      "VIEW_MESSAGE_BY_ID",
	ReqHeartBeat:                            "HEART_BEAT",
	ReqUnregisterClient:                     "UNREGISTER_CLIENT",
	ReqConsumerSendMsgBack:                  "CONSUMER_SEND_MSG_BACK",
	ReqEndTransaction:                       "END_TRANSACTION",
	ReqGetConsumerListByGroup:               "GET_CONSUMER_LIST_BY_GROUP",
	ReqCheckTransactionState:                "CHECK_TRANSACTION_STATE",
	ReqNotifyConsumerIDsChanged:             "NOTIFY_CONSUMER_IDS_CHANGED",
	ReqLockBatchMQ:                          "LOCK_BATCH_MQ",
	ReqUnlockBatchMQ:                        "UNLOCK_BATCH_MQ",
	ReqGetAllConsumerOffset:                 "GET_ALL_CONSUMER_OFFSET",
	ReqGetAllDelayOffset:                    "GET_ALL_DELAY_OFFSET",
	ReqCheckClientConfig:                    "CHECK_CLIENT_CONFIG",
	ReqGetClientConfig:                      "GET_CLIENT_CONFIG",
	ReqGetTimerCheckPoint:                   "GET_TIMER_CHECK_POINT",
	ReqGetTimerMetrics:                      "GET_TIMER_METRICS",
	ReqPutKVConfig:                          "PUT_KV_CONFIG",
	ReqGetKVConfig:                          "GET_KV_CONFIG",
	ReqDeleteKVConfig:                       "DELETE_KV_CONFIG",
	ReqRegisterBroker:                       "REGISTER_BROKER",
	ReqUnregisterBroker:                     "UNREGISTER_BROKER",
	ReqGetRouteInfoByTopic:                  "GET_ROUTEINFO_BY_TOPIC",
	ReqGetBrokerClusterInfo:                 "GET_BROKER_CLUSTER_INFO",
	ReqUpdateAndCreateSubscriptionGroup:     "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP",
	ReqGetAllSubscriptionGroupConfig:        "GET_ALL_SUBSCRIPTIONGROUP_CONFIG",
	ReqGetTopicStatsInfo:                    "GET_TOPIC_STATS_INFO",
	ReqGetConsumerConnectionList:            "GET_CONSUMER_CONNECTION_LIST",
	ReqGetProducerConnectionList:            "GET_PRODUCER_CONNECTION_LIST",
	ReqWipeWritePermOfBroker:                "WIPE_WRITE_PERM_OF_BROKER",
	ReqGetAllTopicListFromNameserver:        "GET_ALL_TOPIC_LIST_FROM_NAMESERVER",
	ReqDeleteSubscriptionGroup:              "DELETE_SUBSCRIPTIONGROUP",
	ReqGetConsumeStats:                      "GET_CONSUME_STATS",
	ReqSuspendConsumer:                      "SUSPEND_CONSUMER",
	ReqResumeConsumer:                       "RESUME_CONSUMER",
	ReqResetConsumerOffsetInConsumer:        "RESET_CONSUMER_OFFSET_IN_CONSUMER",
	ReqResetConsumerOffsetInBroker:          "RESET_CONSUMER_OFFSET_IN_BROKER",
	ReqAdjustConsumerThreadPool:             "ADJUST_CONSUMER_THREAD_POOL",
	ReqWhoConsumeTheMessage:                 "WHO_CONSUME_THE_MESSAGE",
	ReqDeleteTopicInBroker:                  "DELETE_TOPIC_IN_BROKER",
	ReqDeleteTopicInNamesrv:                 "DELETE_TOPIC_IN_NAMESRV",
	ReqRegisterTopicInNamesrv:               "REGISTER_TOPIC_IN_NAMESRV",
	ReqGetKVListByNamespace:                 "GET_KVLIST_BY_NAMESPACE",
	ReqResetConsumerClientOffset:            "RESET_CONSUMER_CLIENT_OFFSET",
	ReqGetConsumerStatusFromClient:          "GET_CONSUMER_STATUS_FROM_CLIENT",
	ReqInvokeBrokerToResetOffset:            "INVOKE_BROKER_TO_RESET_OFFSET",
	ReqInvokeBrokerToGetConsumerStatus:      "INVOKE_BROKER_TO_GET_CONSUMER_STATUS",
	ReqGetTopicsByCluster:                   "GET_TOPICS_BY_CLUSTER",
	ReqUpdateAndCreateSubscriptionGroupList: "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST",
	ReqQueryTopicConsumeByWho:               "QUERY_TOPIC_CONSUME_BY_WHO",
	ReqRegisterFilterServer:                 "REGISTER_FILTER_SERVER",
	ReqRegisterMessageFilterClass:           "REGISTER_MESSAGE_FILTER_CLASS",
	ReqQueryConsumeTimeSpan:                 "QUERY_CONSUME_TIME_SPAN",
	ReqGetSystemTopicListFromNS:             "GET_SYSTEM_TOPIC_LIST_FROM_NS",
	ReqGetSystemTopicListFromBroker:         "GET_SYSTEM_TOPIC_LIST_FROM_BROKER",
	ReqCleanExpiredConsumeQueue:             "CLEAN_EXPIRED_CONSUMEQUEUE",
	ReqGetConsumerRunningInfo:               "GET_CONSUMER_RUNNING_INFO",
	ReqQueryCorrectionOffset:                "QUERY_CORRECTION_OFFSET",
	ReqConsumeMessageDirectly:               "CONSUME_MESSAGE_DIRECTLY",
	ReqSendMessageV2:                        "SEND_MESSAGE_V2",
	ReqGetUnitTopicList:                     "GET_UNIT_TOPIC_LIST",
	ReqGetHasUnitSubTopicList:               "GET_HAS_UNIT_SUB_TOPIC_LIST",
	ReqGetHasUnitSubUnunitTopicList:         "GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST",
	ReqCloneGroupOffset:                     "CLONE_GROUP_OFFSET",
	ReqViewBrokerStatsData:                  "VIEW_BROKER_STATS_DATA",
	ReqCleanUnusedTopic:                     "CLEAN_UNUSED_TOPIC",
	ReqGetBrokerConsumeStats:                "GET_BROKER_CONSUME_STATS",
	ReqUpdateNamesrvConfig:                  "UPDATE_NAMESRV_CONFIG",
	ReqGetNamesrvConfig:                     "GET_NAMESRV_CONFIG",
	ReqSendBatchMessage:                     "SEND_BATCH_MESSAGE",
	ReqQueryConsumeQueue:                    "QUERY_CONSUME_QUEUE",
	ReqQueryDataVersion:                     "QUERY_DATA_VERSION",
	ReqResumeCheckHalfMessage:               "RESUME_CHECK_HALF_MESSAGE",
	ReqSendReplyMessage:                     "SEND_REPLY_MESSAGE",
	ReqSendReplyMessageV2:                   "SEND_REPLY_MESSAGE_V2",
	ReqPushReplyMessageToClient:             "PUSH_REPLY_MESSAGE_TO_CLIENT",
	ReqAddWritePermOfBroker:                 "ADD_WRITE_PERM_OF_BROKER",
	ReqGetAllProducerInfo:                   "GET_ALL_PRODUCER_INFO",
	ReqDeleteExpiredCommitLog:               "DELETE_EXPIRED_COMMITLOG",
	ReqQueryTopicsByConsumer:                "QUERY_TOPICS_BY_CONSUMER",
	ReqQuerySubscriptionByConsumer:          "QUERY_SUBSCRIPTION_BY_CONSUMER",
	ReqGetTopicConfig:                       "GET_TOPIC_CONFIG",
	ReqGetSubscriptionGroupConfig:           "GET_SUBSCRIPTIONGROUP_CONFIG",
	ReqUpdateAndGetGroupForbidden:           "UPDATE_AND_GET_GROUP_FORBIDDEN",
	ReqCheckRocksDBCQWriteProgress:          "CHECK_ROCKSDB_CQ_WRITE_PROGRESS",
	ReqExportRocksDBConfigToJson:            "EXPORT_ROCKSDB_CONFIG_TO_JSON",
	ReqLitePullMessage:                      "LITE_PULL_MESSAGE",
	ReqRecallMessage:                        "RECALL_MESSAGE",
	ReqQueryAssignment:                      "QUERY_ASSIGNMENT",
	ReqSetMessageRequestMode:                "SET_MESSAGE_REQUEST_MODE",
	ReqGetAllMessageRequestMode:             "GET_ALL_MESSAGE_REQUEST_MODE",
	ReqUpdateAndCreateStaticTopic:           "UPDATE_AND_CREATE_STATIC_TOPIC",
	ReqGetBrokerMemberGroup:                 "GET_BROKER_MEMBER_GROUP",
	ReqAddBroker:                            "ADD_BROKER",
	ReqRemoveBroker:                         "REMOVE_BROKER",
	ReqBrokerHeartbeat:                      "BROKER_HEARTBEAT",
	ReqNotifyMinBrokerIDChange:              "NOTIFY_MIN_BROKER_ID_CHANGE",
	ReqExchangeBrokerHAInfo:                 "EXCHANGE_BROKER_HA_INFO",
	ReqGetBrokerHAStatus:                    "GET_BROKER_HA_STATUS",
	ReqResetMasterFlushOffset:               "RESET_MASTER_FLUSH_OFFSET",
	ReqControllerAlterSyncStateSet:          "CONTROLLER_ALTER_SYNC_STATE_SET",
	ReqControllerElectMaster:                "CONTROLLER_ELECT_MASTER",
	ReqControllerRegisterBroker:             "CONTROLLER_REGISTER_BROKER",
	ReqControllerGetReplicaInfo:             "CONTROLLER_GET_REPLICA_INFO",
	ReqControllerGetMetadataInfo:            "CONTROLLER_GET_METADATA_INFO",
	ReqControllerGetSyncStateData:           "CONTROLLER_GET_SYNC_STATE_DATA",
	ReqGetBrokerEpochCache:                  "GET_BROKER_EPOCH_CACHE",
	ReqNotifyBrokerRoleChanged:              "NOTIFY_BROKER_ROLE_CHANGED",
	ReqUpdateControllerConfig:               "UPDATE_CONTROLLER_CONFIG",
	ReqGetControllerConfig:                  "GET_CONTROLLER_CONFIG",
	ReqCleanBrokerData:                      "CLEAN_BROKER_DATA",
	ReqControllerGetNextBrokerID:            "CONTROLLER_GET_NEXT_BROKER_ID",
	ReqControllerApplyBrokerID:              "CONTROLLER_APPLY_BROKER_ID",
	ReqBrokerCloseChannelRequest:            "BROKER_CLOSE_CHANNEL_REQUEST",
	ReqCheckNotActiveBrokerRequest:          "CHECK_NOT_ACTIVE_BROKER_REQUEST",
	ReqGetBrokerLiveInfoRequest:             "GET_BROKER_LIVE_INFO_REQUEST",
	ReqGetSyncStateDataRequest:              "GET_SYNC_STATE_DATA_REQUEST",
	ReqRaftBrokerHeartBeatEventRequest:      "RAFT_BROKER_HEART_BEAT_EVENT_REQUEST",
	ReqUpdateColdDataFlowCtrConfig:          "UPDATE_COLD_DATA_FLOW_CTR_CONFIG",
	ReqRemoveColdDataFlowCtrConfig:          "REMOVE_COLD_DATA_FLOW_CTR_CONFIG",
	ReqGetColdDataFlowCtrInfo:               "GET_COLD_DATA_FLOW_CTR_INFO",
	ReqSetCommitLogReadMode:                 "SET_COMMITLOG_READ_MODE",
	ReqAuthCreateUser:                       "AUTH_CREATE_USER",
	ReqAuthUpdateUser:                       "AUTH_UPDATE_USER",
	ReqAuthDeleteUser:                       "AUTH_DELETE_USER",
	ReqAuthGetUser:                          "AUTH_GET_USER",
	ReqAuthListUser:                         "AUTH_LIST_USER",
	ReqAuthCreateACL:                        "AUTH_CREATE_ACL",
	ReqAuthUpdateACL:                        "AUTH_UPDATE_ACL",
	ReqAuthDeleteACL:                        "AUTH_DELETE_ACL",
	ReqAuthGetACL:                           "AUTH_GET_ACL",
	ReqAuthListACL:                          "AUTH_LIST_ACL",
	ReqSwitchTimerEngine:                    "SWITCH_TIMER_ENGINE",
	ReqPopMessage:                           "POP_MESSAGE",
	ReqAckMessage:                           "ACK_MESSAGE",
	ReqPeekMessage:                          "PEEK_MESSAGE",
	ReqChangeMessageInvisibleTime:           "CHANGE_MESSAGE_INVISIBLETIME",
	ReqNotification:                         "NOTIFICATION",
	ReqPollingInfo:                          "POLLING_INFO",
	ReqPopRollback:                          "POP_ROLLBACK",
	ReqPopLiteMessage:                       "POP_LITE_MESSAGE",
	ReqLiteSubscriptionCtl:                  "LITE_SUBSCRIPTION_CTL",
	ReqAckLiteMessage:                       "ACK_LITE_MESSAGE",
	ReqNotifyUnsubscribeLite:                "NOTIFY_UNSUBSCRIBE_LITE",
	ReqGetBrokerLiteInfo:                    "GET_BROKER_LITE_INFO",
	ReqGetParentTopicInfo:                   "GET_PARENT_TOPIC_INFO",
	ReqGetLiteTopicInfo:                     "GET_LITE_TOPIC_INFO",
	ReqGetLiteClientInfo:                    "GET_LITE_CLIENT_INFO",
	ReqGetLiteGroupInfo:                     "GET_LITE_GROUP_INFO",
	ReqTriggerLiteDispatch:                  "TRIGGER_LITE_DISPATCH",
	ReqBatchAckMessage:                      "BATCH_ACK_MESSAGE",
}

// String returns RocketMQ's name of the code, or the number where it has none.
func (c RequestCode) String() string {
	if n, ok := namesRequestCode[c]; ok {
		return n
	}
	return strconv.Itoa(int(c))
}

// RequestCodes returns every request code that RocketMQ declares, for the test that accounts for each of them.
func RequestCodes() []RequestCode {
	all := make([]RequestCode, 0, len(namesRequestCode))
	for c := range namesRequestCode {
		all = append(all, c)
	}
	slices.Sort(all)
	return all
}
