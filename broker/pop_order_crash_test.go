package broker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store/crashfs"
)

// orderedClient pops topic T in order for group O and acknowledges one message after another, as a consumer does.
type orderedClient struct {
	*popClient
	next    int  // the first message that is not acknowledged
	maybe   bool // it was being acknowledged when the broker crashed
	attempt string
	lost    bool // a pop was on its way when the broker crashed: the attempt is that of it
	number  int  // of attempts
	batch   []heldMessage
	free    []time.Time // when those may be handed out to another attempt
}

func (c *orderedClient) fields(attempt string, invisible, poll time.Duration) map[string]string {
	f := popRequestFields(invisible, poll)
	f["consumerGroup"], f["order"], f["attemptId"] = "O", "true", attempt
	return f
}

// pop asks with an attempt of its own, or the last one again, and checks that what comes is what follows the last acknowledgement.
func (c *orderedClient) pop(again bool, invisible, poll time.Duration) {
	last := c.attempt
	if !again || last == "" {
		c.number++
		c.attempt = fmt.Sprint("attempt", c.number)
	}
	asked, sure := time.Now(), !c.lost && !c.maybe
	resp := <-c.ask(protocol.ReqPopMessage, c.fields(c.attempt, invisible, poll))
	if protocol.ResponseCode(resp.Code) != protocol.RespSuccess {
		if sure && len(c.batch) > 0 && c.attempt == last {
			c.t.Errorf("the attempt that has m%d is not given it again", c.next)
		}
		c.attempt = last
		return
	}
	list, h := c.messages("O", resp)
	if c.maybe && list[0].body != fmt.Sprint("m", c.next) {
		c.next++
	}
	for i, m := range list {
		if want := fmt.Sprint("m", c.next+i); m.body != want {
			c.t.Fatalf("%s is handed out in the place of %s", m.body, want)
		}
	}
	for i := range c.batch {
		if sure && c.attempt != last && asked.Before(c.free[i]) && time.Now().Before(c.free[i]) {
			c.t.Errorf("%s is handed out to another attempt %v before its time", c.batch[i].body, time.Until(c.free[i]))
		}
	}
	c.batch, c.free, c.lost, c.maybe = list, nil, false, false
	for range list {
		c.free = append(c.free, time.UnixMilli(h.PopTime).Add(invisible))
	}
}

// ack acknowledges the first message of the batch, renew changes its time.
func (c *orderedClient) ack() {
	if len(c.batch) == 0 {
		return
	}
	resp := <-c.ask(protocol.ReqAckMessage, c.batch[0].receipt)
	if protocol.ResponseCode(resp.Code) != protocol.RespSuccess {
		if !c.lost {
			c.t.Errorf("the acknowledgement of %s is refused: %s", c.batch[0].body, resp.Remark)
		}
		c.batch, c.free = nil, nil
		return
	}
	c.next++
	c.batch, c.free, c.maybe = c.batch[1:], c.free[1:], false
}

func (c *orderedClient) renew(invisible time.Duration) {
	if len(c.batch) == 0 || c.maybe {
		return
	}
	f := map[string]string{"invisibleTime": fmt.Sprint(invisible.Milliseconds())}
	for k, v := range c.batch[0].receipt {
		f[k] = v
	}
	resp := <-c.ask(protocol.ReqChangeMessageInvisibleTime, f)
	if protocol.ResponseCode(resp.Code) == protocol.RespSuccess {
		c.free[0] = time.UnixMilli(time.Now().UnixMilli()).Add(invisible)
	} else if !c.lost {
		c.t.Errorf("a new time for %s is refused: %s", c.batch[0].body, resp.Remark)
	}
}

// crash may come while a pop or an acknowledgement is on its way.
func (c *orderedClient) crash() {
	switch n := c.random.IntN(3); {
	case n == 0:
		c.number++
		c.attempt, c.lost = fmt.Sprint("attempt", c.number), true
		c.ask(protocol.ReqPopMessage, c.fields(c.attempt, time.Second, 0))
	case n == 1 && len(c.batch) > 0:
		c.maybe = true
		c.ask(protocol.ReqAckMessage, c.batch[0].receipt)
	}
	c.popClient.crash()
}

// Messages are popped in order while the broker crashes: they come in the queue's order, none is passed over, none comes again that was
// acknowledged, none goes to another attempt before its time.
func TestCrashesKeepTheOrderOfWhatIsPopped(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			c := &orderedClient{popClient: &popClient{t: t, fs: crashfs.New(), random: rand.New(rand.NewPCG(seed, 6))}}
			c.start()
			for range 300 {
				switch n := c.random.IntN(20); {
				case n < 3:
					c.send(1 + c.random.IntN(6))
				case n < 9:
					c.pop(c.random.IntN(3) == 0, time.Duration(1+c.random.IntN(2000))*time.Millisecond, 0)
				case n < 15:
					c.ack()
				case n < 16:
					c.renew(time.Duration(1+c.random.IntN(1000)) * time.Millisecond)
				case n < 18:
					time.Sleep(time.Duration(c.random.IntN(700)) * time.Millisecond)
				default:
					c.crash()
				}
			}
			before := c.next
			c.rebuild()
			for idle := 0; idle < 3 && c.next < c.sent; idle++ { // of 5 s each: longer than any delivery
				for c.pop(false, 2*time.Second, 5*time.Second); len(c.batch) > 0; idle = 0 {
					c.ack()
				}
			}
			if offset, _ := c.n.offsets.find(offsetKey{"O", "T", 0}); c.next != c.sent || offset != int64(c.sent) {
				t.Errorf("of %d messages %d are acknowledged; the group's offset is %d", c.sent, c.next, offset)
			}
			t.Logf("seed %d: %d sent, %d acknowledged between crashes", seed, c.sent, before)
			c.n.stop()
		})
	}
}
