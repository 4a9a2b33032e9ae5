package remoting

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/apogeemq/apogee/protocol"
)

// LaneLimits bound a lane: Workers requests run at once, Queue more wait.
type LaneLimits struct{ Workers, Queue int }

// DefaultLanes are the limits of lanes that are not configured. Handlers of a lane may block (disk, other nodes), hence the workers.
func DefaultLanes() map[Lane]LaneLimits {
	return map[Lane]LaneLimits{
		LanePull:      {Workers: 64, Queue: 20_000},
		LaneAck:       {Workers: 64, Queue: 20_000},
		LaneHeartbeat: {Workers: 16, Queue: 20_000},
		LaneAdmin:     {Workers: 16, Queue: 1_000},
	}
}

// lane runs requests on at most Workers goroutines, which are started when there is something to do and end when there is not.
type lane struct {
	name     string
	limits   LaneLimits
	check    func(*Request, *routeState, int) error // authorisation and admission; nil for none
	workFunc func()                                 // l.work, made once so that starting the goroutine allocates nothing
	rejected atomic.Uint64

	mu          sync.Mutex // guards the following
	idle        sync.Cond
	first, last *Request
	queued      int
	running     int // workers
	starting    int // of which have not taken their first request; it is no longer counted as waiting
}

func newLane(name string, limits LaneLimits, check func(*Request, *routeState, int) error) *lane {
	l := &lane{name: name, limits: limits, check: check}
	l.idle.L = &l.mu
	l.workFunc = l.work
	return l
}

// submit queues a request, or answers it when there is no room.
func (l *lane) submit(r *Request) {
	l.mu.Lock()
	start := l.running < l.limits.Workers
	if queued := l.queued - l.starting; !start && queued >= l.limits.Queue {
		l.mu.Unlock()
		l.rejected.Add(1)
		r.answer(nil, protocol.Errorf(protocol.RespSystemBusy,
			"[OVERLOAD]lane %s: %d requests wait, the limit is %d, with %d workers; retry after a pause, or raise the lane's queue or workers",
			l.name, queued, l.limits.Queue, l.limits.Workers), false)
		return
	}
	if l.last == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
	l.queued++
	if start {
		l.running++
		l.starting++
	}
	l.mu.Unlock()
	if start {
		go l.workFunc()
	}
}

func (l *lane) work() {
	l.mu.Lock()
	l.starting--
	for l.first != nil {
		r := l.first
		l.first = r.next
		if l.first == nil {
			l.last = nil
		}
		r.next = nil
		l.queued--
		l.mu.Unlock()
		l.serve(r)
		l.mu.Lock()
	}
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
	return l.queued - l.starting, l.running
}

// Lane returns how many requests wait in a lane, and its limits.
func (s *Server) Lane(kind Lane) (queued int, limits LaneLimits) {
	l := s.lanes[kind]
	queued, _ = l.depth()
	return queued, l.limits
}
