package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// produce are the flags of produce.
type produce struct {
	clusterFlags
	key, tag   string
	properties []string
	broker     string
	queue      int32
	count      int
	batch      int
	delayLevel int
	delay      time.Duration
	deliverAt  string
}

func newProduceCommand() *cobra.Command { return newSendCommand("produce") }

// newSendCommand is produce, which is message send too.
func newSendCommand(verb string) *cobra.Command {
	var f produce
	c := &cobra.Command{
		Use:     verb + " TOPIC [MESSAGE...]",
		Short:   "Send messages: the arguments, or the lines of standard input",
		Example: "  apogee produce orders 'first order' 'second order' --key 4711 --tag new\n  apogee produce orders < orders.txt",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs a topic: %s", c.CommandPath(), c.UseLine())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f.clusterFlags, func(ctx context.Context, cl *cluster) error { return f.run(ctx, c, cl, args[0], args[1:]) })
		},
	}
	f.add(c)
	fs := c.Flags()
	fs.StringVar(&f.key, "key", "", "key, or several separated by spaces, by which the messages are found")
	fs.StringVar(&f.tag, "tag", "", "tag")
	fs.StringArrayVar(&f.properties, "property", nil, "user property, name=value (repeatable)")
	fs.StringVar(&f.broker, "broker", "", "queues of this broker only (name)")
	fs.Int32Var(&f.queue, "queue", -1, "queue id (-1: in turn)")
	fs.IntVar(&f.count, "count", 1, "how often each message is sent")
	fs.IntVar(&f.batch, "batch", 1, "messages that one request carries")
	fs.IntVar(&f.delayLevel, "delay-level", 0, "deliver after the delay of this level (1 to 18: 1s 5s 10s 30s 1m 2m ... 10m 20m 30m 1h 2h)")
	fs.DurationVar(&f.delay, "delay", 0, "deliver after this time, such as 90s or 36h; the message can be recalled until then")
	fs.StringVar(&f.deliverAt, "deliver-at", "", "deliver at this time, such as 2026-01-31T08:00:00Z; the message can be recalled until then")
	completeArgs(c, topicNames)
	completeFlag(c, "broker", brokerNames)
	return c
}

const (
	delayLevelMax = 18
	batchMax      = 4096
	producerGroup = "apogee_produce"
	autoQueues    = 8 // of a topic that the broker creates at its first message
)

// check refuses what the broker would refuse later, or store and never deliver.
func (f *produce) check() error {
	switch {
	case f.count < 1:
		return usagef("--count %d: want 1 or more", f.count)
	case f.batch < 1 || f.batch > batchMax:
		return usagef("--batch %d: want 1 to %d", f.batch, batchMax)
	case f.delayLevel < 0 || f.delayLevel > delayLevelMax:
		return usagef("--delay-level %d: want 1 to %d", f.delayLevel, delayLevelMax)
	case f.delay < 0 || f.delay > 0 && f.delay < time.Millisecond:
		return usagef("--delay %s: want a millisecond or more", f.delay)
	}
	when := f.when()
	switch {
	case len(when) > 1:
		return usagef("--%s and --%s: want one of them", when[0].flag, when[1].flag)
	case len(when) > 0 && f.batch > 1:
		return usagef("--batch and --%s: a batch cannot be delayed", when[0].flag)
	}
	if f.deliverAt != "" {
		at, err := parseTime("deliver-at", f.deliverAt)
		if err != nil {
			return err
		}
		f.deliverAt = strconv.FormatInt(at.UnixMilli(), 10)
	}
	_, err := f.encodeProperties("")
	return err
}

// delayed is a flag that says when a message is delivered, and the property that it becomes.
type delayed struct{ flag, property, value string }

func (f *produce) when() (list []delayed) {
	if f.delayLevel > 0 {
		list = append(list, delayed{"delay-level", message.PropDelay, strconv.Itoa(f.delayLevel)})
	}
	if f.delay > 0 {
		list = append(list, delayed{"delay", message.PropTimerDelayMS, strconv.FormatInt(f.delay.Milliseconds(), 10)})
	}
	if f.deliverAt != "" {
		list = append(list, delayed{"deliver-at", message.PropTimerDeliver, f.deliverAt})
	}
	return list
}

