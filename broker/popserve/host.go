package popserve

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/apogeemq/apogee/broker/lite"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Host is the broker whose topics are popped.
type Host interface {
	Name() string
	Now() time.Time
	Address(local netip.AddrPort) netip.Addr // that clients of a connection know
	Settings() Settings

	Topic(name string) *Topic // nil when there is none
	EnsureTopic(name string, queues int32) (*Topic, error)
	RemoveTopic(name string) error // with the offsets of groups

	Group(name string) *protocol.SubscriptionGroupConfig      // made where that is allowed; nil when there is none
	KnownGroup(name string) *protocol.SubscriptionGroupConfig // nil when there is none
	GroupsOf(topic string) []string                           // that have offsets of it
	MayRead(group, topic string) bool
	Members(group string) []string // ids of its clients
	CheckClientID(id string) error

	// LiteParents returns the topics whose messages stand in lite topics, with the minutes that these are kept, and the groups that are bound
	// to each.
	LiteParents() (minutes map[string]int64, groups map[string][]string)
	CountTopics() int
	Match(group string, d protocol.SubscriptionData) (store.Match, error)
	Routed(ctx context.Context, topic string) ([]protocol.MessageQueue, error) // of all brokers

	// Offset returns where a group is in a queue. AdvanceOffset moves it forward only, SetOffset wherever it was. TakeReset returns the
	// offset that a group was reset to, once. NoteGiven notes how far a group has read; CheckOffsets refuses a queue more.
	Offset(k Key) (offset int64, ok bool)
	AdvanceOffset(k Key, offset int64)
	SetOffset(k Key, offset int64)
	TakeReset(k Key) (offset int64, ok bool)
	NoteGiven(k Key, next int64)
	CheckOffsets(k Key) error
	TopicsOf(group string) []string             // that it has offsets of
	CountOffsets() int                          // by group and topic
	ForgetOffsets(keys []Key, done func(error)) // done is told once it is recorded

	IsYoung(q *store.Queue) bool // its first message is near the log's end
	NewEntry(r message.Record, q *store.Queue) store.Entry
	CountPopped(topic, group string, queue int32, messages, bytes int, took time.Duration)
	CountDead(topic, group string)
	Count(kind traffic.Kind, topic, group string) // one of them
	Refusal(err error) error                      // what a client is told of an error of the store
}

// Settings are what may be changed while the broker runs, and its constants.
type Settings struct {
	Permission                   int32
	TransferBytes, TransferCount int
	PollWaitMax                  time.Duration
	RetryTopicV2                 bool // the form of the names of new retry topics
	ScanEntries, ProbeBytes      int  // that one read looks through (store.ReadLimits)
	LightQueuesMax               int
	LiteSubscriptionsMax         int
	LiteSubscriptionTimeout      time.Duration
	LiteExpiryCheck, LiteKeptMin time.Duration
}

// Topic is a topic with its queues.
type Topic struct {
	Name   []byte
	Config *protocol.TopicConfig
	Queues []*store.Queue
}

// Queue returns a queue, nil when there is none of that id.
func (t *Topic) Queue(id int32) *store.Queue {
	if id < 0 || int(id) >= len(t.Queues) {
		return nil
	}
	return t.Queues[id]
}

// Key names a queue that a group pops.
type Key struct {
	Group, Topic string
	Queue        int32
}

// Service serves POP.
type Service struct {
	host  Host
	store *store.Store
	log   *slog.Logger

	table *table
	modes *modeTable
	waits waits
	lites lites
	ages  lite.Ages // of lite topics; of the shell

	wakes chan *watch // queues that pops wait for and that have something
	stop  chan struct{}
	wait  sync.WaitGroup
}

// wakesMax bounds the queues that have something and are not served yet; beyond it they are served on goroutines of their own.
const wakesMax = 4096

// New returns the service of a broker whose topics, groups and offsets are loaded.
func New(host Host, s *store.Store, log *slog.Logger) (*Service, error) {
	v := &Service{host: host, store: s, log: log, wakes: make(chan *watch, wakesMax), stop: make(chan struct{})}
	v.table, v.modes = newTable(v), newModeTable(v)
	v.waits.lines, v.waits.conns = map[lineName]*line{}, map[*remoting.Conn]map[*held]struct{}{}
	v.lites.Max, v.lites.conns = host.Settings().LiteSubscriptionsMax, map[lite.Client]*remoting.Conn{}
	s.OnLight(v.arrivedLite)
	return v, errors.Join(v.table.load(), v.modes.load())
}

