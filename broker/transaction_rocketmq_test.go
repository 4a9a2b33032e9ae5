package broker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/broker/transaction"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// appendNow appends an entry and returns its record.
func (n *delayNode) appendNow(e store.Entry) message.Record {
	n.t.Helper()
	done := make(chan error, 1)
	batch := &store.Batch{Entries: []store.Entry{e}, Done: func(_ *store.Batch, err error) { done <- err }}
	if err := n.store.Append(batch); err != nil {
		n.t.Fatal(err)
	}
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
	return batch.Entries[0].Record
}

// prepared appends a half message for queue 0 of T.
func (n *delayNode) prepared(body string, more ...string) message.Record {
	n.t.Helper()
	t, err := n.topics.ensure("T", 1)
	if err != nil {
		n.t.Fatal(err)
	}
	p := message.AppendProperty(nil, message.PropUniqueKey, []byte("id-"+body))
	p = message.AppendProperty(p, message.PropProducerGroup, []byte("P"))
	for i := 0; i < len(more); i += 2 {
		p = message.AppendProperty(p, more[i], []byte(more[i+1]))
	}
	e := n.store.EntryFor(message.Record{
		Topic: t.name, Body: []byte(body), Properties: p, BornHost: testHost, StoreHost: testHost, BornTime: time.Now().UnixMilli(),
	}, t.queue(0))
	n.prepare(&e, false, slices.Clone(p))
	return n.appendNow(e)
}

// committed ends a transaction as END_TRANSACTION does.
func (n *delayNode) committed(half *message.Record) {
	n.t.Helper()
	asks := termsOf(half.Properties)
	e, _, err := n.commitOf(half, &asks, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	e.Target = &store.WithState{Queue: e.Target.(*store.Queue), Kind: kindTransactions, Changes: decidedHalf(&e.Record, half)}
	n.appendNow(e)
}

// pendingBodies returns what is pending, in order.
func (n *delayNode) pendingBodies() (list []string) {
	n.t.Helper()
	err := n.eachHalf(transaction.Pending, 0, func(h *transaction.Half) bool {
		r, _, err := n.store.RecordAt(h.Position)
		if err != nil || r.QueueOffset != h.Offset || h.Topic != "T" {
			n.t.Errorf("pending %+v: %+v, %v", h, r, err)
		}
		list = append(list, string(r.Body))
		return true
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return list
}

// settledFor returns the offsets of half messages that RocketMQ has nothing to do with any more, by consumerOffset.json and its op queue.
func (n *delayNode) settledFor(offsets []byte) (settled []int64) {
	n.t.Helper()
	var table foreignOffsets
	if err := json.Unmarshal(offsets, &table); err != nil {
		n.t.Fatal(err)
	}
	from := table.Offsets[message.TopicHalf+"@"+message.GroupTransactions][0]
	for offset := range from {
		settled = append(settled, offset)
	}
	for at, r := range n.read(message.TopicOpHalf) {
		if int64(at) < table.Offsets[message.TopicOpHalf+"@"+message.GroupTransactions][0] {
			continue
		}
		if string(message.Property(r.Properties, message.PropTags)) != opTag || len(r.Body) > opBytesMax+20 {
			n.t.Errorf("op message %+v", r)
		}
		for word := range strings.SplitSeq(strings.TrimSuffix(string(r.Body), ","), ",") {
			var offset int64
			if _, err := fmt.Sscan(word, &offset); err != nil {
				n.t.Errorf("op message %q: %v", r.Body, err)
			}
			settled = append(settled, offset)
		}
	}
	slices.Sort(settled)
	return settled
}

// A transaction that is open on one side is open on the other, and one that is settled is settled.
func TestTransactionsGoToRocketMQAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		n := startDelayNode(t, fs, delay.DefaultLevels())
		var halves []message.Record
		for i := range 2000 {
			halves = append(halves, n.prepared(fmt.Sprint("m", i)))
		}
		for i := range halves {
			if i != 3 && i != 1500 {
				n.committed(&halves[i])
			}
		}
		if diff := cmp.Diff([]string{"m3", "m1500"}, n.pendingBodies()); diff != "" {
			t.Fatal("pending ", diff)
		}
		n.Broker.Stop()
		files, _, err := ExportRocketMQ(n.store)
		if err != nil {
			t.Fatal(err)
		}
		settled := n.settledFor(files[fileOffsets])
		if len(settled) != len(halves)-2 || slices.Contains(settled, 3) || slices.Contains(settled, 1500) {
			t.Errorf("RocketMQ finds %d settled", len(settled))
		}
		if err := n.store.Leave(files); err != nil {
			t.Fatal(err)
		}

		n = startDelayNode(t, fs, delay.DefaultLevels())
		if diff := cmp.Diff([]string{"m3", "m1500"}, n.pendingBodies()); diff != "" {
			t.Fatal("taken over ", diff)
		}
		n.committed(&halves[3])
		n.prepared("ours")
		n.stop()
		n = startDelayNode(t, fs, delay.DefaultLevels()) // it is taken over once
		if diff := cmp.Diff([]string{"m1500", "ours"}, n.pendingBodies()); diff != "" {
			t.Fatal("after a restart ", diff)
		}
		n.stop()
		if err := fs.RemoveAll("store/view"); err != nil {
			t.Fatal(err)
		}
		n = startDelayNode(t, fs, delay.DefaultLevels())
		defer n.stop()
		if diff := cmp.Diff([]string{"m1500", "ours"}, n.pendingBodies()); diff != "" {
			t.Fatal("with a new view ", diff)
		}
	})
}

