package broker_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// full is a limit that requests reach together, and that lets the same request pass once there is room again.
type full struct {
	limit  string // in docs/LIMITS.md
	config func(*server.Config)
	fill   func(*node, *remoting.Client)
	ask    func(*node, *remoting.Client) *protocol.Command
	want   protocol.ResponseCode
	words  []string // of the remark, besides the limit's name: its value, and what to do
	// relieve makes room; afterwards ask succeeds.
	relieve func(*node, *remoting.Client)
}

func asks(code protocol.RequestCode, f fields, body string) func(*node, *remoting.Client) *protocol.Command {
	return func(n *node, _ *remoting.Client) *protocol.Command {
		n.t.Helper()
		return n.call(code, f, []byte(body))
	}
}

func subscribes(client string) func(*node, *remoting.Client) *protocol.Command {
	return asks(protocol.ReqLiteSubscriptionCtl, nil, string(liteBody(protocol.LiteSubscription{Action: protocol.LitePartialAdd, ClientID: client, LiteTopics: []string{"a"}})))
}

// crowd sends a request many times, without waiting.
func (n *node) crowd(client *remoting.Client, count int, code protocol.RequestCode, f fields) {
	for range count {
		client.Go(n.s.BrokerAddr(), command(code, f, nil), func(*protocol.Command, error) {})
	}
}

