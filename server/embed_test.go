package server

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// A program that embeds a node keeps its own limits, its own metrics and its own HTTP handlers.
func TestEmbeddedNodeLeavesTheProcessAlone(t *testing.T) {
	const limit = math.MaxInt64 - 1
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit))
	gathered := func() int {
		families, err := prometheus.DefaultGatherer.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return len(families)
	}
	logger, procs, families := slog.Default(), runtime.GOMAXPROCS(0), gathered()
	s := mustStart(t, onDisk(t.TempDir()))
	defer mustClose(t, s)
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("the memory limit is %d, was %d", got, limit)
	}
	if got := runtime.GOMAXPROCS(0); got != procs {
		t.Errorf("GOMAXPROCS is %d, was %d", got, procs)
	}
	if got := gathered(); got != families {
		t.Errorf("the default registry has %d families, had %d", got, families)
	}
	if slog.Default() != logger {
		t.Error("the default logger is another one")
	}
	if _, pattern := http.DefaultServeMux.Handler(httptest.NewRequest("GET", "/debug/pprof/", nil)); pattern != "" {
		t.Errorf("the default mux serves %s", pattern)
	}
}

func TestNodesSideBySideKnowNothingOfOneAnother(t *testing.T) {
	before := goleak.IgnoreCurrent()
	one, two := mustStart(t, inMemory()), mustStart(t, inMemory())
	if err := one.CreateTopic(context.Background(), "orders", 3); err != nil {
		t.Fatal(err)
	}
	if got, want := queuesAt(t, one, "orders"), int32(3); got != want {
		t.Errorf("the one has %d queues, want %d", got, want)
	}
	if got := queuesAt(t, two, "orders"); got != 0 {
		t.Errorf("the other has %d queues of a topic that it never saw", got)
	}
	mustClose(t, one)
	if err := two.CreateTopic(context.Background(), "orders", 1); err != nil {
		t.Errorf("after the other was closed: %v", err)
	}
	mustClose(t, two)
	goleak.VerifyNone(t, before)
}

// queuesAt asks the name server for a topic's write queues, as clients do; 0: it has no route.
func queuesAt(t *testing.T, s *Server, topic string) int32 {
	t.Helper()
	client := remoting.NewClient(remoting.ClientConfig{})
	defer client.Close()
	resp, err := client.Invoke(context.Background(), s.NamesrvAddr(), protocol.NewRequest(protocol.ReqGetRouteInfoByTopic, &protocol.TopicHeader{Topic: topic}))
	if err != nil {
		t.Fatal(err)
	}
	if protocol.ResponseCode(resp.Code) == protocol.RespTopicNotExist {
		return 0
	}
	var route protocol.TopicRoute
	if err := protocol.UnmarshalBody(resp.Body, &route); err != nil {
		t.Fatal(err)
	}
	if len(route.Queues) != 1 {
		t.Fatalf("%d brokers have %s, want 1", len(route.Queues), topic)
	}
	return route.Queues[0].WriteQueues
}

func TestNodeInMemoryIsStartedAgainWithAllItHad(t *testing.T) {
	first := mustStart(t, inMemory())
	if err := first.CreateTopic(context.Background(), "orders", 2); err != nil {
		t.Fatal(err)
	}
	mustClose(t, first)
	again := mustStart(t, first.Config())
	defer mustClose(t, again)
	if got, want := queuesAt(t, again, "orders"), int32(2); got != want {
		t.Errorf("%d queues, want %d", got, want)
	}
	addresses := func(s *Server) []string { return []string{s.NamesrvAddr(), s.BrokerAddr(), s.AdminAddr()} }
	if diff := cmp.Diff(addresses(first), addresses(again)); diff != "" {
		t.Errorf("other addresses: %s", diff)
	}
}

func TestCreateTopicRefusesWhatCannotBe(t *testing.T) {
	ctx := context.Background()
	s := mustStart(t, inMemory())
	defer mustClose(t, s)
	for _, c := range []struct {
		name   string
		queues int32
		want   string
	}{
		{"orders", 0, "topic orders: 0 queues; 1 to topicQueuesMax=65536 are possible"},
		{"orders", 65537, "topic orders: 65537 queues"},
		{"no spaces", 1, "no spaces"},
		{"TBW102", 1, "conflict with system topic"},
	} {
		if err := s.CreateTopic(ctx, c.name, c.queues); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %d queues: %v, want %q", c.name, c.queues, err, c.want)
		}
	}
	idle, err := New(inMemory())
	if err != nil {
		t.Fatal(err)
	}
	if err := idle.CreateTopic(ctx, "orders", 1); err == nil || !strings.Contains(err.Error(), "not started") {
		t.Errorf("before the start: %v", err)
	}
}

func TestLogsGoToTheLoggerThatIsGiven(t *testing.T) {
	var b bytes.Buffer
	c := inMemory()
	c.NamesrvAddr = "127.0.0.1:1" // nobody is there to register with
	logged := make(chan struct{}, 1)
	c.Logger = slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.MessageKey && strings.HasPrefix(a.Value.String(), "cannot register") {
			select {
			case logged <- struct{}{}:
			default:
			}
		}
		return a
	}}))
	s := mustStart(t, c)
	<-logged
	mustClose(t, s)
	if !strings.Contains(b.String(), "cannot register with a name server") {
		t.Errorf("the logger got\n%s", &b)
	}
}

func TestInfoForPrograms(t *testing.T) {
	s := mustStart(t, inMemory())
	defer mustClose(t, s)
	text, err := json.Marshal(s.Info("1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "pid")
	delete(got, "took_ms")
	want := map[string]any{
		"version": "1.2.3", "namesrv": s.NamesrvAddr(), "broker": s.BrokerAddr(), "admin": s.AdminAddr(),
		"cluster": "DefaultCluster", "broker_name": "broker-a",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
