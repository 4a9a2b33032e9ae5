package popserve

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/apogeemq/apogee/broker/pop"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Who consumes which queues, and how: QUERY_ASSIGNMENT (400), SET_MESSAGE_REQUEST_MODE (401), GET_ALL_MESSAGE_REQUEST_MODE (402).
//
// What clients see: the queues of all brokers that name servers know for the topic, shared out among the group's members by the strategy
// that the client names (AVG, AVG_BY_CIRCLE); in the mode POP each member gets every broker's queue -1, which stands for all, or its own
// and those of popShareQueueNum members after it. A group that was given no mode pulls. null, which leaves a client with what it has,
// where topic or strategy is not known. A mode is on disk when 401 is answered. Difference: a group whose members are unknown here gets null
// at once; RocketMQ does the same, but keeps the route for 30 s.

// KindModes of the state: topic\0group -> protocol.RequestMode as JSON.
const KindModes = "requestModes"

// modeTable says which groups pop which topics.
type modeTable struct {
	v *Service

	mu    sync.RWMutex // guards modes; held while a change is appended, so that the log has the same order
	modes map[string]protocol.RequestMode
}

func newModeTable(v *Service) *modeTable {
	return &modeTable{v: v, modes: map[string]protocol.RequestMode{}}
}

// ModeKey is the key of a group's mode for a topic.
func ModeKey(topic, group string) string { return topic + "\x00" + group }

func (t *modeTable) load() error {
	return t.v.store.State(KindModes, func(key string, value []byte) error {
		var m protocol.RequestMode
		if err := json.Unmarshal(value, &m); err != nil {
			return fmt.Errorf("request mode %q: %w", key, err)
		}
		t.modes[key] = m
		return nil
	})
}

// of returns how a group consumes a topic.
func (t *modeTable) of(topic, group string) protocol.RequestMode {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m, ok := t.modes[ModeKey(topic, group)]
	if !ok {
		m = protocol.RequestMode{Topic: topic, Group: group, Mode: protocol.ModePull}
	}
	return m
}

func (t *modeTable) set(m protocol.RequestMode, done func(error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := ModeKey(m.Topic, m.Group)
	if err := t.v.store.UpdateState(KindModes, []store.Mutation{{Key: key, Value: protocol.MarshalBody(m)}}, done); err != nil {
		return err
	}
	t.modes[key] = m
	return nil
}

func (v *Service) setRequestMode(r *remoting.Request) (*remoting.Response, error) {
	m := protocol.RequestMode{Mode: protocol.ModePull}
	if err := protocol.UnmarshalBody(r.Body, &m); err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(m.Topic, message.RetryPrefix):
		return nil, protocol.Errorf(protocol.RespNoPermission, "retry topic is not allowed to set mode")
	case v.host.Topic(m.Topic) == nil:
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "topic[%s] not exist", m.Topic)
	case v.host.Group(m.Group) == nil:
		return nil, protocol.Errorf(protocol.RespSubscriptionGroupNotExist, "subscription group does not exist: %s", m.Group)
	case m.Mode != protocol.ModePull && m.Mode != protocol.ModePop:
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "mode %.100q: want PULL or POP", m.Mode)
	}
	if err := v.modes.set(m, func(err error) { r.Reply(nil, err) }); err != nil {
		return nil, v.host.Refusal(err)
	}
	return nil, remoting.ErrLater
}

func (v *Service) allRequestModes(*remoting.Request) (*remoting.Response, error) {
	v.modes.mu.RLock()
	defer v.modes.mu.RUnlock()
	all := protocol.RequestModes{Modes: map[string]map[string]protocol.RequestMode{}}
	for _, m := range v.modes.modes {
		if all.Modes[m.Topic] == nil {
			all.Modes[m.Topic] = map[string]protocol.RequestMode{}
		}
		all.Modes[m.Topic][m.Group] = m
	}
	return remoting.RespondBody(all), nil
}

func (v *Service) queryAssignment(r *remoting.Request) (*remoting.Response, error) {
	var q protocol.QueryAssignment
	if err := protocol.UnmarshalBody(r.Body, &q); err != nil {
		return nil, err
	}
	mode := v.modes.of(q.Topic, q.Group)
	var answer protocol.Assignments
	if queues := v.assigned(&q, &mode); queues != nil {
		answer.Queues = []protocol.QueueAssignment{}
		for _, queue := range queues {
			answer.Queues = append(answer.Queues, protocol.QueueAssignment{Queue: queue, Mode: mode.Mode})
		}
	}
	return remoting.RespondBody(answer), nil
}

// assigned returns the queues that a client is to consume, nil when that cannot be said.
func (v *Service) assigned(q *protocol.QueryAssignment, mode *protocol.RequestMode) []protocol.MessageQueue {
	queues := v.routed(q.Topic)
	if len(queues) == 0 || q.Model == protocol.ModelBroadcasting {
		return queues
	}
	members := v.host.Members(q.Group)
	slices.Sort(members)
	if members = slices.Compact(members); len(members) == 0 {
		return nil
	}
	share := pop.Strategies[q.Strategy]
	if share == nil {
		return nil
	}
	if mode.Mode == protocol.ModePop {
		return pop.Assign(q.ClientID, queues, members, int(mode.PopShareQueues), share)
	}
	return share(q.ClientID, queues, members)
}

// routed returns a topic's queues on all brokers, sorted.
func (v *Service) routed(topic string) []protocol.MessageQueue {
	queues, err := v.host.Routed(context.Background(), topic)
	if err != nil {
		v.log.Warn("no name server tells the route of a topic", "topic", topic, "error", err)
		return nil
	}
	slices.SortFunc(queues, func(a, b protocol.MessageQueue) int {
		return cmp.Or(cmp.Compare(a.BrokerName, b.BrokerName), cmp.Compare(a.QueueID, b.QueueID))
	})
	return queues
}
