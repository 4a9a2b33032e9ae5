package namesrv

import (
	"hash/crc32"
	"time"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// REGISTER_BROKER (103), UNREGISTER_BROKER (104), QUERY_DATA_VERSION (322), BROKER_HEARTBEAT (904), REGISTER_TOPIC_IN_NAMESRV (217).
//
// A broker sends 103 every 10 to 60 seconds with all its topics, and at once when a topic changes; unless forceRegister is set it
// asks 322 first and leaves 103 out while its data version is known here. Both, and 904, are signs of life. A broker is forgotten
// when it says so, when its connection closes, or when it is silent longer than heartbeatTimeoutMillis (two minutes if it does not
// say). 217 adds one topic. The answer to 103 tells a slave its master, and carries the order configuration of all topics.
//
// Differences from RocketMQ: a request without a required field is refused by the field's name (RocketMQ registers null); 104 and
// closed connections take effect before the answer, not from a queue; a refused registration leaves nothing behind (there: an empty
// broker name); all brokers of a closed connection go, not one; a broker that comes back under another name or cluster leaves the
// old one; 217 for the broker of this process changes nothing, since that broker is always asked itself.

func (n *NameServer) registerBroker(c *call) (*remoting.Response, error) {
	var h protocol.RegisterBrokerHeader
	if err := c.decode(&h); err != nil {
		return nil, err
	}
	if crc := int32(crc32.ChecksumIEEE(c.Body) & 0x7fffffff); h.BodyCRC != 0 && h.BodyCRC != crc {
		return nil, protocol.Errorf(protocol.RespSystemError, "crc32 not match: bodyCrc32 is %d, the body's is %d", h.BodyCRC, crc)
	}
	body, size, err := decodeRegistration(c.Body, h.Compressed)
	if err != nil {
		return nil, err
	}
	r := registration{
		key: brokerKey{h.ClusterName, address{text: h.BrokerAddr}}, name: h.BrokerName, id: h.BrokerID, ha: h.HAServerAddr, zone: h.Zone,
		timeout:       time.Duration(h.HeartbeatTimeoutMS) * time.Millisecond,
		reportsActing: h.EnableActingMaster != "", actingMaster: h.EnableActingMaster == "true",
		topics: body.Topics.Topics, version: body.Topics.DataVersion, mappings: body.Topics.Mapping, filters: body.Filters,
		conn: c.peer, via: c.asker(), size: size,
	}
	n.mu.Lock()
	m, e, err := n.table.register(&r, c.now)
	order, returned := n.table.kv[orderNamespace], n.table.cfg.ReturnOrderTopicConfigToBroker
	watch := n.watch(c.peer)
	n.mu.Unlock()
	watch()
	n.apply(e)
	if err != nil {
		return nil, err
	}
	resp := remoting.Respond(protocol.RespSuccess, &protocol.RegisterBrokerResult{HAServerAddr: m.ha, MasterAddr: m.addr})
	if order != nil && returned {
		resp.Body = protocol.MarshalBody(protocol.KVTable{Table: order})
	}
	return resp, nil
}

func (n *NameServer) unregisterBroker(c *call) (*remoting.Response, error) {
	var h protocol.BrokerHeader
	if err := c.decode(&h, "brokerAddr", "clusterName", "brokerId"); err != nil {
		return nil, err
	}
	n.mu.Lock()
	e := n.table.unregister(brokerRef{brokerKey{h.ClusterName, address{text: h.BrokerAddr}}, h.BrokerName, h.BrokerID})
	n.mu.Unlock()
	n.apply(e)
	return success(), nil
}

func (n *NameServer) queryDataVersion(c *call) (*remoting.Response, error) {
	var h protocol.BrokerHeader
	if err := c.decode(&h, "brokerAddr", "clusterName", "brokerId"); err != nil {
		return nil, err
	}
	var theirs protocol.DataVersion
	if len(c.Body) > 0 {
		if err := protocol.UnmarshalBody(c.Body, &theirs); err != nil {
			return nil, err
		}
	}
	key := brokerKey{h.ClusterName, address{text: h.BrokerAddr}}
	n.mu.Lock()
	n.table.touch(key, c.now)
	var ours *protocol.DataVersion
	if l := n.table.live[key]; l != nil {
		v := l.version
		ours = &v
	}
	n.mu.Unlock()
	changed := ours == nil || len(c.Body) == 0 || *ours != theirs
	resp := remoting.Respond(protocol.RespSuccess, &protocol.DataVersionResult{Changed: changed})
	if ours != nil {
		resp.Body = protocol.MarshalBody(ours)
	}
	return resp, nil
}

func (n *NameServer) heartbeat(c *call) (*remoting.Response, error) {
	var h protocol.BrokerHeader
	if err := c.decode(&h, "clusterName", "brokerAddr"); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.table.touch(brokerKey{h.ClusterName, address{text: h.BrokerAddr}}, c.now)
	n.mu.Unlock()
	return success(), nil
}

func (n *NameServer) registerTopic(c *call) (*remoting.Response, error) {
	var h protocol.DeleteTopicHeader
	if err := c.decode(&h); err != nil {
		return nil, err
	}
	var body protocol.TopicRoute
	if len(c.Body) > 0 {
		if err := protocol.UnmarshalBody(c.Body, &body); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	err := n.table.checkTopicRoom(h.Topic, body.Queues)
	known := err == nil && n.table.addTopic(h.Topic, body.Queues)
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if !known {
		n.o.Log.Warn("topic ignored: one of its brokers is not registered", "topic", h.Topic)
	}
	return success(), nil
}
