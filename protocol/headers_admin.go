package protocol

// TablePageHeader is GET_ALL_TOPIC_CONFIG's and GET_ALL_SUBSCRIPTIONGROUP_CONFIG's: which part of the table. None of it: all.
type TablePageHeader struct {
	Groups      bool // which of the two it is
	Sequence    int32
	Most        int32 // 0: not given
	DataVersion string
	Paged       bool // a page was asked for
}

func (h *TablePageHeader) visit(v *visitor) {
	sequence, most := "topicSeq", "maxTopicNum"
	if h.Groups {
		sequence, most = "groupSeq", "maxGroupNum"
	}
	h.Sequence = -1
	v.i32(sequence, &h.Sequence, optional)
	v.i32(most, &h.Most, optional)
	v.str("dataVersion", &h.DataVersion, optional)
	h.Paged = h.Sequence >= 0 || h.Most > 0 || h.DataVersion != ""
	h.Sequence = max(h.Sequence, 0)
}

// TablePageResult answers them with the size of the whole table.
type TablePageResult struct {
	Groups bool
	Total  int32
}

func (h *TablePageResult) visit(v *visitor) {
	if h.Groups {
		v.i32("totalGroupNum", &h.Total, required)
		return
	}
	v.i32("totalTopicNum", &h.Total, required)
}

// VersionResult answers GET_BROKER_CONFIG: a DataVersion as JSON.
type VersionResult struct{ Version string }

func (h *VersionResult) visit(v *visitor) { v.str("version", &h.Version, required) }

// NamedGroupHeader names a group by the field `group`: GET_SUBSCRIPTIONGROUP_CONFIG, QUERY_TOPICS_BY_CONSUMER.
type NamedGroupHeader struct{ Group string }

func (h *NamedGroupHeader) visit(v *visitor) { v.str("group", &h.Group, required) }

// ProducerGroupHeader is GET_PRODUCER_CONNECTION_LIST's.
type ProducerGroupHeader struct{ Group string }

func (h *ProducerGroupHeader) visit(v *visitor) { v.str("producerGroup", &h.Group, required) }

// DeleteGroupHeader is DELETE_SUBSCRIPTIONGROUP's.
type DeleteGroupHeader struct {
	Group        string
	CleanOffsets bool
}

func (h *DeleteGroupHeader) visit(v *visitor) {
	v.str("groupName", &h.Group, required)
	v.boolean("cleanOffset", &h.CleanOffsets, optional)
}

// ReadModeHeader is SET_COMMITLOG_READ_MODE's: 0 reads ahead, 1 does not (FIleReadaheadMode).
type ReadModeHeader struct{ Mode string }

func (h *ReadModeHeader) visit(v *visitor) { v.str("READ_AHEAD_MODE", &h.Mode, optional) }

// ConsumeStatsHeader is GET_CONSUME_STATS's. TopicList is separated by semicolons.
type ConsumeStatsHeader struct{ Group, Topic, TopicList string }

func (h *ConsumeStatsHeader) visit(v *visitor) {
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, optional)
	v.str("topicList", &h.TopicList, optional)
}

// TopicGroupHeader is QUERY_CONSUME_TIME_SPAN's, QUERY_SUBSCRIPTION_BY_CONSUMER's and, with a client, INVOKE_BROKER_TO_GET_CONSUMER_STATUS's
// and GET_CONSUMER_STATUS_FROM_CLIENT's.
type TopicGroupHeader struct{ Topic, Group, Client string }

func (h *TopicGroupHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, optional)
	v.str("group", &h.Group, required)
	v.str("clientAddr", &h.Client, optional)
}

// ResetOffsetHeader is INVOKE_BROKER_TO_RESET_OFFSET's and RESET_CONSUMER_CLIENT_OFFSET's.
type ResetOffsetHeader struct {
	Topic, Group string
	QueueID      int32 // -1: every queue
	Offset       int64 // -1: by time
	Timestamp    int64 // ms; -1: the end
	Force        bool
}

func (h *ResetOffsetHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, required)
	v.str("group", &h.Group, required)
	given := need(v.writing) // 0 is a queue and an offset
	v.i32("queueId", &h.QueueID, given)
	v.i64("offset", &h.Offset, given)
	v.i64("timestamp", &h.Timestamp, required)
	v.boolean("isForce", &h.Force, required)
}

// ClientHeader names a consumer: GET_CONSUMER_RUNNING_INFO, CONSUME_MESSAGE_DIRECTLY. What else they carry is passed on.
type ClientHeader struct {
	Group, ClientID, Topic, MsgID string
	Stack                         bool // GET_CONSUMER_RUNNING_INFO only: with the stacks of its threads
}

func (h *ClientHeader) visit(v *visitor) {
	v.str("consumerGroup", &h.Group, required)
	v.str("clientId", &h.ClientID, optional)
	v.str("topic", &h.Topic, optional)
	v.str("msgId", &h.MsgID, optional)
	v.boolean("jstackEnable", &h.Stack, optional)
}

// CloneOffsetHeader is CLONE_GROUP_OFFSET's.
type CloneOffsetHeader struct {
	From, To, Topic string
	Offline         bool
}

func (h *CloneOffsetHeader) visit(v *visitor) {
	v.str("srcGroup", &h.From, required)
	v.str("destGroup", &h.To, required)
	v.str("topic", &h.Topic, optional)
	v.boolean("offline", &h.Offline, optional)
}

// StatsHeader is VIEW_BROKER_STATS_DATA's.
type StatsHeader struct{ Name, Key string }

func (h *StatsHeader) visit(v *visitor) {
	v.str("statsName", &h.Name, required)
	v.str("statsKey", &h.Key, required)
}

// OrderHeader is GET_BROKER_CONSUME_STATS's.
type OrderHeader struct{ Order bool }

func (h *OrderHeader) visit(v *visitor) { v.boolean("isOrder", &h.Order, required) }

// QueryConsumeQueueHeader is QUERY_CONSUME_QUEUE's.
type QueryConsumeQueueHeader struct {
	Topic, Group string
	QueueID      int32
	Index        int64
	Count        int32
}

func (h *QueryConsumeQueueHeader) visit(v *visitor) {
	v.str("topic", &h.Topic, required)
	v.i32("queueId", &h.QueueID, required)
	v.i64("index", &h.Index, required)
	v.i32("count", &h.Count, required)
	v.str("consumerGroup", &h.Group, optional)
}

// CorrectionOffsetHeader is QUERY_CORRECTION_OFFSET's. FilterGroups is separated by commas.
type CorrectionOffsetHeader struct{ FilterGroups, CompareGroup, Topic string }

func (h *CorrectionOffsetHeader) visit(v *visitor) {
	v.str("filterGroups", &h.FilterGroups, optional)
	v.str("compareGroup", &h.CompareGroup, required)
	v.str("topic", &h.Topic, required)
}

// ForbiddenHeader is UPDATE_AND_GET_GROUP_FORBIDDEN's. Readable is true, false, or empty to ask only.
type ForbiddenHeader struct{ Group, Topic, Readable string }

func (h *ForbiddenHeader) visit(v *visitor) {
	v.str("group", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.str("readable", &h.Readable, optional)
}
