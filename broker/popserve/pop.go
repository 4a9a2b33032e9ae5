package popserve

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"net/netip"
	"sync"

	"github.com/apogeemq/apogee/broker/pop"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// POP: POP_MESSAGE (200050). Acknowledgements are in ack.go, waiting pops in wait.go, deliveries that are over in shell.go.
//
// What clients see: the checks of RocketMQ in its order (PopMessageProcessor); up to 32 messages of one queue or of all, of the group's
// retry topic too: before the others in one pop of five, after them otherwise. What was handed out is invisible until it is acknowledged
// or its time is over; then it comes again in the retry topic, its reconsume times one higher, or in its queue, if that is consumed in
// order. Messages of a retry topic carry the topic's name and their receipt (POP_CK); clients make the receipts of others from the
// answer's infos. With nothing to hand out a pop is held until a message comes, at most for pollTime, and then answered 210; 209 when too
// many are held. An answer leaves once its deliveries are in the log: after a crash nothing is handed out twice before its time.
//
// The group's offset is the lowest that is not acknowledged, so that lag, resets and a change to pull and back mean the same as ever.
//
// Differences: a receipt names one delivery, and one whose time is over is refused (208) where RocketMQ answers SUCCESS and may
// acknowledge a later delivery; a message that has failed as often as the group allows (retryMaxTimes) goes to %DLQ%group instead of the
// retry topic again, where RocketMQ leaves that to clients; a reset also forgets what was handed out; a group that may not read the
// topic (353) is refused 16, as it is for pulls.

const (
	// popMessagesMax bounds what a client may ask for; popLateMS is how long after its time a request is still served.
	popMessagesMax = 32
	popLateMS      = 500
	// invisibleMSMax bounds how long a delivery may take.
	invisibleMSMax = 30 * 24 * 3600 * 1000
)

// noTopic is what requests for an unknown topic are answered.
func noTopic(name string) error {
	return protocol.Errorf(protocol.RespTopicNotExist, "topic[%s] not exist, apply first please!", name)
}

// results are reused between pops; an answer's Release gives them back.
var results = sync.Pool{New: func() any { return new(store.Result) }}

// request is one POP_MESSAGE under way; or a NOTIFICATION, which asks whether there is something to pop.
type request struct {
	v      *Service
	r      *remoting.Request
	h      protocol.PopHeader
	topic  *Topic
	group  *protocol.SubscriptionGroupConfig
	match  store.Match
	client string // whose lite topics are popped; empty: the topic itself
	notify bool
	failed bool // a queue could not be read
}

// source is a queue that a pop reads.
type source struct {
	key   Key
	queue *store.Queue
	retry bool
}

// found is what a pop hands out.
type found struct {
	time    int64
	number  int32
	infos   pop.Infos
	results []*store.Result // of which the slices are
	slices  [][]byte
	bytes   int
	count   int
	rest    int64 // messages that are left in the queues
}

func (v *Service) popMessage(r *remoting.Request) (*remoting.Response, error) {
	p := &request{v: v, r: r}
	if err := r.Read(&p.h); err != nil {
		return nil, err
	}
	return p.run()
}

// run answers a pop, or has it wait.
func (p *request) run() (*remoting.Response, error) {
	v := p.v
	now := v.host.Now().UnixMilli()
	if p.h.BornTime == 0 {
		p.h.BornTime = now
	}
	if now-p.h.BornTime-p.h.PollMS > popLateMS {
		return p.empty(protocol.RespPollingTimeout, "the broker[%s] pop message is timeout too much", v.address(p.r)), nil
	}
	check := p.check
	if p.client != "" {
		check = p.checkLite
	}
	if err := check("pop message"); err != nil {
		return nil, err
	}
	if p.h.InvisibleMS < 0 || p.h.InvisibleMS > invisibleMSMax {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "invisibleTime is %d ms; 0 to invisibleMSMax=%d are possible", p.h.InvisibleMS, int64(invisibleMSMax))
	}
	if p.serve(p.sources()) {
		return nil, remoting.ErrLater
	}
	return p.hold()
}

// address is the broker's, as whoever asks knows it; asker says who that is. A request of the same process came over no connection.
func (v *Service) address(r *remoting.Request) netip.Addr {
	if r.Conn == nil {
		return v.host.Address(netip.AddrPort{})
	}
	return v.host.Address(r.Conn.LocalAddr())
}

func asker(r *remoting.Request) netip.AddrPort {
	if r.Conn == nil {
		return netip.AddrPort{}
	}
	return r.Conn.RemoteAddr()
}

