//go:build !linux

package commitlog

import (
	"os"
)

// diskFS is the portable form: buffered writes, and fsync where Linux has fdatasync.
type diskFS struct{}

// NewDiskFS returns the segment files of a directory on disk; direct writes are Linux's.
func NewDiskFS(string, bool) (SegmentFS, error) { return diskFS{}, nil }

func (diskFS) Alignment() int { return 4096 }

func (diskFS) Create(path string, size int64) (SegmentFile, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(size); err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return diskFile{f}, nil
}

func (diskFS) Open(path string) (SegmentFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

type diskFile struct{ *os.File }

func (f diskFile) WriteAt(buffers [][]byte, off int64) error {
	for _, b := range buffers {
		if _, err := f.File.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (f diskFile) Datasync() error { return f.Sync() }

func (f diskFile) ZeroRange(off, n int64) error {
	zeros := make([]byte, min(n, zeroChunkBytes))
	for n > 0 {
		k, err := f.File.WriteAt(zeros[:min(n, zeroChunkBytes)], off)
		if err != nil {
			return err
		}
		off, n = off+int64(k), n-int64(k)
	}
	return f.Sync()
}

func (f diskFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
