package commitlog

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segmentName is RocketMQ's: the start offset in 20 digits.
func segmentName(start int64) string { return fmt.Sprintf("%020d", start) }

const sparePrefix = "spare-"

// segment is one file of the log: positions [start, start+segmentBytes).
type segment struct {
	start int64
	file  SegmentFile
	inUse sync.RWMutex // held by each read; retiring the segment takes it, and so waits for them
	gone  bool         // guarded by inUse
}

func (s *segment) readAt(p []byte, off int64) error {
	s.inUse.RLock()
	defer s.inUse.RUnlock()
	if s.gone {
		return fmt.Errorf("log position %d: %w", s.start+off, ErrGone)
	}
	if _, err := s.file.ReadAt(p, off); err != nil {
		return fmt.Errorf("cannot read segment %s at %d: %w", segmentName(s.start), off, err)
	}
	return nil
}

// close waits for the reads and lets none begin.
func (s *segment) close() error {
	s.inUse.Lock()
	defer s.inUse.Unlock()
	s.gone = true
	return s.file.Close()
}

// segments are the log's files in order. commitlog/ never holds anything but whole segments; a spare is made in spare/ and renamed.
type segments struct {
	fs           vfs.FS
	files        SegmentFS
	dir, spare   string
	segmentBytes int64

	mu    sync.RWMutex // guards what follows
	list  []*segment   // contiguous
	free  []string     // paths of spares, ready to take a segment's name
	named int          // of the newest spare
}

// openSegments opens what is there. An empty directory is an empty log that starts at 0.
func openSegments(fs vfs.FS, files SegmentFS, dir, spare string, segmentBytes int64) (*segments, error) {
	s := &segments{fs: fs, files: files, dir: dir, spare: spare, segmentBytes: segmentBytes}
	for _, d := range []string{dir, spare} {
		if err := fs.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
		if err := syncDir(fs, d); err != nil { // a rename that a killed process did not get to sync
			return nil, err
		}
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		start, err := strconv.ParseInt(name, 10, 64)
		if err != nil || len(name) != 20 {
			return nil, fmt.Errorf("%s: not a segment's name; move it away", fs.PathJoin(dir, name))
		}
		if err := s.open(start); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, s.openSpares()
}

func (s *segments) open(start int64) error {
	path := s.fs.PathJoin(s.dir, segmentName(start))
	if n := len(s.list); n > 0 && s.list[n-1].start+s.segmentBytes != start {
		return fmt.Errorf("%s: the log has a gap: the segment before it ends at %d", path, s.list[n-1].start+s.segmentBytes)
	}
	f, err := s.files.Open(path)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size != s.segmentBytes {
		err = fmt.Errorf("%s is %d bytes long, a segment has %d; set mappedFileSizeCommitLog to the length of the files that are there", path, size, s.segmentBytes)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	s.list = append(s.list, &segment{start: start, file: f})
	return nil
}

// openSpares collects the spares that an earlier run left; one of the wrong length was cut short by a crash and is removed.
func (s *segments) openSpares() error {
	names, err := s.fs.List(s.spare)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := s.fs.PathJoin(s.spare, name)
		st, err := s.fs.Stat(path)
		if err != nil {
			return err
		}
		if st.Size() != s.segmentBytes {
			if err := s.fs.Remove(path); err != nil {
				return err
			}
			continue
		}
		s.free = append(s.free, path)
		if n, err := strconv.Atoi(strings.TrimPrefix(name, sparePrefix)); err == nil {
			s.named = max(s.named, n)
		}
	}
	return nil
}

// makeSpare reserves the space of one more segment.
func (s *segments) makeSpare() error {
	path := s.sparePath()
	f, err := s.files.Create(path, s.segmentBytes)
	if err != nil {
		return fmt.Errorf("allocate %d bytes for %s: %w", s.segmentBytes, path, err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	s.mu.Lock()
	s.free = append(s.free, path)
	s.mu.Unlock()
	return nil
}

// sparePath returns a path that no spare has or had: one may be on its way into the log.
func (s *segments) sparePath() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named++
	return s.fs.PathJoin(s.spare, sparePrefix+strconv.Itoa(s.named))
}

// retire takes away the segments that end at or before keep, the oldest first, so that a crash leaves no hole; the last one stays. As
// many as spares allows become spares: writing over a file is faster than into new extents. The rest is unlinked.
func (s *segments) retire(keep int64, spares int) (bytes int64, err error) {
	for {
		s.mu.Lock()
		if len(s.list) < 2 || s.list[0].start+s.segmentBytes > keep {
			s.mu.Unlock()
			return bytes, nil
		}
		oldest := s.list[0]
		s.list = s.list[1:]
		s.mu.Unlock()
		if err := oldest.close(); err != nil {
			return bytes, err
		}
		path := s.fs.PathJoin(s.dir, segmentName(oldest.start))
		if s.spares() >= spares {
			if err := s.fs.Remove(path); err != nil {
				return bytes, err
			}
			if err := syncDir(s.fs, s.dir); err != nil {
				return bytes, err
			}
			bytes += s.segmentBytes
			continue
		}
		spare := s.sparePath()
		if err := s.fs.Rename(path, spare); err != nil {
			return bytes, err
		}
		for _, dir := range []string{s.dir, s.spare} {
			if err := syncDir(s.fs, dir); err != nil {
				return bytes, err
			}
		}
		s.mu.Lock()
		s.free = append([]string{spare}, s.free...) // before those whose extents were never written
		s.mu.Unlock()
	}
}

// dropSpares unlinks all spares but the first keep.
func (s *segments) dropSpares(keep int) (bytes int64, err error) {
	for {
		s.mu.Lock()
		n := len(s.free)
		if n <= keep {
			s.mu.Unlock()
			return bytes, nil
		}
		last := s.free[n-1]
		s.free = s.free[:n-1]
		s.mu.Unlock()
		if err := s.fs.Remove(last); err != nil {
			return bytes, err
		}
		bytes += s.segmentBytes
	}
}

func (s *segments) spares() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.free)
}

