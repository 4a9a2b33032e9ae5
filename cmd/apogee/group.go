package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

func newGroupCommand() *cobra.Command {
	return noun("group", "Consumer groups: settings, members, lag, offsets", "",
		newGroupListCommand(), newGroupDescribeCommand(), newGroupCreateCommand(), newGroupUpdateCommand(), newGroupDeleteCommand(),
		newGroupLagCommand(), newGroupMembersCommand(), newGroupStatusCommand(), newGroupPopCommand(), newGroupSetModeCommand(),
		newGroupResetCommand(), newGroupSkipCommand(), newGroupCloneCommand())
}

// groupConfigs are the settings of one group, by broker.
type groupConfigs map[string]protocol.SubscriptionGroupConfig

// groups returns all groups that the brokers of the scope have.
func (c *cluster) groups(ctx context.Context, s scope) (map[string]groupConfigs, error) {
	brokers, err := c.brokers(ctx, s)
	if err != nil {
		return nil, err
	}
	tables := make([]*protocol.GroupTable, len(brokers))
	err = each(len(brokers), func(i int) (err error) {
		tables[i], err = fetch[protocol.GroupTable](ctx, c, brokers[i].addr, protocol.ReqGetAllSubscriptionGroupConfig, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := map[string]groupConfigs{}
	for i, t := range tables {
		for name, config := range t.Groups {
			if out[name] == nil {
				out[name] = groupConfigs{}
			}
			out[name][brokers[i].name] = config
		}
	}
	return out, nil
}

// group returns the brokers that have a group, and its settings there.
func (c *cluster) group(ctx context.Context, name string, s scope) ([]broker, groupConfigs, error) {
	if err := message.CheckGroup(name); err != nil {
		return nil, nil, asUsage(err)
	}
	all, err := c.groups(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	configs := all[name]
	if configs == nil {
		return nil, nil, fmt.Errorf("group %q does not exist: create it with `apogee group create %s`", name, name)
	}
	brokers, err := c.brokers(ctx, s)
	return slices.DeleteFunc(brokers, func(b broker) bool { _, ok := configs[b.name]; return !ok }), configs, err
}

// isSystemGroup tells whether nobody created the group: brokers have these for tools and old clients.
func isSystemGroup(name string) bool {
	return strings.HasPrefix(name, message.SystemGroupPrefix) || strings.HasPrefix(name, "CID_ONSAPI_") ||
		slices.Contains([]string{toolsGroup, "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY", "CID_SYS_RMQ_TRANS"}, name)
}

// listedGroup is a row of group list.
type listedGroup struct {
	Group   string   `json:"group"`
	Brokers []string `json:"brokers"`
	Members int      `json:"members"`
	Model   string   `json:"model,omitempty"` // CLUSTERING or BROADCASTING; of the members
	Lag     int64    `json:"lag"`
	Behind  float64  `json:"behind_seconds"`      // age of the oldest message that it has not committed
	TPS     float64  `json:"messages_per_second"` // that it was given in the last minute
	Note    string   `json:"note,omitempty"`      // offline, slow or stuck: it has a lag, and why
}

func newGroupListCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List groups with their members and lag, in messages and in time",
		Long: "Lists groups. LAG and BEHIND count what the group was given and has not acknowledged, and what it pops again. NOTE marks groups that have\n" +
			"a lag: offline has no member; slow is a minute behind or more; stuck is, too, and none of its members has consumed a message in the last\n" +
			"minute. `apogee group lag NAME` shows in which queues, and `apogee group status NAME --stack` what the members are doing.",
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				list, err := cl.listGroups(ctx, s, all)
				if err != nil {
					return err
				}
				t := newTable("GROUP", "BROKERS", "MEMBERS", "MODEL", "LAG", "BEHIND", "MESSAGES/S", "NOTE")
				for _, g := range list {
					t.add(g.Group, strings.Join(g.Brokers, ","), g.Members, g.Model, g.Lag, behindText(g.Behind), rate(g.TPS), g.Note)
				}
				return f.out.print(c, list, t.write)
			})
		},
	}
	f.add(c)
	s.add(c)
	c.Flags().BoolVar(&all, "all", false, "the system's groups too")
	return c
}

