package harness

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// Cluster is where the clients of a test connect.
type Cluster struct {
	NameServer string
	Broker     string
}

// shared is what Main and Shared agree on.
var shared struct {
	once   sync.Once
	dir    string
	server *Server // nil with an external cluster
	err    error
}

// Main runs the tests of a package and then stops the shared server. A server that does not
// stop fails the run.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "apogee-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared.dir = dir
	rlog.SetLogLevel("error")
	if err := rlog.SetOutputPath(filepath.Join(dir, "client.log")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	if shared.server == nil {
		return status
	}
	if status != 0 {
		fmt.Fprintf(os.Stderr, "the shared server printed, at the end:\n%s\n", shared.server.LogTail())
	}
	if err := shared.server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// Shared is the cluster of all tests that neither kill nor restart it.
func Shared(t testing.TB) Cluster {
	t.Helper()
	if c, ok := external(); ok {
		return c
	}
	shared.once.Do(func() {
		shared.server, shared.err = NewServer(shared.dir)
		if shared.err == nil {
			shared.err = shared.server.Start()
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return Cluster{NameServer: shared.server.NameServer(), Broker: shared.server.Broker()}
}

// Own starts a server, with these flags, that only this test uses and may kill. Against an external
// cluster the test is skipped.
func Own(t testing.TB, flags ...string) (*Server, Cluster) {
	t.Helper()
	if c, ok := external(); ok {
		t.Skipf("the test kills or restarts the broker, which it may not do to the external one at %s", c.NameServer)
	}
	s, err := NewServer(t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server printed, at the end:\n%s", s.LogTail())
		}
		s.Kill()
	})
	return s, Cluster{NameServer: s.NameServer(), Broker: s.Broker()}
}

func external() (Cluster, bool) {
	nameServer := os.Getenv("INTEROP_NAMESRV")
	if nameServer == "" {
		return Cluster{}, false
	}
	broker := os.Getenv("INTEROP_BROKER")
	if broker == "" {
		host, _, err := net.SplitHostPort(nameServer)
		if err != nil {
			panic(fmt.Sprintf("INTEROP_NAMESRV=%q is not host:port: %v", nameServer, err))
		}
		broker = net.JoinHostPort(host, "10911")
	}
	return Cluster{NameServer: nameServer, Broker: broker}, true
}
