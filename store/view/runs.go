package view

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// What a stage adds to the indexes is a run: the keys and queue entries of one stretch of the log, as immutable blocks in a table of its own.
// It overlaps no other table, so that nothing is rewritten or compacted when messages arrive, and retention drops whole runs. Beside the
// runs each queue has a pointer to each run that holds some of it.

// run is a stretch of the log, [from, end).
type run struct{ from, end int64 }

// runBytes is the length of both ends.
const runBytes = 16

func (r run) append(dst []byte) []byte {
	be := binary.BigEndian
	return be.AppendUint64(be.AppendUint64(dst, uint64(r.from)), uint64(r.end))
}

func decodeRun(b []byte) run {
	be := binary.BigEndian
	return run{int64(be.Uint64(b)), int64(be.Uint64(b[8:]))}
}

// prefix of the run's blocks of a kind: 'k' keys, 'q' queues. Both ends are in it: a run that a crash left without its entry is not met
// again. It sorts behind all other keys, and behind all older runs, so that its table is never compacted with another.
func (r run) prefix(kind byte) []byte { return append(r.append([]byte("x")), kind) }

func (f *Frozen) run() run { return run{f.from, f.applied.Position} }

// indexes tells whether there is anything to make a run of.
func (f *Frozen) indexes() bool {
	return f.keys.count > 0 || slices.ContainsFunc(f.queues, func(q frozenQueue) bool { return len(q.entries) > 0 })
}

// writeRun makes a table of the indexes and gives it to the database.
func (v *View) writeRun(f *Frozen) error {
	path := v.fs.PathJoin(v.dir, "run.new")
	file, err := v.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(file), v.options.MakeWriterOptions(0, v.db.TableFormat()))
	if err = f.writeKeys(w); err == nil {
		err = f.writeQueues(w)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	return v.db.Ingest(context.Background(), []string{path})
}

func (f *Frozen) writeKeys(w *sstable.Writer) error {
	be := binary.BigEndian
	prefix := f.run().prefix('k')
	var key, value []byte
	sorted := f.keys.sorted()
	for sequence := 0; sequence*pairsPerBlock < len(sorted); sequence++ {
		block := sorted[sequence*pairsPerBlock : min(len(sorted), (sequence+1)*pairsPerBlock)]
		key = be.AppendUint64(append(key[:0], prefix...), block[len(block)-1].hash&pairHashMask)
		key = be.AppendUint32(key, uint32(sequence))
		value = value[:0]
		for _, p := range block {
			value = p.append(value, f.run())
		}
		if err := w.Set(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (f *Frozen) writeQueues(w *sstable.Writer) error {
	be := binary.BigEndian
	prefix := f.run().prefix('q')
	slices.SortFunc(f.queues, func(a, b frozenQueue) int { return bytes.Compare(a.name, b.name) })
	var key, value []byte
	for _, q := range f.queues {
		key = append(append(key[:0], prefix...), q.name...)
		for at := 0; at < len(q.entries); at += entriesPerBlock {
			value = value[:0]
			for _, e := range q.entries[at:min(len(q.entries), at+entriesPerBlock)] {
				value = appendEntry(value, e)
			}
			if err := w.Set(be.AppendUint64(key[:len(prefix)+len(q.name)], uint64(q.base+int64(at))), value); err != nil {
				return err
			}
		}
	}
	return nil
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

// pointer says that a queue's entries from offset first on are in a run.
type pointer struct {
	first int64
	run   run
}

// pointers calls fn for the queue's pointers, from the one that covers offset on, until fn returns false.
func (q *Queue) pointers(offset int64, fn func(pointer) bool) error {
	be := binary.BigEndian
	prefix := q.key('q')
	it, err := q.view.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer it.Close()
	ok := it.SeekLT(be.AppendUint64(prefix[:len(prefix):len(prefix)], uint64(offset)+1))
	if !ok {
		ok = it.First()
	}
	for ; ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		key := it.Key()
		if len(value) != runBytes {
			return fmt.Errorf("%w: queue %s/%d: a pointer is %x", ErrBroken, q.Topic, q.ID, value)
		}
		if !fn(pointer{int64(be.Uint64(key[len(key)-8:])), decodeRun(value)}) {
			return nil
		}
	}
	return it.Error()
}

// Pointers counts the runs in the database that hold some of a queue.
func (v *View) Pointers(topic string, id int32) (n int) {
	_ = v.scan(queueKey('q', topic, id), func([]byte, []byte) error { n++; return nil })
	return n
}
