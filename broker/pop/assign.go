package pop

import (
	"slices"

	"github.com/apogeemq/apogee/protocol"
)

// Strategy gives a member its share of the queues; both are sorted. One that is no member gets none.
type Strategy func(member string, queues []protocol.MessageQueue, members []string) []protocol.MessageQueue

// Strategies are those that RocketMQ's brokers know (AllocateMessageQueueStrategy).
var Strategies = map[string]Strategy{"AVG": shareInRow, "AVG_BY_CIRCLE": shareInTurn}

func shareInRow(member string, queues []protocol.MessageQueue, members []string) []protocol.MessageQueue {
	share := []protocol.MessageQueue{}
	i := slices.Index(members, member)
	if i < 0 {
		return share
	}
	each, more := len(queues)/len(members), len(queues)%len(members)
	from := i*each + min(i, more)
	if i < more {
		each++
	}
	return append(share, queues[from:from+each]...)
}

func shareInTurn(member string, queues []protocol.MessageQueue, members []string) []protocol.MessageQueue {
	share := []protocol.MessageQueue{}
	i := slices.Index(members, member)
	for ; i >= 0 && i < len(queues); i += len(members) {
		share = append(share, queues[i])
	}
	return share
}

// Assign returns the queues that a member pops (QueryAssignmentProcessor.allocate4Pop).
func Assign(member string, queues []protocol.MessageQueue, members []string, others int, share Strategy) []protocol.MessageQueue {
	list := []protocol.MessageQueue{}
	i := slices.Index(members, member)
	switch {
	case others <= 0 || others >= len(members)-1: // every queue of every broker
		for _, q := range queues {
			q.QueueID = -1
			list = append(list, q)
		}
		return slices.Compact(list)
	case i < 0:
		return list
	case len(members) > len(queues):
		return append(list, queues[i%len(queues)])
	}
	for k := range others + 1 {
		list = append(list, share(members[(i+k)%len(members)], queues, members)...)
	}
	return list
}
