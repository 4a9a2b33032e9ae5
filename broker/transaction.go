package broker

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/broker/transaction"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Transactions: sends with TRAN_MSG=true (codes 10, 310), END_TRANSACTION (37, end_transaction.go), RESUME_CHECK_HALF_MESSAGE (323); pushed to
// producers: CHECK_TRANSACTION_STATE (39, transaction_shell.go).
//
// What clients see: a half message is answered with its place in RMQ_SYS_TRANS_HALF_TOPIC, which END_TRANSACTION brings back; consumers
// see the message once it is committed, with sysFlag 8 and the log position of the half message as its prepared offset. A half message that is
// not decided is asked for every transactionCheckInterval, from transactionTimeOut or its own CHECK_IMMUNITY_TIME_IN_SECONDS on; after
// transactionCheckMax checks, or older than fileReservedTime, it goes to TRANS_CHECK_MAX_TIME_TOPIC, from where 323 brings it back.
//
// How it is stored: the half message as RocketMQ stores it. That it is pending is state (kind "transactions", package transaction), which
// its record brings about by being there (Pending), as a commit's record, which names it as its source, ends it (Retired): no crash can
// come between. Checks are counted in the state; RocketMQ appends the message anew for each one.
//
// Differences: of several decisions about one half message the first one counts, and all are answered as it was; RocketMQ delivers a
// message for every commit. The time within a message's immunity does not count as checks; RocketMQ gives a message up after
// transactionCheckMax rounds even if none of them asked. A check names the half message's first place, always. DELAY and timer properties
// of a half message count when it is committed, where RocketMQ delays the half message itself. Pending half messages hold retention back.

// TransactionOptions are the broker's options for transactions; names of RocketMQ's keys in brackets. The zero value takes the defaults.
type TransactionOptions struct {
	Reject        bool          // rejectTransactionMessage: refuse half messages
	CheckInterval time.Duration // transactionCheckInterval
	Timeout       time.Duration // transactionTimeOut: age from which on a message is checked
	ChecksMax     int32         // transactionCheckMax
	Reserved      time.Duration // fileReservedTime: age at which a message is given up; 0: none
}

// DefaultTransactionOptions are RocketMQ's.
func DefaultTransactionOptions() TransactionOptions {
	return TransactionOptions{CheckInterval: 30 * time.Second, Timeout: 6 * time.Second, ChecksMax: 15}
}

// rules are the options in force.
func (b *Broker) rules() transaction.Rules {
	s := b.live()
	return transaction.Rules{
		Interval: s.checkInterval.Milliseconds(), Timeout: s.checkTimeout.Milliseconds(), ChecksMax: s.checksMax,
		ReservedMS: b.c.Transactions.Reserved.Milliseconds(),
	}
}

// transactions is what the broker keeps in memory about them.
type transactions struct {
	b        *Broker
	queue    *store.Queue     // of half messages
	traffic  *traffic.Counter // of the half topic
	shell    checkShell
	finished *traffic.Histograms // from birth to commit, by topic

	mu      sync.Mutex         // guards claimed; never held while appending
	claimed map[int64]struct{} // offsets of half messages that somebody decides, counts or gives up, until that is durable
	freed   sync.Cond
}

// finishedTopicsMax bounds the topics whose transactions are timed.
const finishedTopicsMax = 1024

func newTransactions(b *Broker) (*transactions, error) {
	t := &transactions{
		b: b, queue: b.store.Queue(message.TopicHalf, 0), claimed: map[int64]struct{}{},
		traffic:  b.traffic.Of(message.TopicHalf, "", true),
		finished: traffic.NewHistograms(finishedTopicsMax, 5*time.Second, time.Minute, 10*time.Minute, time.Hour, 12*time.Hour, 24*time.Hour),
	}
	t.freed.L = &t.mu
	if err := b.takeOverTransactions(); err != nil && !errors.Is(err, store.ErrDamaged) { // the next start does, once the damage is accepted
		return nil, err
	}
	err := b.eachHalf(transaction.Pending, 0, func(h *transaction.Half) bool {
		t.begun(h.Topic, 1)
		return true
	})
	t.shell.init(t)
	return t, err
}

// claim takes a half message for a decision; false when somebody else has it.
func (t *transactions) claim(offset int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.claimed[offset]; taken {
		return false
	}
	t.claimed[offset] = struct{}{}
	return true
}

