package popserve

import (
	"testing"

	"github.com/apogeemq/apogee/protocol"
)

func TestOfTopicsOfTypePriorityTheMostUrgentComeFirst(t *testing.T) {
	for _, c := range []struct {
		kind, factor string
		want         int // of 200 pops
	}{
		{"NORMAL", "100", 0},
		{"PRIORITY", "", 200},
		{"PRIORITY", "0", 0},
		{"PRIORITY", "30", 60},
		{"PRIORITY", "100", 200},
		{"PRIORITY", "much", 200},
	} {
		topic := &protocol.TopicConfig{Attributes: map[string]string{"message.type": c.kind}}
		group := &protocol.SubscriptionGroupConfig{Attributes: map[string]string{"priority.factor": c.factor}}
		got := 0
		for turn := range uint64(200) {
			if prioritized(topic, group, turn) {
				got++
			}
		}
		if got != c.want {
			t.Errorf("type %s, factor %q: %d of 200 pops, want %d", c.kind, c.factor, got, c.want)
		}
	}
}
