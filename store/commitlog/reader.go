package commitlog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/apogeemq/apogee/message"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Reader reads a log's files and changes nothing: beside a node that runs on them, of a directory that RocketMQ wrote, or of one that no
// node can open. A segment that is missing or cut short reads as zeros.
type Reader struct {
	segmentBytes int64
	foreignEnd   int64
	files        []LogFile
	open         []vfs.File
}

// LogFile is one segment's file.
type LogFile struct {
	Start int64  `json:"start"` // its first log position
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// OpenReader opens what is in dir. Before foreignEnd records need not have a checksum of the whole record (RocketMQ's).
func OpenReader(fs vfs.FS, dir string, foreignEnd int64) (*Reader, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	r := &Reader{foreignEnd: foreignEnd}
	for _, name := range names {
		start, ok := SegmentStart(name)
		if !ok {
			continue
		}
		path := fs.PathJoin(dir, name)
		f, err := fs.Open(path)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.open = append(r.open, f)
		st, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.files = append(r.files, LogFile{start, path, st.Size()})
	}
	if len(r.files) == 0 {
		return nil, fmt.Errorf("%s: no segments: their names are log positions in 20 digits", dir)
	}
	r.segmentBytes = r.measure()
	return r, nil
}

// SegmentStart returns the log position that a segment's name says; false for another file's name.
func SegmentStart(name string) (int64, bool) {
	start, err := strconv.ParseInt(name, 10, 64)
	return start, err == nil && len(name) == 20
}

// measure finds the length of a segment: the least distance of two, or the length of the only one.
func (r *Reader) measure() int64 {
	least := int64(math.MaxInt64)
	for i := 1; i < len(r.files); i++ {
		least = min(least, r.files[i].Start-r.files[i-1].Start)
	}
	if least == math.MaxInt64 {
		return max(r.files[0].Bytes, 1)
	}
	return least
}

// Close closes the files.
func (r *Reader) Close() (err error) {
	for _, f := range r.open {
		err = errors.Join(err, f.Close())
	}
	return err
}

// SegmentBytes is the length of a whole segment.
func (r *Reader) SegmentBytes() int64 { return r.segmentBytes }

// Files are the segments there are, in order.
func (r *Reader) Files() []LogFile { return r.files }

// Bounds returns the first position, and the end of the last segment.
func (r *Reader) Bounds() (first, end int64) {
	return r.files[0].Start, r.files[len(r.files)-1].Start + r.segmentBytes
}

func (r *Reader) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		n := min(int64(len(p)), r.segmentBytes-off%r.segmentBytes)
		read := 0
		i, found := slices.BinarySearchFunc(r.files, off-off%r.segmentBytes, func(f LogFile, start int64) int { return int(min(max(f.Start-start, -1), 1)) })
		if found {
			var err error
			if read, err = r.open[i].ReadAt(p[:n], off-r.files[i].Start); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("cannot read %s at %d: %w", r.files[i].Path, off-r.files[i].Start, err)
			}
		}
		clear(p[read:n])
		p, off = p[n:], off+n
	}
	return nil
}

// Visitor is told what Walk finds, in log order.
type Visitor struct {
	Trust    bool // sizes and positions of records are checked, checksums are not
	Record   func(r *message.Record, raw []byte) error
	Gap      func(g Gap) error // nothing valid, and a valid record behind it
	Progress func(position int64) error
}

// ErrEnough ends a Walk from within, without an error.
var ErrEnough = errors.New("enough")

// Walk reads records from the first valid one at or behind from on, up to the end of the log: it returns where that is, and why nothing
// valid is there. The record and its bytes are the visitor's for the call.
func (r *Reader) Walk(from int64, v Visitor) (end int64, reason, err error) {
	first, limit := r.Bounds()
	s := &scanner{segmentBytes: r.segmentBytes, limit: limit, foreignEnd: r.foreignEnd, trust: v.Trust, pos: max(from, first)}
	s.read = func(p []byte, off int64) error {
		if v.Progress != nil {
			if err := v.Progress(off); err != nil {
				return err
			}
		}
		return r.readAt(p, off)
	}
	begun := from <= first
	for {
		record, raw, err := s.next()
		if err == nil {
			begun = true
			if v.Record != nil {
				err = v.Record(&record, raw)
			}
			if errors.Is(err, ErrEnough) {
				return s.pos, nil, nil
			}
			if err != nil {
				return s.pos, nil, err
			}
			continue
		}
		if !errors.Is(err, errEnd) {
			return s.pos, nil, err
		}
		gap := Gap{From: s.pos, Reason: err}
		found, serr := s.resync()
		if serr != nil {
			return gap.From, nil, serr
		}
		if !found {
			return gap.From, gap.Reason, nil
		}
		if gap.To = s.pos; begun && v.Gap != nil {
			if err := v.Gap(gap); err != nil {
				return s.pos, nil, err
			}
		}
		begun = true
	}
}

// Record returns a copy of the intact record at a position, and why there is none.
func (r *Reader) Record(position int64) (record message.Record, raw []byte, err error) {
	first, limit := r.Bounds()
	if position < first || position >= limit {
		return record, nil, fmt.Errorf("log position %d: the log has %d to %d", position, first, limit)
	}
	s := &scanner{read: r.readAt, segmentBytes: r.segmentBytes, limit: limit, foreignEnd: r.foreignEnd, pos: position}
	if record, raw, err = s.next(); err == nil && record.PhysicalOffset != position {
		err = fmt.Errorf("%w: the segment ends before it", errEnd)
	}
	if err != nil {
		return record, nil, fmt.Errorf("log position %d: %w", position, err)
	}
	return record, raw, nil
}
