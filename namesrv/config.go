package namesrv

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// Config is the name server's configuration. The zero value is not useful: start from DefaultConfig.
type Config struct {
	ScanInterval                      time.Duration // how often brokers that fell silent are looked for
	OrderMessageEnable                bool          // answer routes with the topic's order configuration
	ReturnOrderTopicConfigToBroker    bool          // answer registrations with the order configuration of all topics
	SupportActingMaster               bool          // present the smallest slave as the master where there is none
	NotifyMinBrokerIDChanged          bool          // tell brokers when the smallest id of their name changes
	NeedWaitForService                bool          // refuse routes until WaitForService after the start
	WaitForService                    time.Duration
	DeleteTopicWithBrokerRegistration bool // a registration replaces all topics of its broker
	EnableAllTopicList                bool // answer GET_ALL_TOPIC_LIST_FROM_NAMESERVER
	EnableTopicList                   bool // answer the other lists of topics
	BlackList                         string
}

// DefaultConfig returns RocketMQ's defaults.
func DefaultConfig() Config {
	return Config{
		ScanInterval:                   5 * time.Second,
		ReturnOrderTopicConfigToBroker: true,
		WaitForService:                 45 * time.Second,
		EnableAllTopicList:             true,
		EnableTopicList:                true,
		BlackList:                      "configBlackList;configStorePath;kvConfigPath",
	}
}

// property is one option under RocketMQ's name. What RocketMQ has beyond these (thread pools, cluster test) would do nothing here
// and is refused.
type property struct {
	name string
	get  func(*Config) string
	set  func(*Config, string) error
}

func properties() []property {
	return []property{
		text("configBlackList", func(c *Config) *string { return &c.BlackList }),
		boolean("deleteTopicWithBrokerRegistration", func(c *Config) *bool { return &c.DeleteTopicWithBrokerRegistration }),
		boolean("enableAllTopicList", func(c *Config) *bool { return &c.EnableAllTopicList }),
		boolean("enableTopicList", func(c *Config) *bool { return &c.EnableTopicList }),
		boolean("needWaitForService", func(c *Config) *bool { return &c.NeedWaitForService }),
		boolean("notifyMinBrokerIdChanged", func(c *Config) *bool { return &c.NotifyMinBrokerIDChanged }),
		boolean("orderMessageEnable", func(c *Config) *bool { return &c.OrderMessageEnable }),
		boolean("returnOrderTopicConfigToBroker", func(c *Config) *bool { return &c.ReturnOrderTopicConfigToBroker }),
		duration("scanNotActiveBrokerInterval", time.Millisecond, func(c *Config) *time.Duration { return &c.ScanInterval }),
		boolean("supportActingMaster", func(c *Config) *bool { return &c.SupportActingMaster }),
		duration("waitSecondsForService", time.Second, func(c *Config) *time.Duration { return &c.WaitForService }),
	}
}

func text(name string, field func(*Config) *string) property {
	return property{name,
		func(c *Config) string { return *field(c) },
		func(c *Config, v string) error { *field(c) = v; return nil }}
}

func boolean(name string, field func(*Config) *bool) property {
	return property{name,
		func(c *Config) string { return strconv.FormatBool(*field(c)) },
		func(c *Config, v string) error {
			b, err := strconv.ParseBool(v)
			if err == nil {
				*field(c) = b
			}
			return err
		}}
}

func duration(name string, unit time.Duration, field func(*Config) *time.Duration) property {
	return property{name,
		func(c *Config) string { return strconv.FormatInt(int64(*field(c)/unit), 10) },
		func(c *Config, v string) error {
			n, err := strconv.ParseInt(v, 10, 32)
			if err == nil && n <= 0 {
				err = fmt.Errorf("%d is not positive", n)
			}
			if err == nil {
				*field(c) = time.Duration(n) * unit
			}
			return err
		}}
}

// Set changes the option that RocketMQ calls name.
func (c *Config) Set(name, value string) error {
	for _, p := range properties() {
		if p.name != name {
			continue
		}
		if err := p.set(c, value); err != nil {
			return protocol.Errorf(protocol.RespInvalidParameter, "option %s: %v", name, err)
		}
		return nil
	}
	return protocol.Errorf(protocol.RespInvalidParameter, "option %s: the name server has no such option", name)
}

// Get returns the option that RocketMQ calls name.
func (c *Config) Get(name string) (value string, ok bool) {
	for _, p := range properties() {
		if p.name == name {
			return p.get(c), true
		}
	}
	return "", false
}

// PropertyNames returns the names that Set and Get know, sorted.
func PropertyNames() []string {
	var names []string
	for _, p := range properties() {
		names = append(names, p.name)
	}
	return names
}

// blacklisted says whether an administrator may not change the option over the network.
func (c *Config) blacklisted(name string) bool {
	always := []string{"configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"}
	return slices.Contains(always, name) || slices.Contains(strings.Split(c.BlackList, ";"), name)
}

// setting is one line of a properties text.
type setting struct{ name, value string }

// parseProperties reads the lines of Java's properties that configuration uses: name=value or name:value, # and ! comments.
func parseProperties(s string) []setting {
	var all []setting
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		name, value := line, ""
		if i := strings.IndexAny(line, "=:"); i >= 0 {
			name, value = line[:i], line[i+1:]
		}
		all = append(all, setting{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return all
}

func formatProperties(all []setting) string {
	slices.SortFunc(all, func(a, b setting) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "%s=%s\n", s.name, s.value)
	}
	return b.String()
}
