package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// queueProgress is how far a group is in one queue.
type queueProgress struct {
	Topic     string     `json:"topic"`
	Broker    string     `json:"broker"`
	Queue     int32      `json:"queue"`
	End       int64      `json:"end_offset"`
	Committed int64      `json:"committed_offset"`
	Lag       int64      `json:"lag"`
	InFlight  int64      `json:"in_flight"` // given to members and not committed
	Last      *time.Time `json:"last_consumed_stored,omitempty"`
	Behind    float64    `json:"behind_seconds"` // age of the oldest message that is not consumed
	Client    string     `json:"client,omitempty"`
}

// groupProgress is how far a group is, in all or some topics.
type groupProgress struct {
	Group    string          `json:"group"`
	Lag      int64           `json:"lag"`
	InFlight int64           `json:"in_flight"`
	Behind   float64         `json:"behind_seconds"`
	TPS      float64         `json:"messages_per_second"`
	Queues   []queueProgress `json:"queues"`
}

func (p *groupProgress) add(q queueProgress) {
	p.Lag += q.Lag
	p.InFlight += q.InFlight
	p.Behind = max(p.Behind, q.Behind)
	p.Queues = append(p.Queues, q)
}

// byTopic splits the progress, whose queues are sorted.
func (p *groupProgress) byTopic() (topics []groupProgress) {
	for _, q := range p.Queues {
		if n := len(topics); n == 0 || topics[n-1].Queues[0].Topic != q.Topic {
			topics = append(topics, groupProgress{Group: p.Group})
		}
		topics[len(topics)-1].add(q)
	}
	return topics
}

func behindText(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Millisecond).String()
}

// consumeStats asks each broker; topic may be empty.
func (c *cluster) consumeStats(ctx context.Context, group, topic string, brokers []broker) ([]*protocol.ConsumeStats, error) {
	stats := make([]*protocol.ConsumeStats, len(brokers))
	err := each(len(brokers), func(i int) (err error) {
		h := &protocol.ConsumeStatsHeader{Group: group, Topic: topic}
		stats[i], err = fetch[protocol.ConsumeStats](ctx, c, brokers[i].addr, protocol.ReqGetConsumeStats, h)
		return err
	})
	return stats, err
}

// progress returns how far a group is; topic may be empty.
func (c *cluster) progress(ctx context.Context, group, topic string, brokers []broker) (*groupProgress, error) {
	stats, err := c.consumeStats(ctx, group, topic, brokers)
	if err != nil {
		return nil, err
	}
	p := &groupProgress{Group: group, Queues: []queueProgress{}}
	for i, s := range stats {
		if err := c.addRetries(ctx, s, group, brokers[i]); err != nil {
			return nil, err
		}
		p.TPS += s.TPS
		behind, err := c.behind(ctx, group, brokers[i], s)
		if err != nil {
			return nil, err
		}
		for _, e := range s.Offsets {
			q := queueProgress{
				Topic: e.Queue.Topic, Broker: e.Queue.BrokerName, Queue: e.Queue.QueueID, End: e.Value.Broker, Committed: e.Value.Consumer,
				Lag: e.Value.Broker - e.Value.Consumer, InFlight: max(e.Value.Pull-e.Value.Consumer, 0), Behind: behind[e.Queue].Seconds(),
			}
			if e.Value.LastTimestamp > 0 {
				at := time.UnixMilli(e.Value.LastTimestamp)
				q.Last = &at
			}
			p.add(q)
		}
	}
	slices.SortFunc(p.Queues, func(a, b queueProgress) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.Queue, b.Queue))
	})
	return p, nil
}

// behind returns how old the next message is in each queue that has a lag.
func (c *cluster) behind(ctx context.Context, group string, b broker, s *protocol.ConsumeStats) (map[protocol.MessageQueue]time.Duration, error) {
	late, topics := map[protocol.MessageQueue]bool{}, map[string]bool{}
	for _, e := range s.Offsets {
		if e.Value.Broker > e.Value.Consumer {
			late[e.Queue], topics[e.Queue.Topic] = true, true
		}
	}
	out := map[protocol.MessageQueue]time.Duration{}
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		h := &protocol.TopicGroupHeader{Topic: topic, Group: group}
		spans, err := fetch[protocol.ConsumeTimeSpans](ctx, c, b.addr, protocol.ReqQueryConsumeTimeSpan, h)
		if err != nil {
			return nil, err
		}
		for _, span := range spans.Spans {
			if !late[span.Queue] { // of an empty queue RocketMQ says that it is late by all time
				continue
			}
			delay := time.Duration(max(span.Delay, 0)) * time.Millisecond
			if oldest := time.Since(time.UnixMilli(span.MinTime)); delay > oldest { // nor has it a time where a group has no offset
				delay = max(oldest, 0)
			}
			out[span.Queue] = delay
		}
	}
	return out, nil
}

func newGroupLagCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	var topic string
	var clients bool
	c := &cobra.Command{
		Use:   "lag NAME",
		Short: "Show how far a group is in each queue, in messages and in time",
		Long: "Shows how far a group is in each queue. LAG counts the messages that it has not committed, IN FLIGHT those of them that its members\n" +
			"have been given, and BEHIND is the age of the oldest message that it has not committed.",
		Args: takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				brokers, _, err := cl.group(ctx, args[0], s)
				if err != nil {
					return err
				}
				if topic != "" {
					if _, err := cl.route(ctx, topic); err != nil {
						return err
					}
				}
				p, err := cl.progress(ctx, args[0], topic, brokers)
				if err == nil && clients {
					err = cl.addClients(ctx, p, brokers)
				}
				if err != nil {
					return err
				}
				return f.out.print(c, p, func(w io.Writer) error { return p.write(w, clients) })
			})
		},
	}
	f.add(c)
	s.add(c)
	c.Flags().StringVar(&topic, "topic", "", "this topic only")
	c.Flags().BoolVar(&clients, "clients", false, "which member has each queue; asks the members")
	completeArgs(c, groupNames)
	completeFlag(c, "topic", topicNames)
	return c
}

func (p *groupProgress) write(w io.Writer, clients bool) error {
	fmt.Fprintf(w, "group %s: lag %d, in flight %d, behind %s, %s messages/s\n", p.Group, p.Lag, p.InFlight, behindText(p.Behind), rate(p.TPS))
	if len(p.Queues) == 0 {
		fmt.Fprintln(w, "It has committed nothing yet.")
		return nil
	}
	titles := []string{"TOPIC", "BROKER", "QUEUE", "END", "COMMITTED", "LAG", "IN FLIGHT", "BEHIND", "LAST CONSUMED"}
	if clients {
		titles = append(titles, "CLIENT")
	}
	t := newTable(titles...)
	for _, q := range p.Queues {
		last := ""
		if q.Last != nil {
			last = q.Last.Format(timeLayout)
		}
		row := []any{q.Topic, q.Broker, q.Queue, q.End, q.Committed, q.Lag, q.InFlight, behindText(q.Behind), last}
		if clients {
			row = append(row, q.Client)
		}
		t.add(row...)
	}
	fmt.Fprintln(w)
	return t.write(w)
}

// move is what a reset does to one queue.
type move struct {
	Broker string `json:"broker"`
	Queue  int32  `json:"queue"`
	Min    int64  `json:"min_offset"`
	Max    int64  `json:"max_offset"`
	From   int64  `json:"from_offset"` // -1: the group has none
	To     int64  `json:"to_offset"`

	addr string
}

// resetFlags are the flags of group reset and skip.
type resetFlags struct {
	clusterFlags
	scope
	topic, to   string
	queue       int32
	yes, dryRun bool
}

func (f *resetFlags) add(c *cobra.Command) {
	f.clusterFlags.add(c)
	f.scope.add(c)
	c.Flags().StringVar(&f.topic, "topic", "", "topic (required)")
	c.Flags().Int32Var(&f.queue, "queue", -1, "this queue only, of --broker where there are several")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would change, and change nothing")
	addYes(c, &f.yes)
	completeFlag(c, "topic", topicNames)
	completeArgs(c, groupNames)
}

