package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
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
	"github.com/google/go-cmp/cmp"
)

// popClient pops topic T for group G, in virtual time, and knows what it may and may not be given.
type popClient struct {
	t      testing.TB
	n      *delayNode
	fs     crashfs.FS
	random *rand.Rand
	sent   int
	acked  map[string]bool      // answered
	until  map[string]time.Time // when a message may be handed out again
	held   []heldMessage
}

type heldMessage struct {
	body    string
	receipt map[string]string
}

func (c *popClient) start() {
	c.n = startDelayNode(c.t, c.fs, delay.Levels{0})
	c.settle()
}

// settle gives the broker the settings that a server would.
func (c *popClient) settle() {
	s := *c.n.live()
	s.transferBytes, s.transferCount, s.pollWaitMax = 256<<10, 32, time.Minute
	c.n.settings.Store(&s)
}

// ask sends a request and returns how it is answered once it is.
func (c *popClient) ask(code protocol.RequestCode, fields map[string]string) <-chan *remoting.Response {
	cmd := protocol.NewRequest(code, nil)
	for k, v := range fields {
		cmd.Fields.Add(k, v)
	}
	answer := make(chan *remoting.Response, 1)
	reply := func(resp *remoting.Response, err error) {
		if err != nil {
			code, remark := protocol.CodeOf(err)
			resp = remoting.Respond(code, nil)
			resp.Remark = []byte(remark)
		} else if resp == nil {
			resp = remoting.Respond(protocol.RespSuccess, nil)
		}
		answer <- resp
	}
	r := remoting.NewLocalRequest(cmd, reply)
	for _, route := range c.n.Routes() {
		if route.Code == code {
			if resp, err := route.Handle(r); err != remoting.ErrLater { //nolint:errorlint // a sentinel that is never wrapped
				reply(resp, err)
			}
		}
	}
	return answer
}

func popRequestFields(invisible, poll time.Duration) map[string]string {
	return map[string]string{
		"consumerGroup": "G", "topic": "T", "queueId": "-1", "maxMsgNums": "8", "invisibleTime": fmt.Sprint(invisible.Milliseconds()),
		"pollTime": fmt.Sprint(poll.Milliseconds()), "bornTime": "0", "initMode": "0",
	}
}

// pop takes what it is given, and checks that it may be.
func (c *popClient) pop(invisible, poll time.Duration) (count int) {
	asked := time.Now()
	resp := <-c.ask(protocol.ReqPopMessage, popRequestFields(invisible, poll))
	if protocol.ResponseCode(resp.Code) != protocol.RespSuccess {
		return 0
	}
	list, h := c.messages("G", resp)
	for _, m := range list {
		body := m.body
		if c.acked[body] {
			c.t.Errorf("%s was acknowledged and is handed out again", body)
		}
		if until := c.until[body]; asked.Before(until) && time.Now().Before(until) {
			c.t.Errorf("%s is handed out twice, %v before its time", body, time.Until(until))
		}
		c.until[body] = time.UnixMilli(h.PopTime).Add(invisible)
	}
	c.held = append(c.held, list...)
	return len(list)
}

// messages reads what a group was given.
func (c *popClient) messages(group string, resp *remoting.Response) (list []heldMessage, h protocol.PopResult) {
	if err := protocol.DecodeHeader(resp.Fields, &h); err != nil {
		c.t.Fatal(err)
	}
	var start int64
	for part := range strings.SplitSeq(h.StartOffsetInfo, ";") {
		_, _ = fmt.Sscanf(part, "0 0 %d", &start)
	}
	for raw := bytes.Join(resp.Payload.Slices, nil); len(raw) > 0; {
		r, size, err := message.Decode(raw)
		if err != nil {
			c.t.Fatal(err)
		}
		raw = raw[size:]
		receipt, topic := string(message.Property(r.Properties, message.PropPopCheckpoint)), "%RETRY%G_T"
		if receipt == "" {
			topic, receipt = "T", fmt.Sprint(start, " ", h.PopTime, " ", h.InvisibleMS, " ", h.ReviveQueue, " 0 b 0 ", r.QueueOffset)
		}
		list = append(list, heldMessage{string(r.Body), map[string]string{
			"consumerGroup": group, "topic": topic, "queueId": "0", "offset": fmt.Sprint(r.QueueOffset), "extraInfo": receipt,
		}})
	}
	resp.Payload.Release()
	return list, h
}

