package interop

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	requestHeartbeat = 34
	dialsPerCaller   = 400
	dialCallers      = 8
)

// heartbeatFrame is a request as clients send it: the length of what follows, the length of the
// header with the serialisation (0, JSON) in its first byte, the header, the body.
func heartbeatFrame(group string) []byte {
	header := fmt.Appendf(nil, `{"code":%d,"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":501}`,
		requestHeartbeat)
	body := fmt.Appendf(nil, `{"clientID":"%s","producerDataSet":[{"groupName":"%s"}],"consumerDataSet":[{"groupName":"%s",`+
		`"consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",`+
		`"unitMode":false,"subscriptionDataSet":[]}]}`, group, group, group)
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+len(body)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header)))
	return append(append(frame, header...), body...)
}

// A client that is stopped while it starts sends a heartbeat and is gone before the broker looks
// at it. Others must not notice.
func TestHeartbeatsOfClientsThatAreGoneDoNotHoldUpOthers(t *testing.T) {
	c := harness.Shared(t)
	frame := heartbeatFrame(unique(t))
	var callers sync.WaitGroup
	for range dialCallers {
		callers.Go(func() {
			for range dialsPerCaller {
				conn, err := net.Dial("tcp", c.Broker)
				if err != nil {
					t.Error(err)
					return
				}
				conn.(*net.TCPConn).SetLinger(0) // a reset, which overtakes what was not read
				conn.Write(frame)
				conn.Close()
			}
		})
	}
	callers.Wait()
	topic := newTopic(t, c, 1)
	bodies := sendBodies(t, newProducer(t, c), topic, "m", 5)
	var in inbox
	startPush(t, c, unique(t), topic, everything, &in)
	in.waitExactly(t, bodies)
}
