package namesrv

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/protocol"
)

// LocalBroker is what the name server reads of the broker of the same process, at every answer and under its own lock: the methods
// must be quick and must not call the name server.
type LocalBroker interface {
	// Topic returns a topic's configuration as a producer that asks now may use it.
	Topic(name string) (protocol.TopicConfig, bool)
	// Topics calls yield for every topic until it returns false.
	Topics(yield func(protocol.TopicConfig) bool)
	// DataVersion is the version of the topics. Its state version (the epoch) decides between two brokers that claim the same id.
	DataVersion() protocol.DataVersion
}

// Local describes the broker of the same process.
type Local struct {
	Cluster, Name string
	ID            int64  // 0 is the master
	Port, HAPort  uint16 // HAPort 0: the broker has no port for replication by RocketMQ's protocol
	AdvertiseHost string // empty: clients are told the local address of their own connection
	Zone          string
	ActingMaster  bool // enableActingMaster in RocketMQ's routes
	Topics        LocalBroker
}

// localBroker is a registered Local and what administrators did to its permissions here.
type localBroker struct {
	Local
	perms map[string]permOverride // by topic
}

// permOverride holds as long as the broker reports the same queues as when it was made.
type permOverride struct {
	seen protocol.QueueData
	perm int32
}

func (l *localBroker) host(asker netip.Addr) string {
	if l.AdvertiseHost != "" {
		return l.AdvertiseHost
	}
	if !asker.IsValid() {
		return "127.0.0.1"
	}
	return asker.Unmap().WithZone("").String()
}

// queues returns the topic's queues on the local broker, masked by readOnly.
func (l *localBroker) queues(topic string, readOnly bool) (protocol.QueueData, bool) {
	c, ok := l.Topics.Topic(topic)
	if !ok {
		return protocol.QueueData{}, false
	}
	return l.data(&c, readOnly), true
}

func (l *localBroker) data(c *protocol.TopicConfig, readOnly bool) protocol.QueueData {
	q := queueData(l.Name, c, readOnly)
	if o, ok := l.perms[c.TopicName]; ok && o.seen == q {
		q.Perm = o.perm
	}
	return q
}

// setPerms replaces the permission of every topic until the broker itself changes the topic.
func (l *localBroker) setPerms(readOnly bool, change func(perm int32) int32) int32 {
	perms := map[string]permOverride{}
	l.Topics.Topics(func(c protocol.TopicConfig) bool {
		perms[c.TopicName] = permOverride{queueData(l.Name, &c, readOnly), change(l.data(&c, readOnly).Perm)}
		return true
	})
	l.perms = perms
	return int32(len(perms))
}

// address is where a broker listens. A local broker's is told per connection.
type address struct {
	text  string
	local *localBroker
}

func (a address) tell(asker netip.Addr) string {
	if a.local == nil {
		return a.text
	}
	return hostPort(a.local.host(asker), a.local.Port)
}

func hostPort(host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}

// RegisterLocal makes the broker of this process known, or replaces what was said of it: call it again whenever its id, zone or
// ports change. It fails when another broker holds the id with a newer epoch.
func (n *NameServer) RegisterLocal(l Local) error {
	n.mu.Lock()
	e, err := n.table.registerLocal(l)
	n.mu.Unlock()
	n.apply(e)
	return err
}

// UnregisterLocal forgets the broker of this process.
func (n *NameServer) UnregisterLocal(cluster, name string) {
	n.mu.Lock()
	e := n.table.unregisterLocal(cluster, name)
	n.mu.Unlock()
	n.apply(e)
}

// Route returns a topic's route as a client connected to the local address host is told it, for callers of the same process.
func (n *NameServer) Route(topic string, host netip.Addr) (protocol.TopicRoute, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.table.route(topic, host, "")
}
