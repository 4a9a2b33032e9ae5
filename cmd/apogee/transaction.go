package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

func newTransactionCommand() *cobra.Command {
	return noun("transaction", "Transactions: what is pending, and checks",
		"A transactional message is a half message until its producer commits it or rolls it back. A broker asks the producer of one that stays\n"+
			"pending, and gives up after transactionCheckMax checks; such a message can be resumed.",
		newTransactionListCommand(), newTransactionResumeCommand())
}

// halfMessage is one that is pending, or was given up.
type halfMessage struct {
	Topic       string     `json:"topic"`
	Broker      string     `json:"broker"`
	Group       string     `json:"producer_group"`
	Born        time.Time  `json:"born"`
	Age         float64    `json:"age_seconds"`
	Checks      int        `json:"checks"`
	Next        *time.Time `json:"next_check_by,omitempty"` // the latest; none of one that was given up
	ID          string     `json:"id,omitempty"`
	Transaction string     `json:"transaction_id,omitempty"`
	OffsetID    string     `json:"offset_id"`
}

// pendingList is what transaction list prints.
type pendingList struct {
	Count    int           `json:"count"` // of all, listed or not
	More     bool          `json:"more"`  // --scan ended the search
	Messages []halfMessage `json:"messages"`
}

// transactionFlags are those of transaction list.
type transactionFlags struct {
	clusterFlags
	scope
	topic, group string
	givenUp      bool
	max          int
	scan         int64
}

func newTransactionListCommand() *cobra.Command {
	var f transactionFlags
	c := &cobra.Command{
		Use:   "list [TOPIC]",
		Short: "List half messages that are neither committed nor rolled back",
		Long: "Lists half messages, the oldest first: how often their producers were asked, and by when they will be asked next. It reads the\n" +
			"brokers' half messages; RocketMQ writes down who has ended seconds later only, so that such a message is listed for as long.\n\n" +
			"--given-up lists those that brokers ask for no more. It stays there when it is resumed, or its producer decides late.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if f.max < 0 || f.scan < 1 {
				return usagef("--max %d --scan %d: want 0 (no limit) or more, and 1 or more", f.max, f.scan)
			}
			f.topic = strings.Join(args, "")
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.list(ctx, c, cl) })
		},
	}
	f.clusterFlags.add(c)
	f.scope.add(c)
	fs := c.Flags()
	fs.StringVar(&f.group, "group", "", "of this producer group only")
	fs.BoolVar(&f.givenUp, "given-up", false, "those that were checked too often")
	fs.IntVar(&f.max, "max", 100, "list at most this many (0: no limit)")
	fs.Int64Var(&f.scan, "scan", 100_000, "read at most this many messages of each broker's topics")
	completeArgs(c, topicNames)
	return c
}

func (f *transactionFlags) list(ctx context.Context, c *cobra.Command, cl *cluster) error {
	brokers, err := cl.brokers(ctx, f.scope)
	if err != nil {
		return err
	}
	all := pendingList{Messages: []halfMessage{}}
	for _, b := range brokers {
		find := f.pending
		if f.givenUp {
			find = f.lost
		}
		more, err := find(ctx, c, cl, b, func(h halfMessage) {
			if f.topic != "" && h.Topic != f.topic || f.group != "" && h.Group != f.group {
				return
			}
			if all.Count++; f.max == 0 || len(all.Messages) < 2*f.max {
				all.Messages = append(all.Messages, h)
			}
		})
		if err != nil {
			return err
		}
		all.More = all.More || more
		all.trim(f.max)
	}
	return f.out.print(c, &all, func(w io.Writer) error { return all.write(w, f.givenUp) })
}

// trim leaves the oldest.
func (l *pendingList) trim(most int) {
	slices.SortStableFunc(l.Messages, func(a, b halfMessage) int { return a.Born.Compare(b.Born) })
	if most > 0 && len(l.Messages) > most {
		l.Messages = l.Messages[:most]
	}
}

