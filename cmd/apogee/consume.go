package main

import (
	"context"
	"errors"
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

const (
	pullCount   = 32
	suspendTime = 15 * time.Second
	// commitInterval is how often --commit writes offsets while following.
	commitInterval = 2 * time.Second
	// offsetMax separates offsets from timestamps in ms: 2001-09-09, or 10^12 messages in a queue.
	offsetMax = 1_000_000_000_000
)

// consume are the flags of consume, message browse and dlq browse.
type consume struct {
	clusterFlags
	group, from, until, tag string
	sql, broker             string
	queue                   int32
	follow, commit, table   bool
	max                     int64
}

func newConsumeCommand() *cobra.Command {
	f := consume{queue: -1}
	c := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print a topic's messages",
		Long: "Prints a topic's messages in the order in which they were stored, bodies only unless --table or --json is given.\n\n" +
			"It reads all queues itself, beside the group's members if there are any. With --group it begins where the group stands, and\n" +
			"with --commit it moves the group's offsets past what it printed.",
		Example: "  apogee consume orders\n  apogee consume orders --follow --tag 'paid || shipped'\n  apogee consume orders --sql 'price > 5 AND region IS NOT NULL'\n  apogee consume orders --from 2026-01-31T08:00:00Z --max 10 --table",
		Args:    takes("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.run(ctx, c, cl, args[0]) })
		},
	}
	f.add(c)
	f.addSelection(c)
	fs := c.Flags()
	fs.StringVar(&f.group, "group", "", "consumer group whose offsets are read")
	fs.BoolVar(&f.follow, "follow", false, "go on with new messages as they come")
	fs.BoolVar(&f.commit, "commit", false, "commit the offsets of what was printed (needs --group)")
	fs.BoolVar(&f.table, "table", false, "print queue, offset, time, keys, tags and properties too")
	c.MarkFlagsMutuallyExclusive("table", "json")
	c.MarkFlagsMutuallyExclusive("follow", "until")
	completeArgs(c, topicNames)
	completeFlag(c, "group", groupNames)
	return c
}

// addSelection adds the flags that say which messages.
func (f *consume) addSelection(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.from, "from", "", "first, last, a queue offset, or a time; default: where --group stands, else last with\n--follow and first without")
	fs.StringVar(&f.until, "until", "", "end before this offset or time")
	fs.Int64Var(&f.max, "max", 0, "stop after this many messages (0: no limit)")
	fs.StringVar(&f.tag, "tag", "*", "tags, as in 'a || b'")
	fs.StringVar(&f.sql, "sql", "", "what properties must be (SQL92), as in \"price > 5 AND region IN ('eu', 'us')\"")
	c.MarkFlagsMutuallyExclusive("tag", "sql")
	fs.StringVar(&f.broker, "broker", "", "queues of this broker only (name)")
	fs.Int32Var(&f.queue, "queue", f.queue, "queue of this id only (-1: all)")
	completeFlag(c, "broker", brokerNames)
}

// start is where reading begins.
type start struct {
	kind  startKind
	value int64
}

type startKind int

const (
	startFirst startKind = iota
	startLast
	startOffset
	startTime
)

func parseStart(flag, s string) (start, error) {
	switch s {
	case "first":
		return start{kind: startFirst}, nil
	case "last":
		return start{kind: startLast}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		if n < offsetMax {
			return start{startOffset, n}, nil
		}
		return start{startTime, n}, nil
	}
	if t, err := parseTime(flag, s); err == nil {
		return start{startTime, t.UnixMilli()}, nil
	}
	return start{}, usagef("--%s %q: want first, last, an offset, or a time such as 2026-01-31T08:00:00Z", flag, s)
}

