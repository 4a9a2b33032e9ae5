package popserve

import (
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/broker/lite"
	"github.com/apogeemq/apogee/broker/pop"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Lite topics: POP_LITE_MESSAGE (200070), LITE_SUBSCRIPTION_CTL (200071); pushed to clients: NOTIFY_UNSUBSCRIBE_LITE (200073). ACK_MESSAGE
// and CHANGE_MESSAGE_INVISIBLETIME with a liteTopic are in ack.go.
//
// What clients see (PopLiteMessageProcessor, LiteSubscriptionCtlProcessor): each client of a group has lite topics of its own, of the
// parent topic that the group is bound to, and pops up to 32 messages of those that have something, in the order in which they came to
// have it. Each lite topic is consumed in order: what was handed out of it is acknowledged before more is, or comes again when its time
// is over, with its count. The deliveries are those of an ordered pop of the light queue, and as durable. Subscriptions are in memory:
// clients send them again, and those of a client that does not for liteSubscriptionCheckTimeoutMills end.
//
// Differences: a client's subscriptions are those of its group and id, in RocketMQ of its id; the quotas (2018) hold for COMPLETE_ADD too,
// and lite.sub.client.quota is kept here as well as in the proxy; a lite topic that has something is ready for all its subscribers, where
// RocketMQ gives it to one and takes it back when that one is silent, so there is no maximum of events, and nothing waits for a rescan;
// receipts are those of other pops, so one whose delivery is over is refused (208); a client that is subscribed again does not evict itself; where a subscription begins means nothing before the lite topic is there.

// lites are the subscribers, with the connections on which they are told.
type lites struct {
	mu sync.Mutex // guards what follows; a leaf
	lite.Registry
	conns  map[lite.Client]*remoting.Conn
	looked time.Time // for silent ones
}

func (n lineName) liteClient() lite.Client { return lite.Client{Group: n.group, ID: n.client} }

func (l *lites) wait(c lite.Client) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Wait(c)
}

func (l *lites) rest(c lite.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Rest(c)
}

// expire ends the subscriptions of silent clients.
func (l *lites) expire(now time.Time, timeout time.Duration) {
	const perTimeout = 10 // looks
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.looked) < timeout/perTimeout {
		return
	}
	l.looked = now
	l.forget(l.Expire(now.Add(-timeout).UnixMilli()))
}

func (l *lites) dropGroup(group string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(l.DropGroup(group))
}

func (l *lites) forget(gone []lite.Client) {
	for _, c := range gone {
		delete(l.conns, c)
	}
}

// arrivedLite is told of each message in a light queue, in the middle of its confirmation.
func (v *Service) arrivedLite(queue string) {
	parent, _, ok := message.LiteOf(queue)
	if !ok {
		return
	}
	v.lites.mu.Lock()
	woken := v.lites.Arrived(parent, queue)
	v.lites.mu.Unlock()
	v.wakeLites(parent, woken)
}

// freedLite is told of a lite topic that a group may pop again.
func (v *Service) freedLite(k Key, parent string) {
	if !v.hasLite(k) {
		return
	}
	v.lites.mu.Lock()
	woken := v.lites.Freed(k.Group, parent, k.Topic)
	v.lites.mu.Unlock()
	v.wakeLites(parent, woken)
}

// passLite has others woken for what is ready for a client that was, but does not pop any more.
func (v *Service) passLite(n lineName) {
	if n.client == "" {
		return
	}
	v.lites.mu.Lock()
	woken := v.lites.Pass(n.liteClient())
	v.lites.mu.Unlock()
	v.wakeLites(n.topic, woken)
}

// wakeLites has the lines of clients served.
func (v *Service) wakeLites(parent string, clients []lite.Client) {
	for _, c := range clients {
		v.waits.mu.Lock()
		var at *watch
		if l := v.waits.lines[lineName{c.Group, parent, c.ID}]; l != nil {
			at = l.watches[nil]
		}
		v.waits.mu.Unlock()
		if at != nil {
			v.arrived(at)
		}
	}
}

// hasLite tells whether there is something in a lite topic that a group has not acknowledged.
func (v *Service) hasLite(k Key) bool {
	q := v.store.Find(k.Topic, 0)
	if q == nil {
		return false
	}
	_, end := q.Bounds()
	next, _ := v.host.Offset(k) // a group that has none may get something, as may one that is behind the end: the topic was made anew
	return next != end
}

