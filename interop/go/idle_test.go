package interop

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	idleConnections    = 10_000
	idleBytesMax       = 16 << 10 // of resident memory for each
	idleConsumers      = 1_000
	idleConsumersLooks = 2
	idleConsumersLook  = 6 * time.Second
	idleCPUMax         = 0.03 // of a core; 1% on a machine with nothing else to do
	addressesUsed      = 8    // 127.0.0.1 and on: each has its own ports
)

// dialFrom connects from one of several loopback addresses.
func dialFrom(t *testing.T, addr string, i int) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%addressesUsed))}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Each connection has sent a heartbeat and read the answer: it has the buffers that it needs.
func TestTenThousandIdleConnections(t *testing.T) {
	s, c := harness.Own(t)
	topic, p := newTopic(t, c, 1), newProducer(t, c)
	_, before := beside(t, sends(t, p, topic), func() { time.Sleep(time.Second) })
	idle, figures := measureIdle(t, s), metrics(t, s)
	conns := make([]net.Conn, idleConnections)
	ask := frameOf(35, `,"extFields":{"clientID":"c"}`, nil) // UNREGISTER_CLIENT of nobody
	_, meanwhile := beside(t, sends(t, p, topic), func() {
		for i := range conns {
			conns[i] = dialFrom(t, c.Broker, i)
			if _, err := conns[i].Write(ask); err != nil {
				t.Fatal(err)
			}
			readFrame(t, conns[i])
		}
	})
	each := (metrics(t, s)[residentMetric] - figures[residentMetric]) / idleConnections
	fmt.Printf("idle connections: %d, %.0f bytes each, p99 of sends before=%v meanwhile=%v\n", idleConnections, each, before, meanwhile)
	if each > idleBytesMax {
		t.Errorf("an idle connection takes %.0f bytes, want at most %d", each, idleBytesMax)
	}
	checkCalm(t, "sends", before, meanwhile)
	for _, conn := range conns {
		conn.Close()
	}
	checkIdle(t, s, idle)
}

func readFrame(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := skipFrame(conn); err != nil {
		t.Fatal(err)
	}
}

// skipFrame reads a frame and returns its length.
func skipFrame(conn net.Conn) (size int64, err error) {
	var head [4]byte
	conn.SetReadDeadline(time.Now().Add(waitMax))
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return 0, err
	}
	return io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:])))
}

// Consumers that wait for messages cost next to nothing while none come: each has a heartbeat behind it and a long poll held.
func TestAThousandWaitingConsumers(t *testing.T) {
	s, c := harness.Own(t)
	topic := newTopic(t, c, 4)
	send(t, newProducer(t, c), primitive.NewMessage(topic, []byte("first")))
	group := unique(t)
	var conns sync.WaitGroup
	for i := range idleConsumers {
		conn := dialFrom(t, c.Broker, i)
		t.Cleanup(func() { conn.Close() })
		conns.Go(func() {
			conn.Write(heartbeatFrame(group + strconv.Itoa(i)))
			conn.Write(frameOf(pullCode, fmt.Sprintf(`,"extFields":{"consumerGroup":"%s%d","topic":%q,"queueId":"0","queueOffset":"1","maxMsgNums":"32","sysFlag":"6",`+
				`"commitOffset":"0","suspendTimeoutMillis":"30000","subscription":"*","subVersion":"0"}`, group, i, topic), nil))
			conn.SetReadDeadline(time.Now().Add(waitMax))
			io.CopyN(io.Discard, conn, 4)
		})
	}
	conns.Wait()
	load := 0.0
	for range idleConsumersLooks { // the last one counts: at first the groups' state is on its way to disk
		began, used := time.Now(), metrics(t, s)[cpuMetric]
		time.Sleep(idleConsumersLook)
		load = (metrics(t, s)[cpuMetric] - used) / time.Since(began).Seconds()
	}
	fmt.Printf("waiting consumers: %d, %.2f%% of a core\n", idleConsumers, 100*load)
	if load > idleCPUMax {
		t.Errorf("%d waiting consumers take %.1f%% of a core, want at most %.0f%%", idleConsumers, 100*load, 100*idleCPUMax)
	}
}