// parseTime reads a time as it is typed.
func parseTime(flag, s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= offsetMax {
		return time.UnixMilli(n), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--%s %q: want a time such as 2026-01-31T08:00:00Z or 2026-01-31", flag, s)
}

// reader reads one queue.
type reader struct {
	queue
	next    int64            // where the next pull begins
	end     int64            // without --follow: where reading stops
	pending []message.Record // pulled, not printed
	printed int64            // offset after the last printed one; -1: none yet
}

// done moves the printed offset: past the record, or past what the filter left out when all is printed.
func (r *reader) done(offset int64) {
	r.printed = offset + 1
	if len(r.pending) == 0 {
		r.printed = max(r.printed, r.next)
	}
}

var errEnough = errors.New("enough messages")

func (f *consume) run(ctx context.Context, c *cobra.Command, cl *cluster, topic string) error {
	if f.commit && f.group == "" {
		return usagef("--commit needs --group: whose offsets?")
	}
	if f.group != "" {
		if err := message.CheckGroup(f.group); err != nil {
			return asUsage(err)
		}
	}
	readers, err := f.readers(ctx, cl, topic)
	if err != nil {
		return err
	}
	p := newMessagePrinter(f, c.OutOrStdout(), topic)
	if f.follow {
		err = f.followAll(ctx, cl, topic, readers, p)
	} else {
		err = f.readAll(ctx, cl, topic, readers, p)
	}
	if errors.Is(err, errEnough) || f.follow && ctx.Err() != nil {
		err = nil // --max was reached, or a person ended --follow
	}
	return errors.Join(err, p.flush(), f.commitAll(cl, topic, readers))
}

// readers finds out where each queue's reading begins and ends.
func (f *consume) readers(ctx context.Context, cl *cluster, topic string) ([]*reader, error) {
	if f.max < 0 {
		return nil, usagef("--max %d: want 0 (no limit) or more", f.max)
	}
	from, until := start{kind: startFirst}, start{kind: startLast}
	if f.follow {
		from.kind = startLast
	}
	var err error
	if f.from != "" {
		if from, err = parseStart("from", f.from); err != nil {
			return nil, err
		}
	}
	if f.until != "" {
		if until, err = parseStart("until", f.until); err != nil {
			return nil, err
		}
	}
	qs, err := f.queues(ctx, cl, topic)
	if err != nil {
		return nil, err
	}
	var out []*reader
	for _, q := range qs {
		low, high, err := cl.bounds(ctx, topic, q)
		if err != nil {
			return nil, err
		}
		r := &reader{queue: q, printed: -1, end: high}
		if r.next, err = f.begin(ctx, cl, topic, r, from, low); err != nil {
			return nil, err
		}
		if r.end, err = cl.locate(ctx, topic, q, until, low, high); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// queues returns those that the flags mean.
func (f *consume) queues(ctx context.Context, cl *cluster, topic string) ([]queue, error) {
	route, err := cl.route(ctx, topic)
	if err != nil {
		return nil, err
	}
	all := queues(route, protocol.PermRead)
	if len(all) == 0 {
		return nil, fmt.Errorf("topic %q has no queue that can be read (permission %s)", topic, summary(topic, route).Perm)
	}
	some := slices.DeleteFunc(slices.Clone(all), func(q queue) bool {
		return f.broker != "" && q.broker != f.broker || f.queue >= 0 && q.id != f.queue
	})
	if len(some) == 0 {
		return nil, fmt.Errorf("no queue is --broker %q --queue %d; topic %q has %d queues that can be read, on: %s", f.broker, f.queue, topic, len(all),
			strings.Join(summary(topic, route).Brokers, ", "))
	}
	return some, nil
}

func (f *consume) begin(ctx context.Context, cl *cluster, topic string, r *reader, from start, low int64) (int64, error) {
	if f.from == "" && f.group != "" {
		offset, ok, err := cl.committed(ctx, f.group, topic, r.queue)
		if err != nil || ok {
			return max(offset, low), err
		}
	}
	return cl.locate(ctx, topic, r.queue, from, low, r.end)
}

// committed returns a group's offset in a queue, false when it has none.
func (c *cluster) committed(ctx context.Context, group, topic string, q queue) (int64, bool, error) {
	var o protocol.OffsetResult
	h := &protocol.ConsumerOffsetHeader{Group: group, Topic: topic, QueueID: q.id, SetZeroIfNotFound: "false"}
	_, err := c.ask(ctx, q.addr, request{code: protocol.ReqQueryConsumerOffset, header: h}, &o)
	if isCode(err, protocol.RespQueryNotFound) {
		return 0, false, nil
	}
	return o.Offset, err == nil, err
}

// commit sets a group's offset in a queue.
func (c *cluster) commit(ctx context.Context, group, topic string, q queue, offset int64) error {
	h := &protocol.ConsumerOffsetHeader{Group: group, Topic: topic, QueueID: q.id, CommitOffset: offset, Update: true}
	if _, err := c.ask(ctx, q.addr, request{code: protocol.ReqUpdateConsumerOffset, header: h}, nil); err != nil {
		return fmt.Errorf("cannot commit offset %d of queue %d of topic %q for group %q: %w", offset, q.id, topic, group, err)
	}
	return nil
}

// commitAll moves the group's offsets past what was printed. It has its own time limit, because it also runs after an interrupt.
func (f *consume) commitAll(cl *cluster, topic string, readers []*reader) error {
	if !f.commit {
		return nil
	}
	for _, r := range readers {
		if r.printed < 0 {
			continue
		}
		if err := cl.commit(context.Background(), f.group, topic, r.queue, r.printed); err != nil {
			return err
		}
	}
	return nil
}

// readAll prints what the queues held at the start, merged by store time.
func (f *consume) readAll(ctx context.Context, cl *cluster, topic string, readers []*reader, p *messagePrinter) error {
	for {
		var first *reader
		for _, r := range readers {
			if err := r.fill(ctx, cl, f, topic); err != nil {
				return err
			}
			if len(r.pending) > 0 && (first == nil || r.pending[0].StoreTime < first.pending[0].StoreTime) {
				first = r
			}
		}
		if first == nil {
			return nil
		}
		if err := p.next(first); err != nil {
			return err
		}
	}
}

// fill pulls until there is a message to print, or the end.
func (r *reader) fill(ctx context.Context, cl *cluster, f *consume, topic string) error {
	for len(r.pending) == 0 && r.next < r.end {
		got, err := cl.pull(ctx, f.pull(topic, r, 0))
		if err != nil {
			return err
		}
		if got.next <= r.next && len(got.records) == 0 {
			return nil // the view is behind the offsets we were told, or the rest is gone
		}
		r.next = min(got.next, r.end)
		for _, m := range got.records {
			if m.QueueOffset < r.end {
				r.pending = append(r.pending, m)
			}
		}
		if len(r.pending) == 0 && r.printed >= 0 {
			r.printed = r.next // the filter left the rest out
		}
	}
	return nil
}

func (f *consume) pull(topic string, r *reader, suspend time.Duration) pullRequest {
	group := f.group
	if group == "" {
		group = toolsGroup
	}
	return pullRequest{group: group, topic: topic, queue: r.queue, offset: r.next, count: pullCount, expression: f.tag, sql: f.sql, suspend: suspend}
}

// followAll long-polls every queue until the context ends.
func (f *consume) followAll(ctx context.Context, cl *cluster, topic string, readers []*reader, p *messagePrinter) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type arrival struct {
		r   *reader
		got *pulled
		err error
	}
	arrivals := make(chan arrival)
	// each queue has one pull outstanding; the next one goes out when its messages are printed
	ask := func(r *reader) {
		q := f.pull(topic, r, suspendTime)
		go func() {
			got, err := cl.pull(ctx, q)
			select {
			case arrivals <- arrival{r, got, err}:
			case <-ctx.Done():
			}
		}()
	}
	for _, r := range readers {
		ask(r)
	}
	commit := time.NewTicker(commitInterval)
	defer commit.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-commit.C:
			if err := f.commitAll(cl, topic, readers); err != nil {
				return err
			}
		case a := <-arrivals:
			if a.err != nil {
				return a.err
			}
			a.r.next, a.r.pending = a.got.next, a.got.records
			for len(a.r.pending) > 0 {
				if err := p.next(a.r); err != nil {
					return err
				}
			}
			if err := p.flush(); err != nil {
				return err
			}
			ask(a.r)
		}
	}
}

