package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

func newTopicCommand() *cobra.Command {
	return noun("topic", "Topics: list, describe, create, update, delete", "",
		newTopicListCommand(), newTopicDescribeCommand(), newTopicCreateCommand(), newTopicUpdateCommand(), newTopicDeleteCommand(),
		newTopicGroupsCommand(), newTopicStatsCommand(), newTopicAllocateCommand())
}

// topicFlags are the flags of topic create and update.
type topicFlags struct {
	clusterFlags
	scope
	queues, read, write int32
	perm                string
	order               bool
	attributes          []string
}

const (
	defaultQueues = 8
	queuesMax     = 65536
	// routeWait is how long a new topic may take to reach the name server.
	routeWait = 10 * time.Second
	// orderNamespace is where the name server keeps which queues ordered topics have (NamesrvUtil).
	orderNamespace = "ORDER_TOPIC_CONFIG"
)

func (f *topicFlags) add(c *cobra.Command) {
	f.clusterFlags.add(c)
	f.scope.add(c)
	fs := c.Flags()
	fs.Int32Var(&f.queues, "queues", defaultQueues, "queues on each broker")
	fs.Int32Var(&f.read, "read-queues", 0, "queues that are read, where not all are (default --queues)")
	fs.Int32Var(&f.write, "write-queues", 0, "queues that are written, where not all are (default --queues)")
	fs.StringVar(&f.perm, "perm", "rw", "permission: r, w or rw")
	fs.BoolVar(&f.order, "order", false, "ordered topic: the name server is told its queues, which then stay where they are")
	fs.StringArrayVar(&f.attributes, "attribute", nil, "attribute, +name=value to set it or -name to remove it (repeatable)")
}

func newTopicCreateCommand() *cobra.Command {
	var f topicFlags
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a topic, or set all of an existing one",
		Long: "Creates a topic on every broker of the cluster. One that exists gets these settings, defaults included; to change some of them use\n" +
			"`apogee topic update`.",
		Example: "  apogee topic create orders --queues 16\n  apogee topic create audit --perm w --attribute +message.type=FIFO",
		Args:    takes("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.create(ctx, c, cl, args[0]) })
		},
	}
	f.add(c)
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

// header makes a request of the flags.
func (f *topicFlags) header(topic string) (*protocol.CreateTopicHeader, error) {
	if err := message.CheckTopic(topic); err != nil {
		return nil, asUsage(err)
	}
	if message.IsSystemTopic(topic) {
		return nil, usagef("topic %q belongs to the system: choose another name", topic)
	}
	perm, err := parsePerm(f.perm)
	if err != nil {
		return nil, err
	}
	for _, a := range f.attributes {
		if len(a) < 2 || !strings.Contains("+-", a[:1]) || strings.Contains(a, ",") || (a[0] == '+') != strings.Contains(a, "=") {
			return nil, usagef("--attribute %q: want +name=value or -name", a)
		}
	}
	h := &protocol.CreateTopicHeader{
		Topic: topic, DefaultTopic: message.TopicAutoCreate, ReadQueues: f.read, WriteQueues: f.write, Perm: perm,
		FilterType: protocol.FilterTypeSingleTag, Order: f.order, Attributes: strings.Join(f.attributes, ","),
	}
	if h.ReadQueues == 0 {
		h.ReadQueues = f.queues
	}
	if h.WriteQueues == 0 {
		h.WriteQueues = f.queues
	}
	for _, n := range []int32{h.ReadQueues, h.WriteQueues} {
		if n < 1 || n > queuesMax {
			return nil, usagef("%d queues: want 1 to %d", n, queuesMax)
		}
	}
	return h, nil
}

type createdTopic struct {
	Topic       string   `json:"topic"`
	Brokers     []string `json:"brokers"`
	ReadQueues  int32    `json:"read_queues"`
	WriteQueues int32    `json:"write_queues"`
	Perm        string   `json:"perm"`
}

func (f *topicFlags) create(ctx context.Context, c *cobra.Command, cl *cluster, topic string) error {
	h, err := f.header(topic)
	if err != nil {
		return err
	}
	brokers, err := cl.writable(ctx, f.scope)
	if err != nil {
		return err
	}
	for _, b := range brokers {
		if err := cl.setTopic(ctx, b, h); err != nil {
			return err
		}
	}
	return f.finish(ctx, c, cl, topic, brokers, h)
}

func (c *cluster) setTopic(ctx context.Context, b broker, h *protocol.CreateTopicHeader) error {
	_, err := c.ask(ctx, b.addr, request{code: protocol.ReqUpdateAndCreateTopic, header: h}, nil)
	if err != nil {
		return fmt.Errorf("cannot set topic %q on broker %q: %w", h.Topic, b.name, err)
	}
	return nil
}