// free ends a claim.
func (t *transactions) free(offset int64) {
	t.mu.Lock()
	delete(t.claimed, offset)
	t.mu.Unlock()
	t.freed.Broadcast()
}

// await waits until nobody has a half message. What it waits for is on its way to the disk.
func (t *transactions) await(offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if _, taken := t.claimed[offset]; !taken {
			return
		}
		t.freed.Wait()
	}
}

// begun counts half messages of a topic that are pending, ended those that are not any more.
func (t *transactions) begun(topic string, n int) {
	t.b.traffic.OfKey(traffic.Key{Topic: topic, Kind: traffic.Half}, false).Add(n, 0)
}

func (t *transactions) ended(topic string) { t.begun(topic, -1) }

func (b *Broker) transactionFigures() (list []Transactions) {
	at := map[string]int{}
	note := func(kind traffic.Kind, set func(t *Transactions, n int64)) {
		b.traffic.Each(kind, func(topic, _ string, n int64) {
			i, ok := at[topic]
			if !ok {
				i = len(list)
				at[topic], list = i, append(list, Transactions{Topic: topic})
			}
			set(&list[i], n)
		})
	}
	note(traffic.Half, func(t *Transactions, n int64) { t.Half = n })
	note(traffic.Committed, func(t *Transactions, n int64) { t.Committed = n })
	note(traffic.RolledBack, func(t *Transactions, n int64) { t.RolledBack = n })
	return list
}

// prepare makes of an entry for some queue the half message that waits for the end of its transaction
// (TransactionalMessageBridge.parseHalfMessageInner). Its properties stand at the end of arena; forged: some of them are to be replaced.
func (b *Broker) prepare(e *store.Entry, forged bool, arena []byte) []byte {
	start := len(arena) - len(e.Record.Properties)
	if forged {
		start = len(arena)
		arena = message.AppendWithout(arena, e.Record.Properties, message.PropRealTopic, message.PropRealQueueID, message.PropTransactionID)
	}
	if id := message.Property(arena[start:], message.PropUniqueKey); len(id) > 0 {
		arena = message.AppendProperty(arena, message.PropTransactionID, id)
	}
	arena = message.AppendProperty(arena, message.PropRealTopic, e.Record.Topic)
	arena = message.AppendProperty(arena, message.PropRealQueueID, strconv.AppendInt(nil, int64(e.Record.QueueID), 10))
	queue := b.transactions.queue
	e.Record.Properties = arena[start:len(arena):len(arena)]
	e.Record.SysFlag &^= message.FlagTransactionMask
	e.Record.Topic, e.Record.QueueID = halfTopic, queue.ID
	e.Sequence, e.Target = &queue.Sequence, queue
	store.IndexEntry(e)
	return arena
}

var halfTopic = []byte(message.TopicHalf)

// halfOf reads what the state holds of a half message.
func halfOf(r *message.Record) transaction.Half {
	t := termsOf(r.Properties)
	checks, _ := protocol.ParseInt(t.checks)
	return transaction.Half{
		Offset: r.QueueOffset, Position: r.PhysicalOffset, Size: int32(len(r.Body)), Born: r.BornTime,
		Immunity: string(t.immunity), Checks: int32(checks), Topic: string(t.topic),
	}
}

// pendingHalf is what a half message changes by being there.
func pendingHalf(r *message.Record) store.Mutation {
	h := halfOf(r)
	return store.Mutation{Key: transaction.Key(transaction.Pending, h.Offset), Value: h.Value()}
}

// decidedHalf is what a record changes that names a half message as its source: it commits the message, gives it up, or has it checked
// anew.
func decidedHalf(r, source *message.Record) []store.Mutation {
	changes := []store.Mutation{
		{Key: transaction.Key(transaction.Pending, source.QueueOffset)}, {Key: transaction.Key(transaction.GivenUp, source.QueueOffset)},
	}
	if string(r.Topic) == message.TopicCheckMax {
		h := halfOf(source)
		checks, _ := protocol.ParseInt(message.Property(r.Properties, message.PropCheckTimes))
		h.Checks = int32(checks)
		changes[1].Value = h.Value()
	}
	return changes
}

// half returns what is known of the half message at an offset, and in which list it is; found is false when it was decided, or never was.
func (b *Broker) half(offset int64) (h transaction.Half, list byte, found bool, err error) {
	for _, list := range []byte{transaction.Pending, transaction.GivenUp} {
		key := transaction.Key(list, offset)
		value, err := b.store.StateAt(kindTransactions, key)
		if err != nil {
			return h, 0, false, err
		}
		if value != nil {
			h, _, err = transaction.Decode(key, value)
			return h, list, err == nil, err
		}
	}
	return h, 0, false, nil
}

