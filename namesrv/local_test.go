package namesrv

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apogeemq/apogee/protocol"
)

func connAt(local string) *fakeConn { return &fakeConn{local: netip.MustParseAddrPort(local)} }

func withLocal(t *testing.T, h *harness, b *fakeBroker, change func(*Local)) {
	t.Helper()
	l := Local{Cluster: "c", Name: "a", Port: 10911, HAPort: 10912, Topics: b}
	if change != nil {
		change(&l)
	}
	if err := h.RegisterLocal(l); err != nil {
		t.Fatal(err)
	}
}

func TestLocalBrokerIsWhereTheClientReachedUs(t *testing.T) {
	for _, c := range []struct{ name, local, advertise, want string }{
		{"loopback", "127.0.0.1:9876", "", "127.0.0.1:10911"},
		{"the network", "10.1.2.3:9876", "", "10.1.2.3:10911"},
		{"IPv6", "[2001:db8::1]:9876", "", "[2001:db8::1]:10911"},
		{"IPv4 on an IPv6 socket", "[::ffff:10.1.2.3]:9876", "", "10.1.2.3:10911"},
		{"link-local with a zone", "[fe80::1%eth0]:9876", "", "[fe80::1]:10911"},
		{"advertised", "127.0.0.1:9876", "mq.example.com", "mq.example.com:10911"},
		{"advertised IPv6", "127.0.0.1:9876", "2001:db8::2", "[2001:db8::2]:10911"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, nil)
			withLocal(t, h, newFakeBroker("Orders"), func(l *Local) { l.AdvertiseHost = c.advertise })
			conn := connAt(c.local)
			if got := h.topicRoute(t, conn, "Orders").Brokers[0].Addrs[0]; got != c.want {
				t.Errorf("route: %s, want %s", got, c.want)
			}
			var info protocol.ClusterInfo
			if err := protocol.UnmarshalBody(h.ask(t, conn, protocol.ReqGetBrokerClusterInfo, nil), &info); err != nil {
				t.Fatal(err)
			}
			if got := info.Brokers["a"].Addrs[0]; got != c.want {
				t.Errorf("cluster info: %s, want %s", got, c.want)
			}
			var group protocol.BrokerMemberGroup
			members := h.ask(t, conn, protocol.ReqGetBrokerMemberGroup, &protocol.BrokerHeader{ClusterName: "c", BrokerName: "a"})
			if err := protocol.UnmarshalBody(members, &group); err != nil {
				t.Fatal(err)
			}
			if got := group.Group.Addrs[0]; got != c.want {
				t.Errorf("member group: %s, want %s", got, c.want)
			}
		})
	}
}

func TestClientsOfDifferentNetworksAreToldDifferentAddresses(t *testing.T) {
	h := newHarness(t, nil)
	withLocal(t, h, newFakeBroker("Orders"), nil)
	for range 2 { // computed, then kept
		for local, want := range map[string]string{"127.0.0.1:9876": "127.0.0.1:10911", "10.0.0.1:9876": "10.0.0.1:10911"} {
			if got := h.topicRoute(t, connAt(local), "Orders").Brokers[0].Addrs[0]; got != want {
				t.Errorf("%s is told %s, want %s", local, got, want)
			}
		}
	}
}

func TestLocalTopicsAreVisibleAtOnce(t *testing.T) {
	h, b := newHarness(t, nil), newFakeBroker("TBW102")
	withLocal(t, h, b, nil)
	conn := h.conn(0)
	_, err := h.serve(t, protocol.NewRequest(protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: "New"}), conn)
	if code, _ := protocol.CodeOf(err); code != protocol.RespTopicNotExist {
		t.Fatalf("before it exists: %v", err)
	}
	b.put(protocol.TopicConfig{TopicName: "New", ReadQueues: 4, WriteQueues: 4, Perm: 6, SysFlag: 1})
	want := []protocol.QueueData{{BrokerName: "a", ReadQueues: 4, WriteQueues: 4, Perm: 6, SysFlag: 1, SynFlag: 1}}
	if diff := cmp.Diff(want, h.topicRoute(t, conn, "New").Queues); diff != "" {
		t.Errorf("created: (-want +got)\n%s", diff)
	}
	b.put(protocol.TopicConfig{TopicName: "New", ReadQueues: 8, WriteQueues: 8, Perm: 6})
	if got := h.topicRoute(t, conn, "New").Queues[0].ReadQueues; got != 8 {
		t.Errorf("changed: %d queues, want 8", got)
	}
	delete(b.topics, "New")
	if _, ok := h.Route("New", conn.local.Addr()); ok {
		t.Error("deleted, and still there")
	}
	if _, err := h.serve(t, protocol.NewRequest(protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: "New"}), conn); err == nil {
		t.Error("deleted, and still answered")
	}
}

