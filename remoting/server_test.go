package remoting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

func TestPipelining(t *testing.T) {
	const total = 10_000
	for _, tc := range []struct {
		name string
		ser  protocol.Serialization
		code protocol.RequestCode
	}{
		{"JSON send", protocol.SerializeJSON, codeSend}, {"binary send", protocol.SerializeBinary, codeSend},
		{"JSON pull", protocol.SerializeJSON, codePull}, {"binary pull", protocol.SerializeBinary, codePull},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, addr := serve(t, echoConfig())
			nc := dialRaw(t, addr)
			go func() {
				var out []byte
				for i := range int32(total) {
					out = append(out, request(tc.code, i, tc.ser, fmt.Sprint("body ", i))...)
				}
				_, _ = nc.Write(out)
			}()
			seen := make([]bool, total)
			for range total {
				cmd := mustRead(t, nc)
				if !cmd.IsResponse() || cmd.Serialize != tc.ser || string(cmd.Body) != fmt.Sprint("body ", cmd.Opaque) || seen[cmd.Opaque] {
					t.Fatalf("bad answer %v, body %q", cmd, cmd.Body)
				}
				seen[cmd.Opaque] = true
			}
		})
	}
}

func TestFramesInAnyPieces(t *testing.T) {
	_, addr := serve(t, echoConfig())
	nc := dialRaw(t, addr)
	for _, b := range request(codeSend, 1, protocol.SerializeJSON, "slow") {
		_, _ = nc.Write([]byte{b})
		time.Sleep(100 * time.Microsecond)
	}
	if cmd := mustRead(t, nc); cmd.Opaque != 1 || string(cmd.Body) != "slow" {
		t.Fatalf("got %v", cmd)
	}
	two := append(request(codeSend, 2, protocol.SerializeJSON, "a"), request(codeSend, 3, protocol.SerializeBinary, "b")...)
	_, _ = nc.Write(two)
	for want := int32(2); want <= 3; want++ {
		if cmd := mustRead(t, nc); cmd.Opaque != want {
			t.Fatalf("got %v", cmd)
		}
	}
	for i, size := range []int{100, 5000, 300_000, 3 << 20, 10, 1 << 20} { // the buffer grows and stays right
		body := strings.Repeat(string(rune('a'+i)), size)
		go func() { _, _ = nc.Write(request(codeSend, int32(size), protocol.SerializeJSON, body)) }()
		if cmd := mustRead(t, nc); string(cmd.Body) != body {
			t.Fatalf("body of %d came back as %d", size, len(cmd.Body))
		}
	}
}

func TestGarbageCloses(t *testing.T) {
	for name, b := range map[string][]byte{
		"not a frame":           []byte("GET / HTTP/1.1\r\n\r\n"),
		"negative length":       {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"zero length":           make([]byte, 16),
		"oversized":             {0x01, 0x00, 0x00, 0x01, 0, 0, 0, 0},
		"header beyond frame":   {0, 0, 0, 8, 0, 0, 1, 0, 1, 2, 3, 4},
		"unknown serialisation": {0, 0, 0, 8, 7, 0, 0, 4, 1, 2, 3, 4},
		"bad JSON":              append([]byte{0, 0, 0, 8, 0, 0, 0, 4}, "{co:"...),
		"TLS garbage":           {0x16, 3, 1, 0, 4, 1, 2, 3, 4},
		"PROXY not allowed":     []byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"),
		"HTTP/2 not served":     []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, echoConfig())
			nc := dialRaw(t, addr)
			_, _ = nc.Write(b)
			wantClosed(t, nc)
			other := dialRaw(t, addr)
			_, _ = other.Write(request(codeSend, 5, protocol.SerializeJSON, ""))
			mustRead(t, other)
		})
	}
}

