package namesrv

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// The recordings hold requests and what Apache RocketMQ's name server answered. They are replayed in order.

func TestAnswersAreApaches(t *testing.T) {
	replay(t, "testdata/apache/requests.txt", func(c *Config) { c.OrderMessageEnable = true })
}

func TestActingMasterIsApaches(t *testing.T) {
	replay(t, "testdata/apache/acting_master.txt", func(c *Config) { c.SupportActingMaster, c.NotifyMinBrokerIDChanged = true, true })
}

func replay(t *testing.T, path string, configure func(*Config)) {
	n := newHarness(t, configure)
	runTranscript(t, path, false, func(t *testing.T, d *step) string {
		var got string
		switch d.cmd {
		case "request":
			got = n.replayRequest(t, d)
		case "close":
			var conn int
			d.mustArg(t, "conn", &conn)
			n.conn(conn).end()
			delete(n.conns, conn)
		case "pushes":
			got = n.takePushes()
		default:
			d.fatalf(t, "unknown command %q", d.cmd)
		}
		want := expected(d.expected)
		if diff := cmp.Diff(normal(t, want), normal(t, got)); diff != "" {
			t.Errorf("%s: %s: (-Apache +Apogee)\n%s", d.at, d.cmd, diff)
		}
		return d.expected
	})
}

func (n *harness) replayRequest(t *testing.T, d *step) string {
	t.Helper()
	var code, conn, version int
	d.mustArg(t, "code", &code)
	d.mustArg(t, "conn", &conn)
	d.mustArg(t, "version", &version)
	cmd := &protocol.Command{Code: int32(code), Version: int32(version)}
	for line := range strings.Lines(d.input) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch kind {
		case "field":
			k, v, _ := strings.Cut(rest, "=")
			cmd.Fields.Add(k, v)
		case "body":
			cmd.Body = []byte(unquoted(rest))
		case "bodyhex":
			var err error
			if cmd.Body, err = hex.DecodeString(rest); err != nil {
				d.fatalf(t, "%v", err)
			}
		}
	}
	return describe(n.serve(t, cmd, n.conn(conn)))
}

func unquoted(s string) string {
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return s
}

// describe writes an answer as the recordings do.
func describe(r *remoting.Response, err error) string {
	var b strings.Builder
	if err != nil {
		code, remark := protocol.CodeOf(err)
		fmt.Fprintf(&b, "code %d\nremark %s\n", code, strconv.Quote(remark))
		return b.String()
	}
	fmt.Fprintf(&b, "code %d\n", r.Code)
	var fields []string
	for _, f := range r.Fields {
		fields = append(fields, fmt.Sprintf("field %s=%s\n", f.Key, f.Value))
	}
	slices.Sort(fields)
	b.WriteString(strings.Join(fields, ""))
	if len(r.Body) > 0 {
		body := string(r.Body)
		if strings.Contains(body, "\n") {
			body = strconv.Quote(body)
		}
		fmt.Fprintf(&b, "body %s\n", body)
	}
	return b.String()
}

// expected applies the lines that say where Apogee differs.
func expected(recorded string) string {
	lines := strings.Split(strings.TrimSuffix(recorded, "\n"), "\n")
	replaced := map[string]bool{}
	var ours []string
	for _, l := range lines {
		if l, ok := strings.CutPrefix(l, "apogee "); ok {
			replaced[strings.Fields(l)[0]] = true
			ours = append(ours, l)
		}
	}
	lines = slices.DeleteFunc(lines, func(l string) bool {
		return l == "" || strings.HasPrefix(l, "apogee ") || replaced[strings.Fields(l)[0]]
	})
	lines = append(lines, ours...)
	if slices.Contains(lines, "code 1") || slices.Contains(lines, "code 29") {
		lines = slices.DeleteFunc(lines, func(l string) bool { // a refusal carries nothing else
			return !strings.HasPrefix(l, "code ") && !strings.HasPrefix(l, "remark ")
		})
	}
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == `remark ""` }), "\n") + "\n"
}

// normal takes out what is not meant: the order of lines and of sets, remarks after "...", thread pools in the configuration.
func normal(t *testing.T, answer string) []any {
	var all []any
	for line := range strings.Lines(answer) {
		line = strings.TrimSuffix(line, "\n")
		body, isBody := strings.CutPrefix(line, "body ")
		switch {
		case line == "" || line == "none":
		case isBody && strings.HasPrefix(body, `"`):
			all = append(all, knownOptions(unquoted(body)))
		case isBody:
			all = append(all, normalJSON(t, body))
		case strings.HasPrefix(line, "remark "):
			remark := strings.TrimPrefix(line, "remark ")
			for _, prefix := range []string{`"cannot read the registration: `, `"option waitSecondsForService: `, `"option madeUp: `} {
				if strings.HasPrefix(remark, prefix) {
					remark = prefix
				}
			}
			all = append(all, "remark "+unquoted(remark))
		default:
			all = append(all, line)
		}
	}
	slices.SortStableFunc(all, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return all
}

func knownOptions(s string) string {
	all := parseProperties(s)
	return formatProperties(slices.DeleteFunc(all, func(o setting) bool { return !slices.Contains(PropertyNames(), o.name) }))
}

func normalJSON(t *testing.T, s string) any {
	t.Helper()
	b, err := protocol.StandardJSON([]byte(s))
	if err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return withoutOrder(v)
}

func withoutOrder(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "topicSynFlag") // what Apogee adds
		for k := range v {
			v[k] = withoutOrder(v[k])
		}
	case []any:
		for i := range v {
			v[i] = withoutOrder(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return strings.Compare(orderKey(a), orderKey(b)) })
	}
	return v
}

func orderKey(v any) string {
	if m, ok := v.(map[string]any); ok {
		return fmt.Sprint(m["brokerName"])
	}
	return fmt.Sprint(v)
}
