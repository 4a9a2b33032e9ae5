package server

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/apogeemq/apogee/broker"
	"github.com/apogeemq/apogee/broker/cold"
	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/namesrv"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Roles that a node can run.
const (
	RoleNamesrv = "namesrv"
	RoleBroker  = "broker"
)

// Config is a node's whole configuration. Start from DefaultConfig; Load reads it from its sources. Sizes are bytes.
type Config struct {
	Dir       string
	Listen    string // host to bind; empty: every address of the machine, IPv4 and IPv6
	Advertise string // address that clients are told; empty: the one that they reached us by
	Roles     []string

	NamesrvPort, BrokerPort, AdminPort         int // 0: any free one
	HAPort, ProxyPort, GRPCPort, ConsolePort   int // held for roles to come
	NamesrvAddr                                string
	RegisterPeriod                             time.Duration
	Cluster, BrokerName                        string
	BrokerID                                   int64
	Region                                     string
	BrokerPermission                           int32
	AutoCreateTopic, AutoCreateGroup           bool
	DefaultTopicQueues                         int32
	QueuesMax, GroupsMax                       int
	TraceTopic, PropertyFilter, FilterRetry    bool
	StoreReplies                               bool
	MessageBytesMax                            int64
	TransferBytesMax, TransferCountMax         int64
	HotPercent                                 int64 // of the memory: log this near its end counts as in memory
	PollWaitMax                                time.Duration
	DelayLevels                                delay.Levels
	Timers, Recall                             bool
	TimerMaxDelaySec, TimerPrecisionMS         int64
	TimerLiveBytesMax                          int64
	Light                                      broker.LightOptions       // light queues
	Transactions                               broker.TransactionOptions // Reserved is Retention's Age
	CompactEvery                               time.Duration             // between rounds of compaction
	Cold                                       cold.Options
	AsyncFlush                                 bool
	FlushInterval                              time.Duration
	SegmentBytes                               int64
	MemoryBytesMax                             int64 // 0: an eighth of what the container or the machine has
	UnsyncedBytesMax, ViewLagBytesMax          int64
	Retention                                  store.Retention
	AcceptDamage                               bool
	FrameBytesMax, OutBytesMax, ConnectionsMax int64
	RequestBytesMax                            int64
	ConnectionBytesMax                         int64 // 0: half of the process's memory
	IdleTimeout, DrainTimeout                  time.Duration
	TLSMode                                    remoting.TLSMode
	TLSCert, TLSKey                            string
	ProxyProtocolFrom                          []netip.Prefix
	LogLevel                                   string
	Namesrv                                    namesrv.Config

	// FS, when set, holds everything instead of the disk: a broker in memory. A node that is made with the FS of a closed one finds
	// what that one stored.
	FS vfs.FS
	// Logger, when set, gets what the node logs, instead of stderr from LogLevel on.
	Logger *slog.Logger
	// Profiles, when set, answers what is asked below /debug/pprof/ on the admin port.
	Profiles http.Handler
}

// MemoryConfig is a node for tests: in memory, on free ports of the loopback. See NamesrvAddr for where it is, once started.
func MemoryConfig() Config {
	c := DefaultConfig()
	c.FS, c.Dir, c.Listen = vfs.NewMem(), "data", "127.0.0.1"
	c.NamesrvPort, c.BrokerPort, c.AdminPort = 0, 0, 0
	return c
}

