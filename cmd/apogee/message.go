package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

func newMessageCommand() *cobra.Command {
	return noun("message", "Messages: find, browse, send, deliver, recall", "",
		newMessageGetCommand(), newMessageBrowseCommand(), newSendCommand("send"), newMessageDeliverCommand(), newRecallCommand(), newMessageDecodeCommand())
}

// messageView is a message as --json prints it.
type messageView struct {
	Topic      string            `json:"topic"`
	Broker     string            `json:"broker,omitempty"`
	Queue      int32             `json:"queue"`
	Offset     int64             `json:"offset"`
	ID         string            `json:"id,omitempty"` // the unique key that the producer gave it
	OffsetID   string            `json:"offset_id"`    // where it is stored: address and log position
	Position   int64             `json:"log_position"`
	Keys       []string          `json:"keys,omitempty"`
	Tags       string            `json:"tags,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Stored     time.Time         `json:"stored"`
	Born       time.Time         `json:"born"`
	BornHost   string            `json:"born_host"`
	Attempts   int32             `json:"reconsume_times"`
	SysFlag    int32             `json:"sys_flag"`
	Flag       int32             `json:"flag"`
	BodyBytes  int               `json:"body_bytes"`
	Body       string            `json:"body"`
	Binary     bool              `json:"body_is_hex,omitempty"` // the body is not text
}

func viewOf(topic, broker string, m *message.Record, body []byte) messageView {
	own, properties := splitProperties(m.Properties)
	v := messageView{
		Topic: topic, Broker: broker, Queue: m.QueueID, Offset: m.QueueOffset, ID: own.id, Keys: own.keys, Tags: own.tags, Properties: properties,
		OffsetID: string(message.AppendOffsetID(nil, m.StoreHost, m.PhysicalOffset)), Position: m.PhysicalOffset,
		Stored: time.UnixMilli(m.StoreTime), Born: time.UnixMilli(m.BornTime), BornHost: m.BornHost.String(),
		Attempts: m.ReconsumeTimes, SysFlag: m.SysFlag, Flag: m.Flag, BodyBytes: len(body), Body: string(body),
	}
	if !utf8.Valid(body) {
		v.Body, v.Binary = hex.EncodeToString(body), true
	}
	return v
}

// write prints everything of one message, a line each.
func (v *messageView) write(w io.Writer) error {
	row := func(name string, value any) { fmt.Fprintf(w, "%-14s %v\n", name, value) }
	row("topic", v.Topic)
	of := ""
	if v.Broker != "" {
		of = " of " + v.Broker
	}
	row("queue", fmt.Sprintf("%d%s, offset %d", v.Queue, of, v.Offset))
	row("id", v.ID)
	row("offset id", fmt.Sprintf("%s (log position %d)", v.OffsetID, v.Position))
	row("keys", strings.Join(v.Keys, " "))
	row("tags", v.Tags)
	row("stored", v.Stored.Format(timeLayout))
	row("born", v.Born.Format(timeLayout)+" on "+v.BornHost)
	row("attempts", v.Attempts)
	row("flags", fmt.Sprintf("%d, system %d", v.Flag, v.SysFlag))
	for _, k := range slices.Sorted(maps.Keys(v.Properties)) {
		row("  "+k, v.Properties[k])
	}
	kind := "text"
	if v.Binary {
		kind = "hex"
	}
	_, err := fmt.Fprintf(w, "%-14s %d bytes, %s\n%s\n", "body", v.BodyBytes, kind, v.Body)
	return err
}

// get are the flags of message get.
type get struct {
	clusterFlags
	id, key, unique string
	broker          string
	queue           int32
	offset          int64
	from, until     string
	max             int32
	groups          bool
}

func newMessageGetCommand() *cobra.Command {
	var f get
	c := &cobra.Command{
		Use:   "get [TOPIC]",
		Short: "Show messages: by id, key, unique key, or queue and offset",
		Long: "Shows messages whole. --id takes an offset id, which needs no topic; or, with a topic, the id that the producer was given.\n" +
			"--key finds the newest messages with that key.",
		Example: "  apogee message get orders --key 4711 --from 2026-01-31\n  apogee message get orders --queue 3 --offset 17 --groups\n" +
			"  apogee message get --id 7F00000100002A9F0000000000000000",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(c, args); err != nil {
				return err
			}
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error {
				found, err := f.find(ctx, cl, strings.Join(args, ""))
				if err != nil {
					return err
				}
				return f.show(ctx, c, cl, found)
			})
		},
	}
	f.add(c)
	fs := c.Flags()
	fs.StringVar(&f.id, "id", "", "message id")
	fs.StringVar(&f.key, "key", "", "key")
	fs.StringVar(&f.unique, "unique-key", "", "unique key, the id that the producer was given")
	fs.Int32Var(&f.queue, "queue", -1, "queue id, with --offset")
	fs.Int64Var(&f.offset, "offset", -1, "queue offset, with --queue")
	fs.StringVar(&f.broker, "broker", "", "broker (name) of --queue, where several have the topic; or that --id is asked of")
	fs.StringVar(&f.from, "from", "", "with --key: stored at this time or later")
	fs.StringVar(&f.until, "until", "", "with --key: stored before this time")
	fs.Int32Var(&f.max, "max", 32, "with --key: at most this many, the newest, of each broker")
	fs.BoolVar(&f.groups, "groups", false, "which groups have consumed it")
	completeArgs(c, topicNames)
	completeFlag(c, "broker", brokerNames)
	return c
}

func (f *get) check(c *cobra.Command, args []string) error {
	n := 0
	for _, flag := range []string{"id", "key", "unique-key", "offset"} {
		if c.Flags().Changed(flag) {
			n++
		}
	}
	switch {
	case n != 1:
		return usagef("which message? Give one of --id, --key, --unique-key, or --queue and --offset: %s", c.UseLine())
	case len(args) == 0 && f.id == "":
		return usagef("%s needs a topic, except with --id", c.CommandPath())
	case c.Flags().Changed("offset") && (f.queue < 0 || f.offset < 0):
		return usagef("--queue %d --offset %d: want two numbers from 0", f.queue, f.offset)
	case f.max < 1 || f.max > 10_000:
		return usagef("--max %d: want 1 to 10000", f.max)
	}
	return nil
}

// foundMessage is a message and the queue that it is in.
type foundMessage struct {
	queue queue
	m     message.Record
}

func (f *get) find(ctx context.Context, cl *cluster, topic string) ([]foundMessage, error) {
	switch {
	case f.id != "":
		return f.byID(ctx, cl, topic)
	case f.key != "":
		return f.byKey(ctx, cl, topic, f.key, false)
	case f.unique != "":
		return f.byKey(ctx, cl, topic, f.unique, true)
	}
	route, err := cl.route(ctx, topic)
	if err != nil {
		return nil, err
	}
	var out []foundMessage
	for _, q := range queues(route, protocol.PermRead) {
		if q.id != f.queue || f.broker != "" && q.broker != f.broker {
			continue
		}
		got, err := cl.pull(ctx, pullRequest{group: toolsGroup, topic: topic, queue: q, offset: f.offset, count: 1, expression: "*"})
		if err != nil {
			return nil, err
		}
		for _, m := range got.records {
			if m.QueueOffset == f.offset {
				out = append(out, foundMessage{q, m})
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("topic %q has no message at --offset %d of --queue %d; `apogee topic describe %s` shows its queues", topic, f.offset, f.queue, topic)
	}
	return out, nil
}

// byID asks the broker that an offset id names. With a topic the id may be a unique key instead.
func (f *get) byID(ctx context.Context, cl *cluster, topic string) ([]foundMessage, error) {
	if topic != "" {
		found, err := f.byKey(ctx, cl, topic, f.id, true)
		if err == nil || !errors.Is(err, errNotFound) {
			return found, err
		}
	}
	host, position, err := message.ParseOffsetID(f.id)
	if err != nil {
		return nil, asUsage(fmt.Errorf("--id: %w; an id that a producer was given is found with its topic", err))
	}
	q := queue{addr: host.String()}
	brokers, err := cl.brokers(ctx, scope{broker: f.broker})
	if err != nil {
		return nil, err
	}
	for _, b := range brokers {
		if b.addr == q.addr || f.broker != "" {
			q = queue{broker: b.name, addr: b.addr}
		}
	}
	answer, err := cl.exchange(ctx, q.addr, request{code: protocol.ReqViewMessageByID, header: &protocol.ViewMessageHeader{Topic: topic, Offset: position}})
	if err != nil {
		return nil, fmt.Errorf("cannot reach broker %s, which --id %s names: %w\nif the broker has another address now, name it with --broker", q.addr, f.id, err)
	}
	if err := answer.Check(); err != nil {
		return nil, fmt.Errorf("--id %s: broker %s has no message at log position %d: %w", f.id, q.addr, position, err)
	}
	m, _, err := message.Decode(answer.Body)
	q.id = m.QueueID
	return []foundMessage{{q, m}}, err
}

var errNotFound = errors.New("no such message")

// byKey asks every broker that has the topic.
func (f *get) byKey(ctx context.Context, cl *cluster, topic, key string, unique bool) ([]foundMessage, error) {
	h := &protocol.QueryMessageHeader{Topic: topic, Key: key, MaxNum: f.max, End: math.MaxInt64, UniqueKey: unique, IndexType: "K"}
	if unique {
		h.IndexType = "U"
	}
	for _, limit := range []struct {
		flag, text string
		to         *int64
	}{{"from", f.from, &h.Begin}, {"until", f.until, &h.End}} {
		if limit.text == "" {
			continue
		}
		at, err := parseTime(limit.flag, limit.text)
		if err != nil {
			return nil, err
		}
		*limit.to = at.UnixMilli()
	}
	brokers, err := cl.topicBrokers(ctx, topic, scope{broker: f.broker})
	if err != nil {
		return nil, err
	}
	var out []foundMessage
	for _, b := range brokers {
		answer, err := cl.ask(ctx, b.addr, request{code: protocol.ReqQueryMessage, header: h}, nil)
		if isCode(err, protocol.RespQueryNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for body := answer.Body; len(body) > 0; {
			m, n, err := message.Decode(body)
			if err != nil {
				return nil, fmt.Errorf("answer of broker %q: %w", b.name, err)
			}
			body = body[n:]
			own, _ := splitProperties(m.Properties)
			if own.id == key || !unique && slices.Contains(own.keys, key) { // RocketMQ's index knows hashes only
				out = append(out, foundMessage{queue{broker: b.name, addr: b.addr, id: m.QueueID}, m})
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("topic %q: %w with key %q", topic, errNotFound, key)
	}
	return out, nil
}

// consumedBy says how far a group is with a message.
type consumedBy struct {
	Group  string `json:"group"`
	Status string `json:"status"` // consumed, not yet, or no offset: the group has not begun
}

func (f *get) show(ctx context.Context, c *cobra.Command, cl *cluster, found []foundMessage) error {
	type shown struct {
		messageView
		Groups []consumedBy `json:"groups,omitempty"`
	}
	list := []shown{}
	for i := range found {
		m := &found[i].m
		body, err := bodyOf(m)
		if err != nil {
			return err
		}
		s := shown{messageView: viewOf(string(m.Topic), found[i].queue.broker, m, body)}
		if f.groups {
			if s.Groups, err = cl.consumers(ctx, found[i]); err != nil {
				return err
			}
		}
		list = append(list, s)
	}
	return f.out.print(c, list, func(w io.Writer) error {
		for i, s := range list {
			if i > 0 {
				fmt.Fprintln(w)
			}
			err := s.write(w)
			if t := newTable("GROUP", "STATUS"); f.groups && err == nil {
				for _, g := range s.Groups {
					t.add(g.Group, g.Status)
				}
				err = t.write(w)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// consumers says which groups have consumed a message, by their offsets.
func (c *cluster) consumers(ctx context.Context, found foundMessage) ([]consumedBy, error) {
	topic := string(found.m.Topic)
	groups, err := c.groupsOf(ctx, topic, []broker{{addr: found.queue.addr}})
	if err != nil {
		return nil, err
	}
	out := []consumedBy{}
	for _, g := range groups {
		offset, ok, err := c.committed(ctx, g, topic, found.queue)
		if err != nil {
			return nil, err
		}
		status := "not yet"
		switch {
		case !ok:
			status = "no offset"
		case offset > found.m.QueueOffset:
			status = "consumed"
		}
		out = append(out, consumedBy{g, status})
	}
	return out, nil
}

func newMessageBrowseCommand() *cobra.Command {
	f := consume{queue: -1, table: true}
	c := &cobra.Command{
		Use:     "browse TOPIC",
		Short:   "List a topic's messages with queue, offset, time, keys, tags and properties",
		Example: "  apogee message browse orders --from 2026-01-31T08:00:00Z --until 2026-01-31T09:00:00Z\n  apogee message browse orders --queue 2 --from 100 --max 20",
		Args:    takes("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.run(ctx, c, cl, args[0]) })
		},
	}
	f.add(c)
	f.addSelection(c)
	completeArgs(c, topicNames)
	return c
}

func newMessageDeliverCommand() *cobra.Command {
	var f clusterFlags
	var group, client string
	c := &cobra.Command{
		Use:   "deliver TOPIC OFFSET-ID --group GROUP",
		Short: "Have a member of a group consume one message now",
		Long:  "Has a member that is online consume a message, whatever the group's offsets are, and prints what it made of it.",
		Args:  takes("topic", "offset id"),
		RunE: func(c *cobra.Command, args []string) error {
			host, _, err := message.ParseOffsetID(args[1])
			if err != nil {
				return asUsage(err)
			}
			if group == "" {
				return usagef("to whom? Give --group: %s", c.UseLine())
			}
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				r, err := cl.deliver(ctx, args[0], args[1], host, group, client)
				if err != nil {
					return err
				}
				return f.out.say(c, r, "%s by %s in %d ms %s", r.Result, r.Client, r.SpentMS, r.Remark)
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&group, "group", "", "consumer group (required)")
	c.Flags().StringVar(&client, "client", "", "client id of the member (default: the first)")
	completeArgs(c, topicNames)
	completeFlag(c, "group", groupNames)
	return c
}

// delivery is what a client made of a message (ConsumeMessageDirectlyResult).
type delivery struct {
	Client  string `json:"client"`
	Result  string `json:"consumeResult"`
	Remark  string `json:"remark"`
	SpentMS int64  `json:"spentTimeMills"`
}

func (c *cluster) deliver(ctx context.Context, topic, id string, host netip.AddrPort, group, client string) (*delivery, error) {
	brokers, _, err := c.group(ctx, group, scope{})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(brokers, func(b broker) bool { return b.addr == host.String() })
	if i < 0 {
		return nil, fmt.Errorf("id %s names broker %s, which is not registered under that address", id, host)
	}
	if client == "" {
		m, err := c.members(ctx, group, brokers[i:i+1])
		if err != nil {
			return nil, err
		}
		if len(m.Members) == 0 {
			return nil, fmt.Errorf("group %q has no member online", group)
		}
		client = m.Members[0].Client
	}
	h := &protocol.ClientHeader{Group: group, ClientID: client, Topic: topic, MsgID: id}
	d, err := fetch[delivery](ctx, c, brokers[i].addr, protocol.ReqConsumeMessageDirectly, h)
	if err == nil {
		d.Client = client
	}
	return d, err
}

// decodedID is what can be read from a message id. Offset ids and the ids of producers look alike: both readings are given where both make sense.
type decodedID struct {
	ID       string     `json:"id"`
	Broker   string     `json:"broker,omitempty"` // of an offset id
	Position *int64     `json:"log_position,omitempty"`
	Producer string     `json:"producer,omitempty"` // address of the machine that made a unique key
	Process  int        `json:"process,omitempty"`
	Made     *time.Time `json:"made,omitempty"`
	Counter  int        `json:"counter,omitempty"`
}

func newMessageDecodeCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "decode ID",
		Short: "Say what a message id says: broker and log position, or producer and time",
		Args:  takes("message id"),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := decodeID(args[0], time.Now())
			if err != nil {
				return asUsage(err)
			}
			return out.print(c, d, func(w io.Writer) error {
				if d.Position != nil {
					fmt.Fprintf(w, "as an offset id:   broker %s, log position %d\n", d.Broker, *d.Position)
				}
				if d.Made != nil {
					fmt.Fprintf(w, "as a unique key:   made by process %d on %s at %s, number %d\n", d.Process, d.Producer, d.Made.Format(timeLayout), d.Counter)
				}
				return nil
			})
		},
	}
	out.flag(c)
	return c
}

// decodeID reads an id both ways. A unique key has the time since the beginning of its month: the newest that is not in the future.
func decodeID(id string, now time.Time) (*decodedID, error) {
	d := &decodedID{ID: id}
	host, position, err := message.ParseOffsetID(id)
	if err == nil && position >= 0 && host.Port() > 0 {
		d.Broker, d.Position = host.String(), &position
	}
	raw, hexErr := hex.DecodeString(id)
	if hexErr != nil || len(raw) != 16 && len(raw) != 28 {
		return nil, err
	}
	address, rest := raw[:len(raw)-12], raw[len(raw)-12:]
	number := func(b []byte) (n int64) {
		for _, x := range b {
			n = n<<8 | int64(x)
		}
		return n
	}
	since := time.Duration(number(rest[6:10])) * time.Millisecond
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, now.Location())
	made := month.Add(since)
	if made.After(now) {
		made = month.AddDate(0, -1, 0).Add(since)
	}
	if since < 31*24*time.Hour && !made.After(now) {
		d.Producer, d.Process, d.Made, d.Counter = net.IP(address).String(), int(number(rest[:2])), &made, int(number(rest[10:]))
	}
	if d.Position == nil && d.Made == nil {
		return nil, fmt.Errorf("message id %q: neither an offset id nor a unique key", id)
	}
	return d, nil
}
