package store

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"testing"

	"github.com/apogeemq/apogee/store/view"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Much state makes a base that takes long to write: meanwhile the view is staged, so that neither memory nor the next replay grows.
func TestStagingGoesOnWhileABaseIsWritten(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	mem := vfs.NewMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && path.Base(op.Path) == "base.tmp" {
			select {
			case reached <- struct{}{}:
				<-release
			case <-release:
			}
		}
		return nil
	}))
	s, _ := mustOpen(t, memConfig(fs))
	defer mustClose(t, s)
	fill(t, s, 0, 50)
	if err := s.Stage(); err != nil {
		t.Fatal(err)
	}
	before := s.staged.Load()
	written := make(chan error, 1)
	go func() { written <- s.WriteBase() }()
	<-reached
	fill(t, s, 50, 50)
	if err := s.stage(); err != nil {
		t.Fatal(err)
	}
	if s.staged.Load() <= before {
		t.Errorf("the view is staged up to %d, as before the base", s.staged.Load())
	}
	close(release)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	bases, err := s.bases()
	if err != nil || len(bases) != 1 || bases[0] != before {
		t.Errorf("bases %v, %v; want one of position %d", bases, err, before)
	}
}

// A view that is made anew takes a base of any size; one whose making did not end is broken, and made anew again.
func TestBasesOfManyEntriesAreTaken(t *testing.T) {
	fs := vfs.NewMem()
	const count = 50_000
	value := bytes.Repeat([]byte{'v'}, 40)
	each := func(most int) func(take func(view.BaseEntry) error) error {
		return func(take func(view.BaseEntry) error) error {
			for i := range most {
				key := fmt.Appendf(nil, "skind\x00%08d", i)
				if err := take(view.BaseEntry{Key: key, Value: value}); err != nil {
					return err
				}
				clear(key) // whoever keeps it has nothing
			}
			if most < count {
				return errors.New("the disk has gone")
			}
			return nil
		}
	}
	v, err := view.Open(fs, "view")
	if err != nil {
		t.Fatal(err)
	}
	applied := view.Applied{Position: 1000, LastRecord: 900, StoreTime: 5}
	if err := v.Restore(applied, each(count-1)); err == nil {
		t.Fatal("a base that cannot be read was taken")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := view.Open(fs, "view"); !errors.Is(err, view.ErrBroken) {
		t.Fatalf("a view that has half of a base opens: %v", err)
	}
	if v, err = view.Open(fs, "anew"); err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Restore(applied, each(count)); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = v.StateFrom("kind", "", count+1, func(key string, got []byte) error {
		if want := fmt.Sprintf("%08d", n); key != want || !bytes.Equal(got, value) {
			return fmt.Errorf("entry %d is %q = %q", n, key, got)
		}
		n++
		return nil
	})
	if err != nil || n != count || v.Applied() != applied {
		t.Errorf("%d entries, applied %+v, %v", n, v.Applied(), err)
	}
}
