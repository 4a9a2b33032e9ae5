package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/google/go-cmp/cmp"
)

func TestSendTemplateIsAValidRequest(t *testing.T) {
	for _, s := range []protocol.Serialization{protocol.SerializeBinary, protocol.SerializeJSON} {
		for _, batch := range []int{1, 3} {
			tm := sendTemplate(sendShape{topic: "T", queues: 8, size: 100, batch: batch, serialize: s})
			tm.putSend(tm.bytes, firstOpaque+7, 5, 1_700_000_000_123, 0xABC)
			var c protocol.Command
			if err := protocol.Decode(tm.bytes, &c); err != nil {
				t.Fatal(err)
			}
			h := protocol.SendHeader{Short: true}
			if err := protocol.DecodeHeader(c.Fields, &h); err != nil {
				t.Fatal(err)
			}
			if c.Opaque != firstOpaque+7 || h.QueueID != 5 || h.BornTime != 1_700_000_000_123 || h.Topic != "T" || h.Batch != (batch > 1) {
				t.Errorf("serialisation %d, batch %d: opaque %d, header %+v", s, batch, c.Opaque, h)
			}
			ids := []string{}
			if batch == 1 {
				ids = append(ids, string(message.Property([]byte(h.Properties), message.PropUniqueKey)))
			}
			for b := c.Body; batch > 1 && len(b) > 0; {
				it, rest, err := message.NextBatchItem(b)
				if err != nil {
					t.Fatal(err)
				}
				ids, b = append(ids, string(message.Property(it.Properties, message.PropUniqueKey))), rest
			}
			want := []string{"7F000001000000000000000000000ABC", "7F000001000000000000000000000ABD", "7F000001000000000000000000000ABE"}[:batch]
			if d := cmp.Diff(want, ids); d != "" {
				t.Errorf("serialisation %d, batch %d: unique keys (-want +got):\n%s", s, batch, d)
			}
		}
	}
}

func TestPullTemplateIsAValidRequest(t *testing.T) {
	for _, s := range []protocol.Serialization{protocol.SerializeBinary, protocol.SerializeJSON} {
		tm := pullTemplate(&protocol.PullHeader{Group: "G", Topic: "T", SysFlag: 4, Subscription: "*", SubVersion: 9, ExpressionType: "TAG"}, s)
		tm.putPull(tm.bytes, firstOpaque+1, 3, 12345678901, 42, 32)
		var c protocol.Command
		var h protocol.PullHeader
		if err := firstError(protocol.Decode(tm.bytes, &c), protocol.DecodeHeader(c.Fields, &h)); err != nil {
			t.Fatal(err)
		}
		want := protocol.PullHeader{
			Group: "G", Topic: "T", QueueID: 3, QueueOffset: 12345678901, CommitOffset: 42, MaxMessages: 32, SysFlag: 4, Subscription: "*",
			SubVersion: 9, ExpressionType: "TAG",
		}
		if err := protocol.DecodeHeader(c.Fields, &h); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, h); d != "" || c.Opaque != firstOpaque+1 {
			t.Errorf("opaque %d, header (-want +got):\n%s", c.Opaque, d)
		}
	}
}

func TestReadHead(t *testing.T) {
	for _, s := range []protocol.Serialization{protocol.SerializeBinary, protocol.SerializeJSON} {
		c := &protocol.Command{
			Code: 14, Opaque: 1_000_123, Flag: protocol.FlagResponse, Serialize: s, Remark: []byte(`"opaque":5`),
			Fields: protocol.Fields{{Key: []byte("a"), Value: []byte(`x"code":9`)}}, Body: []byte("body"),
		}
		h, err := readHead(protocol.AppendFrame(nil, c, 0))
		if err != nil || h != (head{14, 1_000_123, true}) {
			t.Errorf("serialisation %d: %+v, %v", s, h, err)
		}
	}
	if _, err := readHead([]byte{0, 0, 0, 6, 0, 0, 0, 2, '{', '}'}); err == nil {
		t.Error("a header without code, opaque and flag was taken")
	}
}

