package protocol

import (
	"encoding/json"
	"strconv"
)

// Bodies of administration. Maps whose keys are queues are written with bare objects as keys, `{{"brokerName":...}:...}`: the only form
// that every Java client decodes. They are no standard JSON, so their bodies have an Encode of their own.

// QueueMap is a map by queue, in order.
type QueueMap[V any] []QueueEntry[V]

// QueueEntry is an entry of a QueueMap.
type QueueEntry[V any] struct {
	Queue MessageQueue
	Value V
}

func (m QueueMap[V]) append(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range m {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, MarshalBody(m[i].Queue)...), ':')
		dst = append(dst, MarshalBody(m[i].Value)...)
	}
	return append(dst, '}')
}

// UnmarshalJSON reads what UnmarshalBody makes of object keys: text that holds JSON.
func (m *QueueMap[V]) UnmarshalJSON(b []byte) error {
	var entries map[string]V
	if err := json.Unmarshal(b, &entries); err != nil {
		return err
	}
	*m = nil
	for key, value := range entries {
		e := QueueEntry[V]{Value: value}
		if err := json.Unmarshal([]byte(key), &e.Queue); err != nil {
			return err
		}
		*m = append(*m, e)
	}
	return nil
}

// TopicOffset are the bounds of a queue.
type TopicOffset struct {
	Min        int64 `json:"minOffset"`
	Max        int64 `json:"maxOffset"`
	LastUpdate int64 `json:"lastUpdateTimestamp"`
}

// TopicStats is TopicStatsTable, the answer to GET_TOPIC_STATS_INFO.
type TopicStats struct {
	PutTPS  float64               `json:"topicPutTps"`
	Offsets QueueMap[TopicOffset] `json:"offsetTable"`
}

// Encode returns the body.
func (s *TopicStats) Encode() []byte {
	return append(appendDouble(s.Offsets.append([]byte(`{"offsetTable":`)), "topicPutTps", s.PutTPS), '}')
}

// OffsetWrapper is how far a group is in a queue.
type OffsetWrapper struct {
	Broker        int64 `json:"brokerOffset"`
	Consumer      int64 `json:"consumerOffset"`
	Pull          int64 `json:"pullOffset"`
	LastTimestamp int64 `json:"lastTimestamp"`
}

// ConsumeStats answers GET_CONSUME_STATS.
type ConsumeStats struct {
	TPS     float64                 `json:"consumeTps"`
	Offsets QueueMap[OffsetWrapper] `json:"offsetTable"`
}

// Encode returns the body.
func (s *ConsumeStats) Encode() []byte { return s.append(nil) }

func (s *ConsumeStats) append(dst []byte) []byte {
	return append(appendDouble(s.Offsets.append(append(dst, `{"offsetTable":`...)), "consumeTps", s.TPS), '}')
}

// Lag returns how many messages the group has not consumed, and how many of them it has been given.
func (s *ConsumeStats) Lag() (lag, inflight int64) {
	for _, e := range s.Offsets {
		lag += e.Value.Broker - e.Value.Consumer
		inflight += max(e.Value.Pull-e.Value.Consumer, 0)
	}
	return lag, inflight
}

// GroupConsumeStats is a group in a ConsumeStatsList, with statistics for each topic.
type GroupConsumeStats struct {
	Group string
	Stats []ConsumeStats
}

// ConsumeStatsList answers GET_BROKER_CONSUME_STATS.
type ConsumeStatsList struct {
	Groups              []GroupConsumeStats
	BrokerAddr          string
	TotalLag, TotalHeld int64
}

// Encode returns the body.
func (l *ConsumeStatsList) Encode() []byte {
	dst := append([]byte(`{"brokerAddr":`), MarshalBody(l.BrokerAddr)...)
	dst = append(dst, `,"consumeStatsList":[`...)
	for i := range l.Groups {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '{'), MarshalBody(l.Groups[i].Group)...), ":["...)
		for k := range l.Groups[i].Stats {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = l.Groups[i].Stats[k].append(dst)
		}
		dst = append(dst, "]}"...)
	}
	dst = strconv.AppendInt(append(dst, `],"totalDiff":`...), l.TotalLag, 10)
	dst = strconv.AppendInt(append(dst, `,"totalInflightDiff":`...), l.TotalHeld, 10)
	return append(dst, '}')
}

func appendDouble(dst []byte, name string, value float64) []byte {
	dst = append(append(append(dst, `,"`...), name...), `":`...)
	return strconv.AppendFloat(dst, value, 'f', -1, 64)
}

// ResetOffsetBody answers INVOKE_BROKER_TO_RESET_OFFSET and is pushed with RESET_CONSUMER_CLIENT_OFFSET.
type ResetOffsetBody struct {
	Offsets QueueMap[int64] `json:"offsetTable"`
}

// Encode returns the body.
func (b *ResetOffsetBody) Encode() []byte {
	return append(b.Offsets.append([]byte(`{"offsetTable":`)), '}')
}

// EncodeForC returns the body for clients written in C++: a list.
func (b *ResetOffsetBody) EncodeForC() []byte {
	type queue struct {
		MessageQueue
		Offset int64 `json:"offset"`
	}
	list := []queue{}
	for _, e := range b.Offsets {
		list = append(list, queue{e.Queue, e.Value})
	}
	return MarshalBody(map[string]any{"offsetTable": list})
}

// ConsumerStatus is GetConsumerStatusBody: a client's answer has Queues, the broker's Clients.
type ConsumerStatus struct {
	Queues  QueueMap[int64]            `json:"messageQueueTable"`
	Clients map[string]QueueMap[int64] `json:"consumerTable"`
}

