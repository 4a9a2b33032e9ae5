package broker

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
)

// openTimed starts a broker on a directory of the disk.
func openTimed(b *testing.B, dir string) *delayNode {
	b.Helper()
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	levels := delay.DefaultLevels()
	s, _, err := store.Open(store.Config{
		Dir: dir, SegmentBytes: 64 << 20, Now: time.Now, Logger: quiet, DueTime: levels.DueTime, Retired: Retired, Pending: Pending,
	})
	if err != nil {
		b.Fatal(err)
	}
	broker, err := New(Config{Cluster: "c", Name: "b", Permission: 6, AutoCreateGroup: true, DelayLevels: levels, Now: time.Now, Logger: quiet}, s)
	if err != nil {
		b.Fatal(err)
	}
	broker.Start()
	return &delayNode{b, s, broker}
}

// fillTimed sends messages, each for the moment that at gives; nil: for now.
func (n *delayNode) fillTimed(count int, at func(i int) time.Time) {
	n.t.Helper()
	t, err := n.topics.ensure("T", 1)
	if err != nil {
		n.t.Fatal(err)
	}
	body := make([]byte, 100)
	var wait sync.WaitGroup
	for i := 0; i < count; {
		batch := &store.Batch{Done: func(_ *store.Batch, err error) {
			if err != nil {
				n.t.Error(err)
			}
			wait.Done()
		}}
		for len(batch.Entries) < 500 && i < count {
			p := message.AppendProperty(nil, message.PropUniqueKey, fmt.Appendf(nil, "%032d", i))
			if at != nil {
				p = message.AppendProperty(p, message.PropTimerDeliver, strconv.AppendInt(nil, at(i).UnixMilli(), 10))
			}
			e := n.store.EntryFor(message.Record{Topic: t.name, Body: body, Properties: p, BornHost: testHost, StoreHost: testHost}, t.queue(0))
			if at != nil {
				if _, err := n.delays.WaitForMoment(&e, nil); err != nil {
					n.t.Fatal(err)
				}
			}
			batch.Entries = append(batch.Entries, e)
			i++
		}
		wait.Add(1)
		if err := n.store.Append(batch); err != nil {
			n.t.Fatal(err)
		}
	}
	wait.Wait()
}

// BenchmarkTimedStart starts a broker on a directory where a million messages wait for moments of the next two days, and reports how long that
// takes, and until all are counted, and the memory of the heap. Run it with -benchtime=1x.
func BenchmarkTimedStart(b *testing.B) {
	const count = 1_000_000
	dir := b.TempDir()
	n := openTimed(b, dir)
	n.fillTimed(count, func(i int) time.Time {
		return time.Now().Add(time.Minute + time.Duration(i*7919%count)*172*time.Millisecond)
	})
	n.stop()
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		n := openTimed(b, dir)
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/start")
		for messages, _ := n.delays.Waiting(); messages < count; messages, _ = n.delays.Waiting() {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/counted")
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc>>20), "heap-MiB")
		n.stop()
	}
}

// BenchmarkTimedDeliveries delivers messages whose moments are within the same four seconds, 50,000 a second, and reports the rate from the first moment on.
func BenchmarkTimedDeliveries(b *testing.B) {
	const count = 200_000
	for range b.N {
		n := openTimed(b, b.TempDir())
		first := time.Now().Add(10 * time.Second)
		n.fillTimed(count, func(i int) time.Time { return first.Add(time.Duration(i*7919%count) * 4 * time.Second / count) })
		b.Logf("%d sent in %s", count, 10*time.Second-time.Until(first))
		q := n.store.Queue("T", 0)
		for {
			if _, end := q.Bounds(); end == count {
				break
			}
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(count/time.Since(first).Seconds(), "messages/s")
		late := n.delays.Late()
		b.Logf("late: %v, mean %.3f s", late.Buckets, late.Sum/float64(late.Count))
		n.stop()
	}
}
