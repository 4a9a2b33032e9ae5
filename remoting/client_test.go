package remoting

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/apogeemq/apogee/protocol"
)

func TestClientPipelines(t *testing.T) {
	for _, ser := range []protocol.Serialization{protocol.SerializeJSON, protocol.SerializeBinary} {
		_, addr := serve(t, echoConfig())
		client := newTestClient(t, ClientConfig{HeaderSerialization: ser})
		const total = 10_000
		var wg sync.WaitGroup
		var bad atomic.Int64
		wg.Add(total)
		for i := range total {
			req := protocol.NewRequest([]protocol.RequestCode{codeSend, codePull}[i%2], nil)
			req.Body = []byte(fmt.Sprint(i))
			client.Go(addr, req, func(resp *protocol.Command, err error) {
				if err != nil || string(resp.Body) != fmt.Sprint(i) || resp.Serialize != ser {
					bad.Add(1)
				}
				wg.Done()
			})
		}
		wg.Wait()
		if n := bad.Load(); n > 0 {
			t.Errorf("%d wrong answers", n)
		}
	}
}

func TestPopCodesGoAsJSON(t *testing.T) {
	cfg := echoConfig()
	cfg.Routes = append(cfg.Routes, Route{Code: protocol.ReqPopMessage, Lane: LanePull, Handle: func(r *Request) (*Response, error) {
		if r.Serialize != protocol.SerializeJSON {
			return nil, errors.New("not JSON")
		}
		return echo(r)
	}})
	_, addr := serve(t, cfg)
	client := newTestClient(t, ClientConfig{HeaderSerialization: protocol.SerializeBinary})
	resp, err := client.Invoke(t.Context(), addr, protocol.NewRequest(protocol.ReqPopMessage, nil))
	if err != nil || resp.Check() != nil {
		t.Fatalf("%v %v", resp, err)
	}
}

func TestTimeouts(t *testing.T) {
	var late []*Request
	var mu sync.Mutex
	cfg := echoConfig()
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) {
		mu.Lock()
		defer mu.Unlock()
		late = append(late, r)
		return nil, ErrLater
	}
	_, addr := serve(t, cfg)
	client := newTestClient(t, ClientConfig{Timeout: time.Second}) // the last request has as long for its answer
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := client.Invoke(ctx, addr, protocol.NewRequest(codePull, nil))
	var timeout *TimeoutError
	if !errors.As(err, &timeout) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "PULL_MESSAGE") {
		t.Fatalf("got %v", err)
	}
	failed := make(chan error, 2)
	client.Go(addr, protocol.NewRequest(codePull, nil), func(_ *protocol.Command, err error) { failed <- err })
	if err := <-failed; !errors.As(err, &timeout) {
		t.Fatalf("got %v", err)
	}
	// An answer after the timeout reaches nobody, least of all the next request.
	client.Go(addr, protocol.NewRequest(codeSend, nil), func(_ *protocol.Command, err error) { failed <- err })
	waitFor(t, "the requests", func() bool { mu.Lock(); defer mu.Unlock(); return len(late) == 2 })
	for _, r := range late {
		r.Reply(nil, nil)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if n := len(failed); n != 0 {
		t.Errorf("%d callbacks too many", n)
	}
}

func TestReconnects(t *testing.T) {
	s, addr := serve(t, echoConfig())
	client := newTestClient(t, ClientConfig{})
	for range 3 {
		if _, err := client.Invoke(t.Context(), addr, protocol.NewRequest(codeSend, nil)); err != nil {
			t.Fatal(err)
		}
		for _, c := range s.snapshot() {
			c.Close("test")
		}
		waitFor(t, "the client to notice", func() bool {
			client.mu.Lock()
			defer client.mu.Unlock()
			return len(client.conns) == 0
		})
	}
	_, err := client.Invoke(t.Context(), "127.0.0.1:1", protocol.NewRequest(codeSend, nil))
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Fatalf("got %v", err)
	}
}

func TestLostConnectionFailsCalls(t *testing.T) {
	cfg := echoConfig()
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) { r.Conn.Close("test"); return nil, ErrLater }
	_, addr := serve(t, cfg)
	client := newTestClient(t, ClientConfig{})
	_, err := client.Invoke(t.Context(), addr, protocol.NewRequest(codePull, nil))
	var closed *ClosedError
	if !errors.As(err, &closed) || closed.Addr != addr {
		t.Fatalf("got %v", err)
	}
}

