package namesrv

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// registration is what a broker says of itself.
type registration struct {
	key           brokerKey
	name          string
	id            int64
	ha, zone      string
	timeout       time.Duration
	reportsActing bool // it knows acting masters
	actingMaster  bool // and wants one
	topics        map[string]protocol.TopicConfig
	version       protocol.DataVersion
	mappings      map[string]any
	filters       []string
	conn          Peer
	via           netip.Addr
	size          int // bytes of its body
}

// master is what a slave learns of its master.
type master struct{ addr, ha string }

var errRegisterFailed = protocol.Errorf(protocol.RespSystemError, "register broker failed")

// register takes a broker's registration. A broker whose id another address holds with a newer state version is ignored without an
// error, as in RocketMQ.
func (t *table) register(r *registration, now time.Time) (master, effects, error) {
	b := t.brokers[r.name]
	if b != nil && t.newerHolder(b, r) {
		delete(t.live, r.key)
		return master{}, effects{events: []event{{"broker ignored: its id is held with a newer epoch", r.key, r.name, r.id}}}, nil
	}
	if len(r.topics) == 1 && !(b != nil && b.holds(r.id)) {
		return master{}, effects{}, errRegisterFailed // one topic can only be added to a broker that is known whole
	}
	if err := t.checkRoom(r); err != nil {
		return master{}, effects{}, err
	}
	var e effects
	if old := t.live[r.key]; old != nil && old.name != r.name {
		e = t.unregister(brokerRef{r.key, old.name, old.id})
	}
	first, smaller := t.place(r)
	b = t.brokers[r.name]
	if b.owner() == nil && (r.id == masterID || r.reportsActing && r.id == b.minID()) {
		t.takeTopics(b, r, first)
	}
	if t.live[r.key] == nil {
		e.events = append(e.events, event{"broker registered", r.key, r.name, r.id})
	}
	t.live[r.key] = &liveness{name: r.name, id: r.id, last: now, timeout: cmp.Or(r.timeout, brokerTimeoutDefault), version: r.version,
		conn: r.conn, via: r.via, ha: r.ha, filters: r.filters, size: r.size}
	if smaller && t.cfg.NotifyMinBrokerIDChanged {
		e.pushes = append(e.pushes, t.notifyMin(b, nil, r.ha)...)
	}
	return t.masterFor(b, r), e, nil
}

func (b *broker) holds(id int64) bool {
	_, ok := b.addrs[id]
	return ok
}

// newerHolder says whether another address holds the id with a larger state version.
func (t *table) newerHolder(b *broker, r *registration) bool {
	a, ok := b.addrs[r.id]
	if !ok || a == r.key.addr {
		return false
	}
	if a.local != nil {
		return a.local.Topics.DataVersion().StateVersion > r.version.StateVersion
	}
	l := t.live[brokerKey{r.key.cluster, a}]
	return l != nil && l.version.StateVersion > r.version.StateVersion
}

// place puts the address under its id. first: the id was free; smaller: it is below all ids before.
func (t *table) place(r *registration) (first, smaller bool) {
	b := t.brokers[r.name]
	if b == nil {
		b = &broker{name: r.name, cluster: r.key.cluster, addrs: map[int64]address{}}
		t.brokers[r.name] = b
	}
	was := *b
	low := b.minID()
	smaller = len(b.addrs) > 0 && r.id < low
	changed := false
	for id, a := range b.addrs {
		if a == r.key.addr && id != r.id { // a slave that became the master: an address stands once
			delete(b.addrs, id)
			changed = true
		}
	}
	before, held := b.addrs[r.id]
	b.addrs[r.id] = r.key.addr
	t.moveCluster(b, r.key.cluster)
	b.cluster, b.zone, b.actingMaster = r.key.cluster, r.zone, r.actingMaster
	filters := []string(nil)
	if l := t.live[r.key]; l != nil {
		filters = l.filters
	}
	if changed || before != r.key.addr || was.cluster != b.cluster || was.zone != b.zone || was.actingMaster != b.actingMaster || !slices.Equal(filters, r.filters) {
		t.brokersChanged()
	}
	return !held, smaller
}

