package namesrv

import (
	"net/netip"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// GET_ROUTEINFO_BY_TOPIC (105).
//
// Every client asks for the routes of its topics when it starts and every 30 seconds. The answer names the queues and the addresses
// by broker id. A topic that does not exist is TOPIC_NOT_EXIST: a producer then asks for TBW102 and sends there, which creates it.
// With __ZONE_MODE=true and __ZONE_NAME only brokers of that zone are told, and those that lost their master.
//
// Differences from RocketMQ: broker ids are always quoted (there: not for clients before 4.9.4 that do not ask for standard JSON,
// and not in zone mode; every client reads quoted ids). Each queue carries topicSysFlag and, for 4.x clients, topicSynFlag. Brokers
// are ordered by name. The broker of this process has the address by which the client reached this process, unless it advertises one.

const noRoute = "No topic route info in name server for the topic: %s\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."

func (n *NameServer) routeInfo(c *call) (*remoting.Response, error) {
	var h protocol.RouteHeader
	if err := c.decode(&h); err != nil {
		return nil, err
	}
	if !h.ZoneMode {
		h.Zone = ""
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if cfg := &n.table.cfg; cfg.NeedWaitForService && c.now.Sub(n.o.Started) < cfg.WaitForService {
		return nil, protocol.Errorf(protocol.RespSystemError, "name server not ready")
	}
	body := n.routeBody(h.Topic, c.asker(), h.Zone)
	if body == nil {
		return nil, protocol.Errorf(protocol.RespTopicNotExist, noRoute, h.Topic)
	}
	resp := success()
	resp.Body = body
	return resp, nil
}

// routeBody returns the marshalled route, nil when there is none. The caller holds mu.
func (n *NameServer) routeBody(topic string, asker netip.Addr, zone string) []byte {
	t := n.table
	k := routeKey{topic: topic}
	if len(t.owners) > 0 {
		k.asker = asker
	}
	var local protocol.QueueData
	if len(t.owners) == 1 {
		l := t.owners[0]
		local, _ = l.queues(topic, t.brokers[l.Name].readOnly())
	}
	kept := zone == "" && len(t.owners) <= 1
	if kept {
		if b := n.cache.get(k, t.version, local); b != nil {
			return b
		}
	}
	r, ok := t.route(topic, asker, zone)
	if !ok {
		return nil
	}
	b := protocol.MarshalBody(r)
	if kept {
		n.cache.put(k, cachedRoute{t.version, local, b})
	}
	return b
}
