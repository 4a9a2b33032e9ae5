package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

func newTopicCommand() *cobra.Command {
	c := &cobra.Command{Use: "topic", Short: "Create, list, describe and delete topics"}
	c.AddCommand(newTopicCreateCommand(), newTopicListCommand(), newTopicDescribeCommand(), newTopicDeleteCommand())
	return c
}

// withCluster runs a command's work against the cluster.
func withCluster(c *cobra.Command, f *clusterFlags, work func(context.Context, *cluster) error) error {
	cl, err := f.open()
	if err != nil {
		return err
	}
	defer cl.close()
	return work(c.Context(), cl)
}

// topicCreate are the flags of topic create.
type topicCreate struct {
	clusterFlags
	queues, read, write int32
	perm                string
	broker, cluster     string
	order               bool
}

const (
	defaultQueues = 8
	queuesMax     = 100_000
	// routeWait is how long a new topic may take to reach the name server.
	routeWait = 10 * time.Second
)

func newTopicCreateCommand() *cobra.Command {
	var f topicCreate
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a topic, or change it",
		Args:  exactlyOne("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.run(ctx, c, cl, args[0]) })
		},
	}
	f.add(c)
	fs := c.Flags()
	fs.Int32Var(&f.queues, "queues", defaultQueues, "queues on each broker")
	fs.Int32Var(&f.read, "read-queues", 0, "queues that are read, where not all are (default --queues)")
	fs.Int32Var(&f.write, "write-queues", 0, "queues that are written, where not all are (default --queues)")
	fs.StringVar(&f.perm, "perm", "rw", "permission: r, w or rw")
	fs.StringVar(&f.broker, "broker", "", "create it on this broker only (name)")
	fs.StringVar(&f.cluster, "cluster", "", "create it on all brokers of this cluster (default: the only one)")
	fs.BoolVar(&f.order, "order", false, "ordered topic: its queues stay where they are")
	c.MarkFlagsMutuallyExclusive("broker", "cluster")
	return c
}

// exactlyOne is cobra.ExactArgs(1) with an error that says of what.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one %s, got %d: %s", c.CommandPath(), what, len(args), c.UseLine())
		}
		return nil
	}
}

// header checks the flags.
func (f *topicCreate) header(topic string) (*protocol.CreateTopicHeader, error) {
	if err := message.CheckTopic(topic); err != nil {
		return nil, err
	}
	if message.IsSystemTopic(topic) {
		return nil, fmt.Errorf("topic %q belongs to the system: choose another name", topic)
	}
	perm, err := parsePerm(f.perm)
	if err != nil {
		return nil, err
	}
	h := &protocol.CreateTopicHeader{
		Topic: topic, DefaultTopic: message.TopicAutoCreate, ReadQueues: f.read, WriteQueues: f.write, Perm: perm,
		FilterType: protocol.FilterTypeSingleTag, Order: f.order,
	}
	if h.ReadQueues == 0 {
		h.ReadQueues = f.queues
	}
	if h.WriteQueues == 0 {
		h.WriteQueues = f.queues
	}
	for _, n := range []int32{h.ReadQueues, h.WriteQueues} {
		if n < 1 || n > queuesMax {
			return nil, fmt.Errorf("%d queues: want 1 to %d", n, queuesMax)
		}
	}
	return h, nil
}

