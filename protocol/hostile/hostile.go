package hostile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/protocol"
)

// Missing as a field's value leaves the field out.
const Missing = "-"

// values are put into every field that any request has, one at a time.
var values = []string{
	Missing, "", "-1", "2147483647", "2147483648", "-2147483648", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
	"no number", "\x00\x01\x02", "%RETRY%", "{{{{", strings.Repeat("x", 70_000),
}

// bodies are put into every request.
var bodies = []string{
	"", "\x00", "{", "[", "[]", "{}", "null", "0", `"text"`, "{\"a\":", "=", "=\n=\n", "\xff\xfe\xfd",
	strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), strings.Repeat("{{", 50_000), strings.Repeat("0,", 300_000),
	"[" + strings.Repeat("0,", 200_000) + "0]", strings.Repeat("a=b\n", 100_000),
	`{"consumerDataSet":[null,{"subscriptionDataSet":[null]}],"producerDataSet":[null]}`,
	`{"clientID":-1,"mqSet":[{"queueId":99999999999}]}`, `{"mqSet":null,"topicConfigList":[null,{}],"groupConfigList":[null,{},1]}`,
	`{"topicConfigSerializeWrapper":{"topicConfigTable":{"T":null,"":{}}},"filterServerList":[null]}`, `{"queueDatas":[null,{"brokerName":null}],"brokerDatas":[null]}`,
	"\x7f\xff\xff\xff" + strings.Repeat("\xff", 40), "\x00\x00\x00\x17" + strings.Repeat("\xff", 40),
}

// statusCodes are no refusals.
var statusCodes = []protocol.ResponseCode{
	protocol.RespSuccess, protocol.RespPullNotFound, protocol.RespPullRetryImmediately, protocol.RespPullOffsetMoved, protocol.RespQueryNotFound,
	protocol.RespPollingTimeout, protocol.RespPollingFull,
}

// Request is what Check makes hostile; as it stands it need not succeed.
type Request struct {
	Code    protocol.RequestCode
	Fields  map[string]string
	Body    string
	Refused bool // whatever it says, so that a refusal need not name what is hostile in it
}

// Command is the request itself.
func (r *Request) Command() *protocol.Command {
	c := protocol.NewRequest(r.Code, nil)
	for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
		c.Fields.Add(name, r.Fields[name])
	}
	c.Body = []byte(r.Body)
	return c
}

// Check sends the request with each hostile value in each of its fields, with some in each other field of names, and with each hostile
// body. Each must be answered, and a refusal must have one of RocketMQ's codes and a remark, which names the field or its value.
func Check(t testing.TB, r Request, names []string, ask func(*protocol.Command) (*protocol.Command, error)) {
	t.Helper()
	for _, name := range names {
		_, given := r.Fields[name]
		for i, value := range values {
			if !given && i%4 != 2 { // nearly always a field that the request does not have
				continue
			}
			one := r
			one.Fields = maps.Clone(r.Fields)
			if value == Missing {
				delete(one.Fields, name)
			} else if one.Fields == nil {
				one.Fields = map[string]string{name: value}
			} else {
				one.Fields[name] = value
			}
			c := one.Command()
			if i%2 == 1 {
				c.Serialize = protocol.SerializeBinary
			}
			answer, err := ask(c)
			check(t, r, name, value, answer, err)
		}
	}
	for _, body := range bodies {
		one := r
		one.Body = body
		answer, err := ask(one.Command())
		check(t, r, "body", body, answer, err)
	}
}

func check(t testing.TB, r Request, name, value string, answer *protocol.Command, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s with %s=%.40q: %v", r.Code, name, value, err)
	}
	code, remark := protocol.ResponseCode(answer.Code), string(answer.Remark)
	if slices.Contains(statusCodes, code) {
		return
	}
	if !code.Known() || remark == "" {
		t.Errorf("%s with %s=%.40q: code %s, remark %q", r.Code, name, value, code, remark)
	}
	if !r.Refused && name != "body" && !says(remark, name, value) {
		t.Errorf("%s with %s=%.40q: %s %q does not say so", r.Code, name, value, code, remark)
	}
}

// says tells whether a remark names a field, or quotes what it held. A missing one may be quoted as empty, or named in full where the
// request has a letter for it.
func says(remark, name, value string) bool {
	if strings.Contains(remark, name) {
		return true
	}
	if value == Missing {
		return strings.Contains(remark, "> is null") || strings.Contains(remark, "[]") || strings.Contains(remark, "<>")
	}
	return strings.Contains(remark, strings.TrimLeft(value[:min(len(value), 20)], "-")) || strings.Contains(remark, fmt.Sprintf("%.20q", value))
}
