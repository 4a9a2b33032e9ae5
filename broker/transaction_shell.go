package broker

import (
	"strconv"
	"sync"
	"time"

	"github.com/apogeemq/apogee/broker/transaction"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// checkShell drives package transaction: one goroutine looks at the half messages that are pending and asks their producers.
type checkShell struct {
	t       *transactions
	checker *transaction.Checker
	started time.Time

	mu    sync.Mutex // guards what follows: what the log's goroutine tells
	done  []checked
	nudge chan struct{}

	// of the goroutine alone
	pins    store.Pins
	turn    int  // which producer of a group is asked next
	refused bool // the last change was; logged once
}

// checked is the end of a Check or GiveUp: the half messages whose producers are to be asked.
type checked struct {
	halves []transaction.Half
	err    error
}

// checkLookMax is how long the goroutine sleeps at most: options may change.
const checkLookMax = time.Second

func (s *checkShell) init(t *transactions) {
	s.t, s.started, s.nudge = t, t.b.c.Now(), make(chan struct{}, 1)
	s.checker = transaction.New(t.b.rules(), s.now())
}

func (s *checkShell) now() transaction.Time {
	now := s.t.b.c.Now()
	return transaction.Time{Wall: now.UnixMilli(), Elapsed: now.Sub(s.started).Milliseconds()}
}

// tell hands an event to the goroutine. It never blocks: the log's goroutine calls it.
func (s *checkShell) tell(e checked) {
	s.mu.Lock()
	s.done = append(s.done, e)
	s.mu.Unlock()
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

func (t *transactions) run() {
	defer t.b.wait.Done()
	s := &t.shell
	var effects []transaction.Effect
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-s.nudge:
		case <-alarm.C:
		case <-t.b.stop:
			return
		}
		for again := true; again; {
			s.mu.Lock()
			done := s.done
			s.done = nil
			s.mu.Unlock()
			for _, e := range done {
				s.take(e)
			}
			_, end := t.queue.Bounds()
			now, wake := s.now(), int64(0)
			effects, wake = s.checker.Step(now, t.b.rules(), end, effects[:0])
			for _, e := range effects {
				s.perform(e)
			}
			if again = len(effects) > 0; !again {
				wait := checkLookMax
				if wake != transaction.Never {
					wait = min(wait, time.Duration(max(wake-now.Elapsed, 1))*time.Millisecond)
				}
				alarm.Reset(wait)
			}
		}
	}
}

func (s *checkShell) take(e checked) {
	s.checker.Done()
	if e.err != nil {
		if !s.refused {
			s.t.b.log.Error("half messages cannot be checked; it is tried again in the next round", "error", e.err)
		}
		s.refused = true
		return
	}
	s.refused = false
	for i := range e.halves {
		s.ask(&e.halves[i])
	}
}

func (s *checkShell) perform(e transaction.Effect) {
	switch e.Action {
	case transaction.Scan:
		if e.From == 0 {
			s.forget()
		}
		page, err := s.t.b.halves(transaction.Pending, e.From, e.Count)
		if err != nil {
			s.t.b.log.Error("the pending half messages cannot be read; the next round tries again", "error", err)
			s.checker.ScanFailed()
			return
		}
		s.checker.Scanned(e, page, s.t.b.rules(), s.now())
	case transaction.Check:
		s.check(e.Halves)
	case transaction.GiveUp:
		s.giveUp(e.Halves)
	}
}

// claimed calls fn for the half messages that are still pending, and that nobody else decides now; who calls it frees them.
func (s *checkShell) claimed(halves []transaction.Half, fn func(h *transaction.Half)) (free func()) {
	var taken []int64
	for i := range halves {
		offset := halves[i].Offset
		if !s.t.claim(offset) {
			continue
		}
		if _, list, found, err := s.t.b.half(offset); err != nil || !found || list != transaction.Pending {
			s.t.free(offset)
			continue
		}
		taken = append(taken, offset)
		fn(&halves[i])
	}
	return func() {
		for _, offset := range taken {
			s.t.free(offset)
		}
	}
}

// check counts a check of each half message; they are asked for once that is durable.
func (s *checkShell) check(halves []transaction.Half) {
	var changes []store.Mutation
	var counted []transaction.Half
	free := s.claimed(halves, func(h *transaction.Half) {
		h.Checks++
		counted = append(counted, *h)
		changes = append(changes, store.Mutation{Key: transaction.Key(transaction.Pending, h.Offset), Value: h.Value()})
	})
	if len(changes) == 0 {
		s.tell(checked{})
		return
	}
	err := s.t.b.update(kindTransactions, func(err error) {
		free()
		s.tell(checked{counted, err})
	}, changes...)
	if err != nil {
		free()
		s.tell(checked{err: err})
	}
}

