package namesrv

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

var epoch = time.UnixMilli(1_700_000_000_000)

// harness is a name server with virtual time and connections.
type harness struct {
	*NameServer
	now    time.Time
	conns  map[int]*fakeConn
	pushed []string
}

func newHarness(t *testing.T, configure func(*Config)) *harness {
	return newHarnessOn(t, vfs.NewMem(), configure)
}

func newHarnessOn(t *testing.T, fs vfs.FS, configure func(*Config)) *harness {
	t.Helper()
	h := &harness{now: epoch, conns: map[int]*fakeConn{}}
	o := Options{Config: DefaultConfig(), FS: fs, Dir: "", Started: epoch, Push: h.push}
	if configure != nil {
		configure(&o.Config)
	}
	var err error
	if h.NameServer, err = New(o); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *harness) push(addr string, c *protocol.Command) {
	line := fmt.Sprintf("%s code %d flag %d", addr, c.Code, c.Flag)
	slices.SortFunc(c.Fields, func(a, b protocol.Field) int { return strings.Compare(string(a.Key), string(b.Key)) })
	for _, f := range c.Fields {
		if string(f.Key) != "brokerName" { // RocketMQ declares it and leaves it out
			line += fmt.Sprintf(" %s=%s", f.Key, f.Value)
		}
	}
	h.pushed = append(h.pushed, line)
}

func (h *harness) takePushes() string {
	all := h.pushed
	h.pushed = nil
	if len(all) == 0 {
		return "none\n"
	}
	return strings.Join(all, "\n") + "\n"
}

func (h *harness) conn(id int) *fakeConn {
	if h.conns[id] == nil {
		h.conns[id] = &fakeConn{local: netip.MustParseAddrPort("192.0.2.1:9876")}
	}
	return h.conns[id]
}

// serve runs a request through its row.
func (h *harness) serve(t *testing.T, cmd *protocol.Command, conn *fakeConn) (*remoting.Response, error) {
	t.Helper()
	for _, w := range h.rows() {
		if int32(w.code) == cmd.Code {
			c := &call{Request: &remoting.Request{Command: *cmd}, now: h.now}
			if conn != nil {
				c.peer = conn
			}
			return w.serve(c)
		}
	}
	t.Fatalf("no row for %s", cmd)
	return nil, nil
}

// ask sends a request that must succeed and returns its body.
func (h *harness) ask(t *testing.T, conn *fakeConn, code protocol.RequestCode, header protocol.Header) []byte {
	t.Helper()
	r, err := h.serve(t, protocol.NewRequest(code, header), conn)
	if err != nil {
		t.Fatalf("%s: %v", code, err)
	}
	return r.Body
}

func (h *harness) topicRoute(t *testing.T, conn *fakeConn, topic string) protocol.TopicRoute {
	t.Helper()
	var r protocol.TopicRoute
	if err := protocol.UnmarshalBody(h.ask(t, conn, protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: topic}), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

type fakeConn struct {
	local   netip.AddrPort
	onClose []func()
	ended   bool
	reason  string // why the name server closed it
}

func (c *fakeConn) LocalAddr() netip.AddrPort { return c.local }

func (c *fakeConn) OnClose(f func()) {
	if c.ended {
		f()
		return
	}
	c.onClose = append(c.onClose, f)
}

func (c *fakeConn) Close(reason string) {
	c.reason = reason
	c.end()
}

func (c *fakeConn) end() {
	if c.ended {
		return
	}
	c.ended = true
	for _, f := range c.onClose {
		f()
	}
}

// fakeBroker is a local broker.
type fakeBroker struct {
	topics  map[string]protocol.TopicConfig
	version protocol.DataVersion
}

func newFakeBroker(topics ...string) *fakeBroker {
	b := &fakeBroker{topics: map[string]protocol.TopicConfig{}}
	for _, name := range topics {
		b.put(protocol.TopicConfig{TopicName: name, ReadQueues: 4, WriteQueues: 4, Perm: 6})
	}
	return b
}

func (b *fakeBroker) put(c protocol.TopicConfig) {
	b.topics[c.TopicName] = c
	b.version.Counter++
}

func (b *fakeBroker) Topic(name string) (protocol.TopicConfig, bool) {
	c, ok := b.topics[name]
	return c, ok
}

func (b *fakeBroker) Topics(yield func(protocol.TopicConfig) bool) {
	for _, c := range b.topics {
		if !yield(c) {
			return
		}
	}
}

func (b *fakeBroker) DataVersion() protocol.DataVersion { return b.version }
