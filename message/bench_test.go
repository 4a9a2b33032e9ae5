package message

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"net/netip"
	"testing"
)

var benchHost = netip.MustParseAddrPort("192.168.3.4:10911")

func benchRecord(size int) *Record {
	return &Record{
		QueueID: 3, QueueOffset: 123456, PhysicalOffset: 1 << 40, BornTime: 1763720000000, BornHost: benchHost, StoreTime: 1763720000001,
		StoreHost: benchHost, Body: bytes.Repeat([]byte("x"), size), Topic: []byte("TopicTest"),
		Properties: []byte("KEYS\x01OrderID188\x02UNIQ_KEY\x017F000001168A1B28353150D1E0C80000\x02WAIT\x01true\x02TAGS\x01TagA\x02CLUSTER\x01DefaultCluster\x02"),
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{128, 512, 1024, 4096, 65537} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r := benchRecord(size)
			dst := make([]byte, r.EncodedSize())
			crc := crc32.ChecksumIEEE(r.Body)
			b.SetBytes(int64(len(dst)))
			b.ReportAllocs()
			for b.Loop() {
				r.Encode(dst, crc)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	r := benchRecord(1024)
	dst := make([]byte, r.EncodedSize())
	r.Encode(dst, crc32.ChecksumIEEE(r.Body))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Decode(dst); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTagsCode(b *testing.B) {
	tag := []byte("TagA")
	for b.Loop() {
		TagsCode(tag)
	}
}