func TestCountRecords(t *testing.T) {
	var b []byte
	for i := range 3 {
		r := message.Record{QueueOffset: int64(i), Body: []byte("body"), Topic: []byte("T")}
		one := make([]byte, r.EncodedSize())
		r.Encode(one, crc32.ChecksumIEEE(r.Body))
		b = append(b, one...)
	}
	if n, err := countRecords(b, false); n != 3 || err != nil {
		t.Errorf("%d records, %v; want 3", n, err)
	}
	if n, err := countRecords(b[:len(b)-1], false); n != 2 || err == nil {
		t.Errorf("cut short: %d records, %v; want 2 and an error", n, err)
	}
	if n, err := countRecords(b, true); n != 3 || err != nil {
		t.Errorf("verified: %d records, %v; want 3", n, err)
	}
	b[len(b)-30] ^= 1
	if _, err := countRecords(b, true); err == nil {
		t.Error("a wrong checksum was not found")
	}
}

// A sender that was stalled must count its messages from when they were due: the schedule does not move.
func TestScheduleDoesNotMoveWhenTheServerStalls(t *testing.T) {
	s := newSchedule(1000, 0, 1, 0, 0, time.Second)
	if s.total != 1000 || s.measured != 0 {
		t.Fatalf("total %d, measured from %d; want 1000 and 0", s.total, s.measured)
	}
	_, sent := s.due(10*time.Millisecond, 0)
	if sent != 11 {
		t.Fatalf("%d due at 10 ms, want 11 (0 to 10 ms)", sent)
	}
	// stalled until 500 ms
	first, last := s.due(500*time.Millisecond, sent)
	late := last - first
	if first != sent || late != 490 {
		t.Errorf("%d due after the stall, want 490", late)
	}
	h := newHistogram()
	for i := sent; i < sent+late; i++ {
		record(h, int64(500*time.Millisecond-s.at(i)), 1)
	}
	if l := latencyOf(h); l.Max < 488_000 || l.Max > 490_000 || l.P50 < 240_000 || l.P50 > 250_000 {
		t.Errorf("latencies after a stall of 490 ms: max %.0f us, p50 %.0f us; want about 489 ms and 245 ms", l.Max, l.P50)
	}
}

func TestScheduleSharesTheRate(t *testing.T) {
	total, measured := 0, 0
	for i := range 4 {
		s := newSchedule(10_000, i, 4, 2*time.Second, time.Second, 10*time.Second)
		total += s.total
		measured += s.total - s.measured
		if s.at(s.measured) < 3*time.Second || s.measured > 0 && s.at(s.measured-1) >= 2*time.Second {
			t.Errorf("sender %d: the first measured message is due at %s", i, s.at(s.measured))
		}
		if s.at(s.total-1) >= 13*time.Second {
			t.Errorf("sender %d: the last message is due at %s", i, s.at(s.total-1))
		}
	}
	if total != 120_000 || measured != 100_000 {
		t.Errorf("%d messages, %d measured; want 120000 and 100000", total, measured)
	}
}

// What the server was late with in the warm-up is not sent in the measurement.
func TestScheduleSettlesAfterTheWarmup(t *testing.T) {
	s := newSchedule(1000, 0, 1, time.Second, 500*time.Millisecond, time.Second)
	for _, c := range []struct {
		at                time.Duration
		sent, first, last int
	}{
		{999 * time.Millisecond, 300, 300, 1000},
		{time.Second, 300, 1000, 1000},
		{1499 * time.Millisecond, 1000, 1000, 1000},
		{1500 * time.Millisecond, 300, 1000, 1001},
		{2 * time.Second, 1100, 1100, 1501},
		{9 * time.Second, 1100, 1100, 2000},
	} {
		if first, last := s.due(c.at, c.sent); first != c.first || last != c.last {
			t.Errorf("at %s, %d sent: %d to %d due, want %d to %d", c.at, c.sent, first, last, c.first, c.last)
		}
	}
	if s.at(999) != 999*time.Millisecond || s.at(1000) != 1500*time.Millisecond {
		t.Errorf("message 999 leaves at %s, 1000 at %s", s.at(999), s.at(1000))
	}
}