func TestUnknownCodeAndOneWay(t *testing.T) {
	s, addr := serve(t, echoConfig())
	nc := dialRaw(t, addr)
	oneWay := protocol.NewRequest(codeAck, nil)
	oneWay.Flag = protocol.FlagOneWay
	b := protocol.AppendFrame(nil, oneWay, 0)
	oneWay.Code = 99_999
	b = protocol.AppendFrame(b, oneWay, 0)
	oneWay.Code = int32(codeSend)
	b = protocol.AppendFrame(b, oneWay, 0)
	b = append(b, request(99_999, 7, protocol.SerializeJSON, "")...)
	_, _ = nc.Write(b)
	cmd := mustRead(t, nc)
	if cmd.Opaque != 7 || protocol.ResponseCode(cmd.Code) != protocol.RespRequestCodeNotSupported || string(cmd.Remark) != " request type 99999 not supported" {
		t.Fatalf("got %v, remark %q", cmd, cmd.Remark)
	}
	if n := s.metrics.unknownCodes.Load(); n != 2 {
		t.Errorf("%d unknown requests counted", n)
	}
	_ = nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if cmd, err := readCommand(nc); err == nil {
		t.Errorf("a one-way request was answered: %v", cmd)
	}
}

func TestErrorsAndContext(t *testing.T) {
	cfg := echoConfig()
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) {
		if r.Namespace != "tenant" || string(r.Trace) != "00-abc" || r.Principal != "alice" {
			return nil, fmt.Errorf("context %q %q %q", r.Namespace, r.Trace, r.Principal)
		}
		return nil, fmt.Errorf("wrapped: %w", protocol.Errorf(protocol.RespTopicNotExist, "topic %s", "T"))
	}
	cfg.Authorize = func(r *Request, rt *Route) error {
		if rt.Code == codeAck || rt.Code == codeSend {
			return protocol.Errorf(protocol.RespNoPermission, "no")
		}
		r.Principal = "alice"
		return nil
	}
	_, addr := serve(t, cfg)
	client := newTestClient(t, ClientConfig{})
	req := protocol.NewRequest(codePull, nil)
	req.Fields.Add("ns", "tenant")
	req.Fields.Add("nsd", "true")
	req.Fields.Add("traceparent", "00-abc")
	resp, err := client.Invoke(t.Context(), addr, req)
	if err != nil || protocol.ResponseCode(resp.Code) != protocol.RespTopicNotExist || string(resp.Remark) != "topic T" || resp.Version != protocol.Version {
		t.Fatalf("got %v %v", resp, err)
	}
	for _, code := range []protocol.RequestCode{codeAck, codeSend} {
		resp, err = client.Invoke(t.Context(), addr, protocol.NewRequest(code, nil))
		if err != nil || protocol.ResponseCode(resp.Code) != protocol.RespNoPermission {
			t.Fatalf("%v: got %v %v", code, resp, err)
		}
	}
}

func TestRoundsAreWholeReads(t *testing.T) {
	var rounds atomic.Int64
	cfg := echoConfig()
	cfg.NewSink = func(c *Conn) Sink { return &echoSink{conn: c, rounds: &rounds} }
	_, addr := serve(t, cfg)
	nc := dialRaw(t, addr)
	const total = 20
	var b []byte
	for i := range int32(total) {
		b = append(b, request(codeSend, i, protocol.SerializeJSON, "x")...)
	}
	_, _ = nc.Write(b) // less than the smallest buffer: one segment, one read
	for range total {
		mustRead(t, nc)
	}
	waitFor(t, "one round, for one segment", func() bool { return rounds.Load() == 1 })
}

// payloadRoute answers with a payload that counts its releases.
func payloadRoute(releases *atomic.Int64, size int) Route {
	return Route{Code: codeAdmin, Lane: LaneAdmin, Handle: func(*Request) (*Response, error) {
		half := bytes.Repeat([]byte("p"), size/2)
		resp := Respond(protocol.RespSuccess, nil)
		resp.Payload = Payload{Slices: [][]byte{half, half}, Size: 2 * len(half), Release: func() { releases.Add(1) }}
		return resp, nil
	}}
}

