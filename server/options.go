package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/namesrv"
	"github.com/apogeemq/apogee/remoting"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
)

// Option is one setting under the one name that it has in every source: RocketMQ's where RocketMQ has it.
type Option struct {
	Key   string
	Flag  string // on the command line; the key in kebab case unless it has a shorter one
	Usage string
	set   func(c *Config, value string) error
}

// Options returns every setting.
func Options() []Option {
	list := []Option{
		text("dir", "directory of all data", func(c *Config) *string { return &c.Dir }),
		text("listen", "host to bind; empty: every address of the machine", func(c *Config) *string { return &c.Listen }),
		text("advertise", "host that clients are told; empty: the one that they reached the node by", func(c *Config) *string { return &c.Advertise }),
		{Key: "roles", Usage: "comma separated: namesrv, broker", set: func(c *Config, v string) error { c.Roles = splitList(v); return nil }},
		number("namesrvPort", "name server", func(c *Config) *int { return &c.NamesrvPort }),
		number("listenPort", "broker; the fast port is two below", func(c *Config) *int { return &c.BrokerPort }).flag("broker-port"),
		number("adminPort", "metrics, health and profiles over HTTP", func(c *Config) *int { return &c.AdminPort }),
		number("haListenPort", "replication; nothing listens there in this version", func(c *Config) *int { return &c.HAPort }).flag("ha-port"),
		number("proxyPort", "proxy over remoting; nothing listens there in this version", func(c *Config) *int { return &c.ProxyPort }),
		number("grpcPort", "proxy over gRPC; nothing listens there in this version", func(c *Config) *int { return &c.GRPCPort }),
		number("consolePort", "web console; nothing listens there in this version", func(c *Config) *int { return &c.ConsolePort }),
		text("namesrvAddr", "other name servers to register with, host:port separated by semicolons", func(c *Config) *string { return &c.NamesrvAddr }),
		period("registerNameServerPeriod", "between registrations", func(c *Config) *time.Duration { return &c.RegisterPeriod }),
		text("brokerClusterName", "cluster", func(c *Config) *string { return &c.Cluster }).flag("cluster"),
		text("brokerName", "name of the broker within the cluster", func(c *Config) *string { return &c.BrokerName }),
		number("brokerId", "0: the master; slaves are not in this version", func(c *Config) *int64 { return &c.BrokerID }),
		text("regionId", "region that sends are answered with", func(c *Config) *string { return &c.Region }),
		number("brokerPermission", "4 read, 2 write", func(c *Config) *int32 { return &c.BrokerPermission }),
		boolean("autoCreateTopicEnable", "make topics on their first message", func(c *Config) *bool { return &c.AutoCreateTopic }),
		boolean("autoCreateSubscriptionGroup", "make consumer groups on their first request", func(c *Config) *bool { return &c.AutoCreateGroup }),
		number("defaultTopicQueueNums", "queues of the template for new topics", func(c *Config) *int32 { return &c.DefaultTopicQueues }),
		number("queuesMax", "most queues of all topics together; a topic counts for one at least", func(c *Config) *int { return &c.QueuesMax }),
		number("groupsMax", "most consumer groups", func(c *Config) *int { return &c.GroupsMax }),
		boolean("traceTopicEnable", "have the topic for message traces", func(c *Config) *bool { return &c.TraceTopic }),
		boolean("enablePropertyFilter", "take SQL92 subscriptions", func(c *Config) *bool { return &c.PropertyFilter }),
		boolean("filterSupportRetry", "filter retry topics, where they are subscribed to by SQL92, by what the group wants of the topic that a message comes from", func(c *Config) *bool { return &c.FilterRetry }),
		boolean("storeReplyMessageEnable", "store replies to requests, beside giving them to who asked", func(c *Config) *bool { return &c.StoreReplies }),
		size("maxMessageSize", "longest message body", func(c *Config) *int64 { return &c.MessageBytesMax }),
		size("maxTransferBytesOnMessageInMemory", "most bytes of one pull", func(c *Config) *int64 { return &c.TransferBytesMax }),
		number("maxTransferCountOnMessageInMemory", "most messages of one pull", func(c *Config) *int64 { return &c.TransferCountMax }),
		number("accessMessageInMemoryMaxRatio", "percent of the memory: log this near its end counts as in memory; a new group reads a queue from its start if that does", func(c *Config) *int64 { return &c.HotPercent }),
		period("pollWaitMax", "longest hold of a pull", func(c *Config) *time.Duration { return &c.PollWaitMax }),
		{Key: "messageDelayLevel", Usage: "times of the delay levels, such as 1s 5s 1m 1h 1d", set: func(c *Config, v string) (err error) { c.DelayLevels, err = delay.ParseLevels(v); return err }},
		{Key: "flushDiskType", Usage: "SYNC_FLUSH: acknowledged means on disk; ASYNC_FLUSH: written", set: setFlush},
		period("flushIntervalCommitLog", "between fsyncs with ASYNC_FLUSH", func(c *Config) *time.Duration { return &c.FlushInterval }),
		size("mappedFileSizeCommitLog", "length of a log segment", func(c *Config) *int64 { return &c.SegmentBytes }),
		size("memoryMax", "memory of the process; 0: an eighth of what there is", func(c *Config) *int64 { return &c.MemoryBytesMax }),
		size("unsyncedBytesMax", "log that may be in flight to the disk", func(c *Config) *int64 { return &c.UnsyncedBytesMax }),
		size("viewLagBytesMax", "log from which on the view is brought to disk: a start replays at most twice as much", func(c *Config) *int64 { return &c.ViewLagBytesMax }),
		{Key: "fileReservedTime", Usage: "how long messages are kept: hours, or a duration such as 90m; 0: for ever", set: setReserved},
		size("logBytesMax", "most bytes of log that are kept, whole segments; 0: any", func(c *Config) *int64 { return &c.Retention.BytesMax }),
		{Key: "diskSpaceCleanForciblyRatio", Usage: "percent of the disk in use from which on the oldest messages go whatever their age; 0: never", set: percent(func(c *Config) *float64 { return &c.Retention.CleanRatio })},
		{Key: "diskSpaceWarningLevelRatio", Usage: "percent of the disk in use from which on messages are refused; 0: never", set: percent(func(c *Config) *float64 { return &c.Retention.FullRatio })},
		size("diskFreeBytes", "with this much free, a disk does not count as full, whatever its percentage", func(c *Config) *int64 { return &c.Retention.FreeBytes }),
		period("compactionScheduleInternal", "between rounds of compaction, in topics whose cleanup.policy is COMPACTION", func(c *Config) *time.Duration { return &c.CompactEvery }),
		boolean("acceptDamage", "take messages although the middle of the log is damaged", func(c *Config) *bool { return &c.AcceptDamage }),
		{Key: "tls.server.mode", Flag: "tls-mode", Usage: "disabled, permissive or enforcing", set: setTLS},
		text("tlsCertPath", "certificate (PEM); empty: self-signed", func(c *Config) *string { return &c.TLSCert }),
		text("tlsKeyPath", "key of the certificate (PEM)", func(c *Config) *string { return &c.TLSKey }),
		{Key: "proxyProtocolFrom", Usage: "comma separated networks that may say on whose behalf they connect", set: setProxyFrom},
		text("logLevel", "debug, info, warn or error", func(c *Config) *string { return &c.LogLevel }),
	}
	list = slices.Concat(list, timerOptions(), lightOptions(), connectionOptions(), transactionOptions(), coldOptions(), nameServerOptions())
	for i := range list {
		if list[i].Flag == "" {
			list[i].Flag = kebab(list[i].Key)
		}
	}
	return list
}

