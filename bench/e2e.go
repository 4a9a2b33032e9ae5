package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

const (
	suspendTime       = 15 * time.Second
	heartbeatInterval = 20 * time.Second
	// refusedPause is before a pull that was refused is repeated.
	refusedPause = 20 * time.Millisecond
)

// pacer sends by a schedule on one connection.
type pacer struct {
	*Paced
	conn   *conn
	t      *template
	queues int
	frames []byte
	ring   int
}

func newPacer(r *Run, c *conn, e endpoint, o *EndToEndOptions) *pacer {
	p := &pacer{Paced: r.NewPaced(), conn: c, queues: e.queues}
	p.t = sendTemplate(o.shape(e))
	p.ring = max(1, min(o.InFlight, ringBytesMax/len(p.t.bytes)))
	for range p.ring {
		p.frames = append(p.frames, p.t.bytes...)
	}
	return p
}

func (p *pacer) send() error { return p.Pace(p.ring, p.write) }

func (p *pacer) write(first, n int) error {
	p.stampFrames(first, n)
	if _, err := p.conn.nc.Write(p.frames[:n*len(p.t.bytes)]); err != nil {
		return fmt.Errorf("connection to %s: %w", p.conn.addr, err)
	}
	return nil
}

func (p *pacer) stampFrames(first, n int) {
	born := time.Now().UnixMilli()
	size := len(p.t.bytes)
	for i := range n {
		seq := first + i
		f := p.frames[i*size : (i+1)*size]
		opaque := int32(firstOpaque)
		if p.Measured(seq) {
			opaque++
		}
		p.t.putSend(f, opaque, (seq+p.index)%p.queues, born, uint64(p.index)<<seqBits|uint64(seq))
		if p.run.delay > 0 {
			p.t.putDeliver(f, p.run.due(p.plan.at(seq)))
		}
		p.Stamp(f[p.t.bodyAt:], seq)
	}
}

