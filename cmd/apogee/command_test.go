package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/bench"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// execute runs a command line and returns what it prints.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRootCommand()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetIn(strings.NewReader(""))
	root.SetArgs(args)
	err := runRoot(context.Background(), root)
	return out.String(), err
}

// nowhere is an address on which nothing listens.
const nowhere = "127.0.0.1:1"

func TestErrorsNameTheValueAndTheRemedy(t *testing.T) {
	for _, c := range []struct {
		args string
		want []string
	}{
		{"topic list --namesrv " + nowhere, []string{"cannot reach name server " + nowhere, "apogee start", "--namesrv"}},
		{"topic list --namesrv somewhere", []string{`"somewhere" has no port`, "somewhere:9876"}},
		{"topic create a|b&c --namesrv " + nowhere, []string{`'&'`, `topic: a|b&c`}},
		{"topic create T --perm x --namesrv " + nowhere, []string{`--perm "x"`, "r, w or rw"}},
		{"topic create T --queues 0 --namesrv " + nowhere, []string{"0 queues", "1 to"}},
		{"topic create TBW102 --namesrv " + nowhere, []string{`"TBW102"`, "system"}},
		{"topic create T --broker a --cluster b", []string{"broker", "cluster"}},
		{"topic describe", []string{"takes one topic", "got 0"}},
		{"produce", []string{"needs a topic"}},
		{"produce T --count 0 --namesrv " + nowhere, []string{"--count 0"}},
		{"produce T x --property a --namesrv " + nowhere, []string{`--property "a"`, "name=value"}},
		{"produce T x --delay-level 19 --namesrv " + nowhere, []string{"--delay-level 19", "1 to 18"}},
		{"produce T x --delay-level 1 --batch 2 --namesrv " + nowhere, []string{"cannot be delayed"}},
		{"produce T x --delay 1s --batch 2 --namesrv " + nowhere, []string{"--batch and --delay: a batch cannot be delayed"}},
		{"produce T x --delay 1s --delay-level 2 --namesrv " + nowhere, []string{"--delay-level and --delay: want one of them"}},
		{"produce T x --delay 1us --namesrv " + nowhere, []string{"--delay 1µs: want a millisecond or more"}},
		{"produce T x --deliver-at soon --namesrv " + nowhere, []string{`--deliver-at "soon": want a time`}},
		{"message recall T x --namesrv " + nowhere, []string{`recall handle is invalid: "x"`}},
		{"consume T --commit --namesrv " + nowhere, []string{"--commit needs --group"}},
		{"consume T --max -1 --namesrv " + nowhere, []string{"--max -1"}},
		{"consume T --group g&h --namesrv " + nowhere, []string{`group: g&h`}},
		{"bench send --header xml --broker " + nowhere, []string{`--header "xml"`, "binary or json"}},
		{"bench send --warmup soon --broker " + nowhere, []string{`"soon"`, "until-stable"}},
		{"bench send --broker " + nowhere, []string{"cannot reach " + nowhere}},
		{"bench drain --pull-max 0 --broker " + nowhere, []string{"--pull-max 0"}},
		{"bench e2e --rate 0 --broker " + nowhere, []string{"--rate 0"}},
		{"bench e2e --size 8 --broker " + nowhere, []string{"--size 8"}},
		{"bench e2e --warmup until-stable --broker " + nowhere, []string{"the rate is fixed"}},
		{"nonsense", []string{`"nonsense"`}},
		{"topic nonsense", []string{`"nonsense"`, "apogee topic --help"}},
		{"topic list extra", []string{"takes no argument", "got 1"}},
		{"topic list --nonsense", []string{"--nonsense"}},
		{"topic update T --namesrv " + nowhere, []string{"nothing to change"}},
		{"topic create T --attribute x --namesrv " + nowhere, []string{`--attribute "x"`, "+name=value"}},
		{"topic create T --queues 65537 --namesrv " + nowhere, []string{"65537 queues", "1 to 65536"}},
		{"group clone g", []string{"one group to copy and one group to set", "got 1"}},
		{"consume T --follow --until last --namesrv " + nowhere, []string{"follow", "until"}},
	} {
		_, err := execute(t, strings.Fields(c.args)...)
		if err == nil {
			t.Errorf("apogee %s: no error", c.args)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("apogee %s: %q does not say %q", c.args, err, want)
			}
		}
		if want := statusUsage; strings.Contains(err.Error(), "cannot reach") != (statusOf(err) != want) {
			t.Errorf("apogee %s: status %d of %q", c.args, statusOf(err), err)
		}
	}
}

