package server

import (
	"strconv"

	"github.com/apogeemq/apogee/broker"
	"github.com/apogeemq/apogee/message"
	"github.com/prometheus/client_golang/prometheus"
)

// brokerCollector exposes the broker's figures.
type brokerCollector struct{ b *broker.Broker }

var (
	descMessages   = prometheus.NewDesc("apogee_messages_total", "Messages taken in and handed out.", []string{"direction"}, nil)
	descBytes      = prometheus.NewDesc("apogee_message_bytes_total", "Bytes of bodies taken in and of records handed out.", []string{"direction"}, nil)
	descCount      = prometheus.NewDesc("apogee_broker_objects", "Topics, groups, connected clients, held pulls and pops, and queues that groups have popped.", []string{"kind"}, nil)
	descDelayed    = prometheus.NewDesc("apogee_delayed_messages", "Messages that wait for their time, by delay level.", []string{"level"}, nil)
	descTimed      = prometheus.NewDesc("apogee_timed_messages", "Messages that wait for a moment of their own. After a start they are counted in the course of seconds.", nil, nil)
	descTimedBytes = prometheus.NewDesc("apogee_timed_message_bytes", "Bytes of these messages in the log.", nil, nil)
	descLate       = prometheus.NewDesc("apogee_timed_lateness_seconds", "How long after their moment messages were delivered.", nil, nil)
	descDead       = prometheus.NewDesc("rocketmq_send_to_dlq_messages_total", "Messages that went to the dead letters.",
		[]string{"cluster", "node_type", "node_id", "consumer_group", "topic", "is_system"}, nil)
	descHalf       = topicDesc("rocketmq_half_messages", "Half messages that are neither committed nor rolled back.")
	descCommitted  = topicDesc("rocketmq_commit_messages_total", "Half messages that were committed.")
	descTiming     = topicDesc("rocketmq_timing_messages", "Messages that wait for a moment of their own. After a start they are counted in the course of seconds.")
	descRolledBack = topicDesc("rocketmq_rollback_messages_total", "Half messages that were rolled back.")
	descFinished   = topicDesc("rocketmq_finish_message_latency_milliseconds", "Seconds, whatever RocketMQ calls them, from the birth of half messages to their commit.")
	descPopIn      = nodeDesc("rocketmq_pop_revive_in_message_total", "Deliveries by POP (CK), and messages of them that were acknowledged (ACK).",
		"consumer_group", "topic", "revive_message_type", "put_status")
	descPopRetry = nodeDesc("rocketmq_pop_revive_retry_messages_total", "Messages that were not acknowledged in time, and went to the retry topic.",
		"consumer_group", "topic", "put_status")
	descPopLag     = nodeDesc("rocketmq_pop_revive_lag", "Queues of groups with a delivery whose time is over.", "queue_id")
	descPopLatency = nodeDesc("rocketmq_pop_revive_latency_milliseconds", "For how many ms the oldest delivery has been overdue.", "queue_id")
	descPopOpen    = nodeDesc("rocketmq_pop_checkpoint_buffer_size", "Deliveries by POP that are not acknowledged as a whole.")
	descLag        = lagDesc("rocketmq_consumer_lag_messages", "Messages that a group has not acknowledged.")
	descBehind     = lagDesc("rocketmq_consumer_lag_latency_milliseconds", "Age of the oldest of them.")
	descInFlight   = lagDesc("rocketmq_consumer_inflight_messages", "Messages that a group was given, and has not acknowledged.")
	descQueueing   = lagDesc("rocketmq_consumer_queueing_latency_milliseconds", "Age of the oldest message that a group was not given.")
	descReady      = lagDesc("rocketmq_consumer_ready_messages", "Messages that a group was not given.")
	descLog        = prometheus.NewDesc("apogee_log_position_bytes", "Positions in the commit log.", []string{"position"}, nil)
)

// nodeDesc describes one of RocketMQ's metrics, with its labels of the node. RocketMQ's exporter for Prometheus puts the unit behind the name
// that its code has, where that says one: _milliseconds.
func nodeDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"cluster", "node_type", "node_id"}, labels...), nil)
}

func topicDesc(name, help string) *prometheus.Desc { return nodeDesc(name, help, "topic") }

func lagDesc(name, help string) *prometheus.Desc {
	return nodeDesc(name, help, "consumer_group", "topic", "is_retry", "is_system")
}

func (brokerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descMessages, descBytes, descCount, descLog, descDelayed, descTimed, descTimedBytes, descLate, descDead, descHalf, descCommitted, descRolledBack, descTiming,
		descFinished, descPopIn, descPopRetry, descPopLag, descPopLatency, descPopOpen,
		descLag, descBehind, descInFlight, descQueueing, descReady} {
		ch <- d
	}
}

