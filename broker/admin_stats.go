package broker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
)

// Statistics: GET_TOPIC_STATS_INFO (202), GET_CONSUME_STATS (208), QUERY_CONSUME_TIME_SPAN (303), VIEW_BROKER_STATS_DATA (315),
// GET_BROKER_CONSUME_STATS (317), QUERY_CONSUME_QUEUE (321).
//
// What clients see: bounds count confirmed messages only; times are store times in ms. A topic that a group's members do not subscribe to
// is left out of its statistics, unless it is in a topicList. A statistic of which nothing was counted is SYSTEM_ERROR, as in RocketMQ,
// and so are those that Apogee does not keep: TOPIC_PUT_NUMS, TOPIC_PUT_SIZE, GROUP_GET_NUMS, GROUP_GET_SIZE, SNDBCK_PUT_NUMS,
// SNDBCK2DLQ_TIMES, TOPIC_PUT_LATENCY, GROUP_GET_LATENCY, BROKER_PUT_NUMS, BROKER_GET_NUMS and both WITHOUT_SYSTEM_TOPIC are kept.
// Differences: 321 answers at most 1,000 entries.

// consumeQueueMax bounds the entries of one QUERY_CONSUME_QUEUE.
const consumeQueueMax = 1000

func (b *Broker) messageQueue(topic string, id int32) protocol.MessageQueue {
	return protocol.MessageQueue{Topic: topic, BrokerName: b.c.Name, QueueID: id}
}

func (b *Broker) topicStats(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TopicHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	t := b.topics.find(h.Topic)
	if t == nil {
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "topic[%s] not exist", h.Topic)
	}
	stats := protocol.TopicStats{PutTPS: b.traffic.Rate(h.Topic, "", b.c.Now())}
	for id, q := range t.queues {
		first, end := q.Bounds()
		at, err := b.storeTime(q, end-1, 0)
		if err != nil {
			return nil, err
		}
		stats.Offsets = append(stats.Offsets, protocol.QueueEntry[protocol.TopicOffset]{
			Queue: b.messageQueue(h.Topic, int32(id)), Value: protocol.TopicOffset{Min: first, Max: end, LastUpdate: at},
		})
	}
	resp := remoting.Respond(protocol.RespSuccess, nil)
	resp.Body = stats.Encode()
	return resp, nil
}

func (b *Broker) consumeStats(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.ConsumeStatsHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	var stats protocol.ConsumeStats
	for _, topic := range b.statsTopics(&h) {
		t := b.topics.find(topic)
		if t == nil {
			continue
		}
		if err := b.addConsumeStats(&stats, t, h.Group, t.config.ReadQueues); err != nil {
			return nil, err
		}
	}
	resp := remoting.Respond(protocol.RespSuccess, nil)
	resp.Body = stats.Encode()
	return resp, nil
}

// statsTopics returns the topics that GET_CONSUME_STATS is about.
func (b *Broker) statsTopics(h *protocol.ConsumeStatsHeader) (topics []string) {
	for name := range strings.SplitSeq(h.TopicList, ";") {
		if name = strings.TrimSpace(name); name != "" {
			topics = append(topics, name)
		}
	}
	if len(topics) > 0 {
		slices.Sort(topics) // each counts once
		return slices.Compact(topics)
	}
	candidates := []string{h.Topic}
	if strings.TrimSpace(h.Topic) == "" {
		candidates = b.offsets.topicsOf(h.Group)
	}
	for _, name := range candidates {
		if b.clients.consumes(h.Group, name) {
			topics = append(topics, name)
		}
	}
	return topics
}

// addConsumeStats adds a group's progress in the first queues of a topic.
func (b *Broker) addConsumeStats(stats *protocol.ConsumeStats, t *topic, group string, queues int32) error {
	name := t.config.TopicName
	for id := range queues {
		q := t.queue(id)
		_, end := q.Bounds()
		offset, given := b.offsets.progress(offsetKey{group, name, id})
		w := protocol.OffsetWrapper{Broker: end, Consumer: max(offset, 0), Pull: max(given, 0)}
		var err error
		if w.LastTimestamp, err = b.storeTime(q, w.Consumer-1, 0); err != nil {
			return err
		}
		stats.Offsets = append(stats.Offsets, protocol.QueueEntry[protocol.OffsetWrapper]{Queue: b.messageQueue(name, id), Value: w})
	}
	stats.TPS += b.traffic.Rate(name, group, b.c.Now())
	return nil
}

