package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Reader counts what comes on one connection, from one goroutine.
type Reader struct {
	codes refusals
	got   atomic.Int64
	bytes int64 // of whole records
}

// NewReader returns a reader that has read nothing.
func NewReader() *Reader { return &Reader{codes: newRefusals()} }

// Read notes messages, and how many bytes they have in the form in which they came.
func (r *Reader) Read(messages, bytes int64) {
	r.got.Add(messages)
	r.bytes += bytes
}

// Readers are those that take one backlog.
type Readers struct {
	phase   string
	want    int64 // messages of the backlog
	readers []*Reader
	runs    []func() error
	closers []func()
	done    chan struct{}
}

func newReaders(phase string, want int64) *Readers {
	return &Readers{phase: phase, want: want, done: make(chan struct{})}
}

// Add gives a reader to a round; run returns when nothing is left for it, or when its connection is closed.
func (r *Readers) Add(reader *Reader, close func(), run func() error) {
	r.readers, r.runs, r.closers = append(r.readers, reader), append(r.runs, run), append(r.closers, close)
}

// Left says how many messages nobody has read yet.
func (r *Readers) Left() int64 { return r.want - r.got() }

func (r *Readers) got() (n int64) {
	for _, p := range r.readers {
		n += p.got.Load()
	}
	return n
}

// measure fills the report with how the readers take all that there is.
func (r *Readers) measure(ctx context.Context, to *Report, serverPID int, observe Observer) error {
	m, err := startMeter(serverPID)
	if err != nil {
		return err
	}
	to.Started = time.Now()
	err = r.run(ctx, watcher{observe: observe, counter: r.got, want: r.want})
	to.Elapsed, to.Messages = Seconds(time.Since(to.Started)), r.got()
	if err = firstError(err, m.finish(to, to.Messages)); err != nil {
		return err
	}
	codes, bytes := newRefusals(), int64(0)
	for _, p := range r.readers {
		codes.add(p.codes)
		bytes += p.bytes
	}
	codes.report(to)
	to.setRate(float64(bytes) / float64(max(to.Messages, 1)))
	return nil
}

// run runs what drives each connection until all have ended.
func (r *Readers) run(ctx context.Context, w watcher) error {
	errs := make([]error, len(r.runs))
	var wg sync.WaitGroup
	for i, run := range r.runs {
		wg.Go(func() { errs[i] = run() })
	}
	go func() { wg.Wait(); close(r.done) }()
	_, err := w.window(ctx, r.phase, 0, false, r.done)
	if err != nil {
		r.Close()
	}
	<-r.done
	return firstError(append([]error{err}, errs...)...)
}

// Close closes the connections.
func (r *Readers) Close() {
	for _, f := range r.closers {
		f()
	}
}

// DrainBy measures how fast a backlog is read. dial connects what sends it before; open connects the readers of one round, which
// read the topic from its beginning, and says how many messages it holds.
func DrainBy(ctx context.Context, o DrainOptions, dial func(context.Context, *SendOptions, int, *Load) (Sender, error),
	open func(context.Context, *DrainOptions, *Readers) (int64, error), observe Observer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Fill > 0 {
		fill := o.filling()
		by := func(ctx context.Context, i int, l *Load) (Sender, error) { return dial(ctx, &fill, i, l) }
		if _, err := SendBy(ctx, fill, by, observe); err != nil {
			return nil, fmt.Errorf("filling: %w", err)
		}
	}
	report := &Report{Workload: "drain", Parameters: o}
	for range o.Rounds {
		r := newReaders("drain", 0)
		held, err := open(ctx, &o, r)
		if err == nil && held == 0 {
			err = fmt.Errorf("topic %q holds no message: fill it with --fill N", o.Topic)
		}
		if r.want = held; err == nil {
			err = r.measure(ctx, report, o.ServerPID, observe)
		}
		r.Close()
		if err != nil {
			return nil, err
		}
		if left := r.Left(); left != 0 {
			return nil, fmt.Errorf("topic %q holds %d messages, but %d were read", o.Topic, held, held-left)
		}
	}
	return report, nil
}

// filling are the sends that make the backlog.
func (o *DrainOptions) filling() SendOptions {
	return SendOptions{Target: o.Target, Connections: 16, InFlight: 128, SizeBytes: o.SizeBytes, Batch: 1, Count: o.Fill}
}
