package view

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
)

// Frozen is the part of the view in memory as of one log position, ready to be staged. It aliases slices that only ever grow.
type Frozen struct {
	from    int64 // where the part before it ended
	first   int64 // where the log begins
	applied Applied
	queues  []frozenQueue
	dropped [][]byte
	partial bool
	state   stateLayer
	keys    keyPart
}

type frozenQueue struct {
	queue     *Queue
	name      []byte // topic 0 queue 4
	base, min int64
	dead      int64 // runs before the one of this offset have no message in the log any more; 0: none to delete
	entries   []Entry
}

// Applied returns the position that the frozen part reaches to.
func (f *Frozen) Applied() Applied { return f.applied }

// Changed returns how many queues the next Freeze will take.
func (v *View) Changed() int {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	return len(v.changed)
}

// Freeze takes what Apply has gathered since the last Freeze; nil when there is nothing. While the one before is not staged it returns
// that one again.
func (v *View) Freeze() *Frozen {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	if v.frozen != nil {
		return v.frozen
	}
	if v.now.Position == v.end && len(v.changed) == 0 && len(v.state) == 0 && len(v.dropped) == 0 {
		return nil
	}
	f := &Frozen{from: v.end, first: v.first.Load(), applied: v.now, dropped: v.dropped, partial: v.partial, state: v.state}
	v.staging, v.state = v.state, stateLayer{}
	v.dropped = nil
	for _, q := range v.changed {
		q.mu.Lock()
		fq := frozenQueue{queue: q, name: q.key('n')[1:], base: q.base, min: q.min, entries: q.entries[:len(q.entries):len(q.entries)]}
		if q.block > q.cut {
			fq.dead = q.block
		}
		f.queues = append(f.queues, fq)
		q.mu.Unlock()
		q.dirty = false
	}
	v.changed = nil
	f.keys, v.keys = v.keys, keyPart{}
	v.frozen = f
	return f
}

// Stage writes the frozen part to the database in one batch and lets go of its memory. It is on disk after the next Flush. One Stage
// or Flush at a time.
func (v *View) Stage(f *Frozen) error {
	if f.indexes() {
		if err := v.writeRun(f); err != nil {
			return err
		}
	}
	b := v.db.NewBatch()
	defer b.Close()
	if err := f.encode(b); err != nil {
		return err
	}
	if f.first > v.runsFrom {
		if err := v.dropRuns(b, f.first); err != nil {
			return err
		}
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	v.applyMu.Lock()
	v.frozen, v.end = nil, f.applied.Position
	v.applyMu.Unlock()
	v.stateMu.Lock()
	v.staging = nil
	v.stateMu.Unlock()
	for _, fq := range f.queues {
		fq.queue.trim(fq)
	}
	v.unflushed, v.runsFrom = true, f.first
	return nil
}

// StageAll stages and flushes what Apply has gathered.
func (v *View) StageAll() error {
	f := v.Freeze()
	if f == nil {
		return nil
	}
	if err := v.Stage(f); err != nil {
		return err
	}
	return v.Flush()
}

// Flush brings what was staged to disk. After an error Pebble goes on trying, and so does the next Flush: until one succeeds nothing
// more may be staged, or it would pile up in memory.
func (v *View) Flush() (err error) {
	if !v.unflushed {
		return nil
	}
	select {
	case <-v.failed: // of a compaction, or of what has been reported before
	default:
	}
	if v.flushing == nil {
		if v.flushing, err = v.db.AsyncFlush(); err != nil {
			v.flushing = nil
			return err
		}
	}
	select {
	case <-v.flushing:
		v.flushing, v.unflushed = nil, false
		return nil
	case err := <-v.failed:
		return err
	}
}

func (f *Frozen) encode(b *pebble.Batch) error {
	be := binary.BigEndian
	for _, prefix := range f.dropped { // before what was indexed since
		if err := b.DeleteRange(prefix, after(prefix), nil); err != nil {
			return err
		}
	}
	var value []byte
	pointer := f.run().append(nil)
	for _, q := range f.queues {
		if len(q.entries) > 0 {
			if err := b.Set(be.AppendUint64(q.queue.key('q'), uint64(q.base)), pointer, nil); err != nil {
				return err
			}
		}
		if q.dead > 0 {
			prefix := q.queue.key('q')
			if err := b.DeleteRange(prefix, be.AppendUint64(prefix[:len(prefix):len(prefix)], uint64(q.dead)), nil); err != nil {
				return err
			}
		}
		value = be.AppendUint64(value[:0], uint64(q.base+int64(len(q.entries))))
		value = be.AppendUint64(value, uint64(q.min))
		if err := b.Set(q.queue.key('n'), value, nil); err != nil {
			return err
		}
	}
	if err := f.state.encode(b); err != nil {
		return err
	}
	if f.indexes() {
		key, value := f.runEntry()
		if err := b.Set(key, value, nil); err != nil {
			return err
		}
	}
	if f.partial {
		if err := b.Set([]byte("r"), nil, nil); err != nil {
			return err
		}
	} else if err := b.Delete([]byte("r"), nil); err != nil {
		return err
	}
	value = append(value[:0], formatVersion)
	value = be.AppendUint64(value, uint64(f.applied.Position))
	value = be.AppendUint64(value, uint64(f.applied.LastRecord))
	value = be.AppendUint64(value, uint64(f.applied.StoreTime))
	return b.Set([]byte("a"), value, nil)
}

// trim lets go of the entries that are in the database now.
func (q *Queue) trim(f frozenQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cut = max(q.cut, f.dead)
	n := len(f.entries)
	if n == 0 || q.base != f.base {
		return
	}
	q.base += int64(n)
	rest := q.entries[n:]
	if len(rest) == 0 {
		q.entries = nil // an idle queue keeps nothing
		return
	}
	q.entries = append(make([]Entry, 0, len(rest)+len(rest)/4), rest...)
}