// DefaultConfig returns RocketMQ's defaults where it has them, but for synchronous flush.
func DefaultConfig() Config {
	return Config{
		Dir:         "data",
		Roles:       []string{RoleNamesrv, RoleBroker},
		NamesrvPort: 9876, BrokerPort: 10911, HAPort: 10912, ProxyPort: 8080, GRPCPort: 8081, ConsolePort: 8082, AdminPort: 5557,
		RegisterPeriod: 30 * time.Second,
		Cluster:        "DefaultCluster", BrokerName: "broker-a", Region: "DefaultRegion",
		BrokerPermission: 6, AutoCreateTopic: true, AutoCreateGroup: true, PropertyFilter: true, StoreReplies: true, DefaultTopicQueues: 8,
		QueuesMax: broker.DefaultQueuesMax, GroupsMax: broker.DefaultGroupsMax,
		MessageBytesMax: 4 << 20, TransferBytesMax: 256 << 10, TransferCountMax: 32, HotPercent: 40,
		PollWaitMax:  30 * time.Second,
		DelayLevels:  delay.DefaultLevels(),
		Timers:       true,
		Transactions: broker.DefaultTransactionOptions(),
		CompactEvery: broker.DefaultCompactEvery,
		Cold:         cold.DefaultOptions(),
		Recall:       true,
		Light:        broker.DefaultLightOptions(),

		TimerMaxDelaySec:  delay.DefaultMaxDelaySec,
		TimerPrecisionMS:  delay.DefaultPrecisionMS,
		TimerLiveBytesMax: delay.DefaultLiveBytesMax,

		FlushInterval: 500 * time.Millisecond, SegmentBytes: 1 << 30,
		UnsyncedBytesMax: 32 << 20, ViewLagBytesMax: 256 << 20,
		FrameBytesMax: 16 << 20, OutBytesMax: 64 << 20, ConnectionsMax: 100_000, RequestBytesMax: 64 << 20,
		Retention:   store.Retention{Age: 72 * time.Hour, CleanRatio: 0.85, FullRatio: 0.9, FreeBytes: 10 << 30},
		IdleTimeout: 120 * time.Second, DrainTimeout: 10 * time.Second,
		LogLevel: "info",
		Namesrv:  namesrv.DefaultConfig(),
	}
}

// has tells whether the node runs a role.
func (c *Config) has(role string) bool { return slices.Contains(c.Roles, role) }

// Validate returns every fault of the configuration at once.
func (c *Config) Validate() error {
	var errs []error
	fault := func(key string, value any, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s=%v: %s", key, value, fmt.Sprintf(format, args...)))
	}
	if len(c.Roles) == 0 {
		fault("roles", "", "name at least one of %s, %s", RoleNamesrv, RoleBroker)
	}
	for _, role := range c.Roles {
		if role != RoleNamesrv && role != RoleBroker {
			fault("roles", role, "unknown role; this version has %s and %s", RoleNamesrv, RoleBroker)
		}
	}
	if c.has(RoleBroker) && !c.has(RoleNamesrv) && c.NamesrvAddr == "" {
		fault("roles", strings.Join(c.Roles, ","), "a broker without a name server beside it needs namesrvAddr")
	}
	if c.Advertise != "" {
		if _, err := resolve(c.Advertise); err != nil {
			fault("advertise", c.Advertise, "%v; give an address or a name that resolves here", err)
		}
	}
	for key, name := range map[string]string{"brokerClusterName": c.Cluster, "brokerName": c.BrokerName} {
		if err := message.CheckTopic(name); err != nil {
			fault(key, name, "%v", err)
		}
	}
	c.checkPorts(fault)
	c.checkSizes(fault)
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fault("tlsCertPath", c.TLSCert, "certificate and key (tlsKeyPath=%s) are set together", c.TLSKey)
	}
	if _, err := logLevel(c.LogLevel); err != nil {
		fault("logLevel", c.LogLevel, "want debug, info, warn or error")
	}
	return errors.Join(errs...)
}

func (c *Config) checkPorts(fault func(key string, value any, format string, args ...any)) {
	used := map[int]string{}
	take := func(key string, port int) {
		if port < 0 || port > 65535 {
			fault(key, port, "a port is 0 (any free one) to 65535")
			return
		}
		if port == 0 {
			return
		}
		if other, taken := used[port]; taken {
			fault(key, port, "the same port as %s", other)
		}
		used[port] = key
	}
	if c.has(RoleNamesrv) {
		take("namesrvPort", c.NamesrvPort)
	}
	if c.has(RoleBroker) {
		take("listenPort", c.BrokerPort)
		if c.BrokerPort > 0 && c.BrokerPort < 3 {
			fault("listenPort", c.BrokerPort, "the fast port, two below, would not be a port")
		} else if c.BrokerPort > 0 {
			take("listenPort (its fast port, two below)", c.BrokerPort-2)
		}
	}
	take("adminPort", c.AdminPort)
}

const (
	segmentStepBytes = 256 << 10 // segments are multiples of it
	recordRoomBytes  = 64 << 10  // of a record, beside the message's body
)

// leastSegment is the shortest segment for messages of that size.
func leastSegment(messageBytesMax int64) int64 {
	n := 2 * (messageBytesMax + recordRoomBytes)
	return (n + segmentStepBytes - 1) / segmentStepBytes * segmentStepBytes
}

