package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Sends: SEND_MESSAGE (10), SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320). END_TRANSACTION (37) shares their rounds, see end_transaction.go.
//
// What clients see: the checks of RocketMQ in its order (SendMessageProcessor, AbstractSendMessageProcessor.msgCheck); an answer once
// every record of the request is on disk, or written, as the flush mode says; one answer per request, batches included. A missing topic
// is made from the template that the producer names. Differences: WAIT=false is answered like any other; the queue for a negative id is
// chosen round robin; MULTI_TAG topics are flagged but tags stay one string, as in RocketMQ.
//
// All sends of one read of a connection make one batch: one place in the log, one confirmation, one write of answers.

// sendSink is a connection's remoting.Sink.
type sendSink struct {
	b     *Broker
	conn  *remoting.Conn
	topic *topic // of the last request, usually also of the next
	round *sendRound
	next  uint32     // queue choice for negative ids
	pins  store.Pins // half messages that the round commits
}

// NewSink returns the taker of a connection's sends.
func (b *Broker) NewSink(c *remoting.Conn) remoting.Sink {
	return &sendSink{b: b, conn: c, next: uint32(c.ID())}
}

// sendRound is the batch of one read with what its answers need. It outlives the read.
type sendRound struct {
	batch   store.Batch
	sink    *sendSink
	answers []sendAnswer
	ends    roundEnds
	arena   []byte   // properties as stored, and unique ids for the answers
	hashes  []uint64 // for the key index
	began   time.Time
	metrics *remoting.RouteMetrics
}

// sendAnswer is one request of a round; its records are batch.Entries[first:first+count].
type sendAnswer struct {
	topic        *topic
	opaque       int32
	first, count int32
	queueID      int32
	serialize    protocol.Serialization
	oneWay       bool
	half, inner  bool
	uniqueID     []byte // of the message, in the arena, or of the batch as a whole
}

var sendRounds = sync.Pool{New: func() any { return new(sendRound) }}

// sendRequest is the header of a send, in place.
type sendRequest struct {
	topic, defaultTopic, properties []byte
	defaultQueues, queueID, sysFlag int32
	flag, reconsumeTimes            int32
	maxReconsumeTimes               int32 // -1: not given
	bornTime                        int64
	batch                           bool
	half                            bool   // it waits for the end of its transaction
	forged                          bool   // it has properties that only a broker gives to a half message
	withoutPriority                 bool   // its priority means nothing beside what else it is
	dead                            bool   // it goes to a DLQ, whatever delay it asks for
	light                           []byte // INNER_MULTI_DISPATCH
	lite                            bool   // a lite topic is all that it names
	inner                           int    // messages of a batch that is one record; 0: it is none
	seen                            uint16 // mandatory fields that are there
}

// sendMandatoryNames are the fields that RocketMQ's broker cannot do without, at the place of their one-letter names a to h. The others are
// declared as mandatory, but a send without them is taken.
var sendMandatoryNames = [...]string{'b' - 'a': "topic", 'e' - 'a': "queueId", 'f' - 'a': "sysFlag", 'g' - 'a': "bornTimestamp", 'h' - 'a': "flag"}

// sendFieldLetter maps the long names of SEND_MESSAGE to the one-letter names of its second version; 0 for any other field.
func sendFieldLetter(name []byte) byte {
	if len(name) == 1 {
		return name[0]
	}
	switch string(name) {
	case "producerGroup":
		return 'a'
	case "topic":
		return 'b'
	case "defaultTopic":
		return 'c'
	case "defaultTopicQueueNums":
		return 'd'
	case "queueId":
		return 'e'
	case "sysFlag":
		return 'f'
	case "bornTimestamp":
		return 'g'
	case "flag":
		return 'h'
	case "properties":
		return 'i'
	case "reconsumeTimes":
		return 'j'
	case "maxReconsumeTimes":
		return 'l'
	case "batch":
		return 'm'
	}
	return 0
}