// encodeProperties returns the property string of a message with this id.
func (f *produce) encodeProperties(id string) ([]byte, error) {
	var p []byte
	add := func(name, value string) error {
		if strings.ContainsAny(name+value, "\x01\x02") {
			return usagef("property %q: name and value may not hold the characters 1 and 2, which separate properties", name)
		}
		p = message.AppendProperty(p, name, []byte(value))
		return nil
	}
	own := []struct{ name, value string }{{message.PropUniqueKey, id}, {message.PropKeys, f.key}, {message.PropTags, f.tag}, {message.PropWait, "true"}}
	for _, d := range f.when() {
		own = append(own, struct{ name, value string }{d.property, d.value})
	}
	for _, o := range own {
		if o.value == "" {
			continue
		}
		if err := add(o.name, o.value); err != nil {
			return nil, err
		}
	}
	for _, s := range f.properties {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" || value == "" {
			return nil, usagef("--property %q: want name=value", s)
		}
		if err := add(name, value); err != nil {
			return nil, err
		}
	}
	if len(p)+message.CRCPropertySize > message.MaxPropertiesSize {
		return nil, usagef("the properties have %d bytes: the limit is %d", len(p), message.MaxPropertiesSize-message.CRCPropertySize)
	}
	return p, nil
}

// target finds the queues to send to; a topic that does not exist yet is left to the broker's automatic creation.
func (f *produce) target(ctx context.Context, cl *cluster, topic string) ([]queue, error) {
	route, err := cl.route(ctx, topic)
	var missing *errNoTopic
	if errors.As(err, &missing) {
		if auto, autoErr := cl.route(ctx, message.TopicAutoCreate); autoErr == nil {
			route, err = auto, nil
		}
	}
	if err != nil {
		return nil, err
	}
	all := queues(route, protocol.PermWrite)
	if len(all) == 0 {
		return nil, fmt.Errorf("topic %q has no queue that can be written (permission %s)", topic, summary(topic, route).Perm)
	}
	some := slices.DeleteFunc(slices.Clone(all), func(q queue) bool {
		return f.broker != "" && q.broker != f.broker || f.queue >= 0 && q.id != f.queue
	})
	if len(some) == 0 {
		return nil, fmt.Errorf("no queue is --broker %q --queue %d: topic %q has %d queues that can be written, on: %s", f.broker, f.queue, topic, len(all),
			strings.Join(summary(topic, route).Brokers, ", "))
	}
	return some, nil
}

// sending is one run of produce.
type sending struct {
	*produce
	cl     *cluster
	topic  string
	queues []queue
	turn   int
	ids    idMaker
	batch  []message.BatchItem
	held   []string // ids of the batch
	sent   int
	print  func(sentMessage) error
}

// sentMessage is what produce prints of a message.
type sentMessage struct {
	ID     string `json:"id"`
	Topic  string `json:"topic"`
	Broker string `json:"broker"`
	Queue  int32  `json:"queue"`
	Offset int64  `json:"offset"`
	Status string `json:"status"`
	Handle string `json:"recall_handle,omitempty"` // of a message that waits for its moment
}

func (f *produce) run(ctx context.Context, c *cobra.Command, cl *cluster, topic string, bodies []string) error {
	if err := f.check(); err != nil {
		return err
	}
	target, err := f.target(ctx, cl, topic)
	if err != nil {
		return err
	}
	s := &sending{produce: f, cl: cl, topic: topic, queues: target, turn: rand.IntN(len(target)), ids: newIDMaker(), print: f.printer(c.OutOrStdout())}
	each := func(body []byte) error { return s.add(ctx, body) }
	if len(bodies) == 0 {
		err = eachLine(c.InOrStdin(), each)
	}
	for _, b := range bodies {
		if err == nil {
			err = each([]byte(b))
		}
	}
	if err == nil {
		err = s.flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w (%d messages were sent before)", err, s.sent)
	}
	if !f.out.json {
		fmt.Fprintf(c.OutOrStdout(), "sent %d messages to %s\n", s.sent, topic)
	}
	return nil
}

// printedMax is how many messages are shown one by one to a person.
const printedMax = 20

