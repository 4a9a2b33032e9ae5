package broker

import (
	"sync"
	"time"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Clients: HEART_BEAT (34), UNREGISTER_CLIENT (35), GET_CONSUMER_LIST_BY_GROUP (38); pushed to clients: NOTIFY_CONSUMER_IDS_CHANGED (40).
//
// What clients see: a member joins a group with its first heartbeat and leaves it with UNREGISTER_CLIENT, when its connection closes, or
// when it has been silent for 120 s; the other members are told at once, unless the group broadcasts. The last heartbeat's subscriptions
// are the group's. Heartbeat V2 (a fingerprint, and later heartbeats without subscriptions) as in ClientManageProcessor.heartBeatV2.

const (
	// clientExpiry is how long a silent client stays a member (ConsumerManager.CHANNEL_EXPIRED_TIMEOUT).
	clientExpiry = 120 * time.Second
	// clientScan is how often silent clients are looked for.
	clientScan = 10 * time.Second
)

// client is a member of a group on one connection.
type client struct {
	id       string
	conn     *remoting.Conn
	language protocol.Language
	version  int32
	seen     time.Time
}

// membership is the groups that a connection is in.
type membership struct {
	consumers, producers map[string]struct{}
	id                   string // of the client, once it is a producer
}

// consumerGroup is a group with its live members.
type consumerGroup struct {
	members       map[*remoting.Conn]*client
	consumeType   string
	model         string
	fromWhere     string
	subscriptions map[string]*subscription // by topic
	fingerprint   int64
}

type clientTable struct {
	b *Broker

	mu        sync.Mutex // guards what follows
	consumers map[string]*consumerGroup
	producers map[string]map[*remoting.Conn]*client
	byID      map[string]*remoting.Conn      // where clients that are producers are reached
	known     map[*remoting.Conn]*membership // connections that sent a heartbeat, until they end
	lastScan  time.Time
}

func newClientTable(b *Broker) *clientTable {
	return &clientTable{
		b: b, consumers: map[string]*consumerGroup{}, producers: map[string]map[*remoting.Conn]*client{},
		byID: map[string]*remoting.Conn{}, known: map[*remoting.Conn]*membership{},
	}
}

func (t *clientTable) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}

// subscription returns what a group wants of a topic; found tells whether the group has members or was seen at all.
func (t *clientTable) subscription(group, topic string) (s *subscription, model string, found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.consumers[group]
	if g == nil {
		return nil, "", false
	}
	return g.subscriptions[topic], g.model, true
}

// consumeType returns how a group consumes, as its last heartbeat said; empty when it has no members.
func (t *clientTable) consumeType(group string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.consumers[group]; g != nil {
		return g.consumeType
	}
	return ""
}

// subscribed tells whether live members of a group want a topic.
func (t *clientTable) subscribed(group, topic string) bool {
	s, _, _ := t.subscription(group, topic)
	return s != nil
}

// notice is a change of a group that its members are to be told of.
type notice struct {
	group   string
	members []*remoting.Conn
}

// changed collects whom to tell. The caller holds mu.
func (t *clientTable) changed(group string, g *consumerGroup) *notice {
	if g.model == protocol.ModelBroadcasting {
		return nil
	}
	n := &notice{group: group}
	for conn := range g.members {
		n.members = append(n.members, conn)
	}
	return n
}

// tell pushes NOTIFY_CONSUMER_IDS_CHANGED to the members of changed groups.
func (t *clientTable) tell(notices []*notice) {
	for _, n := range notices {
		if n == nil {
			continue
		}
		for _, conn := range n.members {
			// A connection that is gone has its own notice coming.
			_ = conn.OneWay(protocol.NewRequest(protocol.ReqNotifyConsumerIDsChanged, &protocol.GroupHeader{Group: n.group}))
		}
	}
}

