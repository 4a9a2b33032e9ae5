package commitlog

import "github.com/apogeemq/apogee/message"

// Step takes the batches that are encoded, writes them with one write per segment and, unless flush is asynchronous, syncs them.
// It returns them in log order for Confirm, nil when there was nothing to do. Batches that can never be confirmed are told so here.
func (l *Log) Step() []*Batch {
	l.mu.Lock()
	n := 0
	for n < len(l.pending) && l.pending[n].encoded.Load() {
		n++
	}
	if l.stopped != nil {
		failed := l.pending[:n]
		l.pending = l.pending[n:]
		err := l.stopped
		l.mu.Unlock()
		l.abort(failed, err)
		return nil
	}
	if n == 0 {
		l.mu.Unlock()
		return nil
	}
	taken := append([]*Batch(nil), l.pending[:n]...)
	k := copy(l.pending, l.pending[n:])
	clear(l.pending[k:])
	l.pending = l.pending[:k]
	to := taken[n-1].end
	rolls := 0
	for rolls < len(l.rolls) && l.rolls[rolls].segmentEnd < to {
		rolls++
	}
	passed := append([]roll(nil), l.rolls[:rolls]...)
	l.rolls = l.rolls[:copy(l.rolls, l.rolls[rolls:])]
	l.mu.Unlock()

	if err := l.write(passed, to); err != nil {
		l.fail(err)
		l.abort(taken, l.Err())
		return nil
	}
	return taken
}

func (l *Log) abort(batches []*Batch, err error) {
	for _, b := range batches {
		l.release(b.size)
		b.Done(b, err)
		l.settled(1)
	}
}

// write brings [written, to) to the files, segment by segment.
func (l *Log) write(rolls []roll, to int64) error {
	from := l.written.Load()
	previous := from
	if l.o.AsyncFlush && to-l.flushed.Load() > l.o.UnsyncedBytesMax { // what a power cut can leave behind is bounded
		if err := l.SyncStep(); err != nil {
			return err
		}
	}
	for _, r := range rolls {
		if err := l.writeRange(from, min(r.at+message.BlankHeaderSize, r.segmentEnd), true); err != nil {
			return err
		}
		from = r.segmentEnd
		l.written.Store(from)
	}
	if from < to {
		if err := l.writeRange(from, to, false); err != nil {
			return err
		}
	}
	l.written.Store(to)
	if !l.o.AsyncFlush {
		l.advanceFlushed(to)
	}
	l.blocks.settle(previous, to)
	return nil
}

// writeRange writes [from, to) of one segment: whole alignment blocks straight from the tail's memory, the last one from an image
// that ends in zeros. A segment that is left behind is synced in any mode, so that later syncs concern one file.
func (l *Log) writeRange(from, to int64, last bool) error {
	seg, ok := l.segments.find(from)
	if !ok {
		var err error
		if seg, err = l.segments.extend(from - from%l.o.SegmentBytes); err != nil {
			return err
		}
		l.signal(l.wantSpare)
	}
	align := int64(l.segments.files.Alignment())
	start, whole := from-from%align, to-to%align
	l.iov = l.iov[:0]
	step := int64(l.o.BlockBytes)
	for pos := start; pos < whole; {
		n := min(whole, pos-pos%step+step) - pos
		l.iov = append(l.iov, l.tailBytes(pos, n))
		pos += n
	}
	image := l.tailImage(whole, to, seg.start+l.o.SegmentBytes)
	if len(image) > 0 {
		l.iov = append(l.iov, image)
	}
	if zeros := l.ahead(start, whole+int64(len(image))); len(zeros) > 0 {
		l.iov = append(l.iov, zeros)
	}
	if err := seg.file.WriteAt(l.iov, start-seg.start); err != nil {
		return err
	}
	if last || !l.o.AsyncFlush {
		return l.sync(seg)
	}
	return nil
}

// sync brings a segment to stable storage. A failure stops the log, and no segment is synced again.
func (l *Log) sync(seg *segment) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	err := l.stopped
	l.mu.Unlock()
	if err != nil {
		return err
	}
	began := l.o.Now()
	if err = seg.file.Datasync(); err != nil {
		l.fail(err)
		return err
	}
	if l.o.Synced != nil {
		l.o.Synced(l.o.Now().Sub(began))
	}
	return nil
}

// tailBytes returns n bytes at pos, within one block, of the tail's memory.
func (l *Log) tailBytes(pos, n int64) []byte {
	b, err := l.blocks.tail(pos)
	if err != nil {
		panic("the tail's block is in memory: " + err.Error())
	}
	at := pos % int64(l.o.BlockBytes)
	return b.data[at : at+n]
}

// tailImage returns the blocks that follow whole: the log's last bytes up to to, then zeros, at least tailZeroBytes of them unless
// the segment ends there.
func (l *Log) tailImage(whole, to, segmentEnd int64) []byte {
	align := int64(l.segments.files.Alignment())
	end := min(segmentEnd, (to+tailZeroBytes+align-1)/align*align)
	if end <= whole {
		return nil
	}
	image := l.tail[:end-whole]
	n := 0
	if to > whole {
		n = copy(image, l.tailBytes(whole, to-whole))
	}
	clear(image[n:])
	return image
}

// ahead returns zeros to be written behind [start, end). A file system notes which blocks of a preallocated file were ever written, and a sync
// of such a block waits for that note too, which takes longer than the block: with few records at a time the notes are made for
// many of them at once. With many it would be every byte twice (docs/decisions/006).
func (l *Log) ahead(start, end int64) []byte {
	segmentEnd := l.segmentEnd(start)
	if l.o.AsyncFlush || end-start > aheadWriteMax || end <= l.zeroed || end == segmentEnd {
		return nil
	}
	l.zeroed = min(segmentEnd, end+aheadBytes)
	return l.zeros[:l.zeroed-end]
}

// SyncStep brings what is written to stable storage; with asynchronous flush the shell calls it on a timer.
func (l *Log) SyncStep() error {
	written := l.written.Load()
	if l.flushed.Load() >= written {
		return nil
	}
	seg, ok := l.segments.find(written)
	if !ok {
		seg, ok = l.segments.find(written - 1)
	}
	if !ok {
		return nil
	}
	if err := l.sync(seg); err != nil {
		return err
	}
	l.advanceFlushed(written)
	return nil
}

// advanceFlushed moves the flushed position, never back: a timer's sync may end after a later one's.
func (l *Log) advanceFlushed(to int64) {
	for {
		at := l.flushed.Load()
		if at >= to || l.flushed.CompareAndSwap(at, to) {
			return
		}
	}
}

// Confirm makes the batches visible: the confirmed position moves, then apply takes them in log order, then the batches' Done. A reader
// that finds a message through what apply made finds its bytes confirmed.
func (l *Log) Confirm(batches []*Batch, apply func(batches []*Batch)) {
	l.confirmed.Store(batches[len(batches)-1].end)
	apply(batches)
	size := int64(0)
	for _, b := range batches {
		size += b.size
	}
	l.release(size)
	for _, b := range batches {
		b.Done(b, nil)
	}
	l.settled(len(batches))
}

func (l *Log) release(size int64) {
	l.mu.Lock()
	l.inFlight -= size
	l.space.Broadcast()
	l.mu.Unlock()
}

// settled counts batches whose Done has returned.
func (l *Log) settled(n int) {
	l.mu.Lock()
	l.open -= n
	l.done += int64(n)
	l.space.Broadcast()
	l.mu.Unlock()
}
