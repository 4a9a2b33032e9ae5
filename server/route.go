package server

import (
	"context"
	"errors"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// routeTimeout bounds a question for a route.
const routeTimeout = 3 * time.Second

// queues returns the queues of a topic that consumers may read, of all brokers that a name server knows; none when it has no route.
func (s *Server) queues(ctx context.Context, topic string) ([]protocol.MessageQueue, error) {
	ctx, cancel := context.WithTimeout(ctx, routeTimeout)
	defer cancel()
	servers := newRegistrar(s).addrs
	if own := s.NamesrvAddr(); own != "" {
		servers = append([]string{own}, servers...)
	}
	failed := errors.New("no name server is configured")
	for _, addr := range servers {
		answer, err := s.client.Invoke(ctx, addr, protocol.NewRequest(protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: topic, AcceptStandardJSON: true}))
		if err != nil {
			failed = err
			continue
		}
		if protocol.ResponseCode(answer.Code) == protocol.RespTopicNotExist {
			return nil, nil
		}
		var route protocol.TopicRoute
		if err = answer.Check(); err == nil {
			err = protocol.UnmarshalBody(answer.Body, &route)
		}
		if err != nil {
			failed = err
			continue
		}
		var queues []protocol.MessageQueue
		for _, q := range route.Queues {
			for id := range q.ReadQueues {
				if q.Perm&protocol.PermRead != 0 {
					queues = append(queues, protocol.MessageQueue{Topic: topic, BrokerName: q.BrokerName, QueueID: id})
				}
			}
		}
		return queues, nil
	}
	return nil, failed
}
