package broker_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/server"
)

// record writes what a RocketMQ broker answers into the recordings, instead of comparing them:
//
//	go test ./broker -run TestAnswersAreApaches -record 127.0.0.1:10911
//
// It must be fresh, named broker-a, and in a cluster named DefaultCluster. Lines that say where Apogee differs are kept.
var record = flag.String("record", "", "address of the RocketMQ broker whose answers are recorded")

// The recordings hold requests with one thing wrong, and the code, the first line of the remark and the names of the header fields that
// Apache RocketMQ 5.5.0's broker answered with. They are replayed in order, over one connection.
//
//	field NAME=VALUE     a header field; in the value ${first} stands for the log position of the first message that was stored, and
//	                     ${x*N} for N letters x
//	body TEXT, bodyhex   the body, with the same words
//
// Answers of Apogee that differ on purpose stand in lines "apogee ...", with the reason in the comment above.
func TestAnswersAreApaches(t *testing.T) {
	const path = "testdata/apache/refusals.txt"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, addr: *record}
	if p.addr == "" {
		n := startNode(t, func(c *server.Config) { c.SegmentBytes, c.MessageBytesMax = 16<<20, 4<<20 })
		p.addr, p.client = n.s.BrokerAddr(), n.client
	} else {
		p.client = remoting.NewClient(remoting.ClientConfig{Timeout: 20 * time.Second})
		defer p.client.Close()
	}
	var out []string
	for _, step := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n\n") {
		request, recorded, _ := strings.Cut(step, "\n----")
		recorded = strings.TrimPrefix(recorded, "\n")
		got := p.ask(request)
		if *record == "" {
			if want := ours(recorded); !fits(want, got) {
				t.Errorf("%s\nrecorded:\n%sanswered:\n%s", request, want, got)
			}
			continue
		}
		for line := range strings.Lines(recorded) {
			if strings.HasPrefix(line, "apogee ") {
				got += strings.TrimSuffix(line, "\n") + "\n"
			}
		}
		out = append(out, request+"\n----\n"+strings.TrimSuffix(got, "\n"))
	}
	if *record != "" {
		if err := os.WriteFile(path, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// peer is the broker that is asked.
type peer struct {
	t      *testing.T
	addr   string
	client *remoting.Client
	stored bool  // a message is
	first  int64 // log position of the first one
}

var words = regexp.MustCompile(`\$\{(first|.\*\d+)\}`)

func (p *peer) expand(s string) string {
	return words.ReplaceAllStringFunc(s, func(word string) string {
		letter, count, ok := strings.Cut(word[2:len(word)-1], "*")
		if !ok {
			return strconv.FormatInt(p.first, 10)
		}
		return strings.Repeat(letter, must(strconv.Atoi(count)))
	})
}

// ask sends the request of a step and describes the answer.
func (p *peer) ask(step string) string {
	p.t.Helper()
	c := protocol.NewRequest(0, nil)
	for line := range strings.Lines(step) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch kind {
		case "request":
			c.Code = int32(must(strconv.Atoi(strings.Fields(rest)[0])))
		case "field":
			k, v, _ := strings.Cut(p.expand(rest), "=")
			c.Fields.Add(k, strings.ReplaceAll(strings.ReplaceAll(v, "^A", "\x01"), "^B", "\x02"))
		case "body":
			c.Body = []byte(p.expand(rest))
		case "bodyhex":
			c.Body = must(hex.DecodeString(rest))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	answer, err := p.client.Invoke(ctx, p.addr, c)
	if err != nil {
		p.t.Fatalf("%s: %v", step, err)
	}
	if id, ok := answer.Fields.Get("msgId"); ok && !p.stored {
		p.stored = true
		if _, p.first, err = message.ParseOffsetID(string(id)); err != nil {
			p.t.Fatal(err)
		}
	}
	return describe(answer)
}

// addresses are different in every run; where a Java exception was thrown from is of no use to anybody.
var (
	addresses = regexp.MustCompile(`/?(\[::1\]|127\.0\.0\.1):\d+`)
	thrown    = regexp.MustCompile(`, (org\.apache|io\.netty|java)\..*`)
	exception = regexp.MustCompile(`(?m)^remark [\w.]*(Exception|Error)\b.*$`)
)

// describe writes an answer as the recordings do.
func describe(answer *protocol.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "code %d\n", answer.Code)
	if remark, _, _ := bytes.Cut(answer.Remark, []byte("\n")); len(remark) > 0 && string(remark) != "not set any response code" {
		remark = addresses.ReplaceAll(thrown.ReplaceAll(remark, nil), []byte("ADDRESS"))
		fmt.Fprintf(&b, "remark %s\n", strings.TrimSpace(string(remark)))
	}
	if answer.Code != int32(protocol.RespSuccess) {
		return b.String()
	}
	var names []string
	for _, f := range answer.Fields {
		names = append(names, string(f.Key))
	}
	if slices.Sort(names); len(names) > 0 {
		fmt.Fprintf(&b, "fields %s\n", strings.Join(names, " "))
	}
	return b.String()
}

// ours is what Apogee is to answer: what was recorded, or the lines that say otherwise.
func ours(recorded string) string {
	var differs strings.Builder
	for line := range strings.Lines(recorded + "\n") {
		if line, ok := strings.CutPrefix(line, "apogee "); ok {
			differs.WriteString(line)
		}
	}
	if differs.Len() > 0 {
		return differs.String()
	}
	return strings.TrimSuffix(recorded, "\n") + "\n"
}

// fits tells whether an answer is the one that is wanted. A remark may say more, and instead of an exception's name anything.
func fits(want, got string) bool {
	wanted, answered := strings.Split(exception.ReplaceAllString(want, "remark "), "\n"), strings.Split(got, "\n")
	return slices.EqualFunc(wanted, answered, func(w, a string) bool {
		return w == a || strings.HasPrefix(w, "remark ") && strings.HasPrefix(a, w)
	})
}
