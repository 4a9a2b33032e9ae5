package protocol

// LiteSubscription is one entry of LITE_SUBSCRIPTION_CTL's body (LiteSubscriptionDTO).
type LiteSubscription struct {
	Action     string      `json:"action"` // LitePartialAdd and its like
	ClientID   string      `json:"clientId"`
	Group      string      `json:"group"`
	Topic      string      `json:"topic"`
	LiteTopics []string    `json:"liteTopicSet"`
	Offset     *LiteOffset `json:"offsetOption"`
	Version    int64       `json:"version"`
}

// Actions of LiteSubscription (LiteSubscriptionAction).
const (
	LitePartialAdd     = "PARTIAL_ADD"
	LitePartialRemove  = "PARTIAL_REMOVE"
	LiteCompleteAdd    = "COMPLETE_ADD"
	LiteCompleteRemove = "COMPLETE_REMOVE"
)

// LiteOffset is where a subscription begins (OffsetOption).
type LiteOffset struct {
	Type  string `json:"type"`
	Value int64  `json:"value"`
}

// Types of LiteOffset (OffsetOption.Type), and the values of LitePolicy; its value 0 means where the group is, as does any other type.
const (
	LitePolicy   = "POLICY"
	LiteAtOffset = "OFFSET"
	LiteTail     = "TAIL_N"

	LitePolicyMin = 1
	LitePolicyMax = 2
)

// LiteSubscriptions is LITE_SUBSCRIPTION_CTL's body.
type LiteSubscriptions struct {
	Set []LiteSubscription `json:"subscriptionSet"`
}

// BrokerLiteInfo answers GET_BROKER_LITE_INFO.
type BrokerLiteInfo struct {
	StoreType     string              `json:"storeType"`
	LightMax      int                 `json:"maxLmqNum"`
	Light         int                 `json:"currentLmqNum"`
	Subscriptions int                 `json:"liteSubscriptionCount"`
	Orders        int                 `json:"orderInfoCount"`
	Queues        int                 `json:"cqTableSize"`
	Offsets       int                 `json:"offsetTableSize"`
	Events        int                 `json:"eventMapSize"`
	Topics        map[string]int64    `json:"topicMeta"` // minutes that their lite topics are kept
	Groups        map[string][]string `json:"groupMeta"` // by the topic that they are bound to
}

// ParentTopicInfo answers GET_PARENT_TOPIC_INFO.
type ParentTopicInfo struct {
	Topic      string   `json:"topic"`
	TTL        int64    `json:"ttl"` // minutes
	Groups     []string `json:"groups,omitempty"`
	Light      int      `json:"lmqNum"`
	LiteTopics int      `json:"liteTopicCount"`
}

// ClientGroup is a subscriber to a lite topic.
type ClientGroup struct {
	ClientID string `json:"clientId"`
	Group    string `json:"group"`
}

// LiteTopicInfo answers GET_LITE_TOPIC_INFO.
type LiteTopicInfo struct {
	Parent      string        `json:"parentTopic"`
	LiteTopic   string        `json:"liteTopic"`
	Subscribers []ClientGroup `json:"subscriber"`
	Offset      TopicOffset   `json:"topicOffset"`
	Here        bool          `json:"shardingToBroker"`
}

// LiteClientInfo answers GET_LITE_CLIENT_INFO.
type LiteClientInfo struct {
	Parent     string   `json:"parentTopic"`
	Group      string   `json:"group"`
	ClientID   string   `json:"clientId"`
	Accessed   int64    `json:"lastAccessTime"`
	Consumed   int64    `json:"lastConsumeTime"`
	Count      int      `json:"liteTopicCount"` // -1: no such client
	LiteTopics []string `json:"liteTopicSet,omitempty"`
}

// LiteLag is how far a group is behind in a lite topic.
type LiteLag struct {
	LiteTopic string `json:"liteTopic"`
	Lag       int64  `json:"lagCount"`
	Earliest  int64  `json:"earliestUnconsumedTimestamp"`
}

// LiteGroupInfo answers GET_LITE_GROUP_INFO.
type LiteGroupInfo struct {
	Group     string         `json:"group"`
	Parent    string         `json:"parentTopic"`
	LiteTopic string         `json:"liteTopic,omitempty"`
	Earliest  int64          `json:"earliestUnconsumedTimestamp"`
	Lag       int64          `json:"totalLagCount"`
	Offset    *OffsetWrapper `json:"liteTopicOffsetWrapper,omitempty"` // of LiteTopic
	MostLag   []LiteLag      `json:"lagCountTopK,omitzero"`            // nil: not asked for
	Oldest    []LiteLag      `json:"lagTimestampTopK,omitzero"`
}