// check is everything that refuses a pop, in RocketMQ's order. what is RocketMQ's word for the request.
func (p *request) check(what string) error {
	v, h := p.v, &p.h
	host := v.address(p.r)
	if v.host.Settings().Permission&protocol.PermRead == 0 {
		return protocol.Errorf(protocol.RespNoPermission, "the broker[%s] %s is forbidden", host, what)
	}
	if h.MaxMessages > popMessagesMax {
		return protocol.Errorf(protocol.RespInvalidParameter, "the broker[%s] pop message's num is greater than %d: maxMsgNums=%d, the limit is popMessagesMax=%d; ask for fewer", host, popMessagesMax, h.MaxMessages, popMessagesMax)
	}
	if p.topic = v.host.Topic(h.Topic); p.topic == nil {
		return noTopic(h.Topic)
	}
	if p.topic.Config.Perm&protocol.PermRead == 0 {
		return protocol.Errorf(protocol.RespNoPermission, "the topic[%s] peeking message is forbidden", h.Topic)
	}
	if err := p.checkLiteType(); err != nil {
		return err
	}
	if h.QueueID >= p.topic.Config.ReadQueues {
		return protocol.Errorf(protocol.RespInvalidParameter, "queueId[%d] is illegal, topic:[%s] topicConfig.readQueueNums:[%d] consumer:[%s]",
			h.QueueID, h.Topic, p.topic.Config.ReadQueues, asker(p.r))
	}
	if p.group = v.host.Group(h.Group); p.group == nil {
		return protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "subscription group [%s] does not exist, create it or allow autoCreateSubscriptionGroup", h.Group)
	}
	if !p.group.ConsumeEnable {
		return protocol.Errorf(protocol.RespNoPermission, "subscription group no permission, %s", h.Group)
	}
	if !v.host.MayRead(h.Group, h.Topic) {
		return protocol.Errorf(protocol.RespNoPermission, "the consumer group[%s] is forbidden for topic[%s]", h.Group, h.Topic)
	}
	if h.Expression == "" {
		return nil
	}
	var err error
	p.match, err = v.host.Match(h.Group, protocol.SubscriptionData{Topic: h.Topic, Expression: h.Expression, Type: h.ExpressionType})
	return err
}

// retryEvery is in one pop of how many the retry topic comes first (popFromRetryProbability: 20 %).
const retryEvery = 5

// sources returns the queues that a pop reads, in order.
func (p *request) sources() []source {
	if p.client != "" { // what is ready says it
		return []source{{}}
	}
	turn := p.v.table.turn.Add(1)
	urgent := !p.h.Order && prioritized(p.topic.Config, p.group, turn)
	var list []source
	n := int(p.topic.Config.ReadQueues)
	switch {
	case p.h.QueueID >= 0:
		list = p.append(list, p.topic, p.h.QueueID, false)
	case urgent:
		for i := range n {
			list = p.append(list, p.topic, int32(n-1-i), false)
		}
	default:
		for i := range n {
			list = p.append(list, p.topic, int32((uint64(i)+turn)%uint64(n)), false)
		}
	}
	if p.h.Order {
		return list
	}
	var retries []source
	for _, v2 := range []bool{false, true} {
		if t := p.v.host.Topic(message.PopRetryTopic(p.h.Topic, p.h.Group, v2)); t != nil {
			for id := range t.Config.ReadQueues {
				retries = p.append(retries, t, id, true)
			}
		}
	}
	if turn%retryEvery == 0 && !urgent {
		return append(retries, list...)
	}
	return append(list, retries...)
}

func (p *request) append(list []source, t *Topic, id int32, retry bool) []source {
	if q := t.Queue(id); q != nil {
		list = append(list, source{Key{p.h.Group, string(t.Name), id}, q, retry})
	}
	return list
}

// serve answers with what the sources have; false when they have nothing.
func (p *request) serve(sources []source) bool {
	if p.notify {
		return p.serveNotification(sources)
	}
	v := p.v
	f := &found{time: v.host.Now().UnixMilli(), number: pop.OrderedNumber}
	if p.h.Order && p.client == "" {
		for _, s := range sources {
			f.time = v.table.orderedTime(s.key, f.time)
		}
	} else if !p.h.Order {
		f.number = int32(v.table.turn.Load() % pop.OrderedNumber)
	}
	began := v.host.Now()
	p.failed = false
	if p.client != "" {
		p.popLites(f)
	} else {
		for _, s := range sources {
			p.try(f, s)
		}
	}
	if f.count == 0 {
		return false
	}
	v.host.CountPopped(p.h.Topic, p.h.Group, max(p.h.QueueID, 0), f.count, f.bytes, v.host.Now().Sub(began))
	v.table.journal.Confirmed(func(err error) {
		if err != nil {
			f.release()
			p.r.Reply(nil, v.host.Refusal(err))
			return
		}
		p.r.Reply(p.found(f), nil)
	})
	return true
}

