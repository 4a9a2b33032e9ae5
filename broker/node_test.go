package broker_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// node is a whole node in memory, with a client that notes what the broker pushes.
type node struct {
	t      testing.TB
	s      *server.Server
	client *remoting.Client
	pushes chan string // group of each NOTIFY_CONSUMER_IDS_CHANGED
}

// testConfig is a node in memory on free ports.
func testConfig(fs vfs.FS) server.Config {
	c := server.DefaultConfig()
	c.FS, c.Dir, c.Listen, c.LogLevel = fs, "data", "127.0.0.1", "error"
	c.NamesrvPort, c.BrokerPort, c.AdminPort = 0, 0, 0
	c.SegmentBytes, c.MessageBytesMax = 1<<20, 64<<10
	c.DrainTimeout = 5 * time.Second
	return c
}

func startNode(t testing.TB, change func(*server.Config)) *node {
	t.Helper()
	c := testConfig(vfs.NewMem())
	if change != nil {
		change(&c)
	}
	n := startConfig(t, c)
	t.Cleanup(n.stop)
	return n
}

func startConfig(t testing.TB, c server.Config) *node {
	t.Helper()
	s, err := server.New(c)
	if err == nil {
		err = s.Start(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, s: s, pushes: make(chan string, 100)}
	n.client = n.newClient()
	return n
}

func (n *node) newClient() *remoting.Client {
	return remoting.NewClient(remoting.ClientConfig{Timeout: 20 * time.Second, OnRequest: func(r *remoting.Request) (*remoting.Response, error) {
		var h protocol.GroupHeader
		if r.Code == int32(protocol.ReqNotifyConsumerIDsChanged) && r.Read(&h) == nil {
			n.pushes <- h.Group
		}
		return nil, nil
	}})
}

func (n *node) stop() {
	n.t.Helper()
	n.client.Close()
	if err := n.s.Close(context.Background()); err != nil {
		n.t.Error(err)
	}
}

// fields are the header fields of a request.
type fields map[string]string

// with returns the fields with others; a value of "-" leaves one out.
func (f fields) with(pairs ...string) fields {
	out := fields{}
	maps.Copy(out, f)
	for i := 0; i < len(pairs); i += 2 {
		if out[pairs[i]] = pairs[i+1]; pairs[i+1] == "-" {
			delete(out, pairs[i])
		}
	}
	return out
}

func command(code protocol.RequestCode, f fields, body []byte) *protocol.Command {
	c := protocol.NewRequest(code, nil)
	for _, k := range slices.Sorted(maps.Keys(f)) {
		c.Fields.Add(k, f[k])
	}
	c.Body = body
	return c
}

// call sends a request to the broker over the node's shared connection.
func (n *node) call(code protocol.RequestCode, f fields, body []byte) *protocol.Command {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	answer, err := n.client.Invoke(ctx, n.s.BrokerAddr(), command(code, f, body))
	if err != nil {
		n.t.Fatal(err)
	}
	return answer
}

// ok is call, which must succeed; the answer's header goes into h when that is not nil.
func (n *node) ok(code protocol.RequestCode, f fields, body []byte, h protocol.Header) *protocol.Command {
	n.t.Helper()
	answer := n.call(code, f, body)
	if err := answer.Check(); err != nil {
		n.t.Fatalf("%s %v: %v", code, f, err)
	}
	if h != nil {
		if err := protocol.DecodeHeader(answer.Fields, h); err != nil {
			n.t.Fatalf("%s: %v", code, err)
		}
	}
	return answer
}

// Requests that succeed as they stand, once topic T has messages.
var (
	sendFields = fields{
		"producerGroup": "P", "topic": "T", "defaultTopic": "TBW102", "defaultTopicQueueNums": "4", "queueId": "0", "sysFlag": "0",
		"bornTimestamp": "1763720000000", "flag": "0", "properties": "TAGS\x01A\x02KEYS\x01k1 k2\x02",
	}
	pullFields = fields{
		"consumerGroup": "G", "topic": "T", "queueId": "0", "queueOffset": "0", "maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0",
		"suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0",
	}
	offsetFields = fields{"consumerGroup": "G", "topic": "T", "queueId": "0", "commitOffset": "1"}
	queueFields  = fields{"topic": "T", "queueId": "0", "timestamp": "0"}
	keyFields    = fields{"topic": "T", "key": "k2", "maxNum": "10", "beginTimestamp": "0", "endTimestamp": "9000000000000"}
	topicFields  = fields{
		"topic": "Made", "defaultTopic": "TBW102", "readQueueNums": "3", "writeQueueNums": "2", "perm": "6", "topicFilterType": "SINGLE_TAG",
		"topicSysFlag": "0", "order": "false",
	}
)

// send sends one message and returns the answer.
func (n *node) send(f fields, body string) (r protocol.SendResult) {
	n.t.Helper()
	n.ok(protocol.ReqSendMessage, f, []byte(body), &r)
	return r
}

// group makes a consumer group.
func (n *node) group(name string) {
	n.t.Helper()
	n.ok(protocol.ReqUpdateAndCreateSubscriptionGroup, nil, []byte(`{"groupName":"`+name+`"}`), nil)
}

func lockBody(group, client string, queues ...int32) []byte {
	b := protocol.LockBatchBody{Group: group, ClientID: client}
	for _, q := range queues {
		b.Queues = append(b.Queues, protocol.MessageQueue{Topic: "T", BrokerName: "broker-a", QueueID: q})
	}
	return protocol.MarshalBody(b)
}

func heartbeatBody(client, group, topic, expression string, version int64) []byte {
	return protocol.MarshalBody(protocol.Heartbeat{
		ClientID: client, Producers: []protocol.ProducerData{{Group: "P"}},
		Consumers: []protocol.ConsumerData{{
			Group: group, ConsumeType: protocol.ConsumePassively, Model: protocol.ModelClustering, FromWhere: protocol.FromFirstOffset,
			Subscriptions: []protocol.SubscriptionData{{Topic: topic, Expression: expression, Version: version, Type: protocol.ExpressionTag}},
		}},
	})
}

// records decodes the stored records in a body.
func (n *node) records(body []byte) (list []message.Record) {
	n.t.Helper()
	for len(body) > 0 {
		r, size, err := message.Decode(body)
		if err == nil {
			err = r.Verify(body[:size])
		}
		if err != nil {
			n.t.Fatal(err)
		}
		list, body = append(list, r), body[size:]
	}
	return list
}

func bodies(list []message.Record) string {
	var all []string
	for _, r := range list {
		all = append(all, string(r.Body))
	}
	return strings.Join(all, " ")
}

func waitFor(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

func (n *node) wantPush(group string) {
	n.t.Helper()
	select {
	case got := <-n.pushes:
		if got != group {
			n.t.Errorf("told of %q, want %q", got, group)
		}
	case <-time.After(10 * time.Second):
		n.t.Errorf("not told of %q", group)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return v
}
