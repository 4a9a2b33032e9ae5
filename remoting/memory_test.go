package remoting

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

func TestRequestsNotAnsweredAreBoundedPerConnection(t *testing.T) {
	release := make(chan struct{})
	cfg := echoConfig()
	cfg.FrameBytesMax, cfg.RequestBytesMax = 1<<20, 4<<20
	cfg.Routes[2].Handle = func(r *Request) (*Response, error) { <-release; return echo(r) }
	s, addr := serve(t, cfg)
	greedy, other := dialRaw(t, addr), dialRaw(t, addr)
	body := strings.Repeat("x", 512<<10)
	const total = 12 // of which seven fit
	go func() {
		for i := range int32(total) {
			_, _ = greedy.Write(request(codeAck, i, protocol.SerializeJSON, body))
		}
	}()
	const refused = 5
	for range refused {
		cmd := mustRead(t, greedy)
		if remark := string(cmd.Remark); protocol.ResponseCode(cmd.Code) != protocol.RespSystemBusy || !strings.Contains(remark, "requestBytesMax=4194304") {
			t.Fatalf("got %v %q", cmd, remark)
		}
	}
	_, _ = other.Write(request(codePull, 1, protocol.SerializeJSON, "hello"))
	if cmd := mustRead(t, other); string(cmd.Body) != "hello" {
		t.Fatalf("another connection got %v", cmd)
	}
	close(release)
	for range total - refused {
		if cmd := mustRead(t, greedy); cmd.Code != 0 {
			t.Fatalf("got %v %q", cmd, cmd.Remark)
		}
	}
	_, _ = greedy.Write(request(codeAck, 1, protocol.SerializeJSON, body)) // there is room again
	if cmd := mustRead(t, greedy); cmd.Code != 0 {
		t.Fatalf("got %v %q", cmd, cmd.Remark)
	}
	_, _ = greedy.Close(), other.Close()
	waitFor(t, "all memory to come back", func() bool { return s.Connections() == 0 && s.env.memory.held.Load() == 0 })
}

func TestTheConnectionsThatHoldTheMostAreClosed(t *testing.T) {
	cfg := echoConfig()
	cfg.MemoryBytesMax = 24 << 20
	s, addr := serve(t, cfg)
	half := func(mib int) net.Conn {
		nc := dialRaw(t, addr)
		frame := request(codeSend, 1, protocol.SerializeJSON, strings.Repeat("x", mib<<20))
		_, _ = nc.Write(frame[:len(frame)-1]) // fails where the connection is closed meanwhile
		return nc
	}
	small := half(1)
	big := []net.Conn{half(10), half(11), half(12)}
	waitFor(t, "the large ones to be closed", func() bool {
		return s.metrics.memoryClosed.Load() > 0 && s.env.memory.held.Load() <= int64(cfg.MemoryBytesMax)
	})
	_, _ = small.Write([]byte("x"))
	if cmd := mustRead(t, small); len(cmd.Body) != 1<<20 {
		t.Fatalf("got %v", cmd)
	}
	for _, nc := range append(big, small) {
		_ = nc.Close()
	}
	waitFor(t, "all memory to come back", func() bool { return s.Connections() == 0 && s.env.memory.held.Load() == 0 })
}

func TestFrameThatTricklesInIsGivenUp(t *testing.T) {
	clock := &fakeClock{t: time.Unix(1e9, 0)}
	cfg := echoConfig()
	cfg.Now = clock.now
	s, addr := serve(t, cfg)
	nc := dialRaw(t, addr)
	frame := request(codeSend, 1, protocol.SerializeJSON, "body")
	_, _ = nc.Write(frame)
	mustRead(t, nc)
	read := s.env.traffic.bytesIn.Load()
	for i := range 4 { // each byte is a sign of life, but the frame is not whole in time
		_, _ = nc.Write(frame[i : i+1])
		read++
		waitFor(t, "the byte", func() bool { return s.env.traffic.bytesIn.Load() == read })
		clock.advance(DefaultIdleTimeout / 4)
		if i < 3 {
			s.scan()
			if s.Connections() != 1 {
				t.Fatalf("closed after %d bytes", i+1)
			}
		}
	}
	s.scan()
	wantClosed(t, nc)
}

// Requests that are not answered keep the connection active, but it does not read.
func TestPeerThatOnlyWritesIsClosed(t *testing.T) {
	clock := &fakeClock{t: time.Unix(1e9, 0)}
	var releases atomic.Int64
	cfg := echoConfig()
	cfg.Now = clock.now
	cfg.Routes = append(cfg.Routes, payloadRoute(&releases, 16<<20))
	s, addr := serve(t, cfg)
	nc := dialRaw(t, addr)
	_, _ = nc.Write(request(codeAdmin, 1, protocol.SerializeJSON, ""))
	waitFor(t, "the answer to be written", func() bool {
		conns := s.snapshot()
		return len(conns) == 1 && conns[0].writing.Load() != 0
	})
	oneway := request(codeAck, 2, protocol.SerializeJSON, "")
	oneway = bytes.Replace(oneway, []byte(`"flag":0`), []byte(`"flag":2`), 1)
	for range 4 {
		clock.advance(DefaultIdleTimeout / 3)
		read := s.env.traffic.bytesIn.Load()
		_, _ = nc.Write(oneway)
		waitFor(t, "the request, or the end", func() bool { return s.env.traffic.bytesIn.Load() > read || s.Connections() == 0 })
		s.scan()
	}
	waitFor(t, "the connection to be closed", func() bool { return s.Connections() == 0 })
	waitFor(t, "the payload to be released", func() bool { return releases.Load() == 1 })
}

func TestConnectionsTakeTurnsInALane(t *testing.T) {
	gate := make(chan struct{})
	order := make(chan byte, 16)
	var begun atomic.Int64
	cfg := echoConfig()
	cfg.Lanes = map[Lane]LaneLimits{LaneAck: {Workers: 1, Queue: 8}}
	cfg.Routes[2].Handle = func(r *Request) (*Response, error) {
		begun.Add(1)
		<-gate
		order <- r.Body[0]
		return echo(r)
	}
	s, addr := serve(t, cfg)
	busy, calm := dialRaw(t, addr), dialRaw(t, addr)
	for i := range int32(9) { // one runs, eight wait: the lane is full
		_, _ = busy.Write(request(codeAck, i, protocol.SerializeJSON, "b"))
	}
	waitFor(t, "a full lane", func() bool { n, _ := s.lanes[LaneAck].depth(); return n == 8 && begun.Load() == 1 })
	for i := range int32(2) {
		_, _ = calm.Write(request(codeAck, i, protocol.SerializeJSON, "c"))
	}
	for i := range int32(2) { // displaced by them, the oldest first
		if cmd := mustRead(t, busy); protocol.ResponseCode(cmd.Code) != protocol.RespSystemBusy || cmd.Opaque != i+1 {
			t.Fatalf("got %v", cmd)
		}
	}
	close(gate)
	for range 2 {
		if cmd := mustRead(t, calm); cmd.Code != 0 {
			t.Fatalf("got %v", cmd)
		}
	}
	for range 7 {
		if cmd := mustRead(t, busy); cmd.Code != 0 {
			t.Fatalf("got %v", cmd)
		}
	}
	var got []byte
	for range 9 {
		got = append(got, <-order)
	}
	if string(got) != "bbcbcbbbb" {
		t.Errorf("served in the order %s", got)
	}
}