// moveCluster keeps the broker name's processes known when the name moves to another cluster.
func (t *table) moveCluster(b *broker, cluster string) {
	if b.cluster == cluster {
		return
	}
	for _, a := range b.addrs {
		from := brokerKey{b.cluster, a}
		if l := t.live[from]; l != nil {
			delete(t.live, from)
			t.live[brokerKey{cluster, a}] = l
		}
	}
}

// takeTopics stores the topics of a master, or of the slave that acts for it.
func (t *table) takeTopics(b *broker, r *registration, first bool) {
	old := t.live[r.key]
	changed := first || old == nil || old.version != r.version
	if t.cfg.DeleteTopicWithBrokerRegistration && len(r.mappings) == 0 {
		for topic := range t.topics {
			if _, ok := r.topics[topic]; !ok {
				t.removeQueues(topic, func(name string) bool { return name == r.name })
			}
		}
	}
	readOnly := r.id != masterID && b.actingMaster
	for key, c := range r.topics {
		topic := cmp.Or(c.TopicName, key)
		if message.IsStateTopic(topic) || !changed && t.storedQueues(topic, r.name) != nil {
			continue
		}
		t.storeQueues(topic, queueData(r.name, &c, readOnly))
	}
	if !changed || len(r.mappings) == 0 {
		return
	}
	t.version++
	for topic, m := range r.mappings {
		if t.mappings[topic] == nil {
			t.mappings[topic] = map[string]any{}
		}
		name := r.name
		if info, ok := m.(map[string]any); ok {
			if s, ok := info["bname"].(string); ok {
				name = s
			}
		}
		t.mappings[topic][name] = m
	}
}

func (t *table) masterFor(b *broker, r *registration) master {
	a, ok := b.addrs[masterID]
	if r.id == masterID || !ok {
		return master{}
	}
	if a.local != nil {
		m := master{addr: a.tell(r.via)}
		if a.local.HAPort != 0 {
			m.ha = hostPort(a.local.host(r.via), a.local.HAPort)
		}
		return m
	}
	l := t.live[brokerKey{b.cluster, a}]
	if l == nil {
		return master{}
	}
	return master{a.text, l.ha}
}

// registerLocal puts the broker of this process into the table. Its topics are never stored.
func (t *table) registerLocal(l Local) (effects, error) {
	var mine *localBroker
	if b := t.brokers[l.Name]; b != nil {
		for _, a := range b.addrs {
			if a.local != nil {
				mine = a.local
			}
		}
	}
	if mine == nil {
		mine = &localBroker{}
	}
	r := &registration{key: brokerKey{l.Cluster, address{local: mine}}, name: l.Name, id: l.ID, zone: l.Zone, reportsActing: true,
		actingMaster: l.ActingMaster, version: l.Topics.DataVersion()}
	if b := t.brokers[l.Name]; b != nil && t.newerHolder(b, r) {
		return effects{}, protocol.Errorf(protocol.RespSystemError, "broker %s id %d is held by %s with a newer epoch", l.Name, l.ID, b.addrs[l.ID].text)
	}
	mine.Local = l
	_, smaller := t.place(r)
	t.brokersChanged() // the ports or the host may have changed
	e := effects{events: []event{{"local broker registered", r.key, l.Name, l.ID}}}
	if smaller && t.cfg.NotifyMinBrokerIDChanged {
		e.pushes = t.notifyMin(t.brokers[l.Name], nil, "")
	}
	return e, nil
}

// unregisterLocal takes the local broker out. As for any broker, its topics stay while other ids of its name do.
func (t *table) unregisterLocal(cluster, name string) effects {
	b := t.brokers[name]
	if b == nil || b.cluster != cluster {
		return effects{}
	}
	for id, a := range b.addrs {
		if a.local == nil {
			continue
		}
		owner := b.owner() == a.local
		e := t.unregister(brokerRef{brokerKey{cluster, a}, name, id})
		if owner && t.brokers[name] == b {
			for c := range a.local.Topics.Topics {
				if !message.IsStateTopic(c.TopicName) {
					t.storeQueues(c.TopicName, a.local.data(&c, b.readOnly()))
				}
			}
		}
		return e
	}
	return effects{}
}

// brokerRef is a broker process by everything that it is known by.
type brokerRef struct {
	key  brokerKey
	name string
	id   int64
}

