package interop

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	cpuMetric      = "process_cpu_seconds_total"
	hostileRSSMore = 512 << 20   // of resident memory over what the server had before: garbage that Go has not given back; connectionBytesMax bounds what is held
	calmTimesWorst = 5           // p99 of sends meanwhile, in multiples of the p99 before
	calmMore       = time.Second // for a machine that others use, too; a send that is held up fails after 3 s
	codesLow       = 2100        // request codes are below it, or
	codesHighFrom  = 200_000
	codesHighTo    = 200_160
	pullCode       = 11
)

// frameOf is a request with a JSON header; extra goes into the header, behind its code.
func frameOf(code int, extra string, body []byte) []byte {
	header := fmt.Appendf(nil, `{"code":%d%s,"flag":0,"language":"JAVA","opaque":7,"version":501}`, code, extra)
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+len(body)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header)))
	return append(append(frame, header...), body...)
}

// attack is what one hostile peer does on its connection, which it need not close.
type attack struct {
	name string
	run  func(conn net.Conn)
}

// codes are all request codes, those that nobody serves included: a new one is covered by itself.
func codes() (list []int) {
	for code := -2; code < codesLow; code++ {
		list = append(list, code)
	}
	for code := codesHighFrom; code < codesHighTo; code++ {
		list = append(list, code)
	}
	return append(list, 1<<31-1, -1<<31)
}

// everyCode sends every code with the same fields and body, and reads what comes back.
func everyCode(extra string, body []byte) func(net.Conn) {
	return func(conn net.Conn) {
		go io.Copy(io.Discard, conn)
		for _, code := range codes() {
			if _, err := conn.Write(frameOf(code, extra, body)); err != nil {
				return // it was closed, which is an answer too
			}
		}
	}
}

// writes sends bytes and waits for the end of the connection, or for a second.
func writes(parts ...[]byte) func(net.Conn) {
	return func(conn net.Conn) {
		for _, part := range parts {
			conn.Write(part)
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, conn)
	}
}

// fieldsOf gives every field that requests have the same value.
func fieldsOf(value string) string {
	var list []string
	for _, name := range []string{
		"topic", "consumerGroup", "producerGroup", "group", "groupName", "queueId", "queueOffset", "maxMsgNums", "sysFlag", "commitOffset", "suspendTimeoutMillis",
		"subVersion", "offset", "timestamp", "key", "maxNum", "beginTimestamp", "endTimestamp", "defaultTopic", "defaultTopicQueueNums", "bornTimestamp", "flag",
		"readQueueNums", "writeQueueNums", "perm", "topicFilterType", "topicSysFlag", "order", "clientID", "clientId", "msgId", "delayLevel", "index", "count",
		"brokerName", "brokerAddr", "clusterName", "brokerId", "haServerAddr", "namespace", "value", "statsName", "statsKey", "srcGroup", "destGroup", "cluster",
		"a", "b", "c", "d", "e", "f", "g", "h", "topicSeq", "groupSeq", "maxTopicNum", "maxGroupNum",
	} {
		list = append(list, fmt.Sprintf("%q:%q", name, value))
	}
	return `,"extFields":{` + string(bytes.Join(bytesOf(list), []byte(","))) + "}"
}

func bytesOf(list []string) (all [][]byte) {
	for _, s := range list {
		all = append(all, []byte(s))
	}
	return all
}

func attacks() []attack {
	noise := make([]byte, 64<<10)
	rand.Read(noise)
	send := frameOf(10, fieldsOf("1"), []byte("body"))
	list := []attack{
		{"every code without fields", everyCode("", nil)},
		{"every code with a garbage body", everyCode("", []byte(`{"a":[1,`))},
		{"every code with a deep body", everyCode("", bytes.Repeat([]byte("{{"), 1000))},
		{"noise", writes(noise)},
		{"TLS noise", writes(append([]byte{0x16, 3, 1, 2, 0}, noise...))},
		{"HTTP", writes([]byte("GET / HTTP/1.1\r\nHost: broker\r\n\r\n"))},
		{"HTTP/2", writes([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))},
		{"PROXY that is not allowed", writes([]byte("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"), send)},
		{"PROXY without an end", writes(append([]byte("PROXY TCP4 "), bytes.Repeat([]byte("1"), 4096)...))},
		{"length beyond the limit", writes([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0})},
		{"negative length", writes([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})},
		{"header beyond the frame", writes([]byte{0, 0, 0, 8, 0, 0xff, 0xff, 0xff, 1, 2, 3, 4})},
		{"unknown serialisation", writes([]byte{0, 0, 0, 8, 9, 0, 0, 4, 1, 2, 3, 4})},
		{"huge counts in a binary header", writes(slices.Concat([]byte{0, 0, 0, 25, 1, 0, 0, 21, 0, 10, 1, 0, 1}, bytes.Repeat([]byte{0x7f}, 16)))},
		{"half a frame", writes(send[:len(send)/2])},
		{"a frame byte by byte", func(conn net.Conn) {
			for i := range send {
				conn.Write(send[i : i+1])
			}
			writes()(conn)
		}},
		{"answers that nobody asked for", func(conn net.Conn) {
			answer := bytes.ReplaceAll(send, []byte(`"flag":0`), []byte(`"flag":1`))
			for range 10_000 {
				conn.Write(answer)
			}
		}},
		{"large half frames", func(conn net.Conn) {
			conn.Write([]byte{0, 0xff, 0, 0, 0, 0, 0, 10})
			conn.Write(make([]byte, 15<<20))
		}},
	}
	for _, value := range []string{"-1", "9223372036854775807", "-9223372036854775808", "99999999999999999999", "", "x", "%RETRY%", string(bytes.Repeat([]byte("y"), 2000))} {
		list = append(list, attack{fmt.Sprintf("every code with %.20q in every field", value), everyCode(fieldsOf(value), []byte("{}"))})
	}
	return list
}

