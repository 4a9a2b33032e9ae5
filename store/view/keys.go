package view

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// The key index of a run is the sorted pairs of its stretch of the log: nothing is looked up or rewritten when a message arrives.

// pairsPerBlock bounds one value of the database.
const pairsPerBlock = 1024

// pair is one key of one message.
type pair struct {
	hash     uint64
	position int64
}

// KeyHash is what the key index holds of a topic's key. Collisions are resolved by reading the message.
func KeyHash[T, K string | []byte](topic T, key K) uint64 { return hash(topic, "#", key) }

// TagHash is what the key index holds of a tag of a topic's messages.
func TagHash[T, K string | []byte](topic T, tag K) uint64 { return hash(topic, "#T#", tag) }

func hash[T, K string | []byte](topic T, kind string, key K) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(0)
	_, _ = d.WriteString(string(topic))
	_, _ = d.WriteString(kind)
	_, _ = d.WriteString(string(key))
	return d.Sum64()
}

type keyIndex struct {
	mu          sync.RWMutex // guards what follows
	pairs       []pair       // not in the database yet, in log order; those that are there are never changed
	first, last int64        // store times of pairs
}

func (x *keyIndex) add(position, storeTime int64, hashes []uint64) {
	if len(hashes) == 0 {
		return
	}
	x.mu.Lock()
	if len(x.pairs) == 0 {
		x.first = storeTime
	}
	x.last = storeTime
	for _, h := range hashes {
		x.pairs = append(x.pairs, pair{h, position})
	}
	x.mu.Unlock()
}

// sortPairs returns the pairs by hash, those of one hash in log order, as they came. Hashes are spread evenly: after three passes by 11 bits
// each, hardly any neighbours are left to be put right.
func sortPairs(pairs []pair) []pair {
	const bits = 11
	from, to := pairs, make([]pair, len(pairs))
	spare := make([]pair, len(pairs))
	for pass := range 3 {
		shift := 64 - bits*(3-pass)
		var at [1 << bits]int
		for i := range from {
			at[from[i].hash>>shift&(1<<bits-1)]++
		}
		sum := 0
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for _, p := range from {
			digit := p.hash >> shift & (1<<bits - 1)
			to[at[digit]] = p
			at[digit]++
		}
		from, to, spare = to, spare, to
	}
	for i := 1; i < len(from); i++ {
		for j := i; j > 0 && from[j].hash < from[j-1].hash; j-- {
			from[j], from[j-1] = from[j-1], from[j]
		}
	}
	return from
}

// FindKey calls fn with the log positions of messages whose key has this hash and whose store time may lie in [begin, end] ms, newest
// run first and newest message first within it, until fn returns false.
func (v *View) FindKey(hash uint64, begin, end int64, fn func(position int64) bool) error {
	v.keys.mu.RLock()
	pairs, first, last := v.keys.pairs, v.keys.first, v.keys.last
	v.keys.mu.RUnlock()
	var recent []int64
	if first <= end && last >= begin { // not under the lock: millions of pairs take longer than appends may wait
		for _, p := range pairs {
			if p.hash == hash {
				recent = append(recent, p.position)
			}
		}
	}
	for _, p := range slices.Backward(recent) {
		if !fn(p) {
			return nil
		}
	}
	runs, err := v.runs(begin, end)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(runs) {
		positions, err := v.findInRun(r, hash)
		if err != nil {
			return err
		}
		for _, p := range slices.Backward(positions) {
			if slices.Contains(recent, p) {
				continue // staged while we looked
			}
			if !fn(p) {
				return nil
			}
		}
	}
	return nil
}

// KeyPositions returns the log positions of a topic's messages whose key has the hash of this one, newest first.
func (v *View) KeyPositions(topic, key string) (positions []int64, err error) {
	err = v.FindKey(KeyHash(topic, key), 0, math.MaxInt64, func(p int64) bool { positions = append(positions, p); return true })
	return positions, err
}

// findInRun returns the positions of a hash in one run, oldest first.
func (v *View) findInRun(r run, hash uint64) ([]int64, error) {
	be := binary.BigEndian
	prefix := r.prefix('k')
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var found []int64
	// The block before the first one that begins with the hash may end with it.
	ok := it.SeekLT(be.AppendUint64(prefix[:len(prefix):len(prefix)], hash))
	if !ok {
		ok = it.First()
	}
	for ; ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		if be.Uint64(value) > hash {
			break
		}
		n := len(value) / 16
		i := sort.Search(n, func(i int) bool { return be.Uint64(value[i*16:]) >= hash })
		for ; i < n && be.Uint64(value[i*16:]) == hash; i++ {
			found = append(found, int64(be.Uint64(value[i*16+8:])))
		}
	}
	return found, it.Error()
}