func (c *Config) checkSizes(fault func(key string, value any, format string, args ...any)) {
	limits := []struct {
		key         string
		value       int64
		least, most int64
	}{
		{"mappedFileSizeCommitLog", c.SegmentBytes, segmentStepBytes, 64 << 30},
		{"maxMessageSize", c.MessageBytesMax, 1, c.SegmentBytes/2 - recordRoomBytes},
		{"maxTransferBytesOnMessageInMemory", c.TransferBytesMax, 1, c.OutBytesMax},
		{"maxTransferCountOnMessageInMemory", c.TransferCountMax, 1, 1024},
		{"accessMessageInMemoryMaxRatio", c.HotPercent, 0, 95},
		{"frameBytesMax", c.FrameBytesMax, 64 << 10, 1 << 30},
		{"unsyncedBytesMax", c.UnsyncedBytesMax, 64 << 10, 1 << 30},
		{"logBytesMax", c.Retention.BytesMax, 0, 1 << 60},
		{"diskFreeBytes", c.Retention.FreeBytes, 0, 1 << 60},
		{"viewLagBytesMax", c.ViewLagBytesMax, 1 << 20, 16 << 30},
		{"defaultTopicQueueNums", int64(c.DefaultTopicQueues), 1, 65536},
		{"queuesMax", int64(c.QueuesMax), 2048, 1 << 30},
		{"groupsMax", int64(c.GroupsMax), 16, 1 << 30},
		{"maxLmqConsumeQueueNum", int64(c.Light.QueuesMax), 0, 1 << 30},
		{"maxLiteSubscriptionCount", int64(c.Light.SubscriptionsMax), 1, 1 << 24},
		{"timerMaxDelaySec", c.TimerMaxDelaySec, 1, delay.MaxDelaySecMax},
		{"timerLiveBytesMax", c.TimerLiveBytesMax, 1, 1 << 50},
		{"cgColdReadThreshold", c.Cold.GroupBytes, 0, 1 << 50},
		{"globalColdReadThreshold", c.Cold.GlobalBytes, 0, 1 << 50},
		{"transactionCheckMax", int64(c.Transactions.ChecksMax), 1, math.MaxInt32},
		{"brokerPermission", int64(c.BrokerPermission), 0, 7},
		{"brokerId", c.BrokerID, 0, 0},
		{"connectionsMax", c.ConnectionsMax, 1, 1 << 30},
		{"outBytesMax", c.OutBytesMax, 1 << 20, 16 << 30},
		{"requestBytesMax", c.RequestBytesMax, c.FrameBytesMax + 64<<10, 16 << 30},
		{"connectionBytesMax", c.ConnectionBytesMax, 0, 1 << 40},
	}
	for _, l := range limits {
		if l.value < l.least || l.value > l.most {
			fault(l.key, l.value, "want %d to %d", l.least, l.most)
		}
	}
	if c.SegmentBytes%segmentStepBytes != 0 {
		fault("mappedFileSizeCommitLog", c.SegmentBytes, "want a multiple of 256 KiB")
	}
	if !slices.Contains([]int64{100, 200, 500, 1000}, c.TimerPrecisionMS) {
		fault("timerPrecisionMs", c.TimerPrecisionMS, "want 100, 200, 500 or 1000")
	}
	if c.MemoryBytesMax != 0 && c.MemoryBytesMax < memoryLeast {
		fault("memoryMax", c.MemoryBytesMax, "want at least %d", int64(memoryLeast))
	}
	for key, d := range map[string]time.Duration{
		"flushIntervalCommitLog": c.FlushInterval, "registerNameServerPeriod": c.RegisterPeriod, "pollWaitMax": c.PollWaitMax,
		"transactionCheckInterval": c.Transactions.CheckInterval, "transactionTimeOut": c.Transactions.Timeout,
		"idleTimeout": c.IdleTimeout, "drainTimeout": c.DrainTimeout, "compactionScheduleInternal": c.CompactEvery,
		"liteSubscriptionCheckTimeoutMills": c.Light.SubscriptionTimeout, "liteTtlCheckInterval": c.Light.ExpiryCheck, "minLiteTTl": c.Light.KeptMin,
	} {
		if d <= 0 {
			fault(key, d, "want more than 0")
		}
	}
}

// resolve returns the address that a host stands for.
func resolve(host string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return a, nil
	}
	addrs, err := net.LookupIP(host)
	if err != nil {
		return netip.Addr{}, err
	}
	a, _ := netip.AddrFromSlice(addrs[0])
	return a.Unmap(), nil
}

// inContainer tells whether addresses of this machine are likely not reachable from where clients run.
func inContainer() bool {
	for _, path := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}
