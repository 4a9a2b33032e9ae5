package namesrv

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

func compressed(parts ...any) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			_ = binary.Write(z, binary.BigEndian, int32(p))
		case string:
			_ = binary.Write(z, binary.BigEndian, int32(len(p)))
			_, _ = z.Write([]byte(p))
		}
	}
	_ = z.Close()
	return b.Bytes()
}

const version1 = `{"counter":1,"stateVersion":2,"timestamp":3}`

func TestCompressedRegistration(t *testing.T) {
	want := protocol.RegisterBrokerBody{Filters: []string{"f:1"}}
	want.Topics.DataVersion = protocol.DataVersion{StateVersion: 2, Timestamp: 3, Counter: 1}
	want.Topics.Topics = map[string]protocol.TopicConfig{
		"A": {TopicName: "A", ReadQueues: 4, WriteQueues: 3, Perm: 6, FilterType: "SINGLE_TAG"},
		"B": {TopicName: "B", ReadQueues: 1, WriteQueues: 1, Perm: 6, FilterType: "MULTI_TAG"},
	}
	before5 := []any{version1, 2, "A 4 3 6 SINGLE_TAG", `B 1 1 6 MULTI_TAG {"+message.type":"DE LAY"}`, `["f:1"]`}
	got, _, err := decodeRegistration(compressed(before5...), true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("from a 4.x broker: (-want +got)\n%s", diff)
	}
	want.Topics.Mapping = map[string]any{"B": map[string]any{"topic": "B", "bname": "a", "currIdMap": map[string]any{"0": 1.0}}}
	got, _, err = decodeRegistration(compressed(append(before5, 1, `{"topic":"B","bname":"a","currIdMap":{0:1}}`)...), true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("from a 5.x broker: (-want +got)\n%s", diff)
	}
}

func TestDamagedRegistrations(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing inside":         compressed(),
		"a length beyond":        compressed(1 << 30),
		"a negative length":      compressed(-1),
		"a count beyond":         compressed(version1, 1<<30),
		"a topic of four words":  compressed(version1, 1, "A 4 3 6", "[]"),
		"a topic without number": compressed(version1, 1, "A x 3 6 SINGLE_TAG", "[]"),
		"no filter servers":      compressed(version1, 0),
		"a cut stream":           compressed(version1, 0, "[]")[:20],
	} {
		if _, _, err := decodeRegistration(b, true); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzRegistration(f *testing.F) {
	f.Add(compressed(version1, 1, "A 4 3 6 SINGLE_TAG", "[]", 0), true)
	f.Add([]byte(`{"topicConfigSerializeWrapper":{"topicConfigTable":{}}}`), false)
	f.Fuzz(func(t *testing.T, b []byte, isCompressed bool) { _, _, _ = decodeRegistration(b, isCompressed) })
}

func TestAConnectionThatEndsDuringItsRegistration(t *testing.T) {
	h := newHarness(t, nil)
	h.conn(100).end()
	h.registerRemote(t, "b", 0, "b-0", 0, "Orders", "Two")
	if got := h.state(); got != "" {
		t.Errorf("still there: %s", got)
	}
}

func TestEveryCodeHasOneRow(t *testing.T) {
	h := newHarness(t, nil)
	var codes []int
	for _, r := range h.Routes() {
		codes = append(codes, int(r.Code))
	}
	want := []int{100, 101, 102, 103, 104, 105, 106, 205, 206, 216, 217, 219, 224, 304, 311, 312, 313, 318, 319, 322, 327, 901, 904}
	if !slices.Equal(codes, want) {
		t.Errorf("got %v, want %v", codes, want)
	}
}

func TestRoutesAreKeptWhileTheyHold(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.OrderMessageEnable = true })
	h.registerRemote(t, "b", 0, "b-0", 0, "Orders", "Two")
	route := func() []byte {
		return h.ask(t, h.conn(0), protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: "Orders"})
	}
	first := route()
	h.registerRemote(t, "b", 0, "b-0", 0, "Orders", "Two") // nothing new
	if &first[0] != &route()[0] {
		t.Error("computed again though nothing changed")
	}
	for name, change := range map[string]func(){
		"another broker": func() { h.registerRemote(t, "c", 0, "c-0", 0, "Orders", "Two") },
		"order":          func() { _, _ = h.serve(t, put(orderNamespace, "Orders", "b:4"), nil) },
		"permission": func() {
			h.ask(t, nil, protocol.ReqWipeWritePermOfBroker, &protocol.BrokerHeader{BrokerName: "b"})
		},
		"a local broker": func() { withLocal(t, h, newFakeBroker("Orders"), nil) },
	} {
		before := route()
		change()
		if bytes.Equal(before, route()) {
			t.Errorf("%s: the old answer", name)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	for name, local := range map[string]bool{"registered": false, "local": true} {
		b.Run(name, func(b *testing.B) {
			t := &testing.T{}
			h := newHarness(t, nil)
			if local {
				withLocal(t, h, newFakeBroker("Orders", "Two"), nil)
			} else {
				h.registerRemote(t, "b", 0, "10.0.0.1:10911", 0, "Orders", "Two")
			}
			cmd := protocol.NewRequest(protocol.ReqGetRouteInfoByTopic, &protocol.RouteHeader{Topic: "Orders"})
			c := &call{Request: &remoting.Request{Command: *cmd}, peer: h.conn(0), now: h.now}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.routeInfo(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
