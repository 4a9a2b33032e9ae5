package remoting

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

const (
	callSlotBits = 20
	// callsMax bounds the requests of one connection that wait for an answer.
	callsMax = 1 << callSlotBits
	callGens = 1 << (31 - callSlotBits) // an opaque is generation and slot, and positive
	// lateAnswerWait is how long the slot of a request that timed out is kept from reuse, lest a late answer meets its successor.
	lateAnswerWait = time.Minute
)

// Callback gets the answer to a request, or why there is none: once, whatever happens. It runs on the connection's reader (or on the
// caller, or the janitor), must not block, and the command is valid only during the call.
type Callback func(answer *protocol.Command, err error)

// call is a request that waits for its answer; done is nil in a free slot and in one that timed out.
type call struct {
	done     Callback
	code     int32
	deadline int64 // Unix time in ns; of a slot that timed out, when it may be reused
	gen      uint32
	next     int32 // free list
	late     bool
}

// callTable finds the callback of an answer by its opaque.
type callTable struct {
	mu     sync.Mutex // guards all
	slots  []call
	free   int32 // first free slot + 1
	closed error
	live   atomic.Int32 // waiting or late; read without mu by the janitor
}

var errTooManyCalls = errors.New("too many requests wait for an answer")

// open returns the opaque of a new call.
func (t *callTable) open(code int32, deadline int64, done Callback) (int32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		return 0, t.closed
	}
	i := t.free - 1
	if i < 0 {
		if len(t.slots) == callsMax {
			return 0, fmt.Errorf("%w: the limit is callsMax=%d", errTooManyCalls, callsMax)
		}
		t.slots = append(t.slots, call{})
		i = int32(len(t.slots) - 1)
	} else {
		t.free = t.slots[i].next
	}
	s := &t.slots[i]
	s.done, s.code, s.deadline = done, code, deadline
	t.live.Add(1)
	return int32(s.gen<<callSlotBits) | i, nil
}

// take returns the callback that waits for opaque and frees its slot; nil for an answer that nobody waits for (any more).
func (t *callTable) take(opaque int32) Callback {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := opaque & (callsMax - 1)
	if opaque < 0 || int(i) >= len(t.slots) {
		return nil
	}
	s := &t.slots[i]
	if s.gen != uint32(opaque)>>callSlotBits || s.done == nil && !s.late {
		return nil
	}
	done := s.done
	t.releaseLocked(i)
	return done
}

func (t *callTable) releaseLocked(i int32) {
	s := &t.slots[i]
	*s = call{gen: (s.gen + 1) % callGens, next: t.free}
	t.free = i + 1
	t.live.Add(-1)
}

// expired is a call that timed out.
type expired struct {
	done Callback
	code int32
}

// expire takes the calls whose deadline has passed.
func (t *callTable) expire(now int64) (out []expired) {
	if t.live.Load() == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.slots {
		s := &t.slots[i]
		switch {
		case s.deadline == 0 || s.deadline > now:
		case s.late:
			t.releaseLocked(int32(i))
		case s.done != nil:
			out = append(out, expired{s.done, s.code})
			s.done, s.late, s.deadline = nil, true, now+int64(lateAnswerWait)
		}
	}
	return out
}

// close fails the calls that wait and all later ones.
func (t *callTable) close(err error) {
	t.mu.Lock()
	if t.closed != nil {
		t.mu.Unlock()
		return
	}
	t.closed = err
	slots := t.slots
	t.slots, t.free = nil, 0
	t.live.Store(0)
	t.mu.Unlock()
	for i := range slots {
		if done := slots[i].done; done != nil {
			done(nil, err)
		}
	}
}

// TimeoutError says that a request was not answered in time.
type TimeoutError struct {
	Addr  string
	Code  protocol.RequestCode
	After time.Duration
}

// Error names the address, the request and the time.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("%s to %s: no answer within %s", e.Code, e.Addr, e.After.Round(time.Millisecond))
}

// Timeout makes it a net.Error's timeout.
func (e *TimeoutError) Timeout() bool { return true }

// Unwrap makes errors.Is(err, context.DeadlineExceeded) true.
func (e *TimeoutError) Unwrap() error { return context.DeadlineExceeded }

// await runs start and waits for its callback or for ctx, which gets a deadline if it has none. The answer owns its memory.
func await(ctx context.Context, addr string, code int32, timeout time.Duration, start func(time.Duration, Callback)) (*protocol.Command, error) {
	if at, ok := ctx.Deadline(); ok {
		timeout = time.Until(at)
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	type result struct {
		cmd *protocol.Command
		err error
	}
	got := make(chan result, 1)
	start(timeout+time.Second, func(cmd *protocol.Command, err error) { // the context ends it, the janitor only frees the slot
		if cmd != nil {
			cmd = cloneCommand(cmd)
		}
		got <- result{cmd, err}
	})
	select {
	case r := <-got:
		return r.cmd, r.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, &TimeoutError{Addr: addr, Code: protocol.RequestCode(code), After: timeout}
		}
		return nil, fmt.Errorf("%s to %s: %w", protocol.RequestCode(code), addr, ctx.Err())
	}
}

// cloneCommand copies a command that aliases a read buffer into memory of its own.
func cloneCommand(c *protocol.Command) *protocol.Command {
	size := len(c.Remark) + len(c.Body)
	for i := range c.Fields {
		size += len(c.Fields[i].Key) + len(c.Fields[i].Value)
	}
	arena := make([]byte, 0, size)
	own := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		at := len(arena)
		arena = append(arena, b...)
		return arena[at:len(arena):len(arena)]
	}
	out := *c
	out.Fields = make(protocol.Fields, len(c.Fields))
	for i := range c.Fields {
		out.Fields[i] = protocol.Field{Key: own(c.Fields[i].Key), Value: own(c.Fields[i].Value)}
	}
	out.Remark, out.Body = own(c.Remark), own(c.Body)
	return &out
}
