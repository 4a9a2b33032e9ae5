package broker

import (
	"sync/atomic"

	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
)

// stats are the broker's own counters.
type stats struct {
	messagesIn, bytesIn   atomic.Int64
	messagesOut, bytesOut atomic.Int64
	uniqueID              atomic.Uint64
	seed                  int64 // of the unique ids that this process makes
}

func (s *stats) sent(messages, bytes int) {
	s.messagesIn.Add(int64(messages))
	s.bytesIn.Add(int64(bytes))
}

func (s *stats) pulled(messages, bytes int) {
	s.messagesOut.Add(int64(messages))
	s.bytesOut.Add(int64(bytes))
}

// Figures are the broker's counters and sizes, for metrics.
type Figures struct {
	MessagesIn, BytesIn, MessagesOut, BytesOut int64
	Topics, Groups, Clients, HeldPulls         int
	HeldPops, PoppedQueues, LiteSubscriptions  int
	Written, Flushed, Confirmed, First         int64   // log positions
	Delayed                                    []int64 // messages that wait for their time, by delay level from 1 on
	Timed, TimedBytes                          int64   // messages that wait for a moment
	TimedByTopic                               map[string]int64
	Late                                       traffic.Distribution
	DeadLetters                                []DeadLetters
	Transactions                               []Transactions
	Finished                                   map[string]traffic.Distribution // how long transactions took until they were committed, by topic
	Popped                                     Popped
}

// DeadLetters are messages of a topic that a group has failed on for good.
type DeadLetters struct {
	Topic, Group string
	Messages     int64
}

// Transactions are those of a topic: half messages that are pending now, and how many were committed and rolled back.
type Transactions struct {
	Topic                       string
	Half, Committed, RolledBack int64
}

// Popped are what POP delivered.
type Popped struct {
	Open            int64 // deliveries that are not acknowledged as a whole
	Overdue, LateMS int64 // queues with one whose time is over, and for how long the oldest of those has been
	Groups          []PoppedBy
}

// PoppedBy is what a group popped of a topic: deliveries, and messages that it acknowledged, and that were delivered again.
type PoppedBy struct {
	Topic, Group            string
	Delivered, Acked, Again int64
}

// Figures reads them.
func (b *Broker) Figures() Figures {
	l := b.store.Log()
	f := Figures{
		MessagesIn: b.stats.messagesIn.Load(), BytesIn: b.stats.bytesIn.Load(),
		MessagesOut: b.stats.messagesOut.Load(), BytesOut: b.stats.bytesOut.Load(),
		Written: l.Written(), Flushed: l.Flushed(), Confirmed: l.Confirmed(), First: l.First(),
		HeldPulls: b.held.count(), Clients: b.clients.count(),
	}
	f.HeldPops, f.PoppedQueues, f.LiteSubscriptions = b.pop.Count()
	b.topics.mu.RLock()
	f.Topics = len(b.topics.topics)
	b.topics.mu.RUnlock()
	b.groups.mu.RLock()
	f.Groups = len(b.groups.groups)
	b.groups.mu.RUnlock()
	f.Delayed = b.delayedMessages()
	f.Timed, f.TimedBytes = b.delays.Waiting()
	f.TimedByTopic = b.timedMessages()
	f.Late = b.delays.Late()
	f.Transactions = b.transactionFigures()
	f.Finished = map[string]traffic.Distribution{}
	b.transactions.finished.Each(func(topic string, d traffic.Distribution) { f.Finished[topic] = d })
	f.Popped = b.popFigures()
	b.traffic.Each(traffic.Dead, func(topic, group string, messages int64) {
		f.DeadLetters = append(f.DeadLetters, DeadLetters{topic, group, messages})
	})
	return f
}

func (b *Broker) popFigures() (p Popped) {
	p.Open, p.Overdue, p.LateMS = b.pop.Open()
	at := map[traffic.Key]int{}
	for kind, set := range map[traffic.Kind]func(*PoppedBy, int64){
		traffic.PopDelivered: func(g *PoppedBy, n int64) { g.Delivered = n },
		traffic.PopAcked:     func(g *PoppedBy, n int64) { g.Acked = n },
		traffic.PopRevived:   func(g *PoppedBy, n int64) { g.Again = n },
	} {
		b.traffic.Each(kind, func(topic, group string, n int64) {
			k := traffic.Key{Topic: topic, Group: group}
			i, ok := at[k]
			if !ok {
				i = len(p.Groups)
				at[k], p.Groups = i, append(p.Groups, PoppedBy{Topic: topic, Group: group})
			}
			set(&p.Groups[i], n)
		})
	}
	return p
}

// delayedMessages counts what waits in the schedule queues.
func (b *Broker) delayedMessages() []int64 {
	next, err := b.delays.LevelProgress()
	if err != nil {
		return nil
	}
	waiting := make([]int64, len(next))
	for i := range next {
		if q := b.store.Find(message.TopicSchedule, int32(i)); q != nil {
			first, end := q.Bounds()
			waiting[i] = max(0, end-max(first, next[i]))
		}
	}
	return waiting
}
