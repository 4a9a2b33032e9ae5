package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// refusedMax is how many answers in a row may be refusals before a sender gives up.
const refusedMax = 100_000

// sender keeps a window of requests outstanding on one connection, from one goroutine: it reads what has been answered and issues as
// many again with one write. The window's answers always fit in the socket buffers, so that both ends cannot block in write.
type sender struct {
	*Tally
	conn    *conn
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
	epoch   time.Time
}

const ringBytesMax = 1 << 20

func newSender(c *conn, l *Load, t *template, queues, inFlight, index int) *sender {
	s := &sender{Tally: NewTally(l), conn: c, t: t, queues: queues, queue: index % queues, key: uint64(index) << 40, epoch: time.Now()}
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
	return s
}

// Run returns when the load stops or its requests are used up, and all answers have come.
func (s *sender) Run() error {
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
	if s.Stopped() || len(s.free) == 0 {
		return nil
	}
	n := s.load.Claim(len(s.free))
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
		s.load.GiveBack()
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

// Close closes the connection.
func (s *sender) Close() { s.conn.close() }

// Finish bounds how long Run waits for what is in flight.
func (s *sender) Finish() { _ = s.conn.nc.SetDeadline(time.Now().Add(callTimeout)) }

// remoting returns how senders are connected to RocketMQ's brokers. It makes sure, by one send to each, that the topic takes messages.
func (o *SendOptions) remoting(at []endpoint) Dialer {
	return func(ctx context.Context, i int, l *Load) (Sender, error) {
		e := at[i%len(at)]
		t := sendTemplate(sendShape{o.Topic, e.queues, o.SizeBytes, o.Batch, o.Transaction, o.deliver, o.serialization()})
		if i < len(at) {
			if err := probe(ctx, e, t); err != nil {
				return nil, err
			}
		}
		c, err := dial(ctx, e.addr)
		if err != nil {
			return nil, err
		}
		return newSender(c, l, t, e.queues, o.InFlight, i), nil
	}
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
	s := newSender(c, &Load{}, t, e.queues, 1, connectionsMax)
	_ = c.nc.SetDeadline(time.Now().Add(callTimeout))
	if err := s.once(); err != nil {
		return nil, fmt.Errorf("first send: %w", err)
	}
	return s.codes.first(), nil // there was one answer
}

// Send measures pipelined sends to a RocketMQ broker.
func Send(ctx context.Context, o SendOptions, observe Observer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	at, err := o.resolve(ctx)
	if err != nil {
		return nil, err
	}
	return SendBy(ctx, o, o.remoting(at), observe)
}