func newGroupResetCommand() *cobra.Command {
	var f resetFlags
	c := &cobra.Command{
		Use:   "reset NAME --topic TOPIC --to WHERE",
		Short: "Move a group's offsets, to a time or a position",
		Long: "Moves a group's offsets in a topic. WHERE is first, last, a queue offset, or a time: the first message stored then or later.\n" +
			"Members that are online go on there at once; a group that is offline when it comes back.",
		Example: "  apogee group reset billing --topic orders --to 2026-01-31T08:00:00Z\n" +
			"  apogee group reset billing --topic orders --to 1000 --queue 3 --yes",
		Args: takes("group"),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	f.add(c)
	c.Flags().StringVar(&f.to, "to", "", "first, last, an offset, or a time (required)")
	return c
}

func newGroupSkipCommand() *cobra.Command {
	f := resetFlags{to: "last"}
	c := &cobra.Command{
		Use:   "skip NAME --topic TOPIC",
		Short: "Skip all that a group has not consumed",
		Args:  takes("group"),
		RunE:  func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	f.add(c)
	return c
}

func (f *resetFlags) run(c *cobra.Command, group string) error {
	if f.topic == "" || f.to == "" {
		return usagef("which offsets, and where to? Give --topic and --to: %s", c.UseLine())
	}
	to, err := parseStart("to", f.to)
	if err != nil {
		return err
	}
	return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error {
		if _, _, err := cl.group(ctx, group, scope{}); err != nil {
			return err
		}
		moves, err := f.plan(ctx, cl, group, to)
		if err != nil {
			return err
		}
		if f.dryRun {
			return f.out.print(c, moves, func(w io.Writer) error { return writeMoves(w, moves) })
		}
		if !f.yes {
			if err := writeMoves(c.ErrOrStderr(), moves); err != nil {
				return err
			}
		}
		if err := confirm(c, f.yes, fmt.Sprintf("Move the offsets of group %s in topic %s?", group, f.topic)); err != nil {
			return err
		}
		if err := cl.reset(ctx, group, f.topic, moves); err != nil {
			return err
		}
		return f.out.print(c, moves, func(w io.Writer) error {
			fmt.Fprintf(w, "group %s: moved in %d queues of topic %s\n", group, len(moves), f.topic)
			return nil
		})
	})
}

func writeMoves(w io.Writer, moves []move) error {
	t := newTable("BROKER", "QUEUE", "MIN OFFSET", "MAX OFFSET", "FROM", "TO")
	for _, m := range moves {
		from := ""
		if m.From >= 0 {
			from = fmt.Sprint(m.From)
		}
		t.add(m.Broker, m.Queue, m.Min, m.Max, from, m.To)
	}
	return t.write(w)
}

// plan finds out what the reset does. Offsets outside a queue become its ends, unless one queue was named.
func (f *resetFlags) plan(ctx context.Context, cl *cluster, group string, to start) ([]move, error) {
	route, err := cl.route(ctx, f.topic)
	if err != nil {
		return nil, err
	}
	if _, err := cl.brokers(ctx, f.scope); err != nil {
		return nil, err
	}
	moves := []move{}
	for _, q := range queues(route, protocol.PermRead) {
		if f.broker != "" && q.broker != f.broker || f.cluster != "" && q.cluster != f.cluster || f.queue >= 0 && q.id != f.queue {
			continue
		}
		m := move{Broker: q.broker, Queue: q.id, From: -1, addr: q.addr}
		if m.Min, m.Max, err = cl.bounds(ctx, f.topic, q); err != nil {
			return nil, err
		}
		if from, ok, err := cl.committed(ctx, group, f.topic, q); err != nil {
			return nil, err
		} else if ok {
			m.From = from
		}
		if m.To, err = cl.locate(ctx, f.topic, q, to, m.Min, m.Max); err != nil {
			return nil, err
		}
		if f.queue >= 0 && to.kind == startOffset && m.To != to.value {
			return nil, fmt.Errorf("--to %d: queue %d of broker %q has offsets %d to %d", to.value, q.id, q.broker, m.Min, m.Max)
		}
		moves = append(moves, m)
	}
	if len(moves) == 0 {
		return nil, fmt.Errorf("topic %q has no such queue to read; `apogee topic describe %s` shows them", f.topic, f.topic)
	}
	return moves, nil
}

// reset moves the offsets; the brokers tell the members.
func (c *cluster) reset(ctx context.Context, group, topic string, moves []move) error {
	return each(len(moves), func(i int) error {
		m := moves[i]
		h := &protocol.ResetOffsetHeader{Topic: topic, Group: group, QueueID: m.Queue, Offset: m.To, Timestamp: -1, Force: true}
		if _, err := c.ask(ctx, m.addr, request{code: protocol.ReqInvokeBrokerToResetOffset, header: h}, nil); err != nil {
			return fmt.Errorf("cannot move queue %d of broker %q to %d: %w", m.Queue, m.Broker, m.To, err)
		}
		return nil
	})
}

func newGroupCloneCommand() *cobra.Command {
	var f clusterFlags
	var topic string
	var yes bool
	c := &cobra.Command{
		Use:   "clone FROM TO",
		Short: "Give a group the offsets of another",
		Args:  takes("group to copy", "group to set"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				from, to := args[0], args[1]
				brokers, _, err := cl.group(ctx, from, scope{})
				if err != nil {
					return err
				}
				if _, _, err := cl.group(ctx, to, scope{}); err != nil {
					return err
				}
				if topic != "" {
					if _, err := cl.route(ctx, topic); err != nil {
						return err
					}
				}
				if err := confirm(c, yes, fmt.Sprintf("Overwrite the offsets of group %s with those of %s?", to, from)); err != nil {
					return err
				}
				n, err := cl.cloneOffsets(ctx, from, to, topic, brokers)
				if err != nil {
					return err
				}
				return f.out.say(c, map[string]any{"group": to, "queues": n}, "group %s: has the offsets of %s in %d queues", to, from, n)
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&topic, "topic", "", "this topic only")
	addYes(c, &yes)
	completeArgs(c, groupNames, groupNames)
	completeFlag(c, "topic", topicNames)
	return c
}

// cloneOffsets copies the offsets that a group has, queue by queue.
func (c *cluster) cloneOffsets(ctx context.Context, from, to, topic string, brokers []broker) (n int, err error) {
	stats, err := c.consumeStats(ctx, from, topic, brokers)
	if err != nil {
		return 0, err
	}
	for i, s := range stats {
		for _, e := range s.Offsets {
			q := queue{broker: e.Queue.BrokerName, addr: brokers[i].addr, id: e.Queue.QueueID}
			offset, ok, err := c.committed(ctx, from, e.Queue.Topic, q)
			if err != nil || !ok || e.Queue.Topic == message.RetryTopic(from) {
				if err != nil {
					return n, err
				}
				continue
			}
			if err := c.commit(ctx, to, e.Queue.Topic, q, offset); err != nil {
				return n, err
			}
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("group %q has no offset to copy", from)
	}
	return n, nil
}