func TestSlowReaderIsClosedOthersAreServed(t *testing.T) {
	var releases, handled atomic.Int64
	clock := &fakeClock{t: time.Unix(1e9, 0)}
	cfg := echoConfig()
	cfg.OutBytesMax = 8 << 20
	cfg.Now = clock.now
	rt := payloadRoute(&releases, 1<<20)
	inner := rt.Handle
	rt.Handle = func(r *Request) (*Response, error) { handled.Add(1); return inner(r) }
	cfg.Routes = append(cfg.Routes, rt)
	s, addr := serve(t, cfg)
	slow := dialRaw(t, addr)
	const total = 100
	for i := range int32(total) {
		_, _ = slow.Write(request(codeAdmin, i, protocol.SerializeJSON, ""))
	}
	waitFor(t, "output to pile up", func() bool {
		for _, c := range s.snapshot() {
			if c.Congested() {
				return true
			}
		}
		return s.Connections() == 0 // or it ran over already
	})
	fast := dialRaw(t, addr)
	_, _ = fast.Write(request(codeSend, 1, protocol.SerializeJSON, "hello"))
	if cmd := mustRead(t, fast); string(cmd.Body) != "hello" {
		t.Fatal("the other connection suffers")
	}
	for _, c := range s.snapshot() {
		if n := c.OutBytes(); n > cfg.OutBytesMax {
			t.Errorf("%d bytes queued", n)
		}
	}
	waitFor(t, "the slow reader to be closed", func() bool { // either it ran over, or it is idle: paused, and nothing moves
		clock.advance(DefaultIdleTimeout)
		_, _ = fast.Write(request(codeSend, 1, protocol.SerializeJSON, ""))
		mustRead(t, fast)
		s.scan()
		return s.Connections() == 1
	})
	waitFor(t, "payloads to be released", func() bool { return releases.Load() == handled.Load() })
}

func TestManyLargePullsAtOnceAreNoOverflow(t *testing.T) {
	var releases atomic.Int64
	cfg := echoConfig()
	cfg.OutBytesMax = 8 << 20
	cfg.Lanes = map[Lane]LaneLimits{LanePull: {Workers: 4, Queue: 1000}}
	cfg.Routes[1].Handle = payloadRoute(&releases, 256<<10).Handle
	_, addr := serve(t, cfg)
	nc := dialRaw(t, addr)
	const total = 400 // 100 MiB
	var b []byte
	for i := range int32(total) {
		b = append(b, request(codePull, i, protocol.SerializeBinary, "")...)
	}
	_, _ = nc.Write(b)
	time.Sleep(20 * time.Millisecond)
	for range total {
		if cmd := mustRead(t, nc); len(cmd.Body) != 256<<10 {
			t.Fatalf("got %v", cmd)
		}
	}
	waitFor(t, "releases", func() bool { return releases.Load() == total })
}

func TestOverflowClosesAtOnce(t *testing.T) {
	var releases atomic.Int64
	closed := make(chan string, 1)
	cfg := echoConfig()
	cfg.OutBytesMax = 1 << 20
	rt := payloadRoute(&releases, 4<<20)
	cfg.Routes = append(cfg.Routes, rt)
	cfg.OnClose = func(c *Conn) { closed <- c.reason }
	_, addr := serve(t, cfg)
	nc := dialRaw(t, addr)
	_, _ = nc.Write(request(codeAdmin, 1, protocol.SerializeJSON, ""))
	wantClosed(t, nc)
	if reason := <-closed; !strings.Contains(reason, "OutBytesMax=1048576") {
		t.Errorf("reason %q", reason)
	}
	waitFor(t, "release", func() bool { return releases.Load() == 1 })
}

func TestPayloadReleasedOnce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		oneWay bool
		err    error
		hangUp bool
	}{{name: "written"}, {name: "one-way", oneWay: true}, {name: "error", err: errors.New("no")}, {name: "closed", hangUp: true}} {
		t.Run(tc.name, func(t *testing.T) {
			var releases atomic.Int64
			cfg := echoConfig()
			rt := payloadRoute(&releases, 100)
			inner := rt.Handle
			rt.Handle = func(r *Request) (*Response, error) {
				if tc.hangUp {
					r.Conn.Close("test")
				}
				resp, _ := inner(r)
				return resp, tc.err
			}
			cfg.Routes = append(cfg.Routes, rt)
			_, addr := serve(t, cfg)
			nc := dialRaw(t, addr)
			cmd := protocol.NewRequest(codeAdmin, nil)
			if tc.oneWay {
				cmd.Flag = protocol.FlagOneWay
			}
			_, _ = nc.Write(protocol.AppendFrame(nil, cmd, 0))
			if !tc.oneWay && !tc.hangUp {
				resp := mustRead(t, nc)
				if tc.err == nil && string(resp.Body) != strings.Repeat("p", 100) {
					t.Errorf("body %q", resp.Body)
				}
			}
			waitFor(t, "release", func() bool { return releases.Load() == 1 })
			time.Sleep(5 * time.Millisecond)
			if n := releases.Load(); n != 1 {
				t.Errorf("released %d times", n)
			}
		})
	}
}