// parse reads the header fields without allocating.
func (q *sendRequest) parse(fields protocol.Fields) error {
	*q = sendRequest{maxReconsumeTimes: -1}
	for i := range fields {
		letter, v := sendFieldLetter(fields[i].Key), fields[i].Value
		var number int64
		switch letter {
		case 'd', 'e', 'f', 'g', 'h', 'j', 'l':
			var ok bool
			if number, ok = protocol.ParseInt(v); !ok || (letter != 'g' && number != int64(int32(number))) {
				return protocol.Errorf(protocol.RespSystemError, "the custom field <%s> is not a number: %q", fields[i].Key, v)
			}
		}
		switch letter {
		case 'b':
			q.topic = v
		case 'c':
			q.defaultTopic = v
		case 'd':
			q.defaultQueues = int32(number)
		case 'e':
			q.queueID = int32(number)
		case 'f':
			q.sysFlag = int32(number)
		case 'g':
			q.bornTime = number
		case 'h':
			q.flag = int32(number)
		case 'i':
			q.properties = v
		case 'j':
			q.reconsumeTimes = int32(number)
		case 'l':
			q.maxReconsumeTimes = int32(number)
		case 'm':
			q.batch = string(v) == "true"
		}
		if letter >= 'a' && letter <= 'h' {
			q.seen |= 1 << (letter - 'a')
		}
	}
	for i, name := range sendMandatoryNames {
		if name != "" && q.seen&(1<<i) == 0 {
			return protocol.Errorf(protocol.RespSystemError, "the custom field <%s> is null", name)
		}
	}
	return nil
}

// Handle takes one send of the round, or the end of a transaction.
func (s *sendSink) Handle(r *remoting.Request) {
	if r.Code == int32(protocol.ReqEndTransaction) {
		s.end(r)
		return
	}
	s.open(r)
	s.round.metrics = r.Metrics()
	entries, arena := len(s.round.batch.Entries), len(s.round.arena)
	if err := s.take(r); err != nil {
		s.round.batch.Entries = s.round.batch.Entries[:entries]
		s.round.arena = s.round.arena[:arena]
		r.Reply(nil, err)
	}
}

// open begins a round if none is under way.
func (s *sendSink) open(r *remoting.Request) {
	if s.round == nil {
		s.round = sendRounds.Get().(*sendRound)
		s.round.sink = s
		s.round.began = r.Received
	}
}

func (s *sendSink) take(r *remoting.Request) error {
	var q sendRequest
	if err := q.parse(r.Fields); err != nil {
		return err
	}
	t, queue, queueID, err := s.place(r, &q)
	if err != nil {
		return err
	}
	a := sendAnswer{topic: s.topic, opaque: r.Opaque, first: int32(len(s.round.batch.Entries)), queueID: queueID, serialize: r.Serialize, oneWay: r.IsOneWay()}
	if q.batch { // whatever the code
		err = s.addBatch(&q, t, queue, r.Body)
	} else {
		err = s.add(&q, t, queue, q.flag, r.Body, q.properties)
	}
	if err != nil {
		return err
	}
	a.count = int32(len(s.round.batch.Entries)) - a.first
	if q.batch {
		a.uniqueID = bytes.Clone(message.Property(q.properties, message.PropUniqueKey)) // the batch's own, in memory that outlives the read
	} else {
		a.uniqueID = message.Property(s.round.batch.Entries[a.first].Record.Properties, message.PropUniqueKey)
	}
	a.half, a.inner = q.half, q.inner > 0
	s.round.answers = append(s.round.answers, a)
	messages := max(int(a.count), q.inner)
	s.b.stats.sent(messages, len(r.Body))
	counted := t.traffic
	if q.half {
		counted = s.b.transactions.traffic
	}
	counted.Add(messages, len(r.Body))
	return nil
}

