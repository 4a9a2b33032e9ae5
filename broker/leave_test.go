package broker_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// Whoever gives a directory back to RocketMQ is told of everything that has no place there, and of nothing else.
func TestWhatIsLostWithRocketMQIsListed(t *testing.T) {
	c := testConfig(vfs.NewMem())
	c.SegmentBytes = 256 << 10 // as a node in memory has them
	n := startConfig(t, c)
	n.send(sendFields, "m")
	n.group("G")
	n.ok(protocol.ReqUpdateConsumerOffset, offsetFields.with("queueId", "1", "commitOffset", "0"), nil, nil)
	nothing := []string(nil)
	n.stop()
	leave := func() (lost []string) {
		t.Helper()
		_, lost, err := server.Leave(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return lost
	}
	if diff := cmp.Diff(nothing, leave()); diff != "" {
		t.Errorf("of a directory that has nothing to lose: %s", diff)
	}

	n = startConfig(t, c)
	beat := heartbeatBody("client", "G", "T", "a > 5", 7)
	n.ok(protocol.ReqHeartBeat, nil, []byte(strings.Replace(string(beat), `"expressionType":"TAG"`, `"expressionType":"SQL92"`, 1)), nil)
	n.ok(protocol.ReqUpdateColdDataFlowCtrConfig, nil, []byte("G=100\n"), nil)
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("pollWaitMax=1000"), nil)
	n.ok(protocol.ReqLockBatchMQ, nil, lockBody("G", "client", 0), nil)
	for _, group := range []string{"Acked", "Held"} {
		n.group(group)
		list, _, _ := n.pop(popFields.with("consumerGroup", group, "initMode", "0"))
		if len(list) != 1 {
			t.Fatalf("group %s popped %d messages", group, len(list))
		}
		if group == "Acked" {
			n.ack(list[0])
		}
	}
	n.stop()
	want := []string{
		"the setting pollWaitMax=1000, made while the broker ran: put it into broker.conf",
		"the limit of cold data of group G, 100 bytes: set it again with mqadmin updateColdDataFlowCtrGroupConfig",
		"the SQL92 expression of group G for topic T, which comes again with its consumers' next heartbeats",
		"a queue lock, which its consumer asks for again: G T 0",
		"what group Held has popped of topic T, queue 0, and which of it is acknowledged: it is delivered again from the group's offset on",
	}
	if diff := cmp.Diff(want, leave()); diff != "" {
		t.Error(diff)
	}
}
