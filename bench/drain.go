package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// queueRange is a part of a queue that is to be read. One puller owns it.
type queueRange struct {
	addr       string
	id         int
	begin, end int64
	cursor     int64 // what has been given to a lane
}

// lane reads one piece of a queue after the other; a queue has several, so that its pulls are pipelined.
type lane struct {
	q         *queueRange
	next, end int64
	failures  int
}

// pullFailuresMax is how often a pull may be refused in a row before the workload gives up.
const pullFailuresMax = 1000

// puller drains its queues over one connection, from one goroutine.
type puller struct {
	reader
	t       *template
	pullMax int
	verify  bool
	lanes   []lane
	active  int
	out     []byte
}

// reader is what everybody has who takes messages on a connection.
type reader struct {
	*Reader
	conn *conn
}

func newReader(c *conn) reader { return reader{NewReader(), c} }

// assign gives the lane the next piece of its queue; false when nothing is left.
func (l *lane) assign(pullMax int) bool {
	if l.q.cursor >= l.q.end {
		return false
	}
	l.next = l.q.cursor
	l.end = min(l.next+int64(pullMax), l.q.end)
	l.q.cursor = l.end
	return true
}

func (p *puller) request(i int) {
	l := &p.lanes[i]
	at := len(p.out)
	p.out = append(p.out, p.t.bytes...)
	p.t.putPull(p.out[at:], firstOpaque+int32(i), l.q.id, l.next, 0, int(l.end-l.next))
}