func (b *Broker) brokerConsumeStats(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.OrderHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	list := protocol.ConsumeStatsList{BrokerAddr: b.addr(r)}
	topics := b.offsets.topicsByGroup()
	for _, group := range b.groups.names() {
		g := protocol.GroupConsumeStats{Group: group}
		for _, name := range topics[group] {
			t := b.topics.find(name)
			if t == nil || h.Order && !t.config.Order || !b.clients.consumes(group, name) {
				continue
			}
			var stats protocol.ConsumeStats
			if err := b.addConsumeStats(&stats, t, group, t.config.WriteQueues); err != nil {
				return nil, err
			}
			lag, inflight := stats.Lag()
			list.TotalLag += lag
			list.TotalHeld += inflight
			g.Stats = append(g.Stats, stats)
		}
		list.Groups = append(list.Groups, g)
	}
	resp := remoting.Respond(protocol.RespSuccess, nil)
	resp.Body = list.Encode()
	return resp, nil
}

func (b *Broker) consumeTimeSpans(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.TopicGroupHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	t := b.topics.find(h.Topic)
	if t == nil {
		return nil, protocol.Errorf(protocol.RespTopicNotExist, "topic[%s] not exist", h.Topic)
	}
	body := protocol.ConsumeTimeSpans{Spans: []protocol.QueueTimeSpan{}}
	for id := range t.config.WriteQueues {
		span, err := b.timeSpan(t, id, h.Group)
		if err != nil {
			return nil, err
		}
		body.Spans = append(body.Spans, span)
	}
	return remoting.RespondBody(body), nil
}

func (b *Broker) timeSpan(t *topic, id int32, group string) (span protocol.QueueTimeSpan, err error) {
	q := t.queue(id)
	span.Queue = b.messageQueue(t.config.TopicName, id)
	first, end := q.Bounds()
	if span.MinTime, err = b.storeTime(q, first, -1); err != nil {
		return span, err
	}
	if span.MaxTime, err = b.storeTime(q, end-1, -1); err != nil {
		return span, err
	}
	offset, _ := b.offsets.progress(offsetKey{group, t.config.TopicName, id})
	span.ConsumeTime = span.MinTime
	if offset > 0 {
		if span.ConsumeTime, err = b.storeTime(q, offset-1, -1); err != nil {
			return span, err
		}
	}
	if next := max(offset, first); next < end {
		at, err := b.storeTime(q, next, -1)
		if err != nil {
			return span, err
		}
		span.Delay = b.c.Now().UnixMilli() - at
	}
	return span, nil
}

func (b *Broker) viewStats(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.StatsHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	stats, found := b.traffic.Stats(h.Name, h.Key, b.c.Cluster, b.c.Now())
	if !found {
		return nil, protocol.Errorf(protocol.RespSystemError, "The stats <%s> <%s> not exist", h.Name, h.Key)
	}
	return remoting.RespondBody(stats), nil
}

func (b *Broker) queryConsumeQueue(r *remoting.Request) (*remoting.Response, error) {
	var h protocol.QueryConsumeQueueHeader
	if err := r.Read(&h); err != nil {
		return nil, err
	}
	q := b.namedQueue(&protocol.QueueHeader{Topic: h.Topic, QueueID: h.QueueID})
	if q == nil {
		return nil, protocol.Errorf(protocol.RespSystemError, "%d@%s is not exist!", h.QueueID, h.Topic)
	}
	body := protocol.ConsumeQueueResult{Entries: []protocol.ConsumeQueueData{}}
	body.Min, body.Max = q.Bounds()
	match := func(int64) bool { return false } // by what the index knows
	if h.Group != "" {
		if s, _, _ := b.clients.subscription(h.Group, h.Topic); s == nil {
			body.FilterData = h.Group + "@" + h.Topic + " is not online!"
		} else {
			body.Subscription, body.FilterData = &s.data, "null" // as RocketMQ prints that no SQL filter is kept
			if f, ok := b.filters.Find(h.Group, h.Topic); ok {
				body.FilterData = string(protocol.MarshalBody(f))
			}
			if match = s.match().Tags; match == nil {
				match = func(int64) bool { return true }
			}
		}
	}
	if h.Index < body.Min || h.Index >= body.Max {
		resp := remoting.RespondBody(body)
		resp.Remark = fmt.Appendf(nil, "Index %d of %d@%s is not exist!", h.Index, h.QueueID, h.Topic)
		return resp, nil
	}
	entries, err := q.Entries(nil, h.Index, int(min(max(h.Count, 0), consumeQueueMax)))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		body.Entries = append(body.Entries, protocol.ConsumeQueueData{Position: e.Position, Size: e.Size, TagsCode: e.TagsCode, Matches: match(e.TagsCode)})
	}
	return remoting.RespondBody(body), nil
}
