package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// popper drains a topic by POP over one connection, from one goroutine: it acknowledges what an answer brought, and pops again, in one write.
type popper struct {
	reader  // counts messages that were acknowledged
	o       *DrainOptions
	group   string
	broker  string // in receipts
	addr    string
	pop     *template
	left    *atomic.Int64 // messages that nobody has acknowledged yet
	acks    int64         // sent, which gives each an opaque of its own
	came    time.Time     // when something came last
	popping int           // pops that are under way: the group is not deleted before they are answered
	waiting map[int32]int // messages of an acknowledgement that is under way
	out     []byte
	repeats int64 // messages that came again
}

const (
	// popInvisible is how long a popped message may wait for its acknowledgement.
	popInvisible = 5 * time.Minute
	// popAgain is the pause after a pop that found nothing: others have the rest, and acknowledge it.
	popAgain = time.Millisecond
	// ackOpaque is behind the opaques of pops.
	ackOpaque = 2 * firstOpaque
)

// popTemplate encodes POP_MESSAGE, of any queue.
func (o *DrainOptions) popTemplate(group string) *template {
	c := protocol.NewRequest(protocol.ReqPopMessage, &protocol.PopHeader{
		Group: group, Topic: o.Topic, QueueID: -1, MaxMessages: int32(o.PullMax), InvisibleMS: popInvisible.Milliseconds(),
		InitMode: protocol.InitMin, ExpressionType: protocol.ExpressionTag, Expression: "*",
	})
	c.Serialize, c.Opaque = o.serialization(), firstOpaque
	t := &template{}
	setField(c.Fields, "bornTime", markTime, timeDigits)
	t.encode(c)
	return t
}

func (p *popper) request(i int32) {
	p.popping++
	at := len(p.out)
	p.out = append(p.out, p.pop.bytes...)
	p.pop.putOpaque(p.out[at:], firstOpaque+i)
	putDecimal(p.out[at+p.pop.timeAt:at+p.pop.timeAt+timeDigits], time.Now().UnixMilli())
}

// run returns when every message has been acknowledged, by whomever.
func (p *popper) run() error {
	p.waiting, p.came = map[int32]int{}, time.Now()
	for i := range p.o.InFlight {
		p.request(int32(i))
	}
	for {
		if len(p.out) > 0 {
			if _, err := p.conn.nc.Write(p.out); err != nil {
				return fmt.Errorf("connection to %s: %w", p.addr, err)
			}
			p.out = p.out[:0]
		}
		if p.popping == 0 && len(p.waiting) == 0 {
			return nil
		}
		if err := p.conn.nc.SetReadDeadline(time.Now().Add(readyTimeout)); err != nil {
			return err
		}
		if err := p.conn.fill(); err != nil {
			return err
		}
		for {
			f, err := p.conn.frame()
			if err != nil {
				return err
			}
			if f == nil {
				break
			}
			if err := p.answer(f); err != nil {
				return err
			}
		}
	}
}

func (p *popper) answer(frame []byte) error {
	c := &p.conn.cmd
	if err := protocol.Decode(frame, c); err != nil {
		return err
	}
	if !c.IsResponse() {
		return nil
	}
	if n, ok := p.waiting[c.Opaque]; ok {
		return p.acked(c, frame, n)
	}
	i := c.Opaque - firstOpaque
	if i < 0 || int(i) >= p.o.InFlight {
		return fmt.Errorf("answer of %s with opaque %d, which was not asked", p.addr, c.Opaque)
	}
	p.popping--
	switch protocol.ResponseCode(c.Code) {
	case protocol.RespSuccess:
		p.came = time.Now()
		n, err := countRecords(c.Body, p.o.Verify)
		if err == nil {
			p.bytes += int64(len(c.Body))
			err = p.acknowledge(c, n)
		}
		if err != nil {
			return fmt.Errorf("pop of %s: %w", p.addr, err)
		}
	case protocol.RespPollingTimeout, protocol.RespPullNotFound, protocol.RespPullRetryImmediately:
		if time.Since(p.came) > readyTimeout {
			return fmt.Errorf("%s has given no message for %s, and %d are not acknowledged", p.addr, readyTimeout, p.left.Load())
		}
		time.Sleep(popAgain)
	default:
		p.codes.note(c.Code, frame)
		if p.codes.counts[c.Code] > pullFailuresMax {
			return fmt.Errorf("pop of %s refused %d times: %w", p.addr, pullFailuresMax, c.Check())
		}
		time.Sleep(time.Millisecond)
	}
	if p.left.Load() > 0 {
		p.request(i)
	}
	return nil
}

