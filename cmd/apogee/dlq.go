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

func newDLQCommand() *cobra.Command {
	return noun("dlq", "Dead letters: messages that a group has failed to consume too often",
		"A message that a group fails to consume more often than its retries allow goes to the group's dead-letter topic, %DLQ%GROUP. It stays\n"+
			"there: sending it again leaves it in the list.",
		newDLQListCommand(), newDLQBrowseCommand(), newDLQResendCommand())
}

// deadLetters are those of one group.
type deadLetters struct {
	Group    string     `json:"group"`
	Messages int64      `json:"messages"`
	Last     *time.Time `json:"last,omitempty"`
}

func newDLQListCommand() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the groups that have dead letters",
		Args:  takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				groups, err := deadGroups(ctx, cl)
				if err != nil {
					return err
				}
				list, t := []deadLetters{}, newTable("GROUP", "MESSAGES", "LAST")
				for _, g := range groups {
					d, err := cl.describe(ctx, message.DLQTopic(g))
					if err != nil {
						return err
					}
					l := deadLetters{g, d.Messages, d.last()}
					list = append(list, l)
					t.add(g, l.Messages, timeText(l.Last))
				}
				return f.out.print(c, list, t.write)
			})
		},
	}
	f.add(c)
	return c
}

// deadTopic returns a group's dead-letter topic, which there is when the group has failed.
func (c *cluster) deadTopic(ctx context.Context, group string) (string, error) {
	if err := message.CheckGroup(group); err != nil {
		return "", asUsage(err)
	}
	topic := message.DLQTopic(group)
	if _, err := c.route(ctx, topic); isNoTopic(err) {
		return "", fmt.Errorf("group %q has no dead letters; `apogee dlq list` shows who has", group)
	} else if err != nil {
		return "", err
	}
	return topic, nil
}

func newDLQBrowseCommand() *cobra.Command {
	f := consume{queue: -1}
	c := &cobra.Command{
		Use:   "browse GROUP",
		Short: "List a group's dead letters: where each comes from, and how often it was tried",
		Args:  takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error {
				topic, err := cl.deadTopic(ctx, args[0])
				if err != nil {
					return err
				}
				p := newMessagePrinter(&f, c.OutOrStdout(), topic)
				if !f.out.json {
					titles := []string{"BROKER", "QUEUE", "OFFSET", "STORED", "TOPIC", "ATTEMPTS", "ID", "KEYS", "BODY"}
					p.rows(c.OutOrStdout(), titles, func(v *messageView) []any {
						return []any{v.Broker, v.Queue, v.Offset, v.Stored.Format(timeLayout), v.Properties[message.PropRetryTopic], v.Attempts, v.ID,
							strings.Join(v.Keys, " "), cell([]byte(v.Body))}
					})
				}
				return f.all(ctx, cl, topic, p)
			})
		},
	}
	f.add(c)
	f.addSelection(c)
	completeArgs(c, deadGroups)
	return c
}

// all gives a topic's messages to p, as the flags select them.
func (f *consume) all(ctx context.Context, cl *cluster, topic string, p *messagePrinter) error {
	readers, err := f.readers(ctx, cl, topic)
	if err != nil {
		return err
	}
	if err = f.readAll(ctx, cl, topic, readers, p); errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, p.flush())
}

// resend are the flags of dlq resend.
type resend struct {
	consume
	id       string
	every    bool
	toOrigin bool
	yes      bool
	dryRun   bool
	targets  map[string][]queue // looked up so far
}

func newDLQResendCommand() *cobra.Command {
	f := resend{consume: consume{queue: -1}, targets: map[string][]queue{}}
	c := &cobra.Command{
		Use:   "resend GROUP",
		Short: "Send dead letters again, to the group alone or to their topic",
		Long: "Sends dead letters again: to the group's retry topic, which its push consumers read and nobody else; or with --to-topic to the topic\n" +
			"that they come from, where every group gets them. Their attempts begin anew.",
		Example: "  apogee dlq resend billing --all\n  apogee dlq resend billing --queue 0 --from 17 --max 1\n  apogee dlq resend billing --id AC1400...",
		Args:    takes("group"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.run(ctx, c, cl, args[0]) })
		},
	}
	f.add(c)
	f.addSelection(c)
	fs := c.Flags()
	fs.BoolVar(&f.every, "all", false, "all of them")
	fs.StringVar(&f.id, "id", "", "the one with this id (unique key or offset id)")
	fs.BoolVar(&f.toOrigin, "to-topic", false, "to the topic that they come from, for every group")
	fs.BoolVar(&f.dryRun, "dry-run", false, "count them only")
	addYes(c, &f.yes)
	completeArgs(c, deadGroups)
	return c
}

