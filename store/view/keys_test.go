package view

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestKeysAreSortedByHashAndThenAsTheyCame(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	hashes := map[string]func(i int) uint64{
		"spread":         func(int) uint64 { return random.Uint64() },
		"one":            func(int) uint64 { return 7 },
		"a few":          func(int) uint64 { return uint64(random.IntN(5)) << 40 },
		"a tag and keys": func(i int) uint64 { return random.Uint64() * uint64(i%2) },
		"alike":          func(int) uint64 { return 1<<63 | uint64(random.IntN(100)) },
	}
	for name, hash := range hashes {
		for _, n := range []int{0, 1, 1000, pairsPerChunk, 2*pairsPerChunk + 1} {
			var part keyPart
			var want []pair
			for i := range n {
				h := hash(i)
				part.add(int64(i), 0, []uint64{h})
				want = append(want, pair{h, int64(i)})
			}
			slices.SortStableFunc(want, func(a, b pair) int { return cmp.Compare(a.hash, b.hash) })
			if got := part.sorted(); !slices.Equal(got, want) {
				t.Errorf("%s: %d keys are not in order", name, n)
			}
		}
	}
}

func TestAPairComesBackFromItsBytes(t *testing.T) {
	for _, p := range []pair{{0, 1 << 50}, {1<<64 - 1, 1<<50 - 1<<40 + 1}, {0x123456789abcdef0, 1<<50 - 0x123456789a}} {
		r := run{0, 1 << 50}
		if got := decodePair(p.append(nil, r), r); got != (pair{p.hash & pairHashMask, p.position}) {
			t.Errorf("%x came back as %x", p, got)
		}
	}
}

// BenchmarkFindUnstagedKey looks for a key among as many pairs as 128 MiB of small messages with four keys have.
func BenchmarkFindUnstagedKey(b *testing.B) {
	const pairs = 2_300_000
	v := &View{}
	for i := range int64(pairs) {
		v.keys.add(i, i, []uint64{KeyHash([]byte("T"), []byte(string(rune(i))))})
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

// BenchmarkFindStagedKey looks for a key that none of so many runs has, and for one that the oldest has.
func BenchmarkFindStagedKey(b *testing.B) {
	for _, runs := range []int{80, 1000} {
		v, err := Open(vfs.Default, b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		const pairs = 50_000 // of 64 MiB of messages of 1 KiB with a unique key
		random := rand.New(rand.NewPCG(3, 4))
		present := KeyHash([]byte("T"), []byte("present"))
		for r := range runs {
			v.Begin()
			position := int64(r) << 26
			v.keys.add(position, position, []uint64{present + uint64(r)<<40})
			for i := range int64(pairs) {
				v.keys.add(position+i, position, []uint64{random.Uint64()})
			}
			v.End(position + 1<<26)
			if err := v.StageAll(); err != nil {
				b.Fatal(err)
			}
		}
		for want, hash := range []uint64{^present, present} {
			b.Run(fmt.Sprintf("runs=%d/found=%d", runs, want), func(b *testing.B) {
				for b.Loop() {
					found := 0
					if err := v.FindKey(hash, 0, math.MaxInt64, func(int64) bool { found++; return true }); err != nil || found != want {
						b.Fatal(err, found)
					}
				}
			})
		}
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSortKeys sorts the keys of a run.
func BenchmarkSortKeys(b *testing.B) {
	var part keyPart
	const pairs = 800_000
	for i := range int64(pairs) {
		part.add(i, i, []uint64{KeyHash([]byte("T"), binary.AppendVarint(nil, i))})
	}
	for b.Loop() {
		part.sorted()
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/pairs, "ns/key")
}
