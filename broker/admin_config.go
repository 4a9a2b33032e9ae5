package broker

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/broker/cold"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Configuration: UPDATE_BROKER_CONFIG (25), GET_BROKER_CONFIG (26).
//
// What clients see: properties as text, one name=value a line, with the keys that Apogee has. A change is in force and on disk when it is
// answered, and stays in force after a restart, before the node's own configuration. Differences: 25 refuses an option that Apogee does
// not have, that needs a restart, or whose value does not fit (29, naming it), and then changes nothing; RocketMQ answers SUCCESS and
// ignores it. Options of RocketMQ's black list are 16 here too.

// settings are what may be changed while the broker runs.
type settings struct {
	autoCreateTopic, autoCreateGroup bool
	defaultTopicQueues               int32 // of a template that is made at the next start
	permission                       int32
	messageBytesMax                  int
	transferBytes, transferCount     int
	pollWaitMax                      time.Duration
	propertyFilter, filterRetry      bool
	storeReplies                     bool
	rejectTransactions               bool
	checkInterval, checkTimeout      time.Duration
	checksMax                        int32
	retryTopicV2                     bool // the form of the names of POP retry topics
	compactEvery                     time.Duration
	cold                             cold.Options
}

func (c *Config) settings() *settings {
	return &settings{
		autoCreateTopic: c.AutoCreateTopic, autoCreateGroup: c.AutoCreateGroup, defaultTopicQueues: c.DefaultTopicQueues,
		permission: c.Permission, messageBytesMax: c.MessageBytesMax, transferBytes: c.TransferBytes, transferCount: c.TransferCount,
		pollWaitMax: c.PollWaitMax, propertyFilter: c.PropertyFilter, filterRetry: c.FilterRetry, storeReplies: c.StoreReplies,
		rejectTransactions: c.Transactions.Reject, checkInterval: c.Transactions.CheckInterval,
		checkTimeout: c.Transactions.Timeout, checksMax: c.Transactions.ChecksMax, compactEvery: c.CompactEvery, cold: c.Cold,
	}
}

// property is a setting under its name.
type property struct {
	name string
	get  func(*settings) string
	set  func(*settings, string) error
}

func properties() []property {
	return append(coldProperties(), []property{
		switchProperty("autoCreateSubscriptionGroup", func(s *settings) *bool { return &s.autoCreateGroup }),
		switchProperty("autoCreateTopicEnable", func(s *settings) *bool { return &s.autoCreateTopic }),
		numberProperty("brokerPermission", 0, 7, func(s *settings) *int32 { return &s.permission }),
		numberProperty("compactionScheduleInternal", 1, int64(24*time.Hour), func(s *settings) *time.Duration { return &s.compactEvery }),
		switchProperty("enableRetryTopicV2", func(s *settings) *bool { return &s.retryTopicV2 }),
		numberProperty("defaultTopicQueueNums", 1, topicQueuesMax, func(s *settings) *int32 { return &s.defaultTopicQueues }),
		switchProperty("enablePropertyFilter", func(s *settings) *bool { return &s.propertyFilter }),
		switchProperty("filterSupportRetry", func(s *settings) *bool { return &s.filterRetry }),
		numberProperty("maxMessageSize", 1, 64<<20, func(s *settings) *int { return &s.messageBytesMax }),
		numberProperty("maxTransferBytesOnMessageInMemory", 1, 64<<20, func(s *settings) *int { return &s.transferBytes }),
		numberProperty("maxTransferCountOnMessageInMemory", 1, pullMessagesMax, func(s *settings) *int { return &s.transferCount }),
		switchProperty("storeReplyMessageEnable", func(s *settings) *bool { return &s.storeReplies }),
		numberProperty("pollWaitMax", 1, int64(time.Hour), func(s *settings) *time.Duration { return &s.pollWaitMax }),
		switchProperty("rejectTransactionMessage", func(s *settings) *bool { return &s.rejectTransactions }),
		numberProperty("transactionCheckInterval", 1, int64(24*time.Hour), func(s *settings) *time.Duration { return &s.checkInterval }),
		numberProperty("transactionCheckMax", 1, math.MaxInt32, func(s *settings) *int32 { return &s.checksMax }),
		numberProperty("transactionTimeOut", 0, int64(24*time.Hour), func(s *settings) *time.Duration { return &s.checkTimeout }),
	}...)
}

func switchProperty(name string, field func(*settings) *bool) property {
	return property{name,
		func(s *settings) string { return strconv.FormatBool(*field(s)) },
		func(s *settings, v string) error {
			if v != "true" && v != "false" {
				return fmt.Errorf("%q is neither true nor false", v)
			}
			*field(s) = v == "true"
			return nil
		}}
}

