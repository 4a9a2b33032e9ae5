package namesrv

import (
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// GET_BROKER_CLUSTER_INFO (106), GET_BROKER_MEMBER_GROUP (901).
//
// 106 is every tool's first request: all brokers with their addresses, all clusters with their brokers. 901 tells a broker the
// addresses of its own name; an unknown name is a group without members, not an error. Broker ids are quoted.

func (n *NameServer) clusterInfo(c *call) (*remoting.Response, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return remoting.RespondBody(n.table.clusterInfo(c.asker())), nil
}

func (n *NameServer) memberGroup(c *call) (*remoting.Response, error) {
	var h protocol.BrokerHeader
	if err := c.decode(&h, "clusterName"); err != nil {
		return nil, err
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return remoting.RespondBody(n.table.memberGroup(h.ClusterName, h.BrokerName, c.asker())), nil
}