// Every command that needs a server says which address does not answer, and what to do.
func TestNoServer(t *testing.T) {
	for _, args := range []string{
		"topic list", "topic describe t", "topic create t", "topic update t --perm r", "topic delete t --yes", "topic groups t", "topic stats",
		"group list", "group describe g", "group create g", "group update g --consume", "group delete g --yes", "group lag g", "group members g",
		"group status g", "group pop g", "group set-mode g --topic t --mode pop", "group reset g --topic t --to first --yes", "group skip g --topic t --yes", "group clone g h --yes",
		"message get t --key k", "message get t --queue 0 --offset 0", "message browse t", "message send t x", "message recall t djEgdCBiIDEgaWQ=", "message deliver t 7F00000100002A9F0000000000000000 --group g",
		"timer list", "timer count", "transaction list", "transaction list --given-up", "transaction resume 7F00000100002A9F0000000000000000",
		"dlq list", "dlq browse g", "dlq resend g --all --yes", "produce t x", "consume t",
		"cluster list", "cluster status", "cluster producers", "cluster config get", "cluster config set a=b", "cluster kv list n", "cluster kv delete n k --yes",
		"cluster wipe-write b", "cluster add-write b", "cluster clean topics",
	} {
		_, err := execute(t, append(strings.Fields(args), "--namesrv", nowhere)...)
		if err == nil || statusOf(err) != statusFailure {
			t.Errorf("apogee %s: status %d of %v, want %d", args, statusOf(err), err, statusFailure)
			continue
		}
		for _, want := range []string{"cannot reach name server " + nowhere, "apogee start", "--namesrv"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("apogee %s: %q does not say %q", args, err, want)
			}
		}
	}
}

func TestEveryCommandHasAShortText(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no short text", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
}

func TestVersionNamesRocketMQsRelease(t *testing.T) {
	if out, err := execute(t, "version"); err != nil || !strings.Contains(out, "RocketMQ 5.5.0") {
		t.Errorf("%q, %v", out, err)
	}
	for ordinal, want := range map[int]string{413: "5.0.0", 441: "5.1.4", 477: "5.3.2", 513: "5.5.0"} {
		if got := rocketVersion(ordinal); got != want {
			t.Errorf("ordinal %d is %s, want %s", ordinal, got, want)
		}
	}
}

func TestTableAlignsItsColumns(t *testing.T) {
	tb := newTable("NAME", "N")
	tb.add("a", 1)
	tb.add("long name", "")
	var out bytes.Buffer
	if err := tb.write(&out); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("NAME       N\na          1\nlong name  -\n", out.String()); d != "" {
		t.Error(d)
	}
}

