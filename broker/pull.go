package broker

import (
	"cmp"
	"container/heap"
	"sync"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Pulls: PULL_MESSAGE (11), LITE_PULL_MESSAGE (361).
//
// What clients see: the checks of RocketMQ in its order (PullMessageProcessor); up to 32 messages or 256 KiB of stored records, which
// leave as slices of the log's memory; the status's name as remark. With the suspend flag an empty pull is held until a message that
// passes the tag filter arrives, at most as long as the client asks for (and pollWaitMax), then answered 19. A commit offset is taken
// once, when the pull arrives. Difference: a held pull is woken by the message itself, there is no periodic rescan; properties (SQL92,
// filters.go) are looked at without the bodies.

const (
	// entrySize is RocketMQ's index unit, by which maxFilterMessageSize counts.
	entrySize = 20
	// filterScanBytes bounds the index that one pull looks through (maxFilterMessageSize).
	filterScanBytes = 16000
	// filterProbeBytes bounds the records that one pull filters by their properties.
	filterProbeBytes = 16 << 20
	// pullMessagesMax bounds what a client may ask for.
	pullMessagesMax = 1024
)

// pull is one pull request under way.
type pull struct {
	b     *Broker
	r     *remoting.Request
	h     protocol.PullHeader
	queue *store.Queue
	group *protocol.SubscriptionGroupConfig
	topic *topic
	match store.Match
	woken bool      // it was held, and a message came
	began time.Time // of the last attempt to serve it
}

// results are reused between pulls; an answer's Release gives one back.
var results = sync.Pool{New: func() any { return new(store.Result) }}

func (b *Broker) pull(r *remoting.Request) (*remoting.Response, error) {
	p := &pull{b: b, r: r, h: protocol.PullHeader{CommitOffset: -1}} // none, if the request does not say
	if err := r.Read(&p.h); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.readsPending() {
		return p.pending()
	}
	if p.h.SysFlag&protocol.PullCommitOffset != 0 && p.h.CommitOffset >= 0 && b.c.ID == 0 {
		k := p.key()
		if err := b.offsets.checkRoom(k); err != nil {
			return nil, err
		}
		b.offsets.commit(k, p.h.CommitOffset, nil)
	}
	if held, err := p.checkCold(); held || err != nil {
		return nil, cmp.Or(err, remoting.ErrLater)
	}
	return p.serve(p.h.SysFlag&protocol.PullSuspend != 0)
}

// check is everything that refuses a pull, in RocketMQ's order.
func (p *pull) check() error {
	b, h := p.b, &p.h
	if b.live().permission&protocol.PermRead == 0 {
		return protocol.Errorf(protocol.RespNoPermission, "the broker[%s] pulling message is forbidden", p.b.storeHost(p.r.Conn.LocalAddr()).Addr())
	}
	if p.group = b.groups.find(h.Group); p.group == nil {
		return protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "subscription group [%s] does not exist, create it or allow autoCreateSubscriptionGroup", h.Group)
	}
	if !p.group.ConsumeEnable {
		return protocol.Errorf(protocol.RespNoPermission, "subscription group no permission, %s", h.Group)
	}
	if p.topic = b.topics.find(h.Topic); p.topic == nil {
		return errNoTopic(h.Topic)
	}
	if p.topic.config.Perm&protocol.PermRead == 0 {
		return protocol.Errorf(protocol.RespNoPermission, "the topic[%s] pulling message is forbidden", h.Topic)
	}
	if h.QueueID < 0 || h.QueueID >= p.topic.config.ReadQueues {
		return protocol.Errorf(protocol.RespInvalidParameter, "queueId[%d] is illegal, topic:[%s] topicConfig.readQueueNums:[%d] consumer:[%s]",
			h.QueueID, h.Topic, p.topic.config.ReadQueues, p.r.Conn.RemoteAddr())
	}
	if p.queue = p.topic.queue(h.QueueID); h.LiteTopic != "" {
		if err := p.useLite(); err != nil {
			return err
		}
	}
	s, err := p.subscription()
	if err != nil {
		return err
	}
	p.match = s.match()
	return nil
}

// useLite has the pull read a lite topic of its topic.
func (p *pull) useLite() error {
	h := &p.h
	if err := message.CheckLite(h.Topic, h.LiteTopic); err != nil {
		return protocol.Errorf(protocol.RespInvalidParameter, "%s", err)
	}
	t := p.b.topics.find(message.LiteQueue(h.Topic, h.LiteTopic))
	if t == nil {
		return errNoTopic(h.Topic + ", lite topic " + h.LiteTopic)
	}
	if p.queue = t.queue(h.QueueID); p.queue == nil {
		return protocol.Errorf(protocol.RespInvalidParameter, "queueId[%d] is illegal, lite topic [%s] of topic [%s] has queue 0 alone", h.QueueID, h.LiteTopic, h.Topic)
	}
	return nil
}

// key is where the group's offset is.
func (p *pull) key() offsetKey { return offsetKey{p.h.Group, p.queue.Topic, p.h.QueueID} }

