package main

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A record batch of Kafka's format, magic 2: offsets of what is read and written here.
const (
	lengthAt    = 8  // bytes after it
	crcAt       = 17 // of all after it
	lastDeltaAt = 23 // offset of the last record, less the first's
	recordsAt   = 61
)

// recordBatch encodes a batch of n records with the same value, of no producer that has an id.
func recordBatch(n int, value []byte) []byte {
	b := make([]byte, recordsAt)
	binary.BigEndian.PutUint32(b[12:], ^uint32(0)) // leader epoch
	b[16] = 2
	binary.BigEndian.PutUint32(b[lastDeltaAt:], uint32(n-1))
	now := uint64(time.Now().UnixMilli())
	binary.BigEndian.PutUint64(b[27:], now) // the first record's time, and the latest
	binary.BigEndian.PutUint64(b[35:], now)
	for i := 43; i < 57; i++ {
		b[i] = 0xff // producer's id, epoch, and first sequence number
	}
	binary.BigEndian.PutUint32(b[57:], uint32(n))
	for i := range n {
		record := []byte{0, 0} // attributes, time after the first
		record = binary.AppendVarint(record, int64(i))
		record = binary.AppendVarint(record, -1) // no key
		record = binary.AppendVarint(record, int64(len(value)))
		record = append(append(record, value...), 0) // no headers
		b = append(binary.AppendVarint(b, int64(len(record))), record...)
	}
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// batchesEnd returns the offset after the last whole batch, 0 when there is none.
func batchesEnd(b []byte) (end int64) {
	for len(b) > recordsAt {
		size := 12 + int(binary.BigEndian.Uint32(b[lengthAt:]))
		if size > len(b) {
			break
		}
		end = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[lastDeltaAt:])) + 1
		b = b[size:]
	}
	return end
}

func errorOf(code int16) error { return kerr.ErrorForCode(code) }