// brokers returns the brokers to create the topic on, by name.
func (f *topicCreate) brokers(info *protocol.ClusterInfo) (map[string]string, error) {
	out := map[string]string{}
	names := slices.Sorted(maps.Keys(info.Clusters))
	switch {
	case f.broker != "":
		b, ok := info.Brokers[f.broker]
		if !ok {
			return nil, fmt.Errorf("--broker %q: not registered; there are: %s", f.broker, strings.Join(slices.Sorted(maps.Keys(info.Brokers)), ", "))
		}
		out[f.broker] = b.Addrs[0]
		return out, nil
	case f.cluster != "":
		if _, ok := info.Clusters[f.cluster]; !ok {
			return nil, fmt.Errorf("--cluster %q: not registered; there are: %s", f.cluster, strings.Join(names, ", "))
		}
		names = []string{f.cluster}
	case len(names) > 1:
		return nil, fmt.Errorf("there are %d clusters: choose one with --cluster: %s", len(names), strings.Join(names, ", "))
	}
	for _, name := range names {
		for _, broker := range info.Clusters[name] {
			out[broker] = info.Brokers[broker].Addrs[0]
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no broker is registered with the name server: is one running? `apogee start` starts both")
	}
	return out, nil
}

type createdTopic struct {
	Topic       string   `json:"topic"`
	Brokers     []string `json:"brokers"`
	ReadQueues  int32    `json:"read_queues"`
	WriteQueues int32    `json:"write_queues"`
	Perm        string   `json:"perm"`
}

func (f *topicCreate) run(ctx context.Context, c *cobra.Command, cl *cluster, topic string) error {
	h, err := f.header(topic)
	if err != nil {
		return err
	}
	info, err := cl.info(ctx)
	if err != nil {
		return err
	}
	brokers, err := f.brokers(info)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(brokers))
	for _, name := range names {
		if brokers[name] == "" {
			return fmt.Errorf("broker %q has no master: a topic cannot be created on it now", name)
		}
		if _, err := cl.ask(ctx, brokers[name], request{code: protocol.ReqUpdateAndCreateTopic, header: h}, nil); err != nil {
			return fmt.Errorf("cannot create topic %q on broker %q: %w", topic, name, err)
		}
	}
	if err := cl.awaitRoute(ctx, topic, names); err != nil {
		return err
	}
	if f.out.json {
		return f.out.writeJSON(c.OutOrStdout(), createdTopic{topic, names, h.ReadQueues, h.WriteQueues, permText(h.Perm)})
	}
	fmt.Fprintf(c.OutOrStdout(), "topic %s: %d queues (%s) on %s\n", topic, h.WriteQueues, permText(h.Perm), strings.Join(names, ", "))
	return nil
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
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				topics, err := cl.topics(ctx, all)
				if err != nil {
					return err
				}
				if f.out.json {
					return f.out.writeJSON(c.OutOrStdout(), topics)
				}
				t := newTable("TOPIC", "BROKERS", "READ QUEUES", "WRITE QUEUES", "PERM")
				for _, l := range topics {
					t.add(l.Topic, strings.Join(l.Brokers, ","), l.ReadQueues, l.WriteQueues, l.Perm)
				}
				return t.write(c.OutOrStdout())
			})
		},
	}
	f.add(c)
	c.Flags().BoolVar(&all, "all", false, "system, retry and dead-letter topics too")
	return c
}

// topics lists the topics with the sum of their queues.
func (c *cluster) topics(ctx context.Context, all bool) ([]createdTopic, error) {
	answer, err := c.askNameServer(ctx, request{code: protocol.ReqGetAllTopicListFromNameserver})
	if err != nil {
		return nil, err
	}
	var names protocol.TopicList
	if err := protocol.UnmarshalBody(answer.Body, &names); err != nil {
		return nil, err
	}
	info, err := c.info(ctx)
	if err != nil {
		return nil, err
	}
	slices.Sort(names.Topics)
	out := []createdTopic{}
	for _, name := range names.Topics {
		if !all && isInternal(name, info) {
			continue
		}
		route, err := c.route(ctx, name)
		if err != nil {
			var gone *errNoTopic
			if errors.As(err, &gone) {
				continue
			}
			return nil, err
		}
		out = append(out, summary(name, route))
	}
	return out, nil
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
		Args:  exactlyOne("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error { return deleteTopic(ctx, c, cl, &f.out, args[0], yes) })
		},
	}
	f.add(c)
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func deleteTopic(ctx context.Context, c *cobra.Command, cl *cluster, out *output, topic string, yes bool) error {
	route, err := cl.route(ctx, topic)
	if err != nil {
		return err
	}
	if err := confirm(c, yes, fmt.Sprintf("Delete topic %s and all its messages?", topic)); err != nil {
		return err
	}
	for _, b := range route.Brokers {
		for _, addr := range b.Addrs {
			if _, err := cl.ask(ctx, addr, request{code: protocol.ReqDeleteTopicInBroker, header: &protocol.TopicHeader{Topic: topic}}, nil); err != nil {
				return fmt.Errorf("cannot delete topic %q on broker %q: %w", topic, b.BrokerName, err)
			}
		}
	}
	for _, addr := range cl.servers {
		if _, err := cl.ask(ctx, addr, request{code: protocol.ReqDeleteTopicInNamesrv, header: &protocol.DeleteTopicHeader{Topic: topic}}, nil); err != nil {
			return fmt.Errorf("cannot delete the route of topic %q: %w", topic, err)
		}
	}
	if out.json {
		return out.writeJSON(c.OutOrStdout(), map[string]string{"deleted": topic})
	}
	fmt.Fprintf(c.OutOrStdout(), "topic %s deleted\n", topic)
	return nil
}

// confirm asks on a terminal; elsewhere --yes is needed.
func confirm(c *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !isTerminal(in) {
		return fmt.Errorf("this cannot be undone: repeat it with --yes")
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s [y/N] ", question)
	answer, _ := bufio.NewReader(in).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return fmt.Errorf("not deleted")
	}
	return nil
}
