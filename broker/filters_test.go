package broker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/protocol"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func sqlSubscription(topic, expression string, version int64) []protocol.SubscriptionData {
	return []protocol.SubscriptionData{{Topic: topic, Expression: expression, Type: protocol.ExpressionSQL92, Version: version}}
}

// An expression is forgotten a day after its group has gone, on disk too, and its room is given back.
func TestUnusedExpressionsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startDelayNode(t, vfs.NewMem(), delay.DefaultLevels())
		defer n.stop()
		n.filters.register("G", sqlSubscription("T", "a > 5", 1))
		n.filters.register("G", append(sqlSubscription("T", "a > 5", 2), sqlSubscription("U", strings.Repeat(" ", 1000)+"a", 1)...))
		if want := 2*filterOverhead + len("a > 5") + 1001; n.filters.bytes != want {
			t.Errorf("they count %d bytes, want %d", n.filters.bytes, want)
		}
		time.Sleep(filterKept - time.Minute)
		again := newFilterTable(n.Broker)
		if err := again.load(); err != nil || again.bytes != n.filters.bytes {
			t.Errorf("on disk: %d bytes, %v", again.bytes, err)
		}
		if f, ok := again.find("G", "T"); !ok || f.Version != 2 || f.compiled == nil {
			t.Errorf("on disk: %+v, %v", f, ok)
		}
		time.Sleep(4 * time.Minute)
		if _, ok := n.filters.find("G", "T"); ok || n.filters.bytes != 0 {
			t.Errorf("still there, %d bytes", n.filters.bytes)
		}
		again = newFilterTable(n.Broker)
		if err := again.load(); err != nil || len(again.groups) != 0 {
			t.Errorf("still on disk: %v, %v", again.groups, err)
		}
	})
}

func TestExpressionsHaveABound(t *testing.T) {
	n := startDelayNode(t, vfs.NewMem(), delay.DefaultLevels())
	defer n.stop()
	n.filters.bytes = filterBytesMax - filterOverhead
	n.filters.register("G", sqlSubscription("T", "a", 1))
	if _, ok := n.filters.find("G", "T"); ok {
		t.Error("beyond the bound")
	}
	n.filters.bytes--
	n.filters.register("G", sqlSubscription("T", "a", 1))
	if _, ok := n.filters.find("G", "T"); !ok {
		t.Error("not taken, although there is room")
	}
}