// place returns the topic and the queue that a send goes to, and the id of the queue that it is answered with.
func (s *sendSink) place(r *remoting.Request, q *sendRequest) (t *topic, queue *store.Queue, id int32, err error) {
	if t, err = s.findTopic(r, q); err != nil {
		return nil, nil, 0, err
	}
	q.byPriority(t)
	if id = q.queueID; id < 0 {
		if t.config.WriteQueues <= 0 {
			return nil, nil, 0, protocol.Errorf(protocol.RespInvalidParameter, "topic[%s] has no queue to write to", t.name)
		}
		s.next++
		id = int32(s.next % uint32(t.config.WriteQueues))
	}
	if queue = t.queue(id); queue == nil {
		return nil, nil, 0, protocol.Errorf(protocol.RespInvalidParameter, "request queueId[%d] is illegal, topic %s has %d queues to write and %d to read, Producer: %s",
			id, t.name, t.config.WriteQueues, t.config.ReadQueues, s.conn.RemoteAddr())
	}
	if t.name[0] == '%' {
		t, queue, err = s.b.retryTarget(q, t, queue)
	}
	return t, queue, id, err
}

// findTopic returns the topic that a send goes to, made if it may be. Checks come in RocketMQ's order.
func (s *sendSink) findTopic(r *remoting.Request, q *sendRequest) (*topic, error) {
	if s.b.isDraining() {
		return nil, protocol.Errorf(protocol.RespGoAway, "the broker is shutting down")
	}
	t := s.topic
	if t == nil || t.light || t.stale.Load() || string(t.name) != string(q.topic) {
		if t = s.b.topics.findBytes(q.topic); t == nil {
			var err error
			if t, err = s.createTopic(q); err != nil {
				return nil, err
			}
		} else if t.light {
			if err := message.CheckTopic(t.config.TopicName); err != nil {
				return nil, protocol.Errorf(protocol.RespInvalidParameter, "%s", err)
			}
		}
		s.topic = t
	}
	if t.forbidden {
		return nil, protocol.Errorf(protocol.RespNoPermission, "Sending message to topic[%s] is forbidden.", t.name)
	}
	if s.b.live().permission&protocol.PermWrite == 0 && t.config.Order {
		return nil, protocol.Errorf(protocol.RespNoPermission, "the broker[%s] sending message is forbidden", s.b.storeHost(s.conn.LocalAddr()).Addr())
	}
	return t, nil
}

func (s *sendSink) createTopic(q *sendRequest) (*topic, error) {
	name := string(q.topic)
	if err := message.CheckTopic(name); err != nil {
		return nil, protocol.Errorf(protocol.RespInvalidParameter, "%s", err)
	}
	if message.IsForbiddenToSend(name) {
		return nil, protocol.Errorf(protocol.RespNoPermission, "Sending message to topic[%s] is forbidden.", name)
	}
	t, err := s.b.topics.autoCreate(name, string(q.defaultTopic), q.defaultQueues)
	if err == nil && t == nil {
		if _, ok := retryTopicGroup(name); ok {
			t, err = s.b.topics.ensure(name, 1)
		}
	}
	if err != nil {
		return nil, sendFailure(err)
	}
	if t == nil {
		return nil, errNoTopic(name)
	}
	return t, nil
}

// addBatch adds every message of a batch. The header's properties are the batch's own and are not stored, unless it is one record.
func (s *sendSink) addBatch(q *sendRequest, t *topic, queue *store.Queue, body []byte) error {
	if len(body) > s.b.live().messageBytesMax {
		return s.b.illegal("the batch is %d bytes long, the limit is maxMessageSize=%d; send less at once, or raise it", len(body), s.b.live().messageBytesMax)
	}
	if len(body) == 0 {
		return s.b.illegal("the batch is empty")
	}
	if t.batches && message.Property(q.properties, message.PropUniqueKey) != nil {
		return s.addInner(q, t, queue, body)
	}
	for n := 0; len(body) > 0; n++ {
		if n == batchMessagesMax {
			return protocol.Errorf(protocol.RespMessageIllegal, "the batch has more messages than batchMessagesMax=%d; send fewer at once", batchMessagesMax)
		}
		item, rest, err := message.NextBatchItem(body)
		if err != nil {
			return s.b.illegal("%s", err)
		}
		if err := s.add(q, t, queue, item.Flag, item.Body, item.Properties); err != nil {
			return err
		}
		body = rest
	}
	return nil
}

