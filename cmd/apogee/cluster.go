package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/spf13/cobra"
)

// toolsGroup is the group under which RocketMQ's own tools read; it exists everywhere.
const toolsGroup = "TOOLS_CONSUMER"

func defaultNameServer() string {
	if v := os.Getenv("NAMESRV_ADDR"); v != "" {
		return v
	}
	return "127.0.0.1:9876"
}

// clusterFlags say where the cluster is and how to print.
type clusterFlags struct {
	namesrv string
	timeout time.Duration
	out     output
}

func (f *clusterFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.namesrv, "namesrv", defaultNameServer(), "name server, host:port[;host:port] (environment NAMESRV_ADDR)")
	c.Flags().DurationVar(&f.timeout, "timeout", 5*time.Second, "how long to wait for an answer")
	f.out.flag(c)
}

// cluster is the client side of every command.
type cluster struct {
	servers []string
	timeout time.Duration
	client  *remoting.Client
}

func (f *clusterFlags) open() (*cluster, error) {
	servers := strings.FieldsFunc(f.namesrv, func(r rune) bool { return r == ';' || r == ',' || r == ' ' })
	if len(servers) == 0 {
		return nil, fmt.Errorf("--namesrv %q: want host:port[;host:port]", f.namesrv)
	}
	for _, s := range servers {
		if !strings.Contains(s, ":") {
			return nil, fmt.Errorf("--namesrv %q: %q has no port; want host:port, such as %s:9876", f.namesrv, s, s)
		}
	}
	return &cluster{servers: servers, timeout: f.timeout, client: remoting.NewClient(remoting.ClientConfig{Timeout: f.timeout})}, nil
}

func (c *cluster) close() { c.client.Close() }

// request is what is asked of a broker or name server.
type request struct {
	code   protocol.RequestCode
	header protocol.Header
	body   []byte
	wait   time.Duration // beyond the timeout, for a long poll
}

// exchange returns the answer whatever its code.
func (c *cluster) exchange(ctx context.Context, addr string, q request) (*protocol.Command, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+q.wait)
	defer cancel()
	cmd := protocol.NewRequest(q.code, q.header)
	cmd.Body = q.body
	return c.client.Invoke(ctx, addr, cmd)
}

// ask is exchange for a request that must succeed; result may be nil.
func (c *cluster) ask(ctx context.Context, addr string, q request, result protocol.Header) (*protocol.Command, error) {
	answer, err := c.exchange(ctx, addr, q)
	if err != nil {
		return nil, fmt.Errorf("cannot reach broker %s: %w", addr, err)
	}
	if err := answer.Check(); err != nil {
		return nil, fmt.Errorf("%s at %s: %w", q.code, addr, err)
	}
	if result != nil {
		err = protocol.DecodeHeader(answer.Fields, result)
	}
	return answer, err
}

// askNameServer asks the first name server that can be reached.
func (c *cluster) askNameServer(ctx context.Context, q request) (*protocol.Command, error) {
	var last error
	for _, addr := range c.servers {
		answer, err := c.exchange(ctx, addr, q)
		if err == nil {
			return answer, answer.Check()
		}
		last = fmt.Errorf("cannot reach name server %s: %w\nstart one with `apogee start`, or set --namesrv (or NAMESRV_ADDR)", addr, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

func isCode(err error, code protocol.ResponseCode) bool {
	var e *protocol.Error
	return errors.As(err, &e) && e.Code == code
}

// errNoTopic says that the name server has no route of a topic.
type errNoTopic struct{ topic string }

func (e *errNoTopic) Error() string {
	return fmt.Sprintf("topic %q does not exist: create it with `apogee topic create %s`", e.topic, e.topic)
}

// route returns where the topic is; errNoTopic when it is nowhere.
func (c *cluster) route(ctx context.Context, topic string) (*protocol.TopicRoute, error) {
	if err := message.CheckTopic(topic); err != nil {
		return nil, err
	}
	answer, err := c.askNameServer(ctx, request{
		code: protocol.ReqGetRouteInfoByTopic, header: &protocol.RouteHeader{Topic: topic, AcceptStandardJSON: true},
	})
	if isCode(err, protocol.RespTopicNotExist) {
		return nil, &errNoTopic{topic}
	}
	if err != nil {
		return nil, err
	}
	var r protocol.TopicRoute
	if err := protocol.UnmarshalBody(answer.Body, &r); err != nil {
		return nil, fmt.Errorf("route of topic %q: %w", topic, err)
	}
	sort.Slice(r.Queues, func(i, j int) bool { return r.Queues[i].BrokerName < r.Queues[j].BrokerName })
	return &r, nil
}

// info returns the clusters and their brokers.
func (c *cluster) info(ctx context.Context) (*protocol.ClusterInfo, error) {
	answer, err := c.askNameServer(ctx, request{code: protocol.ReqGetBrokerClusterInfo})
	if err != nil {
		return nil, err
	}
	var info protocol.ClusterInfo
	return &info, protocol.UnmarshalBody(answer.Body, &info)
}

// queue is a queue of a topic and where it can be read or written.
type queue struct {
	broker, addr string
	id           int32
}

// queues lists the queues with the permission, on brokers whose master is known.
func queues(r *protocol.TopicRoute, perm int32) []queue {
	addrs := map[string]string{}
	for _, b := range r.Brokers {
		addrs[b.BrokerName] = masterOf(b)
	}
	var out []queue
	for _, q := range r.Queues {
		n := q.ReadQueues
		if perm == protocol.PermWrite {
			n = q.WriteQueues
		}
		if addr := addrs[q.BrokerName]; addr != "" && q.Perm&perm != 0 {
			for id := range n {
				out = append(out, queue{q.BrokerName, addr, id})
			}
		}
	}
	return out
}

// masterOf returns the address of broker id 0, or of the lowest id that there is when reading from a replica is all that is left.
func masterOf(b protocol.BrokerData) string {
	best, addr := int64(-1), ""
	for id, a := range b.Addrs {
		if best < 0 || id < best {
			best, addr = id, a
		}
	}
	return addr
}

// offset asks for a queue's minimum or maximum.
func (c *cluster) offset(ctx context.Context, code protocol.RequestCode, topic string, q queue) (int64, error) {
	var r protocol.OffsetResult
	_, err := c.ask(ctx, q.addr, request{code: code, header: &protocol.QueueHeader{Topic: topic, QueueID: q.id}}, &r)
	return r.Offset, err
}

// permText writes a permission as it is typed.
func permText(perm int32) string {
	s := ""
	if perm&protocol.PermRead != 0 {
		s += "r"
	}
	if perm&protocol.PermWrite != 0 {
		s += "w"
	}
	return s
}

func parsePerm(s string) (int32, error) {
	switch strings.ToLower(s) {
	case "rw", "wr", "6":
		return protocol.PermRead | protocol.PermWrite, nil
	case "r", "4":
		return protocol.PermRead, nil
	case "w", "2":
		return protocol.PermWrite, nil
	}
	return 0, fmt.Errorf("--perm %q: want r, w or rw", s)
}