// messagePrinter takes messages one by one, as the command line wants them.
type messagePrinter struct {
	each func(broker string, m *message.Record, body []byte) error
	end  func() error // after some of them; may be nil
	left int64        // of --max
}

func newMessagePrinter(f *consume, w io.Writer, topic string) *messagePrinter {
	p := &messagePrinter{left: f.max}
	switch {
	case f.out.json:
		p.each = func(broker string, m *message.Record, body []byte) error {
			return writeJSONLine(w, viewOf(topic, broker, m, body))
		}
	case f.table:
		p.rows(w, []string{"BROKER", "QUEUE", "OFFSET", "STORED", "KEYS", "TAGS", "PROPERTIES", "BODY"}, func(v *messageView) []any {
			return []any{v.Broker, v.Queue, v.Offset, v.Stored.Format(timeLayout), strings.Join(v.Keys, " "), v.Tags, propertyText(v.Properties), cell([]byte(v.Body))}
		})
	default:
		p.each = func(_ string, _ *message.Record, body []byte) error {
			_, err := fmt.Fprintf(w, "%s\n", body)
			return err
		}
	}
	return p
}

// rowsAtOnce is after how many rows a table is printed, its columns aligned anew.
const rowsAtOnce = 1000

// rows has the messages printed as tables.
func (p *messagePrinter) rows(w io.Writer, titles []string, row func(*messageView) []any) {
	t := newTable(titles...)
	p.end = func() error {
		if len(t.rows) == 0 {
			return nil
		}
		full := t
		t = newTable(titles...)
		return full.write(w)
	}
	p.each = func(broker string, m *message.Record, body []byte) error {
		v := viewOf(string(m.Topic), broker, m, body)
		if t.add(row(&v)...); len(t.rows) < rowsAtOnce {
			return nil
		}
		return p.end()
	}
}

// next takes the reader's first pending message; errEnough after the last one of --max.
func (p *messagePrinter) next(r *reader) error {
	m := r.pending[0]
	r.pending = r.pending[1:]
	body, err := bodyOf(&m)
	if err != nil {
		return err
	}
	if err := p.each(r.broker, &m, body); err != nil {
		return err
	}
	r.done(m.QueueOffset)
	if p.left--; p.left == 0 {
		return errEnough
	}
	return nil
}

func (p *messagePrinter) flush() error {
	if p.end == nil {
		return nil
	}
	return p.end()
}
