package namesrv

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// noActingMaster begins the topic in which brokers of a name find each other: its route shows the ids as they are.
const noActingMaster = "rmq_sys_SYNC_BROKER_MEMBER_"

// orderNamespace holds the order configuration: by topic, "brokerA:8;brokerB:8".
const orderNamespace = "ORDER_TOPIC_CONFIG"

// route returns a topic's route as told to a client that reached the local address asker; zone, if set, removes other zones' brokers.
func (t *table) route(topic string, asker netip.Addr, zone string) (protocol.TopicRoute, bool) {
	if message.IsStateTopic(topic) {
		return protocol.TopicRoute{}, false
	}
	r := protocol.TopicRoute{Queues: t.queues(topic), Brokers: []protocol.BrokerData{}, Filters: map[string][]string{}, Mapping: t.mappings[topic]}
	for _, q := range r.Queues {
		b := t.brokers[q.BrokerName]
		if b == nil {
			continue
		}
		r.Brokers = append(r.Brokers, b.data(asker))
		for _, a := range b.addrs {
			if l := t.live[brokerKey{b.cluster, a}]; l != nil && len(l.filters) > 0 {
				r.Filters[a.text] = l.filters
			}
		}
	}
	if len(r.Brokers) == 0 {
		return protocol.TopicRoute{}, false
	}
	if t.cfg.SupportActingMaster && !strings.HasPrefix(topic, noActingMaster) {
		actMaster(&r)
	}
	if t.cfg.OrderMessageEnable {
		r.OrderConf = t.kv[orderNamespace][topic]
	}
	if zone != "" {
		keepZone(&r, zone)
	}
	return r, true
}

// queues returns the topic's queues, ordered by broker name.
func (t *table) queues(topic string) []protocol.QueueData {
	all := slices.Clone(t.topics[topic])
	for _, l := range t.owners {
		if q, ok := l.queues(topic, t.brokers[l.Name].readOnly()); ok {
			i, _ := slices.BinarySearchFunc(all, l.Name, byBrokerName)
			all = slices.Insert(all, i, q)
		}
	}
	return all
}

func (b *broker) data(asker netip.Addr) protocol.BrokerData {
	return protocol.BrokerData{Cluster: b.cluster, BrokerName: b.name, Addrs: b.tell(asker), Zone: b.zone, EnableActingMaster: b.actingMaster}
}

func (b *broker) tell(asker netip.Addr) map[int64]string {
	addrs := make(map[int64]string, len(b.addrs))
	for id, a := range b.addrs {
		addrs[id] = a.tell(asker)
	}
	return addrs
}

// actMaster shows the smallest id as the master where there is none and the queues are read-only.
func actMaster(r *protocol.TopicRoute) {
	for _, b := range r.Brokers {
		if _, ok := b.Addrs[masterID]; ok || !b.EnableActingMaster || len(b.Addrs) == 0 {
			continue
		}
		i := slices.IndexFunc(r.Queues, func(q protocol.QueueData) bool { return q.BrokerName == b.BrokerName })
		if i < 0 || r.Queues[i].Perm&protocol.PermWrite != 0 {
			continue
		}
		low := slices.Min(slices.Collect(maps.Keys(b.Addrs)))
		b.Addrs[masterID] = b.Addrs[low]
		delete(b.Addrs, low)
	}
}

// keepZone removes the brokers of other zones, but not one that lost its master: its slaves serve everybody.
func keepZone(r *protocol.TopicRoute, zone string) {
	removed := map[string]bool{}
	r.Brokers = slices.DeleteFunc(r.Brokers, func(b protocol.BrokerData) bool {
		if _, ok := b.Addrs[masterID]; !ok || strings.EqualFold(b.Zone, zone) {
			return false
		}
		removed[b.BrokerName] = true
		for _, addr := range b.Addrs {
			delete(r.Filters, addr)
		}
		return true
	})
	r.Queues = slices.DeleteFunc(r.Queues, func(q protocol.QueueData) bool { return removed[q.BrokerName] })
}

// addTopic stores one topic's queues, if all their brokers are known.
func (t *table) addTopic(topic string, queues []protocol.QueueData) bool {
	if message.IsStateTopic(topic) {
		return false
	}
	for _, q := range queues {
		if t.brokers[q.BrokerName] == nil {
			return false
		}
	}
	for _, q := range queues {
		if !t.owned(q.BrokerName) { // the local broker is asked itself
			q.SysFlag |= q.SynFlag
			q.SynFlag = q.SysFlag
			t.storeQueues(topic, q)
		}
	}
	return true
}

// deleteTopic forgets a topic's queues, in one cluster if it is named.
func (t *table) deleteTopic(topic, cluster string) {
	t.removeQueues(topic, func(name string) bool {
		b := t.brokers[name]
		return cluster == "" || b != nil && b.cluster == cluster
	})
}

func (t *table) clusterInfo(asker netip.Addr) protocol.ClusterInfo {
	c := protocol.ClusterInfo{Brokers: map[string]protocol.BrokerData{}, Clusters: t.clusters()}
	for name, b := range t.brokers {
		c.Brokers[name] = b.data(asker)
	}
	return c
}

func (t *table) memberGroup(cluster, name string, asker netip.Addr) protocol.BrokerMemberGroup {
	var g protocol.BrokerMemberGroup
	g.Group.Cluster, g.Group.BrokerName, g.Group.Addrs = cluster, name, map[int64]string{}
	if b := t.brokers[name]; b != nil {
		g.Group.Addrs = b.tell(asker)
	}
	return g
}
