package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// JSON bodies, with the field names of RocketMQ's beans. Integer-keyed maps are written with quoted keys, which every client reads.

// DataVersion tells peers whether a table changed: equal only when all three are.
type DataVersion struct {
	StateVersion int64 `json:"stateVersion"`
	Timestamp    int64 `json:"timestamp"`
	Counter      int64 `json:"counter"`
}

// Topic permissions (PermName).
const (
	PermPriority = 1 << 3
	PermRead     = 1 << 2
	PermWrite    = 1 << 1
	PermInherit  = 1 << 0
)

// TopicConfig is a topic's configuration.
type TopicConfig struct {
	TopicName   string            `json:"topicName"`
	ReadQueues  int32             `json:"readQueueNums"`
	WriteQueues int32             `json:"writeQueueNums"`
	Perm        int32             `json:"perm"`
	FilterType  string            `json:"topicFilterType"` // SINGLE_TAG or MULTI_TAG
	SysFlag     int32             `json:"topicSysFlag"`
	Order       bool              `json:"order"`
	Attributes  map[string]string `json:"attributes,omitempty"`
}

// TopicConfigTable is TopicConfigAndMappingSerializeWrapper.
type TopicConfigTable struct {
	Topics      map[string]TopicConfig `json:"topicConfigTable"`
	DataVersion DataVersion            `json:"dataVersion"`
	Mapping     map[string]any         `json:"topicQueueMappingInfoMap,omitempty"`
	Details     map[string]any         `json:"topicQueueMappingDetailMap,omitempty"`
}

// RegisterBrokerBody is REGISTER_BROKER's.
type RegisterBrokerBody struct {
	Topics  TopicConfigTable `json:"topicConfigSerializeWrapper"`
	Filters []string         `json:"filterServerList"`
}

// KVTable is a table of text.
type KVTable struct {
	Table map[string]string `json:"table"`
}

// QueueData is a topic's queues on one broker. Some 4.x clients read the misspelt name.
type QueueData struct {
	BrokerName  string `json:"brokerName"`
	ReadQueues  int32  `json:"readQueueNums"`
	WriteQueues int32  `json:"writeQueueNums"`
	Perm        int32  `json:"perm"`
	SysFlag     int32  `json:"topicSysFlag"`
	SynFlag     int32  `json:"topicSynFlag"`
}

// BrokerData are the addresses of one broker name, by broker id.
type BrokerData struct {
	Cluster            string           `json:"cluster"`
	BrokerName         string           `json:"brokerName"`
	Addrs              map[int64]string `json:"brokerAddrs"`
	Zone               string           `json:"zoneName,omitempty"`
	EnableActingMaster bool             `json:"enableActingMaster"`
}

// TopicRoute is TopicRouteData, the answer to GET_ROUTEINFO_BY_TOPIC.
type TopicRoute struct {
	OrderConf string              `json:"orderTopicConf,omitempty"`
	Queues    []QueueData         `json:"queueDatas"`
	Brokers   []BrokerData        `json:"brokerDatas"`
	Filters   map[string][]string `json:"filterServerTable"`
	Mapping   map[string]any      `json:"topicQueueMappingByBroker,omitempty"`
}

// ClusterInfo answers GET_BROKER_CLUSTER_INFO.
type ClusterInfo struct {
	Brokers  map[string]BrokerData `json:"brokerAddrTable"`
	Clusters map[string][]string   `json:"clusterAddrTable"`
}

// TopicList is a set of topics.
type TopicList struct {
	Topics     []string `json:"topicList"`
	BrokerAddr string   `json:"brokerAddr,omitempty"`
}

// BrokerMemberGroup answers GET_BROKER_MEMBER_GROUP.
type BrokerMemberGroup struct {
	Group struct {
		Cluster    string           `json:"cluster"`
		BrokerName string           `json:"brokerName"`
		Addrs      map[int64]string `json:"brokerAddrs"`
	} `json:"brokerMemberGroup"`
}

// Heartbeat is HeartbeatData. Java writes the last field as withoutSub.
type Heartbeat struct {
	ClientID     string         `json:"clientID"`
	Producers    []ProducerData `json:"producerDataSet"`
	Consumers    []ConsumerData `json:"consumerDataSet"`
	Fingerprint  int64          `json:"heartbeatFingerprint"`
	WithoutSub   bool           `json:"withoutSub"`
	IsWithoutSub bool           `json:"isWithoutSub,omitempty"`
}

