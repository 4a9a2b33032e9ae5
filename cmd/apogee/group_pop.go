package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// poppedTopic is what a group pops of a topic on a broker.
type poppedTopic struct {
	Topic    string  `json:"topic"`
	Broker   string  `json:"broker"`
	Mode     string  `json:"mode"`      // POP or PULL
	Share    int32   `json:"share"`     // how many further members' queues a member pops
	Waiting  int32   `json:"waiting"`   // pops that wait for a message
	InFlight int64   `json:"in_flight"` // handed out, and not acknowledged by all before them
	Retries  int64   `json:"retries"`   // in the retry topic, not acknowledged
	Lag      int64   `json:"lag"`
	Behind   float64 `json:"behind_seconds"`
}

func newGroupPopCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	c := &cobra.Command{
		Use:   "pop NAME",
		Short: "Show what a group pops: mode, open deliveries, retries, waiting requests",
		Long: "Shows the topics that a group consumes, and how. IN FLIGHT counts what was handed out behind the first message that is not acknowledged;\n" +
			"RETRIES what was not acknowledged in time, or refused, and is still to be consumed; WAITING the pops that wait for a message.",
		Args: takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				brokers, _, err := cl.group(ctx, args[0], s)
				if err != nil {
					return err
				}
				list, err := cl.popped(ctx, args[0], brokers)
				if err != nil {
					return err
				}
				return f.out.print(c, list, func(w io.Writer) error { return writePopped(w, list) })
			})
		},
	}
	f.add(c)
	s.add(c)
	completeArgs(c, groupNames)
	return c
}

func writePopped(w io.Writer, list []poppedTopic) error {
	t := newTable("TOPIC", "BROKER", "MODE", "SHARE", "WAITING", "IN FLIGHT", "RETRIES", "LAG", "BEHIND")
	for _, p := range list {
		t.add(p.Topic, p.Broker, p.Mode, p.Share, p.Waiting, p.InFlight, p.Retries, p.Lag, behindText(p.Behind))
	}
	return t.write(w)
}

// popped adds up what a group has of each topic, retries included.
func (c *cluster) popped(ctx context.Context, group string, brokers []broker) ([]poppedTopic, error) {
	list := []poppedTopic{}
	for _, b := range brokers {
		modes, err := fetch[protocol.RequestModes](ctx, c, b.addr, protocol.ReqGetAllMessageRequestMode, nil)
		if err != nil {
			return nil, err
		}
		p, err := c.progress(ctx, group, "", []broker{b})
		if err != nil {
			return nil, err
		}
		of := map[string]*poppedTopic{}
		topic := func(name string) *poppedTopic {
			if of[name] == nil {
				of[name] = &poppedTopic{Topic: name, Broker: b.name, Mode: protocol.ModePull}
			}
			return of[name]
		}
		queues := map[string][]int32{}
		for _, q := range p.Queues {
			name, retry := poppedOf(q.Topic, group)
			t := topic(name)
			t.Behind, t.InFlight = max(t.Behind, q.Behind), t.InFlight+q.InFlight
			if retry {
				t.Retries += q.Lag
				continue
			}
			t.Lag += q.Lag
			queues[name] = append(queues[name], q.Queue)
		}
		for name, groups := range modes.Modes {
			if m, ok := groups[group]; ok {
				t := topic(name)
				t.Mode, t.Share = m.Mode, m.PopShareQueues
			}
		}
		for name, t := range of {
			if t.Waiting, err = c.waitingPops(ctx, group, name, b, queues[name]); err != nil {
				return nil, err
			}
			list = append(list, *t)
		}
	}
	slices.SortFunc(list, func(a, b poppedTopic) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Broker, b.Broker))
	})
	return list, nil
}

// poppedOf returns the topic that a group's retry topic belongs to. That of consumers that do not pop belongs to no topic.
func poppedOf(topic, group string) (of string, retry bool) {
	for _, v2 := range []bool{true, false} {
		if of, retry = strings.CutPrefix(topic, message.PopRetryTopic("", group, v2)); retry {
			return of, true
		}
	}
	return topic, false
}

