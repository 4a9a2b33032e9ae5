package commitlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// diskAlignment suits every device that Linux knows today (logical blocks of 512 or 4096 bytes).
const diskAlignment = 4096

// directReadMin keeps small reads, which come in neighbourhoods, in the page cache.
const directReadMin = 128 << 10

// iovecsMax is the kernel's UIO_MAXIOV.
const iovecsMax = 1024

// diskFS keeps segments on a real file system. Writes are direct where the file system allows it (the page cache would hold every
// byte a second time), buffered elsewhere. One writer at a time writes either way: a direct write brings the page cache's blocks of its range to
// the disk first, and a sync covers both.
type diskFS struct {
	direct     bool
	asyncFlush bool
}

// cachedWriteMax is up to how many bytes a write goes through the page cache where nobody waits for its sync: it is done as soon as the bytes
// are copied, and the disk is spared those that follow in the same block. Larger ones cost more there than directly (docs/decisions/011).
const cachedWriteMax = 64 << 10

// NewDiskFS returns the segment files of a directory on disk. Writes are direct (O_DIRECT) where dir's file system allows it; under
// asynchronous flush small ones are not.
func NewDiskFS(dir string, asyncFlush bool) (SegmentFS, error) {
	probe := filepath.Join(dir, ".direct-io-probe")
	fd, err := unix.Open(probe, unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
	if err == nil {
		_ = unix.Close(fd)
	}
	if rmErr := os.Remove(probe); rmErr != nil && !os.IsNotExist(rmErr) {
		return nil, rmErr
	}
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, &os.PathError{Op: "open", Path: probe, Err: err}
	}
	return diskFS{direct: err == nil, asyncFlush: asyncFlush}, nil
}

func (d diskFS) Alignment() int { return diskAlignment }

func (d diskFS) flags() int {
	if d.direct {
		return unix.O_RDWR | unix.O_CLOEXEC | unix.O_DIRECT
	}
	return unix.O_RDWR | unix.O_CLOEXEC
}

func (d diskFS) Create(path string, size int64) (SegmentFile, error) {
	f, err := d.open(path, unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return nil, err
	}
	if err = unix.Fallocate(f.fd, 0, 0, size); errors.Is(err, unix.EOPNOTSUPP) {
		err = unix.Ftruncate(f.fd, size)
	}
	if err == nil {
		err = unix.Fsync(f.fd)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return f, nil
}

func (d diskFS) Open(path string) (SegmentFile, error) { return d.open(path, 0) }

func (d diskFS) open(path string, extra int) (*diskFile, error) {
	fd, err := unix.Open(path, d.flags()|extra, 0o644)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := &diskFile{fd: fd, cached: fd, path: path}
	if d.asyncFlush {
		f.cachedWriteMax = cachedWriteMax
	}
	if d.direct { // reads of any offset and length go through a second, buffered descriptor
		if f.cached, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			_ = unix.Close(fd)
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
	return f, nil
}

type diskFile struct {
	fd, cached     int
	path           string
	cachedWriteMax int
}

func (f *diskFile) failed(op string, err error) error {
	return &os.PathError{Op: op, Path: f.path, Err: err}
}

func (f *diskFile) WriteAt(buffers [][]byte, off int64) error {
	fd, size := f.fd, 0
	for _, b := range buffers {
		size += len(b)
	}
	if size <= f.cachedWriteMax {
		fd = f.cached
	}
	for len(buffers) > 0 {
		n := min(len(buffers), iovecsMax)
		want := 0
		for _, b := range buffers[:n] {
			want += len(b)
		}
		got, err := unix.Pwritev(fd, buffers[:n], off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && got != want {
			err = fmt.Errorf("%w: %d of %d bytes", io.ErrShortWrite, got, want)
		}
		if err != nil {
			return f.failed("write", err)
		}
		off += int64(want)
		buffers = buffers[n:]
	}
	return nil
}

func (f *diskFile) Datasync() error {
	for {
		err := unix.Fdatasync(f.fd)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return f.failed("fdatasync", err)
		}
	}
}

func (f *diskFile) ZeroRange(off, n int64) error {
	err := unix.Fallocate(f.fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err == nil || !errors.Is(err, unix.EOPNOTSUPP) {
		if err != nil {
			err = f.failed("zero", err)
		}
		return err
	}
	w, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	zeros := make([]byte, min(n, zeroChunkBytes))
	for n > 0 {
		k, err := w.WriteAt(zeros[:min(n, zeroChunkBytes)], off)
		if err != nil {
			return err
		}
		off, n = off+int64(k), n-int64(k)
	}
	return w.Sync()
}

func aligned(n int64) bool { return n%diskAlignment == 0 }

func (f *diskFile) Size() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, f.failed("stat", err)
	}
	return st.Size, nil
}

// ReadAt reads whole blocks of the log directly where it can: through the page cache each byte would be copied and kept a second time.
func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	fd := f.cached
	if len(p) >= directReadMin && aligned(int64(len(p))|off|int64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))) {
		fd = f.fd
	}
	done := 0
	for done < len(p) {
		n, err := unix.Pread(fd, p[done:], off+int64(done))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, f.failed("read", err)
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

func (f *diskFile) Close() error {
	if f.cached != f.fd {
		_ = unix.Close(f.cached)
	}
	return unix.Close(f.fd)
}