func nameServerOptions() (list []Option) {
	for _, name := range namesrv.PropertyNames() {
		list = append(list, Option{Key: name, Usage: "as in RocketMQ's name server",
			set: func(c *Config, v string) error { return c.Namesrv.Set(name, v) }})
	}
	return list
}

// timerOptions are those of messages that wait for a moment of their own.
func timerOptions() []Option {
	return []Option{
		boolean("timerWheelEnable", "take messages that wait for a moment of their own", func(c *Config) *bool { return &c.Timers }),
		number("timerMaxDelaySec", "longest wait for a moment, in seconds", func(c *Config) *int64 { return &c.TimerMaxDelaySec }),
		number("timerPrecisionMs", "what TIMER_OUT_MS is rounded to: 100, 200, 500 or 1000; messages are delivered at their moment", func(c *Config) *int64 { return &c.TimerPrecisionMS }),
		size("timerLiveBytesMax", "most bytes of messages that wait for a moment; beyond it such sends are refused", func(c *Config) *int64 { return &c.TimerLiveBytesMax }),
		boolean("recallMessageEnable", "let producers recall messages that wait for a moment", func(c *Config) *bool { return &c.Recall }),
	}
}

// lightOptions are those of light queues.
func lightOptions() []Option {
	return []Option{
		boolean("enableLmq", "topics and groups that begin with %LMQ% are there without being made", func(c *Config) *bool { return &c.Light.Enable }),
		boolean("enableMultiDispatch", "with enableLmq: messages stand in the light queues that they name, too", func(c *Config) *bool { return &c.Light.MultiDispatch }),
		boolean("enableLmqQuota", "refuse messages that need more light queues than maxLmqConsumeQueueNum", func(c *Config) *bool { return &c.Light.Quota }),
		number("maxLmqConsumeQueueNum", "most light queues, with enableLmqQuota", func(c *Config) *int { return &c.Light.QueuesMax }),
		number("maxLiteSubscriptionCount", "most subscriptions to lite topics", func(c *Config) *int { return &c.Light.SubscriptionsMax }),
		period("liteSubscriptionCheckTimeoutMills", "how long a client's subscriptions to lite topics last unless it sends them again", func(c *Config) *time.Duration { return &c.Light.SubscriptionTimeout }),
		period("liteTtlCheckInterval", "between looks for lite topics that are older than lite.topic.expiration of their parents", func(c *Config) *time.Duration { return &c.Light.ExpiryCheck }),
		period("minLiteTTl", "how long lite topics are kept at least", func(c *Config) *time.Duration { return &c.Light.KeptMin }),
	}
}