// add makes the log entry of one message.
func (s *sendSink) add(q *sendRequest, t *topic, queue *store.Queue, flag int32, body, properties []byte) error {
	switch {
	case len(body) == 0 && !q.batch: // in a batch RocketMQ takes it
		return s.b.illegal("the body is empty")
	case len(body) > s.b.live().messageBytesMax:
		return s.b.illegal("the body is %d bytes long, the limit is maxMessageSize=%d; send less, or raise it", len(body), s.b.live().messageBytesMax)
	case t.compacts && len(bytes.TrimSpace(message.Property(properties, message.PropKeys))) == 0:
		return protocol.Errorf(protocol.RespMessageIllegal, "Required message key is missing")
	}
	round := s.round
	entries := append(round.batch.Entries, store.Entry{})
	e := &entries[len(entries)-1]
	e.Sequence, e.Target = &queue.Sequence, queue
	e.BodyCRC = crc32.ChecksumIEEE(body)
	e.Record = message.Record{
		QueueID: queue.ID, Flag: flag, SysFlag: q.sysFlag, BornTime: q.bornTime, BornHost: s.conn.RemoteAddr(),
		StoreHost: s.b.storeHost(s.conn.LocalAddr()), ReconsumeTimes: q.reconsumeTimes, Body: body, Topic: t.name,
	}
	if t.config.FilterType == protocol.FilterTypeMultiTag {
		e.Record.SysFlag |= message.FlagMultiTags
	}
	level, err := s.properties(e, q, properties)
	switch {
	case err != nil:
		return err
	case q.inner > 0:
		s.number(e, q)
	case q.sysFlag&message.FlagInnerBatch != 0:
		return s.notInner(t.name, "sysFlag=%d", q.sysFlag)
	case q.half:
		round.arena = s.b.prepare(e, q.forged, round.arena)
	case level > 0:
		round.arena = s.b.delays.Schedule(e, level, round.arena)
	case level == aMoment:
		if round.arena, err = s.b.delays.WaitForMoment(e, round.arena); err != nil {
			return err
		}
	}
	if q.light != nil {
		if err := s.dispatch(e, q); err != nil {
			return err
		}
	}
	if n := e.Record.EncodedPropertiesSize(); n > message.MaxPropertiesSize {
		return s.b.illegal("the properties are %d bytes long as stored, %d are possible", n, message.MaxPropertiesSize)
	}
	round.batch.Entries = entries
	return nil
}

// aMoment stands in the place of a delay level for a delay to a moment.
const aMoment = -1

// notStored are names of properties that producers may not set.
var notStored = []string{message.PropPopCheckpoint, message.PropCluster, message.PropCRC, message.PropInnerNum, message.PropInnerBase, message.PropMultiOffset}

// notStoredPriority are those of a message whose priority means nothing.
var notStoredPriority = append([]string{message.PropPriority}, notStored...)

// notStoredDead are those of a message on its way to a DLQ.
var notStoredDead = append([]string{message.PropDelay}, notStored...)

// notStoredLite are those of a message for a lite topic, whose light queue the broker names.
var notStoredLite = append([]string{message.PropMultiDispatch}, notStoredPriority...)

