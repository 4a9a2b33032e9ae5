package commitlog

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segmentName is RocketMQ's: the start offset in 20 digits.
func segmentName(start int64) string { return fmt.Sprintf("%020d", start) }

// segment is one file of the log: positions [start, start+segmentBytes).
type segment struct {
	start int64
	file  SegmentFile
}

// segments are the log's files in order. commitlog/ never holds anything but whole segments; a spare is made in spare/ and renamed.
type segments struct {
	fs           vfs.FS
	files        SegmentFS
	dir, spare   string
	segmentBytes int64

	mu   sync.RWMutex // guards list and free
	list []segment    // contiguous
	free []string     // paths of spares, ready to take a segment's name
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
		err = fmt.Errorf("%s: %d bytes long, a segment has segmentBytes=%d", path, size, s.segmentBytes)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	s.list = append(s.list, segment{start, f})
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
	}
	return nil
}

// makeSpare reserves the space of one more segment.
func (s *segments) makeSpare() error {
	s.mu.RLock()
	path := ""
	for n := 0; ; n++ {
		path = s.fs.PathJoin(s.spare, fmt.Sprintf("spare-%d", n))
		if !slices.Contains(s.free, path) {
			break
		}
	}
	s.mu.RUnlock()
	f, err := s.files.Create(path, s.segmentBytes)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	s.mu.Lock()
	s.free = append(s.free, path)
	s.mu.Unlock()
	return nil
}

func (s *segments) spares() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.free)
}

// extend gives a spare the next segment's name, durably. Its first block is zeroed before, since RocketMQ does not check positions.
func (s *segments) extend(start int64) (segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.list); n > 0 && s.list[n-1].start+s.segmentBytes != start {
		return segment{}, fmt.Errorf("segment %s does not follow %s", segmentName(start), segmentName(s.list[n-1].start))
	}
	if len(s.free) == 0 {
		return segment{}, fmt.Errorf("no spare segment for %s", segmentName(start))
	}
	from := s.free[0]
	f, err := s.files.Open(from)
	if err != nil {
		return segment{}, err
	}
	if err = f.ZeroRange(0, int64(s.files.Alignment())); err == nil {
		err = f.Datasync()
	}
	_ = f.Close()
	if err != nil {
		return segment{}, err
	}
	to := s.fs.PathJoin(s.dir, segmentName(start))
	if err := s.fs.Rename(from, to); err != nil {
		return segment{}, err
	}
	for _, dir := range []string{s.dir, s.spare} {
		if err := syncDir(s.fs, dir); err != nil {
			return segment{}, err
		}
	}
	s.free = s.free[1:]
	if f, err = s.files.Open(to); err != nil {
		return segment{}, err
	}
	seg := segment{start, f}
	s.list = append(s.list, seg)
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
func (s *segments) find(pos int64) (segment, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.list) == 0 || pos < s.list[0].start {
		return segment{}, false
	}
	i := (pos - s.list[0].start) / s.segmentBytes
	if i >= int64(len(s.list)) {
		return segment{}, false
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

// readAt fills p from position off of the log; it may cross segments. Beyond the last segment it fails with io.EOF.
func (s *segments) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		seg, ok := s.find(off)
		if !ok {
			return fmt.Errorf("log position %d: %w", off, io.EOF)
		}
		n := min(int64(len(p)), seg.start+s.segmentBytes-off)
		if _, err := seg.file.ReadAt(p[:n], off-seg.start); err != nil {
			return fmt.Errorf("cannot read segment %s at %d: %w", segmentName(seg.start), off-seg.start, err)
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
		_ = last.file.Close()
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
		_ = seg.file.Close()
	}
	s.list = nil
}
