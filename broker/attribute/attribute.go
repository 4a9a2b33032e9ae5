package attribute

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/protocol"
)

// Attribute is what a topic or a group may be given by name.
type Attribute struct {
	fixed       bool     // cannot be changed once the topic is there
	values      []string // one of these; none: a number, or any text
	number      bool
	least, most int64
}

func (a *Attribute) check(value string) error {
	if len(a.values) > 0 && !slices.Contains(a.values, value) {
		return fault("value is not in set: [%s]", strings.Join(a.values, ", "))
	}
	if n, err := strconv.ParseInt(value, 10, 64); a.number && (err != nil || n < a.least || n > a.most) {
		return fault("value is not in range(%d, %d)", a.least, a.most)
	}
	return nil
}

const most = 1<<63 - 1

// CleanupPolicy names what becomes of a topic's old messages: they go by age (DELETE, the default), or the last of each key is left. It
// cannot be changed once the topic is there.
const (
	CleanupPolicy = "cleanup.policy"
	Compaction    = "COMPACTION"
)

// QueueType names how a topic's queues are indexed, BatchQueue the type whose batches are one record.
const (
	QueueType  = "queue.type"
	BatchQueue = "BatchCQ"
)

// MessageType names what a topic's messages are, Lite that they stand in lite topics, LiteExpiration for how many minutes a lite topic
// without new messages is kept; -1: for ever.
const (
	MessageType    = "message.type"
	Lite           = "LITE"
	LiteExpiration = "lite.topic.expiration"
)

// What a group that consumes lite topics has: the parent topic; Shared or Exclusive lite topics, and whether a new exclusive subscriber
// or the end of a subscription sets the group back to the first message; how many lite topics a client may subscribe to; any value when
// its clients share all lite topics of the parent.
const (
	LiteBindTopic        = "lite.bind.topic"
	LiteModel            = "lite.sub.model"
	LiteExclusive        = "Exclusive"
	LiteResetExclusive   = "lite.sub.reset.offset.exclusive"
	LiteResetUnsubscribe = "lite.sub.reset.offset.unsubscribe"
	LiteClientQuota      = "lite.sub.client.quota"
	LiteWildcard         = "lite.sub.wildcard"
)

// Number returns an attribute that is one, or what it is by default.
func Number(attributes map[string]string, name string, byDefault int64) int64 {
	if n, err := strconv.ParseInt(attributes[name], 10, 64); err == nil {
		return n
	}
	return byDefault
}

// Topics are RocketMQ's TopicAttributes.
var Topics = map[string]Attribute{
	QueueType:      {fixed: true, values: []string{BatchQueue, "SimpleCQ"}},
	CleanupPolicy:  {fixed: true, values: []string{"DELETE", Compaction}},
	MessageType:    {values: []string{"UNSPECIFIED", "MIXED", "TRANSACTION", "PRIORITY", "FIFO", "DELAY", Lite, "NORMAL"}},
	"reserve.time": {number: true, least: -1, most: most},
	LiteExpiration: {number: true, least: -1, most: 30 * 24 * 60},
}

// Groups are RocketMQ's SubscriptionGroupAttributes.
var Groups = map[string]Attribute{
	"priority.factor":               {number: true, least: 0, most: 100},
	LiteBindTopic:                   {},
	LiteModel:                       {values: []string{"Shared", LiteExclusive}},
	LiteResetExclusive:              {values: []string{"true", "false"}},
	LiteResetUnsubscribe:            {values: []string{"true", "false"}},
	LiteClientQuota:                 {number: true, least: -1, most: most},
	"lite.sub.client.max.event.cnt": {number: true, least: 10, most: most},
	LiteWildcard:                    {},
}

// fault has the code that RocketMQ answers.
func fault(format string, args ...any) error {
	return protocol.Errorf(protocol.RespSystemError, format, args...)
}

// Parse reads the form `+k=v,-k` (AttributeParser.parseToMap).
func Parse(text string) (map[string]string, error) {
	changes := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, add := strings.Cut(part, "=")
		if add && key[:min(1, len(key))] != "+" {
			return nil, fault("add/alter attribute format is wrong: %s", part)
		}
		if !add && key[0] != '-' {
			return nil, fault("delete attribute format is wrong: %s", part)
		}
		if _, twice := changes[key]; twice {
			return nil, fault("key duplication: %s", key)
		}
		changes[key] = value
	}
	return changes, nil
}

// Alter applies "+name": value and "-name": "" to the attributes of something, nil when that is new
// (AttributeUtil.alterCurrentAttributes).
func Alter(old, changes map[string]string, known map[string]Attribute) (map[string]string, error) {
	altered := maps.Clone(old)
	if altered == nil {
		altered = map[string]string{}
	}
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		name := strings.TrimLeft(key, "+-")
		a, ok := known[name]
		_, there := old[name]
		switch {
		case name == "" || len(key) != len(name)+1:
			return nil, fault("wrong format key: %s", key)
		case old == nil && key[0] == '-':
			return nil, fault("only add attribute is supported while creating topic. key: %s", name)
		case key[0] == '-' && !there:
			return nil, fault("attempt to delete a nonexistent key: %s", name)
		case !ok:
			return nil, fault("unsupported key: %s", name)
		case old != nil && a.fixed:
			return nil, fault("attempt to update an unchangeable attribute. key: %s", name)
		case key[0] == '-':
			delete(altered, name)
			continue
		}
		if err := a.check(changes[key]); err != nil {
			return nil, err
		}
		altered[name] = changes[key]
	}
	return altered, nil
}