func (b *Broker) heartbeat(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.Heartbeat
	if err := protocol.UnmarshalBody(r.Body, &h); err != nil {
		return nil, err
	}
	if err := checkHeartbeat(&h); err != nil {
		return nil, err
	}
	if err := b.clients.watch(r.Conn, &h); err != nil {
		return nil, err
	}
	changed := h.Fingerprint == 0
	var notices []*notice
	for i := range h.Consumers {
		c := &h.Consumers[i]
		config := b.groups.find(c.Group)
		if config == nil {
			continue
		}
		if config.RetryQueues > 0 {
			if _, err := b.topics.ensure("%RETRY%"+c.Group, config.RetryQueues); err != nil {
				return nil, sendFailure(err)
			}
		}
		differs, n := b.clients.joinConsumer(r, &h, c)
		if !(h.WithoutSub || h.IsWithoutSub) {
			b.filters.Register(c.Group, c.Subscriptions)
		}
		changed = changed || differs
		if config.NotifyConsumerIDsChanged {
			notices = append(notices, n)
		}
	}
	b.clients.joinProducers(r, &h)
	// The answer goes first: Java's client drops a change notice that comes while its own heartbeat is under way, and then is refused
	// with SUBSCRIPTION_NOT_LATEST until the next one.
	r.Reply(remoting.Respond(protocol.RespSuccess, &protocol.HeartbeatResult{SupportsV2: true, SubscriptionChanged: changed}), nil)
	b.clients.tell(notices)
	return nil, remoting.ErrLater
}

// joinConsumer enters a heartbeat of one group. differs: this one's subscriptions may not be the group's (heartbeat V2), as another
// member's heartbeat came between, or as it has none: after a restart, or once all members were gone. RocketMQ forgets the latter, and
// its clients, which send subscriptions only when told, pull in vain.
func (t *clientTable) joinConsumer(r *remoting.Request, h *protocol.Heartbeat, c *protocol.ConsumerData) (differs bool, n *notice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.known[r.Conn]
	if m == nil { // the connection has ended meanwhile
		return false, nil
	}
	m.consumers[c.Group] = struct{}{}
	g := t.consumers[c.Group]
	if g == nil {
		g = &consumerGroup{members: map[*remoting.Conn]*client{}, subscriptions: map[string]*subscription{}, fingerprint: h.Fingerprint}
		t.consumers[c.Group] = g
	}
	withoutSub := h.WithoutSub || h.IsWithoutSub
	differs = h.Fingerprint != 0 && (g.fingerprint != h.Fingerprint || withoutSub && len(g.subscriptions) == 0)
	g.fingerprint = h.Fingerprint
	g.consumeType, g.model, g.fromWhere = c.ConsumeType, c.Model, c.FromWhere
	joined := t.touch(g.members, r, h.ClientID)
	subscribed := false
	if !withoutSub {
		subscribed = g.subscribe(c.Subscriptions)
	}
	if joined || subscribed {
		n = t.changed(c.Group, g)
	}
	return differs, n
}

// touch notes a sign of life; true for a new member. The caller holds mu.
func (t *clientTable) touch(members map[*remoting.Conn]*client, r *remoting.Request, id string) bool {
	now := t.b.c.Now()
	if m := members[r.Conn]; m != nil && m.id == id {
		m.seen = now
		return false
	}
	members[r.Conn] = &client{id: id, conn: r.Conn, language: r.Language, version: r.Version, seen: now}
	return true
}

// watch has a connection taken out of its groups when it ends. It refuses a heartbeat that would bring it into too many.
func (t *clientTable) watch(conn *remoting.Conn, h *protocol.Heartbeat) error {
	t.mu.Lock()
	m := t.known[conn]
	first := m == nil
	if first {
		m = &membership{consumers: map[string]struct{}{}, producers: map[string]struct{}{}}
		t.known[conn] = m
	}
	n := len(m.consumers) + len(m.producers)
	for i := range h.Consumers {
		if _, ok := m.consumers[h.Consumers[i].Group]; !ok {
			n++
		}
	}
	for _, p := range h.Producers {
		if _, ok := m.producers[p.Group]; !ok {
			n++
		}
	}
	t.mu.Unlock()
	if first {
		conn.OnClose(func() { t.disconnected(conn) })
	}
	if n > clientGroupsMax {
		return protocol.Errorf(protocol.RespInvalidParameter, "the connection of client %s would be in %d groups, the limit is clientGroupsMax=%d; use more clients", h.ClientID, n, clientGroupsMax)
	}
	return nil
}

// subscribe takes over a member's subscriptions; true when topics came or went (ConsumerGroupInfo.updateSubscription).
func (g *consumerGroup) subscribe(list []protocol.SubscriptionData) bool {
	changed := false
	wanted := make(map[string]bool, len(list))
	for i := range list {
		d := &list[i]
		wanted[d.Topic] = true
		old := g.subscriptions[d.Topic]
		if old == nil {
			changed = true
		}
		if old == nil || d.Version > old.data.Version {
			g.subscriptions[d.Topic] = newSubscription(*d)
		}
	}
	for topic := range g.subscriptions {
		if !wanted[topic] {
			delete(g.subscriptions, topic)
			changed = true
		}
	}
	return changed
}

