package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// groupTable holds the consumer groups' configuration: kind "groups" of the state, name -> SubscriptionGroupConfig as JSON, and
// "" -> DataVersion. Kind "forbidden" has what a group may not do with a topic (admin_groups.go).
type groupTable struct {
	b *Broker

	mu        sync.RWMutex // guards what follows; writers hold it while they append to the log
	groups    map[string]*protocol.SubscriptionGroupConfig
	version   protocol.DataVersion
	forbidden map[string]int32
}

func newGroupTable(b *Broker) *groupTable {
	return &groupTable{b: b, groups: map[string]*protocol.SubscriptionGroupConfig{}, forbidden: map[string]int32{}}
}

func (t *groupTable) load() error {
	for _, name := range systemGroups {
		t.groups[name] = newGroupConfig(name)
	}
	if err := t.loadForbidden(); err != nil {
		return err
	}
	return t.b.store.State(kindGroups, func(key string, value []byte) error {
		if key == "" {
			return json.Unmarshal(value, &t.version)
		}
		c := newGroupConfig(key)
		if err := json.Unmarshal(value, c); err != nil {
			return fmt.Errorf("group %s: %w", key, err)
		}
		t.groups[key] = c
		return nil
	})
}

// systemGroups are those that tools and old clients use without creating them (SubscriptionGroupManager.init).
var systemGroups = []string{
	"TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER", "CID_ONSAPI_PULL",
	"CID_RMQ_SYS_TRANS",
}

// isSystemGroup tells whether the broker owns the group (MixAll.isSysConsumerGroup).
func isSystemGroup(name string) bool {
	return strings.HasPrefix(name, message.SystemGroupPrefix)
}

// newGroupConfig has RocketMQ's defaults.
func newGroupConfig(name string) *protocol.SubscriptionGroupConfig {
	return &protocol.SubscriptionGroupConfig{
		GroupName: name, ConsumeEnable: true, ConsumeFromMinEnable: true, ConsumeBroadcastEnable: true,
		RetryQueues: 1, RetryMaxTimes: 16, WhichBrokerWhenSlow: 1, NotifyConsumerIDsChanged: true, ConsumeTimeoutMinute: 15,
	}
}

// known returns a group, nil when there is none.
func (t *groupTable) known(name string) *protocol.SubscriptionGroupConfig {
	t.mu.RLock()
	found := t.groups[name]
	t.mu.RUnlock()
	if found == nil && t.b.isLight(name) {
		return newGroupConfig(name)
	}
	return found
}

// find returns a group, made with defaults where that is allowed; nil when there is none.
func (t *groupTable) find(name string) *protocol.SubscriptionGroupConfig {
	g := t.known(name)
	if g != nil || !(t.b.live().autoCreateGroup || isSystemGroup(name)) || message.CheckGroup(name) != nil {
		return g
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if g = t.groups[name]; g != nil {
		return g
	}
	g = newGroupConfig(name)
	if err := t.setLocked([]*protocol.SubscriptionGroupConfig{g}, func(error) {}); err != nil {
		t.b.log.Warn("cannot create a consumer group", "group", name, "error", err)
		return nil
	}
	return g
}
