package namesrv

import (
	"cmp"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// WIPE_WRITE_PERM_OF_BROKER (205), ADD_WRITE_PERM_OF_BROKER (327), DELETE_TOPIC_IN_NAMESRV (216), and the lists of topics:
// GET_ALL_TOPIC_LIST_FROM_NAMESERVER (206), GET_TOPICS_BY_CLUSTER (224), GET_SYSTEM_TOPIC_LIST_FROM_NS (304), GET_UNIT_TOPIC_LIST (311),
// GET_HAS_UNIT_SUB_TOPIC_LIST (312), GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST (313).
//
// 205 drains a broker: producers leave it, consumers stay. It and 327 change this name server only; a registered broker undoes it for
// all topics when its data version changes, the broker of this process for a topic when that topic changes. 216 forgets a topic until
// a broker registers it again. 304 lists no topic but the names of clusters and brokers, and a broker to ask for the others.
//
// Differences from RocketMQ: lists are sorted; 216 does nothing to a topic that the broker of this process has (there it would come
// back with the next registration); a missing field is refused.

// The bits of a topic's system flag.
const (
	unit    = 1
	unitSub = 2
	bothU   = unit | unitSub
)

var errDisabled = protocol.Errorf(protocol.RespSystemError, "disable")

func (n *NameServer) wipeWritePerm(c *call) (*remoting.Response, error) {
	count, err := n.changePerms(c, func(perm int32) int32 { return perm &^ protocol.PermWrite })
	if err != nil {
		return nil, err
	}
	return remoting.Respond(protocol.RespSuccess, &protocol.WipePermResult{Topics: count}), nil
}

func (n *NameServer) addWritePerm(c *call) (*remoting.Response, error) {
	count, err := n.changePerms(c, func(int32) int32 { return protocol.PermRead | protocol.PermWrite })
	if err != nil {
		return nil, err
	}
	return remoting.Respond(protocol.RespSuccess, &protocol.AddPermResult{Topics: count}), nil
}

func (n *NameServer) changePerms(c *call, change func(perm int32) int32) (int32, error) {
	var h protocol.BrokerHeader
	if err := c.decode(&h); err != nil {
		return 0, err
	}
	n.mu.Lock()
	count := n.table.setPerms(h.BrokerName, change)
	n.mu.Unlock()
	n.o.Log.Info("permissions changed", "request", protocol.RequestCode(c.Code), "broker", h.BrokerName, "topics", count)
	return count, nil
}

func (n *NameServer) deleteTopic(c *call) (*remoting.Response, error) {
	var h protocol.DeleteTopicHeader
	if err := c.decode(&h); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.table.deleteTopic(h.Topic, h.ClusterName)
	n.mu.Unlock()
	return success(), nil
}

func (n *NameServer) allTopics(*call) (*remoting.Response, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.table.cfg.EnableAllTopicList {
		return nil, errDisabled
	}
	return remoting.RespondBody(n.table.topicList(func(protocol.QueueData) bool { return true })), nil
}

func (n *NameServer) clusterTopics(c *call) (*remoting.Response, error) {
	var h protocol.ClusterHeader
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.table.cfg.EnableTopicList {
		return nil, errDisabled
	}
	if err := c.decode(&h); err != nil {
		return nil, err
	}
	return remoting.RespondBody(n.table.topicList(func(q protocol.QueueData) bool {
		b := n.table.brokers[q.BrokerName]
		return b != nil && b.cluster == h.Cluster
	})), nil
}

// flaggedTopics lists the topics whose masked system flag is want.
func (n *NameServer) flaggedTopics(mask, want int32) func(*call) (*remoting.Response, error) {
	return func(*call) (*remoting.Response, error) {
		n.mu.RLock()
		defer n.mu.RUnlock()
		if !n.table.cfg.EnableTopicList {
			return nil, errDisabled
		}
		return remoting.RespondBody(n.table.topicList(func(q protocol.QueueData) bool { return q.SysFlag&mask == want })), nil
	}
}

func (n *NameServer) systemTopics(c *call) (*remoting.Response, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	t := n.table
	set := map[string]struct{}{}
	var ask *broker
	for name, b := range t.brokers {
		set[name], set[b.cluster] = struct{}{}, struct{}{}
		if ask == nil || cmp.Less(name, ask.name) {
			ask = b
		}
	}
	list := protocol.TopicList{Topics: sorted(set)}
	if ask != nil {
		list.BrokerAddr = ask.addrs[ask.minID()].tell(c.asker())
	}
	return remoting.RespondBody(list), nil
}
