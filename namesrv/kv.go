package namesrv

import (
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// PUT_KV_CONFIG (100), GET_KV_CONFIG (101), DELETE_KV_CONFIG (102), GET_KVLIST_BY_NAMESPACE (219).
//
// Text by namespace and key; tools write it to every name server. Namespace ORDER_TOPIC_CONFIG holds the order configuration of
// topics, which goes out with registrations and, with orderMessageEnable, with routes. A missing pair or namespace is
// QUERY_NOT_FOUND; deleting it succeeds; a namespace whose last pair was deleted is an empty table.
//
// Differences from RocketMQ: a change is on disk before it is answered or visible, and a failed write is an error; a missing field
// is refused.

func (n *NameServer) putKV(c *call) (*remoting.Response, error) {
	var h protocol.KVHeader
	if err := c.decode(&h, "key", "value"); err != nil {
		return nil, err
	}
	return n.changeKV(func(kv keyValues) keyValues { return kv.with(h.Namespace, h.Key, h.Value) })
}

func (n *NameServer) deleteKV(c *call) (*remoting.Response, error) {
	var h protocol.KVHeader
	if err := c.decode(&h, "key"); err != nil {
		return nil, err
	}
	return n.changeKV(func(kv keyValues) keyValues { return kv.without(h.Namespace, h.Key) })
}

func (n *NameServer) changeKV(change func(keyValues) keyValues) (*remoting.Response, error) {
	n.fileMu.Lock()
	defer n.fileMu.Unlock()
	next := change(n.keyValues())
	if err := saveKV(n.o.FS, n.o.Dir, next); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.table.kv = next
	n.table.version++
	n.mu.Unlock()
	return success(), nil
}

func (n *NameServer) keyValues() keyValues {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.table.kv
}

func (n *NameServer) getKV(c *call) (*remoting.Response, error) {
	var h protocol.KVHeader
	if err := c.decode(&h, "key"); err != nil {
		return nil, err
	}
	value, ok := n.keyValues()[h.Namespace][h.Key]
	if !ok {
		return nil, protocol.Errorf(protocol.RespQueryNotFound, "No config item, Namespace: %s Key: %s", h.Namespace, h.Key)
	}
	resp := success()
	resp.Fields.Add("value", value) // empty text is a value
	return resp, nil
}

func (n *NameServer) listKV(c *call) (*remoting.Response, error) {
	var h protocol.KVHeader
	if err := c.decode(&h); err != nil {
		return nil, err
	}
	table, ok := n.keyValues()[h.Namespace]
	if !ok {
		return nil, protocol.Errorf(protocol.RespQueryNotFound, "No config item, Namespace: %s", h.Namespace)
	}
	return remoting.RespondBody(protocol.KVTable{Table: table}), nil
}
