package protocol

// SendHeader is SEND_MESSAGE's (SendMessageRequestHeader); SEND_MESSAGE_V2 and SEND_BATCH_MESSAGE carry it under one-letter names.
type SendHeader struct {
	ProducerGroup, Topic, DefaultTopic string
	DefaultTopicQueues, QueueID        int32 // QueueID < 0: the broker chooses
	SysFlag                            int32
	BornTime                           int64
	Flag                               int32
	Properties                         string
	ReconsumeTimes                     int32
	UnitMode, Batch                    bool
	MaxReconsumeTimes                  int32
	BrokerName                         string
	Short                              bool // one-letter names
}

func (h *SendHeader) visit(v *visitor) {
	name := func(long, short string) string {
		if h.Short {
			return short
		}
		return long
	}
	v.str(name("producerGroup", "a"), &h.ProducerGroup, required)
	v.str(name("topic", "b"), &h.Topic, required)
	v.str(name("defaultTopic", "c"), &h.DefaultTopic, required)
	v.i32(name("defaultTopicQueueNums", "d"), &h.DefaultTopicQueues, required)
	v.i32(name("queueId", "e"), &h.QueueID, required)
	v.i32(name("sysFlag", "f"), &h.SysFlag, required)
	v.i64(name("bornTimestamp", "g"), &h.BornTime, required)
	v.i32(name("flag", "h"), &h.Flag, required)
	v.str(name("properties", "i"), &h.Properties, optional)
	v.i32(name("reconsumeTimes", "j"), &h.ReconsumeTimes, optional)
	v.boolean(name("unitMode", "k"), &h.UnitMode, optional)
	v.boolean(name("batch", "m"), &h.Batch, optional)
	v.i32(name("maxReconsumeTimes", "l"), &h.MaxReconsumeTimes, optional)
	v.str(name("bname", "n"), &h.BrokerName, optional)
}

// SendResult is the answer to a send (SendMessageResponseHeader). MsgID is the offset message id, comma separated for a batch.
type SendResult struct {
	MsgID         string
	QueueID       int32
	QueueOffset   int64
	TransactionID string
	BatchUniqID   string
	RecallHandle  string // of a message that waits for a moment
}

func (h *SendResult) visit(v *visitor) {
	v.str("msgId", &h.MsgID, required)
	v.i32("queueId", &h.QueueID, required)
	v.i64("queueOffset", &h.QueueOffset, required)
	v.str("transactionId", &h.TransactionID, optional)
	v.str("batchUniqId", &h.BatchUniqID, optional)
	v.str("recallHandle", &h.RecallHandle, optional)
}

// ReplyHeader is PUSH_REPLY_MESSAGE_TO_CLIENT's (ReplyMessageRequestHeader): the header of the reply, and where and when it came.
type ReplyHeader struct {
	SendHeader
	BornHost, StoreHost string
	StoreTime           int64 // ms since 1970
}

func (h *ReplyHeader) visit(v *visitor) {
	h.SendHeader.visit(v)
	v.str("bornHost", &h.BornHost, required)
	v.str("storeHost", &h.StoreHost, required)
	v.i64("storeTimestamp", &h.StoreTime, required)
}

// RecallHeader is RECALL_MESSAGE's (RecallMessageRequestHeader).
type RecallHeader struct{ ProducerGroup, Topic, Handle string }

func (h *RecallHeader) visit(v *visitor) {
	v.str("producerGroup", &h.ProducerGroup, optional)
	v.str("topic", &h.Topic, required)
	v.str("recallHandle", &h.Handle, required)
}

// RecallResult is its answer (RecallMessageResponseHeader): the unique key of what was recalled.
type RecallResult struct{ MessageID string }

func (h *RecallResult) visit(v *visitor) { v.str("msgId", &h.MessageID, required) }

// SysFlag bits of a pull (PullSysFlag).
const (
	PullCommitOffset = 1 << 0
	PullSuspend      = 1 << 1
	PullSubscription = 1 << 2
	PullClassFilter  = 1 << 3
	PullLite         = 1 << 4
)

// PullHeader is PULL_MESSAGE's and LITE_PULL_MESSAGE's (PullMessageRequestHeader). CommitOffset, SuspendMS and SubVersion are left as they
// were when a request does not have them: RocketMQ declares them as mandatory, but its decoder lets that pass.
type PullHeader struct {
	Group, Topic   string
	LiteTopic      string // of the topic; empty: the topic itself
	QueueID        int32
	QueueOffset    int64
	MaxMessages    int32
	SysFlag        int32
	CommitOffset   int64
	SuspendMS      int64
	Subscription   string
	SubVersion     int64
	ExpressionType string
	MaxBytes       int32
}