func TestParseStart(t *testing.T) {
	stamp := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	for s, want := range map[string]start{
		"first":                {startFirst, 0},
		"last":                 {startLast, 0},
		"0":                    {startOffset, 0},
		"999999999999":         {startOffset, 999999999999},
		"1769846400000":        {startTime, 1769846400000},
		"2026-01-31T08:00:00Z": {startTime, stamp.UnixMilli()},
	} {
		if got, err := parseStart("from", s); err != nil || got != want {
			t.Errorf("--from %s: %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "-1", "yesterday"} {
		if _, err := parseStart("from", s); err == nil {
			t.Errorf("--from %q was taken", s)
		}
	}
}

func TestTagSet(t *testing.T) {
	for s, want := range map[string][]string{"*": nil, "": nil, "a": {"a"}, " a||b || ": {"a", "b"}} {
		if d := cmp.Diff(want, tagSet(s)); d != "" {
			t.Errorf("%q: %s", s, d)
		}
	}
}

func TestPerm(t *testing.T) {
	for s, want := range map[string]string{"rw": "rw", "RW": "rw", "6": "rw", "r": "r", "2": "w"} {
		p, err := parsePerm(s)
		if err != nil || permText(p) != want {
			t.Errorf("%q: %q, %v; want %q", s, permText(p), err, want)
		}
	}
}

func TestQueuesOfARoute(t *testing.T) {
	r := &protocol.TopicRoute{
		Queues: []protocol.QueueData{
			{BrokerName: "a", ReadQueues: 2, WriteQueues: 1, Perm: 6}, {BrokerName: "b", ReadQueues: 1, WriteQueues: 1, Perm: 4},
			{BrokerName: "gone", ReadQueues: 1, WriteQueues: 1, Perm: 6},
		},
		Brokers: []protocol.BrokerData{{BrokerName: "a", Addrs: map[int64]string{1: "a1:1", 0: "a0:1"}}, {BrokerName: "b", Addrs: map[int64]string{1: "b1:1"}}},
	}
	want := []queue{{"a", "a0:1", 0, ""}, {"a", "a0:1", 1, ""}, {"b", "b1:1", 0, ""}}
	if got := queues(r, protocol.PermRead); !cmp.Equal(want, got, cmp.AllowUnexported(queue{})) {
		t.Errorf("to read: %v, want %v", got, want)
	}
	if got := queues(r, protocol.PermWrite); !cmp.Equal(want[:1], got, cmp.AllowUnexported(queue{})) {
		t.Errorf("to write: %v, want %v", got, want[:1])
	}
}

func TestPropertiesOfAMessage(t *testing.T) {
	f := produce{key: "k1 k2", tag: "t", properties: []string{"a=b=c"}, delayLevel: 3}
	p, err := f.encodeProperties("ID")
	if err != nil {
		t.Fatal(err)
	}
	own, rest := splitProperties(p)
	if own.id != "ID" || own.tags != "t" || !cmp.Equal(own.keys, []string{"k1", "k2"}) {
		t.Errorf("own properties %+v", own)
	}
	if d := cmp.Diff(map[string]string{"a": "b=c", message.PropDelay: "3"}, rest); d != "" {
		t.Error(d)
	}
	f.properties = []string{"a=b\x02WAIT\x01false"}
	if _, err := f.encodeProperties("ID"); err == nil {
		t.Error("a value that holds a separator was taken")
	}
}

func TestCellStaysOnOneShortLine(t *testing.T) {
	if got := cell([]byte("a\tb\nc\x00d")); got != "a.b.c.d" {
		t.Errorf("%q", got)
	}
	if got := cell(bytes.Repeat([]byte("x"), 200)); len(got) != cellRunesMax+3 {
		t.Errorf("%d characters", len(got))
	}
}

func TestEachLine(t *testing.T) {
	var got []string
	err := eachLine(strings.NewReader("a\n\nlast without end"), func(b []byte) error { got = append(got, string(b)); return nil })
	if d := cmp.Diff([]string{"a", "", "last without end"}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	err = eachLine(strings.NewReader(strings.Repeat("x", lineBytesMax+2)), func([]byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a line that is too long: %v", err)
	}
}

func TestIDsAreUnique(t *testing.T) {
	m := newIDMaker()
	seen := map[string]bool{}
	for range 10_000 {
		id := m.next()
		if len(id) != 32 || seen[id] {
			t.Fatalf("id %q: want 32 digits, once", id)
		}
		seen[id] = true
	}
}

// What --commit writes covers what was printed, and what the filter passed over once all was printed.
func TestCommittedOffset(t *testing.T) {
	r := reader{next: 32, printed: -1, pending: make([]message.Record, 1)}
	r.done(4)
	if r.printed != 5 {
		t.Errorf("after offset 4, with more to print: %d, want 5", r.printed)
	}
	r.pending = nil
	r.done(9)
	if r.printed != 32 {
		t.Errorf("after the last one: %d, want 32", r.printed)
	}
}

func TestProgressLine(t *testing.T) {
	p := bench.Progress{Phase: "measure", Elapsed: 5 * time.Second, Total: 10 * time.Second, Messages: 500, Rate: 100}
	got := progressLine(p.Phase, partOf(p), benchDetail(p))
	if !strings.Contains(got, "[############............]") || !strings.Contains(got, "100/s") {
		t.Errorf("%q", got)
	}
}

// A dead letter that came out of a transaction is sent again as an ordinary message: as a half message it would wait for ever.
func TestDeadLettersOfTransactionsAreSentAsOrdinaryMessages(t *testing.T) {
	committed := []byte("TRAN_MSG\x01true\x02PGROUP\x01P\x02UNIQ_KEY\x01id\x02__CRC32#\x010123456789\x02")
	if got := string(message.AppendWithout(nil, committed, brokerProperties...)); got != "PGROUP\x01P\x02UNIQ_KEY\x01id\x02" {
		t.Errorf("sent again with %q", got)
	}
}
