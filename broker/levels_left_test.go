package broker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
)

// fillUntilGone sends other messages until retention has taken the segment of a log position.
func (n *delayNode) fillUntilGone(position int64) {
	n.t.Helper()
	for tries := 0; n.store.Log().First() <= position; tries++ {
		n.fill()
		if err := n.store.Stage(); err != nil {
			n.t.Fatal(err)
		}
		n.store.RetainNow()
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if tries == 50 {
			n.t.Fatalf("the log begins at %d, a message waits at %d", n.store.Log().First(), position)
		}
	}
}

// What was moved waits on once its directory is RocketMQ's, as a timed message that has nothing by which RocketMQ would do anything else
// with it, and on the way back it is what it was.
func TestMovedMessagesGoToRocketMQAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		levels := delay.Levels{time.Second, time.Hour}
		n := startRetainingNode(t, fs, levels, store.Retention{BytesMax: 1 << 20})
		sent := n.mustSendFailed("%RETRY%g", 2, "late")
		n.fillUntilGone(sent.PhysicalOffset)
		n.Broker.Stop()
		_, before := n.store.Queue(message.TopicTimerWheel, 0).Bounds()
		files, lost, err := ExportRocketMQ(n.store)
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(lost, "\n"); !strings.Contains(all, "that 1 messages waited in a delay level") {
			t.Errorf("what has no place in RocketMQ is %q", all)
		}
		home := n.read(message.TopicTimerWheel)
		if len(home) == 0 || home[len(home)-1].QueueOffset != before {
			t.Fatalf("of %d messages none is at offset %d, from which on RocketMQ looks", len(home), before)
		}
		got, p := map[string]string{}, home[len(home)-1].Properties
		for k, v := range message.Properties(p) {
			got[string(k)] = string(v)
		}
		delete(got, message.PropCRC)
		delete(got, message.PropTimerEnqueue) // of the last copy
		due := fmt.Sprint(sent.StoreTime + time.Hour.Milliseconds())
		want := map[string]string{
			message.PropTimerOut: due, message.PropRealTopic: "%RETRY%g", message.PropRealQueueID: "0", message.PropUniqueKey: "id-late",
			message.PropTags: "blue", message.PropKeys: "k", message.PropRetryTopic: "Origin", "own": "x",
			"APOGEE_LEVEL_DELAY": "2", "APOGEE_LEVEL_TIMER_OUT_MS": "1000", "APOGEE_LEVEL_TIMER_ENQUEUE_MS": "2000", "APOGEE_LEVEL_TIMER_DEQUEUE_MS": "3000",
			"APOGEE_LEVEL_TIMER_DEL_UNIQKEY": "someone", "APOGEE_LEVEL_APOGEE_LEVEL_DELAY": "user's own",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("RocketMQ finds: %s", diff)
		}
		if err := n.store.Leave(files); err != nil {
			t.Fatal(err)
		}

		n = startDelayNode(t, fs, levels)
		synctest.Wait()
		time.Sleep(time.Second)
		n.wantCount(1)
		time.Sleep(time.Until(time.UnixMilli(sent.StoreTime + time.Hour.Milliseconds() - 1)))
		synctest.Wait()
		if early := n.read("%RETRY%g"); len(early) > 0 {
			t.Error("it came early")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		came := n.read("%RETRY%g")
		if len(came) != 1 {
			t.Fatalf("%d messages came", len(came))
		}
		stayed, _, _ := strings.Cut(string(sent.Properties), message.PropCRC)
		if whole, _, _ := strings.Cut(string(came[0].Properties), message.PropCRC); whole != stayed {
			t.Errorf("came with    %q\nwas sent with %q", whole, stayed)
		}
		n.wantCount(0)
		n.stop()
	})
}

// cut is what a power cut before some operation of the file system leaves.
type cut struct {
	operation    string
	fs           crashfs.FS
	acknowledged map[string]bool
}

var cutLevels = delay.Levels{time.Second, 20 * time.Minute}

// While messages of a level are moved and their segments go, the power is cut before every so many-th operation that changes a file: each
// message that was acknowledged by then comes once, and none early.
func TestAPowerCutAtAnyOperationLosesAndDoublesNothingThatIsMoved(t *testing.T) {
	var cuts []cut
	var began, ended time.Time
	synctest.Test(t, func(t *testing.T) {
		began = time.Now()
		cuts = moveAndCut(t, 11)
		ended = time.Now()
	})
	moved := 0
	for _, c := range cuts {
		synctest.Test(t, func(t *testing.T) { // whose clock begins anew
			time.Sleep(time.Until(ended))
			n := startRetainingNode(t, c.fs, cutLevels, store.Retention{})
			defer n.stop()
			if _, end := n.store.Queue(message.TopicTimerWheel, 0).Bounds(); end > 0 {
				moved++
			}
			time.Sleep(time.Until(began.Add(cutLevels[1] - time.Millisecond)))
			synctest.Wait()
			if early := len(n.read("Late")); early > 0 {
				t.Errorf("cut %s: %d come early", c.operation, early)
			}
			time.Sleep(time.Until(ended.Add(cutLevels[1] + time.Second)))
			synctest.Wait()
			came := map[string]int{}
			for _, body := range bodies(n.read("Late")) {
				if came[body]++; came[body] > 1 {
					t.Errorf("cut %s: %s comes twice", c.operation, body)
				}
			}
			for body := range c.acknowledged {
				if came[body] == 0 {
					t.Errorf("cut %s: %s was acknowledged and is lost", c.operation, body)
				}
			}
			n.wantCount(0)
		})
	}
	if t.Logf("%d cuts, %d of them after something was moved", len(cuts), moved); moved == 0 || moved == len(cuts) {
		t.Error("the cuts are not spread over the move")
	}
}

// moveAndCut sends messages to a level, has them moved, and cuts the power meanwhile.
func moveAndCut(t *testing.T, every int) (cuts []cut) {
	disk := crashfs.New()
	var mu sync.Mutex // guards the cuts and
	operations, acknowledged := 0, map[string]bool{}
	n := startRetainingNode(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		if operations++; operations%every == 0 {
			random := rand.New(rand.NewPCG(uint64(operations), 7))
			c := cut{operation: fmt.Sprintf("%d (%s)", operations, op.Path), acknowledged: maps.Clone(acknowledged)}
			c.fs = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
			cuts = append(cuts, c)
		}
		return nil
	})), cutLevels, store.Retention{BytesMax: 512 << 10})
	last := int64(0)
	for i := range 60 {
		body := fmt.Sprint("m", i)
		last = n.mustSend("Late", 2, body)
		mu.Lock()
		acknowledged[body] = true
		mu.Unlock()
	}
	n.fillUntilGone(last)
	n.stop()
	return cuts
}
