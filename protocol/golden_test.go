package protocol

import (
	"bufio"
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readGolden returns the recorded frames by sender and what they are.
func readGolden(t testing.TB) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/apache/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	frames := map[string][]byte{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		parts := strings.SplitN(s.Text(), " ", 3)
		text, err := strconv.Unquote(parts[2])
		if err != nil {
			t.Fatalf("%s %s: %v", parts[0], parts[1], err)
		}
		frames[parts[0]+" "+parts[1]] = []byte(text)
	}
	return frames
}

// meaning is what a command says, in whichever order and serialisation.
type meaning struct {
	Code, Version, Opaque, Flag int32
	Language, Remark, Body      string
	Fields                      []string
}

func meaningOf(c *Command) meaning {
	m := meaning{c.Code, c.Version, c.Opaque, c.Flag, c.Language.String(), string(c.Remark), string(c.Body), nil}
	for _, f := range c.Fields {
		m.Fields = append(m.Fields, string(f.Key)+"="+string(f.Value))
	}
	slices.Sort(m.Fields)
	return m
}

func mustDecode(t testing.TB, frame []byte) *Command {
	t.Helper()
	size, err := FrameSize(frame, DefaultFrameBytesMax)
	if err != nil || size != len(frame) {
		t.Fatalf("size %d of a frame of %d: %v", size, len(frame), err)
	}
	c := new(Command)
	if err := Decode(frame, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGoldenFramesSurviveBothSerialisations(t *testing.T) {
	for name, frame := range readGolden(t) {
		t.Run(name, func(t *testing.T) {
			before := bytes.Clone(frame)
			c := mustDecode(t, frame)
			want := meaningOf(c)
			if binary := strings.Contains(name, "-binary "); binary != (c.Serialize == SerializeBinary) {
				t.Errorf("serialisation %d", c.Serialize)
			}
			if response := strings.Contains(name, "response"); response != c.IsResponse() {
				t.Errorf("flag %d", c.Flag)
			}
			if oneWay := strings.Contains(name, "oneway"); oneWay != c.IsOneWay() {
				t.Errorf("flag %d", c.Flag)
			}
			for _, s := range []Serialization{SerializeJSON, SerializeBinary} {
				c.Serialize = s
				again := mustDecode(t, AppendFrame([]byte("prefix"), c, 0)[len("prefix"):])
				if diff := cmp.Diff(want, meaningOf(again)); diff != "" {
					t.Errorf("serialisation %d: (-recorded +again)\n%s", s, diff)
				}
			}
			if !bytes.Equal(frame, before) {
				t.Error("decoding changed the frame")
			}
		})
	}
}

// The JSON frames of the Java client come back byte for byte.
func TestJSONFramesAreWrittenAsJavaWritesThem(t *testing.T) {
	for name, frame := range readGolden(t) {
		if !strings.HasPrefix(name, "java-json") || strings.Contains(name, "heartbeat") || strings.Contains(name, "lock") {
			continue // those have empty extFields, which we leave out
		}
		if got := AppendFrame(nil, mustDecode(t, frame), 0); !bytes.Equal(got, frame) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, frame)
		}
	}
}

