package protocol

// SendBackHeader is CONSUMER_SEND_MSG_BACK's (ConsumerSendMsgBackRequestHeader).
type SendBackHeader struct {
	Offset            int64 // log position of the failed message
	Group             string
	DelayLevel        int32 // 0: the broker chooses; negative: to the DLQ
	OriginMessageID   string
	OriginTopic       string
	UnitMode          bool
	MaxReconsumeTimes int32 // left as it was when the request does not have it
	BrokerName        string
}

func (h *SendBackHeader) visit(v *visitor) {
	v.i64("offset", &h.Offset, required)
	v.str("group", &h.Group, required)
	v.i32("delayLevel", &h.DelayLevel, required)
	v.str("originMsgId", &h.OriginMessageID, optional)
	v.str("originTopic", &h.OriginTopic, optional)
	v.boolean("unitMode", &h.UnitMode, optional)
	v.i32("maxReconsumeTimes", &h.MaxReconsumeTimes, optional)
	v.str("bname", &h.BrokerName, optional)
}
