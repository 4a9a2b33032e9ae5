package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ledger is what producers know of their transactions, which outlives the broker.
type ledger struct {
	mu      sync.Mutex
	entries map[string]*transactionEntry
	most    int // transactions of each producer
}

type transactionEntry struct {
	half   bool // acknowledged
	tried  bool // its end was sent, or was about to be
	ended  bool // acknowledged
	commit bool // what the producer means
}

func (l *ledger) note(id string, change func(e *transactionEntry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries[id] == nil {
		l.entries[id] = &transactionEntry{commit: len(id)%2 == 0 || strings.HasSuffix(id, "7")}
	}
	change(l.entries[id])
}

// copied is what was known at a moment.
func (l *ledger) copied() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &ledger{entries: map[string]*transactionEntry{}, most: l.most}
	for id, e := range l.entries {
		was := *e
		c.entries[id] = &was
	}
	return c
}

func (l *ledger) means(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	return e == nil || e.commit
}

// caller returns what asks the broker over a connection of its own, whether it is still there or not.
func (n *node) caller() (call func(c *protocol.Command) (*protocol.Command, error), stop func()) {
	client := remoting.NewClient(remoting.ClientConfig{Timeout: 2 * time.Second})
	return func(c *protocol.Command) (*protocol.Command, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		answer, err := client.Invoke(ctx, n.s.BrokerAddr(), c)
		if err == nil {
			err = answer.Check()
		}
		return answer, err
	}, client.Close
}

// produce runs transactions on a connection of its own until the broker ends, or enough were made.
func (l *ledger) produce(n *node, round, worker int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(worker)))
	call, stop := n.caller()
	defer stop()
	for i := range l.most {
		id := fmt.Sprintf("r%d-w%d-%d", round, worker, i)
		l.note(id, func(*transactionEntry) {})
		answer, err := call(command(protocol.ReqSendMessage, halfFields(id), []byte(id)))
		var half protocol.SendResult
		if err != nil || protocol.DecodeHeader(answer.Fields, &half) != nil {
			return
		}
		l.note(id, func(e *transactionEntry) { e.half = true })
		if r.IntN(5) == 0 {
			continue // it forgets to say how it ended
		}
		decision := rollback
		if l.means(id) {
			decision = commit
		}
		l.note(id, func(e *transactionEntry) { e.tried = true })
		for range 1 + r.IntN(2) {
			if _, err := call(command(protocol.ReqEndTransaction, endFields(half, decision), nil)); err != nil {
				return
			}
		}
		l.note(id, func(e *transactionEntry) { e.ended = true })
	}
}

// answer is a producer that ends the transactions it is asked for.
func (l *ledger) answer(n *node) {
	client := remoting.NewClient(remoting.ClientConfig{Timeout: 20 * time.Second, OnRequest: func(r *remoting.Request) (*remoting.Response, error) {
		var h protocol.CheckTransactionHeader
		if r.Code != int32(protocol.ReqCheckTransactionState) || r.Read(&h) != nil {
			return nil, nil
		}
		decision := int32(rollback)
		if l.means(h.MsgID) {
			decision = commit
		}
		return nil, r.Conn.OneWay(protocol.NewRequest(protocol.ReqEndTransaction, &protocol.EndTransactionHeader{
			Topic: h.Topic, ProducerGroup: "P", QueueOffset: h.QueueOffset, LogOffset: h.LogOffset, Decision: decision, FromCheck: true,
			MsgID: h.MsgID, TransactionID: h.TransactionID,
		}))
	}})
	n.t.Cleanup(client.Close)
	beat := protocol.MarshalBody(protocol.Heartbeat{ClientID: "answers", Producers: []protocol.ProducerData{{Group: "P"}}})
	if answer, err := client.Invoke(n.t.Context(), n.s.BrokerAddr(), command(protocol.ReqHeartBeat, nil, beat)); err != nil || answer.Check() != nil {
		n.t.Fatal(err, answer)
	}
}

// pending counts the half messages for topic T that are not decided.
func (n *node) pending() int {
	n.t.Helper()
	value, _ := n.findMetric(`rocketmq_half_messages{cluster="DefaultCluster",node_id="broker-a",node_type="broker",topic="T"}`)
	return value
}