// properties makes the entry's property string as it is stored, in the round's arena: what the producer sent without reserved names, a
// unique key if it sent none, and the cluster. It notes the entry's tag and keys on the way, and returns the delay level, 0 for none,
// aMoment for a delay to a moment. What
// a message of a batch says of its delivery means nothing, as in RocketMQ.
func (s *sendSink) properties(e *store.Entry, q *sendRequest, properties []byte) (level int, err error) {
	dropped, unique, transaction, timed, waited := false, false, false, false, false
	first := len(s.round.hashes)
	var lite []byte
	for k, v := range message.Properties(properties) {
		switch string(k) {
		case message.PropUniqueKey:
			unique = true
			s.round.addHash(store.KeyHash(e.Record.Topic, v))
		case message.PropKeys:
			s.round.addKeys(e.Record.Topic, v)
		case message.PropTags:
			e.TagsCode = message.TagsCode(v)
			if len(v) > 0 {
				s.round.addHash(store.TagHash(e.Record.Topic, v))
			}
		case message.PropPopCheckpoint, message.PropCluster, message.PropCRC, message.PropInnerBase, message.PropMultiOffset:
			dropped = true
		case message.PropMultiDispatch:
			if !q.batch {
				q.light = v
			}
		case message.PropLiteTopic:
			lite = v
		case message.PropInnerNum:
			if dropped = true; !q.batch {
				return 0, s.notInner(e.Record.Topic, message.PropInnerNum+"=%.20q", v)
			}
		case message.PropPriority:
			dropped = dropped || q.withoutPriority
		case message.PropRealTopic, message.PropRealQueueID, message.PropTransactionID:
			q.forged = true
		case message.PropTransaction:
			transaction = string(v) == "true"
		case message.PropDelay:
			if q.batch {
				continue
			}
			if level, err = delay.RequestedLevel(v, e.Record.SysFlag); err != nil {
				return 0, err
			}
		case message.PropTimerDeliver, message.PropTimerDelayMS, message.PropTimerDelaySec:
			timed = true
		case message.PropTimerOut:
			waited = true
		}
	}
	switch {
	case q.batch:
	case q.dead:
		level = 0
	case transaction && (level == 0 || e.Record.ReconsumeTimes == 0): // old clients leave the mark on what they send back
		if s.b.live().rejectTransactions {
			return 0, protocol.Errorf(protocol.RespNoPermission, "the broker[%s] sending transaction message is forbidden", s.b.storeHost(s.conn.LocalAddr()).Addr())
		}
		q.half = true
	case timed && !waited && level == 0 && delay.MayWait(e.Record.SysFlag):
		level = aMoment
	}
	if lite != nil && !q.batch && !q.dead && message.MayDispatch(q.topic) {
		if err = s.namesLite(q, lite); err != nil {
			return 0, err
		}
	}
	s.keep(e, q, properties, dropped, unique)
	e.Keys = s.round.hashes[first:len(s.round.hashes):len(s.round.hashes)]
	return level, nil
}

// keep notes the entry's properties as they are stored: those of the request, without the reserved ones if there are any, and with a unique key.
func (s *sendSink) keep(e *store.Entry, q *sendRequest, properties []byte, dropped, unique bool) {
	arena := s.round.arena
	start := len(arena)
	switch {
	case q.lite:
		arena = message.AppendWithout(arena, properties, notStoredLite...)
		arena = message.AppendProperty(arena, message.PropMultiDispatch, q.light)
	case q.dead:
		arena = message.AppendWithout(arena, properties, notStoredDead...)
	case dropped && q.withoutPriority:
		arena = message.AppendWithout(arena, properties, notStoredPriority...)
	case dropped:
		arena = message.AppendWithout(arena, properties, notStored...)
	default:
		arena = append(arena, properties...)
	}
	if !unique {
		id := s.b.newUniqueID(s.b.storeHost(s.conn.LocalAddr()).Addr().AsSlice())
		arena = append(arena[:start], message.AppendProperty(arena[start:], message.PropUniqueKey, id)...)
		s.round.addHash(store.KeyHash(e.Record.Topic, id))
	}
	arena = append(closeProperties(arena, start), s.b.stamp...)
	s.round.arena = arena
	e.Record.Properties = arena[start:len(arena):len(arena)]
}

