package message

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestCombinedChecksumIsThatOfTheWhole(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 5<<20)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	sizes := []int{0, 1, 2, 255, 256, 257, 511, 1023, 1024, 1025, 65535, 65536, 65537, 1 << 20, 4 << 20}
	for range 200 {
		sizes = append(sizes, rnd.IntN(1<<rnd.IntN(22)+1))
	}
	for _, size := range sizes {
		head, tail := rnd.IntN(300), rnd.IntN(300)
		body := b[head : head+size]
		whole := b[:head+size+tail]
		want := crc32.ChecksumIEEE(whole)
		sum := combineCRC(crc32.ChecksumIEEE(whole[:head]), crc32.ChecksumIEEE(body), size)
		if got := crc32.Update(sum, crc32.IEEETable, whole[head+size:]); got != want {
			t.Errorf("head %d, body %d, tail %d: combined %08x, want %08x", head, size, tail, got, want)
		}
		if got := checksum(whole, head, head+size, crc32.ChecksumIEEE(body)); got != want {
			t.Errorf("head %d, body %d, tail %d: checksum %08x, want %08x", head, size, tail, got, want)
		}
	}
}

func TestEncodedRecordsVerify(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		r := benchRecord(rnd.IntN(3 * combineLeast))
		for i := range r.Body {
			r.Body[i] = byte(rnd.Uint32())
		}
		dst := make([]byte, r.EncodedSize())
		r.Encode(dst, crc32.ChecksumIEEE(r.Body))
		back, n, err := Decode(dst)
		if err != nil || n != len(dst) {
			t.Fatalf("body %d: decoded %d of %d bytes: %v", len(r.Body), n, len(dst), err)
		}
		if err := back.Verify(dst); err != nil {
			t.Fatalf("body %d: %v", len(r.Body), err)
		}
		dst[rnd.IntN(len(dst)-CRCPropertySize)] ^= 1 << rnd.IntN(8)
		if back.Verify(dst) == nil {
			t.Fatalf("body %d: a flipped bit is not found", len(r.Body))
		}
	}
}

// BenchmarkCombine beside BenchmarkRead say where combineLeast stands.
func BenchmarkCombine(b *testing.B) {
	for b.Loop() {
		combineCRC(0x12345678, 0x9abcdef0, 0x0401)
	}
}

func BenchmarkRead(b *testing.B) {
	body := make([]byte, combineLeast)
	for b.Loop() {
		crc32.ChecksumIEEE(body)
	}
}
