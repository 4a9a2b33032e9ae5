package remoting

import (
	"fmt"
	"log/slog"
	"sync/atomic"
)

// Memory of connections: output that is not read, requests that are not answered, frames that are not whole. One connection's output is
// bounded by OutBytesMax and its requests by RequestBytesMax; what all connections of a server hold together by MemoryBytesMax. When
// that is passed, the connections that hold the most are closed, one after the other: a peer that takes little notices nothing.

// requestOverheadBytes is about what a request costs beside its frame: its fields, and what a handler keeps of it.
const requestOverheadBytes = 2 << 10

// memory is what the connections of one server hold.
type memory struct {
	limit    int64 // 0: none
	held     atomic.Int64
	pressure chan struct{} // tells the janitor that the limit is passed
}

// charge counts n bytes more, or less, for the connection.
func (c *Conn) charge(n int) {
	c.held.Add(int64(n))
	m := &c.env.memory
	if m.held.Add(int64(n)) > m.limit && n > 0 && m.limit > 0 {
		select {
		case m.pressure <- struct{}{}:
		default: // the janitor has been told
		}
	}
}

// chargeIn counts the read buffer beyond what every connection has.
func (c *Conn) chargeIn(size int) {
	old := int(c.inBytes.Swap(int32(size)))
	if more := max(size, readBytesMin) - max(old, readBytesMin); more != 0 {
		c.charge(more)
	}
}

// chargeRequest counts a request that is to run in a lane; false when the connection has too many already.
func (c *Conn) chargeRequest(r *Request) error {
	size := len(r.frame) + requestOverheadBytes
	if waiting := c.requestBytes.Add(int64(size)); waiting > c.env.requestBytesMax {
		c.requestBytes.Add(-int64(size))
		return fmt.Errorf("[OVERLOAD]this connection's requests that are not answered take %d bytes, the limit is requestBytesMax=%d; wait for answers, or raise it",
			waiting, c.env.requestBytesMax)
	}
	r.charged = size
	c.charge(size)
	return nil
}

func (r *Request) discharge() {
	if r.charged > 0 {
		r.Conn.requestBytes.Add(-int64(r.charged))
		r.Conn.charge(-r.charged)
		r.charged = 0
	}
}

// relieve closes the connections that hold the most until the others are within the limit. What the closed ones hold comes back soon.
func (s *Server) relieve() {
	for {
		var sum, most int64
		var biggest *Conn
		for _, c := range s.snapshot() {
			held := c.held.Load()
			if c.IsClosed() || held <= 0 {
				continue
			}
			if sum += held; held > most {
				most, biggest = held, c
			}
		}
		if sum <= s.env.memory.limit || biggest == nil {
			return
		}
		s.metrics.memoryClosed.Add(1)
		biggest.close(slog.LevelWarn, fmt.Sprintf("all connections together hold %d bytes, the limit is connectionBytesMax=%d; this one held the most, %d",
			sum, s.env.memory.limit, most))
	}
}
