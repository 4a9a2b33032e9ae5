package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
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

// withCluster runs a command's work against the cluster.
func withCluster(c *cobra.Command, f *clusterFlags, work func(context.Context, *cluster) error) error {
	cl, err := f.open()
	if err != nil {
		return err
	}
	defer cl.close()
	return work(c.Context(), cl)
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
		return nil, usagef("--namesrv %q: want host:port[;host:port]", f.namesrv)
	}
	for _, s := range servers {
		if !strings.Contains(s, ":") {
			return nil, usagef("--namesrv %q: %q has no port; want host:port, such as %s:9876", f.namesrv, s, s)
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

// askNameServers asks all of them, for a change.
func (c *cluster) askNameServers(ctx context.Context, q request) error {
	for _, addr := range c.servers {
		answer, err := c.exchange(ctx, addr, q)
		if err != nil {
			return fmt.Errorf("cannot reach name server %s: %w", addr, err)
		}
		if err := answer.Check(); err != nil {
			return fmt.Errorf("name server %s: %w", addr, err)
		}
	}
	return nil
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
		return nil, asUsage(err)
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

func isNoTopic(err error) bool {
	var missing *errNoTopic
	return errors.As(err, &missing)
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

// fetch is ask for a body of JSON.
func fetch[T any](ctx context.Context, c *cluster, addr string, code protocol.RequestCode, h protocol.Header) (*T, error) {
	answer, err := c.ask(ctx, addr, request{code: code, header: h}, nil)
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := protocol.UnmarshalBody(answer.Body, v); err != nil {
		return nil, fmt.Errorf("%s at %s: %w", code, addr, err)
	}
	return v, nil
}

// requestsAtOnce bounds what one command has under way.
const requestsAtOnce = 16

// each calls f for 0 to n-1, several at once, and returns the first error by number.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, requestsAtOnce)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = f(i)
			<-slots
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// broker is one that is registered, under the address of its master, or of a replica where that is all there is.
type broker struct {
	name, cluster, addr string
	master              bool
}

// scope chooses brokers.
type scope struct{ broker, cluster string }

func (s *scope) add(c *cobra.Command) {
	c.Flags().StringVar(&s.broker, "broker", "", "only this broker (name)")
	c.Flags().StringVar(&s.cluster, "cluster", "", "only the brokers of this cluster")
	c.MarkFlagsMutuallyExclusive("broker", "cluster")
	completeFlag(c, "broker", brokerNames)
	completeFlag(c, "cluster", clusterNames)
}

// brokers returns those of the scope, sorted by name.
func (c *cluster) brokers(ctx context.Context, s scope) ([]broker, error) {
	info, err := c.info(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := info.Brokers[s.broker]; s.broker != "" && !ok {
		return nil, fmt.Errorf("--broker %q: not registered; there are: %s", s.broker, sortedKeys(info.Brokers))
	}
	if _, ok := info.Clusters[s.cluster]; s.cluster != "" && !ok {
		return nil, fmt.Errorf("--cluster %q: not registered; there are: %s", s.cluster, sortedKeys(info.Clusters))
	}
	var out []broker
	for name, b := range info.Brokers {
		if (s.broker == "" || s.broker == name) && (s.cluster == "" || s.cluster == b.Cluster) {
			_, master := b.Addrs[0]
			out = append(out, broker{name, b.Cluster, masterOf(b), master})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no broker is registered with the name server: is one running? `apogee start` starts both")
	}
	slices.SortFunc(out, func(a, b broker) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// writable is brokers for a change: of one cluster, with a master each.
func (c *cluster) writable(ctx context.Context, s scope) ([]broker, error) {
	list, err := c.brokers(ctx, s)
	if err != nil {
		return nil, err
	}
	clusters := map[string]bool{}
	for _, b := range list {
		clusters[b.cluster] = true
		if !b.master {
			return nil, fmt.Errorf("broker %q has no master: nothing can be changed on it now", b.name)
		}
	}
	if len(clusters) > 1 {
		return nil, usagef("there are %d clusters: choose one with --cluster: %s", len(clusters), sortedKeys(clusters))
	}
	return list, nil
}

func sortedKeys[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

func namesOf(list []broker) []string {
	names := make([]string, len(list))
	for i, b := range list {
		names[i] = b.name
	}
	return names
}

// queue is a queue of a topic and where it can be read or written.
type queue struct {
	broker, addr string
	id           int32
	cluster      string
}

// queues lists the queues with the permission, on brokers whose master is known.
func queues(r *protocol.TopicRoute, perm int32) []queue {
	brokers := map[string]protocol.BrokerData{}
	for _, b := range r.Brokers {
		brokers[b.BrokerName] = b
	}
	var out []queue
	for _, q := range r.Queues {
		n := q.ReadQueues
		if perm == protocol.PermWrite {
			n = q.WriteQueues
		}
		b := brokers[q.BrokerName]
		if addr := masterOf(b); addr != "" && q.Perm&perm != 0 {
			for id := range n {
				out = append(out, queue{q.BrokerName, addr, id, b.Cluster})
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

// bounds returns a queue's offsets: of its first message, and behind its last.
func (c *cluster) bounds(ctx context.Context, topic string, q queue) (low, high int64, err error) {
	if low, err = c.offset(ctx, protocol.ReqGetMinOffset, topic, q); err != nil {
		return 0, 0, err
	}
	high, err = c.offset(ctx, protocol.ReqGetMaxOffset, topic, q)
	return max(low, 0), high, err // RocketMQ says -1 of a queue that has never been written
}

// locate returns the offset that a position means in a queue of these bounds.
func (c *cluster) locate(ctx context.Context, topic string, q queue, to start, low, high int64) (int64, error) {
	switch to.kind {
	case startLast:
		return high, nil
	case startOffset:
		return min(max(to.value, low), high), nil
	case startTime:
		var o protocol.OffsetResult
		h := &protocol.QueueHeader{Topic: topic, QueueID: q.id, Timestamp: to.value}
		_, err := c.ask(ctx, q.addr, request{code: protocol.ReqSearchOffsetByTimestamp, header: h}, &o)
		return min(max(o.Offset, low), high), err
	}
	return low, nil
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
	return 0, usagef("--perm %q: want r, w or rw", s)
}
