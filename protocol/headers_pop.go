package protocol

// PopHeader is POP_MESSAGE's (PopMessageRequestHeader).
type PopHeader struct {
	Group, Topic   string
	QueueID        int32 // negative: any queue
	MaxMessages    int32
	InvisibleMS    int64
	PollMS         int64
	BornTime       int64 // ms; 0: now
	InitMode       int32 // where a new group begins: InitMin or InitMax
	ExpressionType string
	Expression     string
	Order          bool
	AttemptID      string
}

// Where a group without an offset begins (ConsumeInitMode).
const (
	InitMin = 0
	InitMax = 1
)

func (h *PopHeader) visit(v *visitor) {
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.i32("queueId", &h.QueueID, required)
	v.i32("maxMsgNums", &h.MaxMessages, required)
	v.i64("invisibleTime", &h.InvisibleMS, required)
	v.i64("pollTime", &h.PollMS, required)
	v.i64("bornTime", &h.BornTime, required)
	v.i32("initMode", &h.InitMode, required)
	v.str("expType", &h.ExpressionType, optional)
	v.str("exp", &h.Expression, optional)
	v.boolean("order", &h.Order, optional)
	v.str("attemptId", &h.AttemptID, optional)
}

// PopResult is the answer to POP_MESSAGE and PEEK_MESSAGE (PopMessageResponseHeader). The infos say which queues the messages are from.
type PopResult struct {
	PopTime, InvisibleMS int64
	ReviveQueue          int32
	Rest                 int64 // messages that are left; not for lite topics
	Lite                 bool  // it answers POP_LITE_MESSAGE (PopLiteMessageResponseHeader)
	StartOffsetInfo      string
	MsgOffsetInfo        string
	OrderCountInfo       string
}

func (h *PopResult) visit(v *visitor) {
	v.i64("popTime", &h.PopTime, required)
	v.i64("invisibleTime", &h.InvisibleMS, required)
	v.i32("reviveQid", &h.ReviveQueue, required)
	if !h.Lite {
		v.i64("restNum", &h.Rest, required)
	}
	v.str("startOffsetInfo", &h.StartOffsetInfo, optional)
	v.str("msgOffsetInfo", &h.MsgOffsetInfo, optional)
	v.str("orderCountInfo", &h.OrderCountInfo, optional)
}

// PeekHeader is PEEK_MESSAGE's (PeekMessageRequestHeader).
type PeekHeader struct {
	Group, Topic string
	QueueID      int32 // negative: any queue
	MaxMessages  int32
}

func (h *PeekHeader) visit(v *visitor) {
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.i32("queueId", &h.QueueID, required)
	v.i32("maxMsgNums", &h.MaxMessages, required)
}

// AckHeader is ACK_MESSAGE's and CHANGE_MESSAGE_INVISIBLETIME's (AckMessageRequestHeader, ChangeInvisibleTimeRequestHeader).
type AckHeader struct {
	Group, Topic string
	QueueID      int32
	Receipt      string // extraInfo
	Offset       int64
	LiteTopic    string
	InvisibleMS  int64 // CHANGE_MESSAGE_INVISIBLETIME only, as are the next two
	Suspend      bool  // do not count this delivery
	Change       bool  // which of the two it is
}

func (h *AckHeader) visit(v *visitor) {
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.i32("queueId", &h.QueueID, required)
	v.str("extraInfo", &h.Receipt, required)
	v.i64("offset", &h.Offset, required)
	v.str("liteTopic", &h.LiteTopic, optional)
	if h.Change {
		v.i64("invisibleTime", &h.InvisibleMS, required)
		v.boolean("suspend", &h.Suspend, optional)
	}
}

// ChangeInvisibleResult answers CHANGE_MESSAGE_INVISIBLETIME: what the new receipt is made of.
type ChangeInvisibleResult struct {
	PopTime, InvisibleMS int64
	ReviveQueue          int32
}

func (h *ChangeInvisibleResult) visit(v *visitor) {
	v.i64("popTime", &h.PopTime, required)
	v.i64("invisibleTime", &h.InvisibleMS, required)
	v.i32("reviveQid", &h.ReviveQueue, required)
}

// NotificationHeader is NOTIFICATION's (NotificationRequestHeader).
type NotificationHeader struct {
	Group, Topic   string
	QueueID        int32 // negative: any queue
	PollMS         int64
	BornTime       int64 // ms; 0: now
	Order          bool
	AttemptID      string
	ExpressionType string
	Expression     string
}

func (h *NotificationHeader) visit(v *visitor) {
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.i32("queueId", &h.QueueID, required)
	v.i64("pollTime", &h.PollMS, required)
	v.i64("bornTime", &h.BornTime, required)
	v.boolean("order", &h.Order, optional)
	v.str("attemptId", &h.AttemptID, optional)
	v.str("expType", &h.ExpressionType, optional)
	v.str("exp", &h.Expression, optional)
}

// NotificationResult answers NOTIFICATION.
type NotificationResult struct{ HasMessage, PollingFull bool }

func (h *NotificationResult) visit(v *visitor) {
	v.boolean("hasMsg", &h.HasMessage, required)
	v.boolean("pollingFull", &h.PollingFull, required)
}

// PollingInfoHeader is POLLING_INFO's.
type PollingInfoHeader struct {
	Group, Topic string
	QueueID      int32
}

func (h *PollingInfoHeader) visit(v *visitor) {
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.i32("queueId", &h.QueueID, required)
}

// PollingInfoResult answers POLLING_INFO.
type PollingInfoResult struct{ Polling int32 }

func (h *PollingInfoResult) visit(v *visitor) { v.i32("pollingNum", &h.Polling, required) }
