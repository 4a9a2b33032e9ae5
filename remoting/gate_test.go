package remoting

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheGateBoundsWhoRuns(t *testing.T) {
	g := newGate()
	g.limit = 2
	var running, most atomic.Int64
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			var turn turn
			for range 200 {
				g.enter(&turn)
				n := running.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				running.Add(-1)
				g.leave(&turn)
			}
		})
	}
	wait.Wait()
	if n := most.Load(); n < 1 || n > 4 { // a worker that the machine holds up counts as blocked
		t.Errorf("%d ran at once", n)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running != 0 || g.waiting != 0 || g.granted != 0 || len(g.holders) != 0 {
		t.Errorf("left behind: %d running, %d waiting, %d granted, %d holders", g.running, g.waiting, g.granted, len(g.holders))
	}
}

// Workers that are blocked do not hold up the others, and their places come back when they end.
func TestBlockedWorkersGiveTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.limit = 1
		blocked := make(chan struct{})
		var wait sync.WaitGroup
		for range 5 {
			wait.Go(func() {
				var turn turn
				g.enter(&turn)
				<-blocked
				g.leave(&turn)
			})
		}
		synctest.Wait()
		began := time.Now()
		var turn turn
		g.enter(&turn)
		g.leave(&turn)
		if waited := time.Since(began); waited > 10*gateStall {
			t.Errorf("waited %v behind blocked workers", waited)
		}
		close(blocked)
		wait.Wait()
		if g.running != 0 || len(g.holders) != 0 {
			t.Errorf("left behind: %d running, %d holders", g.running, len(g.holders))
		}
		time.Sleep(gateStall) // the watch ends
	})
}