// subscription returns what the pull wants: its own expression, or what the group's heartbeats said.
func (p *pull) subscription() (*subscription, error) {
	h := &p.h
	if h.SysFlag&protocol.PullSubscription != 0 {
		return p.b.ownSubscription(h.Group, protocol.SubscriptionData{Topic: h.Topic, Expression: h.Subscription, Type: h.ExpressionType})
	}
	s, model, found := p.b.clients.subscription(h.Group, h.Topic)
	switch {
	case !found:
		return nil, protocol.Errorf(protocol.RespSubscriptionNotExist, "the consumer's group info not exist")
	case model == protocol.ModelBroadcasting && !p.group.ConsumeBroadcastEnable:
		return nil, protocol.Errorf(protocol.RespNoPermission, "the consumer group[%s] can not consume by broadcast way", h.Group)
	case !p.b.groups.mayRead(h.Group, h.Topic):
		return nil, protocol.Errorf(protocol.RespNoPermission, "the consumer group[%s] is forbidden for topic[%s]", h.Group, h.Topic)
	case s == nil:
		return nil, protocol.Errorf(protocol.RespSubscriptionNotExist, "the consumer's subscription not exist")
	case s.data.Version < h.SubVersion:
		return nil, protocol.Errorf(protocol.RespSubscriptionNotLatest, "the consumer's subscription not latest")
	}
	return p.b.groupSubscribed(h.Group, s, h.SubVersion)
}

// serve reads and answers; with hold an empty answer waits for a message instead.
func (p *pull) serve(hold bool) (*remoting.Response, error) {
	b, h := p.b, &p.h
	p.began = b.c.Now()
	messages := min(max(int(h.MaxMessages), 0), pullMessagesMax)
	limits := store.ReadLimits{
		Messages: min(messages, b.live().transferCount),
		Bytes:    b.live().transferBytes,
		Scanned:  max(filterScanBytes/entrySize, messages),
		Probed:   filterProbeBytes,
	}
	if h.MaxBytes > 0 {
		limits.Bytes = min(limits.Bytes, int(h.MaxBytes))
	}
	if offset, ok := b.offsets.takeReset(p.key()); ok {
		return p.moved(offset), nil
	}
	result := results.Get().(*store.Result)
	for {
		if err := b.store.Read(result, p.queue, h.QueueOffset, limits, p.match); err != nil {
			result.Release()
			results.Put(result)
			return nil, err
		}
		if result.Status == store.NoMatch && hold && p.woken && result.Next == result.End {
			h.QueueOffset = result.Next // it was not for this pull, which goes on waiting
			continue
		}
		// An empty queue at offset 0 and a queue's end are both held (PULL_NOT_FOUND).
		if result.Status != store.NoMessage || !hold {
			break
		}
		if err := p.checkHeld(); err != nil {
			results.Put(result)
			return nil, err
		}
		if b.hold(p) {
			results.Put(result)
			return nil, remoting.ErrLater
		}
	}
	return p.answer(result), nil
}

// checkHeld refuses to hold a pull when too many are.
func (p *pull) checkHeld() error {
	if n := p.b.held.count(); n >= heldPullsMax {
		return protocol.Errorf(protocol.RespSystemBusy, "[OVERLOAD]%d pulls are held, the limit is heldPullsMax=%d; pull again after a pause, or have fewer consumers: queue %d of topic[%s]",
			n, heldPullsMax, p.h.QueueID, p.h.Topic)
	}
	return nil
}

// answer makes the response; the result goes back to the pool once its slices are written.
func (p *pull) answer(result *store.Result) *remoting.Response {
	var code protocol.ResponseCode
	var remark string
	switch result.Status {
	case store.Found:
		code, remark = protocol.RespSuccess, "FOUND"
	case store.NoMatch:
		code, remark = protocol.RespPullRetryImmediately, "NO_MATCHED_MESSAGE"
	case store.NoMessage:
		code, remark = protocol.RespPullNotFound, "OFFSET_OVERFLOW_ONE"
	default:
		code, remark = protocol.RespPullOffsetMoved, "OFFSET_OVERFLOW_BADLY"
		if p.h.QueueOffset < result.First {
			remark = "OFFSET_TOO_SMALL"
		}
	}
	if result.End == 0 {
		remark = "NO_MESSAGE_IN_QUEUE"
	}
	resp := remoting.Respond(code, &protocol.PullResult{
		NextOffset: result.Next, MinOffset: result.First, MaxOffset: result.End,
		TopicSysFlag: p.topic.config.SysFlag, GroupSysFlag: p.group.GroupSysFlag,
	})
	resp.Remark = []byte(remark)
	p.b.offsets.gave(p.key(), result.Next)
	if result.Status != store.Found {
		p.b.traffic.PulledNothing()
		results.Put(result)
		return resp
	}
	p.readCold(result)
	p.b.stats.pulled(result.Messages, result.Bytes)
	p.b.traffic.Pulled(countedAs(p.h.Topic), countedAs(p.h.Group), p.topic.system, p.h.QueueID, result.Messages, result.Bytes, p.b.c.Now().Sub(p.began))
	resp.Payload = remoting.Payload{Slices: result.Slices, Size: result.Bytes, Release: func() {
		result.Release()
		results.Put(result)
	}}
	return resp
}

