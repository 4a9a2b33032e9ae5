package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/apogeemq/apogee/message"
)

const (
	// scanChunkBytes is read at once; longer records grow the buffer.
	scanChunkBytes = 1 << 20
	// scanAlignment is where reads begin, so that they can be direct.
	scanAlignment = 4096
)

// errEnd says that no valid record begins at the scanner's position.
var errEnd = errors.New("no record")

// scanner reads records in log order, verifying each.
type scanner struct {
	read         func(p []byte, off int64) error
	segmentBytes int64
	limit        int64 // end of the last segment
	foreignEnd   int64 // before it, records with the checksum of the body alone are good
	trust        bool  // sizes and positions are checked, checksums are not
	pos          int64
	buf          []byte // bytes of the log from bufAt on
	bufAt        int64
}

func (l *Log) scanner(pos, limit int64) *scanner {
	return &scanner{read: l.segments.readAt, segmentBytes: l.o.SegmentBytes, limit: limit, foreignEnd: l.o.ForeignEnd, pos: pos}
}

// window returns up to n bytes at the scanner's position, fewer only before limit or the segment's end.
func (s *scanner) window(n int64) ([]byte, error) {
	end := min(s.pos-s.pos%s.segmentBytes+s.segmentBytes, s.limit)
	n = min(n, end-s.pos)
	if s.pos < s.bufAt || s.pos+n > s.bufAt+int64(len(s.buf)) {
		from := s.pos - s.pos%scanAlignment
		size := min((max(s.pos+n-from, scanChunkBytes)+scanAlignment-1)/scanAlignment*scanAlignment, end-from)
		if int64(cap(s.buf)) < size {
			s.buf = make([]byte, size)
		}
		s.buf, s.bufAt = s.buf[:size], from
		if err := s.read(s.buf, from); err != nil {
			s.buf = s.buf[:0]
			return nil, err
		}
	}
	at := s.pos - s.bufAt
	return s.buf[at : at+n : at+n], nil
}

// next returns the record at the position and moves behind it. errEnd: there is none; the position stays.
func (s *scanner) next() (r message.Record, raw []byte, err error) {
	for s.pos < s.limit {
		head, err := s.window(message.MinRecordSize)
		if err != nil {
			return r, nil, err
		}
		if len(head) < 8 {
			return r, nil, fmt.Errorf("%w: %d bytes before the segment's end", errEnd, len(head))
		}
		size, magic := message.Peek(head)
		if left := s.segmentBytes - s.pos%s.segmentBytes; magic == message.MagicBlank && int64(size) == left {
			s.pos += left
			continue
		}
		if size < message.MinRecordSize || int64(size) > s.segmentBytes {
			return r, nil, fmt.Errorf("%w: size %d", errEnd, size)
		}
		if raw, err = s.window(int64(size)); err != nil {
			return r, nil, err
		}
		if s.trust {
			r, err = checkPlace(raw, s.pos)
		} else {
			r, err = check(raw, s.pos, s.foreignEnd)
		}
		if err != nil {
			return r, nil, fmt.Errorf("%w: %w", errEnd, err)
		}
		s.pos += int64(size)
		return r, raw, nil
	}
	return r, nil, errEnd
}

// check accepts exactly one whole, intact record that says it belongs at pos. What we wrote ends in a checksum of the whole record; one
// that lacks it was torn.
func check(raw []byte, pos, foreignEnd int64) (message.Record, error) {
	r, err := checkPlace(raw, pos)
	switch {
	case err != nil:
		return r, err
	case pos < foreignEnd:
		return r, r.Verify(raw)
	}
	return r, verifyWhole(raw)
}

// checkPlace accepts one whole record that says it belongs at pos.
func checkPlace(raw []byte, pos int64) (message.Record, error) {
	r, n, err := message.Decode(raw)
	if err == nil && n != len(raw) {
		err = message.ErrSizes
	}
	if err == nil && r.PhysicalOffset != pos {
		err = fmt.Errorf("record of position %d", r.PhysicalOffset)
	}
	return r, err
}