// collect reads the acknowledgements.
func (p *pacer) collect() error {
	for {
		f, err := p.conn.frame()
		if err == nil && f == nil {
			if err = p.conn.fill(); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		h, err := readHead(f)
		if err != nil {
			return err
		}
		if !h.response {
			continue
		}
		measured := h.opaque != firstOpaque
		ok := protocol.ResponseCode(h.code) == protocol.RespSuccess
		if p.Answered(measured && ok); measured && !ok {
			p.codes.note(h.code, f)
		}
	}
}

// listener long-polls its queues on one connection, from one goroutine.
type listener struct {
	*Receiver
	conn    *conn
	t       *template
	pullMax int
	queues  []*queueRange
	beat    []byte
	beatAt  time.Time
	out     []byte
}

func (l *listener) request(i int) {
	at := len(l.out)
	q := l.queues[i]
	l.out = append(l.out, l.t.bytes...)
	l.t.putPull(l.out[at:], firstOpaque+int32(i), q.id, q.cursor, q.cursor, l.pullMax)
}

func (l *listener) listen() error {
	for i := range l.queues {
		l.request(i)
	}
	for {
		if now := time.Now(); now.Sub(l.beatAt) > heartbeatInterval {
			l.out, l.beatAt = append(l.out, l.beat...), now
		}
		if len(l.out) > 0 {
			if _, err := l.conn.nc.Write(l.out); err != nil {
				return err
			}
			l.out = l.out[:0]
		}
		if err := l.conn.fill(); err != nil {
			return err
		}
		now := l.run.now()
		for {
			f, err := l.conn.frame()
			if err != nil {
				return err
			}
			if f == nil {
				break
			}
			if err := l.answer(f, now); err != nil {
				return err
			}
		}
	}
}

func (l *listener) answer(frame []byte, now time.Duration) error {
	c := &l.conn.cmd
	if err := protocol.Decode(frame, c); err != nil {
		return err
	}
	i := int(c.Opaque - firstOpaque)
	if !c.IsResponse() || i < 0 || i >= len(l.queues) {
		return nil // a push, or a heartbeat's answer
	}
	q := l.queues[i]
	switch protocol.ResponseCode(c.Code) {
	case protocol.RespSuccess:
		n, err := l.receive(c.Body, now)
		if err != nil {
			return fmt.Errorf("pull of queue %d at %d: %w", q.id, q.cursor, err)
		}
		q.cursor = nextOffset(c, q.cursor+int64(n))
	case protocol.RespPullNotFound, protocol.RespPullRetryImmediately, protocol.RespPullOffsetMoved:
		q.cursor = nextOffset(c, q.cursor)
	default:
		if now >= l.run.measure[0] {
			l.codes.note(c.Code, frame)
		}
		time.Sleep(refusedPause)
	}
	l.request(i)
	return nil
}

// receive notes each record's latency.
func (l *listener) receive(b []byte, now time.Duration) (n int, err error) {
	for len(b) > 0 {
		r, size, err := message.Decode(b)
		if err != nil {
			return n, err
		}
		l.Receive(r.Body, now)
		b = b[size:]
		n++
	}
	return n, nil
}

// newListener connects, and registers the group and its subscription, without which a broker refuses the pull.
func newListener(ctx context.Context, r *Run, addr string, queues []*queueRange, i int, o *EndToEndOptions) (*listener, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	version := time.Now().UnixMilli()
	beat := protocol.NewRequest(protocol.ReqHeartBeat, nil)
	beat.Body = protocol.MarshalBody(protocol.Heartbeat{
		ClientID:  fmt.Sprintf("127.0.0.1@%d#bench%d", os.Getpid(), i),
		Producers: []protocol.ProducerData{},
		Consumers: []protocol.ConsumerData{{
			Group: o.Group, ConsumeType: protocol.ConsumePassively, Model: protocol.ModelClustering, FromWhere: protocol.FromLastOffset,
			Subscriptions: []protocol.SubscriptionData{{
				Topic: o.Topic, Expression: "*", Tags: []string{}, Codes: []int32{}, Version: version, Type: protocol.ExpressionTag,
			}},
		}},
	})
	answer, err := c.call(beat)
	if err == nil {
		err = answer.Check()
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("heartbeat to %s: %w", addr, err)
	}
	beat.Opaque = firstOpaque - 1
	h := &protocol.PullHeader{
		Group: o.Group, Topic: o.Topic, SysFlag: protocol.PullSuspend | protocol.PullCommitOffset,
		SuspendMS: suspendTime.Milliseconds(), SubVersion: version, ExpressionType: protocol.ExpressionTag,
	}
	return &listener{
		Receiver: r.NewReceiver(), conn: c, t: pullTemplate(h, o.Target.serialization()), pullMax: o.PullMax, queues: queues,
		beat: protocol.AppendFrame(nil, beat, 0), beatAt: time.Now(),
	}, nil
}

// EndToEndLatency measures messages sent to RocketMQ's brokers at a fixed rate and received by long polling.
func EndToEndLatency(ctx context.Context, o EndToEndOptions, observe Observer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	at, err := o.resolve(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.fillPending(ctx, at, observe); err != nil {
		return nil, err
	}
	return EndToEndBy(ctx, o, func(ctx context.Context, r *Run) error { return o.connect(ctx, at, r) }, observe)
}

// connect makes the connections of a run with RocketMQ's brokers.
func (o *EndToEndOptions) connect(ctx context.Context, at []endpoint, r *Run) error {
	for _, e := range at {
		if err := probe(ctx, e, sendTemplate(o.shapeNow(e))); err != nil {
			return err
		}
	}
	ranges, err := o.ranges(ctx, at)
	if err != nil {
		return err
	}
	byAddr := map[string][]*queueRange{}
	for _, q := range ranges {
		q.cursor = q.end
		byAddr[q.addr] = append(byAddr[q.addr], q)
	}
	listeners := 0
	for addr, queues := range byAddr {
		n := min(o.Consumers, len(queues))
		for i := range n {
			var own []*queueRange
			for j := i; j < len(queues); j += n {
				own = append(own, queues[j])
			}
			l, err := newListener(ctx, r, addr, own, listeners, o)
			if err != nil {
				return err
			}
			listeners++
			r.Listen(l.conn.close, l.listen)
		}
	}
	for i := range o.Senders {
		e := at[i%len(at)]
		c, err := dial(ctx, e.addr)
		if err != nil {
			return err
		}
		p := newPacer(r, c, e, o)
		r.Send(c.close, p.send, p.collect)
	}
	return nil
}
