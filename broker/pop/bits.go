package pop

import "math/bits"

// Bits is a set of small numbers, bit i%8 of byte i/8. It has no empty bytes at its end.
type Bits []byte

func (b *Bits) set(i int) {
	for len(*b) <= i/8 {
		*b = append(*b, 0)
	}
	(*b)[i/8] |= 1 << (i % 8)
}

// clear takes i out; false when it was not in.
func (b *Bits) clear(i int) bool {
	if i < 0 || i/8 >= len(*b) || (*b)[i/8]&(1<<(i%8)) == 0 {
		return false
	}
	(*b)[i/8] &^= 1 << (i % 8)
	for n := len(*b); n > 0 && (*b)[n-1] == 0; n-- {
		*b = (*b)[:n-1]
	}
	return true
}

func (b Bits) empty() bool { return len(b) == 0 }

func (b Bits) count() (n int) {
	for _, v := range b {
		n += bits.OnesCount8(v)
	}
	return n
}

// first returns the least number of the set, which is not empty.
func (b Bits) first() int {
	i := 0
	for b[i] == 0 {
		i++
	}
	return i*8 + bits.TrailingZeros8(b[i])
}

// All calls yield for each number of the set, in order.
func (b Bits) All(yield func(int) bool) {
	for i, v := range b {
		for ; v != 0; v &= v - 1 {
			if !yield(i*8 + bits.TrailingZeros8(v)) {
				return
			}
		}
	}
}
