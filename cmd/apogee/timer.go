package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

func newTimerCommand() *cobra.Command {
	return noun("timer", "Timed messages: what waits for its moment",
		"A message that is sent with --delay or --deliver-at waits for its moment, and can be recalled until then: `apogee message recall`.",
		newTimerCountCommand(), newTimerListCommand())
}

// timedCount is how many messages of a topic wait on a broker.
type timedCount struct {
	Topic    string `json:"topic"`
	Broker   string `json:"broker"`
	Messages int64  `json:"messages"`
}

func newTimerCountCommand() *cobra.Command {
	var f clusterFlags
	var s scope
	var all bool
	c := &cobra.Command{
		Use:   "count",
		Short: "Count the messages that wait for their moment, by topic",
		Args:  takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				brokers, err := cl.brokers(ctx, s)
				if err != nil {
					return err
				}
				list, t := []timedCount{}, newTable("TOPIC", "BROKER", "MESSAGES")
				for _, b := range brokers {
					m, err := fetch[protocol.TimerMetrics](ctx, cl, b.addr, protocol.ReqGetTimerMetrics, nil)
					if err != nil {
						return err
					}
					for _, topic := range slices.Sorted(maps.Keys(m.Timing)) {
						if !all && message.IsSystemTopic(topic) {
							continue
						}
						list = append(list, timedCount{topic, b.name, m.Timing[topic].Count})
						t.add(topic, b.name, m.Timing[topic].Count)
					}
				}
				return f.out.print(c, list, t.write)
			})
		},
	}
	f.add(c)
	s.add(c)
	c.Flags().BoolVar(&all, "all", false, "system topics too: RocketMQ keeps what is popped as timed messages")
	return c
}

// timedMessage is one that waits.
type timedMessage struct {
	Due    time.Time `json:"due"`
	Topic  string    `json:"topic"`
	Broker string    `json:"broker"`
	Queue  string    `json:"queue"`
	ID     string    `json:"id,omitempty"`
	Stored time.Time `json:"stored"`
	Handle string    `json:"recall_handle,omitempty"`
}

// dueWithin counts what is due within a time, and not within the one before it.
type dueWithin struct {
	Seconds  int   `json:"within_seconds,omitempty"` // 0: later
	Messages int64 `json:"messages"`
}

// dueSteps are those of RocketMQ's timer metrics.
var dueSteps = []int{5, 60, 300, 900, 3600, 14_400, 28_800, 86_400, 0}

// timedList is what timer list prints.
type timedList struct {
	Count    int64          `json:"count"` // of all, listed or not
	More     bool           `json:"more"`  // --scan ended the search
	Due      []dueWithin    `json:"due"`
	Messages []timedMessage `json:"messages"` // those due next
}

type timerFlags struct {
	clusterFlags
	scope
	topic string
	max   int
	scan  int64
	all   bool
}

func newTimerListCommand() *cobra.Command {
	var f timerFlags
	c := &cobra.Command{
		Use:   "list [TOPIC]",
		Short: "List messages that wait for their moment, those due next first, and count them by due time",
		Long: "Lists messages that wait, with the handles that recall them. It reads what brokers keep until its moment, the newest messages first, and\n" +
			"leaves out what is due by now or was recalled; where a great many wait, --scan bounds that. `apogee timer count` asks the brokers.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if f.max < 0 || f.scan < 1 {
				return usagef("--max %d --scan %d: want 0 (no limit) or more, and 1 or more", f.max, f.scan)
			}
			f.topic = strings.Join(args, "")
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error {
				l, err := f.list(ctx, c, cl)
				if err != nil {
					return err
				}
				return f.out.print(c, l, l.write)
			})
		},
	}
	f.clusterFlags.add(c)
	f.scope.add(c)
	c.Flags().IntVar(&f.max, "max", 20, "list at most this many (0: no limit)")
	c.Flags().Int64Var(&f.scan, "scan", 1_000_000, "read at most this many messages of each broker")
	c.Flags().BoolVar(&f.all, "all", false, "those of system topics too: RocketMQ keeps what is popped as timed messages")
	completeArgs(c, topicNames)
	return c
}

