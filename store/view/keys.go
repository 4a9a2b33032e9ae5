package view

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"sort"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// The key index of a run is the sorted pairs of its stretch of the log: nothing is looked up or rewritten when a message arrives.

const (
	// pairsPerBlock bounds one value of the database.
	pairsPerBlock = 1024
	// pairBytes is the length of a pair in the database: the first 5 bytes of the hash, and how far before the run's end the message is, 5.
	// The rest of the hash would be written for nothing: who finds a message reads it. A run is what was in memory at once, far from 1 TiB.
	pairBytes = 10
	// pairHashMask is what of a hash is there.
	pairHashMask = ^uint64(1<<24 - 1)
)

// pair is one key of one message.
type pair struct {
	hash     uint64
	position int64
}

func (p pair) append(dst []byte, r run) []byte {
	be := binary.BigEndian
	before := uint64(r.end - p.position)
	return be.AppendUint16(be.AppendUint64(dst, p.hash&pairHashMask|before>>16), uint16(before))
}

// decodePair reads a pair; of the hash it has what pairHashMask says.
func decodePair(b []byte, r run) pair {
	be := binary.BigEndian
	n := be.Uint64(b)
	return pair{n & pairHashMask, r.end - int64(n&^pairHashMask<<16|uint64(be.Uint16(b[8:])))}
}

// KeyHash is what the key index holds of a topic's key. Collisions are resolved by reading the message.
func KeyHash(topic, key []byte) uint64 { return xxhash.Sum64(topic) ^ mixed*xxhash.Sum64(key) }

// TagHash is what the key index holds of a tag of a topic's messages.
func TagHash(topic, tag []byte) uint64 { return ^KeyHash(topic, tag) }

// mixed makes a key that is named like its topic differ from another such. It is odd: nothing is lost.
const mixed = 0x9e3779b97f4a7c15

// pairsPerChunk is how many pairs stand in one piece of memory: none moves when more come.
const pairsPerChunk = 16 << 10

// keyPart is the key index of a stretch of the log that is not in the database yet, in log order.
type keyPart struct {
	chunks      [][]pair // what is there is never changed
	count       int
	first, last int64 // store times
}

func (k *keyPart) add(position, storeTime int64, hashes []uint64) {
	if k.count == 0 {
		k.first = storeTime
	}
	k.last = storeTime
	for _, h := range hashes {
		if k.count%pairsPerChunk == 0 {
			k.chunks = append(k.chunks, make([]pair, 0, pairsPerChunk))
		}
		end := &k.chunks[len(k.chunks)-1]
		*end = append(*end, pair{h, position})
		k.count++
	}
}

// find appends to dst the positions of a hash whose store time may lie in [begin, end], oldest first.
func (k *keyPart) find(dst []int64, hash uint64, begin, end int64) []int64 {
	if k.first > end || k.last < begin {
		return dst
	}
	for _, chunk := range k.chunks {
		for _, p := range chunk {
			if p.hash == hash {
				dst = append(dst, p.position)
			}
		}
	}
	return dst
}

// sorted returns the pairs by hash, those of one hash in log order. Hashes are spread evenly: after one pass over all, what begins with
// the same bits fits into a processor's cache, where it is sorted.
func (k *keyPart) sorted() []pair {
	const shift = 64 - 11
	var at [1<<(64-shift) + 1]int // where the pairs with these first bits go
	for _, chunk := range k.chunks {
		for i := range chunk {
			at[chunk[i].hash>>shift+1]++
		}
	}
	most := 0
	for i := 1; i < len(at); i++ {
		most = max(most, at[i])
		at[i] += at[i-1]
	}
	pairs, room := make([]pair, k.count), make([]pair, most)
	for _, chunk := range k.chunks {
		for _, p := range chunk {
			i := &at[p.hash>>shift]
			pairs[*i] = p
			*i++
		}
	}
	begin := 0
	for _, end := range at[:len(at)-1] {
		sortByDigits(pairs[begin:end], room, shift-8)
		begin = end
	}
	return pairs
}

// insertionMax is how many pairs are sorted by insertion.
const insertionMax = 24

// sortByDigits sorts pairs by the bits of their hashes below shift+8, and leaves equal ones in their order. room is as long as pairs.
func sortByDigits(pairs, room []pair, shift uint) {
	if len(pairs) <= insertionMax {
		insertionSort(pairs)
		return
	}
	if !slices.ContainsFunc(pairs[1:], func(p pair) bool { return p.hash != pairs[0].hash }) {
		return // a tag, or a key that many messages have
	}
	var at [257]int32
	for i := range pairs {
		at[pairs[i].hash>>shift&0xff+1]++
	}
	most := int32(0)
	for i := 1; i < len(at); i++ {
		most = max(most, at[i])
		at[i] += at[i-1]
	}
	for _, p := range pairs {
		i := &at[p.hash>>shift&0xff]
		room[*i] = p
		*i++
	}
	copy(pairs, room)
	if most <= insertionMax {
		insertionSort(pairs) // each moves within its digit
		return
	}
	begin := int32(0)
	for _, end := range at[:256] {
		sortByDigits(pairs[begin:end], room, shift-min(shift, 8))
		begin = end
	}
}

func insertionSort(pairs []pair) {
	for i := 1; i < len(pairs); i++ {
		p, j := pairs[i], i
		for ; j > 0 && p.hash < pairs[j-1].hash; j-- {
			pairs[j] = pairs[j-1]
		}
		pairs[j] = p
	}
}

// recentKeys returns the parts of the key index that are not in the database, oldest first.
func (v *View) recentKeys() (parts []keyPart) {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	if v.frozen != nil {
		parts = append(parts, v.frozen.keys)
	}
	now := v.keys
	now.chunks = slices.Clone(now.chunks)
	return append(parts, now)
}

// FindKey calls fn with the log positions of messages whose key has this hash and whose store time may lie in [begin, end] ms, newest
// run first and newest message first within it, until fn returns false.
func (v *View) FindKey(hash uint64, begin, end int64, fn func(position int64) bool) error {
	var recent []int64
	for _, part := range v.recentKeys() { // not under the lock: millions of pairs take longer than appends may wait
		recent = part.find(recent, hash, begin, end)
	}
	for _, p := range slices.Backward(recent) {
		if !fn(p) {
			return nil
		}
	}
	runs, err := v.runs(begin, end)
	if err != nil || len(runs) == 0 {
		return err
	}
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: []byte("x"), UpperBound: after([]byte("x"))})
	if err != nil {
		return err
	}
	defer it.Close()
	for _, r := range slices.Backward(runs) {
		positions, err := findInRun(it, r, hash)
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
	err = v.FindKey(KeyHash([]byte(topic), []byte(key)), 0, math.MaxInt64, func(p int64) bool { positions = append(positions, p); return true })
	return positions, err
}

// findInRun returns the positions of a hash in one run, oldest first.
func findInRun(it *pebble.Iterator, r run, hash uint64) (found []int64, err error) {
	hash &= pairHashMask
	prefix := r.prefix('k')
	for ok := it.SeekGE(binary.BigEndian.AppendUint64(prefix, hash)); ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		at := func(i int) pair { return decodePair(value[i*pairBytes:], r) }
		n := len(value) / pairBytes
		i := sort.Search(n, func(i int) bool { return at(i).hash >= hash })
		for ; i < n && at(i).hash == hash; i++ {
			found = append(found, at(i).position)
		}
		if i < n {
			break
		}
	}
	return found, it.Error()
}
