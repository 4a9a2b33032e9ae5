package broker

import (
	"cmp"
	"errors"
	"slices"
	"strconv"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Clients as administrators see them: CHECK_CLIENT_CONFIG (46), GET_CONSUMER_CONNECTION_LIST (203), GET_PRODUCER_CONNECTION_LIST (204),
// INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223), QUERY_TOPIC_CONSUME_BY_WHO (300), GET_CONSUMER_RUNNING_INFO (307), CONSUME_MESSAGE_DIRECTLY
// (309), GET_ALL_PRODUCER_INFO (328), QUERY_TOPICS_BY_CONSUMER (343), QUERY_SUBSCRIPTION_BY_CONSUMER (345); sent on to clients: 307, 309
// and GET_CONSUMER_STATUS_FROM_CLIENT (221).
//
// What clients see: a group without members is 206 (203) or SYSTEM_ERROR (204, 307, 309), with RocketMQ's remarks. A client that does not
// answer within the connection's call timeout is 207. Differences: 223 asks all members at once and leaves out those that fail; 309 needs
// a message that exists; lists are sorted.

// members returns a group's members, sorted by id.
func (t *clientTable) members(group string) []client {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.consumers[group]
	if g == nil {
		return nil
	}
	return sortedClients(g.members)
}

func sortedClients(members map[*remoting.Conn]*client) []client {
	list := make([]client, 0, len(members))
	for _, m := range members {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b client) int { return cmp.Compare(a.id, b.id) })
	return list
}

// consumes tells whether a group subscribes to a topic, as far as is known: a group that is offline may.
func (t *clientTable) consumes(group, topic string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.consumers[group]
	return g == nil || len(g.subscriptions) == 0 || g.subscriptions[topic] != nil
}

// subscribers returns the groups whose members subscribe to a topic.
func (t *clientTable) subscribers(topic string) (groups []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, g := range t.consumers {
		if g.subscriptions[topic] != nil {
			groups = append(groups, name)
		}
	}
	return groups
}

func connectionsOf(members []client) []protocol.Connection {
	list := make([]protocol.Connection, 0, len(members))
	for _, m := range members {
		list = append(list, protocol.Connection{
			ClientID: m.id, Addr: m.conn.RemoteAddr().String(), Language: m.language.String(), Version: m.version,
		})
	}
	return list
}

func (b *Broker) consumerConnections(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.GroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	t := b.clients
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.consumers[h.Group]
	if g == nil {
		return nil, protocol.Errorf(protocol.RespConsumerNotOnline, "the consumer group[%s] not online", h.Group)
	}
	body := protocol.ConsumerConnection{
		Connections: connectionsOf(sortedClients(g.members)), Subscriptions: map[string]protocol.SubscriptionData{},
		ConsumeType: g.consumeType, Model: g.model, FromWhere: g.fromWhere,
	}
	for topic, s := range g.subscriptions {
		body.Subscriptions[topic] = s.data
	}
	return remoting.RespondBody(body), nil
}

func (b *Broker) producerConnections(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ProducerGroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	b.clients.mu.Lock()
	defer b.clients.mu.Unlock()
	members := b.clients.producers[h.Group]
	if members == nil {
		return nil, protocol.Errorf(protocol.RespSystemError, "the producer group[%s] not exist", h.Group)
	}
	return remoting.RespondBody(protocol.ProducerConnection{Connections: connectionsOf(sortedClients(members))}), nil
}

func (b *Broker) allProducers(*remoting.Request) (*remoting.Response, error) {
	table := protocol.ProducerTable{Data: map[string][]protocol.ProducerInfo{}}
	b.clients.mu.Lock()
	defer b.clients.mu.Unlock()
	for group, members := range b.clients.producers {
		for _, m := range sortedClients(members) {
			table.Data[group] = append(table.Data[group], protocol.ProducerInfo{
				ClientID: m.id, RemoteIP: "/" + m.conn.RemoteAddr().String(), // as Java prints an address
				Language: m.language.String(), Version: m.version,
				LastUpdate: m.seen.UnixMilli(),
			})
		}
	}
	return remoting.RespondBody(table), nil
}

func (b *Broker) groupsOfTopic(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TopicHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	list := append(b.clients.subscribers(h.Topic), b.offsets.groupsOf(h.Topic)...)
	slices.Sort(list)
	list = slices.Compact(list)
	if list == nil {
		list = []string{}
	}
	return remoting.RespondBody(protocol.GroupList{Groups: list}), nil
}

func (b *Broker) topicsOfGroup(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.NamedGroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	return remoting.RespondBody(protocol.TopicList{Topics: b.offsets.topicsOf(h.Group), BrokerAddr: b.addr(r)}), nil
}

// addr is the broker's address as the client of a request knows it.
func (b *Broker) addr(r *remoting.Request) string {
	if r.Conn == nil {
		return "127.0.0.1:" + strconv.Itoa(b.port)
	}
	return b.storeHost(r.Conn.LocalAddr()).String()
}

