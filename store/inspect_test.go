package store

import (
	"math"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// walk reads a directory's log and returns how many records it has, its damage and its end.
func walk(t *testing.T, fs vfs.FS, dir string, trust bool) (records int, gaps [][2]int64, end int64) {
	t.Helper()
	d, err := Examine(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	log, err := d.Log()
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	end, _, err = log.Walk(0, commitlog.Visitor{
		Trust:  trust,
		Record: func(*message.Record, []byte) error { records++; return nil },
		Gap:    func(g commitlog.Gap) error { gaps = append(gaps, [2]int64{g.From, g.To}); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, gaps, end
}

func TestRocketMQsDirectoryIsExamined(t *testing.T) {
	fs := foreignDirectory(t)
	for _, dir := range []string{"store", "store/commitlog"} {
		d, err := Examine(fs, dir)
		if err != nil {
			t.Fatal(err)
		}
		if d.Root != "store" || d.Checkpoint != -1 || d.ForeignEnd != math.MaxInt64 || d.HasForeignEnd() || d.InUse {
			t.Errorf("%s: %+v", dir, d)
		}
		if _, err := d.View(); err == nil || !strings.Contains(err.Error(), "only Apogee makes") {
			t.Errorf("%s: the view: %v", dir, err)
		}
		if bases, err := d.Bases(); len(bases) != 0 || err != nil {
			t.Errorf("%s: bases %v, %v", dir, bases, err)
		}
	}
	if records, gaps, _ := walk(t, fs, "store", false); records != 36 || len(gaps) != 0 {
		t.Errorf("%d records, damage %v; want 36, none", records, gaps)
	}
}

// A flipped bit in a body is damage of exactly its record, which only a checksum shows.
func TestDamageIsFoundWhereItIs(t *testing.T) {
	fs := foreignDirectory(t)
	d, err := Examine(fs, "store")
	if err != nil {
		t.Fatal(err)
	}
	log, err := d.Log()
	if err != nil {
		t.Fatal(err)
	}
	var third, fourth int64
	n := 0
	_, _, err = log.Walk(0, commitlog.Visitor{Record: func(r *message.Record, raw []byte) error {
		if n++; n == 3 {
			third, fourth = r.PhysicalOffset, r.PhysicalOffset+int64(len(raw))
			return commitlog.ErrEnough
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, raw, err := log.Record(third)
	if err != nil {
		t.Fatal(err)
	}
	_, _, intact := walk(t, fs, "store", false)
	at := third - log.Files()[0].Start + int64(strings.Index(string(raw), "deleted2"))
	path := log.Files()[0].Path
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("D"), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if records, gaps, end := walk(t, fs, "store", true); records != 36 || len(gaps) != 0 || end != intact {
		t.Errorf("without checksums: %d records, damage %v, end %d; want 36, none, %d", records, gaps, end, intact)
	}
	records, gaps, end := walk(t, fs, "store", false)
	if d := cmp.Diff([][2]int64{{third, fourth}}, gaps); d != "" || records != 35 || end != intact {
		t.Errorf("%d records, end %d (want 35, %d), damage: %s", records, end, intact, d)
	}
}

func TestExamineSaysWhatItMisses(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("empty/commitlog", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Examine(fs, "nowhere"); err == nil {
		t.Error("a directory that is not there was examined")
	}
	d, err := Examine(fs, "empty")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Log(); err == nil || !strings.Contains(err.Error(), "no segments") {
		t.Errorf("an empty log: %v", err)
	}
}