// ProducerData is a producer group in a heartbeat.
type ProducerData struct {
	Group string `json:"groupName"`
}

// Spellings of enums in consumer data.
const (
	ConsumeActively     = "CONSUME_ACTIVELY"
	ConsumePassively    = "CONSUME_PASSIVELY"
	ModelBroadcasting   = "BROADCASTING"
	ModelClustering     = "CLUSTERING"
	FromLastOffset      = "CONSUME_FROM_LAST_OFFSET"
	FromFirstOffset     = "CONSUME_FROM_FIRST_OFFSET"
	ExpressionTag       = "TAG"
	ExpressionSQL92     = "SQL92"
	FilterTypeSingleTag = "SINGLE_TAG"
	FilterTypeMultiTag  = "MULTI_TAG"
)

// ConsumerData is a consumer group in a heartbeat.
type ConsumerData struct {
	Group         string             `json:"groupName"`
	ConsumeType   string             `json:"consumeType"`
	Model         string             `json:"messageModel"`
	FromWhere     string             `json:"consumeFromWhere"`
	Subscriptions []SubscriptionData `json:"subscriptionDataSet"`
	UnitMode      bool               `json:"unitMode"`
}

// SubscriptionData is what a group wants of a topic.
type SubscriptionData struct {
	ClassFilterMode bool     `json:"classFilterMode"`
	Topic           string   `json:"topic"`
	Expression      string   `json:"subString"`
	Tags            []string `json:"tagsSet"`
	Codes           TagCodes `json:"codeSet"`
	Version         int64    `json:"subVersion"`
	Type            string   `json:"expressionType"`
}

// TagCodes are Java hash codes of tags. The Go client sends them as text.
type TagCodes []int32

// UnmarshalJSON takes numbers and numbers in quotes.
func (c *TagCodes) UnmarshalJSON(b []byte) error {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*c = make(TagCodes, 0, len(list))
	for _, item := range list {
		n, ok := ParseInt(bytes.Trim(item, `"`))
		if !ok {
			return fmt.Errorf("codeSet holds %s, want numbers", item)
		}
		*c = append(*c, int32(n))
	}
	return nil
}

// MessageQueue names a queue in the cluster.
type MessageQueue struct {
	Topic      string `json:"topic"`
	BrokerName string `json:"brokerName"`
	QueueID    int32  `json:"queueId"`
}

// LockBatchBody is the body of LOCK_BATCH_MQ and UNLOCK_BATCH_MQ.
type LockBatchBody struct {
	Group          string         `json:"consumerGroup"`
	ClientID       string         `json:"clientId"`
	OnlyThisBroker bool           `json:"onlyThisBroker"`
	Queues         []MessageQueue `json:"mqSet"`
}

// LockBatchResult answers LOCK_BATCH_MQ with the queues that the client holds.
type LockBatchResult struct {
	Locked []MessageQueue `json:"lockOKMQSet"`
}

// ConsumerList answers GET_CONSUMER_LIST_BY_GROUP.
type ConsumerList struct {
	IDs []string `json:"consumerIdList"`
}

// SubscriptionGroupConfig is a consumer group's configuration.
type SubscriptionGroupConfig struct {
	GroupName                string            `json:"groupName"`
	ConsumeEnable            bool              `json:"consumeEnable"`
	ConsumeFromMinEnable     bool              `json:"consumeFromMinEnable"`
	ConsumeBroadcastEnable   bool              `json:"consumeBroadcastEnable"`
	ConsumeMessageOrderly    bool              `json:"consumeMessageOrderly"`
	RetryQueues              int32             `json:"retryQueueNums"`
	RetryMaxTimes            int32             `json:"retryMaxTimes"`
	GroupRetryPolicy         *json.RawMessage  `json:"groupRetryPolicy,omitempty"`
	BrokerID                 int64             `json:"brokerId"`
	WhichBrokerWhenSlow      int64             `json:"whichBrokerWhenConsumeSlowly"`
	NotifyConsumerIDsChanged bool              `json:"notifyConsumerIdsChangedEnable"`
	GroupSysFlag             int32             `json:"groupSysFlag"`
	ConsumeTimeoutMinute     int32             `json:"consumeTimeoutMinute"`
	SubscriptionDataSet      *json.RawMessage  `json:"subscriptionDataSet,omitempty"`
	Attributes               map[string]string `json:"attributes,omitempty"`
}
