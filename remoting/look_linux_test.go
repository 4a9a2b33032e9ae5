package remoting

import (
	"sync"
	"testing"
)

// What it brings is TestFilledLanesDoNotDelaySends's to show (interop/go).
func TestLooksEnd(t *testing.T) {
	l := newLook()
	if l == nil {
		t.Fatal("no file to wait for")
	}
	for range 100 {
		l.wait()
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 1000 {
				l.wait()
			}
		})
	}
	l.close()
	wait.Wait()
	l.wait()
	if _, err := l.file.Stat(); err == nil {
		t.Errorf("%s is open", l.file.Name())
	}
}
