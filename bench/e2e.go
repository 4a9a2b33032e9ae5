package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

const (
	// tickMin bounds how often a sender wakes; at higher rates it sends several messages per tick.
	tickMin           = 200 * time.Microsecond
	suspendTime       = 15 * time.Second
	heartbeatInterval = 20 * time.Second
	// listenLead is between the first long poll and the first send.
	listenLead = 200 * time.Millisecond
	// settleTime is between warm-up and measurement.
	settleTime = 2 * time.Second
	// lateMax is how long after the measurement its last messages may leave.
	lateMax = 50 * time.Millisecond
	// refusedPause is before a pull that was refused is repeated.
	refusedPause = 20 * time.Millisecond
)

// run is what senders and listeners of an end to end measurement share.
type run struct {
	id       uint64
	epoch    time.Time // the schedule's zero
	measure  [2]time.Duration
	delay    time.Duration // after which a message is due that is sent
	senders  []*pacer
	stopping atomic.Bool
	window   atomic.Int64 // messages received in the measured time
	unique   atomic.Int64 // distinct measured messages received
	repeated atomic.Int64
}

// pacer sends by a schedule on one connection.
type pacer struct {
	run     *run
	index   int
	conn    *conn
	t       *template
	queues  int
	plan    schedule
	frames  []byte
	ring    int
	limit   int
	seen    []atomic.Uint64 // a bit per message that a listener received
	waiting atomic.Int64
	acked   atomic.Int64 // measured messages acknowledged; opaque tells which they are
	codes   refusals
}

func newPacer(r *run, i int, c *conn, e endpoint, o *EndToEndOptions) *pacer {
	p := &pacer{run: r, index: i, conn: c, queues: e.queues, limit: o.InFlight, codes: newRefusals()}
	p.t = sendTemplate(o.shape(e))
	p.plan = newSchedule(o.Rate, i, o.Senders, time.Duration(o.Warmup.Duration), o.settle(), time.Duration(o.Duration))
	p.ring = max(1, min(o.InFlight, ringBytesMax/len(p.t.bytes)))
	for range p.ring {
		p.frames = append(p.frames, p.t.bytes...)
	}
	p.seen = make([]atomic.Uint64, p.plan.total/64+1)
	return p
}

// send writes what is due at every tick. What the server's slowness held back leaves late, with the time at which it was due.
func (p *pacer) send() error {
	tick, err := newTicker(max(p.plan.interval, tickMin))
	if err != nil {
		return err
	}
	defer tick.close()
	for sent := 0; sent < p.plan.total && !p.run.stopping.Load(); {
		now := time.Since(p.run.epoch)
		if now >= p.run.measure[1]+lateMax {
			return nil // what has not left by now counts as not delivered
		}
		first, last := p.plan.due(now, sent)
		sent = first
		n := min(last-first, p.limit-int(p.waiting.Load()), p.ring)
		if n <= 0 {
			if _, err := tick.wait(); err != nil {
				return err
			}
			continue
		}
		p.stampFrames(sent, n)
		p.waiting.Add(int64(n))
		if _, err := p.conn.nc.Write(p.frames[:n*len(p.t.bytes)]); err != nil {
			return fmt.Errorf("connection to %s: %w", p.conn.addr, err)
		}
		sent += n
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
		if seq >= p.plan.measured {
			opaque++
		}
		p.t.putSend(f, opaque, (seq+p.index)%p.queues, born, uint64(p.index)<<seqBits|uint64(seq))
		at := p.plan.at(seq)
		if p.run.delay > 0 {
			p.t.putDeliver(f, p.run.due(at))
		}
		stamp{p.run.id, int64(at), p.index, seq}.put(f[p.t.bodyAt:])
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
			if p.run.stopping.Load() {
				return nil
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
		p.waiting.Add(-1)
		switch {
		case h.opaque == firstOpaque: // of the warm-up
		case protocol.ResponseCode(h.code) == protocol.RespSuccess:
			p.acked.Add(1)
		default:
			p.codes.note(h.code, f)
		}
	}
}

// listener long-polls its queues on one connection, from one goroutine.
type listener struct {
	run     *run
	conn    *conn
	t       *template
	pullMax int
	queues  []*queueRange
	beat    []byte
	beatAt  time.Time
	out     []byte
	codes   refusals
	latency *hdrhistogram.Histogram
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
				return l.ended(err)
			}
			l.out = l.out[:0]
		}
		if err := l.conn.fill(); err != nil {
			return l.ended(err)
		}
		now := time.Since(l.run.epoch)
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