func (t *clientTable) joinProducers(r *remoting.Request, h *protocol.Heartbeat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.known[r.Conn]
	if m == nil { // the connection has ended meanwhile
		return
	}
	if len(h.Producers) > 0 {
		t.unreachable(m, r.Conn)
		m.id, t.byID[h.ClientID] = h.ClientID, r.Conn
	}
	for _, p := range h.Producers {
		m.producers[p.Group] = struct{}{}
		members := t.producers[p.Group]
		if members == nil {
			members = map[*remoting.Conn]*client{}
			t.producers[p.Group] = members
		}
		t.touch(members, r, h.ClientID)
	}
}

func (b *Broker) unregisterClient(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.UnregisterClientHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	b.clients.leave(r.Conn, h.ProducerGroup, h.ConsumerGroup)
	return nil, nil
}

// leave takes a connection out of a producer and a consumer group.
func (t *clientTable) leave(conn *remoting.Conn, producers, consumers string) {
	t.mu.Lock()
	t.dropProducer(producers, conn)
	n := t.dropConsumer(consumers, conn)
	t.mu.Unlock()
	t.tell([]*notice{n})
}

// reach returns the connection of a client that is a producer, nil when there is none (ProducerManager.findChannel).
func (t *clientTable) reach(id string) *remoting.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// unreachable forgets the client's id that stands for a connection. The caller holds mu.
func (t *clientTable) unreachable(m *membership, conn *remoting.Conn) {
	if t.byID[m.id] == conn {
		delete(t.byID, m.id)
	}
}

func (t *clientTable) dropProducer(group string, conn *remoting.Conn) {
	if m := t.known[conn]; m != nil {
		if delete(m.producers, group); len(m.producers) == 0 {
			t.unreachable(m, conn)
		}
	}
	if members := t.producers[group]; members != nil {
		if delete(members, conn); len(members) == 0 {
			delete(t.producers, group)
		}
	}
}

func (t *clientTable) dropConsumer(group string, conn *remoting.Conn) *notice {
	g := t.consumers[group]
	if g == nil || g.members[conn] == nil {
		return nil
	}
	delete(g.members, conn)
	if m := t.known[conn]; m != nil {
		delete(m.consumers, group)
	}
	n := t.changed(group, g)
	if len(g.members) == 0 {
		delete(t.consumers, group)
	}
	return n
}

// disconnected takes a connection out of every group.
func (t *clientTable) disconnected(conn *remoting.Conn) {
	var notices []*notice
	t.mu.Lock()
	m := t.known[conn]
	delete(t.known, conn)
	t.unreachable(m, conn)
	for group := range m.producers {
		t.dropProducer(group, conn)
	}
	for group := range m.consumers {
		notices = append(notices, t.dropConsumer(group, conn))
	}
	t.mu.Unlock()
	t.tell(notices)
}

// tick takes silent members out.
func (t *clientTable) tick(now time.Time) {
	var silent []*remoting.Conn
	t.mu.Lock()
	if now.Sub(t.lastScan) < clientScan {
		t.mu.Unlock()
		return
	}
	t.lastScan = now
	var notices []*notice
	for group, g := range t.consumers {
		for conn, m := range g.members {
			if now.Sub(m.seen) > clientExpiry {
				notices = append(notices, t.dropConsumer(group, conn))
				silent = append(silent, conn)
			}
		}
	}
	for group, members := range t.producers {
		for conn, m := range members {
			if now.Sub(m.seen) > clientExpiry {
				t.dropProducer(group, conn)
				silent = append(silent, conn)
			}
		}
	}
	t.mu.Unlock()
	t.tell(notices)
	for _, conn := range silent {
		conn.Close("no heartbeat for " + clientExpiry.String())
	}
}

// ids returns the ids of a group's members.
func (t *clientTable) ids(group string) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.consumers[group]; g != nil {
		for _, m := range g.members {
			ids = append(ids, m.id)
		}
	}
	return ids
}

func (b *Broker) consumerList(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.GroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	list := protocol.ConsumerList{IDs: b.clients.ids(h.Group)}
	if len(list.IDs) == 0 {
		return nil, protocol.Errorf(protocol.RespSystemError, "no consumer for this group, %s", h.Group)
	}
	return remoting.RespondBody(list), nil
}
