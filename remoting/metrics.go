package remoting

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/apogeemq/apogee/protocol"
)

// The buckets of a latency: the first ends at 2^histogramUnitBits ns (16 us), each next one at twice that, the last before +Inf at 137 s.
const (
	histogramUnitBits = 14
	histogramBuckets  = 24
)

// histogram counts latencies on a logarithmic scale, without a lock.
type histogram struct {
	buckets [histogramBuckets + 1]atomic.Uint64
	sumNS   atomic.Int64
}

func (h *histogram) observe(d time.Duration, n int) {
	i := 0
	if d > 0 {
		i = min(bits.Len64(uint64(d-1)>>histogramUnitBits), histogramBuckets)
	}
	h.buckets[i].Add(uint64(n))
	h.sumNS.Add(int64(d) * int64(n))
}

// snapshot returns the count, the sum in seconds and the cumulated buckets by upper bound in seconds.
func (h *histogram) snapshot() (uint64, float64, map[float64]uint64) {
	buckets := make(map[float64]uint64, histogramBuckets)
	var count uint64
	for i := range histogramBuckets {
		count += h.buckets[i].Load()
		buckets[float64(int64(1)<<(histogramUnitBits+i))/1e9] = count
	}
	count += h.buckets[histogramBuckets].Load()
	return count, float64(h.sumNS.Load()) / 1e9, buckets
}

// RouteMetrics counts the requests of one route: how long until they were answered, and with what.
type RouteMetrics struct {
	prompt  histogram
	held    histogram // those whose handler returned ErrLater: long polls wait on purpose
	success atomic.Uint64
	others  sync.Map // protocol.ResponseCode -> *atomic.Uint64
}

// otherCode counts the codes that RocketMQ does not have.
const otherCode protocol.ResponseCode = -1

// ObserveN counts n requests that were answered with code after d each. It is for a Sink's batches; Request.Reply calls it itself.
func (m *RouteMetrics) ObserveN(code protocol.ResponseCode, d time.Duration, n int) {
	m.observe(code, d, n, false)
}

func (m *RouteMetrics) observe(code protocol.ResponseCode, d time.Duration, n int, held bool) {
	h := &m.prompt
	if held {
		h = &m.held
	}
	h.observe(d, n)
	if code == protocol.RespSuccess {
		m.success.Add(uint64(n))
		return
	}
	if !code.Known() { // a consumer's, sent on: a peer must not make up labels
		code = otherCode
	}
	c, ok := m.others.Load(code)
	if !ok {
		c, _ = m.others.LoadOrStore(code, new(atomic.Uint64))
	}
	c.(*atomic.Uint64).Add(uint64(n))
}

// serverMetrics are what is not counted per route.
type serverMetrics struct {
	opened, open [wireHTTP2 + 1]atomic.Int64 // by wire
	refused      [refusedCount]atomic.Uint64
	unknownCodes atomic.Uint64

	memoryClosed    atomic.Uint64 // connections that held the most when MemoryBytesMax was passed
	requestsRefused atomic.Uint64 // beyond RequestBytesMax
}

// refusal is why a connection was not served.
type refusal uint8

const (
	refusedLimit refusal = iota // ConnectionsMax
	refusedTLS
	refusedPlain
	refusedProxy
	refusedHTTP2
	refusedCount
)

func (r refusal) String() string {
	return [...]string{"limit", "tls", "plain", "proxy", "http2"}[r]
}

