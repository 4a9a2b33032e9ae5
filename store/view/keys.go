package view

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The key index is a list of runs, each the sorted pairs of one stretch of the log, as immutable blocks in a table of their own: nothing is
// looked up, rewritten or compacted when a message arrives, and retention drops whole runs.

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
	pairs       []pair       // not in the database yet, in log order
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

// run is a stretch of the log, [from, end).
type run struct{ from, end int64 }

// prefix of the run's blocks. Both ends are in it: a run that a crash left without its entry is not met again. It sorts behind all other
// keys, and behind all older runs, so that its table is never compacted with another.
func (r run) prefix() []byte {
	be := binary.BigEndian
	return be.AppendUint64(be.AppendUint64([]byte("x"), uint64(r.from)), uint64(r.end))
}

// writeRun makes a table of the pairs and gives it to the database.
func (v *View) writeRun(r run, pairs []pair) error {
	path := v.fs.PathJoin(v.dir, "run.new")
	f, err := v.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), v.options.MakeWriterOptions(0, v.db.TableFormat()))
	prefix := r.prefix()
	be := binary.BigEndian
	var key, value []byte
	sorted := sortPairs(pairs)
	for sequence := 0; sequence*pairsPerBlock < len(sorted); sequence++ {
		block := sorted[sequence*pairsPerBlock : min(len(sorted), (sequence+1)*pairsPerBlock)]
		key = be.AppendUint64(append(key[:0], prefix...), block[0].hash)
		key = be.AppendUint32(key, uint32(sequence))
		value = value[:0]
		for _, p := range block {
			value = be.AppendUint64(value, p.hash)
			value = be.AppendUint64(value, uint64(p.position))
		}
		if err := w.Set(key, value); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return v.db.Ingest(context.Background(), []string{path})
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

// runEntry is the database's entry of a run.
func (f *Frozen) runEntry() (key, value []byte) {
	be := binary.BigEndian
	value = be.AppendUint64(nil, uint64(f.applied.Position))
	value = be.AppendUint64(value, uint64(f.keys.first))
	return be.AppendUint64([]byte("K"), uint64(f.from)), be.AppendUint64(value, uint64(f.keys.last))
}

// dropRuns deletes the runs of which the log holds nothing any more.
func (v *View) dropRuns(b *pebble.Batch, first int64) error {
	be := binary.BigEndian
	end := int64(-1)
	err := v.scan([]byte("K"), func(key, value []byte) error {
		if int64(be.Uint64(value)) <= first {
			end = int64(be.Uint64(key))
		}
		return nil
	})
	if err != nil || end < 0 {
		return err
	}
	for _, kind := range []byte("xK") {
		if err := b.DeleteRange([]byte{kind}, be.AppendUint64([]byte{kind}, uint64(end)+1), nil); err != nil {
			return err
		}
	}
	return nil
}

// FindKey calls fn with the log positions of messages whose key has this hash and whose store time may lie in [begin, end] ms, newest
// run first and newest message first within it, until fn returns false.
func (v *View) FindKey(hash uint64, begin, end int64, fn func(position int64) bool) error {
	v.keys.mu.RLock()
	var recent []int64
	if len(v.keys.pairs) > 0 && v.keys.first <= end && v.keys.last >= begin {
		for _, p := range v.keys.pairs {
			if p.hash == hash {
				recent = append(recent, p.position)
			}
		}
	}
	v.keys.mu.RUnlock()
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

// runs lists the runs that hold messages of [begin, end], oldest first.
func (v *View) runs(begin, end int64) ([]run, error) {
	var runs []run
	be := binary.BigEndian
	err := v.scan([]byte("K"), func(key, value []byte) error {
		if int64(be.Uint64(value[8:])) <= end && int64(be.Uint64(value[16:])) >= begin {
			runs = append(runs, run{int64(be.Uint64(key)), int64(be.Uint64(value))})
		}
		return nil
	})
	return runs, err
}

// findInRun returns the positions of a hash in one run, oldest first.
func (v *View) findInRun(r run, hash uint64) ([]int64, error) {
	be := binary.BigEndian
	prefix := r.prefix()
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
