package store

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// Two bases are kept so that one may break: retention leaves the log from the older one on, and a view that is made anew from that one
// is the same.
func TestTheOlderBaseServesWhenTheNewestIsDamaged(t *testing.T) {
	synctest.Test(t, testOlderBase)
}

func testOlderBase(t *testing.T) {
	fs := vfs.NewMem()
	c := memConfig(fs)
	c.StageInterval, c.Retention.BytesMax = time.Hour, c.SegmentBytes // bases are the test's and retention's
	s, _ := mustOpen(t, c)
	s.Hold(all)
	for round := range 8 { // 2 segments each
		fill(t, s, round*100, 100)
		update(t, s, "test", Mutation{Key: fmt.Sprint(round % 5), Value: fmt.Append(nil, round)})
		if err := s.Stage(); err != nil {
			t.Fatal(err)
		}
		retained(t, s)
	}
	fill(t, s, 800, 100)
	update(t, s, "test", Mutation{Key: "1", Value: []byte("last")}, Mutation{Key: "2"})
	synctest.Wait() // a segment's end has made retention look by itself
	bases, err := s.bases()
	if err != nil || len(bases) != basesKept {
		t.Fatalf("bases %v, %v", bases, err)
	}
	if first, _ := s.log.Bounds(); first == 0 || first > bases[0] {
		t.Fatalf("the log begins at %d, the older base is of %d", first, bases[0])
	}
	keys := []string{"k0", "k850", "k899"}
	want := everything(t, s, []string{"test"}, []string{"T"}, keys)
	mustClose(t, s)
	if after, err := s.bases(); err != nil || !slices.Equal(after, bases) {
		t.Fatalf("bases %v after the stop, %v before, %v", after, bases, err)
	}

	if err := fs.RemoveAll("store/view"); err != nil {
		t.Fatal(err)
	}
	flipIn(t, fs, s.basePath(bases[1]), 60)
	s, rec := mustOpen(t, c)
	if rec.Replayed == 0 {
		t.Error("nothing was replayed")
	}
	if diff := cmp.Diff(want, everything(t, s, []string{"test"}, []string{"T"}, keys)); diff != "" {
		t.Error(diff)
	}
	if from, to := numbers(t, s); from == 0 || to != 900 {
		t.Errorf("messages %d to %d are left", from, to)
	}
	mustClose(t, s)

	if err := fs.RemoveAll("store/view"); err != nil {
		t.Fatal(err)
	}
	flipIn(t, fs, s.basePath(bases[0]), 60)
	if _, _, err := Open(c); err == nil {
		t.Fatal("a store whose bases are all damaged, and whose log does not begin at 0, opens")
	}
}

// flipIn changes one bit of a file.
func flipIn(t *testing.T, fs vfs.FS, path string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}
