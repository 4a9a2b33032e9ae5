package store

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A view that is slow holds senders back; one that cannot be written has them refused, until it can.
func TestTheViewIsNeverFarBehindTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow, broken atomic.Bool
		goOn := make(chan struct{})
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			switch {
			case !strings.Contains(op.Path, "/view/") || op.Kind.ReadOrWrite() != errorfs.OpIsWrite:
			case broken.Load():
				return errors.New("no view today")
			case slow.Load():
				<-goOn
			}
			return nil
		}))
		c := memConfig(fs)
		c.ViewLagBytesMax = 64 << 10
		s, _ := mustOpen(t, c)
		defer func() { _ = s.Close() }()
		q := s.Queue("T", 0)
		send := func(i int) error {
			done := make(chan error, 1)
			b := &Batch{Entries: []Entry{entryFor(q, fmt.Appendf(nil, "m%d-%s", i, strings.Repeat("-", 3000)), "k")}, Done: func(_ *Batch, err error) { done <- err }}
			if err := s.Append(b); err != nil {
				return err
			}
			return <-done
		}
		slow.Store(true)
		var sent atomic.Int64
		result := make(chan error, 1)
		go func() {
			for i := range 100 {
				if err := send(i); err != nil {
					result <- err
					return
				}
				sent.Add(1)
			}
			result <- nil
		}()
		synctest.Wait()
		if n, ahead := sent.Load(), s.log.Confirmed()-s.staged.Load(); n == 100 || ahead > 2*c.ViewLagBytesMax+4096 {
			t.Errorf("%d of 100 were taken, the log is %d bytes ahead", n, ahead)
		}
		slow.Store(false)
		close(goOn)
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // in the middle of a stage the database could only give up
		broken.Store(true)
		var err error
		for i := 0; err == nil && i < 100; i++ {
			err = send(i)
		}
		if !errors.Is(err, ErrBehind) {
			t.Fatalf("with a view that cannot be written: %v", err)
		}
		if got := readAll(t, s, q); len(got) < 100 {
			t.Errorf("%d messages are served meanwhile", len(got))
		}
	})
}
