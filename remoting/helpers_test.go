package remoting

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/apogeemq/apogee/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	codeSend  = protocol.ReqSendMessage
	codePull  = protocol.ReqPullMessage
	codeAck   = protocol.ReqUpdateConsumerOffset
	codeAdmin = protocol.ReqGetBrokerConfig
)

// echoSink answers the requests of a round at its end, with one append.
type echoSink struct {
	conn   *Conn
	out    []byte
	n      int
	last   *RouteMetrics
	rounds *atomic.Int64
	hook   func()
}

func (s *echoSink) Handle(r *Request) {
	s.last = r.Metrics()
	s.n++
	if r.IsOneWay() {
		return
	}
	cmd := protocol.Command{Opaque: r.Opaque, Flag: protocol.FlagResponse, Serialize: r.Serialize, Version: protocol.Version, Body: r.Body}
	s.out = protocol.AppendFrame(s.out, &cmd, 0)
}

func (s *echoSink) EndRound() {
	if s.hook != nil {
		s.hook()
	}
	s.conn.WriteFrames(s.out)
	s.last.ObserveN(protocol.RespSuccess, time.Millisecond, s.n)
	if s.rounds != nil {
		s.rounds.Add(1)
	}
	s.out, s.n = s.out[:0], 0
}

func echo(r *Request) (*Response, error) {
	resp := Respond(protocol.RespSuccess, nil)
	resp.Body = append([]byte(nil), r.Body...)
	return resp, nil
}

func echoConfig() ServerConfig {
	return ServerConfig{
		Listen:  []string{"127.0.0.1:0"},
		NewSink: func(c *Conn) Sink { return &echoSink{conn: c} },
		Routes: []Route{
			{Code: codeSend, Lane: LaneSend},
			{Code: codePull, Lane: LanePull, Handle: echo},
			{Code: codeAck, Lane: LaneAck, Handle: echo},
		},
	}
}

// serve starts a server that ends with the test.
func serve(t testing.TB, cfg ServerConfig) (*Server, string) {
	t.Helper()
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	if len(s.Addrs()) == 0 {
		return s, ""
	}
	return s, s.Addrs()[0].String()
}

func newTestClient(t testing.TB, cfg ClientConfig) *Client {
	c := NewClient(cfg)
	t.Cleanup(c.Close)
	return c
}

func dialRaw(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return nc
}

func request(code protocol.RequestCode, opaque int32, s protocol.Serialization, body string) []byte {
	cmd := protocol.NewRequest(code, nil)
	cmd.Opaque, cmd.Serialize, cmd.Body = opaque, s, []byte(body)
	return protocol.AppendFrame(nil, cmd, 0)
}

// readCommand reads one frame.
func readCommand(r io.Reader) (*protocol.Command, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, 4+binary.BigEndian.Uint32(head[:]))
	copy(frame, head[:])
	if _, err := io.ReadFull(r, frame[4:]); err != nil {
		return nil, err
	}
	cmd := new(protocol.Command)
	return cmd, protocol.Decode(frame, cmd)
}

func mustRead(t testing.TB, r io.Reader) *protocol.Command {
	t.Helper()
	cmd, err := readCommand(r)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// wantClosed waits for the server to close the connection.
func wantClosed(t testing.TB, nc net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, nc)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("connection is still open")
	}
}

func waitFor(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// fakeClock is a time that tests move.
type fakeClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}