// finish waits until clients see the topic, and says what it is now.
func (f *topicFlags) finish(ctx context.Context, c *cobra.Command, cl *cluster, topic string, brokers []broker, last *protocol.CreateTopicHeader) error {
	names := namesOf(brokers)
	if f.order {
		var conf []string
		for _, name := range names {
			conf = append(conf, fmt.Sprintf("%s:%d", name, last.WriteQueues))
		}
		if err := cl.putKV(ctx, orderNamespace, topic, strings.Join(conf, ";")); err != nil {
			return err
		}
	}
	if err := cl.awaitRoute(ctx, topic, names); err != nil {
		return err
	}
	v := createdTopic{topic, names, last.ReadQueues, last.WriteQueues, permText(last.Perm)}
	return f.out.say(c, v, "topic %s: %d queues (%s) on %s", topic, v.WriteQueues, v.Perm, strings.Join(names, ", "))
}

func newTopicUpdateCommand() *cobra.Command {
	var f topicFlags
	c := &cobra.Command{
		Use:   "update NAME",
		Short: "Change permission, queues or attributes of a topic",
		Long: "Changes what is given by flags and leaves the rest as it is, on each broker that has the topic. Fewer queues hide what the others\n" +
			"hold: let the consumers drain them first (--write-queues, then --read-queues).",
		Example: "  apogee topic update orders --perm r\n  apogee topic update orders --write-queues 4",
		Args:    takes("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.update(ctx, c, cl, args[0]) })
		},
	}
	f.add(c)
	completeArgs(c, topicNames)
	return c
}

func (f *topicFlags) update(ctx context.Context, c *cobra.Command, cl *cluster, topic string) error {
	given := c.Flags().Changed
	if !slices.ContainsFunc([]string{"queues", "read-queues", "write-queues", "perm", "order", "attribute"}, given) {
		return usagef("nothing to change: give --queues, --read-queues, --write-queues, --perm, --order or --attribute")
	}
	change, err := f.header(topic)
	if err != nil {
		return err
	}
	brokers, err := cl.topicBrokers(ctx, topic, f.scope)
	if err != nil {
		return err
	}
	var h *protocol.CreateTopicHeader
	for _, b := range brokers {
		now, err := fetch[protocol.TopicConfig](ctx, cl, b.addr, protocol.ReqGetTopicConfig, &protocol.TopicHeader{Topic: topic})
		if err != nil {
			return err
		}
		h = &protocol.CreateTopicHeader{
			Topic: topic, DefaultTopic: message.TopicAutoCreate, ReadQueues: now.ReadQueues, WriteQueues: now.WriteQueues, Perm: now.Perm,
			FilterType: now.FilterType, SysFlag: now.SysFlag, Order: now.Order, Attributes: change.Attributes,
		}
		if given("queues") || given("read-queues") {
			h.ReadQueues = change.ReadQueues
		}
		if given("queues") || given("write-queues") {
			h.WriteQueues = change.WriteQueues
		}
		if given("perm") {
			h.Perm = change.Perm
		}
		if given("order") {
			h.Order = change.Order
		}
		if err := cl.setTopic(ctx, b, h); err != nil {
			return err
		}
	}
	return f.finish(ctx, c, cl, topic, brokers, h)
}

// topicBrokers returns the brokers of the scope that have the topic.
func (c *cluster) topicBrokers(ctx context.Context, topic string, s scope) ([]broker, error) {
	route, err := c.route(ctx, topic)
	if err != nil {
		return nil, err
	}
	list, err := c.brokers(ctx, s)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(b broker) bool { return !hasAll(route, []string{b.name}) })
	if len(list) == 0 {
		return nil, fmt.Errorf("topic %q is not on the chosen brokers; it is on: %s", topic, strings.Join(summary(topic, route).Brokers, ", "))
	}
	return list, nil
}

// awaitRoute waits until the name server tells clients of the topic on all brokers.
func (c *cluster) awaitRoute(ctx context.Context, topic string, brokers []string) error {
	for deadline := time.Now().Add(routeWait); ; {
		route, err := c.route(ctx, topic)
		var missing *errNoTopic
		if err != nil && !errors.As(err, &missing) {
			return err
		}
		if err == nil && hasAll(route, brokers) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("topic %q was created, but the name server does not list it on %s after %s", topic, strings.Join(brokers, ", "), routeWait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func hasAll(r *protocol.TopicRoute, brokers []string) bool {
	for _, name := range brokers {
		if !slices.ContainsFunc(r.Queues, func(q protocol.QueueData) bool { return q.BrokerName == name }) {
			return false
		}
	}
	return true
}

func newTopicListCommand() *cobra.Command {
	var f clusterFlags
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List topics",
		Args:  takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				topics, err := cl.topics(ctx, all)
				if err != nil {
					return err
				}
				t := newTable("TOPIC", "BROKERS", "READ QUEUES", "WRITE QUEUES", "PERM")
				for _, l := range topics {
					t.add(l.Topic, strings.Join(l.Brokers, ","), l.ReadQueues, l.WriteQueues, l.Perm)
				}
				return f.out.print(c, topics, t.write)
			})
		},
	}
	f.add(c)
	c.Flags().BoolVar(&all, "all", false, "system, retry and dead-letter topics too")
	return c
}