func TestLocalTopicsAreListed(t *testing.T) {
	h := newHarness(t, nil)
	b := newFakeBroker("B", "A", "rmq_sys_apogee_topics")
	b.put(protocol.TopicConfig{TopicName: "U", Perm: 6, SysFlag: unit})
	withLocal(t, h, b, nil)
	for _, c := range []struct {
		code   protocol.RequestCode
		header protocol.Header
		want   []string
	}{
		{protocol.ReqGetAllTopicListFromNameserver, nil, []string{"A", "B", "U"}},
		{protocol.ReqGetTopicsByCluster, &protocol.ClusterHeader{Cluster: "c"}, []string{"A", "B", "U"}},
		{protocol.ReqGetTopicsByCluster, &protocol.ClusterHeader{Cluster: "d"}, []string{}},
		{protocol.ReqGetUnitTopicList, nil, []string{"U"}},
		{protocol.ReqGetSystemTopicListFromNS, nil, []string{"a", "c"}},
	} {
		var list protocol.TopicList
		if err := protocol.UnmarshalBody(h.ask(t, h.conn(0), c.code, c.header), &list); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, list.Topics); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.code, diff)
		}
	}
	if _, ok := h.Route("rmq_sys_apogee_topics", netip.Addr{}); ok {
		t.Error("the broker's own state has a route")
	}
}