// connectionOptions are the limits of connections.
func connectionOptions() []Option {
	return []Option{
		size("frameBytesMax", "longest frame", func(c *Config) *int64 { return &c.FrameBytesMax }),
		size("outBytesMax", "most output that a connection may leave unread", func(c *Config) *int64 { return &c.OutBytesMax }),
		size("requestBytesMax", "most bytes of a connection's requests that are not answered, 2 KiB for each besides", func(c *Config) *int64 { return &c.RequestBytesMax }),
		size("connectionBytesMax", "memory of all connections of a role; 0: half of memoryMax, but 128 MiB at least", func(c *Config) *int64 { return &c.ConnectionBytesMax }),
		number("connectionsMax", "most connections of one port", func(c *Config) *int64 { return &c.ConnectionsMax }),
		period("idleTimeout", "a connection without traffic is closed", func(c *Config) *time.Duration { return &c.IdleTimeout }),
		period("drainTimeout", "for what is in flight at a stop", func(c *Config) *time.Duration { return &c.DrainTimeout }),
	}
}

func transactionOptions() []Option {
	return []Option{
		boolean("rejectTransactionMessage", "refuse transactional messages", func(c *Config) *bool { return &c.Transactions.Reject }),
		period("transactionCheckInterval", "between looks at transactions that have not ended", func(c *Config) *time.Duration { return &c.Transactions.CheckInterval }),
		period("transactionTimeOut", "age from which on a transaction's producer is asked how it ended", func(c *Config) *time.Duration { return &c.Transactions.Timeout }),
		number("transactionCheckMax", "how often it is asked", func(c *Config) *int32 { return &c.Transactions.ChecksMax }),
	}
}