func (f *timerFlags) list(ctx context.Context, c *cobra.Command, cl *cluster) (*timedList, error) {
	brokers, err := cl.brokers(ctx, f.scope)
	if err != nil {
		return nil, err
	}
	l := &timedList{Messages: []timedMessage{}}
	for _, seconds := range dueSteps {
		l.Due = append(l.Due, dueWithin{Seconds: seconds})
	}
	now := time.Now()
	for _, b := range brokers {
		over := map[string]bool{} // what a later record recalls or replaces
		more, err := newScan(c, cl, b, message.TopicTimerWheel, f.scan).backwards(ctx, func(r *message.Record) {
			if m, ok := waitsStill(r, b, over, now); ok && f.wants(m.Topic) {
				l.add(m, f.max, now)
			}
		})
		if err != nil {
			return nil, err
		}
		l.More = l.More || more
	}
	l.trim(f.max)
	return l, nil
}

func (f *timerFlags) wants(topic string) bool {
	if f.topic == "" {
		return f.all || !message.IsSystemTopic(topic)
	}
	return topic == f.topic
}

// waitsStill tells whether a record of the timers' topic waits, given those behind it.
func waitsStill(r *message.Record, b broker, over map[string]bool, now time.Time) (m timedMessage, ok bool) {
	text := func(name string) string { return string(message.Property(r.Properties, name)) }
	topic, key := text(message.PropRealTopic), text(message.PropUniqueKey)
	if recalled := text(message.PropTimerDelete); recalled != "" {
		over[topic+"\x00"+strings.TrimPrefix(recalled, topic+"+")] = true // RocketMQ may put the topic before the key
		return m, false
	}
	due, timed := delay.Due(r)
	if !timed || due <= now.UnixMilli() {
		return m, false
	}
	name := topic + "\x00" + key
	if key != "" && over[name] {
		return m, false
	}
	if r.PreparedOffset > 0 || text(message.PropTimerRolls) != "" { // a copy of one before it
		over[name] = true
	}
	m = timedMessage{
		Due: time.UnixMilli(due), Topic: topic, Broker: b.name, Queue: text(message.PropRealQueueID), ID: key, Stored: time.UnixMilli(r.StoreTime),
	}
	if out, ok := protocol.ParseInt(message.Property(r.Properties, message.PropTimerOut)); ok && key != "" && !strings.HasPrefix(topic, message.RetryPrefix) {
		m.Handle = protocol.RecallHandle{Topic: topic, Broker: b.name, At: out + 1, UniqueKey: key}.String()
	}
	return m, true
}

func (l *timedList) add(m timedMessage, most int, now time.Time) {
	l.Count++
	for i := range l.Due {
		if d := &l.Due[i]; d.Seconds == 0 || m.Due.Sub(now) <= time.Duration(d.Seconds)*time.Second {
			d.Messages++
			break
		}
	}
	if l.Messages = append(l.Messages, m); most > 0 && len(l.Messages) >= 2*most+1000 {
		l.trim(most)
	}
}

// trim leaves those due next.
func (l *timedList) trim(most int) {
	slices.SortStableFunc(l.Messages, func(a, b timedMessage) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) })
	if most > 0 && len(l.Messages) > most {
		l.Messages = l.Messages[:most]
	}
}

func (l *timedList) write(w io.Writer) error {
	fmt.Fprintf(w, "%d messages wait", l.Count)
	between := ": "
	for _, d := range l.Due {
		if d.Messages == 0 {
			continue
		}
		when := "later"
		if d.Seconds > 0 {
			when = "within " + strings.TrimSuffix(strings.TrimSuffix((time.Duration(d.Seconds)*time.Second).String(), "0s"), "0m")
		}
		fmt.Fprintf(w, "%s%d %s", between, d.Messages, when)
		between = ", "
	}
	fmt.Fprint(w, "\n\n")
	t := newTable("DUE", "TOPIC", "BROKER", "QUEUE", "ID", "RECALL HANDLE")
	for _, m := range l.Messages {
		t.add(m.Due.Format(timeLayout), m.Topic, m.Broker, m.Queue, m.ID, m.Handle)
	}
	if err := t.write(w); err != nil {
		return err
	}
	if n := l.Count - int64(len(l.Messages)); n > 0 {
		fmt.Fprintf(w, "%d more; --max lists more of them\n", n)
	}
	if l.More {
		fmt.Fprintln(w, "There are more messages than --scan allows to read: older ones that wait are not counted.")
	}
	return nil
}
