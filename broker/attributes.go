package broker

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/protocol"
)

// attribute is what a topic or a group may be given by name.
type attribute struct {
	fixed       bool     // cannot be changed once the topic is there
	values      []string // one of these; none: a number, or any text
	number      bool
	least, most int64
}

func (a *attribute) check(value string) error {
	if len(a.values) > 0 && !slices.Contains(a.values, value) {
		return attributeError("value is not in set: [%s]", strings.Join(a.values, ", "))
	}
	if n, err := strconv.ParseInt(value, 10, 64); a.number && (err != nil || n < a.least || n > a.most) {
		return attributeError("value is not in range(%d, %d)", a.least, a.most)
	}
	return nil
}

const attributeMost = 1<<63 - 1

// topicAttributes are RocketMQ's TopicAttributes.
var topicAttributes = map[string]attribute{
	"queue.type":            {fixed: true, values: []string{"BatchCQ", "SimpleCQ"}},
	"cleanup.policy":        {fixed: true, values: []string{"DELETE", "COMPACTION"}},
	"message.type":          {values: []string{"UNSPECIFIED", "MIXED", "TRANSACTION", "PRIORITY", "FIFO", "DELAY", "LITE", "NORMAL"}},
	"reserve.time":          {number: true, least: -1, most: attributeMost},
	"lite.topic.expiration": {number: true, least: -1, most: 30 * 24 * 60},
}

// groupAttributes are RocketMQ's SubscriptionGroupAttributes.
var groupAttributes = map[string]attribute{
	"priority.factor":                   {number: true, least: 0, most: 100},
	"lite.bind.topic":                   {},
	"lite.sub.model":                    {values: []string{"Shared", "Exclusive"}},
	"lite.sub.reset.offset.exclusive":   {values: []string{"true", "false"}},
	"lite.sub.reset.offset.unsubscribe": {values: []string{"true", "false"}},
	"lite.sub.client.quota":             {number: true, least: -1, most: attributeMost},
	"lite.sub.client.max.event.cnt":     {number: true, least: 10, most: attributeMost},
	"lite.sub.wildcard":                 {},
}

// attributeError has the code that RocketMQ answers.
func attributeError(format string, args ...any) error {
	return protocol.Errorf(protocol.RespSystemError, format, args...)
}

// parseAttributes reads the form `+k=v,-k` (AttributeParser.parseToMap).
func parseAttributes(text string) (map[string]string, error) {
	changes := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, add := strings.Cut(part, "=")
		if add && key[:min(1, len(key))] != "+" {
			return nil, attributeError("add/alter attribute format is wrong: %s", part)
		}
		if !add && key[0] != '-' {
			return nil, attributeError("delete attribute format is wrong: %s", part)
		}
		if _, twice := changes[key]; twice {
			return nil, attributeError("key duplication: %s", key)
		}
		changes[key] = value
	}
	return changes, nil
}

// alterAttributes applies "+name": value and "-name": "" to the attributes of something, nil when that is new
// (AttributeUtil.alterCurrentAttributes).
func alterAttributes(old, changes map[string]string, known map[string]attribute) (map[string]string, error) {
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
			return nil, attributeError("wrong format key: %s", key)
		case old == nil && key[0] == '-':
			return nil, attributeError("only add attribute is supported while creating topic. key: %s", name)
		case key[0] == '-' && !there:
			return nil, attributeError("attempt to delete a nonexistent key: %s", name)
		case !ok:
			return nil, attributeError("unsupported key: %s", name)
		case old != nil && a.fixed:
			return nil, attributeError("attempt to update an unchangeable attribute. key: %s", name)
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
