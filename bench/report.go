package bench

import (
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/apogeemq/apogee/protocol"
)

// Report is what a workload measured, and with which parameters.
type Report struct {
	Workload   string            `json:"workload"`
	Parameters any               `json:"parameters"`
	Started    time.Time         `json:"started"`
	Warmed     Seconds           `json:"warmup_seconds"` // how long the warm-up really took
	Elapsed    Seconds           `json:"elapsed_seconds"`
	Messages   int64             `json:"messages"`
	Rate       float64           `json:"rate_per_second"`
	MBPerSec   float64           `json:"mb_per_second"`
	Latency    *Latency          `json:"latency_us,omitempty"`
	Errors     map[string]int64  `json:"errors,omitempty"`        // by response code
	Remarks    map[string]string `json:"error_remarks,omitempty"` // of the first of each
	EndToEnd   *EndToEnd         `json:"end_to_end,omitempty"`
	Server     *ServerUse        `json:"server,omitempty"`
	ClientCPU  float64           `json:"client_cpu_us_per_message,omitempty"`

	histogram *hdrhistogram.Histogram // of Latency
}

// EndToEnd are the figures of messages sent and received at once.
type EndToEnd struct {
	Intended         int64   `json:"intended"` // what the schedule asked for
	Acknowledged     int64   `json:"acknowledged"`
	Delivered        int64   `json:"delivered"`
	DeliveredPercent float64 `json:"delivered_percent"` // of intended
	Duplicates       int64   `json:"duplicates"`
}

// ServerUse is what the server's process took.
type ServerUse struct {
	PID           int     `json:"pid"`
	CPUSeconds    float64 `json:"cpu_seconds"`
	CPUPerMessage float64 `json:"cpu_us_per_message"`
	RSSBytes      int64   `json:"rss_bytes"`
	RSSAnonBytes  int64   `json:"rss_anon_bytes"` // without mapped files
	PeakRSSBytes  int64   `json:"peak_rss_bytes"` // VmHWM, since the process began
}

// Latency is a distribution in microseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
}

// Bounds of a recorded latency, in nanoseconds, and its precision in decimal digits.
const (
	latencyMin    = 1_000
	latencyMax    = 120_000_000_000
	latencyDigits = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(latencyMin, latencyMax, latencyDigits)
}

// record notes n latencies of d nanoseconds; what lies outside the bounds is counted at the bound.
func record(h *hdrhistogram.Histogram, d, n int64) {
	_ = h.RecordValues(min(max(d, latencyMin), latencyMax), n)
}

func latencyOf(h *hdrhistogram.Histogram) *Latency {
	if h.TotalCount() == 0 {
		return nil
	}
	us := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e3 }
	return &Latency{P50: us(50), P90: us(90), P99: us(99), P999: us(99.9), Max: float64(h.Max()) / 1e3, Mean: h.Mean() / 1e3}
}

// distributionSteps are the steps for each halving of the distance to 100 %, as HdrHistogram's own tools print it.
const distributionSteps = 5

// WriteDistribution writes the latencies, in microseconds, as HdrHistogram's percentile distribution (.hgrm), which its plotter reads.
func (r *Report) WriteDistribution(w io.Writer) error {
	if r.Latency == nil {
		return fmt.Errorf("workload %s has recorded no latency", r.Workload)
	}
	_, err := r.histogram.PercentilesPrint(w, distributionSteps, 1e3)
	return err
}

// setRate computes the rates from Messages and Elapsed.
func (r *Report) setRate(bytesPerMessage float64) {
	if s := time.Duration(r.Elapsed).Seconds(); s > 0 {
		r.Rate = float64(r.Messages) / s
		r.MBPerSec = r.Rate * bytesPerMessage / 1e6
	}
}

// refusals are answers other than success, by response code, and what the first of each said.
type refusals struct {
	counts  map[int32]int64
	remarks map[int32]string
}

func newRefusals() refusals { return refusals{map[int32]int64{}, map[int32]string{}} }

// note counts the answer in frame.
func (r refusals) note(code int32, frame []byte) {
	if r.counts[code]++; r.counts[code] > 1 {
		return
	}
	var c protocol.Command
	if protocol.Decode(frame, &c) == nil {
		r.remarks[code] = string(c.Remark)
	}
}

// noteRemark counts an answer that said why.
func (r refusals) noteRemark(code int32, why string) {
	if r.counts[code]++; r.counts[code] == 1 {
		r.remarks[code] = why
	}
}

// first returns one of the refusals as an error, nil when there are none.
func (r refusals) first() error {
	for code := range r.counts {
		return protocol.Errorf(protocol.ResponseCode(code), "%s", r.remarks[code])
	}
	return nil
}

func (r refusals) add(o refusals) {
	for code, n := range o.counts {
		r.counts[code] += n
		if r.remarks[code] == "" {
			r.remarks[code] = o.remarks[code]
		}
	}
}

func (r refusals) reset() {
	clear(r.counts)
	clear(r.remarks)
}

// report fills the report's errors.
func (r refusals) report(to *Report) {
	for code, n := range r.counts {
		if to.Errors == nil {
			to.Errors, to.Remarks = map[string]int64{}, map[string]string{}
		}
		name := protocol.ResponseCode(code).String()
		to.Errors[name] = n
		to.Remarks[name] = r.remarks[code]
	}
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("rate", "%s messages/s, %.1f MB/s (%s in %.2f s)", grouped(int64(r.Rate)), r.MBPerSec, grouped(r.Messages), time.Duration(r.Elapsed).Seconds())
	if e := r.EndToEnd; e != nil {
		row("delivered", "%.2f%% of %s (acknowledged %s, duplicates %s)", e.DeliveredPercent, grouped(e.Intended), grouped(e.Acknowledged), grouped(e.Duplicates))
	}
	if l := r.Latency; l != nil {
		name := "latency"
		if r.Workload == "timers" {
			name = "lateness"
		}
		row(name, "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.Max))
	}
	if s := r.Server; s != nil {
		row("server", "%.2f us CPU per message (%.1f s), RSS %.1f MB (anonymous %.1f MB, peak %.1f MB)", s.CPUPerMessage, s.CPUSeconds,
			float64(s.RSSBytes)/1e6, float64(s.RSSAnonBytes)/1e6, float64(s.PeakRSSBytes)/1e6)
	}
	if r.ClientCPU > 0 {
		row("client", "%.2f us CPU per message", r.ClientCPU)
	}
	names := make([]string, 0, len(r.Errors))
	for name := range r.Errors {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		row("errors", "%s: %s (%s)", name, grouped(r.Errors[name]), r.Remarks[name])
	}
}

func micros(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.2f s", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%.2f ms", us/1e3)
	}
	return fmt.Sprintf("%.0f us", us)
}

// grouped writes n with thousands separators.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	var parts []string
	for len(s) > 3 {
		parts = append([]string{s[len(s)-3:]}, parts...)
		s = s[:len(s)-3]
	}
	return sign + strings.Join(append([]string{s}, parts...), ",")
}
