package view

import (
	"math"
	"testing"
)

// BenchmarkFindUnstagedKey looks for a key among as many pairs as 128 MiB of small messages with four keys have.
func BenchmarkFindUnstagedKey(b *testing.B) {
	const pairs = 2_300_000
	v := &View{}
	for i := range int64(pairs) {
		v.keys.add(i, i, []uint64{KeyHash("T", string(rune(i)))})
	}
	v.keys.add(pairs, pairs, []uint64{1})
	for b.Loop() {
		found := false
		err := v.FindKey(1, 0, math.MaxInt64, func(p int64) bool { found = p == pairs; return false })
		if err != nil || !found {
			b.Fatal(err)
		}
	}
}