func TestStability(t *testing.T) {
	for _, c := range []struct {
		name  string
		rates []float64 // of each window
		want  int       // windows until stable; 0: never
	}{
		{"flat", []float64{100, 100}, 2},
		{"rising", []float64{100, 150, 200, 250, 300}, 0},
		{"rises, then flat", []float64{100, 150, 200, 201}, 4},
		{"falls", []float64{100, 90}, 2},
	} {
		var s stability
		at, total, got := time.Duration(0), 0.0, 0
		for i, r := range c.rates {
			at += stableWindow
			total += r * stableWindow.Seconds()
			if s.sample(at, int64(total)) {
				got = i + 1
				break
			}
		}
		if got != c.want {
			t.Errorf("%s: stable after %d windows, want %d", c.name, got, c.want)
		}
	}
}

func TestStampSurvivesABody(t *testing.T) {
	want := stamp{run: 1 << 63, intended: 123456789, sender: 4095, seq: 1<<seqBits - 1}
	b := make([]byte, 100)
	want.put(b)
	if got, ok := readStamp(b); !ok || got != want {
		t.Errorf("got %+v, %v", got, ok)
	}
	if _, ok := readStamp(b[:stampBytes-1]); ok {
		t.Error("a body that is too short was taken")
	}
}

func TestClaimGivesOutExactly(t *testing.T) {
	l := &Load{counted: true}
	l.remaining.Store(100)
	total := 0
	for range 10 {
		total += l.Claim(30)
	}
	if total != 100 {
		t.Errorf("%d requests were given out, want 100", total)
	}
	l.GiveBack()
	if n := l.Claim(30); n != 1 {
		t.Errorf("after one was given back, %d were given out", n)
	}
}

func TestHistogramKeepsWhatIsOutOfBounds(t *testing.T) {
	h := newHistogram()
	record(h, -5, 1)
	record(h, int64(time.Hour), 1)
	if h.TotalCount() != 2 {
		t.Errorf("%d latencies, want 2", h.TotalCount())
	}
}

func TestParseProc(t *testing.T) {
	cpu, err := parseStat("77 (a (b) c) S 1 77 77 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 9")
	if err != nil || cpu != 3 {
		t.Errorf("cpu %v, %v; want 3 s", cpu, err)
	}
	var u ServerUse
	parseStatus("Name:\tx\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\nRssAnon:\t  100 kB\nThreads:\t3\n", &u)
	if d := cmp.Diff(ServerUse{RSSBytes: 200 << 10, RSSAnonBytes: 100 << 10, PeakRSSBytes: 300 << 10}, u); d != "" {
		t.Error(d)
	}
}

func TestOptionsNameTheFlag(t *testing.T) {
	good := SendOptions{Target: Target{Broker: "b:1", Topic: "T", Queues: 8, Header: "binary"}, Connections: 1, InFlight: 1, SizeBytes: 1, Batch: 1, Count: 1}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want string
		edit func(*SendOptions)
	}{
		{"--in-flight 0", func(o *SendOptions) { o.InFlight = 0 }},
		{"--header \"xml\"", func(o *SendOptions) { o.Header = "xml" }},
		{"--queues 0", func(o *SendOptions) { o.Queues = 0 }},
		{"no target", func(o *SendOptions) { o.Broker = "" }},
		{"--batch 4096 x --size 2048", func(o *SendOptions) { o.Batch, o.SizeBytes = 4096, 2048 }},
		{"neither --duration nor --count", func(o *SendOptions) { o.Count = 0 }},
		{"illegal characters", func(o *SendOptions) { o.Topic = "a b" }},
	} {
		o := good
		c.edit(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", err, c.want)
		}
	}
}