func TestLocalAndRemoteBrokersShareATopic(t *testing.T) {
	h := newHarness(t, nil)
	h.registerRemote(t, "b", 0, "b-0", 0, "Orders", "Other")
	h.registerRemote(t, "0", 0, "0-0", 0, "Orders", "Other")
	withLocal(t, h, newFakeBroker("Orders"), nil)
	var names []string
	for _, q := range h.topicRoute(t, h.conn(0), "Orders").Queues {
		names = append(names, q.BrokerName)
	}
	if diff := cmp.Diff([]string{"0", "a", "b"}, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := len(h.topicRoute(t, h.conn(0), "Other").Queues); got != 2 {
		t.Errorf("a topic of the others has %d queues, want 2", got)
	}
}

// registerRemote registers a broker over a connection of its own.
func (h *harness) registerRemote(t *testing.T, name string, id int64, addr string, epoch int64, topics ...string) protocol.RegisterBrokerResult {
	t.Helper()
	var body protocol.RegisterBrokerBody
	body.Topics.Topics = newFakeBroker(topics...).topics
	body.Topics.DataVersion = protocol.DataVersion{Counter: 1, StateVersion: epoch}
	cmd := protocol.NewRequest(protocol.ReqRegisterBroker, &protocol.RegisterBrokerHeader{BrokerName: name, BrokerID: id, BrokerAddr: addr,
		ClusterName: "c", HAServerAddr: addr + "-ha", EnableActingMaster: "true"})
	cmd.Body = protocol.MarshalBody(body)
	r, err := h.serve(t, cmd, h.conn(100+int(id)))
	if err != nil {
		t.Fatal(err)
	}
	var result protocol.RegisterBrokerResult
	if err := protocol.DecodeHeader(r.Fields, &result); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestLocalMasterHasASlaveElsewhere(t *testing.T) {
	h := newHarness(t, nil)
	withLocal(t, h, newFakeBroker("Orders"), nil)
	got := h.registerRemote(t, "a", 1, "10.0.0.2:10911", 0, "Orders", "OnlyThere")
	want := protocol.RegisterBrokerResult{MasterAddr: "192.0.2.1:10911", HAServerAddr: "192.0.2.1:10912"}
	if got != want {
		t.Errorf("the slave is told %+v, want %+v", got, want)
	}
	r := h.topicRoute(t, h.conn(0), "Orders")
	if diff := cmp.Diff(map[int64]string{0: "192.0.2.1:10911", 1: "10.0.0.2:10911"}, r.Brokers[0].Addrs); diff != "" {
		t.Errorf("addresses: (-want +got)\n%s", diff)
	}
	if _, ok := h.Route("OnlyThere", netip.Addr{}); ok {
		t.Error("a slave's topic counts")
	}
}

func TestLocalBrokerChangesItsRole(t *testing.T) {
	h, b := newHarness(t, nil), newFakeBroker("Mine", "Orders")
	withLocal(t, h, b, func(l *Local) { l.ID, l.ActingMaster = 1, true })
	if got := h.topicRoute(t, h.conn(0), "Mine").Queues[0].Perm; got != 4 {
		t.Errorf("a slave that acts has permission %d, want 4", got)
	}
	h.registerRemote(t, "a", 0, "m:1", 1, "Orders", "Theirs")
	if _, ok := h.Route("Mine", netip.Addr{}); ok {
		t.Error("a slave's topic counts beside its master")
	}
	if q := h.topicRoute(t, h.conn(0), "Theirs").Queues; len(q) != 1 || q[0].Perm != 6 {
		t.Errorf("the master's topic: %+v", q)
	}
	err := h.RegisterLocal(Local{Cluster: "c", Name: "a", Port: 10911, Topics: b})
	if err == nil {
		t.Error("took the id from a master with a newer epoch")
	}
	b.version.StateVersion = 2
	withLocal(t, h, b, nil)
	if _, ok := h.Route("Theirs", netip.Addr{}); ok {
		t.Error("the old master's topics count after a takeover")
	}
	r := h.topicRoute(t, h.conn(0), "Mine")
	if diff := cmp.Diff(map[int64]string{0: "192.0.2.1:10911"}, r.Brokers[0].Addrs); diff != "" {
		t.Errorf("after the takeover: (-want +got)\n%s", diff)
	}
	h.registerRemote(t, "a", 0, "m:1", 1, "Orders", "Theirs") // the old master does not know yet
	if got := h.topicRoute(t, h.conn(0), "Mine").Brokers[0].Addrs[0]; got != "192.0.2.1:10911" {
		t.Errorf("the old master took the id back: %s", got)
	}
}

func TestLocalBrokerLeaves(t *testing.T) {
	h, b := newHarness(t, nil), newFakeBroker("Orders")
	withLocal(t, h, b, func(l *Local) { l.ActingMaster = true })
	h.registerRemote(t, "a", 1, "s:1", 0, "Orders", "Two")
	h.UnregisterLocal("c", "a")
	r := h.topicRoute(t, h.conn(0), "Orders")
	if r.Queues[0].Perm != 4 || len(r.Brokers[0].Addrs) != 1 {
		t.Errorf("with a slave left: %+v", r)
	}
	h.conn(101).end()
	if _, ok := h.Route("Orders", netip.Addr{}); ok {
		t.Error("with nobody left the topic is still there")
	}
}

func TestLocalPermissionsUntilTheTopicChanges(t *testing.T) {
	h, b := newHarness(t, nil), newFakeBroker("Orders", "Other")
	withLocal(t, h, b, nil)
	perms := func() [2]int32 {
		return [2]int32{h.topicRoute(t, h.conn(0), "Orders").Queues[0].Perm, h.topicRoute(t, h.conn(0), "Other").Queues[0].Perm}
	}
	perms() // kept answers must not outlive the change
	if r, err := h.serve(t, protocol.NewRequest(protocol.ReqWipeWritePermOfBroker, &protocol.BrokerHeader{BrokerName: "a"}), nil); err != nil || describe(r, nil) != "code 0\nfield wipeTopicCount=2\n" {
		t.Errorf("wipe: %v %v", r, err)
	}
	if got := perms(); got != [2]int32{4, 4} {
		t.Errorf("wiped: %v", got)
	}
	b.put(protocol.TopicConfig{TopicName: "New", ReadQueues: 4, WriteQueues: 4, Perm: 6})
	b.put(protocol.TopicConfig{TopicName: "Other", ReadQueues: 8, WriteQueues: 8, Perm: 6})
	if got := perms(); got != [2]int32{4, 6} {
		t.Errorf("after one topic changed: %v", got)
	}
	h.ask(t, nil, protocol.ReqAddWritePermOfBroker, &protocol.BrokerHeader{BrokerName: "a"})
	if got := perms(); got != [2]int32{6, 6} {
		t.Errorf("added: %v", got)
	}
}
