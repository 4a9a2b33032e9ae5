package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// member is a client of a group.
type member struct {
	Client   string   `json:"client"`
	Address  string   `json:"address"`
	Language string   `json:"language"`
	Version  string   `json:"version"`
	Brokers  []string `json:"brokers"` // that it is connected to
}

// subscription is what the members want of a topic.
type subscription struct {
	Topic      string `json:"topic"`
	Type       string `json:"type"`
	Expression string `json:"expression"`
}

// groupMembers are the members that are online.
type groupMembers struct {
	Group         string         `json:"group"`
	Type          string         `json:"consume_type,omitempty"`
	Model         string         `json:"model,omitempty"`
	From          string         `json:"from_where,omitempty"`
	Members       []member       `json:"members"`
	Subscriptions []subscription `json:"subscriptions"`
}

// clientVersion names the release of a client by its ordinal.
func clientVersion(ordinal int32) string {
	if ordinal >= 413 {
		return rocketVersion(int(ordinal))
	}
	return fmt.Sprintf("4.x or older (%d)", ordinal)
}

// members returns who is online; nobody is no error.
func (c *cluster) members(ctx context.Context, group string, brokers []broker) (*groupMembers, error) {
	m := &groupMembers{Group: group, Members: []member{}, Subscriptions: []subscription{}}
	found := make([]*protocol.ConsumerConnection, len(brokers))
	err := each(len(brokers), func(i int) (err error) {
		h := &protocol.GroupHeader{Group: group}
		found[i], err = fetch[protocol.ConsumerConnection](ctx, c, brokers[i].addr, protocol.ReqGetConsumerConnectionList, h)
		if isCode(err, protocol.RespConsumerNotOnline) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i, on := range found {
		if on == nil {
			continue
		}
		m.Type, m.Model, m.From = on.ConsumeType, on.Model, on.FromWhere
		for _, client := range on.Connections {
			m.add(client, brokers[i].name)
		}
		for _, topic := range slices.Sorted(maps.Keys(on.Subscriptions)) {
			if s := on.Subscriptions[topic]; !seen[topic] {
				seen[topic] = true
				m.Subscriptions = append(m.Subscriptions, subscription{topic, cmp.Or(s.Type, protocol.ExpressionTag), s.Expression})
			}
		}
	}
	slices.SortFunc(m.Members, func(a, b member) int { return cmp.Compare(a.Client, b.Client) })
	return m, nil
}

func (m *groupMembers) add(c protocol.Connection, broker string) {
	i := slices.IndexFunc(m.Members, func(have member) bool { return have.Client == c.ClientID })
	if i < 0 {
		i = len(m.Members)
		m.Members = append(m.Members, member{Client: c.ClientID, Address: strings.TrimPrefix(c.Addr, "/"), Language: c.Language, Version: clientVersion(c.Version)})
	}
	m.Members[i].Brokers = append(m.Members[i].Brokers, broker)
}

func newGroupMembersCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	c := &cobra.Command{
		Use:   "members NAME",
		Short: "Show who consumes as the group, and what is subscribed to",
		Args:  takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				brokers, _, err := cl.group(ctx, args[0], s)
				if err != nil {
					return err
				}
				m, err := cl.members(ctx, args[0], brokers)
				if err != nil {
					return err
				}
				return f.out.print(c, m, m.write)
			})
		},
	}
	f.add(c)
	s.add(c)
	completeArgs(c, groupNames)
	return c
}