// halvesPage is how many half messages are looked at at a time.
const halvesPage = 2048

// halves returns up to n half messages of a list, in order, from an offset on.
func (b *Broker) halves(list byte, from int64, n int) (page []transaction.Half, err error) {
	err = b.store.StateFrom(kindTransactions, transaction.Key(list, from), n, func(key string, value []byte) error {
		if key[0] != list {
			return errEnough
		}
		h, _, err := transaction.Decode(key, value)
		page = append(page, h)
		return err
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return page, err
}

// errEnough ends a walk through the state.
var errEnough = errors.New("enough")

// eachHalf calls fn for the half messages of a list from an offset on, until it returns false.
func (b *Broker) eachHalf(list byte, from int64, fn func(h *transaction.Half) bool) error {
	for {
		page, err := b.halves(list, from, halvesPage)
		for i := range page {
			if !fn(&page[i]) {
				return nil
			}
			from = page[i].Offset + 1
		}
		if err != nil || len(page) < halvesPage {
			return err
		}
	}
}

// pendingFrom returns the log position of the oldest pending half message, math.MaxInt64 where there is none.
func (b *Broker) pendingFrom() (int64, error) {
	page, err := b.halves(transaction.Pending, 0, 1)
	if err != nil || len(page) == 0 {
		return math.MaxInt64, err
	}
	return page[0].Position, nil
}

// checkMaxQueues is how many queues TRANS_CHECK_MAX_TIME_TOPIC has (TCMT_QUEUE_NUMS).
const checkMaxQueues = 1

// resumeCheck has a half message checked again that was given up: a copy of it begins anew. Only messages of TRANS_CHECK_MAX_TIME_TOPIC
// are taken, where RocketMQ makes a half message of any record.
func (b *Broker) resumeCheck(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ResumeCheckHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	refuse := func(format string, args ...any) error {
		return protocol.Errorf(protocol.RespSystemError, "Put message back to RMQ_SYS_TRANS_HALF_TOPIC failed. %s", fmt.Sprintf(format, args...))
	}
	_, position, err := message.ParseOffsetID(h.MsgID)
	if err != nil {
		return nil, refuse("%s", err)
	}
	var pins store.Pins
	defer pins.Release()
	lost, _, err := b.store.Look(position, &pins)
	if err != nil || string(lost.Topic) != message.TopicCheckMax {
		return nil, refuse("There is no message of %s with the id %s", message.TopicCheckMax, h.MsgID)
	}
	again := lost
	again.Topic, again.PreparedOffset = halfTopic, 0
	again.Properties = message.AppendWithout(nil, lost.Properties, message.PropCheckTimes, message.PropCRC)
	again.Properties = message.AppendProperty(again.Properties, message.PropCheckTimes, []byte("0"))
	e := b.store.EntryFor(again, b.transactions.queue)
	offset := int64(-1)
	if half, _, err := b.store.Look(lost.PreparedOffset, &pins); lost.PreparedOffset > 0 && err == nil && string(half.Topic) == message.TopicHalf {
		offset = half.QueueOffset
		for !b.transactions.claim(offset) {
			b.transactions.await(offset)
		}
		if _, list, found, err := b.half(offset); err != nil || !found || list != transaction.GivenUp {
			b.transactions.free(offset)
			return nil, refuse("The transaction was decided meanwhile, or is being checked again")
		}
		e.Record.PreparedOffset = lost.PreparedOffset
		e.Target = &store.WithState{Queue: b.transactions.queue, Kind: kindTransactions, Changes: decidedHalf(&e.Record, &half)}
	}
	topic := string(message.Property(lost.Properties, message.PropRealTopic))
	err = b.store.Append(&store.Batch{Entries: []store.Entry{e}, Done: func(_ *store.Batch, err error) {
		if offset >= 0 {
			b.transactions.free(offset)
		}
		if err == nil {
			b.transactions.begun(topic, 1)
		} else {
			err = sendFailure(err)
		}
		r.Reply(nil, err)
	}})
	if err != nil {
		if offset >= 0 {
			b.transactions.free(offset)
		}
		return nil, sendFailure(err)
	}
	return nil, remoting.ErrLater
}
