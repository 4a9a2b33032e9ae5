package pop

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/protocol"
)

// queuesOf makes queues a0, a1, b0 and so on.
func queuesOf(names ...string) (list []protocol.MessageQueue) {
	for _, n := range names {
		list = append(list, protocol.MessageQueue{Topic: "T", BrokerName: n[:1], QueueID: int32(n[1] - '0')})
	}
	return list
}

func namesOf(list []protocol.MessageQueue) string {
	var names []string
	for _, q := range list {
		names = append(names, fmt.Sprint(q.BrokerName, q.QueueID))
	}
	return strings.Join(names, " ")
}

// As AllocateMessageQueueAveragely, AllocateMessageQueueAveragelyByCircle and QueryAssignmentProcessor.allocate4Pop share them out.
func TestQueuesAreSharedOut(t *testing.T) {
	five, two := queuesOf("a0", "a1", "a2", "b0", "b1"), queuesOf("a0", "b0")
	members := []string{"c1", "c2", "c3", "c4"}
	for _, c := range []struct{ name, got, want string }{
		{"in a row, first", namesOf(shareInRow("c1", five, members[:2])), "a0 a1 a2"},
		{"in a row, last", namesOf(shareInRow("c2", five, members[:2])), "b0 b1"},
		{"in a row, more members than queues", namesOf(shareInRow("c2", two, members)), "b0"},
		{"in a row, none left", namesOf(shareInRow("c3", two, members)), ""},
		{"in a row, a stranger", namesOf(shareInRow("x", five, members)), ""},
		{"in turn", namesOf(shareInTurn("c2", five, members[:2])), "a1 b0"},
		{"in turn, a stranger", namesOf(shareInTurn("x", five, members)), ""},
		{"pop: every queue of every broker", namesOf(Assign("c1", five, members, 0, shareInRow)), "a-1 b-1"},
		{"pop: shared by all but one", namesOf(Assign("c1", five, members, 3, shareInRow)), "a-1 b-1"},
		{"pop: its own and the next one's", namesOf(Assign("c4", five, members, 1, shareInRow)), "b1 a0 a1"},
		{"pop: more members than queues", namesOf(Assign("c3", two, members, 1, shareInRow)), "a0"},
		{"pop: a stranger", namesOf(Assign("x", five, members, 1, shareInRow)), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}