func rate(perSecond float64) string { return fmt.Sprintf("%.1f", perSecond) }

func (c *cluster) listGroups(ctx context.Context, s scope, all bool) ([]listedGroup, error) {
	groups, err := c.groups(ctx, s)
	if err != nil {
		return nil, err
	}
	brokers, err := c.brokers(ctx, s)
	if err != nil {
		return nil, err
	}
	out := []listedGroup{}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if all || !isSystemGroup(name) {
			out = append(out, listedGroup{Group: name, Brokers: slices.Sorted(maps.Keys(groups[name]))})
		}
	}
	err = each(len(out), func(i int) error {
		g := &out[i]
		m, err := c.members(ctx, g.Group, brokers)
		if err != nil {
			return err
		}
		g.Members, g.Model = len(m.Members), m.Model
		p, err := c.progress(ctx, g.Group, "", brokers)
		if err == nil {
			g.Lag, g.Behind, g.TPS = p.Lag, p.Behind, p.TPS
			g.Note = g.trouble(func() (consumes, known bool) { return c.consuming(ctx, m, brokers) })
		}
		return err
	})
	return out, err
}

// troubleSeconds is how far a group may be behind before it counts as slow, or stuck.
const troubleSeconds = 60

// trouble says in a word what is wrong with a group that has a lag. Only the members know whether they consume: what they were given they
// may have had for long. Where they do not tell, a group counts as stuck that was given nothing.
func (g *listedGroup) trouble(consuming func() (consumes, known bool)) string {
	switch {
	case g.Lag <= 0:
		return ""
	case g.Members == 0:
		return "offline"
	case g.Behind < troubleSeconds:
		return ""
	}
	consumes, known := consuming()
	if consumes || !known && g.TPS > 0 {
		return "slow"
	}
	return "stuck"
}

// groupDescription is what group describe prints.
type groupDescription struct {
	Group    string         `json:"group"`
	Configs  groupConfigs   `json:"settings"` // by broker
	Members  int            `json:"members"`
	Progress *groupProgress `json:"progress"`
}

func newGroupDescribeCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	c := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a group's settings, and its lag in each topic",
		Args:  takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				d, err := cl.describeGroup(ctx, args[0], s)
				if err != nil {
					return err
				}
				return f.out.print(c, d, d.write)
			})
		},
	}
	f.add(c)
	s.add(c)
	completeArgs(c, groupNames)
	return c
}

func (c *cluster) describeGroup(ctx context.Context, name string, s scope) (*groupDescription, error) {
	brokers, configs, err := c.group(ctx, name, s)
	if err != nil {
		return nil, err
	}
	m, err := c.members(ctx, name, brokers)
	if err != nil {
		return nil, err
	}
	p, err := c.progress(ctx, name, "", brokers)
	return &groupDescription{name, configs, len(m.Members), p}, err
}

func (d *groupDescription) write(w io.Writer) error {
	fmt.Fprintf(w, "group %s: %d members, lag %d, behind %s\n\n", d.Group, d.Members, d.Progress.Lag, behindText(d.Progress.Behind))
	t := newTable("BROKER", "CONSUME", "BROADCAST", "ORDERLY", "FROM MIN", "RETRY MAX", "RETRY QUEUES", "ATTRIBUTES")
	for _, name := range slices.Sorted(maps.Keys(d.Configs)) {
		g := d.Configs[name]
		t.add(name, g.ConsumeEnable, g.ConsumeBroadcastEnable, g.ConsumeMessageOrderly, g.ConsumeFromMinEnable, g.RetryMaxTimes, g.RetryQueues,
			propertyText(g.Attributes))
	}
	if err := t.write(w); err != nil || len(d.Progress.Queues) == 0 {
		return err
	}
	fmt.Fprintln(w)
	t = newTable("TOPIC", "QUEUES", "LAG", "IN FLIGHT", "BEHIND")
	for _, topic := range d.Progress.byTopic() {
		t.add(topic.Queues[0].Topic, len(topic.Queues), topic.Lag, topic.InFlight, behindText(topic.Behind))
	}
	return t.write(w)
}

// groupFlags are the flags of group create and update.
type groupFlags struct {
	clusterFlags
	scope
	config     protocol.SubscriptionGroupConfig
	policy     string
	attributes []string
}

