package main

import (
	"context"
	"strconv"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/rogpeppe/go-internal/testscript"
)

// joinGroup connects a consumer that heartbeats once and answers what administrators ask of it.
func joinGroup(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("member GROUP TOPIC")
	}
	heartbeat(ts, protocol.Heartbeat{ClientID: "client-of-" + args[0], Consumers: []protocol.ConsumerData{{
		Group: args[0], ConsumeType: protocol.ConsumePassively, Model: protocol.ModelClustering, FromWhere: protocol.FromFirstOffset,
		Subscriptions: []protocol.SubscriptionData{{Topic: args[1], Expression: "*", Type: protocol.ExpressionTag}},
	}}}, args[1])
}

func joinProducers(ts *testscript.TestScript, _ bool, args []string) {
	heartbeat(ts, protocol.Heartbeat{ClientID: "client-of-" + args[0], Producers: []protocol.ProducerData{{Group: args[0]}}}, "")
}

func sendHalf(ts *testscript.TestScript, _ bool, args []string) {
	properties := "TRAN_MSG\x01true\x02PGROUP\x01P\x02UNIQ_KEY\x01" + args[0] + "\x02"
	c := protocol.NewRequest(protocol.ReqSendMessage, &protocol.SendHeader{
		ProducerGroup: "P", Topic: "orders", DefaultTopic: message.TopicAutoCreate, DefaultTopicQueues: 1, SysFlag: message.FlagPrepared,
		BornTime: time.Now().Add(-time.Hour).UnixMilli(), Properties: properties,
	})
	c.Body = []byte("half of " + args[0])
	client := remoting.NewClient(remoting.ClientConfig{})
	ts.Defer(client.Close)
	invoke(ts, client, c)
}

// popOnce pops a message that is invisible for so many ms.
func popOnce(ts *testscript.TestScript, _ bool, args []string) {
	invisible, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	client := remoting.NewClient(remoting.ClientConfig{})
	ts.Defer(client.Close)
	invoke(ts, client, popRequest(args, invisible, 0))
}

// waitToPop leaves a pop waiting.
func waitToPop(ts *testscript.TestScript, _ bool, args []string) {
	client := remoting.NewClient(remoting.ClientConfig{})
	ts.Defer(client.Close)
	client.Go("127.0.0.1:"+ts.Getenv("BROKER_PORT"), popRequest(args, 60_000, 15_000), func(*protocol.Command, error) {})
}

func popRequest(args []string, invisibleMS, pollMS int64) *protocol.Command {
	return protocol.NewRequest(protocol.ReqPopMessage, &protocol.PopHeader{
		Group: args[0], Topic: args[1], QueueID: -1, MaxMessages: 8, InvisibleMS: invisibleMS, PollMS: pollMS, BornTime: time.Now().UnixMilli(),
		ExpressionType: protocol.ExpressionTag, Expression: "*",
	})
}

func invoke(ts *testscript.TestScript, client *remoting.Client, c *protocol.Command) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := client.Invoke(ctx, "127.0.0.1:"+ts.Getenv("BROKER_PORT"), c)
	if err == nil {
		err = answer.Check()
	}
	ts.Check(err)
}

func heartbeat(ts *testscript.TestScript, data protocol.Heartbeat, topic string) {
	client := remoting.NewClient(remoting.ClientConfig{OnRequest: func(r *remoting.Request) (*remoting.Response, error) { return answerAsMember(r, topic) }})
	ts.Defer(client.Close)
	c := protocol.NewRequest(protocol.ReqHeartBeat, nil)
	c.Body = protocol.MarshalBody(data)
	invoke(ts, client, c)
}

// answerAsMember answers as RocketMQ's Java client does, in its own form of JSON.
func answerAsMember(r *remoting.Request, topic string) (*remoting.Response, error) {
	resp := remoting.Respond(protocol.RespSuccess, nil)
	switch protocol.RequestCode(r.Code) {
	case protocol.ReqGetConsumerRunningInfo:
		resp.Body = []byte(`{"jstack":"` + stackOf(r) + `","mqTable":{{"brokerName":"` + brokerOfScripts + `","queueId":0,"topic":"` + topic +
			`"}:{"cachedMsgCount":3,"commitOffset":2,"droped":false,"locked":true}},"properties":{"PROP_CONSUME_TYPE":"CONSUME_PASSIVELY"},` +
			`"statusTable":{"` + topic + `":{"consumeFailedMsgs":7,"consumeOKTPS":1.5}},"subscriptionSet":[]}`)
	case protocol.ReqConsumeMessageDirectly:
		resp.Body = []byte(`{"autoCommit":true,"consumeResult":"CR_SUCCESS","order":false,"remark":"as asked","spentTimeMills":4}`)
	default:
		return nil, protocol.Errorf(protocol.RespRequestCodeNotSupported, "%d", r.Code)
	}
	return resp, nil
}

// brokerOfScripts is the broker's name in scripts that look at its queues.
const brokerOfScripts = "broker-s"

func stackOf(r *remoting.Request) string {
	if v, ok := r.Fields.Get("jstackEnable"); ok && string(v) == "true" {
		return "main-thread"
	}
	return ""
}