func (l *pendingList) write(w io.Writer, givenUp bool) error {
	t := newTable("TOPIC", "BROKER", "GROUP", "AGE", "CHECKS", "NEXT CHECK", "TRANSACTION", "OFFSET ID")
	for _, h := range l.Messages {
		next := "never"
		if h.Next != nil {
			next = "within " + behindText(max(time.Until(*h.Next).Seconds(), 0))
		}
		t.add(h.Topic, h.Broker, h.Group, behindText(h.Age), h.Checks, next, cmp.Or(h.Transaction, h.ID), h.OffsetID)
	}
	if err := t.write(w); err != nil {
		return err
	}
	if n := l.Count - len(l.Messages); n > 0 {
		fmt.Fprintf(w, "%d more; --max lists more of them\n", n)
	}
	if l.More {
		fmt.Fprintln(w, "There are more messages than --scan allows to read: there may be more half messages.")
	}
	if givenUp && len(l.Messages) > 0 {
		fmt.Fprintln(w, "`apogee transaction resume OFFSET-ID` has one checked again.")
	}
	return nil
}

func (f *transactionFlags) half(r *message.Record, b broker, now time.Time) halfMessage {
	text := func(name string) string { return string(message.Property(r.Properties, name)) }
	h := halfMessage{
		Topic: text(message.PropRealTopic), Broker: b.name, Group: text(message.PropProducerGroup), Born: time.UnixMilli(r.BornTime),
		ID: text(message.PropUniqueKey), Transaction: text(message.PropTransactionID),
		OffsetID: string(message.AppendOffsetID(nil, r.StoreHost, r.PhysicalOffset)),
	}
	h.Age = now.Sub(h.Born).Seconds()
	h.Checks, _ = strconv.Atoi(text(message.PropCheckTimes)) // none yet: not there
	return h
}

// pending finds the half messages of a broker that have not ended, as RocketMQ does: those from its group's offset on that the topic of what
// has ended does not name. What was put back for a check stands there again; the last one counts.
func (f *transactionFlags) pending(ctx context.Context, c *cobra.Command, cl *cluster, b broker, fn func(halfMessage)) (more bool, err error) {
	checks, err := cl.checkRules(ctx, b)
	if err != nil {
		return false, err
	}
	over := map[int64]bool{}
	ops, err := f.sinceGroup(ctx, newScan(c, cl, b, message.TopicOpHalf, f.scan), func(r *message.Record) {
		for text := range strings.SplitSeq(string(r.Body), ",") {
			if offset, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil {
				over[offset] = true
			}
		}
	})
	if err != nil {
		return false, err
	}
	now := time.Now()
	found, at := []halfMessage{}, map[string]int{} // by transaction id
	halves, err := f.sinceGroup(ctx, newScan(c, cl, b, message.TopicHalf, f.scan), func(r *message.Record) {
		if over[r.QueueOffset] {
			return
		}
		h := f.half(r, b, now)
		next := checks.by(r, now)
		h.Next = &next
		if i, again := at[h.ID]; again && h.ID != "" {
			found[i] = h
			return
		}
		at[h.ID] = len(found)
		found = append(found, h)
	})
	for _, h := range found {
		fn(h)
	}
	return ops || halves, err
}

// sinceGroup reads a topic of half messages from the offset of RocketMQ's own group on.
func (f *transactionFlags) sinceGroup(ctx context.Context, s *scan, fn func(*message.Record)) (more bool, err error) {
	s.group = message.GroupTransactions
	low, high, err := s.bounds(ctx)
	if err != nil {
		return false, err
	}
	from, known, err := s.cl.committed(ctx, s.group, s.topic, s.at)
	if err != nil {
		return false, err
	}
	if known {
		low = max(low, from)
	}
	return s.each(ctx, low, high, fn)
}

