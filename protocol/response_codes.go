package protocol

import "strconv"

// ResponseCode says how a request ended.
type ResponseCode int32

// Every constant of RocketMQ 5.5.0 (ResponseCode, RemotingSysResponseCode).
const (
	RespRPCTimeOut                           ResponseCode = -1006
	RespRPCSendToChannelFailed               ResponseCode = -1004
	RespRPCAddrIsNull                        ResponseCode = -1002
	RespRPCUnknown                           ResponseCode = -1000
	RespSuccess                              ResponseCode = 0
	RespSystemError                          ResponseCode = 1
	RespSystemBusy                           ResponseCode = 2
	RespRequestCodeNotSupported              ResponseCode = 3
	RespTransactionFailed                    ResponseCode = 4
	RespFlushDiskTimeout                     ResponseCode = 10
	RespSlaveNotAvailable                    ResponseCode = 11
	RespFlushSlaveTimeout                    ResponseCode = 12
	RespMessageIllegal                       ResponseCode = 13
	RespServiceNotAvailable                  ResponseCode = 14
	RespVersionNotSupported                  ResponseCode = 15
	RespNoPermission                         ResponseCode = 16
	RespTopicNotExist                        ResponseCode = 17
	RespTopicExistAlready                    ResponseCode = 18
	RespPullNotFound                         ResponseCode = 19
	RespPullRetryImmediately                 ResponseCode = 20
	RespPullOffsetMoved                      ResponseCode = 21
	RespQueryNotFound                        ResponseCode = 22
	RespSubscriptionParseFailed              ResponseCode = 23
	RespSubscriptionNotExist                 ResponseCode = 24
	RespSubscriptionNotLatest                ResponseCode = 25
	RespSubscriptionGroupNotExist            ResponseCode = 26
	RespFilterDataNotExist                   ResponseCode = 27
	RespFilterDataNotLatest                  ResponseCode = 28
	RespInvalidParameter                     ResponseCode = 29
	RespTransactionShouldCommit              ResponseCode = 200
	RespTransactionShouldRollback            ResponseCode = 201
	RespTransactionStateUnknow               ResponseCode = 202
	RespTransactionStateGroupWrong           ResponseCode = 203
	RespNoBuyerID                            ResponseCode = 204
	RespNotInCurrentUnit                     ResponseCode = 205
	RespConsumerNotOnline                    ResponseCode = 206
	RespConsumeMsgTimeout                    ResponseCode = 207
	RespNoMessage                            ResponseCode = 208
	RespPollingFull                          ResponseCode = 209
	RespPollingTimeout                       ResponseCode = 210
	RespBrokerNotExist                       ResponseCode = 211
	RespBrokerDispatchNotComplete            ResponseCode = 212
	RespBroadcastConsumption                 ResponseCode = 213
	RespFlowControl                          ResponseCode = 215
	RespNotLeaderForQueue                    ResponseCode = 501
	RespIllegalOperation                     ResponseCode = 604
	RespGoAway                               ResponseCode = 1500
	RespControllerFencedMasterEpoch          ResponseCode = 2000
	RespControllerFencedSyncStateSetEpoch    ResponseCode = 2001
	RespControllerInvalidMaster              ResponseCode = 2002
	RespControllerInvalidReplicas            ResponseCode = 2003
	RespControllerMasterNotAvailable         ResponseCode = 2004
	RespControllerInvalidRequest             ResponseCode = 2005
	RespControllerBrokerNotAlive             ResponseCode = 2006
	RespControllerNotLeader                  ResponseCode = 2007
	RespControllerBrokerMetadataNotExist     ResponseCode = 2008
	RespControllerInvalidCleanBrokerMetadata ResponseCode = 2009
	RespControllerBrokerNeedToBeRegistered   ResponseCode = 2010
	RespControllerMasterStillExist           ResponseCode = 2011
	RespControllerElectMasterFailed          ResponseCode = 2012
	RespControllerAlterSyncStateSetFailed    ResponseCode = 2013
	RespControllerBrokerIDInvalid            ResponseCode = 2014
	RespControllerJRaftInternalError         ResponseCode = 2015
	RespControllerBrokerLiveInfoNotExists    ResponseCode = 2016
	RespLMQQuotaExceeded                     ResponseCode = 2017
	RespLiteSubscriptionQuotaExceeded        ResponseCode = 2018
	RespUserNotExist                         ResponseCode = 3001
	RespPolicyNotExist                       ResponseCode = 3002
)