var (
	descSeconds = prometheus.NewDesc("apogee_request_seconds",
		"Time from reading a request to answering it; held: the handler kept it (long poll).", []string{"code", "lane", "held"}, nil)
	descResponses = prometheus.NewDesc("apogee_responses_total", "Requests answered, by response code.", []string{"code", "lane", "response"}, nil)
	descUnknown   = prometheus.NewDesc("apogee_unknown_requests_total", "Requests whose code nobody serves.", nil, nil)
	descQueued    = prometheus.NewDesc("apogee_lane_queued", "Requests that wait in a lane.", []string{"lane"}, nil)
	descRunning   = prometheus.NewDesc("apogee_lane_running", "Workers that run in a lane.", []string{"lane"}, nil)
	descRejected  = prometheus.NewDesc("apogee_lane_rejected_total", "Requests refused because the lane was full.", []string{"lane"}, nil)
	descOpened    = prometheus.NewDesc("apogee_connections_total", "Connections by what they spoke.", []string{"kind"}, nil)
	descOpen      = prometheus.NewDesc("apogee_connections", "Open connections by what they speak.", []string{"kind"}, nil)
	descRefused   = prometheus.NewDesc("apogee_connections_refused_total", "Connections that were not served.", []string{"reason"}, nil)
	descMemory    = prometheus.NewDesc("apogee_connections_bytes", "Memory that connections hold: unread output, unanswered requests, incomplete frames.", nil, nil)
	descRelieved  = prometheus.NewDesc("apogee_connections_relieved_total", "Connections closed because all together held too much memory.", nil, nil)
	descUnread    = prometheus.NewDesc("apogee_connections_unread_total", "Connections closed because the peer did not read its answers.", nil, nil)
	descOverdrawn = prometheus.NewDesc("apogee_requests_refused_total", "Requests refused because their connection had too many unanswered.", nil, nil)
	descBytes     = prometheus.NewDesc("apogee_network_bytes_total", "Bytes over remoting connections (inside TLS).", []string{"direction"}, nil)
)

// Collector returns the server's metrics for a Prometheus registry. Two servers of one process need different registries or labels
// (prometheus.WrapCollectorWith).
func (s *Server) Collector() prometheus.Collector { return collector{s} }

type collector struct{ s *Server }

// Describe lists the metrics.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSeconds, descResponses, descUnknown, descQueued, descRunning, descRejected,
		descOpened, descOpen, descRefused, descBytes, descMemory, descRelieved, descUnread, descOverdrawn} {
		ch <- d
	}
}

// Collect reads them.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for _, rt := range c.s.routes.all {
		rt.collect(ch, counter)
	}
	counter(descUnknown, c.s.metrics.unknownCodes.Load())
	for _, l := range c.s.lanes {
		if l == nil {
			continue
		}
		queued, running := l.depth()
		gauge(descQueued, int64(queued), l.name)
		gauge(descRunning, int64(running), l.name)
		counter(descRejected, l.rejected.Load(), l.name)
	}
	for w := wireUnknown; w <= wireHTTP2; w++ {
		if w != wireUnknown {
			counter(descOpened, uint64(c.s.metrics.opened[w].Load()), w.String())
		}
		if w != wireProxy { // counted beside what it carries, so not as open
			gauge(descOpen, c.s.metrics.open[w].Load(), w.String())
		}
	}
	for r := refusal(0); r < refusedCount; r++ {
		counter(descRefused, c.s.metrics.refused[r].Load(), r.String())
	}
	gauge(descMemory, c.s.env.memory.held.Load())
	counter(descRelieved, c.s.metrics.memoryClosed.Load())
	counter(descUnread, c.s.env.traffic.unread.Load())
	counter(descOverdrawn, c.s.metrics.requestsRefused.Load())
	counter(descBytes, c.s.env.traffic.bytesIn.Load(), "in")
	counter(descBytes, c.s.env.traffic.bytesOut.Load(), "out")
}

func (rt *routeState) collect(ch chan<- prometheus.Metric, counter func(*prometheus.Desc, uint64, ...string)) {
	code, lane := rt.Code.String(), rt.Lane.String()
	for i, h := range []*histogram{&rt.metrics.prompt, &rt.metrics.held} {
		if n, sum, buckets := h.snapshot(); n > 0 {
			ch <- prometheus.MustNewConstHistogram(descSeconds, n, sum, buckets, code, lane, [...]string{"false", "true"}[i])
		}
	}
	if n := rt.metrics.success.Load(); n > 0 {
		counter(descResponses, n, code, lane, protocol.RespSuccess.String())
	}
	rt.metrics.others.Range(func(k, v any) bool {
		counter(descResponses, v.(*atomic.Uint64).Load(), code, lane, k.(protocol.ResponseCode).String())
		return true
	})
}
