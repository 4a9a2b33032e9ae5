//go:build unix

package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"sync"
	"syscall"
	"testing"

	"github.com/apogeemq/apogee/message"
)

// processorTime returns what the process has used, ns: what a message costs in the background counts as well.
func processorTime(b *testing.B) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{128, 1024} {
		for _, keys := range []int{0, 1, 4} {
			b.Run(fmt.Sprintf("%d/keys=%d", size, keys), func(b *testing.B) { benchmarkAppend(b, size, keys) })
		}
	}
}

func benchmarkAppend(b *testing.B, size, keys int) {
	s, _ := mustOpen(b, Config{Dir: b.TempDir()})
	began := processorTime(b)
	body := bytes.Repeat([]byte("b"), size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var wait sync.WaitGroup
	const batch, writers = 128, 8
	per := b.N/batch/writers + 1
	for w := range writers {
		wait.Go(func() {
			q := s.Queue("T", int32(w))
			template := entryFor(q, body, "")
			words := make([]byte, 4*17) // as many bytes, and as much work for the benchmark, however many of them are keys
			free := make(chan *Batch, 4)
			for range cap(free) {
				free <- &Batch{Entries: make([]Entry, batch), Done: func(x *Batch, _ error) { free <- x }}
			}
			number, digits := uint64(w)<<32, make([]byte, 8)
			for range per {
				x := <-free
				for i := range x.Entries {
					e := &x.Entries[i]
					properties, hashes := e.Record.Properties[:0], e.Keys
					*e = template
					e.Keys = hashes
					e.BodyCRC = crc32.ChecksumIEEE(body)
					for k := range 4 {
						number++
						binary.BigEndian.PutUint64(digits, number)
						hex.Encode(words[k*17:], digits)
						words[k*17+16] = ' '
					}
					properties = message.AppendProperty(properties, message.PropKeys, words[:keys*17])
					e.Record.Properties = message.AppendProperty(properties, "WORDS", words[keys*17:])
					IndexEntry(e)
				}
				if err := s.Append(x); err != nil {
					b.Error(err)
					return
				}
			}
			for range cap(free) {
				<-free
			}
		})
	}
	wait.Wait()
	if err := s.Close(); err != nil { // which stages the rest
		b.Fatal(err)
	}
	b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-ns/op")
}