// sends sends a message at each call.
func sends(t *testing.T, p rocketmq.Producer, topic string) func() error {
	i := 0
	return func() error {
		_, err := p.SendSync(t.Context(), primitive.NewMessage(topic, fmt.Appendf(nil, "m%d", i)))
		i++
		return err
	}
}

// calm calls one again and again until done, and returns how long each call took.
func calm(t *testing.T, one func() error, done <-chan struct{}) []time.Duration {
	var took []time.Duration
	for {
		select {
		case <-done:
			return took
		default:
		}
		began := time.Now()
		if err := one(); err != nil {
			t.Errorf("a well-behaved client: %v", err)
			return took
		}
		took = append(took, time.Since(began))
	}
}

func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

// beside calls one again and again beside f.
func beside(t *testing.T, one func() error, f func()) (calls int, worst time.Duration) {
	t.Helper()
	done := make(chan struct{})
	result := make(chan []time.Duration, 1)
	go func() { result <- calm(t, one, done) }()
	f()
	close(done)
	took := <-result
	if len(took) == 0 {
		t.Fatal("nothing came of it meanwhile")
	}
	return len(took), p99(took)
}

// checkCalm compares the p99 of calls with that before.
func checkCalm(t *testing.T, calls string, before, meanwhile time.Duration) {
	t.Helper()
	if most := calmTimesWorst*before + calmMore; meanwhile > most {
		t.Errorf("p99 of %s was %v before and %v meanwhile, want under %v", calls, before, meanwhile, most)
	}
}

func TestHostilePeersAreNotNoticed(t *testing.T) {
	s, c := harness.Own(t)
	topic, group, p := newTopic(t, c, 4), unique(t), newProducer(t, c)
	var in inbox
	startPush(t, c, group, topic, everything, &in)
	sent, before := beside(t, sends(t, p, topic), func() { time.Sleep(2 * time.Second) })
	in.wait(t, sent)
	conn := dialFrom(t, c.Broker, 0) // the broker asks the name server for the route, over a connection that it keeps
	conn.Write(frameOf(400, "", fmt.Appendf(nil, `{"topic":%q,"consumerGroup":%q,"clientId":"c","strategyName":"AVG","messageModel":"CLUSTERING"}`, topic, group)))
	readFrame(t, conn)
	conn.Close()
	idle, figures := measureIdle(t, s), metrics(t, s)
	more, meanwhile := beside(t, sends(t, p, topic), func() {
		for _, addr := range []string{c.Broker, c.NameServer} {
			for _, a := range attacks() {
				hostile(t, s, addr, a.name, 1, a.run)
			}
			hostile(t, s, addr, "connections that come and go", 200, func(net.Conn) {})
		}
	})
	in.wait(t, sent+more)
	checkCalm(t, "sends", before, meanwhile)
	eventually(t, "memory to come back", func() bool { return metrics(t, s)[residentMetric] < figures[residentMetric]+hostileRSSMore })
	checkIdle(t, s, idle)
	now := metrics(t, s)
	fmt.Printf("hostile: p99 before=%v meanwhile=%v sends=%d rss before=%.0f MiB after=%.0f MiB\n", before, meanwhile, more,
		figures[residentMetric]/(1<<20), now[residentMetric]/(1<<20))
}

// hostile runs an attack on connections of its own; the server must still be there.
func hostile(t *testing.T, s *harness.Server, addr, name string, connections int, run func(net.Conn)) {
	t.Helper()
	var peers sync.WaitGroup
	for range connections {
		peers.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer conn.Close()
			run(conn)
		})
	}
	peers.Wait()
	eventually(t, "the server to answer after "+name, func() bool { _, err := s.Metrics(); return err == nil })
}

func metrics(t *testing.T, s *harness.Server) map[string]float64 {
	t.Helper()
	figures, err := s.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	return figures
}