func (b *Broker) groupSubscription(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TopicGroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	body := protocol.GroupSubscription{Group: h.Group, Topic: h.Topic}
	if s, _, _ := b.clients.subscription(h.Group, h.Topic); s != nil {
		body.Subscription = &s.data
	}
	return remoting.RespondBody(body), nil
}

func (b *Broker) checkClient(r *remoting.Request) (*remoting.Response, error) {
	var body protocol.CheckClientBody
	if len(r.Body) > 0 {
		if err := protocol.UnmarshalBody(r.Body, &body); err != nil {
			return nil, err
		}
	}
	s := &body.Subscription
	if isTagType(s.Type) {
		return nil, nil
	}
	if err := b.checkType(s.Type); err != nil {
		return nil, err
	}
	_, err := compile(s.Expression)
	return nil, err
}

func (b *Broker) runningInfo(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ClientHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	return b.callConsumer(r, &h, protocol.ReqGetConsumerRunningInfo, r.Fields, nil)
}

func (b *Broker) consumeDirectly(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ClientHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	_, position, err := message.ParseOffsetID(h.MsgID)
	if err != nil {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "msgId %q: %s", h.MsgID, err)
	}
	_, raw, err := b.store.RecordAt(position)
	if err != nil {
		return nil, protocol.Errorf(protocol.RespSystemError, "can not find message by the offset, %d", position)
	}
	fields := slices.DeleteFunc(slices.Clone(r.Fields), func(f protocol.Field) bool {
		return slices.Contains([]string{"brokerName", "topicSysFlag", "groupSysFlag"}, string(f.Key))
	})
	fields.Add("brokerName", b.c.Name)
	if t := b.topics.find(h.Topic); t != nil {
		fields.Add("topicSysFlag", strconv.Itoa(int(t.config.SysFlag)))
	}
	if g := b.groups.find(h.Group); g != nil {
		fields.Add("groupSysFlag", strconv.Itoa(int(g.GroupSysFlag)))
	}
	return b.callConsumer(r, &h, protocol.ReqConsumeMessageDirectly, fields, raw)
}

// callConsumer sends a request on to a consumer and its answer back.
func (b *Broker) callConsumer(r *remoting.Request, h *protocol.ClientHeader, code protocol.RequestCode, fields protocol.Fields, body []byte) (*remoting.Response, error) {
	members := b.clients.members(h.Group)
	i := slices.IndexFunc(members, func(m client) bool { return m.id == h.ClientID })
	if i < 0 {
		return nil, protocol.Errorf(protocol.RespSystemError, "The Consumer <%s> <%s> not online", h.Group, h.ClientID)
	}
	c := protocol.NewRequest(code, nil)
	c.Fields, c.Body = fields, body
	group, id := h.Group, h.ClientID
	members[i].conn.Send(c, func(answer *protocol.Command, err error) {
		if err != nil {
			r.Reply(nil, clientFailure(group, id, err))
			return
		}
		resp := remoting.Respond(protocol.ResponseCode(answer.Code), nil)
		resp.Remark = slices.Clone(answer.Remark)
		resp.Body = slices.Clone(answer.Body)
		r.Reply(resp, nil)
	})
	return nil, remoting.ErrLater
}

func clientFailure(group, id string, err error) error {
	var late *remoting.TimeoutError
	if errors.As(err, &late) {
		return protocol.Errorf(protocol.RespConsumeMsgTimeout, "consumer <%s> <%s> Timeout: %s", group, id, err)
	}
	return protocol.Errorf(protocol.RespSystemError, "invoke consumer <%s> <%s> Exception: %s", group, id, err)
}

func (b *Broker) consumerStatus(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TopicGroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	members := b.clients.members(h.Group)
	if len(members) == 0 {
		return nil, protocol.Errorf(protocol.RespSystemError, "No Any Consumer online in the consumer group: [%s]", h.Group)
	}
	if h.Client != "" {
		members = slices.DeleteFunc(members, func(m client) bool { return m.id != h.Client })
	}
	status := protocol.ConsumerStatus{Clients: map[string]protocol.QueueMap[int64]{}}
	g := &gather{waiting: len(members) + 1, done: func() {
		resp := remoting.Respond(protocol.RespSuccess, nil)
		resp.Body = status.Encode()
		r.Reply(resp, nil)
	}}
	for _, m := range members {
		c := protocol.NewRequest(protocol.ReqGetConsumerStatusFromClient, &protocol.TopicGroupHeader{Topic: h.Topic, Group: h.Group})
		m.conn.Send(c, func(answer *protocol.Command, err error) {
			g.arrived(func() {
				var own protocol.ConsumerStatus
				if err == nil && answer.Check() == nil && protocol.UnmarshalBody(answer.Body, &own) == nil {
					status.Clients[m.id] = own.Queues
				}
			})
		})
	}
	g.arrived(func() {})
	return nil, remoting.ErrLater
}