// topicNames returns all topics, sorted.
func (c *cluster) topicNames(ctx context.Context) ([]string, error) {
	answer, err := c.askNameServer(ctx, request{code: protocol.ReqGetAllTopicListFromNameserver})
	if err != nil {
		return nil, err
	}
	var list protocol.TopicList
	err = protocol.UnmarshalBody(answer.Body, &list)
	slices.Sort(list.Topics)
	return list.Topics, err
}

// topics lists the topics with the sum of their queues.
func (c *cluster) topics(ctx context.Context, all bool) ([]createdTopic, error) {
	names, err := c.topicNames(ctx)
	if err != nil {
		return nil, err
	}
	info, err := c.info(ctx)
	if err != nil {
		return nil, err
	}
	if !all {
		names = slices.DeleteFunc(names, func(name string) bool { return isInternal(name, info) })
	}
	out := make([]createdTopic, len(names))
	err = each(len(names), func(i int) error {
		route, err := c.route(ctx, names[i])
		var gone *errNoTopic
		if errors.As(err, &gone) {
			return nil
		}
		if err == nil {
			out[i] = summary(names[i], route)
		}
		return err
	})
	return slices.DeleteFunc(out, func(t createdTopic) bool { return t.Topic == "" }), err
}

func summary(topic string, r *protocol.TopicRoute) createdTopic {
	s := createdTopic{Topic: topic, Brokers: []string{}}
	perm := int32(0)
	for _, q := range r.Queues {
		s.Brokers = append(s.Brokers, q.BrokerName)
		s.ReadQueues += q.ReadQueues
		s.WriteQueues += q.WriteQueues
		perm |= q.Perm
	}
	s.Perm = permText(perm)
	return s
}

// isInternal tells whether nobody created the topic: brokers and clusters have one under their own name.
func isInternal(topic string, info *protocol.ClusterInfo) bool {
	_, cluster := info.Clusters[topic]
	_, broker := info.Brokers[topic]
	return cluster || broker || message.IsSystemTopic(topic) || strings.HasPrefix(topic, message.RetryPrefix) ||
		strings.HasPrefix(topic, message.DLQPrefix) || strings.HasSuffix(topic, "_"+message.ReplyTopicSuffix)
}

func newTopicDeleteCommand() *cobra.Command {
	var f clusterFlags
	var yes bool
	c := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a topic and its messages",
		Args:  takes("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				if _, err := cl.route(ctx, args[0]); err != nil {
					return err
				}
				if err := confirm(c, yes, fmt.Sprintf("Delete topic %s and all its messages?", args[0])); err != nil {
					return err
				}
				if err := cl.deleteTopic(ctx, args[0]); err != nil {
					return err
				}
				return f.out.say(c, map[string]string{"deleted": args[0]}, "topic %s deleted", args[0])
			})
		},
	}
	f.add(c)
	addYes(c, &yes)
	completeArgs(c, topicNames)
	return c
}

// deleteTopic deletes a topic wherever it is: on brokers, in routes, and its order configuration.
func (c *cluster) deleteTopic(ctx context.Context, topic string) error {
	route, err := c.route(ctx, topic)
	if err != nil {
		return err
	}
	for _, b := range route.Brokers {
		for _, addr := range b.Addrs {
			if _, err := c.ask(ctx, addr, request{code: protocol.ReqDeleteTopicInBroker, header: &protocol.TopicHeader{Topic: topic}}, nil); err != nil {
				return fmt.Errorf("cannot delete topic %q on broker %q: %w", topic, b.BrokerName, err)
			}
		}
	}
	err = c.askNameServers(ctx, request{code: protocol.ReqDeleteTopicInNamesrv, header: &protocol.DeleteTopicHeader{Topic: topic}})
	if err != nil {
		return fmt.Errorf("cannot delete the route of topic %q: %w", topic, err)
	}
	return c.askNameServers(ctx, request{code: protocol.ReqDeleteKVConfig, header: &protocol.KVHeader{Namespace: orderNamespace, Key: topic}})
}