// Routes are the rows of the broker's table that are served here.
func (v *Service) Routes() []remoting.Route {
	const pull, ack, admin = remoting.LanePull, remoting.LaneAck, remoting.LaneAdmin
	const sub, update, get, list = remoting.ActionSub, remoting.ActionUpdate, remoting.ActionGet, remoting.ActionList
	return append(v.liteRoutes(), []remoting.Route{
		{Code: protocol.ReqPopMessage, Lane: pull, Action: sub, Handle: v.popMessage},
		{Code: protocol.ReqPeekMessage, Lane: pull, Action: sub, Handle: v.peekMessage},
		{Code: protocol.ReqNotification, Lane: pull, Action: sub, Handle: v.notification},
		{Code: protocol.ReqAckMessage, Lane: ack, Action: sub, Handle: v.ackMessage},
		{Code: protocol.ReqBatchAckMessage, Lane: ack, Action: sub, Handle: v.batchAck},
		{Code: protocol.ReqChangeMessageInvisibleTime, Lane: ack, Action: sub, Handle: v.changeInvisible},
		{Code: protocol.ReqPopLiteMessage, Lane: pull, Action: sub, Handle: v.popLiteMessage},
		{Code: protocol.ReqLiteSubscriptionCtl, Lane: remoting.LaneHeartbeat, Action: sub, Handle: v.liteSubscriptions},
		{Code: protocol.ReqPollingInfo, Lane: admin, Action: get, Handle: v.pollingInfo},
		{Code: protocol.ReqQueryAssignment, Lane: admin, Action: get, Handle: v.queryAssignment},
		{Code: protocol.ReqSetMessageRequestMode, Lane: admin, Action: update, Handle: v.setRequestMode},
		{Code: protocol.ReqGetAllMessageRequestMode, Lane: admin, Action: list, Handle: v.allRequestModes},
	}...)
}

// Tick answers the pops whose time is over, and records what is not recorded yet.
func (v *Service) Tick(now time.Time) {
	v.expire(now.UnixMilli())
	v.lites.expire(now, v.host.Settings().LiteSubscriptionTimeout)
	v.table.journal.Record()
}

// Count returns how many pops wait, how many queues groups have popped, and how many subscriptions to lite topics there are.
func (v *Service) Count() (held, queues, subscriptions int) {
	v.withLites(func(r *lite.Registry) { subscriptions, _ = r.Count() })
	v.waits.mu.Lock()
	held = v.waits.deadlines.Len()
	v.waits.mu.Unlock()
	v.table.mu.RLock()
	defer v.table.mu.RUnlock()
	return held, len(v.table.queues), subscriptions
}

// countLites returns how many lite topics groups have popped.
func (v *Service) countLites() (n int) {
	v.table.mu.RLock()
	defer v.table.mu.RUnlock()
	for k := range v.table.queues {
		if _, _, ok := message.LiteOf(k.Topic); ok {
			n++
		}
	}
	return n
}

// Open returns how many deliveries are not acknowledged as a whole, how many queues have one whose time is over, and for how many ms the
// oldest of those has waited to be delivered again.
func (v *Service) Open() (deliveries, overdue, lateMS int64) {
	t, now := v.table, v.host.Now().UnixMilli()
	t.mu.RLock()
	queues := slices.Collect(maps.Values(t.queues))
	t.mu.RUnlock()
	for _, q := range queues {
		q.mu.Lock()
		open, deadline := q.state.Open(), q.state.Deadline()
		q.mu.Unlock()
		deliveries += int64(open)
		if deadline < now {
			overdue, lateMS = overdue+1, max(lateMS, now-deadline)
		}
	}
	return deliveries, overdue, lateMS
}

// Progress returns where a group reads on in a queue, and how many messages it was given and has not acknowledged; ok is false for a queue
// that it has not popped.
func (v *Service) Progress(k Key) (next, inFlight int64, ok bool) {
	q := v.table.find(k)
	if q == nil {
		return 0, 0, false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	next, ok = q.state.Next()
	return next, int64(q.state.InFlight()), ok
}

// Record writes what is not recorded yet.
func (v *Service) Record() { v.table.journal.Record() }
