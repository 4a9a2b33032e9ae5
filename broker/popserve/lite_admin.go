package popserve

import (
	"cmp"
	"context"
	"slices"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/broker/lite"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Lite topics, for administrators: GET_BROKER_LITE_INFO (200074), GET_PARENT_TOPIC_INFO (200075), GET_LITE_TOPIC_INFO (200076),
// GET_LITE_CLIENT_INFO (200077), GET_LITE_GROUP_INFO (200078), TRIGGER_LITE_DISPATCH (200079).
//
// What clients see: LiteManagerProcessor's answers. Differences: a broker has the subscriptions to all lite topics of a parent, be they
// another broker's (shardingToBroker says whose a lite topic is), and a client's count is that; the lite topics that a group is behind in
// for the longest time are not listed, as in RocketMQ without liteLagLatencyCollectEnable.

// liteNamesMax bounds the lite topics that one answer names.
const liteNamesMax = 10_000

func (v *Service) liteRoutes() []remoting.Route {
	const admin, get = remoting.LaneAdmin, remoting.ActionGet
	return []remoting.Route{
		{Code: protocol.ReqGetBrokerLiteInfo, Lane: admin, Action: get, Handle: v.brokerLiteInfo},
		{Code: protocol.ReqGetParentTopicInfo, Lane: admin, Action: get, Handle: v.parentTopicInfo},
		{Code: protocol.ReqGetLiteTopicInfo, Lane: admin, Action: get, Handle: v.liteTopicInfo},
		{Code: protocol.ReqGetLiteClientInfo, Lane: admin, Action: get, Handle: v.liteClientInfo},
		{Code: protocol.ReqGetLiteGroupInfo, Lane: admin, Action: get, Handle: v.liteGroupInfo},
		{Code: protocol.ReqTriggerLiteDispatch, Lane: admin, Action: remoting.ActionUpdate, Handle: v.liteDispatch},
	}
}

func (v *Service) brokerLiteInfo(*remoting.Request) (*remoting.Response, error) {
	info := protocol.BrokerLiteInfo{StoreType: "default", LightMax: v.host.Settings().LightQueuesMax, Light: v.store.LightQueues()}
	v.withLites(func(r *lite.Registry) { info.Subscriptions, info.Events = r.Count() })
	info.Orders = v.countLites()
	info.Topics, info.Groups = v.host.LiteParents()
	info.Offsets = v.host.CountOffsets()
	info.Queues = v.host.CountTopics() + info.Light
	return remoting.RespondBody(info), nil
}

func (v *Service) parentTopicInfo(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TopicHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if _, err := v.liteParent(h.Topic); err != nil {
		return nil, err
	}
	minutes, groups := v.host.LiteParents()
	return remoting.RespondBody(protocol.ParentTopicInfo{
		Topic: h.Topic, TTL: minutes[h.Topic], Groups: groups[h.Topic], Light: v.store.LightQueues(),
		LiteTopics: len(v.store.LightTopics(message.LiteQueues(h.Topic))),
	}), nil
}

func (v *Service) liteTopicInfo(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.LiteTopicHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if _, err := v.liteParent(h.Parent); err != nil {
		return nil, err
	}
	info := protocol.LiteTopicInfo{Parent: h.Parent, LiteTopic: h.LiteTopic, Subscribers: []protocol.ClientGroup{}}
	name := message.LiteQueue(h.Parent, h.LiteTopic)
	if q := v.store.Find(name, 0); q != nil {
		if info.Offset.Min, info.Offset.Max = q.Bounds(); info.Offset.Max > info.Offset.Min {
			info.Offset.LastUpdate, _ = v.store.StoreTime(q, info.Offset.Max-1) // 0: it is gone
		}
	}
	v.withLites(func(r *lite.Registry) {
		for _, c := range r.Subscribers(h.Parent, name) {
			info.Subscribers = append(info.Subscribers, protocol.ClientGroup{ClientID: c.ID, Group: c.Group})
		}
	})
	slices.SortFunc(info.Subscribers, func(x, y protocol.ClientGroup) int {
		return cmp.Or(cmp.Compare(x.Group, y.Group), cmp.Compare(x.ClientID, y.ClientID))
	})
	info.Here = v.ownerOfLite(h.Parent, h.LiteTopic) == v.host.Name()
	return remoting.RespondBody(info), nil
}

// ownerOfLite returns the broker that producers send a lite topic to (LiteShardingImpl): this one where no route is known.
func (v *Service) ownerOfLite(parent, name string) string {
	queues, err := v.host.Routed(context.Background(), parent)
	if err != nil || len(queues) == 0 {
		return v.host.Name()
	}
	slices.SortFunc(queues, func(x, y protocol.MessageQueue) int {
		return cmp.Or(cmp.Compare(x.BrokerName, y.BrokerName), cmp.Compare(x.QueueID, y.QueueID))
	})
	return queues[lite.Shard(message.JavaHash([]byte(name)), len(queues))].BrokerName
}

// liteGroup returns a group that consumes lite topics, and their parent.
func (v *Service) liteGroup(name string) (*protocol.SubscriptionGroupConfig, string, error) {
	g := v.host.Group(name)
	if g == nil {
		return nil, "", protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "Group [%s] not exist.", name)
	}
	parent := g.Attributes[attribute.LiteBindTopic]
	if parent == "" {
		return nil, "", protocol.Errorf(protocol.RespInvalidParameter, "Group [%s] is not a LITE group. It is to have %s", name, attribute.LiteBindTopic)
	}
	return g, parent, nil
}