// unregister removes broker processes; with the last address of a broker name its topics go.
func (t *table) unregister(refs ...brokerRef) effects {
	var e effects
	gone := map[string]bool{}
	for _, ref := range refs {
		if l := t.live[ref.key]; l != nil {
			delete(t.live, ref.key)
			e.events = append(e.events, event{"broker unregistered", ref.key, ref.name, ref.id})
		}
		b := t.brokers[ref.name]
		if b == nil {
			continue
		}
		low, wentMin := b.minID(), false
		for id, a := range b.addrs {
			if a == ref.key.addr {
				delete(b.addrs, id)
				wentMin = wentMin || id == low
			}
		}
		switch {
		case len(b.addrs) == 0:
			delete(t.brokers, ref.name)
			gone[ref.name] = true
		case wentMin && b.actingMaster && t.cfg.NotifyMinBrokerIDChanged:
			e.pushes = append(e.pushes, t.notifyMin(b, &ref.key.addr, "")...)
		}
	}
	t.brokersChanged()
	t.cleanTopics(gone, refs)
	return e
}

// cleanTopics removes the queues of broker names that are gone, and the write permission where no master is left.
func (t *table) cleanTopics(gone map[string]bool, refs []brokerRef) {
	readOnly := map[string]bool{}
	for _, ref := range refs {
		if b := t.brokers[ref.name]; b != nil && b.readOnly() {
			readOnly[ref.name] = true
		}
	}
	if len(gone)+len(readOnly) == 0 {
		return
	}
	for topic, queues := range t.topics {
		for i := range queues {
			if readOnly[queues[i].BrokerName] {
				queues[i].Perm &^= protocol.PermWrite
			}
		}
		t.removeQueues(topic, func(name string) bool { return gone[name] })
	}
}

// notifyMin tells brokers of a name that the smallest id changed: those that remain when one went offline, else all but the new one.
func (t *table) notifyMin(b *broker, offline *address, ha string) []push {
	low := b.minID()
	var all []push
	for id, a := range b.addrs {
		if a.local != nil || offline == nil && len(b.addrs) > 1 && id == low {
			continue
		}
		var via netip.Addr
		if l := t.live[brokerKey{b.cluster, a}]; l != nil {
			via = l.via
		}
		h := protocol.NotifyMinBrokerHeader{MinBrokerID: low, BrokerName: b.name, MinBrokerAddr: b.addrs[low].tell(via), HABrokerAddr: ha}
		if offline != nil {
			h.OfflineBrokerAddr = offline.tell(via)
		}
		all = append(all, push{a.text, h})
	}
	slices.SortFunc(all, func(a, b push) int { return cmp.Compare(a.addr, b.addr) })
	return all
}

// touch is a sign of life.
func (t *table) touch(key brokerKey, now time.Time) {
	if l := t.live[key]; l != nil {
		l.last = now
	}
}

// expire unregisters the brokers that fell silent and closes their connections.
func (t *table) expire(now time.Time) effects {
	var e effects
	var refs []brokerRef
	for key, l := range t.live {
		if !l.last.Add(l.timeout).Before(now) {
			continue
		}
		refs = append(refs, brokerRef{key, l.name, l.id})
		if l.conn != nil {
			e.closing = append(e.closing, l.conn)
		}
		e.events = append(e.events, event{"broker expired after " + l.timeout.String(), key, l.name, l.id})
	}
	return t.unregisterAll(refs, e)
}

// closed unregisters the brokers that registered over the connection.
func (t *table) closed(conn Peer) effects {
	var refs []brokerRef
	for key, l := range t.live {
		if l.conn == conn {
			refs = append(refs, brokerRef{key, l.name, l.id})
		}
	}
	return t.unregisterAll(refs, effects{})
}

func (t *table) unregisterAll(refs []brokerRef, e effects) effects {
	if len(refs) == 0 {
		return e
	}
	slices.SortFunc(refs, func(a, b brokerRef) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id)) })
	e.add(t.unregister(refs...))
	return e
}

// setPerms changes the permission of every topic of a broker name, and returns how many there are.
func (t *table) setPerms(name string, change func(perm int32) int32) int32 {
	t.version++
	if b := t.brokers[name]; b != nil {
		if l := b.owner(); l != nil {
			return l.setPerms(b.readOnly(), change)
		}
	}
	count := int32(0)
	for topic := range t.topics {
		if q := t.storedQueues(topic, name); q != nil {
			q.Perm = change(q.Perm)
			count++
		}
	}
	return count
}
