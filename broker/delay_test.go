package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/apogeemq/apogee/store/crashfs"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// delayNode is a broker in memory, without connections.
type delayNode struct {
	t     testing.TB
	store *store.Store
	*Broker
}

func startDelayNode(t testing.TB, fs vfs.FS, levels delay.Levels) *delayNode {
	t.Helper()
	return startRetainingNode(t, fs, levels, store.Retention{})
}

func startRetainingNode(t testing.TB, fs vfs.FS, levels delay.Levels, retention store.Retention) *delayNode {
	t.Helper()
	return startClockNode(t, fs, Config{DelayLevels: levels, Now: time.Now}, retention)
}

// startClockNode starts a broker with some of its options and a clock.
func startClockNode(t testing.TB, fs vfs.FS, c Config, retention store.Retention) *delayNode {
	t.Helper()
	c.Cluster, c.Name, c.Permission, c.AutoCreateGroup = "c", "b", 6, true
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s, _, err := store.Open(storeConfig(fs, c, retention))
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(c, s)
	if err != nil {
		t.Fatal(err)
	}
	b.Start()
	return &delayNode{t, s, b}
}

func storeConfig(fs vfs.FS, c Config, retention store.Retention) store.Config {
	return store.Config{
		FS: fs, Files: commitlog.NewVFSFiles(fs), Dir: "store", SegmentBytes: 256 << 10, MemoryBytesMax: 2 << 20,
		Now: c.Now, Logger: c.Logger, DueTime: c.DelayLevels.DueTime, Retired: Retired, Pending: Pending, Import: ImportRocketMQ(false), Retention: retention,
	}
}

func (n *delayNode) stop() {
	n.Broker.Stop()
	if err := n.store.Close(); err != nil {
		n.t.Error(err)
	}
}

var testHost = netip.MustParseAddrPort("10.1.2.3:5555")

// send appends a message for queue 0 of the topic, as the send path does; level 0 is no delay.
func (n *delayNode) send(topic string, level int, body string, done func(position int64, err error)) {
	t, err := n.topics.ensure(topic, 1)
	if err != nil {
		done(0, err)
		return
	}
	p := message.AppendProperty(nil, message.PropUniqueKey, []byte("id-"+body[:min(len(body), 100)]))
	p = message.AppendProperty(p, message.PropTags, []byte("blue"))
	e := n.store.EntryFor(message.Record{
		Topic: t.name, Body: []byte(body), Properties: p, BornHost: testHost, StoreHost: testHost, BornTime: 1234, Flag: 7,
	}, t.queue(0))
	if level > 0 {
		n.delays.Schedule(&e, level, nil)
	}
	err = n.store.Append(&store.Batch{Entries: []store.Entry{e}, Done: func(b *store.Batch, err error) {
		done(b.Entries[0].Record.PhysicalOffset, err)
	}})
	if err != nil {
		done(0, err)
	}
}

// mustSend waits for the answer and returns the log position.
func (n *delayNode) mustSend(topic string, level int, body string) (position int64) {
	n.t.Helper()
	var wait sync.WaitGroup
	wait.Add(1)
	n.send(topic, level, body, func(at int64, err error) {
		if position = at; err != nil {
			n.t.Error(err)
		}
		wait.Done()
	})
	wait.Wait()
	return position
}

// read returns all records of a topic's queue 0.
func (n *delayNode) read(topic string) (records []message.Record) {
	q := n.store.Find(topic, 0)
	if q == nil {
		return nil
	}
	var r store.Result
	defer r.Release()
	first, end := q.Bounds()
	for at := first; at < end; at++ {
		if err := n.store.Read(&r, q, at, store.ReadLimits{Messages: 1, Bytes: 1 << 20, Scanned: 1}, store.Match{}); err != nil {
			n.t.Fatal(err)
		}
		if r.Status == store.OffsetMoved { // retention was faster
			continue
		}
		raw := bytes.Join(r.Slices, nil)
		m, _, err := message.Decode(raw)
		if err == nil {
			err = m.Verify(raw)
		}
		if err != nil {
			n.t.Fatal(err)
		}
		records = append(records, m)
	}
	return records
}

func bodies(records []message.Record) (list []string) {
	for _, r := range records {
		list = append(list, string(r.Body))
	}
	return list
}

