package remoting

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"

	"github.com/apogeemq/apogee/protocol"
)

// countedConn counts the writes; the first one waits until it is let go.
type countedConn struct {
	net.Conn
	began, letGo chan struct{}
	writes       atomic.Int64
	got          bytes.Buffer
}

func (c *countedConn) Write(p []byte) (int, error) {
	if c.writes.Add(1) == 1 {
		close(c.began)
		<-c.letGo
	}
	return c.got.Write(p)
}

// Responses that are ready while one is being written go out with one write, as do those of a round of sends.
func TestResponsesThatWaitGoOutWithOneWrite(t *testing.T) {
	server, err := NewServer(echoConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown(t.Context())
	near, far := net.Pipe()
	defer far.Close()
	nc := &countedConn{Conn: near, began: make(chan struct{}), letGo: make(chan struct{})}
	c := newConn(&server.env, nc)
	defer near.Close()
	const batch = 100
	answer := func(i int32) *protocol.Command {
		return &protocol.Command{Opaque: i, Flag: protocol.FlagResponse, Version: protocol.Version, Body: make([]byte, 200)}
	}
	var want []byte
	write := func(i int32) {
		want = protocol.AppendFrame(want, answer(i), 0)
		if err := c.write(answer(i), nil); err != nil {
			t.Error(err)
		}
	}
	write(0)
	<-nc.began
	for i := range int32(batch) {
		write(1 + i)
	}
	var round []byte
	for i := range int32(batch) {
		round = protocol.AppendFrame(round, answer(1000+i), 0)
	}
	c.WriteFrames(round)
	want = append(want, round...)
	close(nc.letGo)
	c.mu.Lock()
	for c.flushing {
		c.cond.Wait()
	}
	c.mu.Unlock()
	if n := nc.writes.Load(); n != 2 {
		t.Errorf("%d writes for one response and, behind it, %d more: want 2", n, 2*batch)
	}
	if !bytes.Equal(nc.got.Bytes(), want) {
		t.Error("other bytes were written")
	}
}
