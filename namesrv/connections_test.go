package namesrv

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// TestOverRealConnections registers, asks, and hangs up, over TCP.
func TestOverRealConnections(t *testing.T) {
	n, err := New(Options{Config: DefaultConfig(), FS: vfs.NewMem(), Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	server, err := remoting.NewServer(remoting.ServerConfig{Listen: []string{"127.0.0.1:0"}, Routes: n.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer func() { _ = server.Shutdown(context.Background()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	addr := server.Addrs()[0].String()
	client, broker := remoting.NewClient(remoting.ClientConfig{}), remoting.NewClient(remoting.ClientConfig{})
	defer client.Close()
	if err := n.RegisterLocal(Local{Cluster: "c", Name: "a", Port: 10911, Topics: newFakeBroker("Orders")}); err != nil {
		t.Fatal(err)
	}
	register := protocol.NewRequest(protocol.ReqRegisterBroker, &protocol.RegisterBrokerHeader{BrokerName: "b", BrokerAddr: "b:1", ClusterName: "c"})
	register.Body = []byte(`{"topicConfigSerializeWrapper":{"topicConfigTable":{"Orders":{"topicName":"Orders","perm":6},"Two":{"topicName":"Two"}}}}`)
	if answer, err := broker.Invoke(ctx, addr, register); err != nil || answer.Check() != nil {
		t.Fatalf("register: %v %v", answer, err)
	}
	addrs := func() map[string]string {
		answer, err := client.Invoke(ctx, addr, protocol.NewRequest(protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: "Orders"}))
		if err != nil || answer.Check() != nil {
			t.Fatalf("route: %v %v", answer, err)
		}
		var r protocol.TopicRoute
		if err := protocol.UnmarshalBody(answer.Body, &r); err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, b := range r.Brokers {
			all[b.BrokerName] = b.Addrs[0]
		}
		return all
	}
	if got := addrs(); len(got) != 2 || got["a"] != "127.0.0.1:10911" || got["b"] != "b:1" {
		t.Errorf("got %v", got)
	}
	broker.Close()
	for len(addrs()) != 1 {
		if ctx.Err() != nil {
			t.Fatal("the broker hung up and is still there")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
