package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// Phases of a workload, as the hot loops see them.
const (
	phaseWarmup int32 = iota
	phaseMeasure
	phaseStop
)

// load is what the controller shares with its senders.
type load struct {
	phase     atomic.Int32
	remaining atomic.Int64 // requests still to be issued, where a number was asked for
	counted   bool
}

// claim takes up to n requests of what remains.
func (l *load) claim(n int) int {
	if !l.counted {
		return n
	}
	for {
		left := l.remaining.Load()
		take := min(int64(n), left)
		if l.remaining.CompareAndSwap(left, left-take) {
			return int(take)
		}
	}
}

// giveBack returns a request that was refused, to be issued again.
func (l *load) giveBack() {
	if l.counted {
		l.remaining.Add(1)
	}
}

// refusedMax is how many answers in a row may be refusals before a sender gives up.
const refusedMax = 100_000

// sender keeps a window of requests outstanding on one connection, from one goroutine: it reads what has been answered and issues as
// many again with one write. The window's answers always fit in the socket buffers, so that both ends cannot block in write.
type sender struct {
	conn    *conn
	load    *load
	t       *template
	queues  int
	queue   int
	key     uint64
	frames  []byte  // ring frames, patched in place
	ring    int     // frames that one write can take
	issued  []int64 // by slot: when the request was written
	free    []int32 // slots to be issued
	halves  []bool  // by slot: the half message of a transaction is under way
	commits []byte  // frames to be written
	waiting int     // requests not answered yet
	refused int     // answers in a row that were refusals
	phase   int32
	epoch   time.Time
	latency *hdrhistogram.Histogram
	codes   refusals
	sent    atomic.Int64 // messages acknowledged, read by the controller
}

const ringBytesMax = 1 << 20

func newSender(c *conn, l *load, t *template, queues, inFlight, index int) *sender {
	s := &sender{conn: c, load: l, t: t, queues: queues, queue: index % queues, key: uint64(index) << 40, epoch: time.Now()}
	s.ring = max(1, min(inFlight, ringBytesMax/len(t.bytes)))
	s.frames = make([]byte, 0, s.ring*len(t.bytes))
	for range s.ring {
		s.frames = append(s.frames, t.bytes...)
	}
	s.issued = make([]int64, inFlight)
	s.free = make([]int32, inFlight)
	for i := range s.free {
		s.free[i] = int32(i)
	}
	if t.end != nil {
		s.halves = make([]bool, inFlight)
	}
	s.latency, s.codes = newHistogram(), newRefusals()
	return s
}

// run returns when the load stops or its requests are used up, and all answers have come.
func (s *sender) run() error {
	for {
		if err := s.issue(); err != nil {
			return err
		}
		if s.waiting == 0 {
			return nil
		}
		if err := s.conn.fill(); err != nil {
			return err
		}
		if err := s.complete(); err != nil {
			return err
		}
	}
}

// once sends what fits in the window and waits for all answers.
func (s *sender) once() error {
	err := s.issue()
	for err == nil && s.waiting > 0 {
		if err = s.conn.fill(); err == nil {
			err = s.complete()
		}
	}
	return err
}

// issue sends a request for every free slot.
func (s *sender) issue() error {
	if p := s.load.phase.Load(); p != s.phase {
		s.enter(p)
	}
	if s.phase == phaseStop || len(s.free) == 0 {
		return nil
	}
	n := s.load.claim(len(s.free))
	slots := s.free[:n]
	size := len(s.t.bytes)
	for len(slots) > 0 {
		k := min(len(slots), s.ring)
		now := time.Now()
		at, born := int64(now.Sub(s.epoch)), now.UnixMilli()
		for i, slot := range slots[:k] {
			s.t.putSend(s.frames[i*size:], firstOpaque+slot, s.queue, born, s.key)
			s.key += uint64(s.t.messages)
			if s.queue++; s.queue == s.queues {
				s.queue = 0
			}
			s.issued[slot] = at
			if s.halves != nil {
				s.halves[slot] = true
			}
		}
		if _, err := s.conn.nc.Write(s.frames[:k*size]); err != nil {
			return fmt.Errorf("connection to %s: %w", s.conn.addr, err)
		}
		s.waiting += k
		slots = slots[k:]
	}
	s.free = s.free[:0]
	return nil
}