func (h *PullHeader) visit(v *visitor) {
	written := need(v.writing)
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.str("liteTopic", &h.LiteTopic, optional)
	v.i32("queueId", &h.QueueID, required)
	v.i64("queueOffset", &h.QueueOffset, required)
	v.i32("maxMsgNums", &h.MaxMessages, required)
	v.i32("sysFlag", &h.SysFlag, required)
	v.i64("commitOffset", &h.CommitOffset, written)
	v.i64("suspendTimeoutMillis", &h.SuspendMS, written)
	v.str("subscription", &h.Subscription, optional)
	v.i64("subVersion", &h.SubVersion, written)
	v.str("expressionType", &h.ExpressionType, optional)
	v.i32("maxMsgBytes", &h.MaxBytes, optional)
}

// PullResult is the answer to a pull (PullMessageResponseHeader).
type PullResult struct {
	SuggestWhichBroker               int64
	NextOffset, MinOffset, MaxOffset int64
	TopicSysFlag, GroupSysFlag       int32
	ForbiddenType                    int32
}

func (h *PullResult) visit(v *visitor) {
	v.i64("suggestWhichBrokerId", &h.SuggestWhichBroker, required)
	v.i64("nextBeginOffset", &h.NextOffset, required)
	v.i64("minOffset", &h.MinOffset, required)
	v.i64("maxOffset", &h.MaxOffset, required)
	v.i32("topicSysFlag", &h.TopicSysFlag, need(v.writing)) // always sent; 4.x brokers do not
	v.i32("groupSysFlag", &h.GroupSysFlag, need(v.writing))
	v.i32("forbiddenType", &h.ForbiddenType, optional)
}

// QueueHeader names a queue: GET_MAX_OFFSET, GET_MIN_OFFSET, GET_EARLIEST_MSG_STORETIME, SEARCH_OFFSET_BY_TIMESTAMP.
type QueueHeader struct {
	Topic        string
	LiteTopic    string // of the topic; SEARCH_OFFSET_BY_TIMESTAMP only
	QueueID      int32
	Timestamp    int64  // ms; SEARCH_OFFSET_BY_TIMESTAMP only
	BoundaryType string // lower (default) or upper; SEARCH_OFFSET_BY_TIMESTAMP only
}

func (h *QueueHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, required)
	v.i32("queueId", &h.QueueID, required)
	v.str("liteTopic", &h.LiteTopic, optional)
	v.i64("timestamp", &h.Timestamp, optional)
	v.str("boundaryType", &h.BoundaryType, optional)
}

// OffsetResult answers a question for an offset.
type OffsetResult struct{ Offset int64 }

func (h *OffsetResult) visit(v *visitor) { v.i64("offset", &h.Offset, required) }

// TimestampResult answers GET_EARLIEST_MSG_STORETIME, in ms; -1 where there is no message.
type TimestampResult struct{ Timestamp int64 }

func (h *TimestampResult) visit(v *visitor) { v.i64("timestamp", &h.Timestamp, required) }

// ConsumerOffsetHeader is QUERY_CONSUMER_OFFSET's and UPDATE_CONSUMER_OFFSET's.
type ConsumerOffsetHeader struct {
	Group, Topic      string
	QueueID           int32
	CommitOffset      int64  // UPDATE_CONSUMER_OFFSET only
	SetZeroIfNotFound string // QUERY_CONSUMER_OFFSET only; absent means true
	Update            bool   // which of the two it is
}

func (h *ConsumerOffsetHeader) visit(v *visitor) {
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.i32("queueId", &h.QueueID, required)
	if h.Update {
		v.i64("commitOffset", &h.CommitOffset, required)
	} else {
		v.str("setZeroIfNotFound", &h.SetZeroIfNotFound, optional)
	}
}

// UnregisterClientHeader is UNREGISTER_CLIENT's.
type UnregisterClientHeader struct{ ClientID, ProducerGroup, ConsumerGroup string }

func (h *UnregisterClientHeader) visit(v *visitor) {
	v.str("clientID", &h.ClientID, required)
	v.str("producerGroup", &h.ProducerGroup, optional)
	v.str("consumerGroup", &h.ConsumerGroup, optional)
}

// GroupHeader names a consumer group: GET_CONSUMER_LIST_BY_GROUP, NOTIFY_CONSUMER_IDS_CHANGED.
type GroupHeader struct{ Group string }

func (h *GroupHeader) visit(v *visitor) { v.str("consumerGroup", &h.Group, required) }

// HeartbeatResult answers HEART_BEAT.
type HeartbeatResult struct{ SupportsV2, SubscriptionChanged bool }

