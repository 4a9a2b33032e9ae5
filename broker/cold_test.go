package broker_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/broker/cold"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// coldNode has more log than memory reaches, in queue 0 of T, and limits what is read of it.
func coldNode(t *testing.T) (n *node, c server.Config, end string) {
	c = testConfig(vfs.NewMem())
	c.MemoryBytesMax = 64 << 20 // a third of it is the log's
	c.SegmentBytes = 16 << 20
	c.Cold.Enabled, c.Cold.GroupBytes = true, 100_000
	n = startConfig(t, c)
	t.Cleanup(func() { n.stop() })
	body := strings.Repeat("x", 60_000)
	const count = 400
	for range count {
		n.send(sendFields.with("properties", ""), body)
	}
	return n, c, fmt.Sprint(count - 1)
}

// member joins a group, whose type it says.
func (n *node) member(group, consumeType string) {
	n.t.Helper()
	n.group(group)
	beat := protocol.Heartbeat{ClientID: group, Consumers: []protocol.ConsumerData{{
		Group: group, ConsumeType: consumeType, Model: protocol.ModelClustering,
		Subscriptions: []protocol.SubscriptionData{{Topic: "T", Expression: "*", Type: protocol.ExpressionTag}},
	}}}
	n.ok(protocol.ReqHeartBeat, nil, protocol.MarshalBody(beat), nil)
}

func TestReadersOfColdDataAreThrottledAndOthersAreNot(t *testing.T) {
	n, _, end := coldNode(t)
	n.member("Push", protocol.ConsumePassively)
	n.member("Hot", protocol.ConsumePassively)
	n.member("Active", protocol.ConsumeActively)
	pull := func(group, offset string) *protocol.Command {
		return n.call(protocol.ReqPullMessage, pullFields.with("consumerGroup", group, "queueOffset", offset), nil)
	}
	waitFor(t, "a refusal", func() bool {
		answer := pull("Push", "0")
		busy := answer.Code == int32(protocol.RespSystemBusy)
		if busy && string(answer.Remark) != "This consumer group is reading cold data. It has been flow control" {
			t.Errorf("remark %q", answer.Remark)
		}
		return busy
	})
	for _, group := range []string{"Push", "Hot"} {
		if answer := pull(group, end); answer.Check() != nil || len(n.records(answer.Body)) != 1 {
			t.Errorf("a pull of %s near the log's end: %v", group, answer.Check())
		}
	}
	var info cold.Info
	answer := n.ok(protocol.ReqGetColdDataFlowCtrInfo, nil, nil, nil)
	if err := json.Unmarshal(answer.Body, &info); err != nil {
		t.Fatal(err)
	}
	if _, hot := info.Readers["Hot"]; hot || info.Readers["Push"].Last == 0 || info.Group != 100_000 {
		t.Errorf("information: %s", answer.Body)
	}
	waitFor(t, "a held pull", func() bool {
		began := time.Now()
		answer := pull("Active", "0")
		if answer.Check() != nil {
			t.Fatal(answer.Check())
		}
		return time.Since(began) >= 3*time.Second && len(n.records(answer.Body)) == 1
	})
	n.ok(protocol.ReqUpdateColdDataFlowCtrConfig, nil, []byte("Push=1000000000\n"), nil)
	for i := range 4 { // 1 MB
		if answer := pull("Push", fmt.Sprint(4*i)); answer.Check() != nil {
			t.Errorf("with a limit of its own: %v", answer.Check())
		}
	}
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("coldDataFlowControlEnable=false"), nil)
	n.ok(protocol.ReqRemoveColdDataFlowCtrConfig, nil, []byte("Push"), nil)
	for range 4 {
		if answer := pull("Push", "0"); answer.Check() != nil {
			t.Errorf("without flow control: %v", answer.Check())
		}
	}
}

func TestLimitsOfColdDataOutliveARestart(t *testing.T) {
	c := testConfig(vfs.NewMem())
	n := startConfig(t, c)
	n.ok(protocol.ReqUpdateColdDataFlowCtrConfig, nil, []byte("A=100\nB=200\n"), nil)
	n.ok(protocol.ReqRemoveColdDataFlowCtrConfig, nil, []byte("B"), nil)
	if answer := n.call(protocol.ReqUpdateColdDataFlowCtrConfig, nil, []byte("A=7\nC=much\n")); answer.Code != int32(protocol.RespInvalidParameter) {
		t.Errorf("a limit that is no number: %v", answer.Check())
	}
	want := `{"runtimeTable":{},"configTable":{"A":100},"cgColdReadThreshold":3145728,"globalColdReadThreshold":104857600,"globalAcc":0}`
	for _, when := range []string{"before", "after"} {
		if diff := cmp.Diff(want, string(n.ok(protocol.ReqGetColdDataFlowCtrInfo, nil, nil, nil).Body)); diff != "" {
			t.Errorf("%s the restart: %s", when, diff)
		}
		n.stop()
		n = startConfig(t, c)
	}
	n.stop()
}

func TestReadAheadIsSwitched(t *testing.T) {
	n := startNode(t, nil)
	for _, mode := range []string{"1", "0"} {
		answer := n.ok(protocol.ReqSetCommitLogReadMode, fields{"READ_AHEAD_MODE": mode}, nil, nil)
		if want := "set commitlog readahead mode success, mode: " + mode; string(answer.Remark) != want {
			t.Errorf("remark %q, want %q", answer.Remark, want)
		}
	}
	for mode, code := range map[string]protocol.ResponseCode{"2": protocol.RespInvalidParameter, "x": protocol.RespSystemError, "": protocol.RespSystemError} {
		if answer := n.call(protocol.ReqSetCommitLogReadMode, fields{"READ_AHEAD_MODE": mode}, nil); answer.Code != int32(code) {
			t.Errorf("mode %q: %v, want %s", mode, answer.Check(), code)
		}
	}
}
