package broker_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// properties makes a property string of names and values.
func properties(pairs ...string) string {
	var p []byte
	for i := 0; i < len(pairs); i += 2 {
		p = message.AppendProperty(p, pairs[i], []byte(pairs[i+1]))
	}
	return string(p)
}

func inMS(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).UnixMilli()) }

// stored returns the record that an answer names.
func (n *node) stored(r protocol.SendResult) message.Record {
	n.t.Helper()
	_, offset, err := message.ParseOffsetID(r.MsgID)
	if err != nil {
		n.t.Fatal(err)
	}
	return n.records(n.ok(protocol.ReqViewMessageByID, fields{"offset": fmt.Sprint(offset)}, nil, nil).Body)[0]
}

func TestWhereAMessageWaits(t *testing.T) {
	n := startNode(t, nil)
	const deliver, ms, sec = "TIMER_DELIVER_MS", "TIMER_DELAY_MS", "TIMER_DELAY_SEC"
	for _, c := range []struct {
		name, topic string
		properties  []string
	}{
		{"a moment", message.TopicTimerWheel, []string{deliver, inMS(time.Minute)}},
		{"milliseconds", message.TopicTimerWheel, []string{ms, "60000"}},
		{"seconds", message.TopicTimerWheel, []string{sec, "60"}},
		{"the longest", message.TopicTimerWheel, []string{sec, "259200"}},
		{"seconds go before all", "T", []string{deliver, inMS(time.Minute), ms, "60000", sec, "0"}},
		{"milliseconds go before a moment", "T", []string{deliver, inMS(time.Minute), ms, "-5"}},
		{"the past", "T", []string{deliver, "5"}},
		{"a level goes before all", message.TopicSchedule, []string{deliver, "x", sec, "-99", "DELAY", "18"}},
		{"no level", message.TopicTimerWheel, []string{sec, "60", "DELAY", "0"}},
		{"what has waited", "T", []string{deliver, inMS(time.Minute), "TIMER_OUT_MS", "1000"}},
	} {
		answer := n.send(sendFields.with("properties", properties(c.properties...)), c.name)
		r := n.stored(answer)
		if string(r.Topic) != c.topic || string(r.Body) != c.name {
			t.Errorf("%s: in topic %s", c.name, r.Topic)
		}
		if (answer.RecallHandle != "") != (c.topic == message.TopicTimerWheel) {
			t.Errorf("%s: recall handle %q", c.name, answer.RecallHandle)
		}
	}
}

func TestTimedSendsAreRefused(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.TimerMaxDelaySec = 100 })
	illegal := protocol.RespMessageIllegal
	timed := func(pairs ...string) fields { return sendFields.with("properties", properties(pairs...)) }
	const words = "timer message illegal, the delay time should not be bigger than the max delay 100000ms; or if set del msg"
	n.run([]row{
		{"too far", protocol.ReqSendMessage, timed("TIMER_DELAY_SEC", "101"), "m", illegal, words},
		{"too far", protocol.ReqSendMessage, timed("TIMER_DELIVER_MS", inMS(time.Hour)), "m", illegal, words},
		{"much too far", protocol.ReqSendMessage, timed("TIMER_DELAY_SEC", "9223372036854775807"), "m", illegal, words},
		{"no number", protocol.ReqSendMessage, timed("TIMER_DELAY_MS", "soon"), "m", illegal, `TIMER_DELAY_MS is "soon"`},
		{"a deletion in the past", protocol.ReqSendMessage, timed("TIMER_DELIVER_MS", "5", "TIMER_DEL_UNIQKEY", "id"), "m", illegal, words},
	})
	off := startNode(t, func(c *server.Config) { c.Timers, c.Recall = false, false })
	off.send(sendFields, "m")
	off.run([]row{
		{"off", protocol.ReqSendMessage, timed("TIMER_DELAY_MS", "5"), "m", protocol.RespSystemError, "timerWheelEnable is false"},
		{"recall off", protocol.ReqRecallMessage, fields{"topic": "T", "recallHandle": "x"}, "", protocol.RespNoPermission, "recall failed, operation is forbidden"},
	})
	full := startNode(t, func(c *server.Config) { c.TimerLiveBytesMax = 1 })
	full.send(timed("TIMER_DELAY_SEC", "60"), "m")
	waitFor(t, "the count", func() bool { return full.metric("apogee_timed_messages") == 1 })
	full.run([]row{{"full", protocol.ReqSendMessage, timed("TIMER_DELAY_SEC", "60"), "m", protocol.RespSystemError, "timer message is under flow control"}})
	full.send(timed("TIMER_DELIVER_MS", "5"), "at once")
}

// With the option set as a user sets it: a year is taken, and one second more is not.
func TestAMessageMayWaitForAYear(t *testing.T) {
	const year = 365 * 24 * 3600
	loaded, _, err := server.Load(server.Sources{Flags: map[string]string{"timer-max-delay-sec": fmt.Sprint(year)}})
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, func(c *server.Config) { c.TimerMaxDelaySec = loaded.TimerMaxDelaySec })
	timed := func(seconds int) fields {
		return sendFields.with("properties", properties("UNIQ_KEY", "id", "TIMER_DELAY_SEC", fmt.Sprint(seconds)))
	}
	before := time.Now().Unix()
	sent := n.send(timed(year), "in a year")
	r := n.stored(sent)
	if out, _ := protocol.ParseInt(message.Property(r.Properties, "TIMER_OUT_MS")); string(r.Topic) != message.TopicTimerWheel || out/1000-before < year-1 || out/1000-before > year+60 {
		t.Errorf("in topic %s, until %d; it was sent at %d s", r.Topic, out, before)
	}
	waitFor(t, "the count", func() bool { return n.metric("apogee_timed_messages") == 1 })
	n.run([]row{
		{"beyond", protocol.ReqSendMessage, timed(year + 1), "m", protocol.RespMessageIllegal, "max delay 31536000000ms"},
		{"its recall", protocol.ReqRecallMessage, fields{"topic": "T", "recallHandle": sent.RecallHandle}, "", protocol.RespSuccess, ""},
	})
	waitFor(t, "the recall", func() bool { return n.metric("apogee_timed_messages") == 0 })
}

