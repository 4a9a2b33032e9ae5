package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// foreignLog writes the log of a RocketMQ broker: one segment of 64 KiB, not the first one.
type foreignLog struct {
	start int64
	log   []byte
}

// add appends a record without the checksum of the whole record, which RocketMQ does not write.
func (l *foreignLog) add(topic string, queue int32, offset int64, body string) {
	r := message.Record{
		Topic: []byte(topic), QueueID: queue, QueueOffset: offset, PhysicalOffset: l.start + int64(len(l.log)), Body: []byte(body),
		BornHost: host, StoreHost: host, StoreTime: 1000 + offset, Properties: message.AppendProperty(nil, message.PropKeys, []byte("k-"+body)),
	}
	raw := make([]byte, r.EncodedSize())
	r.Encode(raw, entryFor(&Queue{}, r.Body, "").BodyCRC)
	raw = raw[:len(raw)-message.CRCPropertySize]
	be := binary.BigEndian
	be.PutUint32(raw, uint32(len(raw)))
	properties := message.AppendProperty(nil, message.PropKeys, []byte("k-"+body))
	be.PutUint16(raw[len(raw)-len(properties)-2:], uint16(len(properties)))
	l.log = append(l.log, raw...)
}

func writeFiles(t testing.TB, fs vfs.FS, files map[string][]byte) {
	t.Helper()
	for path, content := range files {
		if err := fs.MkdirAll(fs.PathDir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(slices.Clone(content)) // a file of vfs may change it
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// units is a consume queue's file of 1000 units, from..to-1 of them used.
func units(from, to int) []byte {
	b := make([]byte, 1000*foreignUnitBytes)
	for i := from; i < to; i++ {
		binary.BigEndian.PutUint32(b[i*foreignUnitBytes+8:], 100)
	}
	return b
}

// batchUnits is a file of a queue of batches, with n of 3 messages each that begin at offset first.
func batchUnits(n, first int) []byte {
	b := make([]byte, 100*foreignBatchUnitBytes)
	for i := range n {
		unit := b[i*foreignBatchUnitBytes:]
		binary.BigEndian.PutUint32(unit[8:], 100)
		binary.BigEndian.PutUint64(unit[28:], uint64(first+3*i))
		binary.BigEndian.PutUint16(unit[36:], 3)
	}
	return b
}

func foreignDirectory(t testing.TB) *vfs.MemFS {
	l := &foreignLog{start: 64 << 10}
	for i := range 4 {
		l.add("Again", 0, int64(i), fmt.Sprint("deleted", i))
	}
	for i := range 30 {
		l.add("T", 3, int64(500+i), fmt.Sprint("m", i))
	}
	for i := range 2 {
		l.add("Again", 0, int64(i), fmt.Sprint("again", i))
	}
	fs := vfs.NewMem()
	writeFiles(t, fs, map[string][]byte{
		"store/commitlog/00000000000000065536":             append(l.log, make([]byte, 64<<10-len(l.log))...),
		"store/consumequeue/T/3/00000000000000000000":      units(500, 530),
		"store/consumequeue/Gone/0/00000000000000020000":   units(0, 42),
		"store/consumequeue/Gone/0/00000000000000040000":   units(0, 0),
		"store/consumequeue/Again/0/00000000000000000000":  units(0, 2),
		"store/batchconsumequeue/B/0/00000000000000000000": batchUnits(4, 7),
		"store/index/20250101000000000":                    nil,
		"store/checkpoint":                                 make([]byte, 4096),
		"store/config/topics.json":                         []byte("{}"),
	})
	return fs
}

func TestADirectoryOfRocketMQIsTakenOverAndGivenBack(t *testing.T) {
	fs := foreignDirectory(t)
	c := memConfig(fs)
	asked := 0
	c.Import = func(vfs.FS, string) (map[string][]Mutation, error) {
		asked++
		return map[string][]Mutation{"test": {{Key: "from", Value: []byte("RocketMQ")}}}, nil
	}
	check := func(s *Store, more int64) {
		t.Helper()
		bodies := readAll(t, s, s.Queue("T", 3))
		if first, next := s.Queue("T", 3).Bounds(); first != 500 || next != 530+more || bodies[0] != "m0" || bodies[29] != "m29" {
			t.Fatalf("T is [%d,%d): %v", first, next, bodies)
		}
		if diff := cmp.Diff([]string{"again0", "again1"}, readAll(t, s, s.Queue("Again", 0))); diff != "" {
			t.Fatal(diff)
		}
		if first, next := s.Queue("Gone", 0).Bounds(); next-first != more || next != 1042+more {
			t.Fatalf("Gone is [%d,%d)", first, next)
		}
		if n := findKey(t, s, "k-m7"); n != 1 {
			t.Fatalf("%d messages of a key", n)
		}
		state := ""
		if err := s.State("test", func(_ string, v []byte) error { state = string(v); return nil }); err != nil || state != "RocketMQ" {
			t.Fatalf("state %q, %v", state, err)
		}
	}
	s, rec := mustOpen(t, c)
	if !rec.Imported || len(rec.Gaps) > 0 {
		t.Fatalf("%+v", rec)
	}
	if first, next := s.Queue("B", 0).Bounds(); first != 19 || next != 19 {
		t.Fatalf("B is [%d,%d)", first, next)
	}
	check(s, 0)
	mustClose(t, s)
	s, rec = mustOpen(t, c)
	if rec.Imported {
		t.Fatal("taken over twice")
	}
	put(t, s, entryFor(s.Queue("Gone", 0), []byte("new"), "k"), entryFor(s.Queue("T", 3), []byte("new"), "k"))
	check(s, 1)
	mustClose(t, s)
	if err := fs.RemoveAll("store/view"); err != nil {
		t.Fatal(err)
	}
	s, _ = mustOpen(t, c)
	check(s, 1)
	if asked != 1 {
		t.Fatalf("the configuration was read %d times", asked)
	}

	end := s.log.Confirmed()
	if err := s.Leave(map[string][]byte{"topics.json": []byte("{\"ours\":1}")}); err != nil {
		t.Fatal(err)
	}
	names := mustList(t, fs, "store")
	slices.Sort(names)
	if diff := cmp.Diff([]string{"abort", "commitlog", "config", "lock"}, names); diff != "" {
		t.Fatalf("left behind: %s", diff)
	}
	log := readFileT(t, fs, "store/commitlog/00000000000000065536")
	for at := end - 65536; at < int64(len(log)); at++ {
		if log[at] != 0 {
			t.Fatalf("byte %d behind the log's end is not zero", at)
		}
	}
	if got := string(readFileT(t, fs, "store/config/topics.json")); got != `{"ours":1}` {
		t.Fatalf("topics.json is %s", got)
	}
	// RocketMQ would make its queues anew; without them, this is taken over as well.
	s, rec = mustOpen(t, c)
	if !rec.Imported || asked != 2 {
		t.Fatalf("%+v, read %d times", rec, asked)
	}
	check(s, 1)
	mustClose(t, s)
}

func readFileT(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, st.Size())
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	return b
}

// A take-over that a crash cuts short begins again.
func TestATakeOverThatACrashCutsShortBeginsAgain(t *testing.T) {
	fs := foreignDirectory(t)
	s, _ := mustOpen(t, memConfig(fs))
	mustClose(t, s)
	if err := fs.Remove("store/state/rocketmq-end"); err != nil {
		t.Fatal(err)
	}
	c := memConfig(fs)
	c.Import = func(vfs.FS, string) (map[string][]Mutation, error) {
		return map[string][]Mutation{"test": {{Key: "a", Value: []byte("b")}}}, nil
	}
	s, rec := mustOpen(t, c)
	defer mustClose(t, s)
	if !rec.Imported {
		t.Fatal("not taken over")
	}
	if n := len(readAll(t, s, s.Queue("T", 3))); n != 30 {
		t.Fatalf("%d messages", n)
	}
}
