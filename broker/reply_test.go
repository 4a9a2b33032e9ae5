package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// requester connects a client with an id that is a producer; what is pushed to it comes over the channel, and is answered by answer.
func (n *node) requester(id string, answer func() error) (*remoting.Client, chan *protocol.Command) {
	n.t.Helper()
	pushed := make(chan *protocol.Command, 100)
	client := remoting.NewClient(remoting.ClientConfig{Timeout: 20 * time.Second, OnRequest: func(r *remoting.Request) (*remoting.Response, error) {
		if r.Code == int32(protocol.ReqPushReplyMessageToClient) {
			copied := &protocol.Command{Body: []byte(string(r.Body))}
			for _, f := range r.Fields {
				copied.Fields.Add(string(f.Key), string(f.Value))
			}
			pushed <- copied
			return nil, answer()
		}
		return nil, nil
	}})
	n.t.Cleanup(client.Close)
	n.beat(client, id, "Requesters")
	return client, pushed
}

func (n *node) beat(client *remoting.Client, id string, groups ...string) {
	n.t.Helper()
	h := protocol.Heartbeat{ClientID: id}
	for _, g := range groups {
		h.Producers = append(h.Producers, protocol.ProducerData{Group: g})
	}
	answer, err := client.Invoke(n.t.Context(), n.s.BrokerAddr(), command(protocol.ReqHeartBeat, nil, protocol.MarshalBody(h)))
	if err == nil {
		err = answer.Check()
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

const replyTopic = "DefaultCluster_REPLY_TOPIC"

var replyFields = sendFields.with("topic", replyTopic, "properties", "MSG_TYPE\x01reply\x02CORRELATION_ID\x01c1\x02REPLY_TO_CLIENT\x01asker\x02")

func (n *node) replies() string {
	n.t.Helper()
	return bodies(n.records(n.call(protocol.ReqPullMessage, pullFields.with("topic", replyTopic), nil).Body))
}

func TestRepliesReachWhoAsked(t *testing.T) {
	n := startNode(t, nil)
	_, pushed := n.requester("asker", func() error { return nil })
	var sent protocol.SendResult
	n.ok(protocol.ReqSendReplyMessage, replyFields, []byte("answer"), &sent)
	got := <-pushed
	var h protocol.ReplyHeader
	if err := protocol.DecodeHeader(got.Fields, &h); err != nil {
		t.Fatal(err)
	}
	if string(got.Body) != "answer" || h.Topic != replyTopic || h.ProducerGroup != "P" || h.BornTime != 1763720000000 ||
		!strings.HasPrefix(h.BornHost, "127.0.0.1:") || h.StoreHost != n.s.BrokerAddr() || h.StoreTime == 0 ||
		string(message.Property([]byte(h.Properties), "CORRELATION_ID")) != "c1" || message.Property([]byte(h.Properties), "PUSH_REPLY_TIME") == nil {
		t.Errorf("pushed %q with %+v", got.Body, h)
	}
	if _, position, err := message.ParseOffsetID(sent.MsgID); err != nil || sent.QueueOffset != 0 || position == 0 {
		t.Errorf("answered %+v", sent)
	}
	short := fields{"a": "P", "b": replyTopic, "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "1763720000000", "h": "0", "i": replyFields["properties"]}
	n.ok(protocol.ReqSendReplyMessageV2, short, []byte("again"), &sent)
	if got := <-pushed; string(got.Body) != "again" || sent.QueueOffset != 1 {
		t.Errorf("pushed %q, answered %+v", got.Body, sent)
	}
	if got := n.replies(); got != "answer again" {
		t.Errorf("stored: %q", got)
	}
	n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("storeReplyMessageEnable=false"), nil)
	if n.ok(protocol.ReqSendReplyMessage, replyFields, []byte("not kept"), &sent); sent.MsgID != "0" || string((<-pushed).Body) != "not kept" || n.replies() != "answer again" {
		t.Errorf("answered %+v, stored: %q", sent, n.replies())
	}
}

func TestRepliesThatReachNobodyAreStored(t *testing.T) {
	n := startNode(t, nil)
	const fault = protocol.RespSystemError
	client, _ := n.requester("asker", func() error { return protocol.Errorf(fault, "not wanted") })
	gone := "push reply message fail, channel of <asker> not found."
	reply := protocol.ReqSendReplyMessage
	n.run([]row{
		{"refused by who asked", reply, replyFields, "1", fault, "push reply message to asker fail"},
		{"to nobody", reply, replyFields.with("properties", "MSG_TYPE\x01reply\x02"), "2", fault, "reply message properties[REPLY_TO_CLIENT] is null"},
		{"to an unknown client", reply, replyFields.with("properties", "REPLY_TO_CLIENT\x01other\x02"), "3", fault, "channel of <other> not found."},
		{"without a body", reply, replyFields, "", protocol.RespMessageIllegal, "the body is empty"},
		{"unknown topic", reply, replyFields.with("topic", "None", "defaultTopic", "None"), "4", protocol.RespTopicNotExist, "topic[None] not exist"},
		{"queue that is not there", reply, replyFields.with("queueId", "9"), "5", protocol.RespInvalidParameter, "queueId[9] is illegal"},
	})
	answer, err := client.Invoke(t.Context(), n.s.BrokerAddr(), command(protocol.ReqUnregisterClient, fields{"clientID": "asker", "producerGroup": "Requesters"}, nil))
	if err != nil || answer.Check() != nil {
		t.Fatal(err, answer.Check())
	}
	n.run([]row{{"to who is no producer any more", reply, replyFields, "6", fault, gone}})
	n.beat(client, "asker", "Requesters", "More")
	n.run([]row{{"refused again", reply, replyFields, "7", fault, "push reply message to asker fail"}})
	client.Close()
	waitFor(t, "the broker to see that the client has gone", func() bool {
		return strings.Contains(string(n.call(reply, replyFields, []byte("8")).Remark), gone)
	})
	if got := n.replies(); !strings.HasPrefix(got, "1 2 3 6 7 8") {
		t.Errorf("stored: %q", got)
	}
}