// A producer recalls by the handle of the answer, or sends the deletion itself; what is not recalled comes, after a restart too.
func TestRecallOverTheWire(t *testing.T) {
	fs := vfs.NewMem()
	n := startConfig(t, testConfig(fs))
	timed := func(id string) fields {
		return sendFields.with("properties", properties("UNIQ_KEY", id, "TIMER_DELAY_MS", "4000"))
	}
	first := n.send(timed("id1"), "first")
	second := n.send(timed("id2"), "second")
	n.send(timed("id3"), "third")
	raw, err := base64.URLEncoding.DecodeString(first.RecallHandle)
	words := strings.Split(string(raw), " ")
	out := message.Property(n.stored(first).Properties, message.PropTimerOut)
	if err != nil || len(words) != 5 || words[0] != "v1" || words[1] != "T" || words[2] != "broker-a" || words[4] != "id1" ||
		words[3][:len(words[3])-1] != string(out[:len(out)-1]) || words[3][len(words[3])-1] != '1' {
		t.Fatalf("the handle is %q, and TIMER_OUT_MS %s", raw, out)
	}
	var result protocol.RecallResult
	n.ok(protocol.ReqRecallMessage, fields{"topic": "T", "recallHandle": first.RecallHandle, "producerGroup": "P"}, nil, &result)
	if result.MessageID != "id1" {
		t.Errorf("recalled %q", result.MessageID)
	}
	moment := message.Property(n.stored(second).Properties, message.PropTimerOut)
	n.send(sendFields.with("properties", properties("UNIQ_KEY", "id9", "TIMER_DEL_UNIQKEY", "id2", "TIMER_DELIVER_MS", string(moment[:len(moment)-3])+"500")), "delete")
	waitFor(t, "the deletions", func() bool { return n.metric("apogee_timed_messages") == 1 })
	n.stop()
	n = startConfig(t, testConfig(fs))
	defer n.stop()
	waitFor(t, "the count", func() bool { return n.metric("apogee_timed_messages") == 1 })
	waitFor(t, "the delivery", func() bool { return n.metric("apogee_timed_messages") == 0 })
	answer := n.ok(protocol.ReqPullMessage, pullFields, nil, nil)
	if got := bodies(n.records(answer.Body)); got != "third" {
		t.Errorf("delivered: %s", got)
	}
}

// timing returns how many messages wait for a moment, by topic.
func (n *node) timing() map[string]int64 {
	n.t.Helper()
	var m protocol.TimerMetrics
	if err := protocol.UnmarshalBody(n.ok(protocol.ReqGetTimerMetrics, nil, nil, nil).Body, &m); err != nil {
		n.t.Fatal(err)
	}
	counts := map[string]int64{}
	for topic, c := range m.Timing {
		if counts[topic] = c.Count; c.Timestamp == 0 {
			n.t.Errorf("topic %s: counted at no time", topic)
		}
	}
	return counts
}

func TestTimedMessagesAreCountedByTopic(t *testing.T) {
	c := testConfig(vfs.NewMem())
	n := startConfig(t, c)
	n.group("G")
	timed := func(topic string, wait time.Duration) protocol.SendResult {
		return n.send(sendFields.with("topic", topic, "properties", properties("TIMER_DELIVER_MS", inMS(wait))), "x")
	}
	want := func(when string, counts map[string]int64) {
		t.Helper()
		var last string
		waitFor(t, when, func() bool {
			last = cmp.Diff(counts, n.timing())
			return last == ""
		})
	}
	recalled := timed("T", time.Hour)
	timed("T", time.Hour)
	timed("U", time.Hour)
	half := n.send(halfFields("id1", "TIMER_DELIVER_MS", inMS(time.Hour)), "of a transaction")
	want("those that wait", map[string]int64{"T": 2, "U": 1})
	n.end(half, commit)
	want("the committed one", map[string]int64{"T": 3, "U": 1})
	before := n.maxOffset("T")
	timed("T", 300*time.Millisecond)
	waitFor(t, "the delivery", func() bool { return n.maxOffset("T") == before+1 })
	want("a delivery", map[string]int64{"T": 3, "U": 1})
	n.ok(protocol.ReqRecallMessage, fields{"topic": "T", "recallHandle": recalled.RecallHandle}, nil, nil)
	want("a recall", map[string]int64{"T": 2, "U": 1})

	n.stop()
	n = startConfig(t, c)
	defer n.stop()
	want("a start", map[string]int64{"T": 2, "U": 1})
	timed("U", time.Hour)
	timed("U", 200*time.Millisecond)
	want("a delivery after the start", map[string]int64{"T": 2, "U": 2})
}

func TestCountsOfTimedMessagesWithoutTimers(t *testing.T) {
	n := startNode(t, func(c *server.Config) { c.Timers = false })
	if answer := n.call(protocol.ReqGetTimerMetrics, nil, nil); answer.Code != int32(protocol.RespSystemError) || !strings.Contains(string(answer.Remark), "timer message store is null") {
		t.Errorf("%s %q", protocol.ResponseCode(answer.Code), answer.Remark)
	}
}