// whatFillsUp are limits that requests reach together; others is a client besides the one that asks.
func whatFillsUp() []full {
	timed := sendFields.with("properties", properties("UNIQ_KEY", "id", "TIMER_DELAY_SEC", "3600"))
	waits := pullFields.with("queueOffset", "1", "sysFlag", "6", "suspendTimeoutMillis", "20000")
	lite := func(topic string) fields {
		return sendFields.with("topic", topic, "properties", "__LITE_TOPIC\x01a\x02")
	}
	var handle string
	return []full{{
		"queuesMax", func(c *server.Config) { c.QueuesMax = 2048 },
		func(n *node, others *remoting.Client) {
			n.ok(protocol.ReqUpdateAndCreateTopic, topicFields.with("topic", "Big", "readQueueNums", "900"), nil, nil)
		},
		asks(protocol.ReqUpdateAndCreateTopic, topicFields.with("readQueueNums", "400"), ""), protocol.RespSystemError,
		[]string{"topic[Made]", "=2048; delete topics, or raise it"},
		func(n *node, others *remoting.Client) {
			n.ok(protocol.ReqDeleteTopicInBroker, fields{"topic": "Big"}, nil, nil)
		},
	}, {
		"groupsMax", func(c *server.Config) { c.GroupsMax = 16 },
		func(n *node, others *remoting.Client) {
			for i := range 16 {
				n.call(protocol.ReqUpdateAndCreateSubscriptionGroup, nil, fmt.Appendf(nil, `{"groupName":"Group%d"}`, i))
			}
		},
		asks(protocol.ReqUpdateAndCreateSubscriptionGroup, nil, `{"groupName":"More"}`), protocol.RespSystemError,
		[]string{"group More", "=16; delete groups, or raise it"},
		func(n *node, others *remoting.Client) {
			n.ok(protocol.ReqDeleteSubscriptionGroup, fields{"groupName": "Group0"}, nil, nil)
		},
	}, {
		"timerLiveBytesMax", func(c *server.Config) { c.TimerLiveBytesMax = 1 },
		func(n *node, others *remoting.Client) {
			handle = n.send(timed, "waits").RecallHandle
			waitFor(n.t, "the count", func() bool { return n.metric("apogee_timed_messages") == 1 })
		},
		asks(protocol.ReqSendMessage, timed, "m"), protocol.RespSystemError,
		[]string{"timer message is under flow control", "=1; send again later, or raise it"},
		func(n *node, others *remoting.Client) {
			n.ok(protocol.ReqRecallMessage, fields{"topic": "T", "recallHandle": handle}, nil, nil)
		},
	}, {
		"maxMessageSize", func(c *server.Config) { c.MessageBytesMax = 4096 }, func(*node, *remoting.Client) {},
		asks(protocol.ReqSendMessage, sendFields, strings.Repeat("x", 5000)), protocol.RespMessageIllegal,
		[]string{"msg body length limit 4096B", "5000 bytes", "=4096; send less, or raise it"},
		func(n *node, others *remoting.Client) {
			n.ok(protocol.ReqUpdateBrokerConfig, nil, []byte("maxMessageSize=8192\n"), nil)
		},
	}, {
		"maxLiteSubscriptionCount", func(c *server.Config) { c.Light.SubscriptionsMax = 1 },
		func(n *node, others *remoting.Client) {
			n.liteParent("LT", "60")
			n.liteGroup("LG", "LT")
			n.subscribe("c1", protocol.LitePartialAdd, "a")
		},
		subscribes("c2"), protocol.RespLiteSubscriptionQuotaExceeded,
		[]string{"lite subscription quota exceeded 1", "client c2 of group LG", "=1; end some, or raise it"},
		func(n *node, others *remoting.Client) { n.subscribe("c1", protocol.LiteCompleteRemove) },
	}, {
		"maxLmqConsumeQueueNum", func(c *server.Config) { c.Light.Quota, c.Light.QueuesMax = true, 1 },
		func(n *node, others *remoting.Client) {
			n.liteParent("LT", "60")
			n.liteParent("Old", "60")
			n.send(lite("Old"), "m")
		},
		asks(protocol.ReqSendMessage, lite("LT"), "m"), protocol.RespLMQQuotaExceeded,
		[]string{"There are 1,", "=1; use fewer, or raise it"},
		func(n *node, others *remoting.Client) {
			n.ok(protocol.ReqDeleteTopicInBroker, fields{"topic": "Old"}, nil, nil)
		},
	}, {
		"requestBytesMax", func(c *server.Config) {
			c.FrameBytesMax, c.MessageBytesMax, c.RequestBytesMax = 64<<10, 16<<10, 128<<10
		},
		func(n *node, others *remoting.Client) {
			n.crowd(others, 60, protocol.ReqPullMessage, waits)
			waitFor(n.t, "the pulls to be held", func() bool { return n.heldPulls() >= 50 })
		},
		func(n *node, others *remoting.Client) *protocol.Command {
			answer, err := others.Invoke(n.t.Context(), n.s.BrokerAddr(), command(protocol.ReqPullMessage, waits, nil))
			if err != nil {
				n.t.Fatal(err)
			}
			return answer
		}, protocol.RespSystemBusy, []string{"[OVERLOAD]", "=131072; wait for answers, or raise it"},
		func(n *node, others *remoting.Client) { n.send(sendFields, "wakes them") },
	}, {
		"popPollingMax", nil,
		func(n *node, others *remoting.Client) {
			n.pop(popFields)
			n.crowd(others, 1025, protocol.ReqPopMessage, popFields.with("pollTime", "20000"))
			waitFor(n.t, "the pops to be held", func() bool { return n.heldPops() == 1025 })
		},
		asks(protocol.ReqPopMessage, popFields.with("pollTime", "20000"), ""), protocol.RespPollingFull,
		[]string{"1025 pops wait", "=1024", "; pop again after a pause, or have fewer consumers"},
		func(n *node, others *remoting.Client) {
			others.Close()
			waitFor(n.t, "the pops to go", func() bool { return n.heldPops() == 0 })
			n.send(sendFields, "for the next")
		},
	}}
}

// Whatever is full says so in the same way: RocketMQ's code, and in the remark the limit's name and value and what to do about it. The
// broker takes the same request again as soon as there is room, without a restart.
func TestWhatIsFullSaysSoAndRecovers(t *testing.T) {
	for _, f := range whatFillsUp() {
		t.Run(f.limit, func(t *testing.T) {
			c := lightConfig(vfs.NewMem())
			if f.config != nil {
				f.config(&c)
			}
			n := startConfig(t, c)
			defer n.stop()
			others := n.newClient()
			defer others.Close()
			n.send(sendFields, "first")
			n.ok(protocol.ReqPullMessage, pullFields, nil, nil) // makes the group
			f.fill(n, others)
			answer := f.ask(n, others)
			if got := protocol.ResponseCode(answer.Code); got != f.want {
				t.Errorf("full: %s (%d) %q, want %s", got, got, answer.Remark, f.want)
			}
			for _, words := range append(f.words, f.limit+"=") {
				if !strings.Contains(string(answer.Remark), words) {
					t.Errorf("%q does not say %q", answer.Remark, words)
				}
			}
			f.relieve(n, others)
			waitFor(t, "the same request to pass", func() bool { answer = f.ask(n, others); return answer.Check() == nil })
		})
	}
}

