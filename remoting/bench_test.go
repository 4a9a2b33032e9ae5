package remoting

import (
	"fmt"
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