func (v *Service) popLiteMessage(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.PopLiteHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if h.ClientID == "" {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "clientId is empty; want that of the client's subscriptions")
	}
	p := &request{v: v, r: r, client: h.ClientID, h: protocol.PopHeader{
		Group: h.Group, Topic: h.Topic, QueueID: -1, MaxMessages: h.MaxMessages, InvisibleMS: h.InvisibleMS, PollMS: h.PollMS, BornTime: h.BornTime,
		InitMode: protocol.InitMax, Order: true, AttemptID: h.AttemptID,
	}}
	return p.run()
}

// checkLite is everything that refuses a pop of lite topics, in RocketMQ's order.
func (p *request) checkLite(what string) error {
	if err := p.v.host.CheckClientID(p.client); err != nil {
		return err
	}
	if err := p.check(what); err != nil {
		return err
	}
	if bound := p.group.Attributes[attribute.LiteBindTopic]; bound != p.h.Topic {
		return protocol.Errorf(protocol.RespInvalidParameter, "subscription bind topic not match, %s: %s=%s, the pop is of %s",
			p.h.Group, attribute.LiteBindTopic, bound, p.h.Topic)
	}
	return nil
}

// popLites hands out what the client's lite topics have.
func (p *request) popLites(f *found) {
	v, c := p.v, lite.Client{Group: p.h.Group, ID: p.client}
	l := &v.lites
	l.mu.Lock()
	l.Begin(c, p.h.AttemptID, f.time)
	topic, ok := l.Next(c)
	l.mu.Unlock()
	var again []string
	for ok {
		given := f.count
		k := Key{p.h.Group, topic, 0}
		at := v.table.orderedTime(k, f.time)
		if q := v.store.Find(topic, 0); q != nil && at > f.time && given > 0 {
			again = append(again, topic) // another answer: this one's deliveries have one time
		} else if q != nil {
			if f.time = at; !p.try(f, source{key: k, queue: q}) {
				again = append(again, topic)
			}
		}
		full := p.failed || f.count >= int(p.h.MaxMessages) || f.bytes >= v.host.Settings().TransferBytes
		l.mu.Lock()
		if f.count > given {
			l.Gave(c, topic)
		}
		if ok = !full; ok {
			topic, ok = l.Next(c)
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.Ready(c, again)
	l.mu.Unlock()
}

// checkLiteType refuses a pop of lite topics of a topic that has none.
func (p *request) checkLiteType() error {
	if kind := p.topic.Config.Attributes[attribute.MessageType]; p.client != "" && kind != attribute.Lite {
		return protocol.Errorf(protocol.RespInvalidParameter, "the topic [%s] message type not match: %s=%s, want %s",
			p.h.Topic, attribute.MessageType, kind, attribute.Lite)
	}
	return nil
}

// liteReceipt reads what an acknowledgement, or a new invisible time, says of a message of a lite topic (AckMessageProcessor.ackLite).
func (v *Service) liteReceipt(h *protocol.AckHeader) (k Key, receipt pop.Receipt, err error) {
	k = Key{h.Group, message.LiteQueue(h.Topic, h.LiteTopic), 0}
	if g := v.host.KnownGroup(h.Group); g == nil || g.Attributes[attribute.LiteBindTopic] != h.Topic {
		return k, receipt, protocol.Errorf(protocol.RespInvalidParameter, "group type or bind topic not match. Group %s is not bound to %s, of which %q is a lite topic, by %s",
			h.Group, h.Topic, h.LiteTopic, attribute.LiteBindTopic)
	}
	end := int64(-1)
	if q := v.store.Find(k.Topic, 0); q != nil {
		_, end = q.Bounds()
	}
	if h.Offset < 0 || h.Offset > end {
		return k, receipt, protocol.Errorf(protocol.RespNoMessage, "ack offset illegal. It is %d, lite topic %s of %s ends at %d", h.Offset, h.LiteTopic, h.Topic, end)
	}
	if receipt, err = parseReceipt(h); err == nil && (h.QueueID != 0 || receipt.Number != pop.OrderedNumber) {
		err = protocol.Errorf(protocol.RespInvalidParameter, "ack queue illegal. It is %d with revive queue %d, lite topics have queue 0 and %d",
			h.QueueID, receipt.Number, pop.OrderedNumber)
	}
	return k, receipt, err
}

func (v *Service) liteSubscriptions(r *remoting.Request) (*remoting.Response, error) {
	if len(r.Body) == 0 {
		return nil, protocol.Errorf(protocol.RespIllegalOperation, "Request body is null.")
	}
	var body protocol.LiteSubscriptions
	if err := protocol.UnmarshalBody(r.Body, &body); err != nil {
		return nil, err
	}
	if len(body.Set) == 0 {
		return nil, protocol.Errorf(protocol.RespIllegalOperation, "LiteSubscriptionCtlRequestBody is empty.")
	}
	for i := range body.Set {
		e := &body.Set[i]
		if isBlank(e.ClientID) || isBlank(e.Group) || isBlank(e.Topic) {
			v.log.Warn("a lite subscription names no client, group or topic; it is passed over", "client", e.ClientID, "group", e.Group, "topic", e.Topic)
			continue
		}
		if err := v.subscribeLite(r.Conn, e); err != nil {
			return nil, err
		}
	}
	v.table.journal.Confirmed(func(err error) { r.Reply(nil, err) }) // offsets that were reset
	return nil, remoting.ErrLater
}

func isBlank(s string) bool { return strings.TrimSpace(s) == "" }

// illegalLite is the code of what a subscription may not do.
func illegalLite(format string, args ...any) error {
	return protocol.Errorf(protocol.RespIllegalOperation, format, args...)
}

// subscribeLite does what one entry of a subscription asks for.
func (v *Service) subscribeLite(conn *remoting.Conn, e *protocol.LiteSubscription) error {
	if err := errors.Join(v.host.CheckClientID(e.ClientID), message.CheckTopic(e.Topic)); err != nil {
		return illegalLite("%s", err)
	}
	queues := make([]string, len(e.LiteTopics))
	for i, name := range e.LiteTopics {
		if err := message.CheckLite(e.Topic, name); err != nil {
			return illegalLite("%s", err)
		}
		queues[i] = message.LiteQueue(e.Topic, name)
	}
	c := lite.Client{Group: e.Group, ID: e.ClientID}
	switch e.Action {
	case protocol.LitePartialAdd, protocol.LiteCompleteAdd:
		g := v.host.Group(e.Group)
		if g == nil || !g.ConsumeEnable {
			return illegalLite("Consumer group is not allowed to consume. Group %s is to be made, with consumeEnable", e.Group)
		}
		return v.addLites(conn, c, e, g.Attributes, queues)
	case protocol.LitePartialRemove:
		v.lites.mu.Lock()
		ended := v.lites.Remove(c, queues, v.host.Now().UnixMilli())
		v.lites.mu.Unlock()
		if g := v.host.KnownGroup(e.Group); g != nil && g.Attributes[attribute.LiteResetUnsubscribe] == "true" {
			return v.resetLites(c.Group, ended, &toFirst)
		}
		return nil
	case protocol.LiteCompleteRemove:
		v.lites.mu.Lock()
		v.lites.Drop(c)
		v.lites.forget([]lite.Client{c})
		v.lites.mu.Unlock()
		return nil
	default:
		return illegalLite("action %q of client %s: want %s, %s, %s or %s", e.Action, e.ClientID,
			protocol.LitePartialAdd, protocol.LitePartialRemove, protocol.LiteCompleteAdd, protocol.LiteCompleteRemove)
	}
}

// addLites subscribes a client of a group with these attributes to lite topics, and has it served.
func (v *Service) addLites(conn *remoting.Conn, c lite.Client, e *protocol.LiteSubscription, attributes map[string]string, queues []string) error {
	_, wild := attributes[attribute.LiteWildcard]
	partial := e.Action == protocol.LitePartialAdd
	if wild && partial {
		return illegalLite("subscribe lite operation is not supported for this group: %s has %s, its clients get all lite topics; want %s",
			c.Group, attribute.LiteWildcard, protocol.LiteCompleteAdd)
	}
	quota := int(min(attribute.Number(attributes, attribute.LiteClientQuota, liteClientQuota), math.MaxInt32))
	l, now := &v.lites, v.host.Now().UnixMilli()
	var evicted []lite.Eviction
	var err error
	fresh, first := queues, false
	l.mu.Lock()
	switch {
	case wild:
		first, err = l.Share(c, e.Topic, now)
	case partial:
		fresh, evicted, err = l.Add(c, e.Topic, queues, attributes[attribute.LiteModel] == attribute.LiteExclusive, quota, now)
	default:
		fresh, err = l.Replace(c, e.Topic, queues, quota, now)
	}
	if err == nil {
		l.conns[c] = conn
	}
	l.mu.Unlock()
	if err != nil {
		return protocol.Errorf(protocol.RespLiteSubscriptionQuotaExceeded, "%s", err)
	}
	if first {
		fresh = v.store.LightTopics(message.LiteQueues(e.Topic))
	}
	if err := v.evictLites(evicted, attributes); err != nil {
		return err
	}
	if partial && e.Offset != nil {
		if err := v.resetLites(c.Group, queues, e.Offset); err != nil {
			return err
		}
		fresh = queues
	}
	v.dispatchLites(c, e.Topic, fresh)
	return nil
}

// liteClientQuota is how many lite topics a client may subscribe to by default (SubscriptionGroupAttributes).
const liteClientQuota = 2000

// evictLites tells clients that their subscriptions have ended.
func (v *Service) evictLites(evicted []lite.Eviction, attributes map[string]string) error {
	for _, ended := range evicted {
		v.lites.mu.Lock()
		conn := v.lites.conns[ended.Client]
		v.lites.mu.Unlock()
		_, name, _ := message.LiteOf(ended.Topic)
		if conn != nil { // a client that is gone need not know
			_ = conn.OneWay(protocol.NewRequest(protocol.ReqNotifyUnsubscribeLite, &protocol.NotifyUnsubscribeLiteHeader{
				LiteTopic: name, Group: ended.Group, ClientID: ended.ID,
			}))
		}
		if attributes[attribute.LiteResetExclusive] == "true" {
			if err := v.resetLites(ended.Group, []string{ended.Topic}, &toFirst); err != nil {
				return err
			}
		}
	}
	return nil
}

// toFirst sets a group back to what a lite topic has.
var toFirst = protocol.LiteOffset{Type: protocol.LitePolicy, Value: protocol.LitePolicyMin}

// resetLites sets a group where a subscription says in lite topics that are there; what was handed out is over
// (LiteSubscriptionRegistryImpl.resetOffset).
func (v *Service) resetLites(group string, queues []string, to *protocol.LiteOffset) error {
	for _, name := range queues {
		q := v.store.Find(name, 0)
		if q == nil {
			continue
		}
		k := Key{group, name, 0}
		first, end := q.Bounds()
		at, committed := v.host.Offset(k)
		target := at
		switch {
		case to.Type == protocol.LitePolicy && to.Value == protocol.LitePolicyMin:
			target = first
		case to.Type == protocol.LitePolicy && to.Value == protocol.LitePolicyMax:
			target = end
		case to.Type == protocol.LiteAtOffset:
			target = min(max(to.Value, first), end)
		case to.Type == protocol.LiteTail && committed:
			target = min(max(at-max(to.Value, 0), first), end)
		default:
			continue
		}
		if committed && target == at {
			continue
		}
		popped, err := v.table.lock(k)
		if err != nil {
			return err
		}
		v.host.SetOffset(k, target)
		err = v.table.reset(popped, target)
		popped.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// dispatchLites has a client look at those of the light queues that have something for its group.
func (v *Service) dispatchLites(c lite.Client, parent string, queues []string) {
	var some []string
	for _, name := range queues {
		if v.hasLite(Key{c.Group, name, 0}) {
			some = append(some, name)
		}
	}
	v.lites.mu.Lock()
	v.lites.Ready(c, some)
	v.lites.mu.Unlock()
	v.wakeLites(parent, []lite.Client{c})
}

// withLites has f look at the subscribers to lite topics.
func (v *Service) withLites(f func(*lite.Registry)) {
	v.lites.mu.Lock()
	defer v.lites.mu.Unlock()
	f(&v.lites.Registry)
}