// extend gives a spare the next segment's name, durably. Its first block is zeroed before, since RocketMQ does not check positions. Only the
// writer calls it; readers go on meanwhile.
func (s *segments) extend(start int64) (*segment, error) {
	s.mu.Lock()
	if n := len(s.list); n > 0 && s.list[n-1].start+s.segmentBytes != start {
		s.mu.Unlock()
		return nil, fmt.Errorf("segment %s does not follow %s", segmentName(start), segmentName(s.list[n-1].start))
	}
	if len(s.free) == 0 {
		s.mu.Unlock()
		return nil, fmt.Errorf("no spare segment for %s", segmentName(start))
	}
	from := s.free[0]
	s.free = s.free[1:]
	s.mu.Unlock()

	f, err := s.files.Open(from)
	if err != nil {
		return nil, err
	}
	if err = f.ZeroRange(0, int64(s.files.Alignment())); err == nil {
		err = f.Datasync()
	}
	_ = f.Close()
	if err != nil {
		return nil, err
	}
	to := s.fs.PathJoin(s.dir, segmentName(start))
	if err := s.fs.Rename(from, to); err != nil {
		return nil, err
	}
	for _, dir := range []string{s.dir, s.spare} {
		if err := syncDir(s.fs, dir); err != nil {
			return nil, err
		}
	}
	if f, err = s.files.Open(to); err != nil {
		return nil, err
	}
	seg := &segment{start: start, file: f}
	s.mu.Lock()
	s.list = append(s.list, seg)
	s.mu.Unlock()
	return seg, nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// find returns the segment that holds pos.
func (s *segments) find(pos int64) (*segment, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.list) == 0 || pos < s.list[0].start {
		return nil, false
	}
	i := (pos - s.list[0].start) / s.segmentBytes
	if i >= int64(len(s.list)) {
		return nil, false
	}
	return s.list[i], true
}

// bounds returns the first position and the end of the last segment.
func (s *segments) bounds() (first, end int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.list) == 0 {
		return 0, 0
	}
	return s.list[0].start, s.list[len(s.list)-1].start + s.segmentBytes
}

// readAt fills p from position off of the log; it may cross segments. Beyond the last segment it fails with io.EOF, before the first one
// with ErrGone.
func (s *segments) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		seg, ok := s.find(off)
		if !ok {
			if first, _ := s.bounds(); off < first {
				return fmt.Errorf("log position %d, the log begins at %d: %w", off, first, ErrGone)
			}
			return fmt.Errorf("log position %d: %w", off, io.EOF)
		}
		n := min(int64(len(p)), seg.start+s.segmentBytes-off)
		if err := seg.readAt(p[:n], off-seg.start); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// cut removes the segments after the one that holds end.
func (s *segments) cut(end int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(s.list); n > 0 && s.list[n-1].start >= end && s.list[n-1].start > s.list[0].start; n-- {
		last := s.list[n-1]
		_ = last.close()
		if err := s.fs.Remove(s.fs.PathJoin(s.dir, segmentName(last.start))); err != nil {
			return err
		}
		if err := syncDir(s.fs, s.dir); err != nil { // the last one first, or a crash could leave a hole
			return err
		}
		s.list = s.list[:n-1]
	}
	return nil
}

func (s *segments) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.list {
		_ = seg.close()
	}
	s.list = nil
}
