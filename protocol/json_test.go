package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// quirks are headers of clients that do not write JSON as Java does.
var quirks = []struct{ name, header, field, remark string }{
	{"spaces", "{ \"code\" : 10 ,\n\"extFields\" : { \"a\" : \"x y\" , \"b\":\"\"\t} , \"flag\" : 0 }", "x y", ""},
	{"numbers and booleans", `{"code":10,"extFields":{"a":17,"c":true}}`, "17", ""},
	{"nulls", `{"code":10,"extFields":{"n":null,"a":"v","m" : null},"remark":null,"version":null}`, "v", ""},
	{"no fields", `{"code":10,"extFields":null}`, "", ""},
	{"words that begin as null", `{"code":10,"extFields":{"a":nullable}}`, "nullable", ""},
	{"single quotes", `{'code':10,'extFields':{'a':'it"s'}}`, `it"s`, ""},
	{"escapes", `{"code":10,"extFields":{"a":"\u0001\u0002\n\t\r\b\f\/\\\"\u00e9\ud83d\ude80"},"remark":"a\u0001b"}`, "\x01\x02\n\t\r\b\f/\\\"é🚀", "a\x01b"},
	{"fastjson's escapes", `{"code":10,"extFields":{"a":"\x01\0\7\v\F"}}`, "\x01\x00\x07\x0b\x0c", ""},
	{"half a pair", `{"code":10,"extFields":{"a":"\ud83d\u0001x\ude80\ud83d"}}`, "\uFFFD\x01x\uFFFD\uFFFD", ""},
	{"an escaped key", `{"code":10,"extFields":{"\u0061":"v"}}`, "v", ""},
	{"unknown keys", `{"x":[1,{"y":[]},"]"],"code":10,"z":{},"extFields":{"a":"v"}}`, "v", ""},
	{"UTF-8", `{"code":10,"extFields":{"a":"日本"},"remark":"ü"}`, "日本", "ü"},
}

// Java writes a code's low 16 bits into a binary header.
func TestCutCodesOfPopRequestsAreMadeWhole(t *testing.T) {
	for code, want := range map[int16]RequestCode{3442: ReqPopMessage, 3447: ReqPollingInfo, 3543: ReqBatchAckMessage, 36: 36, 3010: 3010, 3441: 3441, 3544: 3544} {
		frame := AppendFrame(nil, &Command{Code: int32(code), Serialize: SerializeBinary}, 0)
		var c Command
		if err := Decode(frame, &c); err != nil || c.Code != int32(want) {
			t.Errorf("code %d: %d, %v, want %d", code, c.Code, err, want)
		}
	}
}

