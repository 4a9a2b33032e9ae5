package broker

import (
	"cmp"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/broker/cold"
	"github.com/apogeemq/apogee/broker/compaction"
	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/broker/expression"
	"github.com/apogeemq/apogee/broker/popserve"
	"github.com/apogeemq/apogee/broker/traffic"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
)

// Config is the broker's part of the node's configuration; names of RocketMQ's keys in brackets.
type Config struct {
	Cluster string // brokerClusterName
	Name    string // brokerName
	ID      int64  // brokerId: 0 is the master
	// Advertise is the address that clients are told (brokerIP1); the zero value stands for the local address of their connection.
	Advertise netip.Addr
	Region    string // regionId

	AutoCreateTopic    bool  // autoCreateTopicEnable
	AutoCreateGroup    bool  // autoCreateSubscriptionGroup
	DefaultTopicQueues int32 // defaultTopicQueueNums
	TraceTopic         bool  // traceTopicEnable
	PropertyFilter     bool  // enablePropertyFilter: SQL92
	FilterRetry        bool  // filterSupportRetry
	StoreReplies       bool  // storeReplyMessageEnable
	Permission         int32 // brokerPermission

	QueuesMax int // of all topics; default DefaultQueuesMax
	GroupsMax int // consumer groups; default DefaultGroupsMax

	MessageBytesMax int           // maxMessageSize: a body's length
	TransferBytes   int           // maxTransferBytesOnMessageInMemory: of one pull answer
	TransferCount   int           // maxTransferCountOnMessageInMemory
	HotBytes        int64         // log behind the tail that counts as still in memory (accessMessageInMemoryMaxRatio of RAM)
	PollWaitMax     time.Duration // longest hold of a pull, whatever the client asks for
	DelayLevels     delay.Levels  // messageDelayLevel; default delay.DefaultLevels
	Transactions    TransactionOptions
	CompactEvery    time.Duration // compactionScheduleInternal; default DefaultCompactEvery
	Light           LightOptions  // light queues
	Cold            cold.Options

	NoTimers          bool  // timerWheelEnable=false: moments are refused
	TimerMaxDelaySec  int64 // timerMaxDelaySec; default delay.DefaultMaxDelaySec
	TimerPrecisionMS  int64 // timerPrecisionMs: what TIMER_OUT_MS is rounded to; default delay.DefaultPrecisionMS
	TimerLiveBytesMax int64 // records of messages that wait for a moment; default delay.DefaultLiveBytesMax
	NoRecall          bool  // recallMessageEnable=false

	// Properties are further options that GET_BROKER_CONFIG shows and that need a restart, by RocketMQ's names.
	Properties map[string]string
	Host       Host

	Seed   int64 // of the unique ids that the broker makes
	Now    func() time.Time
	Logger *slog.Logger
}

// Broker serves the requests of the broker role on one store.
type Broker struct {
	c     Config
	store *store.Store
	log   *slog.Logger

	topics  *topicTable
	groups  *groupTable
	offsets *offsetTable
	locks   *lockTable
	filters *expression.Table
	clients *clientTable
	held    *heldPulls
	pop     *popserve.Service
	delays  *delay.Delays
	rounds  *compaction.Rounds
	cold    *cold.Control

	transactions *transactions

	stats   stats
	traffic *traffic.Table
	port    int
	stamp   []byte // properties that every message is stored with
	started time.Time

	settings   atomic.Pointer[settings]
	settingsMu sync.Mutex // held while settings are changed, so that the log has the same order

	wake chan *heldPull // woken pulls, for the shell
	stop chan struct{}
	wait sync.WaitGroup

	drainMu  sync.Mutex // guards draining
	draining bool
}

// DefaultCompactEvery is the pause between rounds of compaction.
const DefaultCompactEvery = 15 * time.Minute

// wakeQueue bounds the pulls that are woken and not yet served; beyond it they are served on the spot.
const wakeQueue = 4096