// delayState returns the progress of each level as the state has it.
func (n *delayNode) delayState() string {
	var list []string
	_ = n.store.State(delay.KindLevels, func(key string, value []byte) error {
		list = append(list, fmt.Sprintf("%s=%x", key, value))
		return nil
	})
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestEveryLevelDeliversAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		levels := delay.DefaultLevels()
		n := startDelayNode(t, vfs.NewMem(), levels)
		defer n.stop()
		began := time.Now()
		for i := range levels {
			n.mustSend("T", i+1, fmt.Sprint("level", i+1))
		}
		n.mustSend("T", 99, "beyond the last")
		for i, d := range levels {
			time.Sleep(d - time.Since(began) - time.Millisecond)
			synctest.Wait()
			if got := len(n.read("T")); got != i {
				t.Fatalf("a millisecond before level %d is due, %d are delivered", i+1, got)
			}
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			if got, want := len(n.read("T")), i+1; got < want {
				t.Fatalf("a millisecond after level %d is due, %d are delivered", i+1, got)
			}
		}
		if got := bodies(n.read("T")); len(got) != 19 || got[17] != "level18" || got[18] != "beyond the last" {
			t.Fatalf("delivered: %q", got)
		}
	})
}

func TestWhatIsDeliveredIsTheMessageAsItWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startDelayNode(t, vfs.NewMem(), delay.DefaultLevels())
		defer n.stop()
		position := n.mustSend("T", 2, "hello")
		scheduled := n.store.Find(message.TopicSchedule, 1)
		entries, err := scheduled.Entries(nil, 0, 1)
		if err != nil || len(entries) != 1 || entries[0].TagsCode != time.Now().UnixMilli()+5000 {
			t.Fatalf("the schedule queue has %+v, %v; want the due time", entries, err)
		}
		source, _, err := n.store.RecordAt(position)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			message.PropRealTopic: "T", message.PropRealQueueID: "0", message.PropDelay: "2", message.PropTags: "blue",
		} {
			if got := string(message.Property(source.Properties, name)); got != want {
				t.Errorf("stored with %s=%q, want %q", name, got, want)
			}
		}
		time.Sleep(5001 * time.Millisecond)
		synctest.Wait()
		got := n.read("T")
		if len(got) != 1 {
			t.Fatalf("%d are delivered", len(got))
		}
		m := got[0]
		if string(m.Topic) != "T" || m.PreparedOffset != position || m.BornTime != 1234 || m.BornHost != testHost || m.Flag != 7 {
			t.Errorf("delivered %+v from %d", m, position)
		}
		properties := string(m.Properties[:bytes.Index(m.Properties, []byte(message.PropCRC))])
		if properties != "UNIQ_KEY\x01id-hello\x02TAGS\x01blue\x02DELAY\x012\x02REAL_TOPIC\x01T\x02REAL_QID\x010\x02" {
			t.Errorf("delivered with %q", properties)
		}
		entries, _ = n.store.Find("T", 0).Entries(nil, 0, 1)
		if entries[0].TagsCode != message.TagsCode([]byte("blue")) {
			t.Errorf("its tags code is %d", entries[0].TagsCode)
		}
		found := 0
		_ = n.store.FindKey("T", "id-hello", 0, 1<<60, func(*message.Record, []byte) bool { found++; return true })
		if found != 1 {
			t.Errorf("its key finds %d messages", found)
		}
	})
}

// Crashes at any moment, also while messages are being delivered: each message that was acknowledged is delivered once, each other at
// most once; a view that is made anew agrees.
func TestCrashesLoseAndDoubleNothing(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) { crashDelays(t, rand.New(rand.NewPCG(seed, 2))) })
	}
}