var namesResponseCode = map[ResponseCode]string{
	RespRPCTimeOut:                           "RPC_TIME_OUT",
	RespRPCSendToChannelFailed:               "RPC_SEND_TO_CHANNEL_FAILED",
	RespRPCAddrIsNull:                        "RPC_ADDR_IS_NULL",
	RespRPCUnknown:                           "RPC_UNKNOWN",
	RespSuccess:                              "SUCCESS",
	RespSystemError:                          "SYSTEM_ERROR",
	RespSystemBusy:                           "SYSTEM_BUSY",
	RespRequestCodeNotSupported:              "REQUEST_CODE_NOT_SUPPORTED",
	RespTransactionFailed:                    "TRANSACTION_FAILED",
	RespFlushDiskTimeout:                     "FLUSH_DISK_TIMEOUT",
	RespSlaveNotAvailable:                    "SLAVE_NOT_AVAILABLE",
	RespFlushSlaveTimeout:                    "FLUSH_SLAVE_TIMEOUT",
	RespMessageIllegal:                       "MESSAGE_ILLEGAL",
	RespServiceNotAvailable:                  "SERVICE_NOT_AVAILABLE",
	RespVersionNotSupported:                  "VERSION_NOT_SUPPORTED",
	RespNoPermission:                         "NO_PERMISSION",
	RespTopicNotExist:                        "TOPIC_NOT_EXIST",
	RespTopicExistAlready:                    "TOPIC_EXIST_ALREADY",
	RespPullNotFound:                         "PULL_NOT_FOUND",
	RespPullRetryImmediately:                 "PULL_RETRY_IMMEDIATELY",
	RespPullOffsetMoved:                      "PULL_OFFSET_MOVED",
	RespQueryNotFound:                        "QUERY_NOT_FOUND",
	RespSubscriptionParseFailed:              "SUBSCRIPTION_PARSE_FAILED",
	RespSubscriptionNotExist:                 "SUBSCRIPTION_NOT_EXIST",
	RespSubscriptionNotLatest:                "SUBSCRIPTION_NOT_LATEST",
	RespSubscriptionGroupNotExist:            "SUBSCRIPTION_GROUP_NOT_EXIST",
	RespFilterDataNotExist:                   "FILTER_DATA_NOT_EXIST",
	RespFilterDataNotLatest:                  "FILTER_DATA_NOT_LATEST",
	RespInvalidParameter:                     "INVALID_PARAMETER",
	RespTransactionShouldCommit:              "TRANSACTION_SHOULD_COMMIT",
	RespTransactionShouldRollback:            "TRANSACTION_SHOULD_ROLLBACK",
	RespTransactionStateUnknow:               "TRANSACTION_STATE_UNKNOW",
	RespTransactionStateGroupWrong:           "TRANSACTION_STATE_GROUP_WRONG",
	RespNoBuyerID:                            "NO_BUYER_ID",
	RespNotInCurrentUnit:                     "NOT_IN_CURRENT_UNIT",
	RespConsumerNotOnline:                    "CONSUMER_NOT_ONLINE",
	RespConsumeMsgTimeout:                    "CONSUME_MSG_TIMEOUT",
	RespNoMessage:                            "NO_MESSAGE",
	RespPollingFull:                          "POLLING_FULL",
	RespPollingTimeout:                       "POLLING_TIMEOUT",
	RespBrokerNotExist:                       "BROKER_NOT_EXIST",
	RespBrokerDispatchNotComplete:            "BROKER_DISPATCH_NOT_COMPLETE",
	RespBroadcastConsumption:                 "BROADCAST_CONSUMPTION",
	RespFlowControl:                          "FLOW_CONTROL",
	RespNotLeaderForQueue:                    "NOT_LEADER_FOR_QUEUE",
	RespIllegalOperation:                     "ILLEGAL_OPERATION",
	RespGoAway:                               "GO_AWAY",
	RespControllerFencedMasterEpoch:          "CONTROLLER_FENCED_MASTER_EPOCH",
	RespControllerFencedSyncStateSetEpoch:    "CONTROLLER_FENCED_SYNC_STATE_SET_EPOCH",
	RespControllerInvalidMaster:              "CONTROLLER_INVALID_MASTER",
	RespControllerInvalidReplicas:            "CONTROLLER_INVALID_REPLICAS",
	RespControllerMasterNotAvailable:         "CONTROLLER_MASTER_NOT_AVAILABLE",
	RespControllerInvalidRequest:             "CONTROLLER_INVALID_REQUEST",
	RespControllerBrokerNotAlive:             "CONTROLLER_BROKER_NOT_ALIVE",
	RespControllerNotLeader:                  "CONTROLLER_NOT_LEADER",
	RespControllerBrokerMetadataNotExist:     "CONTROLLER_BROKER_METADATA_NOT_EXIST",
	RespControllerInvalidCleanBrokerMetadata: "CONTROLLER_INVALID_CLEAN_BROKER_METADATA",
	RespControllerBrokerNeedToBeRegistered:   "CONTROLLER_BROKER_NEED_TO_BE_REGISTERED",
	RespControllerMasterStillExist:           "CONTROLLER_MASTER_STILL_EXIST",
	RespControllerElectMasterFailed:          "CONTROLLER_ELECT_MASTER_FAILED",
	RespControllerAlterSyncStateSetFailed:    "CONTROLLER_ALTER_SYNC_STATE_SET_FAILED",
	RespControllerBrokerIDInvalid:            "CONTROLLER_BROKER_ID_INVALID",
	RespControllerJRaftInternalError:         "CONTROLLER_JRAFT_INTERNAL_ERROR",
	RespControllerBrokerLiveInfoNotExists:    "CONTROLLER_BROKER_LIVE_INFO_NOT_EXISTS",
	RespLMQQuotaExceeded:                     "LMQ_QUOTA_EXCEEDED",
	RespLiteSubscriptionQuotaExceeded:        "LITE_SUBSCRIPTION_QUOTA_EXCEEDED",
	RespUserNotExist:                         "USER_NOT_EXIST",
	RespPolicyNotExist:                       "POLICY_NOT_EXIST",
}

// Known tells whether the code is one of RocketMQ's.
func (c ResponseCode) Known() bool {
	_, ok := namesResponseCode[c]
	return ok
}

// String returns RocketMQ's name of the code, or the number where it has none.
func (c ResponseCode) String() string {
	if n, ok := namesResponseCode[c]; ok {
		return n
	}
	return strconv.Itoa(int(c))
}
