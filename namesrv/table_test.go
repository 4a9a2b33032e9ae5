package namesrv

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// TestTable runs the transcripts: what brokers say, how time passes, and what clients then see.
func TestTable(t *testing.T) {
	var h *harness
	runTranscripts(t, "testdata/table", func(t *testing.T, d *step) string {
		if d.cmd == "new" {
			h = newHarness(t, func(c *Config) {
				for _, a := range d.args {
					name, value, _ := strings.Cut(a, "=")
					if err := c.Set(name, value); err != nil {
						d.fatalf(t, "%v", err)
					}
				}
			})
			return ""
		}
		return h.run(t, d)
	})
}

func (h *harness) run(t *testing.T, d *step) string {
	switch d.cmd {
	case "register":
		return h.transcribeRegister(t, d)
	case "heartbeat", "version":
		return h.transcribeSign(t, d)
	case "unregister":
		name, cluster, id, addr := identity(t, d)
		cmd := protocol.NewRequest(protocol.ReqUnregisterBroker, &protocol.BrokerHeader{BrokerName: name, BrokerAddr: addr, ClusterName: cluster})
		cmd.Fields.Add("brokerId", strconv.FormatInt(id, 10))
		return describe(h.serve(t, cmd, nil)) + h.outcome()
	case "wait":
		pause, err := time.ParseDuration(d.args[0])
		if err != nil {
			d.fatalf(t, "%v", err)
		}
		for end := h.now.Add(pause); h.now.Before(end); {
			h.now = h.now.Add(time.Second)
			h.Tick(h.now)
		}
		return h.outcome()
	case "close":
		var conn int
		d.mustArg(t, "conn", &conn)
		h.conn(conn).end()
		delete(h.conns, conn)
		return h.outcome()
	case "wipe", "add":
		return h.transcribePerms(t, d)
	case "state":
		return h.state()
	case "route":
		return h.transcribeRoute(t, d)
	}
	d.fatalf(t, "unknown command %q", d.cmd)
	return ""
}

func identity(t *testing.T, d *step) (name, cluster string, id int64, addr string) {
	cluster = "c"
	d.mustArg(t, "name", &name)
	d.mustArg(t, "id", &id)
	addr = fmt.Sprintf("%s-%d", name, id)
	d.arg(t, "addr", &addr)
	d.arg(t, "cluster", &cluster)
	return name, cluster, id, addr
}

// transcribeRegister takes a line per topic: name, queues, perm.
func (h *harness) transcribeRegister(t *testing.T, d *step) string {
	name, cluster, id, addr := identity(t, d)
	header := protocol.RegisterBrokerHeader{BrokerName: name, BrokerID: id, BrokerAddr: addr, ClusterName: cluster, HAServerAddr: addr + "-ha"}
	conn := int(id) + 1
	body := protocol.RegisterBrokerBody{Topics: protocol.TopicConfigTable{Topics: map[string]protocol.TopicConfig{}, DataVersion: protocol.DataVersion{Counter: 1}}}
	d.arg(t, "conn", &conn)
	d.arg(t, "acting", &header.EnableActingMaster)
	d.arg(t, "timeout", &header.HeartbeatTimeoutMS)
	d.arg(t, "version", &body.Topics.DataVersion.Counter)
	d.arg(t, "epoch", &body.Topics.DataVersion.StateVersion)
	for line := range strings.Lines(d.input) {
		f := strings.Fields(line)
		queues, _ := strconv.Atoi(f[1])
		perm, _ := strconv.Atoi(f[2])
		body.Topics.Topics[f[0]] = protocol.TopicConfig{TopicName: f[0], ReadQueues: int32(queues), WriteQueues: int32(queues), Perm: int32(perm)}
	}
	cmd := protocol.NewRequest(protocol.ReqRegisterBroker, &header)
	cmd.Body = protocol.MarshalBody(body)
	r, err := h.serve(t, cmd, h.conn(conn))
	if err != nil {
		return err.Error() + "\n"
	}
	var result protocol.RegisterBrokerResult
	if err := protocol.DecodeHeader(r.Fields, &result); err != nil {
		d.fatalf(t, "%v", err)
	}
	out := ""
	if result.MasterAddr != "" {
		out = fmt.Sprintf("master %s %s\n", result.MasterAddr, result.HAServerAddr)
	}
	return out + h.outcome()
}

func (h *harness) transcribeSign(t *testing.T, d *step) string {
	name, cluster, id, addr := identity(t, d)
	header := &protocol.BrokerHeader{BrokerName: name, BrokerID: id, BrokerAddr: addr, ClusterName: cluster}
	if d.cmd == "heartbeat" {
		h.ask(t, nil, protocol.ReqBrokerHeartbeat, header)
		return ""
	}
	header.BrokerID = 0
	cmd := protocol.NewRequest(protocol.ReqQueryDataVersion, header)
	cmd.Fields.Add("brokerId", strconv.FormatInt(id, 10))
	var v protocol.DataVersion
	d.mustArg(t, "version", &v.Counter)
	cmd.Body = protocol.MarshalBody(v)
	r, err := h.serve(t, cmd, nil)
	return describe(r, err)
}

func (h *harness) transcribePerms(t *testing.T, d *step) string {
	var name string
	d.mustArg(t, "name", &name)
	code := protocol.ReqWipeWritePermOfBroker
	if d.cmd == "add" {
		code = protocol.ReqAddWritePermOfBroker
	}
	return describe(h.serve(t, protocol.NewRequest(code, &protocol.BrokerHeader{BrokerName: name}), nil))
}

func (h *harness) transcribeRoute(t *testing.T, d *step) string {
	var topic string
	d.mustArg(t, "topic", &topic)
	r, ok := h.Route(topic, h.conn(0).local.Addr())
	if !ok {
		return "none\n"
	}
	var b strings.Builder
	for _, q := range r.Queues {
		fmt.Fprintf(&b, "%s %d/%d perm %d\n", q.BrokerName, q.ReadQueues, q.WriteQueues, q.Perm)
	}
	for _, br := range r.Brokers {
		fmt.Fprintf(&b, "%s %v\n", br.BrokerName, br.Addrs)
	}
	return b.String()
}

// outcome is what the name server did of itself.
func (h *harness) outcome() string {
	var lines []string
	for id, c := range h.conns {
		if c.reason != "" {
			lines = append(lines, fmt.Sprintf("closed connection %d: %s\n", id, c.reason))
			delete(h.conns, id)
		}
	}
	slices.Sort(lines)
	if p := h.takePushes(); p != "none\n" {
		lines = append(lines, p)
	}
	return strings.Join(lines, "")
}

// state is all that the table knows.
func (h *harness) state() string {
	var b strings.Builder
	info := h.table.clusterInfo(h.conn(0).local.Addr())
	for _, name := range sortedKeys(info.Brokers) {
		br := info.Brokers[name]
		fmt.Fprintf(&b, "%s/%s %v\n", br.Cluster, name, br.Addrs)
	}
	var topics []string
	h.table.eachTopic(func(topic string, q protocol.QueueData) {
		topics = append(topics, fmt.Sprintf("  %s@%s %d/%d perm %d\n", topic, q.BrokerName, q.ReadQueues, q.WriteQueues, q.Perm))
	})
	slices.Sort(topics)
	return b.String() + strings.Join(topics, "")
}

func sortedKeys[V any](m map[string]V) []string {
	set := map[string]struct{}{}
	for k := range m {
		set[k] = struct{}{}
	}
	return sorted(set)
}