// verifyWhole checks the property that ends every record of ours: its value in ten decimal digits, the least significant first.
func verifyWhole(raw []byte) error {
	at := len(raw) - message.CRCPropertySize
	sum := crc32.ChecksumIEEE(raw[:at]) & 0x7fffffff
	property := append(make([]byte, 0, message.CRCPropertySize), "__CRC32#\x01"...)
	for range 10 {
		property = append(property, '0'+byte(sum%10))
		sum /= 10
	}
	if !bytes.Equal(append(property, '\x02'), raw[at:]) {
		return fmt.Errorf("%w: of the whole record", message.ErrChecksum)
	}
	return nil
}

// resync moves to the next valid record after the position; false when there is none.
func (s *scanner) resync() (bool, error) {
	mark := []byte{0xDA, 0xA3, 0x20} // both magics begin so
	for s.pos++; s.pos < s.limit; {
		w, err := s.window(scanChunkBytes)
		if err != nil {
			return false, err
		}
		for at := 0; at+message.MinRecordSize <= len(w); at++ {
			i := bytes.Index(w[at+4:], mark)
			if i < 0 {
				break
			}
			at += i
			pos := s.pos + int64(at)
			if at+message.MinRecordSize > len(w) || message.PhysicalOffsetOf(w[at:]) != pos {
				continue
			}
			probe := *s
			probe.pos, probe.buf, probe.trust = pos, nil, false
			if _, _, err := probe.next(); err == nil {
				s.pos = pos
				return true, nil
			} else if !errors.Is(err, errEnd) {
				return false, err
			}
		}
		if len(w) < scanChunkBytes {
			s.pos += int64(len(w)) // a record begins anew with the segment
		} else {
			s.pos += int64(len(w)) - message.MinRecordSize + 1
		}
	}
	return false, nil
}

// Gap is a damaged stretch in the middle of the log: [From, To) holds no valid record although it was flushed.
type Gap struct {
	From, To int64
	Reason   error
}

// ReadRecord returns the intact record at a log position, straight from the files: it may be called while the log is being recovered.
// found is false where no such record is.
func (l *Log) ReadRecord(pos int64) (r message.Record, found bool, err error) {
	first, limit := l.segments.bounds()
	left := min(l.segmentEnd(pos), limit) - pos
	if pos < first || left < message.MinRecordSize {
		return r, false, nil
	}
	raw := make([]byte, min(left, int64(l.o.Files.Alignment()))) // most records fit
	if err := l.segments.readAt(raw, pos); err != nil {
		return r, false, err
	}
	size, _ := message.Peek(raw)
	if size < message.MinRecordSize || int64(size) > left {
		return r, false, nil
	}
	if size > len(raw) {
		raw = append(raw, make([]byte, size-len(raw))...)
		if err := l.segments.readAt(raw, pos); err != nil {
			return r, false, err
		}
	}
	if r, err = check(raw[:size], pos, l.o.ForeignEnd); err != nil {
		return r, false, nil //nolint:nilerr // not a record
	}
	return r, true, nil
}

// Recovery says what opening the log found.
type Recovery struct {
	End  int64 // behind the last record
	Cut  int64 // bytes behind the end that were zeroed: a torn tail, or what a recycled segment held
	Gaps []Gap // damage: reported, never served, nothing behind it is lost
}

