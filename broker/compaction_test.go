package broker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/attribute"
	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// compactionTopic makes a topic of one queue whose policy is COMPACTION.
func (n *delayNode) compactionTopic(name string) {
	n.t.Helper()
	done := make(chan error, 1)
	_, err := n.topics.set(protocol.TopicConfig{
		TopicName: name, ReadQueues: 1, WriteQueues: 1, Perm: protocol.PermRead | protocol.PermWrite, FilterType: protocol.FilterTypeSingleTag,
		Attributes: map[string]string{attribute.CleanupPolicy: attribute.Compaction},
	}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// putKey appends a message with a key.
func (n *delayNode) putKey(topic, key, body string) {
	n.t.Helper()
	t := n.topics.find(topic)
	done := make(chan error, 1)
	err := n.store.Append(&store.Batch{
		Entries: []store.Entry{n.store.EntryFor(message.Record{
			Topic: t.name, Body: []byte(body), Properties: message.AppendProperty(nil, message.PropKeys, []byte(key)), BornHost: testHost, StoreHost: testHost,
		}, t.queue(0))},
		Done: func(_ *store.Batch, err error) { done <- err },
	})
	if err == nil {
		err = <-done
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// left returns the messages of queue 0 of a topic, as "offset key=body".
func (n *delayNode) left(topic string) (list []string) {
	n.t.Helper()
	var r store.Result
	q := n.store.Find(topic, 0)
	for at, end := q.Bounds(); at < end; at++ {
		raw, err := n.store.ReadOne(&r, q, at)
		if err != nil {
			n.t.Fatal(err)
		}
		if raw == nil {
			continue
		}
		m, size, err := message.Decode(raw)
		if err == nil {
			err = m.Verify(raw[:size])
		}
		if err != nil {
			n.t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%d %s=%s", m.QueueOffset, message.Property(m.Properties, message.PropKeys), m.Body))
		r.Release()
	}
	return list
}

func TestMessagesAreCompactedOnceTheyAreAnIntervalOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startDelayNode(t, vfs.NewMem(), delay.DefaultLevels())
		defer n.stop()
		n.compactionTopic("C")
		n.putKey("C", "a", "1")
		n.putKey("C", "b", "2")
		n.putKey("C", "a", "3")
		time.Sleep(DefaultCompactEvery + time.Minute) // the first round sees them
		n.putKey("C", "b", "4")
		n.putKey("C", "c", "5")
		n.putKey("C", "c", "")
		if got := len(n.left("C")); got != 6 {
			t.Fatalf("%d messages before the second round", got)
		}
		time.Sleep(DefaultCompactEvery)
		synctest.Wait()
		if diff := cmp.Diff([]string{"1 b=2", "2 a=3", "3 b=4", "4 c=5", "5 c="}, n.left("C")); diff != "" {
			t.Error("after the second round ", diff)
		}
		time.Sleep(DefaultCompactEvery)
		synctest.Wait()
		if diff := cmp.Diff([]string{"2 a=3", "3 b=4"}, n.left("C")); diff != "" {
			t.Error("after the third round ", diff)
		}
	})
}

// Retention takes the segments, and the last message of each key stays where clients know it.
func TestTheLastMessageOfAKeyOutlivesItsSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		retention := store.Retention{BytesMax: 512 << 10}
		n := startRetainingNode(t, fs, delay.DefaultLevels(), retention)
		n.compactionTopic("C")
		var want []string
		const keys = 40
		for i := range 10 * keys {
			key, body := fmt.Sprint("k", i%keys), fmt.Sprint(i, strings.Repeat("v", 2000))
			n.putKey("C", key, body)
			if i >= 9*keys {
				want = append(want, fmt.Sprintf("%d %s=%s", i, key, body))
			}
		}
		_, end := n.store.Find("C", 0).Bounds()
		written := n.store.Log().Confirmed()
		for range 6 {
			for i := range 40 {
				n.mustSend("T", 0, fmt.Sprint(i, strings.Repeat("x", 30<<10)))
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if diff := cmp.Diff(want, n.left("C")); n.store.Log().First() > 0 && diff != "" {
				t.Fatal(diff)
			}
		}
		if first := n.store.Log().First(); first <= written {
			t.Fatalf("the log begins at %d, the last message was at %d", first, written)
		}
		n.stop()
		if err := fs.RemoveAll("store/view"); err != nil {
			t.Fatal(err)
		}
		n = startRetainingNode(t, fs, delay.DefaultLevels(), retention)
		defer n.stop()
		if diff := cmp.Diff(want, n.left("C")); diff != "" {
			t.Error("with a new view ", diff)
		}
		n.putKey("C", "k0", "again")
		if got := n.left("C"); got[len(got)-1] != fmt.Sprintf("%d k0=again", end) {
			t.Errorf("the next message is %.20s, want it at %d", got[len(got)-1], end)
		}
	})
}