// coldOptions are those of reads that are far behind.
func coldOptions() []Option {
	return []Option{
		boolean("coldDataFlowControlEnable", "limit what groups read of log that memory does not reach", func(c *Config) *bool { return &c.Cold.Enabled }),
		size("cgColdReadThreshold", "most of it that a group reads in 5 s", func(c *Config) *int64 { return &c.Cold.GroupBytes }),
		size("globalColdReadThreshold", "most of it that all groups read in 5 s", func(c *Config) *int64 { return &c.Cold.GlobalBytes }),
		boolean("coldCtrStrategyEnable", "let a group's limit follow what all groups read", func(c *Config) *bool { return &c.Cold.Adaptive }),
		boolean("usePIDColdCtrStrategy", "by a PID formula", func(c *Config) *bool { return &c.Cold.PID }),
	}
}

func (o Option) flag(name string) Option { o.Flag = name; return o }

// env is the name of the option's environment variable.
func (o Option) env() string {
	return "APOGEE_" + strings.ToUpper(strings.ReplaceAll(o.Flag, "-", "_"))
}

func kebab(key string) string {
	var b strings.Builder
	for i, r := range key {
		switch {
		case r == '.':
			b.WriteByte('-')
		case unicode.IsUpper(r) && i > 0:
			b.WriteByte('-')
			fallthrough
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

func splitList(v string) (list []string) {
	for s := range strings.SplitSeq(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}

func text(key, usage string, field func(*Config) *string) Option {
	return Option{Key: key, Usage: usage, set: func(c *Config, v string) error { *field(c) = v; return nil }}
}

func boolean(key, usage string, field func(*Config) *bool) Option {
	return Option{Key: key, Usage: usage, set: func(c *Config, v string) (err error) {
		if *field(c), err = strconv.ParseBool(v); err != nil {
			err = errors.New("want true or false")
		}
		return err
	}}
}

func number[T int | int32 | int64](key, usage string, field func(*Config) *T) Option {
	return Option{Key: key, Usage: usage, set: func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || int64(T(n)) != n {
			return errors.New("want a whole number")
		}
		*field(c) = T(n)
		return nil
	}}
}

// size takes bytes, or a number with KiB, MiB or GiB.
func size(key, usage string, field func(*Config) *int64) Option {
	return Option{Key: key, Usage: usage + " (bytes, or with KiB, MiB, GiB)", set: func(c *Config, v string) error {
		digits, unit := strings.TrimRightFunc(v, unicode.IsLetter), ""
		unit = strings.ToLower(v[len(digits):])
		shift, ok := map[string]int{"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30}[unit]
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || !ok || n < 0 || n > 1<<62>>shift {
			return errors.New("want a size such as 1073741824 or 1GiB")
		}
		*field(c) = n << shift
		return nil
	}}
}

// period takes a duration such as 500ms, or a number of milliseconds as RocketMQ does.
func period(key, usage string, field func(*Config) *time.Duration) Option {
	return Option{Key: key, Usage: usage + " (such as 500ms; a plain number is milliseconds)", set: func(c *Config, v string) error {
		if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
			*field(c) = time.Duration(ms) * time.Millisecond
			return nil
		}
		d, err := time.ParseDuration(v)
		if err != nil {
			return errors.New("want a duration such as 500ms or 30s")
		}
		*field(c) = d
		return nil
	}}
}

func setFlush(c *Config, v string) error {
	switch strings.ToUpper(v) {
	case "SYNC_FLUSH", "SYNC":
		c.AsyncFlush = false
	case "ASYNC_FLUSH", "ASYNC":
		c.AsyncFlush = true
	default:
		return errors.New("want SYNC_FLUSH or ASYNC_FLUSH")
	}
	return nil
}

// setReserved takes hours, as RocketMQ does, or a duration.
func setReserved(c *Config, v string) error {
	hours, err := strconv.ParseInt(v, 10, 32)
	d := time.Duration(hours) * time.Hour
	if err != nil {
		d, err = time.ParseDuration(v)
	}
	if err != nil || d < 0 {
		return errors.New("want hours such as 72, or a duration such as 90m")
	}
	c.Retention.Age = d
	return nil
}

// percent takes 0 to 100.
func percent(field func(*Config) *float64) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || n < 0 || n > 100 {
			return errors.New("want a percentage, 0 to 100")
		}
		*field(c) = n / 100
		return nil
	}
}

func setTLS(c *Config, v string) error {
	modes := map[string]remoting.TLSMode{"disabled": remoting.TLSDisabled, "permissive": remoting.TLSPermissive, "enforcing": remoting.TLSEnforcing}
	mode, ok := modes[strings.ToLower(v)]
	if !ok {
		return errors.New("want disabled, permissive or enforcing")
	}
	c.TLSMode = mode
	return nil
}

func setProxyFrom(c *Config, v string) error {
	c.ProxyProtocolFrom = nil
	for _, s := range splitList(v) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				return fmt.Errorf("want networks such as 10.0.0.0/8: %w", err)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		c.ProxyProtocolFrom = append(c.ProxyProtocolFrom, p)
	}
	return nil
}