// tooLarge is a request that reaches a limit by itself, and one that is served.
type tooLarge struct {
	limit   string
	code    protocol.RequestCode
	f       fields
	body    string
	want    protocol.ResponseCode
	less    fields
	smaller string
}

func requestsTooLarge() []tooLarge {
	const invalid, unparsed = protocol.RespInvalidParameter, protocol.RespSubscriptionParseFailed
	times := strings.Repeat
	beat := func(client, producers string) string {
		return `{"clientID":"` + client + `","producerDataSet":[` + producers + `]}`
	}
	sql := func(expression string) fields {
		return pullFields.with("subscription", expression, "expressionType", "SQL92")
	}
	items := func(count int) string {
		return string(bytes.Repeat(message.AppendBatchItem(nil, message.BatchItem{Body: []byte("b")}), count))
	}
	batch := sendFields.with("batch", "true")
	return []tooLarge{
		{"topicQueuesMax", protocol.ReqUpdateAndCreateTopic, topicFields.with("writeQueueNums", "65537"), "", invalid, topicFields, ""},
		{"popMessagesMax", protocol.ReqPopMessage, popFields.with("maxMsgNums", "33"), "", invalid, popFields, ""},
		{"invisibleMSMax", protocol.ReqPopMessage, popFields.with("invisibleTime", "2592000001"), "", invalid, popFields.with("consumerGroup", "Other", "invisibleTime", "2592000000"), ""},
		{"liteNamesMax", protocol.ReqGetLiteGroupInfo, fields{"group": "LG", "topK": "10001"}, "", invalid, fields{"group": "LG", "topK": "10"}, ""},
		{"clientIDBytesMax", protocol.ReqHeartBeat, nil, beat(times("x", 1025), ""), invalid, nil, beat(times("x", 1024), "")},
		{"groupNameBytesMax", protocol.ReqHeartBeat, nil, beat("c", `{"groupName":"`+times("x", 256)+`"}`), invalid, nil, beat("c", `{"groupName":"`+times("x", 255)+`"}`)},
		{"clientGroupsMax", protocol.ReqHeartBeat, nil, beat("c", times("{},", 10_000)+"{}"), invalid, nil, beat("c", `{"groupName":"P"}`)},
		{"subscriptionBytesMax", protocol.ReqPullMessage, pullFields.with("subscription", times("x", 64<<10+1)), "", unparsed, pullFields, ""},
		{"nestingMax", protocol.ReqPullMessage, sql(times("(", 501) + "a IS NULL" + times(")", 501)), "", unparsed, sql(times("(", 400) + "a IS NULL" + times(")", 400)), ""},
		{"nodesMax", protocol.ReqPullMessage, sql("a" + times(" IS NULL", 4096)), "", unparsed, sql("a IS NULL"), ""},
		{"bodyCommasMax", protocol.ReqHeartBeat, nil, beat("c", times("{},", 1<<18+1)+"{}"), protocol.RespSystemError, nil, beat("c", "")},
		{"propertiesLinesMax", protocol.ReqUpdateBrokerConfig, nil, times("pollWaitMax=1000\n", 1001), invalid, nil, times("pollWaitMax=1000\n", 1000)},
		{"batchMessagesMax", protocol.ReqSendBatchMessage, batch, items(32769), protocol.RespMessageIllegal, batch, items(32768)},
	}
}

// A request that is too large by itself is refused in the same words, and one that is not is served over the same connection.
func TestWhatIsTooLargeSaysSo(t *testing.T) {
	n := startConfig(t, func() server.Config {
		c := lightConfig(vfs.NewMem())
		c.SegmentBytes, c.MessageBytesMax = 16<<20, 1<<20
		return c
	}())
	defer n.stop()
	n.liteParent("LT", "60")
	n.liteGroup("LG", "LT")
	n.send(sendFields, "first")
	for _, r := range requestsTooLarge() {
		n.run([]row{{r.limit, r.code, r.f, r.body, r.want, r.limit + "="}, {"within " + r.limit, r.code, r.less, r.smaller, 0, ""}})
	}
}