func TestGoldenHeaders(t *testing.T) {
	frames := readGolden(t)
	sent := SendHeader{
		ProducerGroup: "golden_producer", Topic: "GoldenTopic", DefaultTopic: "TBW102", DefaultTopicQueues: 4, QueueID: 0, BornTime: 1795257235949,
		Flag: 7, BrokerName: "broker-a", Short: true,
		Properties: "KEYS\x01key1 key2\x02UNIQ_KEY\x01FD0000000000000000000000000000023E1F30946E09694391ED0000\x02WAIT\x01true\x02" +
			"user\x01café 中文 🚀 \"q\\uote\"\x02TAGS\x01TagA\x02",
	}
	for _, g := range []struct {
		frame     string
		got, want Header
	}{
		{"java-json sendV2-request", &SendHeader{Short: true}, &sent},
		{"apache-json sendV2-response-0", &SendResult{}, &SendResult{
			MsgID: "7F00000100002A9F0000000000000000", TransactionID: "FD0000000000000000000000000000023E1F30946E09694391ED0000",
		}},
		{"apache-json sendBatch-response-0", &SendResult{}, &SendResult{
			MsgID:   "7F00000100002A9F000000000000012E,7F00000100002A9F00000000000001FC,7F00000100002A9F00000000000002CA",
			QueueID: 2, TransactionID: "FD0000000000000000000000000000023E1F30946E09694393240005", // the batch's own, and no batchUniqId
		}},
		{"java-json pull-request", &PullHeader{}, &PullHeader{
			Group: "golden_group", Topic: "GoldenTopic", MaxMessages: 32, SysFlag: PullSuspend, SuspendMS: 15000,
			SubVersion: 1795257237383, ExpressionType: ExpressionTag, MaxBytes: 1 << 18,
		}},
		{"apache-json pull-response-20", &PullResult{}, &PullResult{NextOffset: 2, MaxOffset: 2}},
		{"apache-binary queryOffset-response-0", &OffsetResult{}, &OffsetResult{Offset: 4}},
		{"java-json updateOffset-oneway", &ConsumerOffsetHeader{Update: true}, &ConsumerOffsetHeader{
			Group: "golden_group", Topic: "GoldenTopic", CommitOffset: 2, Update: true,
		}},
		{"apache-json heartbeat-response-0", &HeartbeatResult{}, &HeartbeatResult{SupportsV2: true, SubscriptionChanged: true}},
		{"apache-json notifyConsumerIdsChanged-oneway", &GroupHeader{}, &GroupHeader{Group: "golden_group"}},
		{"java-json route-request", &RouteHeader{}, &RouteHeader{Topic: "GoldenTopic"}},
		{"java-json unregisterClient-request", &UnregisterClientHeader{}, &UnregisterClientHeader{
			ClientID: "192.168.7.1@golden", ConsumerGroup: "golden_group",
		}},
		{"mqadmin-json createTopic-request", &CreateTopicHeader{}, &CreateTopicHeader{
			Topic: "GoldenMade", DefaultTopic: "TBW102", ReadQueues: 4, WriteQueues: 6, Perm: 6, FilterType: FilterTypeSingleTag,
		}},
	} {
		t.Run(g.frame, func(t *testing.T) {
			if err := DecodeHeader(mustDecode(t, frames[g.frame]).Fields, g.got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.want, g.got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestGoldenBodies(t *testing.T) {
	frames := readGolden(t)
	decode := func(name string, into any) {
		t.Helper()
		if err := UnmarshalBody(mustDecode(t, frames[name]).Body, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	check := func(name string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
	consumer := func(group string, subscriptions ...SubscriptionData) ConsumerData {
		return ConsumerData{Group: group, ConsumeType: ConsumePassively, Model: ModelClustering, FromWhere: FromFirstOffset, Subscriptions: subscriptions}
	}
	subscription := func(topic, expression string, version int64, tags []string, codes TagCodes) SubscriptionData {
		return SubscriptionData{Topic: topic, Expression: expression, Version: version, Type: ExpressionTag, Tags: tags, Codes: codes}
	}
	var java, goes Heartbeat
	decode("java-json heartbeat-request", &java)
	check("java heartbeat", java, Heartbeat{
		ClientID: "192.168.7.1@golden", Producers: []ProducerData{{"CLIENT_INNER_PRODUCER"}, {"golden_producer"}},
		Consumers: []ConsumerData{consumer("golden_group",
			subscription("%RETRY%golden_group", "*", 1795257236485, []string{}, TagCodes{}),
			subscription("GoldenTopic", "TagA || 中文 || *x", 1795257236460, []string{"TagA", "中文", "*x"}, TagCodes{2598919, 646394, 1422}))},
	})
	decode("go-json heartbeat-request", &goes) // its hash of 中文 is not Java's
	check("go heartbeat", goes, Heartbeat{
		ClientID: "192.0.2.2@golden0", Producers: []ProducerData{},
		Consumers: []ConsumerData{consumer("golden_go_false",
			subscription("%RETRY%golden_go_false", "*", 1795257335665831577, []string{}, TagCodes{}),
			subscription("GoldenTopic", "TagA || 中文", 1795257335665792905, []string{"TagA", "中文"}, TagCodes{-1887180642, 2598919}))},
	})
	var lock LockBatchBody
	var locked LockBatchResult
	var list ConsumerList
	queue := MessageQueue{Topic: "GoldenTopic", BrokerName: "broker-a"}
	decode("java-json lock-request", &lock)
	check("lock", lock, LockBatchBody{Group: "golden_orderly", ClientID: "192.168.7.1@orderly", Queues: []MessageQueue{queue}})
	decode("apache-json lock-response-0", &locked)
	check("locked", locked, LockBatchResult{Locked: []MessageQueue{queue}})
	decode("apache-json consumerList-response-0", &list)
	check("consumers", list, ConsumerList{IDs: []string{"192.168.7.1@golden"}})
	var route TopicRoute
	decode("apache-json route-response-0", &route)
	check("route brokers", route.Brokers, []BrokerData{{Cluster: "DefaultCluster", BrokerName: "broker-a", Addrs: map[int64]string{0: "127.0.0.1:10911"}}})
	var registered RegisterBrokerBody
	decode("java-binary registerBroker-request", &registered)
	got := registered.Topics.Topics["GoldenTopic"]
	got.Attributes = nil
	check("registered topic", got, TopicConfig{TopicName: "GoldenTopic", ReadQueues: 4, WriteQueues: 4, Perm: 6, FilterType: FilterTypeSingleTag})
}
