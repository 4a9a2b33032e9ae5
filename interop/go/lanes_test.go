package interop

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	laneConnections = 16
	laneInFlight    = 32 // of each connection: more than the lane runs at once
	lanePairs       = 10
	laneWindow      = 250 * time.Millisecond
	laneDrain       = 100 * time.Millisecond // for what is under way when the load pauses or goes on
	laneWorst       = 2.0                    // sends meanwhile, in multiples of sends without load
	laneSlack       = 2.0                    // ms, of the median
	laneTailSlack   = 100.0                  // ms, of the 99th percentile: with others on the machine it was seen at 30 to 50 ms
	laneRole        = "fill"
)

// lanes are the requests that fill each of them.
func lanes(topic, group string) map[string]func(connection int) []byte {
	field := func(code int, fields string) func(int) []byte {
		return func(int) []byte { return frameOf(code, `,"extFields":{`+fields+`}`, nil) }
	}
	return map[string]func(int) []byte{
		"pull": field(pullCode, fmt.Sprintf(`"consumerGroup":%q,"topic":%q,"queueId":"0","queueOffset":"0","maxMsgNums":"32","sysFlag":"4",`+
			`"commitOffset":"0","suspendTimeoutMillis":"0","subscription":"*","subVersion":"0"`, group, topic)),
		"ack":       field(15, fmt.Sprintf(`"consumerGroup":%q,"topic":%q,"queueId":"0","commitOffset":"1"`, group, topic)),
		"heartbeat": func(connection int) []byte { return heartbeatFrame(group + strconv.Itoa(connection)) },
		"admin":     field(26, ""),
	}
}

// A full lane must not hold up sends: each is filled in turn, by a process that runs when nobody else would, for what is tested is the
// broker and not the machine. Short windows with and without load alternate, and each is judged beside the one before it: what others do on
// the machine comes in bursts, and must not decide. Median and 99th percentile stay within twice the ones without load in half of the pairs;
// the slack is what the kernel's time slices add on two cores that have no idle moment. A send that waited behind a full lane would wait
// for hundreds of requests, always: the median shows that.
func TestFilledLanesDoNotDelaySends(t *testing.T) {
	_, c := harness.Own(t)
	topic, group := newTopic(t, c, 1), unique(t)
	p := newProducer(t, c)
	for range 64 {
		send(t, p, primitive.NewMessage(topic, make([]byte, 1<<10)))
	}
	conn, err := net.Dial("tcp", c.Broker)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(heartbeatFrame(group)) // the group exists
	readFrame(t, conn)
	frame := frameOf(310, fmt.Sprintf(`,"extFields":{"a":%q,"b":%q,"c":"TBW102","d":"4","e":"0","f":"0","g":"1","h":"0","i":"","j":"0"}`, group, topic), make([]byte, 1<<10))
	for name := range lanes(topic, group) {
		t.Run(name, func(t *testing.T) {
			fill := exec.Command(os.Args[0], workerArgument, laneRole, c.Broker, name, topic, group)
			fill.Stderr = os.Stderr
			if err := fill.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				fill.Process.Signal(syscall.SIGCONT)
				fill.Process.Kill()
				fill.Wait()
			}()
			var calm, filled [][]float64
			for range lanePairs {
				fill.Process.Signal(syscall.SIGSTOP)
				calm = append(calm, window(t, conn, frame))
				fill.Process.Signal(syscall.SIGCONT)
				filled = append(filled, window(t, conn, frame))
			}
			for q, slack := range map[float64]float64{0.5: laneSlack, 0.99: laneTailSlack} {
				var without, with, over []float64
				for i := range calm {
					without, with = append(without, quantile(calm[i], q)), append(with, quantile(filled[i], q))
					over = append(over, with[i]-laneWorst*without[i]-slack)
				}
				fmt.Printf("lane %s filled: %g of the sends take up to %.2f ms without, %.2f ms with, in the middle of %d windows\n", name, q,
					quantile(without, 0.5), quantile(with, 0.5), lanePairs)
				if quantile(over, 0.5) > 0 {
					t.Errorf("%g of the sends take up to %.2f ms, in windows without load %.2f ms: want at most %g times as long and %g ms in half of the windows",
						q, with, without, laneWorst, slack)
				}
			}
		})
	}
}

func quantile(list []float64, q float64) float64 {
	slices.Sort(list)
	return list[int(q*float64(len(list)))]
}

// window sends one message after the other and returns how long each took, ms.
func window(t *testing.T, conn net.Conn, frame []byte) (took []float64) {
	t.Helper()
	time.Sleep(laneDrain)
	for began := time.Now(); time.Since(began) < laneWindow; {
		at := time.Now()
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		readFrame(t, conn)
		took = append(took, float64(time.Since(at))/1e6)
	}
	return took
}

// fillLane keeps a lane full until it is killed: BROKER LANE TOPIC GROUP.
func fillLane(arguments []string) int {
	if err := runIdle(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	request := lanes(arguments[2], arguments[3])[arguments[1]]
	var connections sync.WaitGroup
	for i := range laneConnections {
		connections.Go(func() {
			conn, err := net.Dial("tcp", arguments[0])
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			frame := request(i)
			for range laneInFlight {
				conn.Write(frame)
			}
			answers := bufio.NewReaderSize(conn, 64<<10)
			for {
				var head [4]byte
				if _, err := io.ReadFull(answers, head[:]); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				if _, err := answers.Discard(int(binary.BigEndian.Uint32(head[:]))); err != nil {
					return
				}
				if _, err := conn.Write(frame); err != nil {
					return
				}
			}
		})
	}
	connections.Wait()
	return 1
}