func TestIdleConnections(t *testing.T) {
	clock := &fakeClock{t: time.Unix(1e9, 0)}
	cfg := echoConfig()
	cfg.Now = clock.now
	s, addr := serve(t, cfg)
	silent, active := dialRaw(t, addr), dialRaw(t, addr)
	big := strings.Repeat("x", 100_000)
	go func() { _, _ = active.Write(request(codeSend, 1, protocol.SerializeJSON, big)) }()
	mustRead(t, active)
	waitFor(t, "both connections", func() bool { return s.Connections() == 2 })

	clock.advance(shrinkAfter)
	s.scan()
	waitFor(t, "the read buffer to shrink", func() bool {
		for _, c := range s.snapshot() {
			if c.inBytes.Load() > readBytesMin {
				return false
			}
		}
		return true
	})
	clock.advance(DefaultIdleTimeout - shrinkAfter - time.Second)
	_, _ = active.Write(request(codeSend, 2, protocol.SerializeJSON, "still here"))
	mustRead(t, active)
	clock.advance(2 * time.Second)
	s.scan()
	wantClosed(t, silent)
	_, _ = active.Write(request(codeSend, 3, protocol.SerializeJSON, ""))
	mustRead(t, active)
}

func TestLaneFullAnswersBusy(t *testing.T) {
	release := make(chan struct{})
	cfg := echoConfig()
	cfg.Lanes = map[Lane]LaneLimits{LanePull: {Workers: 2, Queue: 3}}
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) { <-release; return echo(r) }
	s, addr := serve(t, cfg)
	nc := dialRaw(t, addr)
	for i := range int32(8) {
		_, _ = nc.Write(request(codePull, i, protocol.SerializeJSON, ""))
	}
	for range 3 {
		cmd := mustRead(t, nc)
		remark := string(cmd.Remark)
		if protocol.ResponseCode(cmd.Code) != protocol.RespSystemBusy || !strings.HasPrefix(remark, "[OVERLOAD]") || !strings.Contains(remark, "lane pull") {
			t.Fatalf("got %v %q", cmd, remark)
		}
	}
	_, _ = nc.Write(request(codeAck, 100, protocol.SerializeJSON, "")) // other lanes go on
	if cmd := mustRead(t, nc); cmd.Opaque != 100 || cmd.Code != 0 {
		t.Fatalf("got %v", cmd)
	}
	close(release)
	for range 5 {
		if cmd := mustRead(t, nc); cmd.Code != 0 {
			t.Fatalf("got %v", cmd)
		}
	}
	if n := s.lanes[LanePull].rejected.Load(); n != 3 {
		t.Errorf("%d rejections counted", n)
	}
}

func TestReplyLaterHoldsNoWorker(t *testing.T) {
	var mu sync.Mutex
	var held []*Request
	cfg := echoConfig()
	cfg.Lanes = map[Lane]LaneLimits{LanePull: {Workers: 1, Queue: 1000}}
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, r)
		return nil, ErrLater
	}
	_, addr := serve(t, cfg)
	nc := dialRaw(t, addr)
	const total = 100
	for i := range int32(total) {
		_, _ = nc.Write(request(codePull, i, protocol.SerializeJSON, fmt.Sprint(i)))
	}
	waitFor(t, "all to be held", func() bool { mu.Lock(); defer mu.Unlock(); return len(held) == total })
	for _, r := range held {
		resp, _ := echo(r)
		r.Reply(resp, nil)
	}
	for range total {
		if cmd := mustRead(t, nc); string(cmd.Body) != fmt.Sprint(cmd.Opaque) {
			t.Fatalf("got %v %q", cmd, cmd.Body)
		}
	}
}