func crashDelays(t *testing.T, r *rand.Rand) {
	levels := delay.Levels{0, 30 * time.Millisecond, 200 * time.Millisecond}
	fs := crashfs.New()
	acknowledged := map[string]bool{}
	sent := 0
	for range 8 {
		n := startDelayNode(t, fs, levels)
		var mu sync.Mutex
		after := time.Duration(1+r.IntN(300)) * time.Millisecond
		began := time.Now()
		burst := func(count int) {
			for range count {
				body := fmt.Sprint("m", sent)
				sent++
				n.send("T", sent%4, body, func(_ int64, err error) {
					mu.Lock()
					acknowledged[body] = err == nil
					mu.Unlock()
				})
			}
		}
		for time.Since(began) < after {
			burst(1 + r.IntN(40))
			if r.IntN(4) == 0 {
				if err := n.store.Stage(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
		go burst(200) // in the middle of sends and deliveries
		for range r.IntN(3000) {
			runtime.Gosched()
		}
		mu.Lock() // what is acknowledged by now has to be there after the crash
		until := map[string]bool{}
		for body, ok := range acknowledged {
			until[body] = ok
		}
		mu.Unlock()
		next := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(r.Uint64(), 3))})
		synctest.Wait()
		n.stop()
		fs, acknowledged = next, until
	}
	n := startDelayNode(t, fs, levels)
	time.Sleep(time.Second)
	synctest.Wait()
	counts := map[string]int{}
	for _, body := range bodies(n.read("T")) {
		if counts[body]++; counts[body] > 1 {
			t.Errorf("%s is delivered twice", body)
		}
	}
	for body, ok := range acknowledged {
		if ok && counts[body] == 0 {
			t.Errorf("%s was acknowledged and is lost", body)
		}
	}
	t.Logf("%d sent, %d acknowledged, %d there after 8 crashes", sent, len(acknowledged), len(counts))
	before, progress := bodies(n.read("T")), n.delayState()
	n.stop()
	if err := fs.RemoveAll("store/view"); err != nil {
		t.Fatal(err)
	}
	n = startDelayNode(t, fs, levels)
	defer n.stop()
	time.Sleep(time.Second)
	synctest.Wait()
	if after := bodies(n.read("T")); !slices.Equal(before, after) {
		t.Errorf("with a new view %d messages are there, %d before", len(after), len(before))
	}
	if again := n.delayState(); again != progress {
		t.Errorf("with a new view the progress is %s, %s before", again, progress)
	}
}

// sendBack sends the message at a position back and waits for the answer.
func (n *delayNode) mustSendBack(h protocol.SendBackHeader) error {
	answer := make(chan error, 1)
	r := remoting.NewLocalRequest(protocol.NewRequest(protocol.ReqConsumerSendMsgBack, &h), func(_ *remoting.Response, err error) { answer <- err })
	if resp, err := n.sendBack(r); err != remoting.ErrLater { //nolint:errorlint // a sentinel
		_ = resp
		return err
	}
	return <-answer
}

func TestAFailedMessageGoesRoundUntilItIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startDelayNode(t, vfs.NewMem(), delay.DefaultLevels())
		defer n.stop()
		position := n.mustSend("T", 0, "poison")
		first := position
		for times, wait := range []time.Duration{10 * time.Second, 30 * time.Second} {
			err := n.mustSendBack(protocol.SendBackHeader{Offset: position, Group: "g", OriginTopic: "T", MaxReconsumeTimes: 2})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait - time.Millisecond)
			synctest.Wait()
			if got := len(n.read("%RETRY%g")); got != times {
				t.Fatalf("%d retries before the delay is over", got)
			}
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			retries := n.read("%RETRY%g")
			if len(retries) != times+1 {
				t.Fatalf("retry %d did not come", times+1)
			}
			m := retries[times]
			position = m.PhysicalOffset
			id := string(message.AppendOffsetID(nil, testHost, first))
			if m.ReconsumeTimes != int32(times+1) || string(message.Property(m.Properties, message.PropRetryTopic)) != "T" ||
				string(message.Property(m.Properties, message.PropOriginMessageID)) != id ||
				string(message.Property(m.Properties, message.PropUniqueKey)) != "id-poison" || string(m.Body) != "poison" {
				t.Fatalf("retry %d is %+v %q", times+1, m, m.Properties)
			}
		}
		if err := n.mustSendBack(protocol.SendBackHeader{Offset: position, Group: "g", MaxReconsumeTimes: 2}); err != nil {
			t.Fatal(err)
		}
		dead := n.read("%DLQ%g")
		if len(dead) != 1 || string(dead[0].Body) != "poison" || dead[0].ReconsumeTimes != 3 || message.Property(dead[0].Properties, message.PropDelay) != nil {
			t.Fatalf("dead: %+v", dead)
		}
	})
}