// heldPull waits at its queue's end for a message or its deadline, whichever comes first. Who takes it off the queue serves it.
type heldPull struct {
	*pull
	deadline time.Time
	conn     *remoting.Conn
	index    int  // in the heap
	gone     bool // served before it got into the heap
	cold     bool // it waits for its deadline alone (checkCold)
}

// Arrived implements the queue's Waiter: it runs in the middle of a confirmation and only hands the pull on.
func (p *heldPull) Arrived(tagsCode int64) bool {
	if p.match.Tags != nil && !p.match.Tags(tagsCode) {
		return false
	}
	p.b.woken(p)
	return true
}

// heldPulls orders held pulls by deadline, and knows those of each connection.
type heldPulls struct {
	mu     sync.Mutex // guards what follows
	list   heldHeap
	byConn map[*remoting.Conn]map[*heldPull]struct{} // from a connection's first held pull to its end
}

type heldHeap []*heldPull

func (h heldHeap) Len() int           { return len(h) }
func (h heldHeap) Less(i, j int) bool { return h[i].deadline.Before(h[j].deadline) }
func (h heldHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *heldHeap) Push(x any)        { p := x.(*heldPull); p.index = len(*h); *h = append(*h, p) }
func (h *heldHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.index = -1
	return p
}

func (h *heldPulls) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.list)
}

// add enters a pull; first tells that it is the connection's first.
func (h *heldPulls) add(p *heldPull) (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of, known := h.byConn[p.conn]
	if !known {
		of = map[*heldPull]struct{}{}
		h.byConn[p.conn] = of
	}
	if !p.gone {
		heap.Push(&h.list, p)
		of[p] = struct{}{}
	}
	return !known
}

// forget returns the pulls of a connection that has ended.
func (h *heldPulls) forget(conn *remoting.Conn) map[*heldPull]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.byConn[conn]
	delete(h.byConn, conn)
	return of
}

// remove takes a pull out; false when it was not there any more.
func (h *heldPulls) remove(p *heldPull) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := p.gone
	p.gone = true
	if p.index >= 0 {
		heap.Remove(&h.list, p.index)
	}
	delete(h.byConn[p.conn], p)
	return !was
}

// stopWaiting ends a pull's wait; false when somebody else does.
func (b *Broker) stopWaiting(p *heldPull) bool {
	if p.cold {
		return b.held.remove(p)
	}
	return p.queue.StopWaiting(p)
}

// due takes out the pulls whose deadline has passed.
func (h *heldPulls) due(now time.Time) (list []*heldPull) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.list) > 0 && !h.list[0].deadline.After(now) {
		list = append(list, heap.Pop(&h.list).(*heldPull))
	}
	return list
}

// hold makes the pull wait; false when a message came in between.
func (b *Broker) hold(p *pull) bool {
	held := b.newHeld(p, p.h.SuspendMS)
	if !p.queue.Wait(held, p.h.QueueOffset) {
		return false
	}
	b.addHeld(held) // after Wait: a deadline that passed in between would find it nowhere
	return true
}

// newHeld makes a pull that may wait for so long, whatever the client asks for.
func (b *Broker) newHeld(p *pull, ms int64) *heldPull {
	wait := time.Duration(max(0, min(ms, b.live().pollWaitMax.Milliseconds()))) * time.Millisecond
	return &heldPull{pull: p, conn: p.r.Conn, deadline: b.c.Now().Add(wait), index: -1}
}

func (b *Broker) addHeld(p *heldPull) {
	if b.held.add(p) {
		p.conn.OnClose(func() { b.dropHeld(p.conn) })
	}
}

// dropHeld ends the pulls of a connection that has ended: what they hold must not wait for their deadline.
func (b *Broker) dropHeld(conn *remoting.Conn) {
	for p := range b.held.forget(conn) {
		if b.stopWaiting(p) {
			b.serveHeld(p, false)
		}
	}
}

// serveHeld answers a pull that was woken, or whose time is over; one that finds nothing yet is held again unless its time is over.
func (b *Broker) serveHeld(p *heldPull, again bool) {
	b.held.remove(p)
	if p.r.Conn.IsClosed() {
		p.r.Reply(nil, nil)
		return
	}
	p.pull.woken = !p.cold
	left := p.deadline.Sub(b.c.Now())
	p.h.SuspendMS = left.Milliseconds()
	resp, err := p.serve(again && left > 0)
	if err != remoting.ErrLater { //nolint:errorlint // a sentinel that is never wrapped
		p.r.Reply(resp, err)
	}
}

// expire answers the pulls whose time is over.
func (b *Broker) expire(now time.Time) {
	for _, p := range b.held.due(now) {
		if b.stopWaiting(p) {
			b.serveHeld(p, false)
		}
	}
}