func (h *HeartbeatResult) visit(v *visitor) {
	v.boolean("IS_SUPPORT_HEART_BEAT_V2", &h.SupportsV2, required)
	v.boolean("IS_SUB_CHANGE", &h.SubscriptionChanged, required)
}

// QueryMessageHeader is QUERY_MESSAGE's.
type QueryMessageHeader struct {
	Topic, Key string
	MaxNum     int32
	Begin, End int64  // ms, store time
	UniqueKey  bool   // Key is a UNIQ_KEY
	IndexType  string // K, U or T
}

func (h *QueryMessageHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, required)
	v.str("key", &h.Key, required)
	v.i32("maxNum", &h.MaxNum, required)
	v.i64("beginTimestamp", &h.Begin, required)
	v.i64("endTimestamp", &h.End, required)
	v.boolean("_UNIQUE_KEY_QUERY", &h.UniqueKey, optional)
	v.str("indexType", &h.IndexType, optional)
}

// QueryMessageResult answers QUERY_MESSAGE.
type QueryMessageResult struct{ LastUpdateTime, LastUpdateOffset int64 }

func (h *QueryMessageResult) visit(v *visitor) {
	v.i64("indexLastUpdateTimestamp", &h.LastUpdateTime, required)
	v.i64("indexLastUpdatePhyoffset", &h.LastUpdateOffset, required)
}

// ViewMessageHeader is VIEW_MESSAGE_BY_ID's: an offset of the commit log.
type ViewMessageHeader struct {
	Topic  string
	Offset int64
}

func (h *ViewMessageHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, optional)
	v.i64("offset", &h.Offset, required)
}

// EndTransactionHeader is END_TRANSACTION's (EndTransactionRequestHeader). The broker reads it in place.
type EndTransactionHeader struct {
	Topic, ProducerGroup   string
	QueueOffset, LogOffset int64 // of the half message
	Decision               int32 // MessageSysFlag: 8 commit, 12 rollback, 0 unknown
	FromCheck              bool
	MsgID, TransactionID   string
}

func (h *EndTransactionHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, optional)
	v.str("producerGroup", &h.ProducerGroup, required)
	v.i64("tranStateTableOffset", &h.QueueOffset, required)
	v.i64("commitLogOffset", &h.LogOffset, required)
	v.i32("commitOrRollback", &h.Decision, required)
	v.boolean("fromTransactionCheck", &h.FromCheck, optional)
	v.str("msgId", &h.MsgID, required)
	v.str("transactionId", &h.TransactionID, optional)
}

// CheckTransactionHeader is CHECK_TRANSACTION_STATE's (CheckTransactionStateRequestHeader), which a broker sends to a producer. Topic is the
// half message's own.
type CheckTransactionHeader struct {
	Topic                             string
	QueueOffset, LogOffset            int64 // of the half message
	MsgID, TransactionID, OffsetMsgID string
	BrokerName                        string
}

func (h *CheckTransactionHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, optional)
	v.i64("tranStateTableOffset", &h.QueueOffset, required)
	v.i64("commitLogOffset", &h.LogOffset, required)
	v.str("msgId", &h.MsgID, optional)
	v.str("transactionId", &h.TransactionID, optional)
	v.str("offsetMsgId", &h.OffsetMsgID, optional)
	v.str("bname", &h.BrokerName, optional)
}

// ResumeCheckHeader is RESUME_CHECK_HALF_MESSAGE's (ResumeCheckHalfMessageRequestHeader). MsgID is an offset message id.
type ResumeCheckHeader struct{ Topic, MsgID string }

func (h *ResumeCheckHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, optional)
	v.str("msgId", &h.MsgID, required)
}

// TopicHeader names a topic: GET_TOPIC_CONFIG, DELETE_TOPIC_IN_BROKER, GET_TOPIC_STATS_INFO and others.
type TopicHeader struct{ Topic string }

func (h *TopicHeader) visit(v *visitor) { v.str("topic", &h.Topic, required) }

// CreateTopicHeader is UPDATE_AND_CREATE_TOPIC's.
type CreateTopicHeader struct {
	Topic, DefaultTopic     string
	ReadQueues, WriteQueues int32
	Perm                    int32
	FilterType              string
	SysFlag                 int32
	Order                   bool
	Attributes              string // +k=v,-k
}

func (h *CreateTopicHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, required)
	v.str("defaultTopic", &h.DefaultTopic, required)
	v.i32("readQueueNums", &h.ReadQueues, required)
	v.i32("writeQueueNums", &h.WriteQueues, required)
	v.i32("perm", &h.Perm, required)
	v.str("topicFilterType", &h.FilterType, required)
	v.i32("topicSysFlag", &h.SysFlag, optional)
	v.boolean("order", &h.Order, required)
	v.str("attributes", &h.Attributes, optional)
}