func TestShutdownDrains(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	drained := make(chan struct{})
	cfg := echoConfig()
	var answered atomic.Bool
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) { close(started); <-release; return echo(r) }
	cfg.Drain = func(context.Context) { answered.Store(true); close(drained) }
	s, addr := serve(t, cfg)
	nc, idle := dialRaw(t, addr), dialRaw(t, addr)
	_, _ = nc.Write(request(codePull, 1, protocol.SerializeJSON, "in flight"))
	<-started
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(t.Context()) }()
	waitFor(t, "the listener to close", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case <-drained:
		t.Fatal("drained before the handler ended")
	default:
	}
	close(release)
	if cmd := mustRead(t, nc); string(cmd.Body) != "in flight" {
		t.Fatalf("got %v", cmd)
	}
	wantClosed(t, nc)
	wantClosed(t, idle)
	if err := <-done; err != nil || !answered.Load() {
		t.Fatal(err)
	}
	if s.Connections() != 0 {
		t.Error("connections left")
	}
}

// A consumer that leaves commits its offsets without waiting for an answer: what it wrote before the server was told to stop counts.
func TestShutdownServesWhatHasArrived(t *testing.T) {
	const requests = 1000
	cfg := echoConfig()
	var served atomic.Int64
	cfg.Routes[2].Handle = func(r *Request) (*Response, error) { served.Add(1); return echo(r) }
	s, addr := serve(t, cfg)
	nc := dialRaw(t, addr)
	_, _ = nc.Write(request(codeSend, 1, protocol.SerializeJSON, "known"))
	mustRead(t, nc)
	var all []byte
	for range requests {
		cmd := protocol.NewRequest(codeAck, nil)
		cmd.Flag |= protocol.FlagOneWay
		all = protocol.AppendFrame(all, cmd, 0)
	}
	if _, err := nc.Write(all); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := served.Load(); n != requests {
		t.Errorf("%d of %d requests were served that had arrived before the end", n, requests)
	}
}

func TestShutdownCutsOff(t *testing.T) {
	release := make(chan struct{})
	cfg := echoConfig()
	started := make(chan struct{})
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) { close(started); <-release; return echo(r) }
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	nc := dialRaw(t, s.Addrs()[0].String())
	_, _ = nc.Write(request(codePull, 1, protocol.SerializeJSON, ""))
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	wantClosed(t, nc)
	close(release)
	s.wg.Wait()
	s.lanes[LanePull].wait()
}

func TestConfigIsChecked(t *testing.T) {
	_, addr := serve(t, echoConfig())
	for name, change := range map[string]func(*ServerConfig){
		addr:                   func(c *ServerConfig) { c.Listen = []string{addr} }, // in use: named
		"two routes":           func(c *ServerConfig) { c.Routes = append(c.Routes, c.Routes[1]) },
		"no handler":           func(c *ServerConfig) { c.Routes[1].Handle = nil },
		"NewSink":              func(c *ServerConfig) { c.NewSink = nil },
		"at least one worker":  func(c *ServerConfig) { c.Lanes = map[Lane]LaneLimits{LaneAck: {}} },
		"could not be told":    func(c *ServerConfig) { c.FrameBytesMax = 1 << 29 },
		"lane 77 does not exi": func(c *ServerConfig) { c.Routes[1].Lane = 77 },
	} {
		cfg := echoConfig()
		change(&cfg)
		if s, err := NewServer(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
			if err == nil {
				_ = s.Shutdown(t.Context())
			}
		}
	}
}

func TestConnectionsMax(t *testing.T) {
	cfg := echoConfig()
	cfg.ConnectionsMax = 1
	s, addr := serve(t, cfg)
	first := dialRaw(t, addr)
	waitFor(t, "the first", func() bool { return s.Connections() == 1 })
	wantClosed(t, dialRaw(t, addr))
	_, _ = first.Write(request(codeSend, 1, protocol.SerializeJSON, ""))
	mustRead(t, first)
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6")
	}
	_ = l.Close()
	cfg := echoConfig()
	cfg.Listen = []string{"[::1]:0"}
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) {
		resp := Respond(protocol.RespSuccess, nil)
		resp.Body = []byte(r.Conn.RemoteAddr().Addr().String() + " " + r.Conn.LocalAddr().String())
		return resp, nil
	}
	_, addr := serve(t, cfg)
	client := newTestClient(t, ClientConfig{})
	resp, err := client.Invoke(t.Context(), addr, protocol.NewRequest(codePull, nil))
	if err != nil || string(resp.Body) != "::1 "+addr {
		t.Fatalf("%v %v", resp, err)
	}
}
