package protocol

import "encoding/json"

// Bodies of POP consumption.

// BatchAckBody is the body of BATCH_ACK_MESSAGE (BatchAckMessageRequestBody).
type BatchAckBody struct {
	BrokerName string     `json:"brokerName"`
	Acks       []BatchAck `json:"acks"`
}

// BatchAck acknowledges messages of one delivery.
type BatchAck struct {
	Group       string `json:"c"`
	Topic       string `json:"t"` // never the retry topic
	Retry       string `json:"r"` // 0, or 1 or 2 for the retry topic, by the form of its name
	StartOffset int64  `json:"so"`
	QueueID     int32  `json:"q"`
	ReviveQueue int32  `json:"rq"`
	PopTime     int64  `json:"pt"`
	InvisibleMS int64  `json:"it"`
	Bits        []byte `json:"b"` // bit i: offset StartOffset+i
}

// UnmarshalJSON reads short names and long ones, as RocketMQ does.
func (a *BatchAck) UnmarshalJSON(b []byte) error {
	type short BatchAck
	if err := json.Unmarshal(b, (*short)(a)); err != nil || a.Group != "" {
		return err
	}
	var long struct {
		Group       string `json:"consumerGroup"`
		Topic       string `json:"topic"`
		Retry       string `json:"retry"`
		StartOffset int64  `json:"startOffset"`
		QueueID     int32  `json:"queueId"`
		ReviveQueue int32  `json:"reviveQueueId"`
		PopTime     int64  `json:"popTime"`
		InvisibleMS int64  `json:"invisibleTime"`
		Bits        []byte `json:"bitSet"`
	}
	err := json.Unmarshal(b, &long)
	*a = BatchAck(long)
	return err
}

// Modes in which a group consumes a topic (MessageRequestMode).
const (
	ModePull = "PULL"
	ModePop  = "POP"
)

// RequestMode is the body of SET_MESSAGE_REQUEST_MODE (SetMessageRequestModeRequestBody).
type RequestMode struct {
	Topic string `json:"topic"`
	Group string `json:"consumerGroup"`
	Mode  string `json:"mode"`
	// PopShareQueues is how many further members' queues a member pops; every queue, where it is not positive.
	PopShareQueues int32 `json:"popShareQueueNum"`
}

// RequestModes answers GET_ALL_MESSAGE_REQUEST_MODE (MessageRequestModeSerializeWrapper): by topic and group.
type RequestModes struct {
	Modes map[string]map[string]RequestMode `json:"messageRequestModeMap"`
}

// QueryAssignment is the body of QUERY_ASSIGNMENT.
type QueryAssignment struct {
	Topic    string `json:"topic"`
	Group    string `json:"consumerGroup"`
	ClientID string `json:"clientId"`
	Strategy string `json:"strategyName"` // AVG or AVG_BY_CIRCLE
	Model    string `json:"messageModel"`
}

// QueueAssignment is a queue that a member consumes (MessageQueueAssignment).
type QueueAssignment struct {
	Queue MessageQueue `json:"messageQueue"`
	Mode  string       `json:"mode"`
}

// Assignments answers QUERY_ASSIGNMENT; null: the member keeps what it has.
type Assignments struct {
	Queues []QueueAssignment `json:"messageQueueAssignments"`
}