// What RocketMQ has put back into its half topic counts where it stands now, with the checks that it has had.
func TestHalfMessagesThatRocketMQPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		n := startDelayNode(t, fs, delay.DefaultLevels())
		first := n.prepared("checked")
		n.prepared("immune", message.PropCheckImmunity, "60")
		n.prepared("settled by its first place", message.PropPreparedOffset, "77")
		n.prepared("checked", message.PropCheckTimes, "4")
		op := func(body string) {
			n.appendNow(n.store.EntryFor(message.Record{
				Topic: []byte(message.TopicOpHalf), Body: []byte(body), Properties: message.AppendProperty(nil, message.PropTags, []byte(opTag)),
			}, n.store.Queue(message.TopicOpHalf, 0)))
		}
		op("55,")
		op("77,not a number,,")
		if err := n.store.UpdateState(kindTransactions, []store.Mutation{{Key: transaction.Key(transaction.Pending, first.QueueOffset)}}, func(error) {}); err != nil {
			t.Fatal(err)
		}
		n.Broker.Stop()
		files, _, err := ExportRocketMQ(n.store)
		if err != nil {
			t.Fatal(err)
		}
		// as RocketMQ leaves it: it has gone past the first copy, and has read one op message
		var table foreignOffsets
		if err := json.Unmarshal(files[fileOffsets], &table); err != nil {
			t.Fatal(err)
		}
		table.Offsets[message.TopicHalf+"@"+message.GroupTransactions] = map[int32]int64{0: 1}
		table.Offsets[message.TopicOpHalf+"@"+message.GroupTransactions] = map[int32]int64{0: 1}
		if files[fileOffsets], err = json.Marshal(table); err != nil {
			t.Fatal(err)
		}
		if err := n.store.Leave(files); err != nil {
			t.Fatal(err)
		}
		n = startDelayNode(t, fs, delay.DefaultLevels())
		defer n.stop()
		if diff := cmp.Diff([]string{"immune", "checked"}, n.pendingBodies()); diff != "" {
			t.Error(diff)
		}
		page, err := n.halves(transaction.Pending, 0, 10)
		if err != nil || len(page) != 2 || page[0].Immunity != "60" || page[1].Checks != 4 {
			t.Errorf("taken over %+v, %v", page, err)
		}
	})
}

// An open transaction keeps its half message's segment; once it is decided, the segment goes.
func TestRetentionStopsAtOpenTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startRetainingNode(t, vfs.NewMem(), delay.DefaultLevels(), store.Retention{BytesMax: 512 << 10})
		defer n.stop()
		fill := func() {
			for i := range 40 {
				n.mustSend("T", 0, fmt.Sprint(i, strings.Repeat("x", 100<<10)))
			}
			time.Sleep(15 * time.Second)
		}
		fill()
		open := n.prepared("open", message.PropCheckImmunity, "86400")
		for range 4 {
			fill()
		}
		if first := n.store.Log().First(); first == 0 || first > open.PhysicalOffset {
			t.Errorf("the log begins at %d, and the half message at %d is open", first, open.PhysicalOffset)
		}
		half, _, err := n.store.RecordAt(open.PhysicalOffset)
		if err != nil {
			t.Fatal(err)
		}
		n.committed(&half)
		for range 4 {
			fill()
		}
		if first := n.store.Log().First(); first < open.PhysicalOffset {
			t.Errorf("the log still begins at %d", first)
		}
	})
}
