package popserve

import (
	"strconv"

	"github.com/apogeemq/apogee/protocol"
)

// prioritized says that a pop of all queues takes the most urgent messages first: from topics of type PRIORITY, whose queue n holds what
// has priority n, in as many percent of a group's pops as its attribute priority.factor says, 100 by default (PopMessageProcessor with
// priorityOrderAsc). The retry topic then comes last (popFromRetryProbabilityForPriority).
func prioritized(t *protocol.TopicConfig, group *protocol.SubscriptionGroupConfig, turn uint64) bool {
	if t.Attributes["message.type"] != "PRIORITY" {
		return false
	}
	factor, err := strconv.ParseUint(group.Attributes["priority.factor"], 10, 64)
	return err != nil || turn%100 < factor
}
