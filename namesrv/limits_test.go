package namesrv

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

func TestTheTableIsBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	newTable := func() *table { return newTable(DefaultConfig(), keyValues{}) }
	of := func(i, topics int) *registration {
		r := &registration{key: brokerKey{"c", address{text: fmt.Sprintf("10.0.0.1:%d", i)}}, name: fmt.Sprintf("b%d", i), topics: map[string]protocol.TopicConfig{}}
		for k := range topics {
			r.topics[fmt.Sprintf("T%d-%d", i, k)] = protocol.TopicConfig{}
		}
		return r
	}
	mustRegister := func(t *testing.T, table *table, r *registration) {
		t.Helper()
		if _, _, err := table.register(r, now); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused := func(t *testing.T, table *table, r *registration, remark string) {
		t.Helper()
		before := len(table.live)
		_, _, err := table.register(r, now)
		if err == nil || !strings.Contains(err.Error(), remark) {
			t.Errorf("got %v, want %q in it", err, remark)
		}
		if len(table.live) != before {
			t.Error("the refused registration left something behind")
		}
	}
	t.Run("brokers", func(t *testing.T) {
		table := newTable()
		for i := range brokersMax {
			mustRegister(t, table, of(i, 0))
		}
		wantRefused(t, table, of(brokersMax, 0), "brokersMax=2000")
		mustRegister(t, table, of(7, 0)) // one that is there may stay
	})
	t.Run("topics", func(t *testing.T) {
		table := newTable()
		mustRegister(t, table, of(1, 100))
		mustRegister(t, table, of(2, 100))
		mustRegister(t, table, of(2, 100)) // nothing new
		if table.pairs != 200 {
			t.Fatalf("%d pairs are counted", table.pairs)
		}
		const most = pairsMax - 150
		table.pairs += most
		wantRefused(t, table, of(3, 100), "pairsMax=1048576")
		mustRegister(t, table, of(2, 100))
		if err := table.checkTopicRoom("T", make([]protocol.QueueData, 1)); err == nil {
			t.Error("a topic more")
		}
		table.unregister(brokerRef{of(1, 0).key, "b1", 0})
		mustRegister(t, table, of(3, 50))
		if table.pairs-most != 150 {
			t.Errorf("%d pairs are counted", table.pairs-most)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		table := newTable()
		for i := range 4 {
			r := of(i, 0)
			r.size = registrationBytesMax
			mustRegister(t, table, r)
		}
		r := of(9, 0)
		r.size = registrationSmall + 1
		wantRefused(t, table, r, "registrationsBytesMax=268435456")
	})
	t.Run("names", func(t *testing.T) {
		r := of(1, 2)
		r.topics[strings.Repeat("x", nameBytesMax+1)] = protocol.TopicConfig{}
		wantRefused(t, newTable(), r, "a name of 256 bytes, the limit is nameBytesMax=255")
	})
}
