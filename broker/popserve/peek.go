package popserve

import (
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Questions about what there is to pop: PEEK_MESSAGE (200052), NOTIFICATION (200054), POLLING_INFO (200055).
//
// What clients see: a peek reads like a pop, and changes nothing; with nothing to read it is answered 19. A notification is held until
// there is something, and one that is held is told of each message only where no other was. Differences: a peek's messages of the retry
// topic carry their real topic, as in RocketMQ, and no receipt.

func (v *Service) peekMessage(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.PeekHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	p := &request{v: v, r: r, h: protocol.PopHeader{Group: h.Group, Topic: h.Topic, QueueID: h.QueueID, MaxMessages: h.MaxMessages}}
	if err := p.check("peeking message"); err != nil {
		return nil, err
	}
	f := &found{}
	for _, s := range p.sources() {
		if err := p.peekFrom(f, s); err != nil {
			f.release()
			return nil, err
		}
	}
	if f.count > 0 {
		return p.found(f), nil
	}
	return p.empty(protocol.RespPullNotFound, noMessageInQueue), nil
}

func (p *request) peekFrom(f *found, s source) error {
	next, _ := p.v.place(p, s)
	first, end := s.queue.Bounds()
	next = max(next, first)
	f.rest += max(0, end-next)
	room := int(p.h.MaxMessages) - f.count
	if room <= 0 || next >= end {
		return nil
	}
	result := results.Get().(*store.Result)
	limits := store.ReadLimits{Messages: room, Bytes: p.v.host.Settings().TransferBytes, Scanned: p.v.host.Settings().ScanEntries}
	if err := p.v.store.Read(result, s.queue, next, limits, store.Match{}); err != nil {
		results.Put(result)
		return err
	}
	f.results = append(f.results, result)
	if result.Status == store.Found {
		f.slices, f.bytes, f.count = append(f.slices, result.Slices...), f.bytes+result.Bytes, f.count+result.Messages
	}
	return nil
}

func (v *Service) notification(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.NotificationHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	p := &request{v: v, r: r, notify: true, h: protocol.PopHeader{
		Group: h.Group, Topic: h.Topic, QueueID: h.QueueID, PollMS: h.PollMS, BornTime: h.BornTime, Order: h.Order, AttemptID: h.AttemptID,
		ExpressionType: h.ExpressionType, Expression: h.Expression,
	}}
	if err := p.check("peeking message"); err != nil {
		return nil, err
	}
	if p.serve(p.sources()) {
		return nil, remoting.ErrLater
	}
	return p.hold()
}

// notifyFilterMax is how many messages are looked at for one that passes the filter; where there are more, one is assumed
// (maxMessageFilterNumForNotification).
const notifyFilterMax = 64

// serveNotification answers that there is something, if there is.
func (p *request) serveNotification(sources []source) bool {
	for _, s := range sources {
		next, blocked := p.v.place(p, s)
		first, end := s.queue.Bounds()
		next = max(next, first)
		if blocked || next >= end {
			continue
		}
		if p.match.Tags != nil && !s.retry && end-next < notifyFilterMax && !p.anyMatches(s.queue, next, int(end-next)) {
			continue
		}
		p.r.Reply(remoting.Respond(protocol.RespSuccess, &protocol.NotificationResult{HasMessage: true}), nil)
		return true
	}
	return false
}

func (p *request) anyMatches(q *store.Queue, from int64, count int) bool {
	for count > 0 {
		entries, err := q.Entries(nil, from, count)
		if err != nil || len(entries) == 0 {
			return false
		}
		for _, e := range entries {
			if !e.Hole() && p.match.Tags(e.TagsCode) {
				return true
			}
		}
		from, count = from+int64(len(entries)), count-len(entries)
	}
	return false
}

func (v *Service) pollingInfo(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.PollingInfoHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	p := &request{v: v, r: r, h: protocol.PopHeader{Group: h.Group, Topic: h.Topic, QueueID: h.QueueID}}
	if err := p.check("peeking message"); err != nil {
		return nil, err
	}
	w := &v.waits
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	if line := w.lines[lineName{group: h.Group, topic: h.Topic}]; line != nil {
		n = line.count(max(h.QueueID, -1), false)
	}
	return remoting.Respond(protocol.RespSuccess, &protocol.PollingInfoResult{Polling: int32(n)}), nil
}