// New loads the broker's state from the store. TopicsChanged, when not nil, is told of every change of the topic table.
func New(c Config, s *store.Store) (*Broker, error) {
	if len(c.DelayLevels) == 0 {
		c.DelayLevels = delay.DefaultLevels()
	}
	if c.Transactions == (TransactionOptions{}) {
		c.Transactions = DefaultTransactionOptions()
	}
	if c.Light == (LightOptions{}) {
		c.Light = DefaultLightOptions()
	}
	c.CompactEvery = cmp.Or(c.CompactEvery, DefaultCompactEvery)
	c.QueuesMax, c.GroupsMax = cmp.Or(c.QueuesMax, DefaultQueuesMax), cmp.Or(c.GroupsMax, DefaultGroupsMax)
	c.TimerMaxDelaySec = cmp.Or(c.TimerMaxDelaySec, delay.DefaultMaxDelaySec)
	c.TimerPrecisionMS = cmp.Or(c.TimerPrecisionMS, delay.DefaultPrecisionMS)
	c.TimerLiveBytesMax = cmp.Or(c.TimerLiveBytesMax, delay.DefaultLiveBytesMax)
	b := &Broker{
		c: c, store: s, log: c.Logger,
		wake: make(chan *heldPull, wakeQueue),
		stop: make(chan struct{}),
	}
	b.traffic = traffic.New(trafficMax)
	b.started = c.Now()
	if err := b.loadSettings(); err != nil {
		return nil, err
	}
	b.topics = newTopicTable(b)
	b.groups = newGroupTable(b)
	b.offsets = newOffsetTable(b)
	b.locks = newLockTable(b)
	b.clients = newClientTable(b)
	b.filters = newFilterTable(b)
	b.cold = cold.New()
	b.held = &heldPulls{byConn: map[*remoting.Conn]map[*heldPull]struct{}{}}
	b.stats.seed = c.Seed
	for _, p := range [][2]string{{message.PropRegion, c.Region}, {message.PropTraceSwitch, "true"}, {message.PropCluster, c.Cluster}} {
		b.stamp = message.AppendProperty(b.stamp, p[0], []byte(p[1]))
	}
	err := errors.Join(b.topics.load(), b.groups.load(), b.offsets.load(), b.locks.load(), b.loadFilters(), b.loadCold())
	if err == nil {
		b.delays, err = delay.New(delay.Config{
			Store: s, Broker: c.Name, Queue: b.topics.queueFor, Levels: c.DelayLevels, NoMoments: c.NoTimers,
			MaxDelaySec: c.TimerMaxDelaySec, PrecisionMS: c.TimerPrecisionMS, LiveBytesMax: c.TimerLiveBytesMax, Now: c.Now, Logger: c.Logger,
			Count: func(topic string, n int) {
				b.traffic.OfKey(traffic.Key{Topic: topic, Kind: traffic.Timed}, false).Add(n, 0)
			},
		})
	}
	if err == nil {
		if err = popserve.TakeOver(popHost{b}, s, c.Logger); errors.Is(err, store.ErrDamaged) {
			err = nil // the next start does, once the damage is accepted
		}
	}
	if err == nil {
		b.pop, err = popserve.New(popHost{b}, s, c.Logger)
	}
	if err == nil {
		b.transactions, err = newTransactions(b)
	}
	if err == nil {
		b.rounds = compaction.New(compaction.Config{
			Store: s, Topics: b.topics.compacted, Interval: func() time.Duration { return b.live().compactEvery }, Logger: c.Logger,
		})
		s.Hold(b.neededFrom)
	}
	return b, err
}

// neededFrom is the store's Hold.
func (b *Broker) neededFrom(wanted int64) (int64, error) {
	delayed, err := b.delays.NeededFrom(wanted)
	if err != nil {
		return 0, err
	}
	pending, err := b.pendingFrom()
	return min(delayed, pending, b.rounds.NeededFrom(wanted)), err
}

// Retired is the store's: what a record changes by replacing its source. The source has waited for its time, it is a half message whose
// transaction is decided, or the delivery of what a group did not acknowledge ends.
func Retired(r, source *message.Record) (kind string, changes []store.Mutation) {
	if source == nil {
		return delay.RetiredUnread(r)
	}
	if string(source.Topic) == message.TopicHalf {
		return kindTransactions, decidedHalf(r, source)
	}
	if kind, changes = delay.Retired(source); kind != "" {
		return kind, changes
	}
	return popserve.Retired(r, source)
}

// Pending is the store's: what a record changes by waiting.
func Pending(r *message.Record) (kind string, changes []store.Mutation) {
	if string(r.Topic) == message.TopicHalf {
		return kindTransactions, []store.Mutation{pendingHalf(r)}
	}
	return delay.Pending(r)
}

// SetPort tells the broker where it is reached (listenPort), which goes into message ids. Before Start.
func (b *Broker) SetPort(port int) { b.port = port }

// Port returns it.
func (b *Broker) Port() int { return b.port }

// Cluster and Name are the broker's own.
func (b *Broker) Cluster() string { return b.c.Cluster }
func (b *Broker) Name() string    { return b.c.Name }

// Drain refuses sends from now on: the node is about to stop.
func (b *Broker) Drain() {
	b.drainMu.Lock()
	b.draining = true
	b.drainMu.Unlock()
}

func (b *Broker) isDraining() bool {
	b.drainMu.Lock()
	defer b.drainMu.Unlock()
	return b.draining
}

// storeHost is the address that goes into records and message ids for a connection: the advertised one, else the connection's.
func (b *Broker) storeHost(local netip.AddrPort) netip.AddrPort {
	addr := b.c.Advertise
	if !addr.IsValid() {
		addr = local.Addr().Unmap()
	}
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(addr, uint16(b.port))
}

// kinds of state, and so names of the topics that hold it.
const (
	kindTopics  = "topics"
	kindGroups  = "groups"
	kindOffsets = "offsets"
	kindLocks   = "locks"
	kindFilters = "filters"

	kindTransactions = "transactions" // half messages, see package transaction

	kindForbidden = "forbidden"
	kindConfig    = "config"
	kindCold      = "cold"
)

// update writes a change of state and waits for nothing: done is told, or the error is returned.
func (b *Broker) update(kind string, done func(error), changes ...store.Mutation) error {
	return b.store.UpdateState(kind, changes, done)
}

// retryTopicGroup returns the group of a %RETRY% topic.
func retryTopicGroup(topic string) (string, bool) {
	if len(topic) > len(message.RetryPrefix) && topic[:len(message.RetryPrefix)] == message.RetryPrefix {
		return topic[len(message.RetryPrefix):], true
	}
	return "", false
}
