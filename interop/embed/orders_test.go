// Package orders is the Go recipe of docs/EMBEDDING.md: a test that has a broker of its own, in its own process, and the official client.
package orders

import (
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
	"github.com/apogeemq/apogee/server"
	"github.com/apogeemq/apogee/server/servertest"
)

func TestMain(m *testing.M) {
	rlog.SetLogLevel("error")
	m.Run()
}

func TestOrderArrives(t *testing.T) {
	node := servertest.Start(t)
	if err := node.CreateTopic(t.Context(), "orders", 4); err != nil {
		t.Fatal(err)
	}
	order(t, node, "one coffee")
	if got, want := next(t, node), "one coffee"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Code under test can be shown an outage: the node that is started again is at the same addresses, and has all it stored.
func TestOrderOutlivesTheBroker(t *testing.T) {
	node := servertest.Start(t)
	if err := node.CreateTopic(t.Context(), "orders", 4); err != nil {
		t.Fatal(err)
	}
	order(t, node, "one coffee")
	if err := node.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	node = servertest.Start(t, func(c *server.Config) { *c = node.Config() })
	if got, want := next(t, node), "one coffee"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func order(t *testing.T, node *server.Server, what string) {
	t.Helper()
	p, err := rocketmq.NewProducer(producer.WithNameServer([]string{node.NamesrvAddr()}), producer.WithGroupName("shop"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Shutdown()
	if _, err := p.SendSync(t.Context(), primitive.NewMessage("orders", []byte(what))); err != nil {
		t.Fatal(err)
	}
}

// next is the first order that the kitchen gets.
func next(t *testing.T, node *server.Server) string {
	t.Helper()
	c, err := rocketmq.NewPullConsumer(consumer.WithNameServer([]string{node.NamesrvAddr()}), consumer.WithGroupName("kitchen"),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe("orders", consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Shutdown()
	got, err := c.Poll(t.Context(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.GetMsgList()) != 1 {
		t.Fatalf("got %v, want one order", got.GetMsgList())
	}
	return string(got.GetMsgList()[0].Body)
}