// ask sends CHECK_TRANSACTION_STATE to a producer of the half message's group (AbstractTransactionalMessageCheckListener.sendCheckMessage).
// Without one, the check counts all the same.
func (s *checkShell) ask(h *transaction.Half) {
	defer s.pins.Release()
	b := s.t.b
	half, _, err := b.store.Look(h.Position, &s.pins)
	if err != nil {
		b.log.Error("a half message cannot be read, and its producer is not asked", "position", h.Position, "error", err)
		return
	}
	group := string(message.Property(half.Properties, message.PropProducerGroup))
	s.turn++
	conn := b.clients.producer(group, s.turn)
	if conn == nil {
		b.log.Warn("a half message is not decided, and no producer of its group is there to be asked", "group", group, "checks", h.Checks)
		return
	}
	id := string(message.Property(half.Properties, message.PropUniqueKey))
	cmd := protocol.NewRequest(protocol.ReqCheckTransactionState, &protocol.CheckTransactionHeader{
		Topic: message.TopicHalf, QueueOffset: h.Offset, LogOffset: h.Position, MsgID: id, TransactionID: id,
		OffsetMsgID: string(message.AppendOffsetID(nil, half.StoreHost, h.Position)), BrokerName: b.c.Name,
	})
	queue, _ := protocol.ParseInt(message.Property(half.Properties, message.PropRealQueueID))
	shown := half
	shown.Topic, shown.QueueID = []byte(h.Topic), int32(queue)
	shown.Properties = withChecks(half.Properties, h.Checks)
	cmd.Body = shown.Append(nil)
	if err := conn.OneWay(cmd); err != nil {
		b.log.Info("a producer could not be asked for the end of its transaction", "group", group, "error", err)
	}
}

// withChecks returns the properties with the number of checks.
func withChecks(properties []byte, checks int32) []byte {
	p := message.AppendWithout(nil, properties, message.PropCheckTimes, message.PropCRC)
	return message.AppendProperty(p, message.PropCheckTimes, strconv.AppendInt(nil, int64(checks), 10))
}

// producer returns a connection of a group's producers that takes output, by turns; nil when there is none.
func (t *clientTable) producer(group string, turn int) (found *remoting.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	best := ^uint64(0)
	members := t.producers[group]
	for conn := range members {
		if conn.IsClosed() || conn.Congested() {
			continue
		}
		if rank := (conn.ID()*0x9e3779b97f4a7c15 + uint64(turn)*0xbf58476d1ce4e5b9) >> 1; rank < best {
			found, best = conn, rank
		}
	}
	return found
}

// giveUp moves half messages to TRANS_CHECK_MAX_TIME_TOPIC (DefaultTransactionalMessageCheckListener.resolveDiscardMsg).
func (s *checkShell) giveUp(halves []transaction.Half) {
	b := s.t.b
	batch := &store.Batch{}
	var gone []store.Mutation
	var lost []string // their topics
	to, err := b.topics.ensure(message.TopicCheckMax, checkMaxQueues)
	if err != nil {
		s.tell(checked{err: err})
		return
	}
	defer s.pins.Release()
	free := s.claimed(halves, func(h *transaction.Half) {
		lost = append(lost, h.Topic)
		half, raw, err := b.store.Look(h.Position, &s.pins)
		if err != nil || half.Verify(raw) != nil || string(half.Topic) != message.TopicHalf {
			b.log.Error("a half message cannot be read any more; its transaction is given up", "position", h.Position, "topic", h.Topic)
			gone = append(gone, store.Mutation{Key: transaction.Key(transaction.Pending, h.Offset)})
			return
		}
		r := half
		r.Topic, r.PreparedOffset, r.Properties = to.name, h.Position, withChecks(half.Properties, h.Checks)
		e := b.store.EntryFor(r, to.queue(0))
		e.Target = &store.WithState{Queue: to.queue(0), Kind: kindTransactions, Changes: decidedHalf(&r, &half)}
		batch.Entries = append(batch.Entries, e)
	})
	if len(gone) > 0 {
		batch.Entries = append(batch.Entries, b.store.StateEntry(kindTransactions, gone))
	}
	if len(batch.Entries) == 0 {
		s.tell(checked{})
		return
	}
	batch.Done = func(_ *store.Batch, err error) {
		free()
		for _, topic := range lost {
			if err == nil {
				s.t.ended(topic)
			}
		}
		s.tell(checked{err: err})
	}
	if err := b.store.Append(batch); err != nil {
		free()
		s.tell(checked{err: err})
		return
	}
	b.log.Warn("half messages were checked too often, or are too old, and were moved", "count", len(lost), "topic", message.TopicCheckMax)
}

// forget drops what is kept of messages that were given up and whose half message the log does not hold any more.
func (s *checkShell) forget() {
	b := s.t.b
	first := b.store.Log().First()
	page, err := b.halves(transaction.GivenUp, 0, halvesPage)
	var gone []store.Mutation
	for i := range page {
		if page[i].Position < first {
			gone = append(gone, store.Mutation{Key: transaction.Key(transaction.GivenUp, page[i].Offset)})
		}
	}
	if err == nil && len(gone) > 0 {
		err = b.update(kindTransactions, func(error) {}, gone...)
	}
	if err != nil {
		b.log.Error("the half messages that were given up cannot be gone through", "error", err)
	}
}