func (p *puller) run() error {
	for i := range p.lanes {
		if p.lanes[i].assign(p.pullMax) {
			p.active++
			p.request(i)
		}
	}
	for p.active > 0 {
		if err := p.flush(); err != nil {
			return err
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
	return nil
}

func (p *puller) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	_, err := p.conn.nc.Write(p.out)
	p.out = p.out[:0]
	if err != nil {
		return fmt.Errorf("connection to %s: %w", p.conn.addr, err)
	}
	return nil
}

// answer takes one pull's answer and asks for what comes next.
func (p *puller) answer(frame []byte) error {
	c := &p.conn.cmd
	if err := protocol.Decode(frame, c); err != nil {
		return err
	}
	if !c.IsResponse() {
		return nil
	}
	i := int(c.Opaque - firstOpaque)
	if i < 0 || i >= len(p.lanes) {
		return fmt.Errorf("answer of %s with opaque %d, which was not asked", p.conn.addr, c.Opaque)
	}
	l := &p.lanes[i]
	switch protocol.ResponseCode(c.Code) {
	case protocol.RespSuccess:
		n, err := countRecords(c.Body, p.verify)
		if err != nil {
			return fmt.Errorf("pull of queue %d at %d: %w", l.q.id, l.next, err)
		}
		l.failures = 0
		p.Read(int64(n), int64(len(c.Body)))
		l.next = nextOffset(c, l.next+int64(n))
	default:
		p.codes.note(c.Code, frame)
		if l.failures++; l.failures > pullFailuresMax {
			return fmt.Errorf("pull of queue %d at %d refused %d times: %w", l.q.id, l.next, l.failures, c.Check())
		}
		if l.failures > 1 {
			time.Sleep(time.Millisecond)
		}
		l.next = nextOffset(c, l.next)
	}
	if l.next < l.end || l.assign(p.pullMax) {
		p.request(i)
		return nil
	}
	p.active--
	return nil
}

func nextOffset(c *protocol.Command, otherwise int64) int64 {
	if v, ok := c.Fields.Get("nextBeginOffset"); ok {
		if n, ok := protocol.ParseInt(v); ok {
			return n
		}
	}
	return otherwise
}

// countRecords walks the records of a pull's body.
func countRecords(b []byte, verify bool) (n int, err error) {
	for len(b) > 0 {
		if len(b) < message.MinRecordSize {
			return n, fmt.Errorf("%w: %d bytes after record %d", message.ErrSizes, len(b), n)
		}
		size, magic := message.Peek(b)
		if size < message.MinRecordSize || size > len(b) || magic != message.MagicV1 && magic != message.MagicV2 {
			return n, fmt.Errorf("%w: record %d with size %d and magic %08X in %d bytes", message.ErrSizes, n, size, magic, len(b))
		}
		if verify {
			if err := verifyRecord(b[:size]); err != nil {
				return n, err
			}
		}
		b = b[size:]
		n++
	}
	return n, nil
}

func verifyRecord(b []byte) error {
	r, _, err := message.Decode(b)
	if err != nil {
		return err
	}
	return r.Verify(b)
}

// queueOffset asks for a queue's minimum or maximum.
func queueOffset(c *conn, code protocol.RequestCode, topic string, queue int) (int64, error) {
	var r protocol.OffsetResult
	err := c.invoke(code, &protocol.QueueHeader{Topic: topic, QueueID: int32(queue)}, &r)
	return r.Offset, err
}

// ranges reads minimum and maximum of every queue.
func (t *Target) ranges(ctx context.Context, at []endpoint) ([]*queueRange, error) {
	var out []*queueRange
	for _, e := range at {
		c, err := dial(ctx, e.addr)
		if err != nil {
			return nil, err
		}
		defer c.close()
		for id := range e.queues {
			low, err1 := queueOffset(c, protocol.ReqGetMinOffset, t.Topic, id)
			high, err2 := queueOffset(c, protocol.ReqGetMaxOffset, t.Topic, id)
			if err := firstError(err1, err2); err != nil {
				return nil, err
			}
			low = max(low, 0)
			out = append(out, &queueRange{addr: e.addr, id: id, begin: low, end: max(high, low)})
		}
	}
	return out, nil
}

// fill sends the backlog and returns the ranges that hold it.
func (o *DrainOptions) fill(ctx context.Context, at []endpoint, observe Observer) ([]*queueRange, error) {
	send := o.filling()
	f, err := newFleet(ctx, &send, send.remoting(at))
	if err != nil {
		return nil, err
	}
	defer f.close()
	before, err := o.ranges(ctx, at) // after the fleet's probes
	if err != nil {
		return nil, err
	}
	f.start()
	_, err = watcher{observe: observe, counter: f.sent, want: o.Fill}.window(ctx, "fill", 0, false, f.done)
	f.stop()
	<-f.done
	if err := firstError(f.err, err); err != nil {
		return nil, fmt.Errorf("filling: %w", err)
	}
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(100 * time.Millisecond) {
		after, err := o.ranges(ctx, at)
		if err != nil {
			return nil, err
		}
		var n int64
		for i, q := range after {
			q.begin = max(q.begin, before[i].end)
			n += q.end - q.begin
		}
		if n >= f.sent() {
			return after, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d messages were acknowledged, but the queues grew by %d only", f.sent(), n)
		}
	}
}

// pullers connects the consumers and shares the queues out among them.
func (o *DrainOptions) pullers(ctx context.Context, ranges []*queueRange) ([]*puller, error) {
	byAddr := map[string][]*queueRange{}
	for _, q := range ranges {
		q.cursor = q.begin
		byAddr[q.addr] = append(byAddr[q.addr], q)
	}
	h := &protocol.PullHeader{
		Group: o.Group, Topic: o.Topic, SysFlag: protocol.PullSubscription, Subscription: "*",
		SubVersion: time.Now().UnixMilli(), ExpressionType: protocol.ExpressionTag,
	}
	t := pullTemplate(h, o.Target.serialization())
	var out []*puller
	for addr, queues := range byAddr {
		n := min(o.Consumers, len(queues))
		for i := range n {
			c, err := dial(ctx, addr)
			if err != nil {
				return out, err
			}
			p := &puller{reader: newReader(c), t: t, pullMax: o.PullMax, verify: o.Verify}
			for j := i; j < len(queues); j += n {
				for range o.InFlight {
					p.lanes = append(p.lanes, lane{q: queues[j]})
				}
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// Drain measures how fast a backlog is pulled.
func Drain(ctx context.Context, o DrainOptions, observe Observer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	at, err := o.resolve(ctx)
	if err != nil {
		return nil, err
	}
	var ranges []*queueRange
	if o.Fill > 0 {
		ranges, err = o.fill(ctx, at, observe)
	} else {
		ranges, err = o.ranges(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	r := &Report{Workload: "drain", Parameters: o}
	for range o.Rounds {
		if o.Pop {
			err = o.popRound(ctx, at, r, observe)
		} else {
			err = o.round(ctx, ranges, r, observe)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// round reads the backlog once.
func (o *DrainOptions) round(ctx context.Context, ranges []*queueRange, r *Report, observe Observer) error {
	var want int64
	for _, q := range ranges {
		want += q.end - q.begin
	}
	if want == 0 {
		return fmt.Errorf("topic %q holds no message: fill it with --fill N", o.Topic)
	}
	pullers, err := o.pullers(ctx, ranges)
	defer func() {
		for _, p := range pullers {
			p.conn.close()
		}
	}()
	if err != nil {
		return err
	}
	readers := newReaders("drain", want)
	for _, p := range pullers {
		readers.Add(p.Reader, p.conn.close, p.run)
	}
	if err := readers.measure(ctx, r, o.ServerPID, observe); err != nil {
		return err
	}
	if r.Messages != want {
		return fmt.Errorf("the queues hold %d messages, but %d were pulled", want, r.Messages)
	}
	return nil
}
