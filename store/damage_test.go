package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// What the view knows already is not read at a start: a record that has changed since is found when it is read.
func TestADamagedRecordIsNeverServed(t *testing.T) {
	const n, bad = 60, 20
	for name, in := range map[string]int64{"size": 2, "magic": 5, "position": 33, "body": 150, "last byte": -1} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s, _ := mustOpen(t, memConfig(fs))
			var hit Entry
			for i := range n { // more than fits into the log's memory
				b := put(t, s, entryFor(s.Queue("T", 0), fmt.Appendf(nil, "m%d-%s", i, strings.Repeat("-", 30000)), fmt.Sprint("k", i)))
				if i == bad {
					hit = b.Entries[0]
				}
			}
			mustClose(t, s)
			at := hit.Record.PhysicalOffset + in
			if in < 0 {
				at += int64(hit.Size)
			}
			flip(t, fs, at)
			s, rec := mustOpen(t, memConfig(fs))
			defer mustClose(t, s)
			if len(rec.Gaps) > 0 || rec.Rebuilt {
				t.Fatalf("%+v: this is another test", rec)
			}
			checkAround(t, s, n, bad)
			if s.rots.Load() != 1 {
				t.Errorf("%d damaged records reported, want 1", s.rots.Load())
			}
			var pins Pins
			defer pins.Release()
			if _, _, err := s.Look(hit.Record.PhysicalOffset, &pins); err == nil {
				t.Error("the damaged record is found by its position")
			}
			if _, _, err := s.RecordAt(hit.Record.PhysicalOffset); err == nil {
				t.Error("a copy of the damaged record is found by its position")
			}
			err := s.FindKey("T", fmt.Sprint("k", bad), 0, 1<<62, func(*message.Record, []byte) bool {
				t.Error("the damaged record is found by its key")
				return true
			})
			if err != nil {
				t.Error(err)
			}
			put(t, s, entryFor(s.Queue("T", 0), []byte("on"), "k"))
		})
	}
}

// Without any note of what was on stable storage, records that follow say it: in a later segment, or farther behind than what is ever in
// flight.
func TestDamageIsNotTakenForATornTail(t *testing.T) {
	for _, segment := range []int64{4 << 20, 64 << 20} {
		t.Run(fmt.Sprint(segment>>20, " MiB"), func(t *testing.T) {
			const n, bad = 16, 2
			fs := vfs.NewMem()
			c := memConfig(fs)
			c.SegmentBytes, c.UnsyncedBytesMax = segment, 8<<20
			s, _ := mustOpen(t, c)
			var hit Entry
			for i := range n {
				b := put(t, s, entryFor(s.Queue("T", 0), fmt.Appendf(nil, "m%d-%s", i, strings.Repeat("-", 3<<20)), "k"))
				if i == bad {
					hit = b.Entries[0]
				}
			}
			mustClose(t, s)
			at := hit.Record.PhysicalOffset
			flipIn(t, fs, fmt.Sprintf("store/commitlog/%020d", at/segment*segment), at%segment+200)
			for _, gone := range []string{"store/view", "store/state/checkpoint"} {
				if err := fs.RemoveAll(gone); err != nil {
					t.Fatal(err)
				}
			}
			s, rec := mustOpen(t, c)
			defer mustClose(t, s)
			if len(rec.Gaps) != 1 || rec.Gaps[0].From != at || rec.Cut != 0 {
				t.Fatalf("%+v, want a gap at %d", rec, at)
			}
			checkAround(t, s, n, bad)
		})
	}
}

func TestDamageInADirectoryOfRocketMQ(t *testing.T) {
	fs := foreignDirectory(t)
	flipIn(t, fs, "store/commitlog/00000000000000065536", 1000) // some record in the middle
	s, rec := mustOpen(t, memConfig(fs))
	if len(rec.Gaps) != 1 || rec.Cut != 0 {
		t.Fatalf("%+v, want one gap", rec)
	}
	if _, end := s.Queue("T", 3).Bounds(); end != 530 {
		t.Fatalf("T ends at %d", end)
	}
	mustClose(t, s)

	// Where RocketMQ crashed, records behind a torn one are what was in flight.
	fs = foreignDirectory(t)
	flipIn(t, fs, "store/commitlog/00000000000000065536", 1000)
	writeFiles(t, fs, map[string][]byte{"store/abort": nil})
	s, rec = mustOpen(t, memConfig(fs))
	defer mustClose(t, s)
	if len(rec.Gaps) != 0 || rec.Cut == 0 {
		t.Fatalf("%+v, want a torn tail", rec)
	}
}
