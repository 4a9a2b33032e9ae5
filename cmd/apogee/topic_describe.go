package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/apogeemq/apogee/protocol"
	"github.com/spf13/cobra"
)

// topicDescription is what topic describe prints.
type topicDescription struct {
	createdTopic
	Order    string             `json:"order_config,omitempty"`
	Attrs    map[string]string  `json:"attributes,omitempty"`
	Messages int64              `json:"messages"` // the queues hold, by their offsets
	Queues   []queueDescription `json:"queues"`
}

type queueDescription struct {
	Broker  string     `json:"broker"`
	Address string     `json:"address"`
	Queue   int32      `json:"queue"`
	Min     int64      `json:"min_offset"`
	Max     int64      `json:"max_offset"`
	Last    *time.Time `json:"last_message,omitempty"`
}

func newTopicDescribeCommand() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a topic's queues, their offsets and the time of the last message",
		Args:  takes("topic"),
		RunE: func(c *cobra.Command, args []string) error {
			return withCluster(c, &f, func(ctx context.Context, cl *cluster) error {
				d, err := cl.describe(ctx, args[0])
				if err != nil {
					return err
				}
				return f.out.print(c, d, d.write)
			})
		},
	}
	f.add(c)
	completeArgs(c, topicNames)
	return c
}

func (c *cluster) describe(ctx context.Context, topic string) (*topicDescription, error) {
	route, err := c.route(ctx, topic)
	if err != nil {
		return nil, err
	}
	d := &topicDescription{createdTopic: summary(topic, route), Order: route.OrderConf, Queues: []queueDescription{}}
	for _, b := range route.Brokers {
		config, err := fetch[protocol.TopicConfig](ctx, c, masterOf(b), protocol.ReqGetTopicConfig, &protocol.TopicHeader{Topic: topic})
		if isCode(err, protocol.RespRequestCodeNotSupported) { // 4.x: no attributes
			continue
		}
		if err != nil {
			return nil, err
		}
		d.Attrs = config.Attributes
	}
	for _, q := range queues(route, protocol.PermRead) {
		row := queueDescription{Broker: q.broker, Address: q.addr, Queue: q.id}
		if row.Min, row.Max, err = c.bounds(ctx, topic, q); err != nil {
			return nil, err
		}
		if row.Max > row.Min {
			if row.Last, err = c.lastStored(ctx, topic, q, row.Max); err != nil {
				return nil, err
			}
		}
		d.Messages += row.Max - row.Min
		d.Queues = append(d.Queues, row)
	}
	return d, nil
}

// lastStored returns the store time of the last message of a queue that ends at high; nil if it cannot be read any more.
func (c *cluster) lastStored(ctx context.Context, topic string, q queue, high int64) (*time.Time, error) {
	got, err := c.pull(ctx, pullRequest{group: toolsGroup, topic: topic, queue: q, offset: high - 1, count: 1, expression: "*"})
	if err != nil || len(got.records) == 0 {
		return nil, err
	}
	t := time.UnixMilli(got.records[len(got.records)-1].StoreTime)
	return &t, nil
}

const timeLayout = "2006-01-02 15:04:05.000"

func (d *topicDescription) write(w io.Writer) error {
	fmt.Fprintf(w, "topic %s: permission %s, %d messages\n", d.Topic, d.Perm, d.Messages)
	if len(d.Attrs) > 0 {
		fmt.Fprintf(w, "attributes: %s\n", propertyText(d.Attrs))
	}
	if d.Order != "" {
		fmt.Fprintf(w, "ordered queues: %s\n", d.Order)
	}
	fmt.Fprintln(w)
	t := newTable("BROKER", "ADDRESS", "QUEUE", "MIN OFFSET", "MAX OFFSET", "LAST MESSAGE")
	for _, q := range d.Queues {
		t.add(q.Broker, q.Address, q.Queue, q.Min, q.Max, timeText(q.Last))
	}
	return t.write(w)
}
