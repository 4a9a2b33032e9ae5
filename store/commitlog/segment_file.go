package commitlog

import "io"

// SegmentFile is one preallocated segment, or a spare that will become one. Methods are called by one goroutine at a time, but for
// ReadAt, which may run beside all of them.
type SegmentFile interface {
	// WriteAt writes the buffers one after the other at off. Offset, addresses and lengths are multiples of Alignment. A short write
	// is an error.
	WriteAt(buffers [][]byte, off int64) error
	// Datasync returns once what was written is on stable storage. After an error the file's state is unknown: it is never retried.
	Datasync() error
	// ZeroRange makes [off, off+n) read as zeros.
	ZeroRange(off, n int64) error
	// Size is the file's length in bytes.
	Size() (int64, error)
	io.ReaderAt
	io.Closer
}

// SegmentFS creates and opens segment files by path.
type SegmentFS interface {
	// Create makes a file of exactly size bytes that read as zeros, its space reserved; an existing one is replaced.
	Create(path string, size int64) (SegmentFile, error)
	// Open opens an existing segment for reading and writing.
	Open(path string) (SegmentFile, error)
	// Alignment is what offsets, lengths and addresses of writes must be multiples of, a power of two.
	Alignment() int
}

// zeroChunkBytes is the most that a portable ZeroRange writes at once.
const zeroChunkBytes = 1 << 20
