package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// tickMin bounds how often a sender wakes; at higher rates it sends several messages per tick.
	tickMin = 200 * time.Microsecond
	// listenLead is between the first long poll and the first send.
	listenLead = 200 * time.Millisecond
	// settleTime is between warm-up and measurement.
	settleTime = 2 * time.Second
	// lateMax is how long after the measurement its last messages may leave.
	lateMax = 50 * time.Millisecond
)

// Run is what senders and receivers of an end to end measurement share.
type Run struct {
	options   *EndToEndOptions
	id        uint64
	epoch     time.Time // the schedule's zero
	measure   [2]time.Duration
	delay     time.Duration // after which a message is due that is sent
	limit     int           // unanswered messages of a sender
	senders   []*Paced
	receivers []*Receiver
	listening []func() error
	sending   []func() error
	hangUps   []func()
	stopping  atomic.Bool
	window    atomic.Int64 // messages received in the measured time
	unique    atomic.Int64 // distinct measured messages received
	repeated  atomic.Int64
}

// Paced sends by a schedule on one connection.
type Paced struct {
	run     *Run
	index   int
	plan    schedule
	seen    []atomic.Uint64 // a bit per message that a receiver got
	waiting atomic.Int64
	acked   atomic.Int64 // measured messages acknowledged
	codes   refusals
}

// Receiver notes what comes on one connection, from one goroutine.
type Receiver struct {
	run     *Run
	codes   refusals
	latency *hdrhistogram.Histogram
}

func newRun(o *EndToEndOptions) *Run {
	var id [8]byte
	_, _ = rand.Read(id[:])
	r := &Run{options: o, id: binary.BigEndian.Uint64(id[:]), delay: time.Duration(o.Delay), limit: o.InFlight}
	begin := time.Duration(o.Warmup.Duration) + o.settle()
	r.measure = [2]time.Duration{begin, begin + time.Duration(o.Duration)}
	return r
}

// NewPaced returns the next of the run's senders, of which there are as many as its options say.
func (r *Run) NewPaced() *Paced {
	o, i := r.options, len(r.senders)
	p := &Paced{run: r, index: i, codes: newRefusals()}
	p.plan = newSchedule(o.Rate, i, o.Senders, time.Duration(o.Warmup.Duration), o.settle(), time.Duration(o.Duration))
	p.seen = make([]atomic.Uint64, p.plan.total/64+1)
	r.senders = append(r.senders, p)
	return p
}

// NewReceiver returns another of the run's receivers.
func (r *Run) NewReceiver() *Receiver {
	l := &Receiver{run: r, codes: newRefusals(), latency: newHistogram()}
	r.receivers = append(r.receivers, l)
	return l
}

// Listen has a receiver's tasks started before anything is sent. They end when hangUp is called, with whatever error that causes.
func (r *Run) Listen(hangUp func(), tasks ...func() error) {
	r.listening, r.hangUps = append(r.listening, tasks...), append(r.hangUps, hangUp)
}

// Send has a sender's tasks started once all receivers listen. They end when hangUp is called, with whatever error that causes.
func (r *Run) Send(hangUp func(), tasks ...func() error) {
	r.sending, r.hangUps = append(r.sending, tasks...), append(r.hangUps, hangUp)
}

// now is the time on the schedule.
func (r *Run) now() time.Duration { return time.Since(r.epoch) }

// Pace has write send what is due at every tick. What the server's slowness held back leaves late, with the time at which it was due.
func (p *Paced) Pace(most int, write func(first, n int) error) error {
	tick, err := newTicker(max(p.plan.interval, tickMin))
	if err != nil {
		return err
	}
	defer tick.close()
	for sent := 0; sent < p.plan.total && !p.run.stopping.Load(); {
		now := p.run.now()
		if now >= p.run.measure[1]+lateMax {
			return nil // what has not left by now counts as not delivered
		}
		first, last := p.plan.due(now, sent)
		sent = first
		n := min(last-first, p.run.limit-int(p.waiting.Load()), most)
		if n <= 0 {
			if _, err := tick.wait(); err != nil {
				return err
			}
			continue
		}
		p.waiting.Add(int64(n))
		if err := write(sent, n); err != nil {
			return err
		}
		sent += n
	}
	return nil
}

// Measured says whether a message is one of the measurement, not of the warm-up.
func (p *Paced) Measured(seq int) bool { return seq >= p.plan.measured }

// Stamp writes which message it is, and when it should leave, to the beginning of its body.
func (p *Paced) Stamp(body []byte, seq int) {
	stamp{p.run.id, int64(p.plan.at(seq)), p.index, seq}.put(body)
}

// Answered notes an answer to a message; counts says whether it acknowledged one that is Measured.
func (p *Paced) Answered(counts bool) {
	p.waiting.Add(-1)
	if counts {
		p.acked.Add(1)
	}
}

// Now is the time for Receive.
func (l *Receiver) Now() time.Duration { return l.run.now() }

// Receive notes the latency of a message from its body, if it is one of this run.
func (l *Receiver) Receive(body []byte, now time.Duration) {
	if s, ok := readStamp(body); ok && s.run == l.run.id {
		l.note(s, now)
	}
}

func (l *Receiver) note(s stamp, now time.Duration) {
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

// EndToEndBy measures messages at a fixed rate over the connections that connect makes, which gives them to the run.
func EndToEndBy(ctx context.Context, o EndToEndOptions, connect func(context.Context, *Run) error, observe Observer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	r := newRun(&o)
	defer r.hangUp()
	if err := connect(ctx, r); err != nil {
		return nil, err
	}
	report := &Report{Workload: o.workload(), Parameters: o, Started: time.Now(), Warmed: o.Warmup.Duration, Elapsed: o.Duration}
	if err := r.drive(ctx, &o, report, observe); err != nil {
		return nil, err
	}
	r.summarize(report)
	report.setRate(float64(o.SizeBytes))
	return report, nil
}

func (r *Run) hangUp() {
	r.stopping.Store(true)
	for _, f := range r.hangUps {
		f()
	}
	r.hangUps = nil
}

// drive runs warm-up, measurement and grace.
func (r *Run) drive(ctx context.Context, o *EndToEndOptions, report *Report, observe Observer) error {
	r.epoch = time.Now().Add(listenLead)
	failed := make(chan error, len(r.listening)+len(r.sending))
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
	for _, f := range r.listening {
		start(f)
	}
	time.Sleep(listenLead)
	for _, f := range r.sending {
		start(f)
	}
	err := r.watch(ctx, o, report, observe, stop)
	r.hangUp()
	wg.Wait()
	select {
	case first := <-failed:
		return first
	default:
		return err
	}
}

func (r *Run) watch(ctx context.Context, o *EndToEndOptions, report *Report, observe Observer, stop <-chan struct{}) error {
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
func (r *Run) until(at time.Duration) time.Duration { return max(at-time.Since(r.epoch), 1) }

// awaitRest returns when all messages were delivered, or the grace is over.
func (r *Run) awaitRest(ctx context.Context, grace time.Duration, stop <-chan struct{}) error {
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

func (r *Run) intended() (n int64) {
	for _, p := range r.senders {
		n += int64(p.plan.total - p.plan.measured)
	}
	return n
}

func (r *Run) summarize(report *Report) {
	e := &EndToEnd{Intended: r.intended(), Delivered: r.unique.Load(), Duplicates: r.repeated.Load()}
	total, codes := newHistogram(), newRefusals()
	for _, p := range r.senders {
		e.Acknowledged += p.acked.Load()
		codes.add(p.codes)
	}
	for _, l := range r.receivers {
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