// all returns the bodies of all messages in queue 0 of a topic.
func (n *node) all(topic string) (list []string) {
	for next := int64(0); ; {
		answer := n.call(protocol.ReqPullMessage, pullFields.with("topic", topic, "queueOffset", fmt.Sprint(next), "maxMsgNums", "1000"), nil)
		if answer.Code != int32(protocol.RespSuccess) {
			return list
		}
		for _, r := range n.records(answer.Body) {
			list, next = append(list, string(r.Body)), r.QueueOffset+1
		}
	}
}

// Crashes at any moment, between half message and decision, and while they are checked: a message whose commit was acknowledged is there
// once, one whose rollback was acknowledged is not; what was left open is asked for and decided; a view that is made anew agrees.
func TestTransactionsSurviveCrashes(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { crashTransactions(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func crashConfig(fs vfs.FS, checks int32) server.Config {
	c := testConfig(fs)
	quickChecks(checks)(&c)
	c.Transactions.Timeout = 20 * time.Millisecond
	c.TransferCountMax = 1000
	return c
}

// crashRounds has producers run transactions, so many each, beside what also starts, and the broker crash; it returns what is left.
func crashRounds(t *testing.T, r *rand.Rand, checks int32, most int, also func(*node, *ledger, int, *sync.WaitGroup)) (crashfs.FS, *ledger) {
	fs, known := crashfs.New(), &ledger{entries: map[string]*transactionEntry{}, most: most}
	for round := range 5 {
		n := startConfig(t, crashConfig(fs, checks))
		n.group("G")
		var wait sync.WaitGroup
		also(n, known, round, &wait)
		for worker := range 4 {
			seed := r.Uint64()
			wait.Go(func() { known.produce(n, round, worker, seed) })
		}
		time.Sleep(time.Duration(50+r.IntN(250)) * time.Millisecond) // the moment of a crash is chance
		then := known.copied()
		next := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(r.Uint64(), 3))})
		sent := known.copied()
		n.stop()
		wait.Wait()
		for id, e := range then.entries { // what was sent meanwhile may have come
			e.tried = e.tried || sent.entries[id].tried
		}
		fs, known = next, then
	}
	return fs, known
}

func crashTransactions(t *testing.T, r *rand.Rand) {
	fs, known := crashRounds(t, r, 100_000, 5000, func(n *node, known *ledger, round int, _ *sync.WaitGroup) {
		if round%2 == 1 {
			known.answer(n)
		}
	})
	configure := func() server.Config { return crashConfig(fs, 100_000) }
	n := startConfig(t, configure())
	known.answer(n)
	waitFor(t, "every transaction to be decided", func() bool { return n.pending() == 0 })
	before := n.all("T")
	n.stop()
	counts := map[string]int{}
	for _, id := range before {
		if counts[id]++; counts[id] > 1 {
			t.Errorf("%s is there twice", id)
		}
	}
	acked := 0
	for id, e := range known.entries {
		if e.half {
			acked++
		}
		if want := e.commit && e.half; want && counts[id] == 0 {
			t.Errorf("%s was committed (half %v, end %v acknowledged) and is not there", id, e.half, e.ended)
		}
		if !e.commit && counts[id] > 0 {
			t.Errorf("%s was rolled back and is there", id)
		}
	}
	t.Logf("%d transactions, %d acknowledged, %d messages", len(known.entries), acked, len(before))
	if err := fs.RemoveAll("data/store/view"); err != nil {
		t.Fatal(err)
	}
	n = startConfig(t, configure())
	defer n.stop()
	if pending := n.pending(); pending != 0 {
		t.Errorf("with a new view %d half messages are pending", pending)
	}
	if after := n.all("T"); strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("with a new view %d messages are there, %d before", len(after), len(before))
	}
	if len(n.all(message.TopicCheckMax)) > 0 {
		t.Error("transactions were given up")
	}
}