func (f *groupFlags) add(c *cobra.Command) {
	f.clusterFlags.add(c)
	f.scope.add(c)
	fs := c.Flags()
	g := &f.config
	fs.BoolVar(&g.ConsumeEnable, "consume", true, "the group may consume")
	fs.BoolVar(&g.ConsumeBroadcastEnable, "broadcast", true, "its members may consume in broadcasting")
	fs.BoolVar(&g.ConsumeMessageOrderly, "orderly", false, "gRPC clients of a RocketMQ proxy consume in order (FIFO); remoting clients decide it themselves")
	fs.BoolVar(&g.ConsumeFromMinEnable, "from-min", true, "it may begin at the oldest message")
	fs.Int32Var(&g.RetryMaxTimes, "retry-max", 16, "retries before a message becomes a dead letter")
	fs.Int32Var(&g.RetryQueues, "retry-queues", 1, "queues of its retry topic on each broker; 0: no retries")
	fs.Int64Var(&g.BrokerID, "read-from", 0, "broker id that it reads from")
	fs.Int64Var(&g.WhichBrokerWhenSlow, "read-from-when-slow", 1, "broker id that it reads from when it is far behind")
	fs.BoolVar(&g.NotifyConsumerIDsChanged, "notify-members", true, "members are told at once when one comes or goes")
	fs.StringVar(&f.policy, "retry-policy", "", "groupRetryPolicy, as JSON: when gRPC clients of a RocketMQ proxy retry; retries of remoting clients go by delay levels")
	fs.StringArrayVar(&f.attributes, "attribute", nil, "attribute, +name=value to set it or -name to remove it (repeatable)")
}

// apply sets in g what the flags say: all of them, or those that were given.
func (f *groupFlags) apply(c *cobra.Command, g *protocol.SubscriptionGroupConfig, all bool) error {
	if f.config.RetryMaxTimes < 0 {
		return usagef("--retry-max %d: want 0 or more", f.config.RetryMaxTimes)
	}
	if f.config.RetryQueues < 0 || f.config.RetryQueues > queuesMax {
		return usagef("--retry-queues %d: want 0 to %d", f.config.RetryQueues, queuesMax)
	}
	set := func(flag string, change func()) {
		if all || c.Flags().Changed(flag) {
			change()
		}
	}
	n := &f.config
	set("consume", func() { g.ConsumeEnable = n.ConsumeEnable })
	set("broadcast", func() { g.ConsumeBroadcastEnable = n.ConsumeBroadcastEnable })
	set("orderly", func() { g.ConsumeMessageOrderly = n.ConsumeMessageOrderly })
	set("from-min", func() { g.ConsumeFromMinEnable = n.ConsumeFromMinEnable })
	set("retry-max", func() { g.RetryMaxTimes = n.RetryMaxTimes })
	set("retry-queues", func() { g.RetryQueues = n.RetryQueues })
	set("read-from", func() { g.BrokerID = n.BrokerID })
	set("read-from-when-slow", func() { g.WhichBrokerWhenSlow = n.WhichBrokerWhenSlow })
	set("notify-members", func() { g.NotifyConsumerIDsChanged = n.NotifyConsumerIDsChanged })
	if f.policy != "" {
		raw := json.RawMessage(f.policy)
		if err := protocol.CheckRetryPolicy(raw); err != nil {
			return usagef("--retry-policy: %v", err)
		}
		g.GroupRetryPolicy = &raw
	}
	g.Attributes = map[string]string{} // changes only
	for _, a := range f.attributes {
		name, value, hasValue := strings.Cut(a, "=")
		if len(name) < 2 || !strings.Contains("+-", a[:1]) || (a[0] == '+') != hasValue {
			return usagef("--attribute %q: want +name=value or -name", a)
		}
		g.Attributes[name] = value
	}
	return nil
}