// acked takes the answer to an acknowledgement of n messages.
func (p *popper) acked(c *protocol.Command, frame []byte, n int) error {
	delete(p.waiting, c.Opaque)
	if err := c.Check(); err != nil {
		p.codes.note(c.Code, frame)
		return fmt.Errorf("acknowledgement to %s: %w", p.addr, err)
	}
	p.got.Add(int64(n))
	p.left.Add(-int64(n))
	return nil
}

// acknowledge asks for what an answer brought to be done with: message by message, as clients do, or all of a queue in one request.
func (p *popper) acknowledge(c *protocol.Command, messages int) error {
	var r protocol.PopResult
	if err := protocol.DecodeHeader(c.Fields, &r); err != nil {
		return err
	}
	starts := map[string]int64{} // by mark and queue
	for part := range strings.SplitSeq(r.StartOffsetInfo, ";") {
		if i := strings.LastIndexByte(part, ' '); i > 0 {
			starts[part[:i]], _ = strconv.ParseInt(part[i+1:], 10, 64)
		}
	}
	for part := range strings.SplitSeq(r.MsgOffsetInfo, ";") {
		i := strings.LastIndexByte(part, ' ')
		if i < 0 {
			continue
		}
		mark, queue, _ := strings.Cut(part[:i], " ")
		id, err := strconv.ParseInt(queue, 10, 32)
		if err != nil {
			return fmt.Errorf("msgOffsetInfo %q: %w", r.MsgOffsetInfo, err)
		}
		var offsets []int64
		for text := range strings.SplitSeq(part[i+1:], ",") {
			offset, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return fmt.Errorf("msgOffsetInfo %q: %w", r.MsgOffsetInfo, err)
			}
			offsets = append(offsets, offset)
		}
		if messages -= len(offsets); mark != "0" {
			p.repeats += int64(len(offsets))
		}
		p.ack(&r, mark, int32(id), starts[part[:i]], offsets)
	}
	if messages != 0 {
		return fmt.Errorf("%d records more than msgOffsetInfo %q says", messages, r.MsgOffsetInfo)
	}
	return nil
}

func (p *popper) ack(r *protocol.PopResult, mark string, queue int32, start int64, offsets []int64) {
	if p.o.AckBatch {
		bits := make([]byte, (offsets[len(offsets)-1]-start)/8+1)
		for _, offset := range offsets {
			bits[(offset-start)/8] |= 1 << ((offset - start) % 8)
		}
		c := protocol.NewRequest(protocol.ReqBatchAckMessage, nil)
		c.Body = protocol.MarshalBody(protocol.BatchAckBody{BrokerName: p.broker, Acks: []protocol.BatchAck{{
			Group: p.group, Topic: p.o.Topic, Retry: mark, StartOffset: start, QueueID: queue, ReviveQueue: r.ReviveQueue,
			PopTime: r.PopTime, InvisibleMS: r.InvisibleMS, Bits: bits,
		}}})
		p.issue(c, len(offsets))
		return
	}
	topic := p.o.Topic
	if mark != "0" {
		topic = message.PopRetryTopic(topic, p.group, mark == "2")
	}
	for _, offset := range offsets {
		p.issue(protocol.NewRequest(protocol.ReqAckMessage, &protocol.AckHeader{
			Group: p.group, Topic: topic, QueueID: queue, Offset: offset,
			Receipt: fmt.Sprintf("%d %d %d %d %s %s %d %d", start, r.PopTime, r.InvisibleMS, r.ReviveQueue, mark, p.broker, queue, offset),
		}), 1)
	}
}

