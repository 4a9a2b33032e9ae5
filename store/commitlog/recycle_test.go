package commitlog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// staleFiles makes spares that are full of something, as recycled ones are.
type staleFiles struct{ SegmentFS }

func (f staleFiles) Create(path string, size int64) (SegmentFile, error) {
	s, err := f.SegmentFS.Create(path, size)
	if err == nil {
		err = s.WriteAt([][]byte{bytes.Repeat([]byte{0xda}, int(size))}, 0)
	}
	return s, err
}

// renameFS tells of renames before they are made.
type renameFS struct {
	*vfs.MemFS
	onRename func(from, to string)
}

func (f renameFS) Rename(from, to string) error {
	f.onRename(from, to)
	return f.MemFS.Rename(from, to)
}

// RocketMQ reads a segment up to the first size or magic that is none, and does not check positions: what an earlier use has left must
// stand neither at a segment's beginning nor behind its last record.
func TestNothingOfAnEarlierUseFollowsTheLastRecord(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%v", async), func(t *testing.T) {
			mem := vfs.NewMem()
			at := func(path string, off int64, n int) []byte {
				t.Helper()
				f, err := mem.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				b := make([]byte, n)
				if _, err := f.ReadAt(b, off); err != nil {
					t.Fatalf("%s at %d: %v", path, off, err)
				}
				return b
			}
			named := 0
			fs := renameFS{mem, func(from, to string) {
				named++
				align := NewVFSFiles(mem).Alignment()
				if !bytes.Equal(at(from, 0, align), make([]byte, align)) {
					t.Errorf("%s becomes %s, and its first block is not zeroed", from, to)
				}
				if at(from, testSegmentBytes-1, 1)[0] == 0 {
					t.Errorf("%s is not as an earlier use left it: this test proves nothing", from)
				}
			}}
			o := testOptions(fs)
			o.Files, o.AsyncFlush = staleFiles{NewVFSFiles(mem)}, async
			l, _, _ := openLog(t, o, 0)
			var q Sequence
			near := 0 // ends so near to a block's that the zeros lie in the next one
			for i := range 700 {
				appendNow(t, l, record(&q, strings.Repeat("b", i)))
				end := l.Confirmed()
				start := end - end%testSegmentBytes
				if got := at("log/"+segmentName(start), end-start, tailZeroBytes); !bytes.Equal(got, make([]byte, tailZeroBytes)) {
					t.Fatalf("record %d ends at %d, %x follows", i, end, got)
				}
				if end%512 > 512-tailZeroBytes || end%512 == 0 {
					near++
				}
			}
			if named < 3 || near < 3 {
				t.Fatalf("%d segments, %d ends near a block's: too few", named, near)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
