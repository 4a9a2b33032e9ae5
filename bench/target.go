package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// endpoint is a broker that holds queues of the topic.
type endpoint struct {
	addr   string
	queues int
}

// readyTimeout is how long a new topic, or a backlog just sent, may take to be seen.
const readyTimeout = 30 * time.Second

// resolve finds the brokers of the topic, and creates it where it is missing.
func (t *Target) resolve(ctx context.Context) ([]endpoint, error) {
	if t.Broker != "" {
		n, err := t.ensureOn(ctx, t.Broker)
		return []endpoint{{t.Broker, n}}, err
	}
	var last error
	for _, addr := range addresses(t.NameServer) {
		c, err := dial(ctx, addr)
		if err != nil {
			last = fmt.Errorf("name server: %w: start one with `apogee start`, or set --namesrv", err)
			continue
		}
		defer c.close()
		return t.resolveBy(ctx, c)
	}
	return nil, last
}

func (t *Target) resolveBy(ctx context.Context, c *conn) ([]endpoint, error) {
	found, err := t.route(c)
	if err != nil || len(found) > 0 {
		return found, err
	}
	answer, err := c.call(protocol.NewRequest(protocol.ReqGetBrokerClusterInfo, nil))
	if err == nil {
		err = answer.Check()
	}
	var cluster protocol.ClusterInfo
	if err == nil {
		err = protocol.UnmarshalBody(answer.Body, &cluster)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s for its brokers: %w", c.addr, err)
	}
	if len(cluster.Brokers) == 0 {
		return nil, fmt.Errorf("name server %s knows no broker", c.addr)
	}
	for _, b := range cluster.Brokers {
		if addr := b.Addrs[0]; addr != "" {
			if _, err := t.ensureOn(ctx, addr); err != nil {
				return nil, err
			}
		}
	}
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(50 * time.Millisecond) {
		found, err := t.route(c)
		if err != nil || len(found) > 0 {
			return found, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("topic %q was created, but %s has no route of it after %s", t.Topic, c.addr, readyTimeout)
		}
	}
}

// route asks the name server for the topic's masters; none when the topic is unknown.
func (t *Target) route(c *conn) ([]endpoint, error) {
	answer, err := c.call(protocol.NewRequest(protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: t.Topic, AcceptStandardJSON: true}))
	if err == nil {
		err = answer.Check()
	}
	var refused *protocol.Error
	if errors.As(err, &refused) && refused.Code == protocol.RespTopicNotExist {
		return nil, nil
	}
	var route protocol.TopicRoute
	if err == nil {
		err = protocol.UnmarshalBody(answer.Body, &route)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find the route of topic %q: %w", t.Topic, err)
	}
	var found []endpoint
	for _, q := range route.Queues {
		for _, b := range route.Brokers {
			if b.BrokerName == q.BrokerName && b.Addrs[0] != "" && q.WriteQueues > 0 {
				found = append(found, endpoint{b.Addrs[0], int(q.WriteQueues)})
			}
		}
	}
	return found, nil
}

// ensureOn creates the topic on a broker that has not got it, and returns its number of queues there.
func (t *Target) ensureOn(ctx context.Context, addr string) (int, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return 0, fmt.Errorf("broker: %w", err)
	}
	defer c.close()
	answer, err := c.call(protocol.NewRequest(protocol.ReqGetTopicConfig, &protocol.TopicHeader{Topic: t.Topic}))
	if err != nil {
		return 0, err
	}
	var config protocol.TopicConfig
	if answer.Check() == nil && len(answer.Body) > 0 {
		if err := protocol.UnmarshalBody(answer.Body, &config); err == nil && config.WriteQueues > 0 {
			return int(config.WriteQueues), nil
		}
	}
	h := &protocol.CreateTopicHeader{
		Topic: t.Topic, DefaultTopic: message.TopicAutoCreate, ReadQueues: int32(t.Queues), WriteQueues: int32(t.Queues),
		Perm: protocol.PermRead | protocol.PermWrite, FilterType: protocol.FilterTypeSingleTag,
	}
	if err := c.invoke(protocol.ReqUpdateAndCreateTopic, h, nil); err != nil {
		return 0, fmt.Errorf("cannot create topic %q: %w", t.Topic, err)
	}
	return t.Queues, nil
}
