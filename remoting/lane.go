package remoting

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/apogeemq/apogee/protocol"
)

// LaneLimits bound a lane: Workers requests run at once, Queue more wait.
type LaneLimits struct{ Workers, Queue int }

// DefaultLanes are the limits of lanes that are not configured. Handlers of a lane may block (disk, other nodes), hence the workers; how
// many run at once is the gate's to say.
func DefaultLanes() map[Lane]LaneLimits {
	return map[Lane]LaneLimits{
		LanePull:      {Workers: 64, Queue: 20_000},
		LaneAck:       {Workers: 8, Queue: 20_000},
		LaneHeartbeat: {Workers: 8, Queue: 20_000},
		LaneAdmin:     {Workers: 8, Queue: 1_000},
	}
}

// lane runs requests on at most Workers goroutines, which are started when there is something to do and end when there is not.
// Connections take turns: one that asks for much waits for itself. When the lane is full, the oldest request of the connection that
// has the most is refused, or the new one if that is its own.
type lane struct {
	kind     Lane
	name     string
	limits   LaneLimits
	gate     *gate                                  // shared by the server's lanes
	check    func(*Request, *routeState, int) error // authorisation and admission; nil for none
	workFunc func()                                 // l.work, made once so that starting the goroutine allocates nothing
	rejected atomic.Uint64

	mu          sync.Mutex // guards the following, and the backlogs
	idle        sync.Cond
	first, last *backlog // whose turn it is, and who comes after it
	queued      int
	running     int // workers
	starting    int // of which have not taken their first request; it is no longer counted as waiting
}

// backlog is what waits in a lane for one connection.
type backlog struct {
	first, last *Request
	count       int
	next        *backlog
	linked      bool // in the lane's list
}

func newLane(kind Lane, name string, limits LaneLimits, g *gate, check func(*Request, *routeState, int) error) *lane {
	l := &lane{kind: kind, name: name, limits: limits, gate: g, check: check}
	l.idle.L = &l.mu
	l.workFunc = l.work
	return l
}

// submit queues a request, or answers it when there is no room.
func (l *lane) submit(r *Request) {
	l.mu.Lock()
	b := &r.Conn.backlogs[l.kind]
	start := l.running < l.limits.Workers
	queued := l.queued - l.starting
	var refused *Request
	if !start && queued >= l.limits.Queue {
		if refused = l.displace(b); refused == nil {
			l.mu.Unlock()
			l.refuse(r, queued)
			return
		}
	}
	l.push(b, r)
	if start {
		l.running++
		l.starting++
	}
	l.mu.Unlock()
	if refused != nil {
		l.refuse(refused, queued)
	}
	if start {
		go l.workFunc()
	}
}

func (l *lane) refuse(r *Request, queued int) {
	l.rejected.Add(1)
	r.answer(nil, protocol.Errorf(protocol.RespSystemBusy,
		"[OVERLOAD]lane %s: %d requests wait, the limit is %d, with %d workers; retry after a pause, or raise the lane's queue or workers",
		l.name, queued, l.limits.Queue, l.limits.Workers), false)
}

// push queues a request. The caller holds mu.
func (l *lane) push(b *backlog, r *Request) {
	if b.last == nil {
		b.first = r
	} else {
		b.last.next = r
	}
	b.last = r
	b.count++
	l.queued++
	if !b.linked {
		l.link(b)
	}
}

// link puts a backlog at the end of the list. The caller holds mu.
func (l *lane) link(b *backlog) {
	b.linked, b.next = true, nil
	if l.last == nil {
		l.first = b
	} else {
		l.last.next = b
	}
	l.last = b
}

// take takes a backlog's oldest request. The caller holds mu.
func (l *lane) take(b *backlog) *Request {
	r := b.first
	if b.first = r.next; b.first == nil {
		b.last = nil
	}
	r.next = nil
	b.count--
	l.queued--
	return r
}

// displace makes room in a full lane for a request of b, if somebody has clearly more waiting. The caller holds mu.
func (l *lane) displace(b *backlog) *Request {
	most := b
	for x := l.first; x != nil; x = x.next {
		if x.count > most.count {
			most = x
		}
	}
	if most.count <= b.count+1 {
		return nil
	}
	return l.take(most)
}

// pop takes the request whose turn it is, nil when there is none. The caller holds mu.
func (l *lane) pop() *Request {
	for b := l.first; b != nil; b = l.first {
		if l.first = b.next; l.first == nil {
			l.last = nil
		}
		b.linked = false
		if b.first == nil { // its connection closed
			continue
		}
		r := l.take(b)
		if b.first != nil {
			l.link(b)
		}
		return r
	}
	return nil
}

// purge drops what waits for a connection.
func (l *lane) purge(c *Conn) {
	l.mu.Lock()
	b := &c.backlogs[l.kind]
	first := b.first
	l.queued -= b.count
	b.first, b.last, b.count = nil, nil, 0
	l.mu.Unlock()
	dropAll(first)
}

// lenient tells whether a worker may pass the gate freely: with pulls, while nobody sends, or hardly any wait. A drain may have all
// processors, and consumers that keep up with producers are not held up. The caller holds mu.
func (l *lane) lenient() bool {
	return l.kind == LanePull && (l.queued < l.limits.Workers || l.gate.calm())
}

func (l *lane) work() {
	var t turn
	l.mu.Lock()
	t.lenient = l.lenient()
	l.mu.Unlock()
	l.gate.enter(&t)
	l.mu.Lock()
	l.starting--
	for {
		r := l.pop()
		if r == nil {
			break
		}
		t.lenient = l.lenient()
		l.mu.Unlock()
		l.serve(r)
		l.gate.see()
		l.gate.pass(&t)
		l.mu.Lock()
	}
	l.gate.leave(&t)
	l.running--
	if l.running == 0 {
		l.idle.Broadcast()
	}
	l.mu.Unlock()
}

func (l *lane) serve(r *Request) {
	if r.route.Lane == LanePull {
		if r.Conn.park(r) {
			return
		}
		if r.Conn.IsClosed() { // nobody takes the messages; acks and commits count all the same
			r.recycle()
			return
		}
	}
	if l.check != nil {
		if err := l.check(r, r.route, len(r.frame)); err != nil {
			r.answer(nil, err, false)
			return
		}
	}
	resp, err := r.route.Handle(r)
	if errors.Is(err, ErrLater) {
		return
	}
	r.answer(resp, err, false)
}

// wait waits until the lane is empty.
func (l *lane) wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.running > 0 {
		l.idle.Wait()
	}
}

func (l *lane) depth() (queued, running int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.queued-l.starting), l.running // a purge may leave workers that start for nothing
}

// Lane returns how many requests wait in a lane, and its limits.
func (s *Server) Lane(kind Lane) (queued int, limits LaneLimits) {
	l := s.lanes[kind]
	queued, _ = l.depth()
	return queued, l.limits
}

// purge drops what a closed connection has waiting in lanes, but for acks and commits: those count all the same.
func (s *Server) purge(c *Conn) {
	for kind, l := range s.lanes {
		if l != nil && Lane(kind) != LaneAck {
			l.purge(c)
		}
	}
}
