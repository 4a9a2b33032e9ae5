package namesrv

import (
	"cmp"

	"github.com/apogeemq/apogee/protocol"
)

// Limits of the table: whoever can reach the name server can register brokers and topics.
const (
	// brokersMax bounds the broker processes.
	brokersMax = 2_000
	// pairsMax bounds the pairs of topic and broker name.
	pairsMax = 1 << 20
	// registrationsBytesMax bounds the registrations that are in force, together.
	registrationsBytesMax = 256 << 20
	// nameBytesMax bounds the names and addresses of brokers, clusters and zones, and of topics.
	nameBytesMax = 255
)

// checkRoom refuses a registration that the table has no room for.
func (t *table) checkRoom(r *registration) error {
	for _, name := range []string{r.key.cluster, r.key.addr.text, r.name, r.zone, r.ha} {
		if err := checkName(name); err != nil {
			return err
		}
	}
	for topic, c := range r.topics {
		if err := cmp.Or(checkName(topic), checkName(c.TopicName)); err != nil {
			return err
		}
	}
	old := t.live[r.key]
	if old == nil && len(t.live) >= brokersMax {
		return refuse("%d brokers are registered, the limit is brokersMax=%d; stop brokers that are not needed: broker %s at %s", len(t.live), brokersMax, r.name, r.key.addr.text)
	}
	if pairs := t.pairs + len(r.topics); pairs > pairsMax && t.newPairs(r) > 0 {
		return refuse("%d topics and brokers are paired, and broker %s has %d topics; the limit is pairsMax=%d; delete topics", t.pairs, r.name, len(r.topics), pairsMax)
	}
	if r.size <= registrationSmall {
		return nil
	}
	size := r.size
	for key, l := range t.live {
		if key != r.key {
			size += l.size
		}
	}
	if size > registrationsBytesMax {
		return refuse("the registrations would have %d bytes, of which broker %s has %d; the limit is registrationsBytesMax=%d; delete topics", size, r.name, r.size, registrationsBytesMax)
	}
	return nil
}

// checkTopicRoom refuses a topic that the table has no room for.
func (t *table) checkTopicRoom(topic string, queues []protocol.QueueData) error {
	if t.pairs+len(queues) > pairsMax {
		return refuse("%d topics and brokers are paired, and topic %.100q has %d queues; the limit is pairsMax=%d; delete topics", t.pairs, topic, len(queues), pairsMax)
	}
	return checkName(topic)
}

// newPairs counts the topics of a registration that are not stored for its broker name.
func (t *table) newPairs(r *registration) (n int) {
	for topic := range r.topics {
		if t.storedQueues(topic, r.name) == nil {
			n++
		}
	}
	return n
}

func checkName(name string) error {
	if len(name) > nameBytesMax {
		return refuse("a name of %d bytes, the limit is nameBytesMax=%d; shorten it: %.100q", len(name), nameBytesMax, name)
	}
	return nil
}

func refuse(format string, args ...any) error {
	return protocol.Errorf(protocol.RespSystemError, format, args...)
}
