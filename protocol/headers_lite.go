package protocol

// PopLiteHeader is POP_LITE_MESSAGE's (PopLiteMessageRequestHeader).
type PopLiteHeader struct {
	ClientID, Group, Topic string
	MaxMessages            int32
	InvisibleMS, PollMS    int64
	BornTime               int64 // ms; 0: now
	AttemptID              string
}

func (h *PopLiteHeader) visit(v *visitor) {
	v.str("clientId", &h.ClientID, required)
	v.str("consumerGroup", &h.Group, required)
	v.str("topic", &h.Topic, required)
	v.i32("maxMsgNum", &h.MaxMessages, required)
	v.i64("invisibleTime", &h.InvisibleMS, required)
	v.i64("pollTime", &h.PollMS, required)
	v.i64("bornTime", &h.BornTime, required)
	v.str("attemptId", &h.AttemptID, optional)
}

// NotifyUnsubscribeLiteHeader is NOTIFY_UNSUBSCRIBE_LITE's: a client's subscription has ended.
type NotifyUnsubscribeLiteHeader struct{ LiteTopic, Group, ClientID string }

func (h *NotifyUnsubscribeLiteHeader) visit(v *visitor) {
	v.str("liteTopic", &h.LiteTopic, required)
	v.str("consumerGroup", &h.Group, required)
	v.str("clientId", &h.ClientID, required)
}

// LiteTopicHeader is GET_LITE_TOPIC_INFO's.
type LiteTopicHeader struct{ Parent, LiteTopic string }

func (h *LiteTopicHeader) visit(v *visitor) {
	v.str("parentTopic", &h.Parent, optional)
	v.str("liteTopic", &h.LiteTopic, optional)
}

// LiteClientHeader is GET_LITE_CLIENT_INFO's.
type LiteClientHeader struct {
	Parent, Group, ClientID string
	Most                    int32 // lite topics to name
}

func (h *LiteClientHeader) visit(v *visitor) {
	if !v.writing {
		h.Most = 1000
	}
	v.str("parentTopic", &h.Parent, optional)
	v.str("group", &h.Group, optional)
	v.str("clientId", &h.ClientID, optional)
	v.i32("maxCount", &h.Most, optional)
}

// LiteGroupHeader is GET_LITE_GROUP_INFO's.
type LiteGroupHeader struct {
	Group, LiteTopic string
	Most             int32 // lite topics to name
}

func (h *LiteGroupHeader) visit(v *visitor) {
	v.str("group", &h.Group, required)
	v.str("liteTopic", &h.LiteTopic, optional)
	v.i32("topK", &h.Most, optional)
}

// LiteDispatchHeader is TRIGGER_LITE_DISPATCH's.
type LiteDispatchHeader struct {
	Group, ClientID string // ClientID empty: all of the group
}

func (h *LiteDispatchHeader) visit(v *visitor) {
	v.str("group", &h.Group, required)
	v.str("clientId", &h.ClientID, optional)
}
