package popserve

import (
	"slices"
	"strings"
	"sync"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Waiting pops. Those of a group and topic stand in one line. One watch at each queue that any of them wants tells when something comes;
// then the line is served from the front until the queue is empty, and the watch goes back. So a message wakes as many as it serves.

const (
	// popPollingMax bounds the pops of one group that wait for one queue, or for any, of a topic (popPollingSize).
	popPollingMax = 1024
	// popsHeldMax bounds all of them (maxPopPollingSize).
	popsHeldMax = 100_000
)

// busyMS is when a pop whose time is over is looked at again while it is being served.
const busyMS = 100

// lineName is a group and the topic that it pops, which is no retry topic. Each client that pops lite topics has a line of its own.
type lineName struct{ group, topic, client string }

// waits are the pops that wait.
type waits struct {
	mu        sync.Mutex // guards what follows; only that of the lite topics' subscribers is taken while it is held
	lines     map[lineName]*line
	conns     map[*remoting.Conn]map[*held]struct{} // until the connection ends
	deadlines timer.Alarms[*held]
}

// line are the waiting pops of a group and topic, in order of arrival.
type line struct {
	name    lineName
	held    []*held
	watches map[*store.Queue]*watch
}

// held is a pop that waits.
type held struct {
	*request
	line *line
	conn *remoting.Conn // nil: it came over none
	busy bool           // being served; guarded by the waits' mu
}

// watch waits at a queue's end for a line.
type watch struct {
	v      *Service
	line   *line
	source source
	waits  bool  // it is at the queue; guarded by the waits' mu
	told   int64 // offset behind the last message that a notification was sent for; guarded by it too
}

// Arrived implements the queue's Waiter: it runs in the middle of a confirmation and only hands the news on.
func (w *watch) Arrived(int64) bool {
	w.v.arrived(w)
	return true
}

// hold makes the pop wait.
func (p *request) hold() (*remoting.Response, error) {
	v, w := p.v, &p.v.waits
	wait := min(p.h.PollMS, v.host.Settings().PollWaitMax.Milliseconds())
	if wait <= 0 || !p.notify && p.h.MaxMessages <= 0 { // what asks for nothing would be woken for ever
		return p.empty(protocol.RespPollingTimeout, noMessageInQueue), nil
	}
	name := lineName{p.h.Group, p.h.Topic, p.client}
	w.mu.Lock()
	l := w.lines[name]
	if w.deadlines.Len() >= popsHeldMax || l != nil && l.count(p.h.QueueID, p.notify) > popPollingMax {
		all, own := w.deadlines.Len(), 0
		if l != nil {
			own = l.count(p.h.QueueID, p.notify)
		}
		w.mu.Unlock()
		return p.empty(protocol.RespPollingFull, noMessageInQueue+": %d pops wait, the limit is popPollingMax=%d, of all groups %d, popsHeldMax=%d; "+
			"pop again after a pause, or have fewer consumers", own, popPollingMax, all, popsHeldMax), nil
	}
	if l == nil {
		l = &line{name: name, watches: map[*store.Queue]*watch{}}
		w.lines[name] = l
	}
	conn := p.r.Conn
	h := &held{request: p, line: l, conn: conn}
	l.held = append(l.held, h)
	w.deadlines.Set(h, v.host.Now().UnixMilli()+wait)
	first := w.hold(h)
	w.mu.Unlock()
	if first {
		conn.OnClose(func() { v.drop(conn) }) // at once where it has ended
	}
	for _, s := range p.sources() { // finds what came in between
		v.await(l, s)
	}
	return nil, remoting.ErrLater
}

// noMessageInQueue is the remark of a pop that finds nothing (GetMessageStatus).
const noMessageInQueue = "NO_MESSAGE_IN_QUEUE"

// count returns how many wait for the same as a request.
func (l *line) count(queue int32, notify bool) (n int) {
	for _, p := range l.held {
		if p.h.QueueID == queue && p.notify == notify {
			n++
		}
	}
	return n
}

// first returns whose turn it is when a queue has something, nil for nobody.
func (l *line) first(s source) *held {
	for _, p := range l.held {
		if !p.busy && (s.retry && !p.h.Order || !s.retry && (p.h.QueueID < 0 || p.h.QueueID == s.key.Queue)) {
			return p
		}
	}
	return nil
}

// hold notes whose pop it is; first tells that it is the connection's first. The caller holds mu.
func (w *waits) hold(h *held) (first bool) {
	if h.conn == nil {
		return false
	}
	of, known := w.conns[h.conn]
	if !known {
		of = map[*held]struct{}{}
		w.conns[h.conn] = of
	}
	of[h] = struct{}{}
	return !known
}

// end takes a pop out: it has been answered, or will be at once. The caller holds mu.
func (w *waits) end(p *held) {
	w.deadlines.Remove(p)
	delete(w.conns[p.conn], p)
	p.line.held = slices.DeleteFunc(p.line.held, func(o *held) bool { return o == p })
	if l := p.line; l.name.client != "" && len(l.held) == 0 {
		p.v.lites.rest(l.name.liteClient())
		if w.lines[l.name] == l {
			delete(w.lines, l.name)
		}
	}
}

// await has the line served when something comes to the queue, or at once when it is there.
func (v *Service) await(l *line, s source) {
	w := &v.waits
	w.mu.Lock()
	at := l.watches[s.queue]
	if at == nil {
		at = &watch{v: v, line: l, source: s}
		l.watches[s.queue] = at
	}
	p, waits, told := l.first(s), at.waits, at.told
	at.waits = (waits || p != nil) && l.name.client == "" // the registry of subscribers knows who waits for lite topics
	w.mu.Unlock()
	if p == nil || waits {
		return
	}
	if l.name.client != "" {
		if !v.lites.wait(l.name.liteClient()) {
			v.arrived(at)
		}
		return
	}
	next, blocked := v.place(p.request, s)
	if p.notify {
		next = max(next, told)
	}
	if blocked { // what ends that wakes the line
		w.mu.Lock()
		at.waits = false
		w.mu.Unlock()
	} else if !s.queue.Wait(at, next) {
		v.arrived(at)
	}
}

// place returns the offset that a pop of a queue would read at, and whether it would hand nothing out, for the sake of order.
func (v *Service) place(p *request, s source) (next int64, blocked bool) {
	q := v.table.find(s.key)
	if q == nil {
		if offset, ok := v.host.Offset(s.key); ok {
			return offset, false
		}
		return p.initial(s), false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.h.Order {
		return q.state.NextOrdered(), q.state.Blocked(p.h.AttemptID, v.host.Now().UnixMilli())
	}
	next, _ = q.state.Next()
	return next, false
}

// wakeQueue has the line served that pops a queue which has something other than a new message.
func (v *Service) wakeQueue(k Key) {
	if parent, _, ok := message.LiteOf(k.Topic); ok {
		v.freedLite(k, parent)
		return
	}
	w := &v.waits
	name := lineName{group: k.Group, topic: topicOf(k)}
	w.mu.Lock()
	l := w.lines[name]
	w.mu.Unlock()
	t := v.host.Topic(k.Topic)
	if l == nil || t == nil {
		return
	}
	if q := t.Queue(k.Queue); q != nil {
		v.arrived(&watch{v: v, line: l, source: source{k, q, k.Topic != name.topic}})
	}
}

// topicOf returns the topic that a group pops when messages come from this one.
func topicOf(k Key) string {
	if parent, _, ok := message.LiteOf(k.Topic); ok {
		return parent
	}
	if !isRetry(k.Topic) {
		return k.Topic
	}
	for _, v2 := range []bool{false, true} {
		if topic, ok := strings.CutPrefix(k.Topic, message.PopRetryTopic("", k.Group, v2)); ok {
			return topic
		}
	}
	return k.Topic
}

// serveLine serves who waits for a queue, as far as it has something.
func (v *Service) serveLine(at *watch) {
	w, l, s := &v.waits, at.line, at.source
	w.mu.Lock()
	at.waits = false
	w.mu.Unlock()
	any := false
	for served := true; served; {
		w.mu.Lock()
		p := l.first(s)
		if p == nil {
			w.mu.Unlock()
			if !any { // it was woken for nothing
				v.passLite(l.name)
			}
			return
		}
		p.busy = true
		w.mu.Unlock()
		var failed bool
		served, failed = v.serveHeld(at, p)
		any = any || served && (p.conn == nil || !p.conn.IsClosed())
		w.mu.Lock()
		if p.busy = false; served {
			w.end(p)
		}
		w.mu.Unlock()
		if failed { // whoever waits is answered when the time is over
			return
		}
	}
	v.await(l, s)
}

// serveHeld answers a pop that waits, if its queue has something for it.
func (v *Service) serveHeld(at *watch, p *held) (served, failed bool) {
	if p.conn != nil && p.conn.IsClosed() {
		p.r.Reply(nil, nil)
		return true, false
	}
	if p.notify { // each message is told to one
		next, _ := v.place(p.request, at.source)
		_, end := at.source.queue.Bounds()
		v.waits.mu.Lock()
		next = max(next, at.told)
		if next < end {
			at.told = next + 1
		}
		v.waits.mu.Unlock()
		if next >= end {
			return false, false
		}
	}
	return p.serve([]source{at.source}), p.failed
}

// expire answers the pops whose time is over.
func (v *Service) expire(now int64) {
	w := &v.waits
	w.mu.Lock()
	var over []*held
	for _, p := range w.deadlines.Due(now, popsHeldMax) {
		if p.busy {
			w.deadlines.Set(p, now+busyMS)
			continue
		}
		w.end(p)
		over = append(over, p)
	}
	w.mu.Unlock()
	for _, p := range over {
		p.r.Reply(p.empty(protocol.RespPollingTimeout, noMessageInQueue), nil)
	}
}

// drop ends the pops of a connection that has ended: what they hold must not wait for their deadline.
func (v *Service) drop(conn *remoting.Conn) {
	w := &v.waits
	w.mu.Lock()
	var over []*held
	for p := range w.conns[conn] {
		if !p.busy {
			w.end(p)
			over = append(over, p)
		}
	}
	delete(w.conns, conn)
	w.mu.Unlock()
	for _, p := range over {
		p.r.Reply(nil, nil)
	}
}

// End answers the pops of a topic or a group that is gone.
func (v *Service) End(topic, group string, err error) {
	w := &v.waits
	w.mu.Lock()
	var over []*held
	for name, line := range w.lines {
		if (topic == "" || name.topic == topic) && (group == "" || name.group == group) {
			delete(w.lines, name)
			for _, p := range slices.Clone(line.held) {
				if !p.busy {
					w.end(p)
					over = append(over, p)
				}
			}
		}
	}
	w.mu.Unlock()
	for _, p := range over {
		p.r.Reply(nil, err)
	}
}