// closeProperties ends the pairs that stand in arena[start:] with a separator.
func closeProperties(arena []byte, start int) []byte {
	if len(arena) > start && arena[len(arena)-1] != 2 {
		arena = append(arena, 2)
	}
	return arena
}

// addHash notes what the key index is to hold of a message.
func (round *sendRound) addHash(h uint64) { round.hashes = append(round.hashes, h) }

// addKeys adds each word of KEYS.
func (round *sendRound) addKeys(topic, words []byte) {
	for start := 0; start < len(words); {
		end := start
		for end < len(words) && words[end] != ' ' {
			end++
		}
		if end > start {
			round.addHash(store.KeyHash(topic, words[start:end]))
		}
		start = end + 1
	}
}

// EndRound gives the round's batch to the store; it waits there while too much is in flight.
func (s *sendSink) EndRound() {
	defer s.pins.Release() // records are encoded when Append returns
	round := s.round
	if round == nil {
		return
	}
	s.round = nil
	if len(round.answers) == 0 && len(round.ends.answers) == 0 {
		round.recycle()
		return
	}
	if rollbacks := round.ends.rollbacks; len(rollbacks) > 0 {
		round.batch.Entries = append(round.batch.Entries, s.b.store.StateEntry(kindTransactions, rollbacks))
	}
	round.batch.Done = round.done
	appendTo := s.b.store.Append
	if len(round.batch.Entries) == 1 {
		appendTo = s.b.store.AppendNow
	}
	if err := appendTo(&round.batch); err != nil {
		round.done(&round.batch, err)
	}
}

// done answers every request of the round, in one piece of output.
func (round *sendRound) done(batch *store.Batch, err error) {
	if err == nil {
		round.sink.b.delays.Appended(batch.Entries)
	}
	if len(round.ends.answers) > 0 {
		round.decided(err)
	}
	if len(round.answers) > 0 {
		round.sent(err)
	}
	round.recycle()
}

// sent answers the sends of the round.
func (round *sendRound) sent(err error) {
	b, conn := round.sink.b, round.sink.conn
	code := protocol.RespSuccess
	if err != nil {
		failure := sendFailure(err)
		code = failure.Code
		conn.AppendOut(func(dst []byte) []byte {
			for i := range round.answers {
				if a := &round.answers[i]; !a.oneWay {
					dst = protocol.AppendFrame(dst, &protocol.Command{
						Code: int32(failure.Code), Remark: []byte(failure.Remark), Flag: protocol.FlagResponse, Opaque: a.opaque,
						Serialize: a.serialize, Language: protocol.LanguageGo, Version: protocol.Version,
					}, 0)
				}
			}
			return dst
		})
	} else {
		conn.AppendOut(func(dst []byte) []byte {
			for i := range round.answers {
				if a := &round.answers[i]; !a.oneWay {
					dst = b.appendSendAnswer(dst, a, round.batch.Entries[a.first:a.first+a.count])
				}
			}
			return dst
		})
	}
	took := b.c.Now().Sub(round.began)
	round.metrics.ObserveN(code, took, len(round.answers))
	if err == nil {
		round.noteTimes(took)
	}
	b.traffic.SendsDone(took, len(round.answers), err != nil)
}

// noteTimes counts how long sends to each queue took; those to one queue often stand together.
func (round *sendRound) noteTimes(took time.Duration) {
	for i := 0; i < len(round.answers); {
		a, n := &round.answers[i], 1
		for i+n < len(round.answers) && round.answers[i+n].topic == a.topic && round.answers[i+n].queueID == a.queueID && !a.half {
			n++
		}
		a.topic.sendTime(round.sink.b, a.queueID).Took(n, took)
		if a.half {
			round.sink.b.transactions.begun(a.topic.config.TopicName, 1)
		}
		i += n
	}
}

