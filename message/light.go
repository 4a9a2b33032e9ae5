package message

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// LMQPrefix begins the names of light queues (MixAll.LMQ_PREFIX): each is a topic with one queue, 0, and without a configuration.
const LMQPrefix = "%LMQ%"

// lmqNameMax bounds a light queue's name, as RocketMQ's file system does.
const lmqNameMax = 255

// IsLMQ tells whether a topic, or a group, is a light one (MixAll.isLmq).
func IsLMQ(name string) bool { return strings.HasPrefix(name, LMQPrefix) }

// litePrefix begins the names of the light queues that hold lite topics (LiteUtil.LITE_TOPIC_PREFIX); behind it stand the parent topic and,
// after another $, the lite topic.
const litePrefix = LMQPrefix + "$"

// LiteQueue returns the light queue of a lite topic (LiteUtil.toLmqName).
func LiteQueue(parent, lite string) string { return litePrefix + parent + "$" + lite }

// LiteQueues begins the names of the light queues of a parent topic's lite topics.
func LiteQueues(parent string) string { return LiteQueue(parent, "") }

// LiteOf returns the parent topic and the lite topic that a light queue holds; ok is false for any other queue
// (LiteUtil.getParentTopic, getLiteTopic).
func LiteOf(queue string) (parent, lite string, ok bool) {
	rest, ok := strings.CutPrefix(queue, litePrefix)
	if !ok {
		return "", "", false
	}
	parent, lite, _ = strings.Cut(rest, "$")
	return parent, lite, parent != "" && lite != "" && !strings.Contains(lite, "$")
}

// CheckLite returns nil for the name of a lite topic that a light queue can hold.
func CheckLite(parent, lite string) error {
	if lite == "" || strings.ContainsAny(lite, "$@,/\x00\x01\x02") || len(LiteQueue(parent, lite)) > lmqNameMax {
		return fmt.Errorf("the lite topic %.100q of %s: want a name without $ @ , and /, of 1 to %d bytes (lmqNameMax)", lite, parent, lmqNameMax-len(LiteQueues(parent)))
	}
	return nil
}

// MayDispatch tells whether messages of the topic can stand in light queues as well (MixAll.topicAllowsLMQ).
func MayDispatch(topic []byte) bool {
	t := string(topic)
	return !strings.HasPrefix(t, RetryPrefix) && !strings.HasPrefix(t, DLQPrefix) && !strings.HasPrefix(t, systemPrefix) && t != TopicSchedule
}

// LightQueues returns the names in the value of INNER_MULTI_DISPATCH. ok is false when one of them cannot be a light queue's: RocketMQ gives
// such a one no offset, and its dispatch fails on the message.
func LightQueues(list []byte) (names [][]byte, ok bool) {
	list = bytes.TrimRight(list, ",") // as Java's split does
	if len(bytes.TrimSpace(list)) == 0 {
		return nil, true
	}
	names = bytes.Split(list, []byte{','})
	for _, name := range names {
		if !bytes.HasPrefix(name, []byte(LMQPrefix)) || len(name) > lmqNameMax || bytes.ContainsAny(name, "/\x00") {
			return names, false
		}
	}
	return names, true
}

// LightOffsets returns the offsets in the value of INNER_MULTI_QUEUE_OFFSET.
func LightOffsets(list []byte) (offsets []int64, ok bool) {
	for _, number := range bytes.Split(list, []byte{','}) {
		n, err := strconv.ParseInt(string(number), 10, 64)
		if err != nil || n < 0 {
			return nil, false
		}
		offsets = append(offsets, n)
	}
	return offsets, true
}