// try hands out what one queue has; it notes a failure.
func (p *request) try(f *found, s source) (ok bool) {
	err := p.popFrom(f, s)
	if err != nil {
		p.failed = true
		p.v.log.Warn("a queue cannot be popped", "group", s.key.Group, "topic", s.key.Topic, "queue", s.key.Queue, "error", err)
	}
	return err == nil
}

func (f *found) release() {
	for _, r := range f.results {
		r.Release()
		results.Put(r)
	}
}

// found makes the answer.
func (p *request) found(f *found) *remoting.Response {
	resp := remoting.Respond(protocol.RespSuccess, &protocol.PopResult{
		PopTime: f.time, InvisibleMS: p.h.InvisibleMS, ReviveQueue: f.number, Rest: f.rest,
		Lite: p.client != "", StartOffsetInfo: f.infos.Starts, MsgOffsetInfo: f.infos.Offsets, OrderCountInfo: f.infos.Counts,
	})
	resp.Remark = []byte("FOUND")
	resp.Payload = remoting.Payload{Slices: f.slices, Size: f.bytes, Release: f.release}
	return resp
}

// empty makes the answer to a pop that finds nothing. Clients want the header there, too.
func (p *request) empty(code protocol.ResponseCode, remark string, args ...any) *remoting.Response {
	var h protocol.Header = &protocol.PopResult{InvisibleMS: p.h.InvisibleMS}
	if p.client != "" {
		h = &protocol.PopResult{Lite: true, PopTime: p.v.host.Now().UnixMilli(), InvisibleMS: p.h.InvisibleMS, ReviveQueue: pop.OrderedNumber}
	}
	if p.notify {
		code, h = protocol.RespSuccess, &protocol.NotificationResult{PollingFull: code == protocol.RespPollingFull}
	}
	resp := remoting.Respond(code, h)
	resp.Remark = fmt.Appendf(nil, remark, args...)
	return resp
}

// popFrom hands out what one queue has.
func (p *request) popFrom(f *found, s source) error {
	v := p.v
	q, err := v.table.lock(s.key)
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	start, err := p.begin(q, s)
	if err != nil {
		return err
	}
	if p.h.Order && q.state.Blocked(p.h.AttemptID, f.time) {
		return nil // nothing counts as left: its acknowledgement wakes who waits
	}
	settings := v.host.Settings()
	_, end := s.queue.Bounds()
	room := int(p.h.MaxMessages) - f.count
	if room <= 0 || f.bytes >= settings.TransferBytes {
		f.rest += max(0, end-start)
		return nil
	}
	limits := store.ReadLimits{Messages: min(room, settings.TransferCount), Bytes: settings.TransferBytes - f.bytes, Scanned: settings.ScanEntries, Probed: settings.ProbeBytes}
	if left, err := s.queue.Skip(start); err != nil {
		return err
	} else if left > start { // what compaction removed is not counted by a delivery's bits
		if err := p.move(q, start, left); err != nil {
			return err
		}
		start = left
	}
	result := results.Get().(*store.Result)
	if err = v.store.Read(result, s.queue, start, limits, p.match); err == nil && result.Status == store.OffsetMoved {
		if p.client != "" && start > result.End { // the lite topic went, and came again
			result.Next = result.First
		}
		if err = p.move(q, start, result.Next); err == nil {
			start = result.Next
			err = v.store.Read(result, s.queue, start, limits, p.match)
		}
	}
	if err != nil {
		results.Put(result)
		return err
	}
	f.rest += max(0, result.End-result.Next)
	if result.Status != store.Found {
		if result.Status == store.NoMatch {
			v.table.changed(q, q.state.Advance(nil, result.Next))
		}
		results.Put(result)
		return nil
	}
	v.host.NoteGiven(s.key, result.Next)
	p.deliver(f, q, s, start, result)
	return nil
}