func (s *sender) enter(phase int32) {
	if phase == phaseMeasure {
		s.latency.Reset()
		s.codes.reset()
	}
	s.phase = phase
}

// complete takes all answers that were read.
func (s *sender) complete() error {
	now := int64(time.Since(s.epoch))
	ok := 0
	for {
		f, err := s.conn.frame()
		if err != nil {
			return err
		}
		if f == nil {
			break
		}
		h, err := readHead(f)
		if err != nil {
			return err
		}
		slot := h.opaque - firstOpaque
		if !h.response {
			continue // a push of the broker
		}
		if slot < 0 || int(slot) >= len(s.issued) {
			return fmt.Errorf("answer of %s with opaque %d, which was not asked", s.conn.addr, h.opaque)
		}
		success := protocol.ResponseCode(h.code) == protocol.RespSuccess
		if success && s.halves != nil && s.halves[slot] {
			if err := s.commit(slot, f); err != nil {
				return err
			}
			continue
		}
		record(s.latency, now-s.issued[slot], 1)
		s.free = append(s.free, slot)
		s.waiting--
		if success {
			ok += s.t.messages
			s.refused = 0
			continue
		}
		s.codes.note(h.code, f)
		s.load.giveBack()
		if s.refused++; s.refused > refusedMax {
			return fmt.Errorf("broker %s refused %d sends in a row: %w", s.conn.addr, s.refused, s.codes.first())
		}
	}
	if ok > 0 {
		s.sent.Add(int64(ok))
	}
	return s.writeCommits()
}

// commit answers an answer to a half message, in one write with the others of this read.
func (s *sender) commit(slot int32, answer []byte) error {
	var r protocol.SendResult
	err := protocol.Decode(answer, &s.conn.cmd)
	if err == nil {
		err = protocol.DecodeHeader(s.conn.cmd.Fields, &r)
	}
	if err != nil {
		return fmt.Errorf("answer of %s: %w", s.conn.addr, err)
	}
	_, position, err := message.ParseOffsetID(r.MsgID)
	if err != nil {
		return fmt.Errorf("answer of %s: %w", s.conn.addr, err)
	}
	s.halves[slot] = false
	s.commits = s.t.end.appendCommit(s.commits, firstOpaque+slot, r.QueueOffset, position)
	return nil
}

func (s *sender) writeCommits() error {
	if len(s.commits) == 0 {
		return nil
	}
	_, err := s.conn.nc.Write(s.commits)
	s.commits = s.commits[:0]
	if err != nil {
		return fmt.Errorf("connection to %s: %w", s.conn.addr, err)
	}
	return nil
}

// fleet is a set of senders that run together.
type fleet struct {
	load    load
	senders []*sender
	err     error
	done    chan struct{}
}

// newFleet connects to the brokers and makes sure, by one send to each, that the topic takes messages.
func newFleet(ctx context.Context, o *SendOptions, at []endpoint) (*fleet, error) {
	f := &fleet{done: make(chan struct{})}
	if o.Count > 0 {
		f.load.counted = true
		f.load.remaining.Store((o.Count + int64(o.Batch) - 1) / int64(o.Batch))
	}
	for i := range o.Connections {
		e := at[i%len(at)]
		c, err := dial(ctx, e.addr)
		if err != nil {
			return f, errors.Join(err, f.close())
		}
		t := sendTemplate(sendShape{o.Topic, e.queues, o.SizeBytes, o.Batch, o.Transaction, o.deliver, o.serialization()})
		f.senders = append(f.senders, newSender(c, &f.load, t, e.queues, o.InFlight, i))
		if i < len(at) {
			if err := probe(ctx, e, t); err != nil {
				return f, errors.Join(err, f.close())
			}
		}
	}
	return f, nil
}

// probe sends one request and waits, for a topic that was just made, until the broker takes it.
func probe(ctx context.Context, e endpoint, t *template) error {
	for deadline := time.Now().Add(callTimeout); ; time.Sleep(100 * time.Millisecond) {
		refused, err := probeOnce(ctx, e, t)
		if err != nil || refused == nil {
			return err
		}
		if code, _ := protocol.CodeOf(refused); code != protocol.RespTopicNotExist || time.Now().After(deadline) {
			return fmt.Errorf("broker %s refuses sends: %w", e.addr, refused)
		}
	}
}

