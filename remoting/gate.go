package remoting

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// gate lets so few workers run at once, over several lanes of a server, that one processor stays free: a send's connection is read, and its
// answer written, as soon as it is there, whatever the lanes have to do. Go looks at the network only when a processor has nothing else
// to run, or every 10 ms; so a worker also steps behind everybody else after each turn.
//
// Lenient workers pass freely. While others wait for their turns beside sends, somebody gives way to the network every gateLook.
//
// Workers take turns, the longest waiting first. One that is blocked, in a read of the disk or a wait for another node, does not count:
// whoever holds a turn for longer than gateStall gives its place to another.
type gate struct {
	limit    int
	lastSend atomic.Int64 // Unix time in ns

	look     *look        // nil: nobody looks
	lastLook atomic.Int64 // Unix time in ns
	lastWait atomic.Int64 // Unix time in ns: when a worker last had to wait for its turn
	mu       sync.Mutex   // guards what follows
	wake     sync.Cond
	holders  []*turn // those that count and those that are stuck
	running  int     // of them that count
	waiting  int
	granted  int // of the waiting, who may run and have not woken yet
	watched  bool
}

// turn is a worker's stay behind the gate.
type turn struct {
	lenient bool
	free    bool // it passed freely
	began   time.Time
	stuck   bool
}

const (
	// gateTurn is how long a worker goes on with requests before others have their turn.
	gateTurn = 100 * time.Microsecond
	// gateCalm is how long after the last send nobody is said to send.
	gateCalm = 200 * time.Millisecond
	// gateCrowded is how long after a worker had to wait for its turn lanes are said to be full.
	gateCrowded = 5 * time.Millisecond
	// gateLook is how long nobody gives way to the network.
	gateLook = 150 * time.Microsecond
	// gateStall is after what time a worker counts as blocked.
	gateStall = 2 * time.Millisecond
)

func newGate() *gate {
	g := &gate{limit: max(1, min(runtime.NumCPU(), runtime.GOMAXPROCS(0))-1)} // GOMAXPROCS may be more than there are
	g.wake.L = &g.mu
	return g
}

// sent tells of a send that was read at a time.
func (g *gate) sent(at time.Time) { g.lastSend.Store(at.UnixNano()) }

// calm tells whether nobody sends.
func (g *gate) calm() bool { return time.Now().UnixNano()-g.lastSend.Load() > int64(gateCalm) }

// enter waits for a turn.
func (g *gate) enter(t *turn) {
	if t.lenient {
		t.began, t.free = time.Now(), true
		return
	}
	g.mu.Lock()
	waited := g.running >= g.limit || g.waiting > 0
	if waited {
		g.lastWait.Store(time.Now().UnixNano())
		g.waiting++
		if !g.watched {
			g.watched = true
			go g.watch()
		}
		for g.granted == 0 {
			g.wake.Wait()
		}
		g.granted--
		g.waiting--
	} else {
		g.running++
	}
	t.began, t.stuck, t.free = time.Now(), false, false
	g.holders = append(g.holders, t)
	g.mu.Unlock()
	if waited {
		runtime.Gosched()
	}
}

// leave ends a turn. Whoever waits longest takes it over.
func (g *gate) leave(t *turn) {
	if t.free {
		return
	}
	g.mu.Lock()
	for i, h := range g.holders {
		if h == t {
			n := len(g.holders) - 1
			g.holders[i], g.holders[n] = g.holders[n], nil
			g.holders = g.holders[:n]
			break
		}
	}
	if !t.stuck {
		g.next()
	}
	g.mu.Unlock()
}

// next gives a place that is free to whoever waits longest. The caller holds mu.
func (g *gate) next() {
	if g.waiting == g.granted {
		g.running--
		return
	}
	g.granted++
	g.wake.Signal()
}

// see gives way to the network, where lanes are full, somebody sends and nobody has given way for a while.
func (g *gate) see() {
	now := time.Now().UnixNano()
	last := g.lastLook.Load()
	switch {
	case now-last < int64(gateLook), now-g.lastWait.Load() > int64(gateCrowded), now-g.lastSend.Load() > int64(gateCalm):
		return
	case !g.lastLook.CompareAndSwap(last, now):
		return
	}
	g.look.wait()
}

// watch finds the workers that are blocked. It ends when nobody waits.
func (g *gate) watch() {
	for {
		time.Sleep(gateStall / 2)
		g.mu.Lock()
		if g.waiting == 0 {
			g.watched = false
			g.mu.Unlock()
			return
		}
		now := time.Now()
		for _, h := range g.holders {
			if !h.stuck && now.Sub(h.began) > gateStall {
				h.stuck = true
				g.next()
			}
		}
		g.mu.Unlock()
	}
}

// pass ends a turn that has lasted its time and begins another.
func (g *gate) pass(t *turn) {
	if time.Since(t.began) < gateTurn {
		return
	}
	if t.free && t.lenient && g.calm() { // no sender's thread waits for a processor
		runtime.Gosched()
		t.began = time.Now()
		return
	}
	g.leave(t)
	yield()
	runtime.Gosched()
	g.enter(t)
}