func TestReportPrints(t *testing.T) {
	h := newHistogram()
	record(h, 1_500_000, 10)
	r := Report{
		Workload: "send", Parameters: SendOptions{}, Elapsed: Seconds(2 * time.Second), Messages: 2_469_134, Latency: latencyOf(h),
		Server: &ServerUse{PID: 1, CPUPerMessage: 1.25},
	}
	codes := newRefusals()
	for range 3 {
		codes.note(2, protocol.AppendFrame(nil, &protocol.Command{Code: 2, Remark: []byte("too busy")}, 0))
	}
	codes.report(&r)
	r.setRate(1000)
	var out bytes.Buffer
	r.Print(&out)
	for _, want := range []string{"1,234,567 messages/s, 1234.6 MB/s", "p50 1.50 ms", "1.25 us CPU", "SYSTEM_BUSY: 3 (too busy)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	b, err := json.Marshal(r)
	if err != nil || !bytes.Contains(b, []byte(`"elapsed_seconds":2,`)) {
		t.Errorf("JSON %s, %v", b, err)
	}
}

// The hot path of a sender allocates nothing.
func BenchmarkPatch(b *testing.B) {
	tm := sendTemplate(sendShape{topic: "T", queues: 8, size: 1024, batch: 1, serialize: protocol.SerializeBinary})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tm.putSend(tm.bytes, firstOpaque, i&7, 1_700_000_000_123, uint64(i))
	}
}

func TestSenderAllocatesNothing(t *testing.T) {
	tm := sendTemplate(sendShape{topic: "T", queues: 8, size: 128, batch: 1, serialize: protocol.SerializeBinary})
	answer := protocol.AppendFrame(nil, &protocol.Command{Flag: protocol.FlagResponse, Serialize: protocol.SerializeBinary}, 0)
	h := newHistogram()
	n := testing.AllocsPerRun(100, func() {
		tm.putSend(tm.bytes, firstOpaque, 1, 1_700_000_000_123, 5)
		binary.BigEndian.PutUint32(answer[13:], firstOpaque)
		if _, err := readHead(answer); err != nil {
			t.Fatal(err)
		}
		record(h, 1000, 1)
	})
	if n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

func TestTimedTemplateNamesTheMoment(t *testing.T) {
	for _, s := range []protocol.Serialization{protocol.SerializeBinary, protocol.SerializeJSON} {
		moment := func(deliver spread, put func(tm *template)) string {
			tm := sendTemplate(sendShape{topic: "T", queues: 8, size: 100, batch: 1, deliver: deliver, serialize: s})
			tm.putSend(tm.bytes, firstOpaque+7, 5, 1_700_000_000_123, 0xABC)
			put(tm)
			var c protocol.Command
			h := protocol.SendHeader{Short: true}
			if err := firstError(protocol.Decode(tm.bytes, &c)); err != nil {
				t.Fatal(err)
			}
			if err := protocol.DecodeHeader(c.Fields, &h); err != nil {
				t.Fatal(err)
			}
			return string(message.Property([]byte(h.Properties), message.PropTimerDeliver))
		}
		if got := moment(anyMoment, func(tm *template) { tm.putDeliver(tm.bytes, 1_800_000_000_456) }); got != "1800000000456" {
			t.Errorf("serialisation %d: due at %q", s, got)
		}
		far := spread{1_800_000_000_000, 1000}
		if got := moment(far, func(*template) {}); len(got) != 13 || !strings.HasPrefix(got, "1800000000") {
			t.Errorf("serialisation %d: of a spread, due at %q", s, got)
		}
		if got := moment(spread{}, func(*template) {}); got != "" {
			t.Errorf("serialisation %d: one that does not wait is due at %q", s, got)
		}
	}
	seen := map[int64]bool{}
	for key := range uint64(1000) {
		seen[spread{0, 1 << 40}.at(key)] = true
	}
	if len(seen) != 1000 {
		t.Errorf("1000 messages are due at %d moments", len(seen))
	}
}