// probeOnce sends one request and returns what the broker said against it.
func probeOnce(ctx context.Context, e endpoint, t *template) (refused, err error) {
	c, err := dial(ctx, e.addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	s := newSender(c, &load{}, t, e.queues, 1, connectionsMax)
	_ = c.nc.SetDeadline(time.Now().Add(callTimeout))
	if err := s.once(); err != nil {
		return nil, fmt.Errorf("first send: %w", err)
	}
	return s.codes.first(), nil // there was one answer
}

func (f *fleet) close() error {
	for _, s := range f.senders {
		s.conn.close()
	}
	return nil
}

// start runs the senders; done is closed when all have returned, and err is set then.
func (f *fleet) start() {
	errs := make([]error, len(f.senders))
	var wg sync.WaitGroup
	for i, s := range f.senders {
		wg.Go(func() {
			if errs[i] = s.run(); errs[i] != nil {
				f.stop() // one that fails ends the workload
			}
		})
	}
	go func() {
		wg.Wait()
		f.err = firstError(errs...)
		close(f.done)
	}()
}

// stop lets the senders finish what is in flight.
func (f *fleet) stop() {
	f.load.phase.Store(phaseStop)
	for _, s := range f.senders {
		_ = s.conn.nc.SetDeadline(time.Now().Add(callTimeout))
	}
}

func (f *fleet) sent() (n int64) {
	for _, s := range f.senders {
		n += s.sent.Load()
	}
	return n
}

// Send measures pipelined sends.
func Send(ctx context.Context, o SendOptions, observe Observer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	at, err := o.resolve(ctx)
	if err != nil {
		return nil, err
	}
	r := &Report{Workload: "send", Parameters: o}
	if o.Count > 0 && o.Warmup.Duration > 0 {
		warm := o
		warm.Count, warm.Duration, warm.Warmup = 0, o.Warmup.Duration, Warmup{}
		if r.Warmed, err = warmSend(ctx, &warm, o.Warmup, at, observe); err != nil {
			return nil, err
		}
		o.Warmup = Warmup{}
	}
	f, err := newFleet(ctx, &o, at)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.close() }()
	return r, f.measure(ctx, &o, r, observe)
}

// warmSend is the warm-up of a counted measurement: a run of its own, whose messages do not count.
func warmSend(ctx context.Context, o *SendOptions, w Warmup, at []endpoint, observe Observer) (Seconds, error) {
	f, err := newFleet(ctx, o, at)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.close() }()
	f.start()
	d, err := watcher{observe: observe, counter: f.sent}.window(ctx, "warm-up", time.Duration(w.Duration), w.UntilStable, f.done)
	f.stop()
	<-f.done
	return Seconds(d), firstError(f.err, err)
}

func (f *fleet) measure(ctx context.Context, o *SendOptions, r *Report, observe Observer) error {
	w := watcher{observe: observe, counter: f.sent, want: o.Count}
	if o.Warmup.Duration == 0 {
		f.load.phase.Store(phaseMeasure)
	}
	m, err := startMeter(o.ServerPID)
	if err != nil {
		return err
	}
	before, began := int64(0), time.Now()
	r.Started = began
	f.start()
	if o.Warmup.Duration > 0 {
		var d time.Duration
		if d, err = w.window(ctx, "warm-up", time.Duration(o.Warmup.Duration), o.Warmup.UntilStable, f.done); err == nil {
			m, err = startMeter(o.ServerPID)
		}
		before, began = f.sent(), time.Now()
		r.Warmed, r.Started = Seconds(d), began
		f.load.phase.CompareAndSwap(phaseWarmup, phaseMeasure)
	}
	if err == nil {
		length := time.Duration(o.Duration)
		if o.Count > 0 {
			length = 0
		}
		_, err = w.window(ctx, "measure", length, false, f.done)
	}
	r.Elapsed, r.Messages = Seconds(time.Since(began)), f.sent()-before
	use := m.finish(r, r.Messages)
	f.stop()
	<-f.done
	if err := firstError(f.err, err, use); err != nil {
		return err
	}
	total, codes := newHistogram(), newRefusals()
	for _, s := range f.senders {
		total.Merge(s.latency)
		codes.add(s.codes)
	}
	r.histogram, r.Latency = total, latencyOf(total)
	codes.report(r)
	r.setRate(float64(o.SizeBytes))
	return nil
}
