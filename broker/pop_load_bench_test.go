package broker

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// openPopped is openTimed with a queue of messages that can be popped.
func openPopped(b *testing.B, dir string) *popClient {
	b.Helper()
	c := &popClient{t: b, n: openTimed(b, dir)}
	c.settle()
	return c
}

// each calls fn for 0 to count-1, 64 beside one another, and returns the ns that one took on the whole.
func each(count int, fn func(i int)) float64 {
	var wait sync.WaitGroup
	var next atomic.Int64
	began := time.Now()
	for range 64 {
		wait.Go(func() {
			for i := next.Add(1); i <= int64(count); i = next.Add(1) {
				fn(int(i - 1))
			}
		})
	}
	wait.Wait()
	return float64(time.Since(began).Nanoseconds()) / float64(count)
}

func heapInUse() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkOpenDeliveries pops many messages of a queue, 32 at a time, and acknowledges none of them; then it reports what a pop and an
// acknowledgement cost, in ns with 64 of them beside one another, what of the heap the open deliveries take, and what a start costs that
// finds them. Run it with -benchtime=1x.
func BenchmarkOpenDeliveries(b *testing.B) {
	const perPop, more = 32, 2000
	for _, open := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(open), func(b *testing.B) {
			dir := b.TempDir()
			c := openPopped(b, dir)
			c.n.fillTimed(open+more*perPop, nil)
			fields := popRequestFields(time.Hour, 0)
			fields["maxMsgNums"] = fmt.Sprint(perPop)
			var failed atomic.Int64
			receipts := make([]string, open/perPop+more)
			pop := func(i int) {
				resp := <-c.ask(protocol.ReqPopMessage, fields)
				var h protocol.PopResult
				if protocol.ResponseCode(resp.Code) != protocol.RespSuccess || protocol.DecodeHeader(resp.Fields, &h) != nil {
					failed.Add(1)
					return
				}
				var start int64
				_, _ = fmt.Sscanf(h.StartOffsetInfo, "0 0 %d", &start)
				resp.Payload.Release()
				receipts[start/perPop] = fmt.Sprint(start, " ", h.PopTime, " ", h.InvisibleMS, " ", h.ReviveQueue, " 0 b 0 ", start)
			}
			if err := c.n.store.Stage(); err != nil {
				b.Fatal(err)
			}
			before := heapInUse()
			each(open/perPop, pop)
			if err := c.n.store.Stage(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(heapInUse()-before, "heap-B")
			b.ReportMetric(each(more, pop), "ns/pop")
			ack := func(i int) { // one of a delivery each, all over the queue
				at := i * 7919 % len(receipts)
				var start int64
				_, _ = fmt.Sscan(receipts[at], &start)
				resp := <-c.ask(protocol.ReqAckMessage, map[string]string{
					"consumerGroup": "G", "topic": "T", "queueId": "0", "offset": fmt.Sprint(start + int64(i/len(receipts))), "extraInfo": receipts[at],
				})
				if protocol.ResponseCode(resp.Code) != protocol.RespSuccess {
					failed.Add(1)
				}
			}
			b.ReportMetric(each(more, ack), "ns/ack")
			c.n.stop()
			c.n = nil
			before = heapInUse()
			began := time.Now()
			c = openPopped(b, dir)
			b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/start")
			b.ReportMetric(heapInUse()-before, "heap-B/start")
			if deliveries, _, _ := c.n.pop.Open(); deliveries != int64(len(receipts)) || failed.Load() > 0 {
				b.Errorf("%d deliveries are open after the start, want %d; %d requests failed", deliveries, len(receipts), failed.Load())
			}
			c.n.stop()
		})
	}
}
