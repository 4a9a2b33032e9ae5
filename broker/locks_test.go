package broker

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ask has a handler answer a request that came over no connection.
func (n *delayNode) ask(handle remoting.Handler, c *protocol.Command) (*remoting.Response, error) {
	type answer struct {
		resp *remoting.Response
		err  error
	}
	later := make(chan answer, 1)
	resp, err := handle(remoting.NewLocalRequest(c, func(resp *remoting.Response, err error) { later <- answer{resp, err} }))
	if errors.Is(err, remoting.ErrLater) {
		a := <-later
		return a.resp, a.err
	}
	return resp, err
}

// lock asks for queues of topic T and returns what the client holds of them.
func (n *delayNode) lock(client string, queues ...int32) string {
	n.t.Helper()
	resp, err := n.ask(n.lockBatch, lockRequest(protocol.ReqLockBatchMQ, client, queues...))
	if err != nil {
		n.t.Fatal(err)
	}
	var held protocol.LockBatchResult
	if err := protocol.UnmarshalBody(resp.Body, &held); err != nil {
		n.t.Fatal(err)
	}
	var ids []int32
	for _, q := range held.Locked {
		ids = append(ids, q.QueueID)
	}
	return fmt.Sprint(ids)
}

func lockRequest(code protocol.RequestCode, client string, queues ...int32) *protocol.Command {
	body := protocol.LockBatchBody{Group: "G", ClientID: client}
	for _, q := range queues {
		body.Queues = append(body.Queues, protocol.MessageQueue{Topic: "T", BrokerName: "b", QueueID: q})
	}
	c := protocol.NewRequest(code, nil)
	c.Body = protocol.MarshalBody(body)
	return c
}

func (n *delayNode) wantLocked(want, client string, queues ...int32) {
	n.t.Helper()
	if got := n.lock(client, queues...); got != want {
		n.t.Errorf("%s holds %s of %v, want %s", client, got, queues, want)
	}
}

func TestLocksExpireWithoutRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startDelayNode(t, vfs.NewMem(), delay.Levels{})
		defer n.stop()
		n.wantLocked("[0 1]", "c1", 0, 1)
		n.wantLocked("[2]", "c2", 0, 1, 2)
		time.Sleep(lockExpiry - time.Second)
		n.wantLocked("[]", "c2", 0)
		n.wantLocked("[0]", "c1", 0) // renewed
		time.Sleep(2 * time.Second)
		n.wantLocked("[1]", "c2", 0, 1)
		time.Sleep(lockExpiry + time.Second)
		n.wantLocked("[0]", "c2", 0)
	})
}

func TestLocksAreReleasedByTheirHolderOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startDelayNode(t, vfs.NewMem(), delay.Levels{})
		defer n.stop()
		n.wantLocked("[0 1]", "c1", 0, 1)
		for _, client := range []string{"c2", "c1"} {
			n.wantLocked("[]", "c3", 0)
			if _, err := n.ask(n.unlockBatch, lockRequest(protocol.ReqUnlockBatchMQ, client, 0, 7)); err != nil {
				t.Fatal(err)
			}
		}
		n.wantLocked("[0]", "c3", 0, 1)
	})
}

func TestLocksSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		n := startDelayNode(t, fs, delay.Levels{})
		n.wantLocked("[0 1]", "c1", 0, 1)
		if _, err := n.ask(n.unlockBatch, lockRequest(protocol.ReqUnlockBatchMQ, "c1", 1)); err != nil {
			t.Fatal(err)
		}
		n.stop()
		time.Sleep(10 * time.Minute)
		n = startDelayNode(t, fs, delay.Levels{})
		defer n.stop()
		n.wantLocked("[1]", "c2", 0, 1) // the holder of 0 has 60 s to come back
		time.Sleep(lockExpiry + time.Second)
		n.wantLocked("[0]", "c2", 0)
	})
}

func TestDisabledGroupsDoNotPull(t *testing.T) {
	n := startDelayNode(t, vfs.NewMem(), delay.Levels{})
	defer n.stop()
	disabled := *n.groups.find("G")
	disabled.ConsumeEnable = false
	n.groups.mu.Lock()
	n.groups.groups["G"] = &disabled
	n.groups.mu.Unlock()
	n.mustSend("T", 0, "m")
	_, err := n.ask(n.pull, protocol.NewRequest(protocol.ReqPullMessage, &protocol.PullHeader{Group: "G", Topic: "T", SysFlag: protocol.PullSubscription}))
	if code, remark := protocol.CodeOf(err); code != protocol.RespNoPermission || remark != "subscription group no permission, G" {
		t.Errorf("%s, %q", code, remark)
	}
}

func FuzzOffsetKey(f *testing.F) {
	f.Add(offsetKey{"G", "T", 3}.String())
	f.Add("T@G\x00")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := parseOffsetKey(s)
		if err != nil {
			return
		}
		if again, err := parseOffsetKey(k.String()); err != nil || again != k {
			t.Fatalf("%q: %+v, then %+v, %v", s, k, again, err)
		}
	})
}

func FuzzTopicAttributes(f *testing.F) {
	f.Add("+queue.type=BatchCQ,-cleanup.policy")
	f.Add("+,=,-")
	f.Fuzz(func(t *testing.T, change string) {
		changes, err := attribute.Parse(change)
		if err != nil {
			return
		}
		if got, err := attribute.Alter(nil, changes, attribute.Topics); err == nil && len(got) > len(attribute.Topics) {
			t.Fatalf("%q gave %v", change, got)
		}
	})
}