// otherLimits are those that other tests reach, as "file test", and those that none does, with the reason.
var otherLimits = map[string]string{
	"frameBytesMax":              "interop/go/hostile_test.go TestHostilePeersAreNotNoticed",
	"outBytesMax":                "remoting/server_test.go TestSlowReaderIsClosedOthersAreServed",
	"connectionBytesMax":         "remoting/memory_test.go TestTheConnectionsThatHoldTheMostAreClosed",
	"connectionsMax":             "remoting/server_test.go TestConnectionsMax",
	"idleTimeout":                "remoting/server_test.go TestIdleConnections",
	"firstBytesMax":              "remoting/accept_test.go TestFirstBytesMustCome",
	"proxyV2BytesMax":            "remoting/accept_test.go TestBadProxyHeaderCloses",
	"headerFieldsMax":            "protocol/json_test.go TestBadFramesAreRefused",
	"jsonDepthMax":               "protocol/json_test.go TestBadFramesAreRefused",
	"callsMax":                   "a million requests to one client that it does not answer",
	"pollWaitMax":                "broker/flows_test.go TestHeldPullEndsWithItsTime",
	"viewLagBytesMax":            "store/behind_test.go TestTheViewIsNeverFarBehindTheLog",
	"diskSpaceWarningLevelRatio": "broker/full_disk_test.go TestAFullDiskAnswersSendsWithServiceNotAvailable",
	"cgColdReadThreshold":        "broker/cold_test.go TestReadersOfColdDataAreThrottledAndOthersAreNot",
	"globalColdReadThreshold":    "broker/cold_test.go TestReadersOfColdDataAreThrottledAndOthersAreNot",
	"bytesMax":                   "broker/expression/table_test.go TestExpressionsHaveABound",
	"lmqNameMax":                 "broker/light_test.go TestWhatCannotBeDispatchedIsRefused",
	"batchBytesMax":              "store/commitlog/log_test.go TestTooLargeIsRefused",
	"brokersMax":                 "namesrv/limits_test.go TestTheTableIsBounded",
	"pairsMax":                   "namesrv/limits_test.go TestTheTableIsBounded",
	"registrationsBytesMax":      "namesrv/limits_test.go TestTheTableIsBounded",
	"nameBytesMax":               "namesrv/limits_test.go TestTheTableIsBounded",
	"registrationBytesMax":       "64 MiB of a registration, unpacked",
	"InnerMessagesMax":           "one less than batchMessagesMax, and in the same words",
	"offsetsMax":                 "four million commits",
	"locksMax":                   "a million locks",
	"heldPullsMax":               "a quarter of a million pulls; what they take of a connection is refused before, by requestBytesMax",
	"popsHeldMax":                "a hundred thousand pops, refused by popPollingMax before, in the same words",
}

func TestEveryLimitIsReached(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "LIMITS.md"))
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, f := range whatFillsUp() {
		left[f.limit] = true
	}
	for _, r := range requestsTooLarge() {
		left[r.limit] = true
	}
	for name, where := range otherLimits {
		left[name] = true
		file, test, ok := strings.Cut(where, " ")
		if !strings.HasSuffix(file, "_test.go") {
			continue // why it is not reached
		}
		source, err := os.ReadFile(filepath.Join("..", file))
		if !ok || err != nil || !strings.Contains(string(source), "func "+test+"(") {
			t.Errorf("%s: %s has no %s (%v)", name, file, test, err)
		}
	}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ") // option, unit, default, when, code; or constant, value, bounds, when, where
		if len(cells) != 5 || !strings.HasPrefix(cells[0], "| `") {
			continue
		}
		name := strings.Trim(cells[0], "| `")
		refused := regexp.MustCompile(`^[0-9]+( [A-Z]|,|$)|closed`)
		if !refused.MatchString(cells[3]) && !refused.MatchString(cells[4]) {
			continue
		}
		if !left[name] {
			t.Errorf("no test reaches %s", name)
		}
		delete(left, name)
	}
	for name := range left {
		t.Errorf("%s is not in docs/LIMITS.md, or nothing is refused there", name)
	}
}