func (c brokerCollector) Collect(ch chan<- prometheus.Metric) {
	f := c.b.Figures()
	put := func(d *prometheus.Desc, kind prometheus.ValueType, value int64, label string) {
		ch <- prometheus.MustNewConstMetric(d, kind, float64(value), label)
	}
	put(descMessages, prometheus.CounterValue, f.MessagesIn, "in")
	put(descMessages, prometheus.CounterValue, f.MessagesOut, "out")
	put(descBytes, prometheus.CounterValue, f.BytesIn, "in")
	put(descBytes, prometheus.CounterValue, f.BytesOut, "out")
	put(descCount, prometheus.GaugeValue, int64(f.Topics), "topics")
	put(descCount, prometheus.GaugeValue, int64(f.Groups), "groups")
	put(descCount, prometheus.GaugeValue, int64(f.Clients), "clients")
	put(descCount, prometheus.GaugeValue, int64(f.HeldPulls), "held_pulls")
	put(descCount, prometheus.GaugeValue, int64(f.HeldPops), "held_pops")
	put(descCount, prometheus.GaugeValue, int64(f.PoppedQueues), "popped_queues")
	put(descCount, prometheus.GaugeValue, int64(f.LiteSubscriptions), "lite_subscriptions")
	for i, n := range f.Delayed {
		put(descDelayed, prometheus.GaugeValue, n, strconv.Itoa(i+1))
	}
	ch <- prometheus.MustNewConstMetric(descTimed, prometheus.GaugeValue, float64(f.Timed))
	ch <- prometheus.MustNewConstMetric(descTimedBytes, prometheus.GaugeValue, float64(f.TimedBytes))
	ch <- prometheus.MustNewConstHistogram(descLate, f.Late.Count, f.Late.Sum, f.Late.Buckets)
	for _, d := range f.DeadLetters {
		ch <- prometheus.MustNewConstMetric(descDead, prometheus.CounterValue, float64(d.Messages), c.b.Cluster(), "broker", c.b.Name(),
			d.Group, d.Topic, strconv.FormatBool(message.IsSystemTopic(d.Topic)))
	}
	for _, t := range f.Transactions {
		count := func(d *prometheus.Desc, kind prometheus.ValueType, n int64) {
			ch <- prometheus.MustNewConstMetric(d, kind, float64(n), c.b.Cluster(), "broker", c.b.Name(), t.Topic)
		}
		count(descHalf, prometheus.GaugeValue, t.Half)
		count(descCommitted, prometheus.CounterValue, t.Committed)
		count(descRolledBack, prometheus.CounterValue, t.RolledBack)
	}
	c.collectPop(ch, &f.Popped)
	c.collectLags(ch)
	for topic, d := range f.Finished {
		ch <- prometheus.MustNewConstHistogram(descFinished, d.Count, d.Sum, d.Buckets, c.b.Cluster(), "broker", c.b.Name(), topic)
	}
	for topic, n := range f.TimedByTopic {
		ch <- prometheus.MustNewConstMetric(descTiming, prometheus.GaugeValue, float64(n), c.b.Cluster(), "broker", c.b.Name(), topic)
	}
	put(descLog, prometheus.GaugeValue, f.First, "first")
	put(descLog, prometheus.GaugeValue, f.Flushed, "flushed")
	put(descLog, prometheus.GaugeValue, f.Confirmed, "confirmed")
	put(descLog, prometheus.GaugeValue, f.Written, "written")
}

// putOK is the status of all that is counted here: what cannot be stored is tried again.
const putOK = "PUT_OK"

// collectPop exposes RocketMQ's figures of POP as far as they mean something here: there is no revive topic to be read back, and no buffer to
// be gone through.
func (c brokerCollector) collectPop(ch chan<- prometheus.Metric, p *broker.Popped) {
	put := func(d *prometheus.Desc, kind prometheus.ValueType, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, float64(n), append([]string{c.b.Cluster(), "broker", c.b.Name()}, labels...)...)
	}
	put(descPopOpen, prometheus.GaugeValue, p.Open)
	put(descPopLag, prometheus.GaugeValue, p.Overdue, "0")
	put(descPopLatency, prometheus.GaugeValue, p.LateMS, "0")
	for _, g := range p.Groups {
		put(descPopIn, prometheus.CounterValue, g.Delivered, g.Group, g.Topic, "CK", putOK)
		put(descPopIn, prometheus.CounterValue, g.Acked, g.Group, g.Topic, "ACK", putOK)
		put(descPopRetry, prometheus.CounterValue, g.Again, g.Group, g.Topic, putOK)
	}
}

func (c brokerCollector) collectLags(ch chan<- prometheus.Metric) {
	for _, l := range c.b.Lags() {
		put := func(d *prometheus.Desc, n int64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), c.b.Cluster(), "broker", c.b.Name(),
				l.Group, l.Topic, strconv.FormatBool(l.Retry), strconv.FormatBool(l.System))
		}
		put(descLag, l.Messages)
		put(descBehind, l.BehindMS)
		put(descInFlight, l.InFlight)
		put(descQueueing, l.QueueingMS)
		put(descReady, l.Ready)
	}
}
