package store

import (
	"errors"
	"testing"

	"github.com/apogeemq/apogee/store/view"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Whatever a base or a mark holds, reading it ends in an error or an answer, and takes memory in proportion to the file.
func FuzzBase(f *testing.F) {
	fs := vfs.NewMem()
	s, _ := mustOpen(f, memConfig(fs))
	put(f, s, entryFor(s.Queue("T", 0), []byte("x"), "k"))
	done := make(chan error, 1)
	if err := s.UpdateState("test", []Mutation{{Key: "a", Value: []byte("b")}}, func(err error) { done <- err }); err != nil {
		f.Fatal(err)
	}
	if err := <-done; err != nil {
		f.Fatal(err)
	}
	if err := s.Stage(); err != nil {
		f.Fatal(err)
	}
	if err := s.WriteBase(); err != nil {
		f.Fatal(err)
	}
	bases, err := s.bases()
	if err != nil || len(bases) != 1 {
		f.Fatalf("%d bases, %v", len(bases), err)
	}
	f.Add(readFileT(f, fs, s.basePath(bases[0])))
	f.Add([]byte(baseMagic))
	f.Add(append([]byte(baseMagic+"\x01........................s"), 0, 0, 0, 1, 'x', 3, 255, 255, 255))
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		fs := vfs.NewMem()
		writeFiles(t, fs, map[string][]byte{"dir/base": content, "dir/mark": content})
		size := 0
		_, err := readBase(fs, "dir/base", func(e view.BaseEntry) error { size += len(e.Key) + len(e.Value); return nil })
		if size > len(content) {
			t.Fatalf("%d bytes of entries from a file of %d, %v", size, len(content), err)
		}
		if _, _, err := readMark(fs, "dir/mark"); err != nil && !errors.Is(err, ErrVersion) {
			t.Fatal(err)
		}
	})
}