func (f *produce) printer(w io.Writer) func(sentMessage) error {
	n := 0
	return func(m sentMessage) error {
		if f.out.json {
			return writeJSONLine(w, m)
		}
		if n++; n > printedMax {
			return nil
		}
		if n == 1 {
			fmt.Fprintf(w, "%-32s  %-16s  %5s  %8s  %s\n", "ID", "BROKER", "QUEUE", "OFFSET", "STATUS")
		}
		_, err := fmt.Fprintf(w, "%-32s  %-16s  %5d  %8d  %s\n", m.ID, m.Broker, m.Queue, m.Offset, m.Status)
		if err == nil && m.Handle != "" {
			_, err = fmt.Fprintf(w, "  recall handle %s\n", m.Handle)
		}
		return err
	}
}

func (s *sending) add(ctx context.Context, body []byte) error {
	for range s.count {
		id := s.ids.next()
		properties, err := s.encodeProperties(id)
		if err != nil {
			return err
		}
		s.batch = append(s.batch, message.BatchItem{Body: append([]byte(nil), body...), Properties: properties})
		s.held = append(s.held, id)
		if len(s.batch) >= s.produce.batch {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush sends what is held, as one request.
func (s *sending) flush(ctx context.Context) error {
	if len(s.batch) == 0 {
		return nil
	}
	q := s.queues[s.turn%len(s.queues)]
	s.turn++
	h := &protocol.SendHeader{
		ProducerGroup: producerGroup, Topic: s.topic, DefaultTopic: message.TopicAutoCreate, DefaultTopicQueues: autoQueues,
		QueueID: q.id, BornTime: time.Now().UnixMilli(), Properties: string(s.batch[0].Properties), BrokerName: q.broker, Short: true,
	}
	code, body := protocol.ReqSendMessageV2, s.batch[0].Body
	if s.produce.batch > 1 {
		code, h.Batch, h.Properties, body = protocol.ReqSendBatchMessage, true, "", nil
		for _, it := range s.batch {
			body = message.AppendBatchItem(body, it)
		}
	}
	r, status, err := s.cl.send(ctx, q, code, h, body)
	if err != nil {
		return err
	}
	for i, id := range s.held {
		if err := s.print(sentMessage{id, s.topic, q.broker, r.QueueID, r.QueueOffset + int64(i), status, r.RecallHandle}); err != nil {
			return err
		}
	}
	s.sent += len(s.batch)
	s.batch, s.held = s.batch[:0], s.held[:0]
	return nil
}

// send has a queue's broker store what one request carries.
func (c *cluster) send(ctx context.Context, q queue, code protocol.RequestCode, h *protocol.SendHeader, body []byte) (r protocol.SendResult, status string, err error) {
	answer, err := c.exchange(ctx, q.addr, request{code: code, header: h, body: body})
	if err != nil {
		return r, "", fmt.Errorf("cannot send to broker %s: %w", q.addr, err)
	}
	if status, err = sendStatus(answer); err != nil {
		return r, "", fmt.Errorf("broker %q refuses the message for topic %q: %w", q.broker, h.Topic, err)
	}
	return r, status, protocol.DecodeHeader(answer.Fields, &r)
}

// sendStatus names the answers that mean stored.
func sendStatus(answer *protocol.Command) (string, error) {
	switch protocol.ResponseCode(answer.Code) {
	case protocol.RespSuccess:
		return "SEND_OK", nil
	case protocol.RespFlushDiskTimeout, protocol.RespFlushSlaveTimeout, protocol.RespSlaveNotAvailable:
		return protocol.ResponseCode(answer.Code).String(), nil
	}
	return "", answer.Check()
}

// idMaker makes message ids as RocketMQ's clients do: address, process, a random half, time and counter, in hex.
type idMaker struct {
	prefix  [10]byte
	counter uint16
}

func newIDMaker() idMaker {
	var m idMaker
	copy(m.prefix[:4], localAddress())
	binary.BigEndian.PutUint16(m.prefix[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint32(m.prefix[6:], rand.Uint32())
	return m
}

func (m *idMaker) next() string {
	now := time.Now()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, now.Location())
	m.counter++
	return fmt.Sprintf("%X%08X%04X", m.prefix, uint32(now.Sub(month).Milliseconds()), m.counter)
}

func localAddress() []byte {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.To4()
		}
	}
	return net.IPv4(127, 0, 0, 1).To4()
}