func TestBothSidesSendRequests(t *testing.T) {
	const push = protocol.ReqCheckTransactionState
	pushed := make(chan string, 10)
	conns := make(chan *Conn, 1)
	cfg := echoConfig()
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) { conns <- r.Conn; return nil, nil }
	_, addr := serve(t, cfg)
	client := newTestClient(t, ClientConfig{OnRequest: func(r *Request) (*Response, error) {
		pushed <- string(r.Body)
		return echo(r)
	}})
	if _, err := client.Invoke(t.Context(), addr, protocol.NewRequest(codePull, nil)); err != nil {
		t.Fatal(err)
	}
	conn := <-conns
	req := protocol.NewRequest(push, nil)
	req.Body = []byte("are you there")
	resp, err := conn.Invoke(t.Context(), req)
	if err != nil || string(resp.Body) != "are you there" {
		t.Fatalf("%v %v", resp, err)
	}
	if err := conn.OneWay(req); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := <-pushed; got != "are you there" {
			t.Fatal(got)
		}
	}
	// A push whose answer has the code of a request of the lane send, or of another lane, is still an answer.
	client2 := newTestClient(t, ClientConfig{OnRequest: func(r *Request) (*Response, error) {
		return Respond(protocol.ResponseCode(r.Body[0]), nil), nil
	}})
	if _, err := client2.Invoke(t.Context(), addr, protocol.NewRequest(codePull, nil)); err != nil {
		t.Fatal(err)
	}
	conn = <-conns
	for _, code := range []protocol.RequestCode{codeSend, codePull, codeAck} {
		req.Body = []byte{byte(code)}
		if resp, err := conn.Invoke(t.Context(), req); err != nil || resp.Code != int32(code) {
			t.Fatalf("%v %v", resp, err)
		}
	}
	client2.Close()
	waitFor(t, "the connection to end", conn.IsClosed)
	if _, err := conn.Invoke(t.Context(), req); err == nil {
		t.Error("answered by a closed connection")
	}
	ran := make(chan struct{})
	conn.OnClose(func() { close(ran) })
	<-ran
}

func TestClientRefusesPushesItDoesNotServe(t *testing.T) {
	conns := make(chan *Conn, 1)
	cfg := echoConfig()
	cfg.Routes[1].Handle = func(r *Request) (*Response, error) { conns <- r.Conn; return nil, nil }
	_, addr := serve(t, cfg)
	client := newTestClient(t, ClientConfig{})
	if _, err := client.Invoke(t.Context(), addr, protocol.NewRequest(codePull, nil)); err != nil {
		t.Fatal(err)
	}
	resp, err := (<-conns).Invoke(t.Context(), protocol.NewRequest(codeAdmin, nil))
	if err != nil || protocol.ResponseCode(resp.Code) != protocol.RespRequestCodeNotSupported {
		t.Fatalf("%v %v", resp, err)
	}
}

func TestClosedClient(t *testing.T) {
	client := NewClient(ClientConfig{})
	client.Close()
	if _, err := client.Invoke(t.Context(), "127.0.0.1:1", protocol.NewRequest(codeSend, nil)); !errors.Is(err, ErrClientClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestCallTableReuse(t *testing.T) {
	var table callTable
	nop := func(*protocol.Command, error) {}
	first, _ := table.open(1, 100, nop)
	if got := table.expire(100); len(got) != 1 {
		t.Fatalf("%d expired", len(got))
	}
	second, _ := table.open(1, 0, nop) // not the slot that may still get a late answer
	if second&(callsMax-1) == first&(callsMax-1) {
		t.Error("slot used again")
	}
	if table.take(first) != nil {
		t.Error("late answer delivered")
	}
	third, _ := table.open(1, 0, nop)
	if third&(callsMax-1) != first&(callsMax-1) || third == first {
		t.Errorf("slot %x then %x", first, third)
	}
	for _, opaque := range []int32{first, -1, 1 << 30, 77} {
		if table.take(opaque) != nil {
			t.Errorf("opaque %x taken", opaque)
		}
	}
	if table.take(third) == nil || table.take(third) != nil || table.take(second) == nil || table.live.Load() != 0 {
		t.Error("not taken once")
	}
}

func TestLocalRequest(t *testing.T) {
	var got *Response
	cmd := protocol.NewRequest(codePull, nil)
	cmd.Fields.Add("nsd", "true")
	cmd.Fields.Add("ns", "n")
	r := NewLocalRequest(cmd, func(resp *Response, err error) { got = resp })
	resp := Respond(protocol.RespSuccess, nil)
	r.Reply(resp, nil)
	if got != resp || r.Namespace != "n" {
		t.Error("no answer")
	}
	defer func() {
		if recover() == nil {
			t.Error("answered twice")
		}
	}()
	r.Reply(resp, nil)
}

func TestMetrics(t *testing.T) {
	s, addr := serve(t, echoConfig())
	client := newTestClient(t, ClientConfig{})
	for _, code := range []protocol.RequestCode{codeSend, codePull, codePull, 77_777} {
		if _, err := client.Invoke(t.Context(), addr, protocol.NewRequest(code, nil)); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.Collector())
	waitFor(t, "the counts", func() bool {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				key := f.GetName()
				for _, l := range m.Label {
					key += " " + l.GetValue()
				}
				got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		return got["apogee_request_seconds PULL_MESSAGE false pull"] == 2 && got["apogee_request_seconds SEND_MESSAGE false send"] == 1 &&
			got["apogee_responses_total PULL_MESSAGE pull SUCCESS"] == 2 && got["apogee_unknown_requests_total"] == 1 &&
			got["apogee_connections plain"] == 1 && got["apogee_network_bytes_total in"] > 0 && got["apogee_network_bytes_total out"] > 0
	})
}

func TestHistogramBuckets(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{-1, 0, 1 << histogramUnitBits, 1<<histogramUnitBits + 1, time.Hour} {
		h.observe(d, 2)
	}
	n, _, buckets := h.snapshot()
	first, second := float64(1<<histogramUnitBits)/1e9, float64(2<<histogramUnitBits)/1e9
	if n != 10 || buckets[first] != 6 || buckets[second] != 8 || len(buckets) != histogramBuckets {
		t.Errorf("%d, %v", n, buckets)
	}
}