func logLevel(name string) (l slog.Level, err error) {
	err = l.UnmarshalText([]byte(name))
	return l, err
}

// Sources are where Load reads from; later ones win: RocketMQ's properties, the file, the environment, the flags.
type Sources struct {
	InMemory   bool              // start from MemoryConfig, not DefaultConfig
	Properties string            // a RocketMQ broker.conf; keys that mean nothing here are reported and passed over
	File       string            // YAML, a key a line
	Env        []string          // as os.Environ
	Flags      map[string]string // by flag name, those that were given
}

// Load reads the configuration. All faults are reported at once. ignored are the keys of a broker.conf that mean nothing here.
func Load(s Sources) (c Config, ignored []string, err error) {
	options := Options()
	k := koanf.New("\x00") // keys hold dots
	var errs []error
	byKey, byFlag := map[string]Option{}, map[string]Option{}
	for _, o := range options {
		byKey[o.Key], byFlag[o.Flag] = o, o
	}
	if s.Properties != "" {
		values, err := readProperties(s.Properties)
		errs = append(errs, err)
		for key := range values {
			if _, ok := byKey[renamed(key)]; !ok {
				ignored = append(ignored, key)
				delete(values, key)
			}
		}
		errs = append(errs, k.Load(confmap.Provider(rename(values), ""), nil))
	}
	if s.File != "" {
		b, err := os.ReadFile(s.File)
		if err == nil {
			err = k.Load(rawbytes.Provider(b), yaml.Parser())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot read the configuration %s: %w", s.File, err))
		}
	}
	env := map[string]any{}
	for _, pair := range s.Env {
		name, value, _ := strings.Cut(pair, "=")
		for _, o := range options {
			if o.env() == name {
				env[o.Key] = value
			}
		}
	}
	flags := map[string]any{}
	for name, value := range s.Flags {
		flags[byFlag[name].Key] = value
	}
	errs = append(errs, k.Load(confmap.Provider(env, ""), nil), k.Load(confmap.Provider(flags, ""), nil))

	c = DefaultConfig()
	if s.InMemory {
		c = MemoryConfig()
	}
	for _, key := range k.Keys() {
		o, ok := byKey[key]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: there is no such key%s", key, nearest(key, options)))
			continue
		}
		if err := o.set(&c, k.String(key)); err != nil {
			errs = append(errs, fmt.Errorf("%s=%s: %w", key, k.String(key), err))
		}
	}
	return c, ignored, errors.Join(append(errs, c.Validate())...)
}

// renamed maps keys of RocketMQ that mean the same under another name here.
func renamed(key string) string {
	switch key {
	case "brokerIP1":
		return "advertise"
	case "storePathRootDir":
		return "dir"
	case "bindAddress":
		return "listen"
	}
	return key
}

func rename(values map[string]string) map[string]any {
	out := make(map[string]any, len(values))
	for k, v := range values {
		out[renamed(k)] = v
	}
	return out
}

// readProperties reads the part of Java's properties format that broker.conf files use.
func readProperties(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the RocketMQ configuration %s: %w", path, err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		values[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return values, nil
}

// nearest suggests the key that a misspelt one is likely to be.
func nearest(key string, options []Option) string {
	best, distance := "", 1+len(key)/3
	for _, o := range options {
		if d := editDistance(strings.ToLower(key), strings.ToLower(o.Key)); d <= distance {
			best, distance = o.Key, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