// addRetries adds the retry topics of what a group pops. They are asked for by name: brokers leave them out of the progress of a group whose
// members are online, and do not subscribe to them.
func (c *cluster) addRetries(ctx context.Context, s *protocol.ConsumeStats, group string, b broker) error {
	there, names := map[string]bool{}, []string{}
	for _, e := range s.Offsets {
		there[e.Queue.Topic] = true
	}
	for topic := range there {
		for _, v2 := range []bool{true, false} {
			if name := message.PopRetryTopic(topic, group, v2); !there[name] && !strings.HasPrefix(topic, message.RetryPrefix) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	h := &protocol.ConsumeStatsHeader{Group: group, TopicList: strings.Join(names, ";")}
	retries, err := fetch[protocol.ConsumeStats](ctx, c, b.addr, protocol.ReqGetConsumeStats, h)
	if err != nil {
		return err
	}
	others := map[string]bool{} // a name of the old form may be that of another group's retries
	for _, e := range retries.Offsets {
		topic := e.Queue.Topic
		if _, asked := others[topic]; !asked {
			groups, err := c.groupsOf(ctx, topic, []broker{b})
			if err != nil {
				return err
			}
			others[topic] = slices.Contains(groups, strings.TrimPrefix(topic, message.RetryPrefix))
		}
		if !others[topic] {
			s.Offsets = append(s.Offsets, e)
		}
	}
	return nil
}

// waitingPops counts the pops of a topic that wait: those of any queue, and those of one.
func (c *cluster) waitingPops(ctx context.Context, group, topic string, b broker, queues []int32) (n int32, err error) {
	for _, id := range append([]int32{-1}, queues...) {
		var r protocol.PollingInfoResult
		h := &protocol.PollingInfoHeader{Group: group, Topic: topic, QueueID: id}
		_, err := c.ask(ctx, b.addr, request{code: protocol.ReqPollingInfo, header: h}, &r)
		if isCode(err, protocol.RespTopicNotExist) {
			return 0, nil // it was deleted, and the group's mode for it stays
		}
		if err != nil {
			return 0, err
		}
		n += r.Polling
	}
	return n, nil
}

func newGroupSetModeCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	m := protocol.RequestMode{}
	c := &cobra.Command{
		Use:   "set-mode NAME --topic TOPIC --mode pop|pull",
		Short: "Have a group's push consumers pop a topic, or pull it again",
		Long: "Changes how the group's push consumers get a topic's messages, those of RocketMQ's clients with setClientRebalance(false). They change\n" +
			"over when they next ask for their queues, within 20 s. With pop each member gets messages of all queues; --share limits that.",
		Args: takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			m.Group, m.Mode = args[0], strings.ToUpper(m.Mode)
			switch {
			case m.Topic == "":
				return usagef("for which topic? Give --topic: %s", c.UseLine())
			case m.Mode != protocol.ModePop && m.Mode != protocol.ModePull:
				return usagef("--mode %q: want pop or pull", strings.ToLower(m.Mode))
			case m.PopShareQueues < 0:
				return usagef("--share %d: want 0 (all queues) or more", m.PopShareQueues)
			}
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				brokers, _, err := cl.group(ctx, m.Group, s)
				if err != nil {
					return err
				}
				for _, b := range brokers {
					if _, err := cl.ask(ctx, b.addr, request{code: protocol.ReqSetMessageRequestMode, body: protocol.MarshalBody(m)}, nil); err != nil {
						return fmt.Errorf("cannot set the mode of group %q on broker %q: %w", m.Group, b.name, err)
					}
				}
				return f.out.say(c, m, "group %s: %s of topic %s on %s", m.Group, strings.ToLower(m.Mode), m.Topic, strings.Join(namesOf(brokers), ", "))
			})
		},
	}
	f.add(c)
	s.add(c)
	c.Flags().StringVar(&m.Topic, "topic", "", "topic (required)")
	c.Flags().StringVar(&m.Mode, "mode", "", "pop or pull (required)")
	c.Flags().Int32Var(&m.PopShareQueues, "share", 0, "with pop: how many further members' queues a member pops (0: all queues)")
	completeArgs(c, groupNames)
	completeFlag(c, "topic", topicNames)
	return c
}