// begin returns the offset to read at. The caller holds the queue's lock.
func (p *request) begin(q *queue, s source) (int64, error) {
	v := p.v
	if offset, ok := v.host.TakeReset(s.key); ok {
		if err := v.table.reset(q, offset); err != nil {
			return 0, err
		}
	}
	offset, committed := v.host.Offset(s.key)
	if _, popped := q.state.Next(); !committed && !popped {
		offset = p.initial(s)
		v.host.AdvanceOffset(s.key, offset) // what is in flight shows as the group's lag
	}
	v.table.changed(q, q.state.Advance(nil, offset)) // where the group has pulled meanwhile, it is further
	if p.h.Order {
		return q.state.NextOrdered(), nil
	}
	offset, _ = q.state.Next()
	return offset, nil
}

// initial is where a group begins that has no offset (PopMessageProcessor.getInitOffset).
func (p *request) initial(s source) int64 {
	first, end := s.queue.Bounds()
	switch {
	case p.h.InitMode == protocol.InitMin || s.retry:
		return first
	case p.v.host.IsYoung(s.queue):
		return 0
	default:
		return max(end-1, 0)
	}
}

// move goes on where there is something: behind what retention has taken, or in a queue that was made anew.
func (p *request) move(q *queue, from, to int64) error {
	if to < from {
		p.v.host.SetOffset(q.key, to)
		return p.v.table.reset(q, to)
	}
	p.v.table.changed(q, q.state.Advance(nil, to))
	return nil
}

// deliver notes what was read as handed out, and adds it to the answer. The caller holds the queue's lock.
func (p *request) deliver(f *found, q *queue, s source, start int64, result *store.Result) {
	start = min(start, result.Offsets[0]) // which is that of a batch, if it was read from its middle on
	receipt := pop.Receipt{Start: start, Time: f.time, Invisible: p.h.InvisibleMS, Number: f.number}
	if p.client == "" {
		f.infos.Add(s.key.Topic, s.key.Queue, start, result.Offsets)
	}
	if p.h.Order {
		writes, counts := q.state.PoppedOrdered(nil, p.h.AttemptID, f.time, p.h.InvisibleMS, result.Offsets)
		if p.client != "" {
			f.infos.AddLiteCounts(result.Offsets, counts)
		} else {
			f.infos.AddCounts(s.key.Topic, s.key.Queue, len(result.Offsets), counts)
		}
		p.v.table.changed(q, writes)
	} else {
		p.v.table.changed(q, q.state.Popped(nil, receipt.ID(), result.Offsets, result.Next))
	}
	p.v.host.Count(traffic.PopDelivered, p.h.Topic, p.h.Group)
	f.count += result.Messages
	if s.retry {
		p.recode(f, s, &receipt, result)
		result.Release()
		results.Put(result)
		return
	}
	f.results = append(f.results, result)
	f.slices = append(f.slices, result.Slices...)
	f.bytes += result.Bytes
}

// notGiven are properties of a stored retry that clients do not get; addedByBrokers are those that they can do without, too.
var (
	notGiven       = []string{message.PropCRC, message.PropPopRetired, message.PropPopCheckpoint}
	addedByBrokers = append([]string{message.PropRegion, message.PropTraceSwitch, message.PropCluster, message.PropFirstPopTime, message.PropOriginGroup}, notGiven...)
)

// recode adds messages of a retry topic to the answer: under the topic's own name, with their receipts.
func (p *request) recode(f *found, s source, receipt *pop.Receipt, result *store.Result) {
	for raw := bytes.Join(result.Slices, nil); len(raw) > 0; {
		r, n, err := message.Decode(raw)
		if err != nil {
			p.v.log.Error("a message cannot be read", "topic", s.key.Topic, "error", err)
			return
		}
		raw = raw[n:]
		r.Topic = p.topic.Name
		stored, ck := r.Properties, receipt.AppendReceipt(nil, s.key.Topic, p.v.host.Name(), r.QueueID, r.QueueOffset)
		r.Properties = message.AppendProperty(message.AppendWithout(nil, stored, notGiven...), message.PropPopCheckpoint, ck)
		if r.EncodedPropertiesSize() > message.MaxPropertiesSize { // what brokers add to every message has to give way
			r.Properties = message.AppendProperty(message.AppendWithout(nil, stored, addedByBrokers...), message.PropPopCheckpoint, ck)
		}
		out := make([]byte, r.EncodedSize())
		r.Encode(out, crc32.ChecksumIEEE(r.Body))
		f.slices, f.bytes = append(f.slices, out), f.bytes+len(out)
	}
}