func (l *listener) ended(err error) error {
	if l.run.stopping.Load() {
		return nil
	}
	return err
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
		if s, ok := readStamp(r.Body); ok && s.run == l.run.id {
			l.note(s, now)
		}
		b = b[size:]
		n++
	}
	return n, nil
}

func (l *listener) note(s stamp, now time.Duration) {
	if at := now - l.run.delay; at >= l.run.measure[0] && at < l.run.measure[1] {
		l.run.window.Add(1)
	}
	if s.sender >= len(l.run.senders) || s.seq >= l.run.senders[s.sender].plan.total {
		return
	}
	p := l.run.senders[s.sender]
	if s.seq < p.plan.measured {
		return
	}
	bit := uint64(1) << (s.seq % 64)
	if p.seen[s.seq/64].Or(bit)&bit != 0 {
		l.run.repeated.Add(1)
		return
	}
	l.run.unique.Add(1)
	intended := s.intended
	if l.run.delay > 0 {
		intended = l.run.due(time.Duration(intended))*int64(time.Millisecond) - l.run.epoch.UnixNano()
	}
	record(l.latency, int64(now)-intended, 1)
}

// newListener connects, and registers the group and its subscription, without which a broker refuses the pull.
func newListener(ctx context.Context, r *run, addr string, queues []*queueRange, i int, o *EndToEndOptions) (*listener, error) {
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
		run: r, conn: c, t: pullTemplate(h, o.Target.serialization()), pullMax: o.PullMax, queues: queues,
		beat: protocol.AppendFrame(nil, beat, 0), beatAt: time.Now(), codes: newRefusals(), latency: newHistogram(),
	}, nil
}

// EndToEndLatency measures messages sent at a fixed rate and received by long polling.
func EndToEndLatency(ctx context.Context, o EndToEndOptions, observe Observer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	at, err := o.resolve(ctx)
	if err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	if err := o.fillPending(ctx, at, observe); err != nil {
		return nil, err
	}
	r := &run{id: binary.BigEndian.Uint64(id[:]), delay: time.Duration(o.Delay)}
	begin := time.Duration(o.Warmup.Duration) + o.settle()
	r.measure = [2]time.Duration{begin, begin + time.Duration(o.Duration)}
	listeners, err := r.connect(ctx, at, &o)
	defer r.hangUp(listeners)
	if err != nil {
		return nil, err
	}
	report := &Report{Workload: o.workload(), Parameters: o, Started: time.Now(), Warmed: o.Warmup.Duration, Elapsed: o.Duration}
	if err := r.drive(ctx, &o, listeners, report, observe); err != nil {
		return nil, err
	}
	r.summarize(listeners, report)
	report.setRate(float64(o.SizeBytes))
	return report, nil
}

func (r *run) connect(ctx context.Context, at []endpoint, o *EndToEndOptions) ([]*listener, error) {
	for _, e := range at {
		if err := probe(ctx, e, sendTemplate(o.shapeNow(e))); err != nil {
			return nil, err
		}
	}
	ranges, err := o.ranges(ctx, at)
	if err != nil {
		return nil, err
	}
	byAddr := map[string][]*queueRange{}
	for _, q := range ranges {
		q.cursor = q.end
		byAddr[q.addr] = append(byAddr[q.addr], q)
	}
	var listeners []*listener
	for addr, queues := range byAddr {
		n := min(o.Consumers, len(queues))
		for i := range n {
			var own []*queueRange
			for j := i; j < len(queues); j += n {
				own = append(own, queues[j])
			}
			l, err := newListener(ctx, r, addr, own, len(listeners), o)
			if err != nil {
				return listeners, err
			}
			listeners = append(listeners, l)
		}
	}
	for i := range o.Senders {
		e := at[i%len(at)]
		c, err := dial(ctx, e.addr)
		if err != nil {
			return listeners, err
		}
		r.senders = append(r.senders, newPacer(r, i, c, e, o))
	}
	return listeners, nil
}

