package broker

import (
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/broker/transaction"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// END_TRANSACTION (37), in the rounds of sends: all that a connection decides in one read is one batch with what it sends.
//
// What clients see: RocketMQ's checks in its order (EndTransactionProcessor): the half message by its log position, the time-out of a
// message with an immunity of its own (604), producer group, queue offset; an answer once the decision is on disk, or written, as the
// flush mode says. A half message that was decided before is answered SUCCESS, and nothing happens. One that was given up is committed
// all the same. Differences: a decision of 0 (unknown) that is not one-way is answered SUCCESS at once; RocketMQ does not answer it.

// roundEnds is what a round decides.
type roundEnds struct {
	answers   []endAnswer
	rollbacks []store.Mutation
	changes   []store.Mutation  // of the commits
	commits   []store.WithState // targets of their entries, which have their addresses: what is outgrown stays theirs
	metrics   *remoting.RouteMetrics
}

// endAnswer is one decision of a round.
type endAnswer struct {
	offset    int64  // of the half message, which is claimed
	topic     string // where it goes
	list      byte   // what it was in
	commit    bool
	oneWay    bool
	serialize protocol.Serialization
	opaque    int32
	born      int64 // the producer's clock, ms
	bytes     int
	traffic   *traffic.Counter // of its topic; nil for a rollback, and where there is no such topic
}

func (e *roundEnds) clear() {
	clear(e.answers)
	clear(e.rollbacks)
	clear(e.changes)
	clear(e.commits)
	e.answers, e.rollbacks, e.changes, e.commits, e.metrics = e.answers[:0], e.rollbacks[:0], e.changes[:0], e.commits[:0], nil
}

// endRequest is the header of END_TRANSACTION, in place.
type endRequest struct {
	group            []byte
	offset, position int64
	decision         int32
	fromCheck        bool
}

// The mandatory fields of END_TRANSACTION.
const (
	endGroup = 1 << iota
	endOffset
	endPosition
	endDecision
	endMessage
)

var endMandatoryNames = [...]string{"producerGroup", "tranStateTableOffset", "commitLogOffset", "commitOrRollback", "msgId"}

// parse reads the header fields without allocating.
func (q *endRequest) parse(fields protocol.Fields) error {
	*q = endRequest{}
	seen := 0
	for i := range fields {
		name, v := fields[i].Key, fields[i].Value
		number, field := (*int64)(nil), 0
		var decision int64
		switch string(name) {
		case "producerGroup":
			q.group, field = v, endGroup
		case "tranStateTableOffset":
			number, field = &q.offset, endOffset
		case "commitLogOffset":
			number, field = &q.position, endPosition
		case "commitOrRollback":
			number, field = &decision, endDecision
		case "fromTransactionCheck":
			q.fromCheck = string(v) == "true"
		case "msgId":
			field = endMessage
		}
		if number != nil {
			var ok bool
			if *number, ok = protocol.ParseInt(v); !ok {
				return protocol.Errorf(protocol.RespSystemError, "the custom field <%s> is not a number: %q", name, v)
			}
		}
		if field == endDecision {
			q.decision = int32(decision)
			if decision != 0 && decision != message.FlagCommit && decision != message.FlagRollback {
				return protocol.Errorf(protocol.RespSystemError, "commitOrRollback field wrong: %d", decision)
			}
		}
		seen |= field
	}
	for i, name := range endMandatoryNames {
		if seen&(1<<i) == 0 {
			return protocol.Errorf(protocol.RespSystemError, "the custom field <%s> is null", name)
		}
	}
	return nil
}

// end takes the end of a transaction.
func (s *sendSink) end(r *remoting.Request) {
	var q endRequest
	if err := q.parse(r.Fields); err != nil || q.decision == 0 {
		r.Reply(nil, err)
		return
	}
	// Who has it needs no more than the disk to let go of it: what this round has is on its way before it waits.
	for t := s.b.transactions; !t.claim(q.offset); t.await(q.offset) {
		s.EndRound()
	}
	if decided, err := s.decide(r, &q); err != nil || !decided {
		s.b.transactions.free(q.offset)
		r.Reply(nil, err)
	}
}

// errNoHalf is what RocketMQ answers where there is no half message.
func errNoHalf(q *endRequest) error {
	return protocol.Errorf(protocol.RespSystemError, "Find prepared transaction message failed, commitLogOffset %d", q.position)
}

// decide adds to the round what a claimed half message becomes; false when there is nothing left to decide.
func (s *sendSink) decide(r *remoting.Request, q *endRequest) (decided bool, err error) {
	b := s.b
	half, _, err := b.store.Look(q.position, &s.pins)
	if err != nil || string(half.Topic) != message.TopicHalf {
		return false, errNoHalf(q)
	}
	asks := termsOf(half.Properties)
	if err := b.mayEnd(&half, &asks, q); err != nil {
		return false, err
	}
	known, list, found, err := b.half(q.offset)
	if err == nil && !found {
		if err = b.store.Writable(); err != nil { // what RocketMQ left pending may not have been taken over
			return false, sendFailure(err)
		}
	}
	if err != nil || !found || known.Position != q.position {
		return false, err
	}
	s.open(r)
	round := s.round
	a := endAnswer{
		offset: q.offset, topic: known.Topic, list: list, born: known.Born, bytes: len(half.Body),
		oneWay: r.IsOneWay(), serialize: r.Serialize, opaque: r.Opaque,
	}
	retired := store.Mutation{Key: transaction.Key(list, q.offset)}
	if q.decision == message.FlagRollback {
		round.ends.rollbacks = append(round.ends.rollbacks, retired)
	} else {
		var e store.Entry
		if e, round.arena, err = b.commitOf(&half, &asks, round.arena); err != nil {
			return false, sendFailure(err)
		}
		if half.PhysicalOffset == 0 { // which no record can name as its source
			round.ends.rollbacks = append(round.ends.rollbacks, retired)
		}
		n := len(round.ends.changes)
		round.ends.changes = append(round.ends.changes, retired)
		round.ends.commits = append(round.ends.commits, store.WithState{
			Queue: e.Target.(*store.Queue), Kind: kindTransactions, Changes: round.ends.changes[n : n+1 : n+1],
		})
		e.Target = &round.ends.commits[n]
		round.batch.Entries = append(round.batch.Entries, e)
		a.commit = true
		if t := b.topics.find(known.Topic); t != nil {
			a.traffic = t.traffic
		}
	}
	round.ends.answers = append(round.ends.answers, a)
	round.ends.metrics = r.Metrics()
	return true, nil
}

// terms are what a half message says of its transaction and of its delivery, in its properties; nil where it says nothing.
type terms struct {
	group, immunity, topic, queueID, delay, checks []byte
	timed                                          bool
}

func termsOf(properties []byte) (t terms) {
	waited := false
	for k, v := range message.Properties(properties) {
		var to *[]byte
		switch string(k) {
		case message.PropProducerGroup:
			to = &t.group
		case message.PropCheckImmunity:
			to = &t.immunity
		case message.PropCheckTimes:
			to = &t.checks
		case message.PropRealTopic:
			to = &t.topic
		case message.PropRealQueueID:
			to = &t.queueID
		case message.PropDelay:
			to = &t.delay
		case message.PropTimerDeliver, message.PropTimerDelayMS, message.PropTimerDelaySec:
			t.timed = true
		case message.PropTimerOut:
			waited = true
		}
		if to != nil && *to == nil {
			*to = v
		}
	}
	t.timed = t.timed && !waited
	return t
}

// mayEnd returns why the request may not decide the half message.
func (b *Broker) mayEnd(half *message.Record, asks *terms, q *endRequest) error {
	if len(asks.immunity) > 0 && !q.fromCheck {
		rules := b.rules()
		if rules.TooLate(half.BornTime, string(asks.immunity), b.c.Now().UnixMilli()) {
			return protocol.Errorf(protocol.RespIllegalOperation,
				"the message is older than its %s=%s: its producer decides when it is asked", message.PropCheckImmunity, asks.immunity)
		}
	}
	switch {
	case string(asks.group) != string(q.group):
		return protocol.Errorf(protocol.RespSystemError, "The producer group wrong: %q", q.group)
	case half.QueueOffset != q.offset:
		return protocol.Errorf(protocol.RespSystemError, "The transaction state table offset wrong: %d", q.offset)
	}
	return nil
}

// What a half message has and the message that it becomes has not; RocketMQ leaves TRAN_MSG in one that is not delayed.
var (
	notCommitted        = []string{message.PropRealTopic, message.PropRealQueueID, message.PropCRC}
	notCommittedDelayed = append([]string{message.PropTransaction}, notCommitted...)
)

// commitOf makes the entry that a half message becomes (EndTransactionProcessor.endMessageTransaction): one for its topic, or for where it
// waits for the delay that it asks for. Its properties are made at the end of arena.
func (b *Broker) commitOf(half *message.Record, asks *terms, arena []byte) (store.Entry, []byte, error) {
	level, drop := 0, notCommitted
	if asks.delay != nil {
		if n, err := delay.RequestedLevel(asks.delay, message.FlagCommit); err == nil {
			level = n
		}
	}
	timed := level == 0 && asks.timed
	if level > 0 || timed {
		drop = notCommittedDelayed
	}
	e, arena, err := b.delays.DeliveryTo(asks.topic, asks.queueID, half, arena, drop...)
	if err != nil {
		return e, arena, err
	}
	e.Record.SysFlag = e.Record.SysFlag&^message.FlagTransactionMask | message.FlagCommit
	switch {
	case level > 0:
		arena = b.delays.Schedule(&e, level, arena)
	case timed:
		arena, err = b.delays.WaitForMoment(&e, arena)
	}
	return e, arena, err
}

// decided answers the ends of transactions of the round.
func (round *sendRound) decided(err error) {
	b, ends := round.sink.b, &round.ends
	t := b.transactions
	code, remark, waiting := protocol.RespSuccess, "", 0
	if err != nil {
		failure := sendFailure(err)
		code, remark = failure.Code, failure.Remark
	}
	for i := range ends.answers {
		a := &ends.answers[i]
		t.free(a.offset)
		if !a.oneWay {
			waiting++
		}
		if err == nil {
			t.count(a)
		}
	}
	if waiting > 0 {
		round.sink.conn.AppendOut(func(dst []byte) []byte {
			for i := range ends.answers {
				if a := &ends.answers[i]; !a.oneWay {
					dst = protocol.AppendFrame(dst, &protocol.Command{
						Code: int32(code), Remark: []byte(remark), Flag: protocol.FlagResponse, Opaque: a.opaque,
						Serialize: a.serialize, Language: protocol.LanguageGo, Version: protocol.Version,
					}, 0)
				}
			}
			return dst
		})
	}
	ends.metrics.ObserveN(code, b.c.Now().Sub(round.began), len(ends.answers))
}

// count notes a transaction that has ended.
func (t *transactions) count(a *endAnswer) {
	if a.list == transaction.Pending {
		t.ended(a.topic)
	}
	kind := traffic.RolledBack
	if a.commit {
		kind = traffic.Committed
		age := time.Duration(t.b.c.Now().UnixMilli()-a.born) * time.Millisecond
		t.finished.Of(a.topic).Note(age.Truncate(time.Second)) // as RocketMQ counts
		if a.traffic != nil {
			a.traffic.Add(1, a.bytes)
		}
	}
	t.b.traffic.OfKey(traffic.Key{Topic: a.topic, Kind: kind}, false).Add(1, 0)
}
