package message

import (
	"fmt"
	"strings"
)

// Limits of names, in bytes (TopicValidator, Validators).
const (
	MaxTopicLength      = 127
	MaxRetryTopicLength = 255 // %RETRY% and %DLQ% topics
	MaxGroupLength      = 120
)

// Prefixes of topics that belong to a group (MixAll) or to the broker itself.
const (
	RetryPrefix = "%RETRY%"
	DLQPrefix   = "%DLQ%"
	// StatePrefix begins the topics that hold Apogee's own state; no client request reaches them by any path.
	StatePrefix = "rmq_sys_apogee_"
	// systemPrefix begins topics that RocketMQ regards as its own.
	systemPrefix = "rmq_sys_"
)

// System topics (TopicValidator).
const (
	TopicAutoCreate   = "TBW102"
	TopicSchedule     = "SCHEDULE_TOPIC_XXXX"
	TopicBenchmark    = "BenchmarkTest"
	TopicHalf         = "RMQ_SYS_TRANS_HALF_TOPIC"
	TopicOpHalf       = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
	TopicTrace        = "RMQ_SYS_TRACE_TOPIC"
	TopicCheckMax     = "TRANS_CHECK_MAX_TIME_TOPIC"
	TopicSelfTest     = "SELF_TEST_TOPIC"
	TopicOffsetMoved  = "OFFSET_MOVED_EVENT"
	TopicTimerWheel   = "rmq_sys_wheel_timer"
	ReplyTopicSuffix  = "REPLY_TOPIC"
	TopicCheckpoint   = "CHECKPOINT_TOPIC"
	TopicRocksHalf    = "RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC"
	TopicRocksOpHalf  = "RMQ_SYS_ROCKSDB_TRANS_OP_HALF_TOPIC"
	ReviveLogPrefix   = "rmq_sys_REVIVE_LOG_"
	SyncMemberPrefix  = "rmq_sys_SYNC_BROKER_MEMBER_"
	SystemGroupPrefix = "CID_RMQ_SYS_"
	GroupTransactions = SystemGroupPrefix + "TRANS" // that reads half messages in RocketMQ (MixAll.CID_SYS_RMQ_TRANS)
)

var systemTopics = map[string]bool{
	TopicAutoCreate: true, TopicSchedule: true, TopicBenchmark: true, TopicHalf: true, TopicOpHalf: true, TopicTrace: true,
	TopicCheckMax: true, TopicSelfTest: true, TopicOffsetMoved: true, TopicCheckpoint: true, TopicRocksHalf: true, TopicRocksOpHalf: true,
}

// notWritable are the topics that clients may not send to (TopicValidator.isNotAllowedSendTopic).
var notWritable = map[string]bool{
	TopicSchedule: true, TopicHalf: true, TopicOpHalf: true, TopicCheckMax: true, TopicSelfTest: true, TopicOffsetMoved: true,
	TopicRocksHalf: true, TopicRocksOpHalf: true,
}

// IsSystemTopic tells whether the broker owns the topic: it cannot be created or deleted by a client.
func IsSystemTopic(topic string) bool {
	return systemTopics[topic] || strings.HasPrefix(topic, systemPrefix)
}

// IsStateTopic tells whether the topic holds Apogee's own state.
func IsStateTopic(topic string) bool { return strings.HasPrefix(topic, StatePrefix) }

// IsForbiddenToSend tells whether clients may not send to the topic.
func IsForbiddenToSend(topic string) bool {
	return notWritable[topic] || IsStateTopic(topic)
}

// RetryTopic and DLQTopic return a group's topics (MixAll.getRetryTopic, getDLQTopic).
func RetryTopic(group string) string { return RetryPrefix + group }
func DLQTopic(group string) string   { return DLQPrefix + group }

// What stands between group and topic in the name of a POP retry topic (KeyBuilder). The second form is not ambiguous; clients may not
// make such a topic.
const (
	popRetrySeparator   = "_"
	PopRetrySeparatorV2 = "+"
)

// PopRetryTopic returns where a topic's messages that a group did not acknowledge come again; v2 chooses the form of the name
// (KeyBuilder.buildPopRetryTopic).
func PopRetryTopic(topic, group string, v2 bool) string {
	separator := popRetrySeparator
	if v2 {
		separator = PopRetrySeparatorV2
	}
	return RetryPrefix + group + separator + topic
}

// CheckTopic returns nil for a valid topic name; the error's text begins as RocketMQ's remark does (TopicValidator.validateTopic).
func CheckTopic(topic string) error {
	if strings.TrimSpace(topic) == "" {
		return fmt.Errorf("The specified topic is blank.") //nolint:staticcheck // RocketMQ's words
	}
	limit := MaxTopicLength
	if strings.HasPrefix(topic, RetryPrefix) || strings.HasPrefix(topic, DLQPrefix) {
		limit = MaxRetryTopicLength
	}
	if c, ok := illegalCharacter(topic); !ok {
		return fmt.Errorf("The specified topic: %s, contains illegal characters, allowing only ^[%%|a-zA-Z0-9_-]+$: not %q", topic, c)
	}
	if len(topic) > limit {
		return fmt.Errorf("The specified topic: %s, is longer than topic max length: %d", topic, limit)
	}
	return nil
}

// CheckGroup returns nil for a valid group name; the error's text begins as RocketMQ's remark does (TopicValidator.validateGroup).
func CheckGroup(group string) error {
	if strings.TrimSpace(group) == "" {
		return fmt.Errorf("The specified group is blank.") //nolint:staticcheck // RocketMQ's words
	}
	if len(group) > MaxGroupLength {
		return fmt.Errorf("The specified group: %s, is longer than group max length: %d", group, MaxGroupLength)
	}
	if c, ok := illegalCharacter(group); !ok {
		return fmt.Errorf("The specified group: %s, contains illegal characters, allowing only ^[%%|a-zA-Z0-9_-]+$: not %q", group, c)
	}
	return nil
}

func illegalCharacter(s string) (rune, bool) {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '%' || c == '|' || c == '_' || c == '-') {
			return c, false
		}
	}
	return 0, true
}