// lost finds the half messages of a broker that it gave up.
func (f *transactionFlags) lost(ctx context.Context, c *cobra.Command, cl *cluster, b broker, fn func(halfMessage)) (more bool, err error) {
	s := newScan(c, cl, b, message.TopicCheckMax, f.scan)
	low, high, err := s.bounds(ctx)
	if isCode(err, protocol.RespTopicNotExist) {
		return false, nil // it comes with the first such message
	}
	if err != nil {
		return false, err
	}
	now := time.Now()
	return s.each(ctx, low, high, func(r *message.Record) { fn(f.half(r, b, now)) })
}

// checkRules say when a broker asks for half messages.
type checkRules struct{ timeout, interval time.Duration }

func (c *cluster) checkRules(ctx context.Context, b broker) (rules checkRules, err error) {
	answer, err := c.ask(ctx, b.addr, request{code: protocol.ReqGetBrokerConfig}, nil)
	if err != nil {
		return rules, err
	}
	values, err := pick(answer.Body, []string{"transactionTimeOut", "transactionCheckInterval"}, "broker "+b.name)
	if err != nil {
		return rules, err
	}
	ms := func(name string) time.Duration {
		n, _ := strconv.ParseInt(values[name], 10, 64) // a broker's own numbers
		return time.Duration(n) * time.Millisecond
	}
	return checkRules{ms("transactionTimeOut"), ms("transactionCheckInterval")}, nil
}

// by returns when a half message is checked at the latest: in the round after it has come of age.
func (c checkRules) by(r *message.Record, now time.Time) time.Time {
	wait := c.timeout
	if text := message.Property(r.Properties, message.PropCheckImmunity); text != nil {
		if n, err := strconv.ParseInt(string(text), 10, 32); err == nil && n != -1 {
			wait = time.Duration(n) * time.Second
		}
	}
	at := time.UnixMilli(r.BornTime).Add(wait)
	if at.Before(now) {
		at = now
	}
	return at.Add(c.interval)
}

func newTransactionResumeCommand() *cobra.Command {
	var f clusterFlags
	var name string
	c := &cobra.Command{
		Use:   "resume OFFSET-ID...",
		Short: "Have half messages checked again that were given up",
		Long: "Makes half messages of those that a broker gave up after transactionCheckMax checks, so that their producers are asked again.\n" +
			"`apogee transaction list --given-up` shows their ids.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which messages? Give their offset ids: %s", c.UseLine())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			for _, id := range args {
				if _, _, err := message.ParseOffsetID(id); err != nil {
					return asUsage(err)
				}
			}
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				for _, id := range args {
					if err := cl.resumeCheck(ctx, id, name); err != nil {
						return err
					}
				}
				return f.out.say(c, map[string]int{"resumed": len(args)}, "%d half messages will be checked again", len(args))
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&name, "broker", "", "broker (name) that the ids are of, where its address is another by now")
	completeFlag(c, "broker", brokerNames)
	return c
}

func (c *cluster) resumeCheck(ctx context.Context, id, name string) error {
	host, position, err := message.ParseOffsetID(id)
	if err != nil {
		return err
	}
	brokers, err := c.brokers(ctx, scope{broker: name})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(brokers, func(b broker) bool { return name != "" || b.addr == host.String() })
	if i < 0 {
		return fmt.Errorf("id %s names broker %s, which is not registered under that address; name it with --broker", id, host)
	}
	answer, err := c.ask(ctx, brokers[i].addr, request{code: protocol.ReqViewMessageByID, header: &protocol.ViewMessageHeader{Offset: position}}, nil)
	if err != nil {
		return fmt.Errorf("id %s: %w", id, err)
	}
	// RocketMQ makes a half message of any message.
	if m, _, err := message.Decode(answer.Body); err != nil || string(m.Topic) != message.TopicCheckMax {
		return fmt.Errorf("id %s: is no message that was given up; `apogee transaction list --given-up` lists them", id)
	}
	h := &protocol.ResumeCheckHeader{Topic: message.TopicCheckMax, MsgID: id}
	if _, err := c.ask(ctx, brokers[i].addr, request{code: protocol.ReqResumeCheckHalfMessage, header: h}, nil); err != nil {
		return fmt.Errorf("id %s: %w", id, err)
	}
	return nil
}