func (round *sendRound) recycle() {
	if cap(round.batch.Entries) > roundEntriesKept {
		round.batch.Entries, round.arena, round.hashes = nil, nil, nil
	}
	clear(round.batch.Entries)
	clear(round.answers)
	round.ends.clear()
	round.batch.Entries, round.answers, round.arena = round.batch.Entries[:0], round.answers[:0], round.arena[:0]
	round.hashes = round.hashes[:0]
	round.sink, round.metrics = nil, nil
	sendRounds.Put(round)
}

// appendSendAnswer appends the frame of a successful send's answer (SendMessageResponseHeader).
func (b *Broker) appendSendAnswer(dst []byte, a *sendAnswer, entries []store.Entry) []byte {
	first := &entries[0].Record
	w := protocol.BeginResponse(dst, a.serialize, protocol.RespSuccess, a.opaque)
	w.Int("queueId", int64(a.queueID))
	var scratch [message.OffsetIDMaxSize]byte
	if len(entries) == 1 {
		w.Text("msgId", message.AppendOffsetID(scratch[:0], first.StoreHost, first.PhysicalOffset))
	} else {
		ids := make([]byte, 0, len(entries)*(message.OffsetIDMaxSize+1))
		for i := range entries {
			if i > 0 {
				ids = append(ids, ',')
			}
			ids = message.AppendOffsetID(ids, entries[i].Record.StoreHost, entries[i].Record.PhysicalOffset)
		}
		w.Text("msgId", ids)
	}
	if len(a.uniqueID) > 0 {
		w.Text("transactionId", a.uniqueID)
	}
	if a.inner {
		w.Text("batchUniqId", a.uniqueID)
	}
	w.Int("queueOffset", first.QueueOffset)
	if b.delays.Kept(&entries[0]) {
		if handle := b.delays.RecallHandle(first); handle != "" {
			w.String("recallHandle", handle)
		}
	}
	w.String(message.PropRegion, b.c.Region)
	w.String(message.PropTraceSwitch, "true")
	return w.Finish()
}

// sendFailure maps a store's refusal to what RocketMQ answers.
func sendFailure(err error) *protocol.Error {
	var refusal *protocol.Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, store.ErrTooLarge):
		return protocol.Errorf(protocol.RespMessageIllegal, "%s", err)
	case errors.Is(err, store.ErrStopped), errors.Is(err, store.ErrNoSpace), errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrBehind):
		return protocol.Errorf(protocol.RespServiceNotAvailable, "the broker cannot store messages: %s", err)
	}
	return protocol.Errorf(protocol.RespSystemError, "%s", err)
}

// errNoTopic is what sends and pulls of an unknown topic are answered.
func errNoTopic(name string) error {
	return protocol.Errorf(protocol.RespTopicNotExist, "topic[%s] not exist, apply first please!", name)
}

// illegal refuses a message in RocketMQ's words, and says what is wrong with it.
func (b *Broker) illegal(format string, args ...any) error {
	return protocol.Errorf(protocol.RespMessageIllegal, "the message is illegal, maybe msg body or properties length not matched. "+
		"msg body length limit %dB, msg properties length limit 32KB. "+format, append([]any{b.live().messageBytesMax}, args...)...)
}

// newUniqueID makes the unique key of a message whose producer sent none: the form of the clients' (MessageClientIDSetter), upper-case
// hex of address, process and counter.
func (b *Broker) newUniqueID(address []byte) []byte {
	n := b.stats.uniqueID.Add(1)
	raw := append([]byte(nil), address...)
	raw = binary.BigEndian.AppendUint16(raw, uint16(b.stats.seed))
	raw = binary.BigEndian.AppendUint32(raw, uint32(b.stats.seed>>16))
	raw = binary.BigEndian.AppendUint32(raw, uint32(n>>16))
	raw = binary.BigEndian.AppendUint16(raw, uint16(n))
	return fmt.Appendf(nil, "%X", raw)
}
