package interop

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	slowReaders     = 8 // of each kind
	slowAsksPeriod  = 100 * time.Millisecond
	slowIdle        = 2 * time.Second
	slowClosedMax   = 15 * time.Second // slowIdle, a look each second, and what a busy machine adds; 120 s without the flag
	slowBefore      = 500 * time.Millisecond
	slowMemory      = 256 << 20
	slowMessages    = 32
	slowMessageSize = 7 << 10 // a pull takes all of them: 224 KiB
)

// Peers ask for large answers and read none: each is closed in time, the server says why, the process keeps to its memory, and who sends
// and pulls beside them does not notice. The sockets of the machine take a few MiB of each; what is beyond is the server's to hold.
func TestSlowReadersAreClosed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		flags  []string
		metric string
		reason *regexp.Regexp
	}{
		{"each beyond its own limit", []string{"--out-bytes-max", "1MiB"},
			"apogee_connections_unread_total", regexp.MustCompile("the peer has not read its answers for|does not drain: ")},
		{"all together beyond theirs", []string{"--connection-bytes-max", "16MiB"},
			"apogee_connections_relieved_total", regexp.MustCompile("all connections together hold ")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, c := harness.Own(t, append(tc.flags, "--idle-timeout", slowIdle.String(), "--memory-max", fmt.Sprint(slowMemory))...)
			topic, p := newTopic(t, c, 1), newProducer(t, c)
			for range slowMessages {
				body := make([]byte, slowMessageSize)
				rand.Read(body) // the client compresses what it can
				send(t, p, primitive.NewMessage(topic, body))
			}
			pull := pullFrame(unique(t), topic)
			var sent, pulled int
			var sendP99, pullP99 time.Duration
			sendOne, pullOne := sends(t, p, newTopic(t, c, 1)), pulls(t, c.Broker, pull)
			_, sendBefore := beside(t, sendOne, func() { time.Sleep(slowBefore) })
			_, pullBefore := beside(t, pullOne, func() { time.Sleep(slowBefore) })
			began := time.Now()
			sent, sendP99 = beside(t, sendOne, func() {
				pulled, pullP99 = beside(t, pullOne, func() {
					neverRead(t, c, pull)
				})
			})
			peak, err := s.ResidentPeak()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("slow readers, %s: %v, rss at most %d MiB; beside them %d sends, p99 %v, %d pulls, p99 %v\n",
				tc.name, time.Since(began), peak>>20, sent, sendP99, pulled, pullP99)
			if peak > slowMemory {
				t.Errorf("%d bytes were resident, want at most %d", peak, slowMemory)
			}
			checkCalm(t, "sends", sendBefore, sendP99)
			checkCalm(t, "pulls", pullBefore, pullP99)
			checkSaid(t, s, tc.metric, tc.reason)
		})
	}
}

// checkSaid wants the log to give the reason as often as the metric, of both roles, has counted: at least once.
func checkSaid(t *testing.T, s *harness.Server, metric string, reason *regexp.Regexp) {
	t.Helper()
	log, err := s.Log()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0
	for name, figure := range metrics(t, s) {
		if name == metric || strings.HasPrefix(name, metric+"{") {
			counted += int(figure)
		}
	}
	if said := len(reason.FindAllString(log, -1)); counted == 0 || said != counted {
		t.Errorf("%s is %d and the log says %s %d times, want the same number, not 0; the log:\n%s", metric, counted, reason, said, log)
	}
}

func pullFrame(group, topic string) []byte {
	return frameOf(pullCode, fmt.Sprintf(`,"extFields":{"consumerGroup":%q,"topic":%q,"queueId":"0","queueOffset":"0","maxMsgNums":"%d","sysFlag":"4",`+
		`"commitOffset":"0","suspendTimeoutMillis":"0","subscription":"*","subVersion":"0"}`, group, topic, slowMessages), nil)
}

// pulls pulls at each call.
func pulls(t *testing.T, addr string, frame []byte) func() error {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func() error {
		if _, err := conn.Write(frame); err != nil {
			return err
		}
		size, err := skipFrame(conn)
		if err == nil && size < slowMessages*slowMessageSize {
			err = fmt.Errorf("a pull was answered with %d bytes, want %d messages of %d", size, slowMessages, slowMessageSize)
		}
		return err
	}
}

// neverRead has peers that ask for more than their sockets take, then now and then for more, and read nothing until the server closes them.
func neverRead(t *testing.T, c harness.Cluster, pull []byte) {
	var peers sync.WaitGroup
	for _, asked := range []struct {
		addr  string
		ask   []byte
		times int
	}{
		{c.Broker, pull, 200},
		{c.Broker, frameOf(26, "", nil), 4000},      // GET_BROKER_CONFIG: 10 KiB
		{c.NameServer, frameOf(319, "", nil), 8000}, // GET_NAMESRV_CONFIG: 3 KiB
	} {
		for i := range slowReaders {
			conn := dialFrom(t, asked.addr, i)
			peers.Go(func() { neverReads(t, conn, bytes.Repeat(asked.ask, asked.times)) })
		}
	}
	peers.Wait()
}

func neverReads(t *testing.T, conn net.Conn, ask []byte) {
	defer conn.Close()
	began := time.Now()
	conn.SetWriteDeadline(began.Add(slowClosedMax))
	again := time.NewTicker(slowAsksPeriod)
	defer again.Stop()
	for ; ; <-again.C {
		if _, err := conn.Write(ask); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a peer of %v that reads nothing is not closed after %v", conn.RemoteAddr(), time.Since(began))
			return
		} else if err != nil {
			return
		}
	}
}