func (m *groupMembers) write(w io.Writer) error {
	if len(m.Members) == 0 {
		_, err := fmt.Fprintf(w, "group %s: nobody is online\n", m.Group)
		return err
	}
	fmt.Fprintf(w, "group %s: %d members, %s, %s, %s\n\n", m.Group, len(m.Members), m.Model, m.Type, m.From)
	t := newTable("CLIENT", "ADDRESS", "LANGUAGE", "VERSION", "BROKERS")
	for _, c := range m.Members {
		t.add(c.Client, c.Address, c.Language, c.Version, strings.Join(c.Brokers, ","))
	}
	if err := t.write(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable("TOPIC", "TYPE", "EXPRESSION")
	for _, s := range m.Subscriptions {
		t.add(s.Topic, s.Type, s.Expression)
	}
	return t.write(w)
}

// runningInfo is what a consumer says of itself (ConsumerRunningInfo).
type runningInfo struct {
	Client     string                            `json:"client"`
	Properties map[string]string                 `json:"properties"`
	Queues     protocol.QueueMap[consumingQueue] `json:"mqTable"`
	Topics     map[string]consumeRates           `json:"statusTable"`
	Stack      string                            `json:"jstack,omitempty"`
}

// consumingQueue is a queue that a consumer has (ProcessQueueInfo).
type consumingQueue struct {
	Committed   int64 `json:"commitOffset"`
	Cached      int32 `json:"cachedMsgCount"`
	CachedMiB   int32 `json:"cachedMsgSizeInMiB"`
	Locked      bool  `json:"locked"`
	Dropped     bool  `json:"droped"` // spelt so
	LastPull    int64 `json:"lastPullTimestamp"`
	LastConsume int64 `json:"lastConsumeTimestamp"`
}

// consumeRates are a consumer's rates in a topic (ConsumeStatus).
type consumeRates struct {
	PullRT    float64 `json:"pullRT"`
	PullTPS   float64 `json:"pullTPS"`
	ConsumeRT float64 `json:"consumeRT"`
	OKTPS     float64 `json:"consumeOKTPS"`
	FailedTPS float64 `json:"consumeFailedTPS"`
	Failed    int64   `json:"consumeFailedMsgs"` // of the last hour
}

// MarshalJSON writes the queues as a list, which standard JSON can hold.
func (r *runningInfo) MarshalJSON() ([]byte, error) {
	type queue struct {
		protocol.MessageQueue
		consumingQueue
	}
	v := struct {
		Client     string                  `json:"client"`
		Properties map[string]string       `json:"properties"`
		Queues     []queue                 `json:"queues"`
		Topics     map[string]consumeRates `json:"topics"`
		Stack      string                  `json:"stack,omitempty"`
	}{r.Client, r.Properties, []queue{}, r.Topics, r.Stack}
	for _, e := range r.Queues {
		v.Queues = append(v.Queues, queue{e.Queue, e.Value})
	}
	return json.Marshal(v)
}

// running asks one member what it is doing, through a broker that it is connected to.
func (c *cluster) running(ctx context.Context, group string, m member, brokers []broker, stack bool) (*runningInfo, error) {
	i := slices.IndexFunc(brokers, func(b broker) bool { return b.name == m.Brokers[0] })
	h := &protocol.ClientHeader{Group: group, ClientID: m.Client, Stack: stack}
	r, err := fetch[runningInfo](ctx, c, brokers[i].addr, protocol.ReqGetConsumerRunningInfo, h)
	if err != nil {
		return nil, fmt.Errorf("client %s: %w", m.Client, err)
	}
	r.Client = m.Client
	slices.SortFunc(r.Queues, func(a, b protocol.QueueEntry[consumingQueue]) int {
		return cmp.Or(cmp.Compare(a.Queue.Topic, b.Queue.Topic), cmp.Compare(a.Queue.BrokerName, b.Queue.BrokerName), cmp.Compare(a.Queue.QueueID, b.Queue.QueueID))
	})
	return r, nil
}

// consuming tells whether a member has consumed a message in the last minute; it is not known unless all members tell.
func (c *cluster) consuming(ctx context.Context, m *groupMembers, brokers []broker) (consumes, known bool) {
	known = true
	for _, one := range m.Members {
		r, err := c.running(ctx, m.Group, one, brokers, false)
		if err != nil {
			known = false
			continue
		}
		for _, rates := range r.Topics {
			if rates.OKTPS > 0 {
				return true, true
			}
		}
	}
	return false, known
}

// addClients notes which member has each queue. One that does not answer is passed over.
func (c *cluster) addClients(ctx context.Context, p *groupProgress, brokers []broker) error {
	m, err := c.members(ctx, p.Group, brokers)
	if err != nil {
		return err
	}
	owner := map[protocol.MessageQueue]string{}
	for _, client := range m.Members {
		if r, err := c.running(ctx, p.Group, client, brokers, false); err == nil {
			for _, e := range r.Queues {
				owner[e.Queue] = client.Client
			}
		}
	}
	for i := range p.Queues {
		q := &p.Queues[i]
		q.Client = owner[protocol.MessageQueue{Topic: q.Topic, BrokerName: q.Broker, QueueID: q.Queue}]
	}
	return nil
}

func newGroupStatusCommand() *cobra.Command {
	var f clusterFlags
	var client string
	var stack bool
	c := &cobra.Command{
		Use:   "status NAME",
		Short: "Ask the members what they are doing: their queues, rates and threads",
		Args:  takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				brokers, _, err := cl.group(ctx, args[0], scope{})
				if err != nil {
					return err
				}
				m, err := cl.members(ctx, args[0], brokers)
				if err != nil {
					return err
				}
				list := []*runningInfo{}
				for _, one := range m.Members {
					if client != "" && one.Client != client {
						continue
					}
					r, err := cl.running(ctx, args[0], one, brokers, stack)
					if err != nil {
						return err
					}
					list = append(list, r)
				}
				if len(list) == 0 {
					what := "no member"
					if client != "" {
						what = fmt.Sprintf("no member %q", client)
					}
					return fmt.Errorf("group %q has %s online; `apogee group members %s` lists them", args[0], what, args[0])
				}
				return f.out.print(c, list, func(w io.Writer) error { return writeRunning(w, list) })
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&client, "client", "", "this member only (client id)")
	c.Flags().BoolVar(&stack, "stack", false, "its threads' stacks too (Java clients)")
	completeArgs(c, groupNames)
	return c
}

func msText(ms int64) string {
	if ms <= 0 {
		return ""
	}
	return time.UnixMilli(ms).Format(timeLayout)
}

func writeRunning(w io.Writer, list []*runningInfo) error {
	for i, r := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "client %s\n", r.Client)
		for _, k := range slices.Sorted(maps.Keys(r.Properties)) {
			fmt.Fprintf(w, "  %s: %s\n", k, r.Properties[k])
		}
		fmt.Fprintln(w)
		t := newTable("TOPIC", "BROKER", "QUEUE", "COMMITTED", "CACHED", "MIB", "LOCKED", "DROPPED", "LAST PULL", "LAST CONSUME")
		for _, e := range r.Queues {
			q := e.Value
			t.add(e.Queue.Topic, e.Queue.BrokerName, e.Queue.QueueID, q.Committed, q.Cached, q.CachedMiB, q.Locked, q.Dropped, msText(q.LastPull),
				msText(q.LastConsume))
		}
		if err := t.write(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
		t = newTable("TOPIC", "PULL MS", "PULLS/S", "CONSUME MS", "OK/S", "FAILED/S", "FAILED IN 1H")
		for _, topic := range slices.Sorted(maps.Keys(r.Topics)) {
			s := r.Topics[topic]
			t.add(topic, rate(s.PullRT), rate(s.PullTPS), rate(s.ConsumeRT), rate(s.OKTPS), rate(s.FailedTPS), s.Failed)
		}
		if err := t.write(w); err != nil {
			return err
		}
		if r.Stack != "" {
			fmt.Fprintf(w, "\n%s\n", r.Stack)
		}
	}
	return nil
}
