package expression

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// host is a log that keeps what it is given, and a clock.
type host struct {
	state      map[string][]byte
	now        time.Time
	subscribed bool
	broken     bool
}

func (h *host) table() *Table {
	return New(Host{
		Update: func(changes []store.Mutation, done func(error)) error {
			if h.broken {
				return errors.New("broken")
			}
			for _, c := range changes {
				if h.state[c.Key] = c.Value; c.Value == nil {
					delete(h.state, c.Key)
				}
			}
			done(nil)
			return nil
		},
		Subscribed: func(string, string) bool { return h.subscribed },
		Now:        func() time.Time { return h.now },
		Logger:     slog.New(slog.DiscardHandler),
	})
}

func (h *host) loaded(t *testing.T) *Table {
	t.Helper()
	table := h.table()
	err := table.Load(func(fn func(string, []byte) error) error {
		for key, value := range h.state {
			if err := fn(key, value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func newHost() *host {
	return &host{state: map[string][]byte{}, now: time.UnixMilli(1763720000000), subscribed: true}
}

func sql(topic, expression string, version int64) []protocol.SubscriptionData {
	return []protocol.SubscriptionData{{Topic: topic, Expression: expression, Type: protocol.ExpressionSQL92, Version: version}}
}

func (t *Table) want(tt *testing.T, topic, expression string, version int64) {
	tt.Helper()
	f, ok := t.Find("G", topic)
	if ok != (expression != "") || f.Expression != expression || f.Version != version || ok && f.Compiled == nil {
		tt.Errorf("topic %s is filtered by %q of version %d, want %q of %d", topic, f.Expression, f.Version, expression, version)
	}
}

func TestTheNewestExpressionCounts(t *testing.T) {
	h := newHost()
	table := h.table()
	for _, c := range []struct {
		expression string
		version    int64
		want       string
		newest     int64
	}{
		{"a > 5", 3, "a > 5", 3},
		{"a > 4", 3, "a > 5", 3},
		{"a > 4", 2, "a > 5", 3},
		{"a > 5", 4, "a > 5", 4},
		{"", 5, "a > 5", 4},
		{"a > 6", 6, "a > 6", 6},
		{"a >", 7, "", 0},
		{"a > 7", 1, "a > 7", 1},
	} {
		table.Register("G", sql("T", c.expression, c.version))
		table.want(t, "T", c.want, c.newest)
		h.loaded(t).want(t, "T", c.want, c.newest)
	}
	h.broken = true
	table.Register("G", sql("T", "a > 8", 8))
	table.want(t, "T", "a > 8", 8) // a log that takes nothing does not stop consumers
}

// An expression is forgotten a day after its group has gone, on disk too, and its room is given back.
func TestUnusedExpressionsAreForgotten(t *testing.T) {
	h := newHost()
	table := h.table()
	table.Register("G", sql("T", "a > 5", 1))
	table.Register("G", append(sql("T", "a > 5", 2), sql("U", strings.Repeat(" ", 1000)+"a", 1)...))
	if want := 2*overhead + len("a > 5") + 1001; table.bytes != want {
		t.Errorf("they count %d bytes, want %d", table.bytes, want)
	}
	after := func(d time.Duration) { h.now = h.now.Add(d); table.Tick(h.now) }
	after(30 * time.Hour)
	h.subscribed = false
	after(time.Hour) // the first look at which the group is not there
	after(kept - time.Minute)
	table.want(t, "T", "a > 5", 2)
	h.subscribed = true
	after(time.Hour)
	h.subscribed = false
	after(time.Hour)
	after(kept - time.Minute)
	h.loaded(t).want(t, "T", "a > 5", 2)
	after(time.Minute)
	table.want(t, "T", "", 0)
	if table.bytes != 0 || len(h.state) != 0 {
		t.Errorf("%d bytes and %d entries on disk are left", table.bytes, len(h.state))
	}
}

func TestExpressionsHaveABound(t *testing.T) {
	table := newHost().table()
	table.bytes = bytesMax - overhead
	table.Register("G", sql("T", "a", 1))
	table.want(t, "T", "", 0)
	table.bytes--
	table.Register("G", sql("T", "a", 1))
	table.want(t, "T", "a", 1)
}