func (f *resend) run(ctx context.Context, c *cobra.Command, cl *cluster, group string) error {
	selected := slices.ContainsFunc([]string{"id", "from", "until", "max", "tag", "queue", "broker"}, c.Flags().Changed)
	if f.every == selected {
		return usagef("which dead letters? Give --all, or choose with --id, --from, --until, --max, --tag, --queue, --broker")
	}
	topic, err := cl.deadTopic(ctx, group)
	if err != nil {
		return err
	}
	n, err := f.forEach(ctx, cl, topic, func(*message.Record) error { return nil })
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("no dead letter of group %q is selected; `apogee dlq browse %s` lists them", group, group)
	}
	if f.dryRun {
		return f.out.say(c, map[string]int64{"selected": n}, "%d dead letters would be sent again", n)
	}
	if err := confirm(c, f.yes, fmt.Sprintf("Send %d dead letters of group %s again?", n, group)); err != nil {
		return err
	}
	bar := newProgress(c.ErrOrStderr())
	sent := int64(0)
	f.max = n // what has come since is not sent
	_, err = f.forEach(ctx, cl, topic, func(m *message.Record) error {
		if err := f.send(ctx, cl, group, m); err != nil {
			return fmt.Errorf("at offset %d of queue %d: %w", m.QueueOffset, m.QueueID, err)
		}
		sent++
		bar.show("resend", float64(sent)/float64(n), fmt.Sprintf("%d of %d", sent, n))
		return nil
	})
	bar.done()
	if err != nil {
		return fmt.Errorf("%w (%d were sent before)", err, sent)
	}
	return f.out.say(c, map[string]int64{"sent": sent}, "%d dead letters sent again", sent)
}

// forEach calls do for every dead letter that is selected, and counts them.
func (f *resend) forEach(ctx context.Context, cl *cluster, topic string, do func(*message.Record) error) (n int64, err error) {
	p := &messagePrinter{left: f.max, each: func(_ string, m *message.Record, _ []byte) error {
		if f.id != "" && f.id != string(message.Property(m.Properties, message.PropUniqueKey)) &&
			!strings.EqualFold(f.id, string(message.AppendOffsetID(nil, m.StoreHost, m.PhysicalOffset))) {
			return nil
		}
		n++
		return do(m)
	}}
	if f.id != "" {
		p.left = 0 // --max counts what is looked at
	}
	return n, f.all(ctx, cl, topic, p)
}

// brokerProperties are set by brokers on what they store or deliver, and would be wrong in a new message.
var brokerProperties = []string{
	message.PropCRC, message.PropWait, message.PropDelay, message.PropMinOffset, message.PropMaxOffset, message.PropRealTopic,
	message.PropRealQueueID, message.PropMaxReconsumeTimes, message.PropTransaction, // its transaction has ended
}

// send stores one dead letter again.
func (f *resend) send(ctx context.Context, cl *cluster, group string, m *message.Record) error {
	target, drop := message.RetryTopic(group), brokerProperties
	if f.toOrigin {
		target = string(message.Property(m.Properties, message.PropRetryTopic))
		if target == "" {
			return errors.New("it does not say which topic it comes from: send it without --to-topic")
		}
		drop = append(slices.Clone(drop), message.PropRetryTopic)
	}
	if f.targets[target] == nil {
		route, err := cl.route(ctx, target)
		if err != nil {
			return err
		}
		if f.targets[target] = queues(route, protocol.PermWrite); len(f.targets[target]) == 0 {
			return fmt.Errorf("topic %q has no queue that can be written (permission %s)", target, summary(target, route).Perm)
		}
	}
	all := f.targets[target]
	q := all[int(m.QueueOffset)%len(all)]
	h := &protocol.SendHeader{
		ProducerGroup: producerGroup, Topic: target, DefaultTopic: message.TopicAutoCreate, DefaultTopicQueues: autoQueues,
		QueueID: q.id, BornTime: m.BornTime, Flag: m.Flag, SysFlag: m.SysFlag & (message.FlagCompressed | message.FlagCompressionMask | message.FlagMultiTags),
		Properties: string(message.AppendWithout(nil, m.Properties, drop...)), BrokerName: q.broker, Short: true,
	}
	_, _, err := cl.send(ctx, q, protocol.ReqSendMessageV2, h, m.Body)
	return err
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(timeLayout)
}

// last is when the newest message was stored.
func (d *topicDescription) last() (last *time.Time) {
	for _, q := range d.Queues {
		if q.Last != nil && (last == nil || q.Last.After(*last)) {
			last = q.Last
		}
	}
	return last
}