// ack acknowledges one of the messages that it was ever given.
func (c *popClient) ack() {
	if len(c.held) == 0 {
		return
	}
	i := c.random.IntN(len(c.held))
	m := c.held[i]
	c.held = append(c.held[:i], c.held[i+1:]...)
	if resp := <-c.ask(protocol.ReqAckMessage, m.receipt); protocol.ResponseCode(resp.Code) == protocol.RespSuccess {
		c.acked[m.body] = true
	}
}

func (c *popClient) send(count int) {
	for range count {
		c.n.mustSend("T", 0, fmt.Sprint("m", c.sent))
		c.sent++
	}
}

func (c *popClient) crash() {
	next := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.random.IntN(101), RNG: rand.New(rand.NewPCG(c.random.Uint64(), 3))})
	synctest.Wait()
	c.n.stop()
	c.fs = next
	c.start()
}

// rebuild stops the broker, deletes the view, and starts it again: the state must be as it was.
func (c *popClient) rebuild() {
	c.n.pop.Record()
	synctest.Wait()
	before := c.state()
	c.n.stop()
	if err := c.fs.RemoveAll("store/view"); err != nil {
		c.t.Fatal(err)
	}
	s, _, err := store.Open(store.Config{
		FS: c.fs, Files: commitlog.NewVFSFiles(c.fs), Dir: "store", SegmentBytes: 256 << 10, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		DueTime: delay.Levels{0}.DueTime, Retired: Retired, Pending: Pending,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.n.store = s
	if diff := cmp.Diff(before, c.state()); diff != "" {
		c.t.Error("the view that was made anew differs", diff)
	}
	if err := s.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.start()
}

// state reads what the broker has of POP.
func (c *popClient) state() map[string]string {
	state := map[string]string{}
	err := c.n.store.State("pop", func(key string, value []byte) error {
		state[key] = fmt.Sprintf("%x", value)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return state
}

// Messages are popped, acknowledged, left alone, and the broker crashes: what was acknowledged stays so, the rest comes again, and nothing
// before its time.
func TestCrashesLoseNothingThatIsPopped(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			c := &popClient{t: t, fs: crashfs.New(), random: rand.New(rand.NewPCG(seed, 5)), acked: map[string]bool{}, until: map[string]time.Time{}}
			c.start()
			for range 300 {
				switch n := c.random.IntN(20); {
				case n < 4:
					c.send(1 + c.random.IntN(6))
				case n < 10:
					c.pop(time.Duration(1+c.random.IntN(2000))*time.Millisecond, 0)
				case n < 17:
					c.ack()
				case n < 19:
					time.Sleep(time.Duration(c.random.IntN(700)) * time.Millisecond)
				default:
					c.crash()
				}
			}
			c.rebuild()
			for idle := 0; idle < 3; idle++ { // of 5 s each: longer than any delivery
				for c.pop(time.Hour, 5*time.Second) > 0 {
					idle = 0
					for len(c.held) > 0 {
						c.ack()
					}
				}
			}
			dead := c.dead()
			for i := range c.sent {
				if body := fmt.Sprint("m", i); !c.acked[body] && !dead[body] {
					t.Errorf("%s is lost", body)
				}
			}
			if offset, _ := c.n.offsets.find(offsetKey{"G", "T", 0}); offset != int64(c.sent) {
				t.Errorf("the group's offset is %d, want %d", offset, c.sent)
			}
			t.Logf("seed %d: %d sent, %d dead", seed, c.sent, len(dead))
			c.n.stop()
		})
	}
}

// dead returns what ended in the DLQ.
func (c *popClient) dead() map[string]bool {
	bodies := map[string]bool{}
	q := c.n.store.Find("%DLQ%G", 0)
	if q == nil {
		return bodies
	}
	first, end := q.Bounds()
	for offset := first; offset < end; offset++ {
		var result store.Result
		raw, err := c.n.store.ReadOne(&result, q, offset)
		if err != nil {
			c.t.Fatal(err)
		}
		r, _, err := message.Decode(raw)
		if err != nil {
			c.t.Fatal(err)
		}
		bodies[string(r.Body)] = true
		result.Release()
	}
	return bodies
}
