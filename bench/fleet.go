package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/apogeemq/apogee/protocol"
)

// Phases of a workload, as the hot loops see them.
const (
	phaseWarmup int32 = iota
	phaseMeasure
	phaseStop
)

// Load is what the controller shares with its senders.
type Load struct {
	phase     atomic.Int32
	remaining atomic.Int64 // requests still to be issued, where a number was asked for
	counted   bool
}

// Claim takes up to n requests of what remains.
func (l *Load) Claim(n int) int {
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

// GiveBack returns a request that was refused, to be issued again.
func (l *Load) GiveBack() {
	if l.counted {
		l.remaining.Add(1)
	}
}

// Tally is what a sender counts, from one goroutine.
type Tally struct {
	load    *Load
	phase   int32
	latency *hdrhistogram.Histogram
	codes   refusals
	sent    atomic.Int64 // messages acknowledged, read by the controller
}

// NewTally returns the empty tally of a sender under a load.
func NewTally(l *Load) *Tally {
	return &Tally{load: l, latency: newHistogram(), codes: newRefusals()}
}

// Counts returns the tally itself, so that who embeds it is a Sender.
func (t *Tally) Counts() *Tally { return t }

// Stopped says whether no more requests are to be issued; what was counted before the measurement is forgotten when it begins.
func (t *Tally) Stopped() bool {
	if p := t.load.phase.Load(); p != t.phase {
		if p == phaseMeasure {
			t.latency.Reset()
			t.codes.reset()
		}
		t.phase = p
	}
	return t.phase == phaseStop
}

// Answered notes that a request of so many messages was acknowledged after d.
func (t *Tally) Answered(d time.Duration, messages int) {
	record(t.latency, int64(d), 1)
	t.sent.Add(int64(messages))
}

// Refused notes that a request was refused.
func (t *Tally) Refused(why string) {
	t.codes.noteRemark(int32(protocol.RespSystemError), why)
	t.load.GiveBack()
}

// Sender keeps requests unanswered on one connection: of RocketMQ's protocol or, in bench/peers/client, of another system's.
type Sender interface {
	Run() error     // issues what the load lets it claim; returns when the load stops or is used up, and all answers have come
	Finish()        // the load has stopped: bounds how long Run waits
	Counts() *Tally // may be read when Run has returned
	Close()
}

// Dialer connects the sender with a number from 0.
type Dialer func(ctx context.Context, number int, l *Load) (Sender, error)

// fleet is a set of senders that run together.
type fleet struct {
	load    Load
	senders []Sender
	err     error
	done    chan struct{}
}

func newFleet(ctx context.Context, o *SendOptions, dial Dialer) (*fleet, error) {
	f := &fleet{done: make(chan struct{})}
	if o.Count > 0 {
		f.load.counted = true
		f.load.remaining.Store((o.Count + int64(o.Batch) - 1) / int64(o.Batch))
	}
	for i := range o.Connections {
		s, err := dial(ctx, i, &f.load)
		if err != nil {
			f.close()
			return f, err
		}
		f.senders = append(f.senders, s)
	}
	return f, nil
}

func (f *fleet) close() {
	for _, s := range f.senders {
		s.Close()
	}
}

// start runs the senders; done is closed when all have returned, and err is set then.
func (f *fleet) start() {
	errs := make([]error, len(f.senders))
	var wg sync.WaitGroup
	for i, s := range f.senders {
		wg.Go(func() {
			if errs[i] = s.Run(); errs[i] != nil {
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
		s.Finish()
	}
}

func (f *fleet) sent() (n int64) {
	for _, s := range f.senders {
		n += s.Counts().sent.Load()
	}
	return n
}

// SendBy measures sends over the connections that dial makes.
func SendBy(ctx context.Context, o SendOptions, dial Dialer, observe Observer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	var err error
	r := &Report{Workload: "send", Parameters: o}
	if o.Count > 0 && o.Warmup.Duration > 0 {
		warm := o
		warm.Count, warm.Duration, warm.Warmup = 0, o.Warmup.Duration, Warmup{}
		if r.Warmed, err = warmSend(ctx, &warm, o.Warmup, dial, observe); err != nil {
			return nil, err
		}
		o.Warmup = Warmup{}
	}
	f, err := newFleet(ctx, &o, dial)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return r, f.measure(ctx, &o, r, observe)
}

// warmSend is the warm-up of a counted measurement: a run of its own, whose messages do not count.
func warmSend(ctx context.Context, o *SendOptions, w Warmup, dial Dialer, observe Observer) (Seconds, error) {
	f, err := newFleet(ctx, o, dial)
	if err != nil {
		return 0, err
	}
	defer f.close()
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
		t := s.Counts()
		total.Merge(t.latency)
		codes.add(t.codes)
	}
	r.histogram, r.Latency = total, latencyOf(total)
	codes.report(r)
	r.setRate(float64(o.SizeBytes))
	return nil
}