func (r *run) hangUp(listeners []*listener) {
	r.stopping.Store(true)
	for _, l := range listeners {
		l.conn.close()
	}
	for _, p := range r.senders {
		p.conn.close()
	}
}

// drive runs warm-up, measurement and grace.
func (r *run) drive(ctx context.Context, o *EndToEndOptions, listeners []*listener, report *Report, observe Observer) error {
	r.epoch = time.Now().Add(listenLead)
	failed := make(chan error, len(listeners)+2*len(r.senders))
	stop := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	start := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && !r.stopping.Load() {
				failed <- err
				once.Do(func() { close(stop) })
			}
		})
	}
	for _, l := range listeners {
		start(l.listen)
	}
	time.Sleep(listenLead)
	for _, p := range r.senders {
		start(p.send)
		start(p.collect)
	}
	err := r.watch(ctx, o, report, observe, stop)
	r.hangUp(listeners)
	wg.Wait()
	select {
	case first := <-failed:
		return first
	default:
		return err
	}
}

func (r *run) watch(ctx context.Context, o *EndToEndOptions, report *Report, observe Observer, stop <-chan struct{}) error {
	if o.Warmup.Duration > 0 {
		if _, err := (watcher{observe: observe, counter: r.window.Load}).window(ctx, "warm-up", r.until(r.measure[0]), false, stop); err != nil {
			return err
		}
	}
	m, err := startMeter(o.ServerPID)
	if err != nil {
		return err
	}
	if _, err := (watcher{observe: observe, counter: r.window.Load}).window(ctx, "measure", r.until(r.measure[1]+r.delay), false, stop); err != nil {
		return err
	}
	if err := m.finish(report, r.window.Load()); err != nil {
		return err
	}
	return r.awaitRest(ctx, time.Duration(o.Grace), stop)
}

// until returns what is left to an instant of the schedule, never nothing, which would mean without end.
func (r *run) until(at time.Duration) time.Duration { return max(at-time.Since(r.epoch), 1) }

// awaitRest returns when all messages were delivered, or the grace is over.
func (r *run) awaitRest(ctx context.Context, grace time.Duration, stop <-chan struct{}) error {
	over := time.After(grace)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for r.unique.Load() < r.intended() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return nil
		case <-over:
			return nil
		case <-poll.C:
		}
	}
	return nil
}

// settle is how long nothing is sent before the measurement.
func (o *EndToEndOptions) settle() time.Duration {
	if o.Warmup.Duration == 0 {
		return 0
	}
	return settleTime
}

func (r *run) intended() (n int64) {
	for _, p := range r.senders {
		n += int64(p.plan.total - p.plan.measured)
	}
	return n
}

func (r *run) summarize(listeners []*listener, report *Report) {
	e := &EndToEnd{Intended: r.intended(), Delivered: r.unique.Load(), Duplicates: r.repeated.Load()}
	total, codes := newHistogram(), newRefusals()
	for _, p := range r.senders {
		e.Acknowledged += p.acked.Load()
		codes.add(p.codes)
	}
	for _, l := range listeners {
		total.Merge(l.latency)
		codes.add(l.codes)
	}
	if e.Intended > 0 {
		e.DeliveredPercent = 100 * float64(e.Delivered) / float64(e.Intended)
	}
	report.EndToEnd, report.Messages = e, r.window.Load()
	report.histogram, report.Latency = total, latencyOf(total)
	codes.report(report)
}
