package server

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/broker"
	"github.com/apogeemq/apogee/remoting"
)

// brokerProperties are the options of the node that GET_BROKER_CONFIG shows beside the broker's own, under RocketMQ's names where it has them.
func (c *Config) brokerProperties() map[string]string {
	flush := "SYNC_FLUSH"
	if c.AsyncFlush {
		flush = "ASYNC_FLUSH"
	}
	return map[string]string{
		"roles":                             strings.Join(c.Roles, ","),
		"registerNameServerPeriod":          strconv.FormatInt(c.RegisterPeriod.Milliseconds(), 10),
		"storePathRootDir":                  c.Dir,
		"flushDiskType":                     flush,
		"flushIntervalCommitLog":            strconv.FormatInt(c.FlushInterval.Milliseconds(), 10),
		"fileReservedTime":                  strconv.FormatInt(int64(c.Retention.Age.Hours()), 10),
		"logBytesMax":                       strconv.FormatInt(c.Retention.BytesMax, 10),
		"diskSpaceCleanForciblyRatio":       strconv.Itoa(int(c.Retention.CleanRatio*100 + 0.5)),
		"diskSpaceWarningLevelRatio":        strconv.Itoa(int(c.Retention.FullRatio*100 + 0.5)),
		"diskFreeBytes":                     strconv.FormatInt(c.Retention.FreeBytes, 10),
		"timerWheelEnable":                  strconv.FormatBool(c.Timers),
		"timerMaxDelaySec":                  strconv.FormatInt(c.TimerMaxDelaySec, 10),
		"timerPrecisionMs":                  strconv.FormatInt(c.TimerPrecisionMS, 10),
		"timerLiveBytesMax":                 strconv.FormatInt(c.TimerLiveBytesMax, 10),
		"recallMessageEnable":               strconv.FormatBool(c.Recall),
		"enableLmq":                         strconv.FormatBool(c.Light.Enable),
		"enableMultiDispatch":               strconv.FormatBool(c.Light.MultiDispatch),
		"enableLmqQuota":                    strconv.FormatBool(c.Light.Quota),
		"maxLmqConsumeQueueNum":             strconv.Itoa(c.Light.QueuesMax),
		"maxLiteSubscriptionCount":          strconv.Itoa(c.Light.SubscriptionsMax),
		"liteSubscriptionCheckTimeoutMills": strconv.FormatInt(c.Light.SubscriptionTimeout.Milliseconds(), 10),
		"liteTtlCheckInterval":              strconv.FormatInt(c.Light.ExpiryCheck.Milliseconds(), 10),
		"minLiteTTl":                        strconv.FormatInt(c.Light.KeptMin.Milliseconds(), 10),
		"mappedFileSizeCommitLog":           strconv.FormatInt(c.SegmentBytes, 10),
		"memoryMax":                         strconv.FormatInt(c.MemoryBytesMax, 10),
		"connectionsMax":                    strconv.FormatInt(c.ConnectionsMax, 10),
		"frameBytesMax":                     strconv.FormatInt(c.FrameBytesMax, 10),
		"idleTimeout":                       strconv.FormatInt(c.IdleTimeout.Milliseconds(), 10),
	}
}

// brokerHost is what the broker cannot know itself. A broker in memory has no disk.
func (s *Server) brokerHost() broker.Host {
	h := broker.Host{Dir: s.c.Dir, Queues: s.queues, NamesrvAddr: s.nameServers, Lane: func(l remoting.Lane) (int, remoting.LaneLimits) { return s.brokerServer.Lane(l) }}
	if s.c.FS == nil {
		h.Disk = func() (int64, int64) { return diskBytes(s.c.Dir) }
	}
	return h
}

// nameServers are the name servers that know the broker, as RocketMQ's option namesrvAddr has them.
func (s *Server) nameServers(host netip.Addr) string {
	var all []string
	if s.c.has(RoleNamesrv) {
		all = append(all, netip.AddrPortFrom(host, s.namesrvServer.Addrs()[0].Port()).String())
	}
	if s.c.NamesrvAddr != "" {
		all = append(all, s.c.NamesrvAddr)
	}
	return strings.Join(all, ";")
}