func (v *Service) liteClientInfo(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.LiteClientHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	if _, err := v.liteParent(h.Parent); err != nil {
		return nil, err
	}
	g := v.host.Group(h.Group)
	if g == nil {
		return nil, protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "Group [%s] not exist.", h.Group)
	}
	if g.Attributes[attribute.LiteBindTopic] != h.Parent {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "Subscription [%s]-[%s] not match. The group's %s is %q",
			h.Group, h.Parent, attribute.LiteBindTopic, g.Attributes[attribute.LiteBindTopic])
	}
	info := protocol.LiteClientInfo{Parent: h.Parent, Group: h.Group, ClientID: h.ClientID, Accessed: -1, Count: -1}
	v.withLites(func(r *lite.Registry) {
		if topics, polled, ok := r.Info(lite.Client{Group: h.Group, ID: h.ClientID}); ok {
			info.Count, info.LiteTopics = len(topics), topics[:max(0, min(len(topics), int(h.Most), liteNamesMax))]
			info.Accessed = cmp.Or(polled, -1)
		}
	})
	return remoting.RespondBody(info), nil
}

func (v *Service) liteGroupInfo(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.LiteGroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	_, parent, err := v.liteGroup(h.Group)
	if err != nil {
		return nil, err
	}
	info := protocol.LiteGroupInfo{Group: h.Group, Parent: parent, LiteTopic: h.LiteTopic, Earliest: -1}
	if h.LiteTopic != "" {
		v.lagOf(&info)
		return remoting.RespondBody(info), nil
	}
	if h.Most < 1 || h.Most > liteNamesMax {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "topK is %d; 1 to liteNamesMax=%d are possible", h.Most, liteNamesMax)
	}
	info.MostLag, info.Oldest = []protocol.LiteLag{}, []protocol.LiteLag{}
	for _, name := range v.host.TopicsOf(h.Group) {
		_, liteTopic, ok := message.LiteOf(name)
		q := v.store.Find(name, 0)
		if !ok || q == nil {
			continue
		}
		offset, _ := v.host.Offset(Key{h.Group, name, 0})
		if _, end := q.Bounds(); end > offset {
			info.Lag += end - offset
			info.MostLag = append(info.MostLag, protocol.LiteLag{LiteTopic: liteTopic, Lag: end - offset})
		}
	}
	slices.SortStableFunc(info.MostLag, func(x, y protocol.LiteLag) int { return cmp.Compare(y.Lag, x.Lag) })
	info.MostLag = info.MostLag[:min(len(info.MostLag), int(h.Most))]
	for i := range info.MostLag {
		l := &info.MostLag[i]
		k := Key{h.Group, message.LiteQueue(parent, l.LiteTopic), 0}
		offset, _ := v.host.Offset(k)
		l.Earliest = v.storedAt(v.store.Find(k.Topic, 0), offset)
	}
	return remoting.RespondBody(info), nil
}

// lagOf says how far the group is behind in the lite topic.
func (v *Service) lagOf(info *protocol.LiteGroupInfo) {
	name := message.LiteQueue(info.Parent, info.LiteTopic)
	q := v.store.Find(name, 0)
	if q == nil {
		info.Lag = -1
		return
	}
	_, end := q.Bounds()
	if offset, ok := v.host.Offset(Key{info.Group, name, 0}); ok {
		info.Lag, info.Earliest = end-offset, v.storedAt(q, offset)
		info.Offset = &protocol.OffsetWrapper{Broker: end, Consumer: offset}
		if offset > 0 {
			info.Offset.LastTimestamp = v.storedAt(q, offset-1)
		}
	}
}

// storedAt returns the store time of a message, -1 where there is none.
func (v *Service) storedAt(q *store.Queue, offset int64) int64 {
	if q == nil {
		return -1
	}
	if first, end := q.Bounds(); offset < first || offset >= end {
		return -1
	}
	at, err := v.store.StoreTime(q, offset)
	if err != nil {
		return -1
	}
	return at
}

func (v *Service) liteDispatch(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.LiteDispatchHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	g, parent, err := v.liteGroup(h.Group)
	if err != nil {
		return nil, err
	}
	clients := []lite.Client{{Group: h.Group, ID: h.ClientID}}
	if h.ClientID == "" {
		v.withLites(func(r *lite.Registry) { clients = r.Clients(h.Group) })
	}
	_, wild := g.Attributes[attribute.LiteWildcard]
	if wild {
		clients = clients[:min(len(clients), 1)] // what is ready for one is for all
	}
	for _, c := range clients {
		var topics []string
		if wild {
			topics = v.store.LightTopics(message.LiteQueues(parent))
		} else {
			v.withLites(func(r *lite.Registry) { topics, _, _ = r.Info(c) })
		}
		v.dispatchLites(c, parent, topics)
	}
	return nil, nil
}