// Encode returns the broker's body.
func (s *ConsumerStatus) Encode() []byte {
	dst := []byte(`{"consumerTable":{`)
	first := true
	for client, queues := range s.Clients {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = queues.append(append(append(dst, MarshalBody(client)...), ':'))
	}
	return append(dst, `},"messageQueueTable":{}}`...)
}

// GroupTable is SubscriptionGroupWrapper, the answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG. Forbidden: group -> topic -> bits.
type GroupTable struct {
	Groups      map[string]SubscriptionGroupConfig `json:"subscriptionGroupTable"`
	Forbidden   map[string]map[string]int32        `json:"forbiddenTable"`
	DataVersion DataVersion                        `json:"dataVersion"`
}

// GroupConfigList is UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST's.
type GroupConfigList struct {
	Groups []json.RawMessage `json:"groupConfigList"`
}

// TopicConfigList is UPDATE_AND_CREATE_TOPIC_LIST's.
type TopicConfigList struct {
	Topics []TopicConfig `json:"topicConfigList"`
}

// GroupList is a set of groups.
type GroupList struct {
	Groups []string `json:"groupList"`
}

// GroupForbidden answers UPDATE_AND_GET_GROUP_FORBIDDEN.
type GroupForbidden struct {
	Topic    string `json:"topic"`
	Group    string `json:"group"`
	Readable bool   `json:"readable"`
}

// Connection is a client's connection.
type Connection struct {
	ClientID string `json:"clientId"`
	Addr     string `json:"clientAddr"`
	Language string `json:"language"`
	Version  int32  `json:"version"`
}

// ConsumerConnection answers GET_CONSUMER_CONNECTION_LIST.
type ConsumerConnection struct {
	Connections   []Connection                `json:"connectionSet"`
	Subscriptions map[string]SubscriptionData `json:"subscriptionTable"`
	ConsumeType   string                      `json:"consumeType"`
	Model         string                      `json:"messageModel"`
	FromWhere     string                      `json:"consumeFromWhere"`
}

// ProducerConnection answers GET_PRODUCER_CONNECTION_LIST.
type ProducerConnection struct {
	Connections []Connection `json:"connectionSet"`
}

// ProducerInfo is a producer in the answer to GET_ALL_PRODUCER_INFO.
type ProducerInfo struct {
	ClientID   string `json:"clientId"`
	RemoteIP   string `json:"remoteIP"`
	Language   string `json:"language"`
	Version    int32  `json:"version"`
	LastUpdate int64  `json:"lastUpdateTimestamp"`
}

// ProducerTable answers GET_ALL_PRODUCER_INFO, by group.
type ProducerTable struct {
	Data map[string][]ProducerInfo `json:"data"`
}

// BrokerStatsItem is one window of a statistic.
type BrokerStatsItem struct {
	Sum   int64   `json:"sum"`
	TPS   float64 `json:"tps"`
	AvgPT float64 `json:"avgpt"`
}

// BrokerStats answers VIEW_BROKER_STATS_DATA.
type BrokerStats struct {
	Minute BrokerStatsItem `json:"statsMinute"`
	Hour   BrokerStatsItem `json:"statsHour"`
	Day    BrokerStatsItem `json:"statsDay"`
}

// QueueTimeSpan is a queue in the answer to QUERY_CONSUME_TIME_SPAN; times in ms.
type QueueTimeSpan struct {
	Queue       MessageQueue `json:"messageQueue"`
	MinTime     int64        `json:"minTimeStamp"`
	MaxTime     int64        `json:"maxTimeStamp"`
	ConsumeTime int64        `json:"consumeTimeStamp"`
	Delay       int64        `json:"delayTime"`
}

// ConsumeTimeSpans answers QUERY_CONSUME_TIME_SPAN.
type ConsumeTimeSpans struct {
	Spans []QueueTimeSpan `json:"consumeTimeSpanSet"`
}

// GroupSubscription answers QUERY_SUBSCRIPTION_BY_CONSUMER.
type GroupSubscription struct {
	Subscription *SubscriptionData `json:"subscriptionData,omitempty"`
	Group        string            `json:"group"`
	Topic        string            `json:"topic"`
}

// ConsumeQueueData is an entry of a queue's index.
type ConsumeQueueData struct {
	Position int64 `json:"physicOffset"`
	Size     int32 `json:"physicSize"`
	TagsCode int64 `json:"tagsCode"`
	Matches  bool  `json:"eval"`
}

// ConsumeQueueResult answers QUERY_CONSUME_QUEUE.
type ConsumeQueueResult struct {
	Subscription *SubscriptionData  `json:"subscriptionData,omitempty"`
	FilterData   string             `json:"filterData,omitempty"`
	Entries      []ConsumeQueueData `json:"queueData"`
	Max          int64              `json:"maxQueueIndex"`
	Min          int64              `json:"minQueueIndex"`
}

// CorrectionOffsets answers QUERY_CORRECTION_OFFSET, by queue.
type CorrectionOffsets struct {
	Offsets map[int32]int64 `json:"correctionOffsets"`
}

// CheckClientBody is CHECK_CLIENT_CONFIG's.
type CheckClientBody struct {
	ClientID     string           `json:"clientId"`
	Group        string           `json:"group"`
	Subscription SubscriptionData `json:"subscriptionData"`
	Namespace    string           `json:"namespace"`
}

// TimerMetrics answers GET_TIMER_METRICS (TimerMetricsSerializeWrapper): messages that wait for a moment, by topic.
type TimerMetrics struct {
	Timing      map[string]TimerMetric `json:"timingCount"`
	DataVersion DataVersion            `json:"dataVersion"`
}

// TimerMetric is a count, and when it was taken, ms.
type TimerMetric struct {
	Count     int64 `json:"count"`
	Timestamp int64 `json:"timeStamp"`
}