func TestSendBackRefusals(t *testing.T) {
	n := startDelayNode(t, vfs.NewMem(), delay.DefaultLevels())
	defer n.stop()
	position := n.mustSend("T", 0, "m")
	check := func(what string, h protocol.SendBackHeader, code protocol.ResponseCode, retries, dead int) {
		t.Helper()
		got := protocol.RespSuccess
		if err := n.mustSendBack(h); err != nil {
			got, _ = protocol.CodeOf(err)
		}
		if got != code {
			t.Errorf("%s: %v, want %v", what, got, code)
		}
		if r, d := len(n.read("%RETRY%"+h.Group)), len(n.read("%DLQ%"+h.Group)); r != retries || d != dead {
			t.Errorf("%s: %d retries and %d dead, want %d and %d", what, r, d, retries, dead)
		}
	}
	base := protocol.SendBackHeader{Offset: position, Group: "g1", MaxReconsumeTimes: 16, DelayLevel: -1}
	check("a negative level", base, protocol.RespSuccess, 0, 1)
	base.Offset, base.Group = position+1, "g2"
	check("a record that is not there", base, protocol.RespSystemError, 0, 0)
	base.Offset, base.Group, base.MaxReconsumeTimes, base.DelayLevel = position, "g3", -1, 1
	n.groups.find("g3").RetryQueues = 0
	check("a group without retry queues", base, protocol.RespSuccess, 0, 0)
	n.live().autoCreateGroup = false
	base.Group = "g4"
	check("an unknown group", base, protocol.RespSubscriptionGroupNotExist, 0, 0)
}

// A client's own resend goes to the DLQ one failure later than a send-back, or at once while the group holds locks.
func TestResendsToARetryTopic(t *testing.T) {
	n := startDelayNode(t, vfs.NewMem(), delay.DefaultLevels())
	defer n.stop()
	retry, err := n.topics.ensure("%RETRY%g", 1)
	if err != nil {
		t.Fatal(err)
	}
	target := func(q sendRequest) string {
		t.Helper()
		to, _, err := n.retryTarget(&q, retry, retry.queue(0))
		if err != nil {
			return err.Error()
		}
		if q.dead != strings.HasPrefix(string(to.name), message.DLQPrefix) {
			t.Errorf("dead is %v for %s", q.dead, to.name)
		}
		return string(to.name)
	}
	for _, c := range []struct {
		q    sendRequest
		want string
	}{
		{sendRequest{reconsumeTimes: 16, maxReconsumeTimes: -1}, "%RETRY%g"},
		{sendRequest{reconsumeTimes: 17, maxReconsumeTimes: -1}, "%DLQ%g"},
		{sendRequest{reconsumeTimes: 2, maxReconsumeTimes: 2}, "%RETRY%g"},
		{sendRequest{reconsumeTimes: 3, maxReconsumeTimes: 2}, "%DLQ%g"},
	} {
		if got := target(c.q); got != c.want {
			t.Errorf("%d of %d times: %s, want %s", c.q.reconsumeTimes, c.q.maxReconsumeTimes, got, c.want)
		}
	}
	locked := make(chan error, 1)
	n.locks.lock(&protocol.LockBatchBody{Group: "g", ClientID: "c", Queues: []protocol.MessageQueue{{Topic: "T", BrokerName: "b"}}},
		func(_ []protocol.MessageQueue, err error) { locked <- err })
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	if got := target(sendRequest{maxReconsumeTimes: -1}); got != "%DLQ%g" {
		t.Errorf("with a live lock: %s", got)
	}
}

func TestDelayLevelsAreRead(t *testing.T) {
	levels, err := delay.ParseLevels("1s  5m 2h 3d")
	if want := (delay.Levels{time.Second, 5 * time.Minute, 2 * time.Hour, 72 * time.Hour}); err != nil || !slices.Equal(levels, want) {
		t.Errorf("got %v, %v", levels, err)
	}
	if n := len(delay.DefaultLevels()); n != 18 {
		t.Errorf("%d default levels", n)
	}
	for _, bad := range []string{"", "1", "s", "1x", "-1s", "366d", "99999999999s", strings.Repeat("1s ", 65)} {
		if levels, err := delay.ParseLevels(bad); err == nil {
			t.Errorf("%q is read as %v", bad, levels)
		}
	}
}

// BenchmarkDueMessages delivers messages that are all due, as after a long stop.
func BenchmarkDueMessages(b *testing.B) {
	n := startDelayNode(b, vfs.NewMem(), delay.Levels{6 * time.Second})
	defer n.stop()
	body := strings.Repeat("x", 1024)
	var wait sync.WaitGroup
	began := time.Now()
	for range b.N {
		wait.Add(1)
		n.send("T", 1, body, func(int64, error) { wait.Done() })
	}
	wait.Wait()
	time.Sleep(time.Until(began.Add(6 * time.Second)))
	b.ResetTimer()
	q := n.store.Queue("T", 0)
	for {
		if _, end := q.Bounds(); end == int64(b.N) {
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
