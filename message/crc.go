package message

import (
	"hash/crc32"
	"math/bits"
)

// RocketMQ writes CRC-32 (IEEE) with the sign bit cleared (UtilAll.crc32). Completing a record's checksum after its offsets are
// known must not read the body again, so the checksum of a concatenation is computed from those of its parts: CRC-32 is linear.

// ieeePoly is the reversed IEEE polynomial.
const ieeePoly = 0xedb88320

// BodyCRC returns the body checksum as RocketMQ stores it: CRC-32 (IEEE) & 0x7FFFFFFF.
func BodyCRC(body []byte) uint32 { return crc32.ChecksumIEEE(body) & 0x7fffffff }

// zeroShift[k][b] holds the operators x^(8*2^k) mod P; combining takes one multiplication per set bit of the length.
var zeroShift = func() (t [32]uint32) {
	t[0] = 0x00800000 // x^8 in the reflected representation
	for k := 1; k < len(t); k++ {
		t[k] = multiplyModP(t[k-1], t[k-1])
	}
	return t
}()

// multiplyModP multiplies two polynomials modulo the CRC's (reflected bit order).
func multiplyModP(a, b uint32) uint32 {
	var p uint32
	for a != 0 {
		// the highest set bit of a is its lowest power of x not yet handled
		n := bits.LeadingZeros32(a)
		for range n {
			b = b>>1 ^ (ieeePoly & -(b & 1))
		}
		p ^= b
		b = b>>1 ^ (ieeePoly & -(b & 1))
		a = a << n << 1
	}
	return p
}

// shiftOperator returns x^(8*n) mod P: multiplying a checksum by it appends n zero bytes to what the checksum covers.
func shiftOperator(n int) uint32 {
	op := uint32(1 << 31) // x^0
	for k := 0; n != 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			op = multiplyModP(zeroShift[k], op)
		}
	}
	return op
}

// combineCRC returns the checksum of A followed by B from crc(A), crc(B) and the shift operator of B's length.
func combineCRC(crcA, crcB, shiftB uint32) uint32 { return multiplyModP(shiftB, crcA) ^ crcB }