func TestHeadersOfOtherClientsAreRead(t *testing.T) {
	for _, q := range quirks {
		t.Run(q.name, func(t *testing.T) {
			var c Command
			if err := Decode(frameOf(q.header, SerializeJSON, nil), &c); err != nil {
				t.Fatal(err)
			}
			a, _ := c.Fields.Get("a")
			if c.Code != 10 || string(a) != q.field || string(c.Remark) != q.remark {
				t.Errorf("code %d, a=%q, remark %q; want 10, %q, %q", c.Code, a, c.Remark, q.field, q.remark)
			}
			for _, name := range []string{"n", "m"} {
				if v, ok := c.Fields.Get(name); ok {
					t.Errorf("a null became %q", v)
				}
			}
		})
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	many := strings.Repeat(`"k":"v",`, headerFieldsMax) + `"k":"v"`
	var fields Fields
	for range headerFieldsMax + 1 {
		fields.Add("k", "v")
	}
	for name, frame := range map[string][]byte{
		"header longer than the frame": {0, 0, 0, 4, 0, 0, 1, 0},
		"too short":                    {0, 0, 0, 3, 0, 0, 0},
		"unknown serialisation":        frameOf("{}", 2, nil),
		"no object":                    frameOf("[]", SerializeJSON, nil),
		"open object":                  frameOf(`{"code":10`, SerializeJSON, nil),
		"open string":                  frameOf(`{"code":10,"remark":"abc`, SerializeJSON, nil),
		"open escape":                  frameOf(`{"remark":"\u00`, SerializeJSON, nil),
		"bad escape":                   frameOf(`{"remark":"\u00zz"}`, SerializeJSON, nil),
		"code of text":                 frameOf(`{"code":"x"}`, SerializeJSON, nil),
		"code too large":               frameOf(`{"code":2147483648}`, SerializeJSON, nil),
		"deep nesting":                 frameOf(`{"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+"}", SerializeJSON, nil),
		"an object as a field":         frameOf(`{"extFields":{"a":{}}}`, SerializeJSON, nil),
		"too many fields":              frameOf(`{"extFields":{`+many+"}}", SerializeJSON, nil),
		"too many binary fields":       frameOf(string(appendBinaryHeader(nil, &Command{Fields: fields})), SerializeBinary, nil),
		"binary remark too long":       frameOf("\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00", SerializeBinary, nil),
		"binary field too long":        frameOf("\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x01a\xff\xff\xff\xff", SerializeBinary, nil),
	} {
		if err := Decode(frame, new(Command)); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v, want ErrFrame", name, err)
		}
	}
	for length, want := range map[int32]error{-1: ErrFrame, 3: ErrFrame, 1<<24 + 1: ErrFrameTooLarge} {
		b := []byte{byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}
		if _, err := FrameSize(b, DefaultFrameBytesMax); !errors.Is(err, want) {
			t.Errorf("length %d: %v, want %v", length, err, want)
		}
	}
}

// A command that is decoded into again must not lose what the first header gave, as long as it was copied before.
func TestDecodeReusesItsMemory(t *testing.T) {
	frame := frameOf(javaSend, SerializeJSON, nil)
	var c Command
	if n := testing.AllocsPerRun(100, func() {
		if err := Decode(frame, &c); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if properties, _ := c.Fields.Get("i"); !bytes.HasSuffix(properties, []byte("\x02TAGS\x01TagA\x02")) {
		t.Errorf("properties %q", properties)
	}
	large := frameOf(`{"extFields":{"a":"`+strings.Repeat(`\u0001`, 100_000)+`"}}`, SerializeJSON, nil)
	if err := Decode(large, &c); err != nil || len(c.Fields[0].Value) != 100_000 {
		t.Fatal(len(c.Fields[0].Value), err)
	}
	if err := Decode(frame, &c); err != nil || cap(c.unescaped) > unescapedBytesKept {
		t.Fatal(cap(c.unescaped), err)
	}
}

func TestLongRemarksAreCut(t *testing.T) {
	for _, s := range []Serialization{SerializeJSON, SerializeBinary} {
		c := Command{Flag: FlagResponse, Serialize: s, Remark: bytes.Repeat([]byte{1}, 1<<24)}
		if got := mustDecode(t, AppendFrame(nil, &c, 0)); len(got.Remark) != remarkBytesMax {
			t.Errorf("serialisation %d: remark of %d bytes", s, len(got.Remark))
		}
	}
}

func TestCodesBeyondBinaryGoAsJSON(t *testing.T) {
	c := NewRequest(ReqPopMessage, nil)
	c.Serialize = SerializeBinary
	if got := mustDecode(t, AppendFrame(nil, c, 0)); got.Serialize != SerializeJSON || got.Code != int32(ReqPopMessage) {
		t.Errorf("serialisation %d, code %d", got.Serialize, got.Code)
	}
}

func TestAppendedStringsAreJSON(t *testing.T) {
	all := make([]byte, 0, 1024)
	for c := range 256 {
		all = append(all, byte(c), 'x')
	}
	for _, s := range []string{"", "plain", `"\`, "\x00\x1f", "é日🚀", "\xff\xfe", "a\xe6\x97", string(all), "\ufffd"} {
		var back string
		b := AppendJSONString(nil, s)
		if err := json.Unmarshal(b, &back); err != nil {
			t.Errorf("%q became %s: %v", s, b, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && back != want {
			t.Errorf("%q came back as %q", s, back)
		}
		if string(AppendJSONString(nil, []byte(s))) != string(b) {
			t.Errorf("%q: text and bytes differ", s)
		}
	}
}

// dialect are bodies in fastjson's own form.
var dialect = []struct{ in, out string }{
	{`{0:"a",1:"b"}`, `{"0":"a","1":"b"}`},
	{`{"t":{{"brokerName":"b","queueId":0}:{"min":1}}}`, `{"t":{"{\"brokerName\":\"b\",\"queueId\":0}":{"min":1}}}`},
	{`{'a':'b"c',d:e}`, `{"a":"b\"c","d":"e"}`},
	{`[1,2.5,true,null,]`, `[1,2.5,true,null]`},
	{"{\"a\":\"\\x01\"}\x00\x00", `{"a":"\u0001"}`},
	{`{"a":1,}`, `{"a":1}`},
	{` [ ] `, `[]`},
}

func TestDialectBecomesStandard(t *testing.T) {
	for _, d := range dialect {
		got, err := StandardJSON([]byte(d.in))
		if err != nil || string(got) != d.out {
			t.Errorf("%s: %s, %v; want %s", d.in, got, err, d.out)
		}
	}
	for _, in := range []string{"", "{", "[1", `{"a"}`, `{"a":1}x`, "{}\x00{}", strings.Repeat("[", 99), `{,}`} {
		if got, err := StandardJSON([]byte(in)); err == nil {
			t.Errorf("%q became %s", in, got)
		}
	}
}

func TestResponseBuilderWritesWhatAppendFrameReads(t *testing.T) {
	for _, s := range []Serialization{SerializeJSON, SerializeBinary} {
		dst := append(make([]byte, 0, 1024), "before"...)
		if n := testing.AllocsPerRun(100, func() { appendSendAnswer(dst, s, []byte("id"), []byte("k\x01\"")) }); n != 0 {
			t.Errorf("serialisation %d: %v allocations", s, n)
		}
		c := mustDecode(t, appendSendAnswer(dst, s, []byte("id"), []byte("k\x01\""))[len("before"):])
		var got SendResult
		if err := DecodeHeader(c.Fields, &got); err != nil {
			t.Fatal(err)
		}
		want := SendResult{MsgID: "id", TransactionID: "k\x01\"", QueueID: 3, QueueOffset: 123456789}
		if diff := cmp.Diff(want, got); diff != "" || c.Opaque != 77 || !c.IsResponse() || c.Version != Version || c.Language != LanguageGo {
			t.Errorf("%+v: %s", c, diff)
		}
	}
}

func TestHeadersNameWhatIsWrong(t *testing.T) {
	fields := func(pairs ...string) (f Fields) {
		for i := 0; i < len(pairs); i += 2 {
			f.Add(pairs[i], pairs[i+1])
		}
		return f
	}
	for _, c := range []struct {
		fields Fields
		h      Header
		want   string
	}{
		{fields("topic", "T"), &QueueHeader{}, "the custom field <queueId> is null"},
		{fields("topic", "T", "queueId", "x"), &QueueHeader{}, `the custom field <queueId> is not an int: "x"`},
		{fields("topic", "T", "queueId", "2147483648"), &QueueHeader{}, `the custom field <queueId> is not an int: "2147483648"`},
		{fields("topic", "T", "queueId", "1", "timestamp", "1e3"), &QueueHeader{}, `the custom field <timestamp> is not a long: "1e3"`},
		{fields(), &TopicHeader{}, "the custom field <topic> is null"},
	} {
		code, remark := CodeOf(DecodeHeader(c.fields, c.h))
		if code != RespSystemError || remark != c.want {
			t.Errorf("%T: %s, %q; want %q", c.h, code, remark, c.want)
		}
	}
}

func TestEveryCodeHasRocketMQsName(t *testing.T) {
	if s := fmt.Sprint(ReqSendMessageV2, RespSlaveNotAvailable, RequestCode(-5)); s != "SEND_MESSAGE_V2 SLAVE_NOT_AVAILABLE -5" {
		t.Error(s)
	}
	if LanguageOf([]byte("RUST")).String() != "RUST" || LanguageOf([]byte("COBOL")) != LanguageOther || Language(200).String() != "OTHER" {
		t.Error("languages")
	}
}
