package message

import "hash/crc32"

// RocketMQ writes CRC-32 (IEEE) with the sign bit cleared (UtilAll.crc32). Completing a record's checksum after its offsets are
// known must not read a long body again, so the checksum of a concatenation is computed from those of its parts: CRC-32 is linear.

const (
	// ieeePoly is the reversed IEEE polynomial.
	ieeePoly = 0xedb88320
	// combineLeast is the body size from which combining is cheaper than reading the body, which is in the cache, again (BenchmarkEncode).
	combineLeast = 512
)

// BodyCRC returns the body checksum as RocketMQ stores it: CRC-32 (IEEE) & 0x7FFFFFFF.
func BodyCRC(body []byte) uint32 { return crc32.ChecksumIEEE(body) & 0x7fffffff }

// one is x^0 in the reflected representation: the highest bit is the lowest power of x.
const one = 1 << 31

// zeroShift[k][b] is the operator x^(8*b*256^k) mod P that appends b*256^k zero bytes, so that a length takes a multiplication per byte.
var zeroShift = func() (t [4][256]uint32) {
	unit := uint32(one >> 8) // x^8: one zero byte
	for k := range t {
		t[k][0] = one
		for b := 1; b < 256; b++ {
			t[k][b] = multiplyModP(t[k][b-1], unit)
		}
		unit = multiplyModP(t[k][255], unit)
	}
	return t
}()

// fold[n] is what the four highest powers n of a polynomial become when it is multiplied by x^4 modulo P.
var fold = func() (t [16]uint32) {
	for n := range t {
		v := uint32(n)
		for range 4 {
			v = timesX(v)
		}
		t[n] = v
	}
	return t
}()

func timesX(p uint32) uint32 { return p>>1 ^ (ieeePoly & -(p & 1)) }

// multiplyModP multiplies two polynomials modulo the CRC's, four bits of a at a time.
func multiplyModP(a, b uint32) uint32 {
	bx := timesX(b)
	bx2 := timesX(bx)
	bx3 := timesX(bx2)
	var multiple [16]uint32 // of b by each polynomial of degree 3
	multiple[8], multiple[4], multiple[2], multiple[1] = b, bx, bx2, bx3
	multiple[3], multiple[5], multiple[6], multiple[7] = bx2^bx3, bx^bx3, bx^bx2, bx^bx2^bx3
	for n := 9; n < 16; n++ {
		multiple[n] = b ^ multiple[n-8]
	}
	var p uint32
	for range 8 { // from the highest powers of a to the lowest
		p = p>>4 ^ fold[p&15] ^ multiple[a&15]
		a >>= 4
	}
	return p
}

// combineCRC returns the checksum of A followed by B, whose length is given, from those of A and B.
func combineCRC(crcA, crcB uint32, lengthB int) uint32 {
	for k := 0; lengthB != 0; k, lengthB = k+1, lengthB>>8 {
		if b := lengthB & 0xff; b != 0 {
			crcA = multiplyModP(zeroShift[k][b], crcA)
		}
	}
	return crcA ^ crcB
}