func newGroupCreateCommand() *cobra.Command {
	var f groupFlags
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a group, or set all of an existing one",
		Long: "Creates a group on every broker of the cluster. One that exists gets these settings, defaults included; to change some of them use\n" +
			"`apogee group update`.",
		Example: "  apogee group create billing --retry-max 3\n  apogee group create ledger --orderly",
		Args:    takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error {
				if err := message.CheckGroup(args[0]); err != nil {
					return asUsage(err)
				}
				config := protocol.SubscriptionGroupConfig{GroupName: args[0], ConsumeTimeoutMinute: 15}
				if err := f.apply(c, &config, true); err != nil {
					return err
				}
				brokers, err := cl.writable(ctx, f.scope)
				if err != nil {
					return err
				}
				return f.set(ctx, c, cl, brokers, func(broker) *protocol.SubscriptionGroupConfig { return &config })
			})
		},
	}
	f.add(c)
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

func newGroupUpdateCommand() *cobra.Command {
	var f groupFlags
	c := &cobra.Command{
		Use:     "update NAME",
		Short:   "Change settings of a group; what is not given stays",
		Example: "  apogee group update billing --consume=false",
		Args:    takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error {
				if err := f.apply(c, new(protocol.SubscriptionGroupConfig), false); err != nil {
					return err
				}
				brokers, configs, err := cl.group(ctx, args[0], f.scope)
				if err != nil {
					return err
				}
				return f.set(ctx, c, cl, brokers, func(b broker) *protocol.SubscriptionGroupConfig {
					config := configs[b.name]
					_ = f.apply(c, &config, false) // checked above
					return &config
				})
			})
		},
	}
	f.add(c)
	completeArgs(c, groupNames)
	return c
}

func (f *groupFlags) set(ctx context.Context, c *cobra.Command, cl *cluster, brokers []broker, config func(broker) *protocol.SubscriptionGroupConfig) error {
	var name string
	for _, b := range brokers {
		g := config(b)
		name = g.GroupName
		if _, err := cl.ask(ctx, b.addr, request{code: protocol.ReqUpdateAndCreateSubscriptionGroup, body: protocol.MarshalBody(g)}, nil); err != nil {
			return fmt.Errorf("cannot set group %q on broker %q: %w", name, b.name, err)
		}
	}
	names := namesOf(brokers)
	return f.out.say(c, map[string]any{"group": name, "brokers": names}, "group %s: set on %s", name, strings.Join(names, ", "))
}

func newGroupDeleteCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	var yes, keepOffsets, keepTopics bool
	c := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a group, its offsets, retries and dead letters",
		Args:  takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				name := args[0]
				brokers, _, err := cl.group(ctx, name, s)
				if err != nil {
					return err
				}
				m, err := cl.members(ctx, name, brokers)
				if err != nil {
					return err
				}
				question := fmt.Sprintf("Delete group %s on %s?", name, strings.Join(namesOf(brokers), ", "))
				if len(m.Members) > 0 {
					question += fmt.Sprintf(" %d members are online.", len(m.Members))
				}
				if err := confirm(c, yes, question); err != nil {
					return err
				}
				if err := cl.deleteGroup(ctx, name, brokers, !keepOffsets, !keepTopics && s == scope{}); err != nil {
					return err
				}
				return f.out.say(c, map[string]string{"deleted": name}, "group %s deleted", name)
			})
		},
	}
	f.add(c)
	s.add(c)
	addYes(c, &yes)
	c.Flags().BoolVar(&keepOffsets, "keep-offsets", false, "leave its offsets: a group of that name goes on there")
	c.Flags().BoolVar(&keepTopics, "keep-topics", false, "leave its retry and dead-letter topics; they stay also with --broker or --cluster")
	completeArgs(c, groupNames)
	return c
}

func (c *cluster) deleteGroup(ctx context.Context, name string, brokers []broker, offsets, topics bool) error {
	for _, b := range brokers {
		h := &protocol.DeleteGroupHeader{Group: name, CleanOffsets: offsets}
		if _, err := c.ask(ctx, b.addr, request{code: protocol.ReqDeleteSubscriptionGroup, header: h}, nil); err != nil {
			return fmt.Errorf("cannot delete group %q on broker %q: %w", name, b.name, err)
		}
	}
	if !topics {
		return nil
	}
	for _, topic := range []string{message.RetryTopic(name), message.DLQTopic(name)} {
		if err := c.deleteTopic(ctx, topic); err != nil && !isNoTopic(err) {
			return err
		}
	}
	return nil
}