// resume has every half message that is given up checked again, until the broker ends.
func (n *node) resume() {
	call, stop := n.caller()
	defer stop()
	for next := int64(0); ; {
		answer, err := call(command(protocol.ReqPullMessage, pullFields.with("topic", message.TopicCheckMax, "queueOffset", fmt.Sprint(next), "maxMsgNums", "100"), nil))
		if err != nil {
			if answer == nil {
				return
			}
			time.Sleep(time.Millisecond) // nothing yet
			continue
		}
		for body := answer.Body; len(body) > 0; {
			r, size, err := message.Decode(body)
			if err != nil {
				n.t.Error(err)
				return
			}
			body, next = body[size:], r.QueueOffset+1
			if answer, _ := call(command(protocol.ReqResumeCheckHalfMessage, resumeFields(&r), nil)); answer == nil {
				return
			}
		}
	}
}

func resumeFields(r *message.Record) fields {
	return fields{"topic": message.TopicCheckMax, "msgId": string(message.AppendOffsetID(nil, r.StoreHost, r.PhysicalOffset))}
}

// givenUp has what is given up and not decided checked again, and returns the bodies. Nothing may be there twice.
func (n *node) givenUp() map[string]bool {
	n.t.Helper()
	var list []message.Record
	for next := int64(0); ; {
		answer := n.call(protocol.ReqPullMessage, pullFields.with("topic", message.TopicCheckMax, "queueOffset", fmt.Sprint(next), "maxMsgNums", "1000"), nil)
		if answer.Code != int32(protocol.RespSuccess) {
			break
		}
		for _, r := range n.records(answer.Body) {
			list, next = append(list, r), r.QueueOffset+1
		}
	}
	open := map[string]bool{}
	for i := range list {
		if n.call(protocol.ReqResumeCheckHalfMessage, resumeFields(&list[i]), nil).Code == int32(protocol.RespSuccess) {
			if id := string(list[i].Body); open[id] {
				n.t.Errorf("%s is given up twice", id)
			} else {
				open[id] = true
			}
		}
	}
	return open
}

// Crashes while half messages are given up and checked again: each is committed, rolled back or given up, never two of them; what was
// given up can be checked again, and is decided then.
func TestGivenUpTransactionsSurviveCrashes(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { crashGivenUp(t, rand.New(rand.NewPCG(seed, 8))) })
	}
}

func crashGivenUp(t *testing.T, r *rand.Rand) {
	fs, known := crashRounds(t, r, 2, 200, func(n *node, _ *ledger, _ int, wait *sync.WaitGroup) { wait.Go(n.resume) })
	n := startConfig(t, crashConfig(fs, 2))
	waitFor(t, "every half message to be decided or given up", func() bool { return n.pending() == 0 })
	committed := map[string]bool{}
	for _, id := range n.all("T") {
		if committed[id] {
			t.Errorf("%s is there twice", id)
		}
		committed[id] = true
	}
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("transactionCheckMax=1000"), nil)
	open := n.givenUp()
	for id, e := range known.entries {
		switch {
		case committed[id] && open[id]:
			t.Errorf("%s is committed and given up", id)
		case committed[id] && (!e.commit || !e.tried):
			t.Errorf("%s is committed, and nobody asked for it", id)
		case e.half && !committed[id] && !open[id] && (e.commit || !e.tried):
			t.Errorf("%s (end sent %v, acknowledged %v) is neither committed nor given up", id, e.tried, e.ended)
		}
	}
	if len(open) == 0 || len(committed) == 0 {
		t.Errorf("%d are given up, %d committed: the test has not tried what it is for", len(open), len(committed))
	}
	known.answer(n)
	waitFor(t, "what was given up to be decided", func() bool { return n.pending() == 0 })
	before := n.all("T")
	n.stop()
	counts := map[string]int{}
	for _, id := range before {
		counts[id]++
	}
	for id := range open {
		if want := known.means(id); counts[id] > 1 || want != (counts[id] == 1) {
			t.Errorf("%s was given up and checked again, and is there %d times; to be committed: %v", id, counts[id], want)
		}
	}
	t.Logf("%d transactions, %d given up at the end, %d messages", len(known.entries), len(open), len(before))
	if err := fs.RemoveAll("data/store/view"); err != nil {
		t.Fatal(err)
	}
	n = startConfig(t, crashConfig(fs, 2))
	defer n.stop()
	if after := n.all("T"); n.pending() != 0 || strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("with a new view %d half messages are pending, and %d messages are there, %d before", n.pending(), len(after), len(before))
	}
	if again := n.givenUp(); len(again) > 0 {
		t.Errorf("with a new view %d are given up that were decided", len(again))
	}
}