func (p *popper) issue(c *protocol.Command, messages int) {
	c.Serialize, c.Opaque = p.o.serialization(), ackOpaque+int32(p.acks%firstOpaque)
	p.acks++
	p.waiting[c.Opaque] = messages
	p.out = protocol.AppendFrame(p.out, c, 0)
}

// poppers connects the consumers, of a group that begins at the first message and is deleted in the end.
func (o *DrainOptions) poppers(ctx context.Context, at []endpoint, want int64) (list []*popper, err error) {
	left := new(atomic.Int64)
	left.Store(want)
	group := fmt.Sprintf("%s_%d", o.Group, time.Now().UnixMilli())
	t := o.popTemplate(group)
	for i := range max(o.Consumers, len(at)) {
		e := at[i%len(at)]
		c, err := dial(ctx, e.addr)
		if err != nil {
			return list, err
		}
		list = append(list, &popper{o: o, group: group, broker: "bench", addr: e.addr, pop: t, left: left, reader: newReader(c)})
		if i >= len(at) {
			continue
		}
		create := protocol.NewRequest(protocol.ReqUpdateAndCreateSubscriptionGroup, nil)
		create.Body = protocol.MarshalBody(&protocol.SubscriptionGroupConfig{
			GroupName: group, ConsumeEnable: true, ConsumeFromMinEnable: true, ConsumeBroadcastEnable: true, RetryMaxTimes: 16, RetryQueues: 1,
			WhichBrokerWhenSlow: 1, ConsumeTimeoutMinute: 15,
		})
		answer, err := c.call(create)
		if err == nil {
			err = answer.Check()
		}
		if err != nil {
			return list, fmt.Errorf("cannot create group %q on %s: %w", group, e.addr, err)
		}
	}
	return list, nil
}

// popRound pops the backlog once.
func (o *DrainOptions) popRound(ctx context.Context, at []endpoint, r *Report, observe Observer) error {
	ranges, err := o.ranges(ctx, at) // a new group begins at the topic's first message
	if err != nil {
		return err
	}
	var want int64
	for _, q := range ranges {
		want += q.end - q.begin
	}
	if want == 0 {
		return fmt.Errorf("topic %q holds no message: fill it with --fill N", o.Topic)
	}
	poppers, err := o.poppers(ctx, at, want)
	defer func() {
		for i, p := range poppers {
			p.conn.close()
			if i < len(at) {
				p.deleteGroup()
			}
		}
	}()
	if err != nil {
		return err
	}
	readers := newReaders("pop", want)
	for _, p := range poppers {
		readers.Add(p.Reader, p.conn.close, p.run)
	}
	if err := readers.measure(ctx, r, o.ServerPID, observe); err != nil {
		return err
	}
	repeats := int64(0)
	for _, p := range poppers {
		repeats += p.repeats
	}
	if r.Messages != want || repeats > 0 {
		return fmt.Errorf("the queues hold %d messages, but %d were acknowledged, and %d came again", want, r.Messages, repeats)
	}
	return nil
}

// deleteGroup forgets the group on the popper's broker. What a group has popped costs nothing after that.
func (p *popper) deleteGroup() {
	c, err := dial(context.Background(), p.addr)
	if err != nil {
		return // whoever measures a broker that is gone knows it by now
	}
	defer c.close()
	_ = c.invoke(protocol.ReqDeleteSubscriptionGroup, &protocol.DeleteGroupHeader{Group: p.group, CleanOffsets: true}, nil)
}
