package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/apogeemq/apogee/bench"
)

// nats is NATS JetStream: a topic is a stream in a file with one subject; nothing is acknowledged by consumers.
type nats struct{}

type object map[string]any

// connectStream makes the stream if there is none.
func connectStream(ctx context.Context, t *bench.Target) (*wire, error) {
	w, err := dialNATS(ctx, t.Broker)
	if err != nil {
		return nil, err
	}
	stream := object{"name": t.Topic, "subjects": []string{t.Topic}, "storage": "file", "retention": "limits", "num_replicas": 1, "allow_batched": true}
	if err := w.ask("STREAM.CREATE."+t.Topic, stream, &object{}); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// An answer comes at the inbox followed by the number of the request's slot, slotFirst added so that it has slotDigits.
const (
	slotFirst  = 1_000_000
	slotDigits = 7
)

// natsSender keeps requests unanswered on one connection: a message, or a batch of them ("fast ingest").
type natsSender struct {
	*bench.Tally
	load   *bench.Load
	w      *wire
	o      *bench.SendOptions
	inbox  string
	body   []byte
	issued []time.Time // by slot
	free   []int
	batch  uint64
	out    []byte
}

func (nats) sender(ctx context.Context, o *bench.SendOptions, number int, l *bench.Load) (bench.Sender, error) {
	w, err := connectStream(ctx, &o.Target)
	if err != nil {
		return nil, err
	}
	s := &natsSender{Tally: bench.NewTally(l), load: l, w: w, o: o, batch: rand.Uint64() >> 8}
	s.inbox = fmt.Sprintf("_INBOX.%d.%d.", rand.Uint64(), number)
	s.body = append(bytes.Repeat([]byte("x"), o.SizeBytes), crlf...)
	s.issued = make([]time.Time, o.InFlight)
	for i := range o.InFlight {
		s.free = append(s.free, i)
	}
	return s, w.write([]byte("SUB " + s.inbox + "> 1\r\n"))
}

func (s *natsSender) Close() { s.w.close() }

func (s *natsSender) Finish() { _ = s.w.nc.SetDeadline(time.Now().Add(answerTimeout)) }

func (s *natsSender) Run() error {
	for {
		if err := s.issue(); err != nil {
			return err
		}
		if len(s.free) == s.o.InFlight {
			return nil
		}
		if err := s.w.fill(); err != nil {
			return err
		}
		if err := s.complete(); err != nil {
			return err
		}
	}
}

// issue sends a request for every free slot, with one write.
func (s *natsSender) issue() error {
	if s.Stopped() || len(s.free) == 0 {
		return nil
	}
	s.out = s.out[:0]
	now := time.Now()
	for range s.load.Claim(len(s.free)) {
		slot := s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
		s.issued[slot] = now
		if s.o.Batch > 1 {
			s.appendBatch(slot)
			continue
		}
		s.out = append(append(append(s.out, "PUB "...), s.o.Topic...), ' ')
		s.out = s.appendInbox(s.out, slot)
		s.out = strconv.AppendInt(append(s.out, ' '), int64(s.o.SizeBytes), 10)
		s.out = append(append(s.out, crlf...), s.body...)
	}
	return s.w.write(s.out)
}

func (s *natsSender) appendInbox(b []byte, slot int) []byte {
	return strconv.AppendInt(append(b, s.inbox...), int64(slot+slotFirst), 10)
}

// appendBatch adds a batch. Its messages say at which subject they are to be answered, and there which batch they are of, after how
// many an answer is wanted meanwhile, their number in it, and whether they begin (0), go on with (1) or end (2) it.
func (s *natsSender) appendBatch(slot int) {
	s.batch++
	for i := 1; i <= s.o.Batch; i++ {
		operation := 1
		switch i {
		case 1:
			operation = 0
		case s.o.Batch:
			operation = 2
		}
		s.out = append(append(append(s.out, "PUB "...), s.o.Topic...), ' ')
		s.out = fmt.Appendf(s.appendInbox(s.out, slot), ".%x.%d.fail.%d.%d.$FI %d\r\n", s.batch, 2*s.o.Batch, i, operation, s.o.SizeBytes)
		s.out = append(s.out, s.body...)
	}
}

// complete takes all answers that were read.
func (s *natsSender) complete() error {
	now := time.Now()
	for {
		m, ok, err := s.w.next()
		if err != nil || !ok {
			return err
		}
		if m.sid != 1 || bytes.Contains(m.body, []byte(`"type":"ack"`)) {
			continue // the server says how fast it takes a batch
		}
		slot, err := s.slotOf(m.subject)
		if err != nil {
			return err
		}
		s.free = append(s.free, slot)
		if m.headers || bytes.Contains(m.body, []byte(`"error"`)) {
			s.Refused(string(m.body))
			continue
		}
		s.Answered(now.Sub(s.issued[slot]), s.o.Batch)
	}
}

func (s *natsSender) slotOf(subject []byte) (int, error) {
	if end := len(s.inbox) + slotDigits; len(subject) >= end {
		if n, err := strconv.Atoi(string(subject[len(s.inbox):end])); err == nil && n >= slotFirst && n < slotFirst+len(s.issued) {
			return n - slotFirst, nil
		}
	}
	return 0, fmt.Errorf("answer at %q, where none was asked", subject)
}

// fetcher keeps fetches of a consumer unanswered on one connection.
type fetcher struct {
	w       *wire
	next    string // the API's subject
	inbox   string
	pullMax int
	left    []int // by fetch: messages still to come
	out     []byte
}

// newFetcher subscribes; a fetch's messages come with its number from 1 as subscription.
func newFetcher(ctx context.Context, t *bench.Target, consumer string, fetches, pullMax int) (*fetcher, error) {
	w, err := dialNATS(ctx, t.Broker)
	if err != nil {
		return nil, err
	}
	f := &fetcher{w: w, next: "$JS.API.CONSUMER.MSG.NEXT." + t.Topic + "." + consumer, pullMax: pullMax, left: make([]int, fetches)}
	f.inbox = fmt.Sprintf("_INBOX.%d.", rand.Uint64())
	for i := range fetches {
		f.out = fmt.Appendf(f.out, "SUB %s%d %d\r\n", f.inbox, i+1, i+1)
	}
	return f, nil
}

// run has take take what has come, with message, until it wants no more or the connection is closed.
func (f *fetcher) run(take func() (more bool, err error)) error {
	for {
		for i, left := range f.left {
			if left == 0 {
				request := fmt.Appendf(nil, `{"batch":%d}`, f.pullMax)
				f.out = fmt.Appendf(f.out, "PUB %s %s%d %d\r\n%s\r\n", f.next, f.inbox, i+1, len(request), request)
				f.left[i] = f.pullMax
			}
		}
		if len(f.out) > 0 {
			if err := f.w.write(f.out); err != nil {
				return err
			}
			f.out = f.out[:0]
		}
		if err := f.w.fill(); err != nil {
			return err
		}
		if more, err := take(); err != nil || !more {
			return err
		}
	}
}

// message returns the next message that was read, nil when more must be read.
func (f *fetcher) message() ([]byte, error) {
	m, ok, err := f.w.next()
	if err != nil || !ok {
		return nil, err
	}
	if m.headers || m.sid < 1 || m.sid > len(f.left) {
		return nil, fmt.Errorf("instead of messages the consumer sent %q", m.body)
	}
	f.left[m.sid-1]--
	return m.body, nil
}

// consumer makes a consumer that forgets itself when nobody asks it any more.
func consumer(w *wire, topic, policy string) (string, error) {
	var made struct {
		Name   string `json:"name"`
		Config object `json:"config"`
	}
	err := w.ask("CONSUMER.CREATE."+topic, object{"stream_name": topic, "config": object{
		"deliver_policy": policy, "ack_policy": "none", "replay_policy": "instant", "mem_storage": true,
		"inactive_threshold": time.Minute,
	}}, &made)
	return made.Name, err
}

func (nats) open(ctx context.Context, o *bench.DrainOptions, r *bench.Readers) (int64, error) {
	w, err := connectStream(ctx, &o.Target)
	if err != nil {
		return 0, err
	}
	defer w.close()
	var info struct {
		State struct {
			Messages int64 `json:"messages"`
		} `json:"state"`
	}
	if err := w.ask("STREAM.INFO."+o.Topic, object{}, &info); err != nil {
		return 0, err
	}
	name, err := consumer(w, o.Topic, "all")
	if err != nil {
		return 0, err
	}
	for range o.Consumers {
		f, err := newFetcher(ctx, &o.Target, name, o.InFlight, o.PullMax)
		if err != nil {
			return 0, err
		}
		f.drain(r)
	}
	return info.State.Messages, nil
}

// drain adds a reader. The one that gets the last message ends the others.
func (f *fetcher) drain(r *bench.Readers) {
	reader := bench.NewReader()
	take := func() (bool, error) {
		messages, size := 0, 0
		body, err := f.message()
		for ; body != nil; body, err = f.message() {
			messages++
			size += len(body)
		}
		reader.Read(int64(messages), int64(size))
		return r.Left() > 0, err
	}
	r.Add(reader, f.w.close, func() error {
		err := f.run(take)
		if r.Left() == 0 {
			r.Close()
			return nil
		}
		return err
	})
}

// receive adds a receiver.
func (f *fetcher) receive(r *bench.Run) {
	c := r.NewReceiver()
	take := func() (bool, error) {
		now := c.Now()
		body, err := f.message()
		for ; body != nil; body, err = f.message() {
			c.Receive(body, now)
		}
		return true, err
	}
	r.Listen(f.w.close, func() error { return f.run(take) })
}

func (nats) connect(ctx context.Context, o *bench.EndToEndOptions, r *bench.Run) error {
	w, err := connectStream(ctx, &o.Target)
	if err != nil {
		return err
	}
	defer w.close()
	name, err := consumer(w, o.Topic, "new")
	if err != nil {
		return err
	}
	for range o.Consumers {
		f, err := newFetcher(ctx, &o.Target, name, 2, o.PullMax)
		if err != nil {
			return err
		}
		f.receive(r)
	}
	for range o.Senders {
		if err := natsPacer(ctx, o, r); err != nil {
			return err
		}
	}
	return nil
}

// natsPacer adds a connection that publishes by the schedule and counts the answers, which come at two subjects: the second is for
// messages that are measured.
func natsPacer(ctx context.Context, o *bench.EndToEndOptions, r *bench.Run) error {
	w, err := dialNATS(ctx, o.Broker)
	if err != nil {
		return err
	}
	p, inbox := r.NewPaced(), fmt.Sprintf("_INBOX.%d.", rand.Uint64())
	var heads [2][]byte
	for i := range heads {
		heads[i] = fmt.Appendf(nil, "PUB %s %s%d %d\r\n", o.Topic, inbox, i+1, o.SizeBytes)
		if err := w.write(fmt.Appendf(nil, "SUB %s%d %d\r\n", inbox, i+1, i+1)); err != nil {
			return err
		}
	}
	body := append(bytes.Repeat([]byte("x"), o.SizeBytes), crlf...)
	var out []byte
	write := func(first, n int) error {
		out = out[:0]
		for seq := first; seq < first+n; seq++ {
			head := heads[0]
			if p.Measured(seq) {
				head = heads[1]
			}
			p.Stamp(body, seq)
			out = append(append(out, head...), body...)
		}
		return w.write(out)
	}
	collect := func() error {
		for {
			m, ok, err := w.next()
			if err == nil && !ok {
				err = w.fill()
			}
			if err != nil {
				return err
			}
			if ok {
				refused := m.headers || bytes.Contains(m.body, []byte(`"error"`))
				if p.Answered(m.sid == 2 && !refused); refused && m.sid == 2 {
					return errors.New(string(m.body))
				}
			}
		}
	}
	r.Send(w.close, func() error { return p.Pace(o.InFlight, write) }, collect)
	return nil
}
