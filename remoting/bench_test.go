package remoting

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/apogeemq/apogee/protocol"
)

// BenchmarkEcho sends small frames over one connection with a window in flight, through reader, sink and output queue of the server
// and through the client's slots: the send path without a store. One operation is one message there and back.
func BenchmarkEcho(b *testing.B) {
	for _, ser := range []protocol.Serialization{protocol.SerializeJSON, protocol.SerializeBinary} {
		for _, window := range []int{1, 128, 2048} {
			b.Run(fmt.Sprintf("%s/window=%d", [...]string{"JSON", "binary"}[ser], window), func(b *testing.B) {
				benchmarkEcho(b, codeSend, ser, window)
			})
		}
	}
}

// BenchmarkLane is the same for requests that run in a lane.
func BenchmarkLane(b *testing.B) {
	for _, window := range []int{1, 128, 2048} {
		b.Run(fmt.Sprintf("binary/window=%d", window), func(b *testing.B) { benchmarkEcho(b, codePull, protocol.SerializeBinary, window) })
	}
}

func benchmarkEcho(b *testing.B, code protocol.RequestCode, ser protocol.Serialization, window int) {
	_, addr := serve(b, echoConfig())
	benchmarkCalls(b, addr, code, ser, window)
}

func benchmarkCalls(b *testing.B, addr string, code protocol.RequestCode, ser protocol.Serialization, window int) {
	client := newTestClient(b, ClientConfig{HeaderSerialization: ser})
	conn, err := client.Dial(b.Context(), addr)
	if err != nil {
		b.Fatal(err)
	}
	req := protocol.NewRequest(code, nil)
	req.Fields.Add("a", "producer")
	req.Fields.Add("b", "topic")
	req.Fields.Add("e", "3")
	req.Fields.Add("i", "KEYS\x01key\x02")
	req.Body = make([]byte, 100)
	tokens := make(chan struct{}, window)
	done := func(_ *protocol.Command, err error) {
		if err != nil {
			b.Error(err)
		}
		<-tokens
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		tokens <- struct{}{}
		conn.Send(req, done)
	}
	for range window {
		tokens <- struct{}{}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkIdleConnections reports what an idle connection costs the server, stack and heap, after a request each.
func BenchmarkIdleConnections(b *testing.B) {
	const conns = 2000
	memory := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse + m.StackInuse)
	}
	for b.Loop() {
		_, addr := serve(b, echoConfig())
		before := memory()
		frame := request(codePull, 1, protocol.SerializeJSON, "")
		for range conns {
			nc := dialRaw(b, addr)
			_, _ = nc.Write(frame)
			mustRead(b, nc)
		}
		b.ReportMetric((memory()-before)/conns, "B/conn")
	}
}

// BenchmarkPayload answers with 32 slices of 1 KiB each, as a pull does.
func BenchmarkPayload(b *testing.B) {
	one := make([]byte, 1024)
	slices := make([][]byte, 32)
	for i := range slices {
		slices[i] = one
	}
	resp := &Response{Payload: Payload{Slices: slices, Size: 32 * 1024, Release: func() {}}}
	cfg := echoConfig()
	cfg.Routes[1].Handle = func(*Request) (*Response, error) { return resp, nil }
	_, addr := serve(b, cfg)
	b.SetBytes(32 * 1024)
	benchmarkCalls(b, addr, codePull, protocol.SerializeBinary, 32)
}