// numberProperty is a whole number; of milliseconds where the field is a duration.
func numberProperty[T int | int32 | int64 | time.Duration](name string, least, most int64, field func(*settings) *T) property {
	var zero T
	unit := int64(1)
	if _, ok := any(zero).(time.Duration); ok {
		unit = int64(time.Millisecond)
	}
	return property{name,
		func(s *settings) string { return strconv.FormatInt(int64(*field(s))/unit, 10) },
		func(s *settings, v string) error {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < least || n > most/unit {
				return fmt.Errorf("%q is not a whole number from %d to %d", v, least, most/unit)
			}
			*field(s) = T(n * unit)
			return nil
		}}
}

// blackList are the options that nobody may change over the network (BrokerConfig.configBlackList).
var blackList = []string{"configBlackList", "brokerConfigPath", "rocketmqHome"}

// live returns the settings that are in force.
func (b *Broker) live() *settings { return b.settings.Load() }

// loadSettings applies what was changed while the broker ran.
func (b *Broker) loadSettings() error {
	next := *b.c.settings()
	err := b.store.State(kindConfig, func(name string, value []byte) error {
		i := slices.IndexFunc(properties(), func(p property) bool { return p.name == name })
		if i < 0 {
			return nil // of another version
		}
		if err := properties()[i].set(&next, string(value)); err != nil {
			return fmt.Errorf("option %s: %w", name, err)
		}
		return nil
	})
	b.settings.Store(&next)
	return err
}

// fixed are the options that need a restart, with the values that are in force for who asks: addresses are as its clients are told them.
func (b *Broker) fixed(asker *remoting.Conn) map[string]string {
	host := b.storeHost(asker.LocalAddr()).Addr()
	all := map[string]string{
		"brokerClusterName": b.c.Cluster, "brokerName": b.c.Name, "brokerId": strconv.FormatInt(b.c.ID, 10), "brokerIP1": host.String(),
		"listenPort": strconv.Itoa(b.port), "regionId": b.c.Region, "traceTopicEnable": strconv.FormatBool(b.c.TraceTopic),
		"brokerRole": "ASYNC_MASTER", "messageDelayLevel": b.c.DelayLevels.String(),
	}
	for name, value := range b.c.Properties {
		all[name] = value
	}
	if b.c.Host.NamesrvAddr != nil {
		all["namesrvAddr"] = b.c.Host.NamesrvAddr(host)
	}
	return all
}

func (b *Broker) brokerConfig(r *remoting.Request) (*remoting.Response, error) {
	all := b.fixed(r.Conn)
	s := b.live()
	for _, p := range properties() {
		all[p.name] = p.get(s)
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var text strings.Builder
	for _, name := range names {
		text.WriteString(name + "=" + all[name] + "\n")
	}
	version := b.DataVersion()
	resp := remoting.Respond(protocol.RespSuccess, &protocol.VersionResult{Version: string(protocol.MarshalBody(version))})
	resp.Body = []byte(text.String())
	return resp, nil
}

func (b *Broker) updateBrokerConfig(r *remoting.Request) (*remoting.Response, error) {
	changes, err := parseProperties(string(r.Body))
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 {
		return nil, nil
	}
	b.settingsMu.Lock()
	defer b.settingsMu.Unlock()
	next := *b.live()
	var mutations []store.Mutation
	fixed, known := b.fixed(r.Conn), properties()
	for _, c := range changes {
		name, value := c[0], c[1]
		i := slices.IndexFunc(known, func(p property) bool { return p.name == name })
		_, isFixed := fixed[name]
		switch {
		case slices.Contains(blackList, name):
			return nil, protocol.Errorf(protocol.RespNoPermission, "Can not update config in black list.")
		case isFixed:
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "option %s: it is %q and can be changed by a restart only", name, fixed[name])
		case i < 0:
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "option %s: the broker has no such option", name)
		}
		if err := known[i].set(&next, value); err != nil {
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "option %s: %v", name, err)
		}
		mutations = append(mutations, store.Mutation{Key: name, Value: []byte(value)})
	}
	before := b.live()
	b.settings.Store(&next) // first, as is touch: the answer may leave before update returns
	if next.permission != before.permission {
		if err := b.topics.touch(); err != nil {
			b.log.Warn("the topics' version does not show that brokerPermission has changed", "error", err)
		}
	}
	if err := b.update(kindConfig, func(err error) { r.Reply(nil, err) }, mutations...); err != nil {
		b.settings.Store(before)
		return nil, sendFailure(err)
	}
	if next.compactEvery != before.compactEvery {
		b.rounds.Wake()
	}
	for _, c := range changes {
		b.log.Info("option changed", "name", c[0], "value", c[1])
	}
	return nil, remoting.ErrLater
}

// parseProperties reads the lines name=value or name:value of a properties text; # and ! begin comments.
func parseProperties(text string) (list [][2]string, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		i := strings.IndexAny(line, "=:")
		if i <= 0 {
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "%q: want name=value", line)
		}
		if len(list) == propertiesLinesMax {
			return nil, protocol.Errorf(protocol.RespInvalidParameter, "the properties have more lines than propertiesLinesMax=%d; send fewer at once", propertiesLinesMax)
		}
		list = append(list, [2]string{strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])})
	}
	return list, nil
}