// Recover finds the end of the log, replaying the records from position from on, and makes the log ready for Append. flushed is a
// lower bound of what was on stable storage: an invalid record below it is damage, not a torn tail, and so is one that what follows shows
// to have been there (damaged). lastStoreTime is that of the record before from.
func (l *Log) Recover(from, flushed, lastStoreTime int64, replay func(r *message.Record, raw []byte) error) (Recovery, error) {
	first, limit := l.segments.bounds()
	s := l.scanner(max(from, first), limit)
	var found Recovery
	l.storeTime = lastStoreTime
	for {
		r, raw, err := s.next()
		if err == nil {
			l.storeTime = max(l.storeTime, r.StoreTime)
			if err := replay(&r, raw); err != nil {
				return found, err
			}
			continue
		}
		if !errors.Is(err, errEnd) {
			return found, err
		}
		found.End = s.pos
		ok, serr := s.pos < flushed, error(nil)
		if !ok {
			ok, serr = l.damaged(s.pos, limit)
		}
		if ok && serr == nil {
			ok, serr = s.resync()
		}
		if serr != nil {
			return found, serr
		}
		if !ok {
			if found.End < flushed { // the log goes on behind the damage
				found.Gaps = append(found.Gaps, Gap{found.End, flushed, err})
				found.End = min(flushed, limit)
			}
			break
		}
		found.Gaps = append(found.Gaps, Gap{found.End, s.pos, err})
	}
	var err error
	if found.Cut, err = l.cut(found.End); err != nil {
		return found, err
	}
	return found, l.start(found.End)
}

// damaged tells whether a place without a valid record, of which it is not known that it ever was on stable storage, was there: a record
// follows that nobody wrote before it was. That is one in a later segment, since a segment is synced when it is left; or one farther behind than
// what is ever in flight. Nearer ones say nothing: of writes that were not synced a power cut leaves any subset.
func (l *Log) damaged(pos, limit int64) (bool, error) {
	if l.o.Whole {
		return l.scanner(pos, limit).resync()
	}
	for _, from := range []int64{pos + l.o.inFlightMax(), l.segmentEnd(pos) - 1} {
		if from+message.MinRecordSize > limit {
			continue
		}
		// The log has no holes: where it goes on, a record begins within the length of the longest one.
		stop := min(limit, (from+2*batchBytesMax)/scanAlignment*scanAlignment)
		if found, err := l.scanner(from, stop).resync(); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// cut removes what a crash may have left behind the end: later segments go, and all that was ever in flight is zeroed and synced
// before a byte is accepted. It returns how many bytes were not zero.
func (l *Log) cut(end int64) (int64, error) {
	if err := l.segments.cut(end); err != nil {
		return 0, err
	}
	seg, ok := l.segments.find(end)
	if !ok {
		return 0, nil
	}
	stop := min(seg.start+l.o.SegmentBytes, end+l.o.inFlightMax()+2*int64(l.segments.files.Alignment()))
	dirty, chunk := int64(0), make([]byte, min(scanChunkBytes, stop-end))
	for pos := end; pos < stop; pos += int64(len(chunk)) {
		chunk = chunk[:min(int64(len(chunk)), stop-pos)]
		if err := l.segments.readAt(chunk, pos); err != nil {
			return 0, err
		}
		if used := len(bytes.TrimRight(chunk, "\x00")); used > 0 {
			dirty = pos + int64(used) - end
		}
	}
	if dirty == 0 {
		return 0, nil
	}
	if err := seg.file.ZeroRange(end-seg.start, stop-end); err != nil {
		return 0, err
	}
	return dirty, seg.file.Datasync()
}

// start takes end as the place of the next record and loads the block that it lies in. What a killed process had written without a sync
// is synced, or it would count as flushed without being so; earlier segments were synced when they were left.
func (l *Log) start(end int64) error {
	for _, pos := range []int64{end - 1, end} {
		if seg, ok := l.segments.find(pos); ok {
			if err := seg.file.Datasync(); err != nil {
				return err
			}
		}
	}
	step := int64(l.o.BlockBytes)
	if at := end % step; at > 0 {
		b, err := l.blocks.tail(end)
		if err != nil {
			return err
		}
		b.read = true
		if err := l.segments.readAt(b.data[:at], end-at); err != nil {
			return err
		}
	}
	l.next = end
	l.written.Store(end)
	l.flushed.Store(end)
	l.confirmed.Store(end)
	_ = l.SpareStep() // a failure stays: appends are refused with it until the shell's next try, reads go on
	return nil
}
