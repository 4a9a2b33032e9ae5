package main

import (
	"context"

	"github.com/apogeemq/apogee/message"
	"github.com/spf13/cobra"
)

// Brokers keep what waits in queues of their own topics: half messages, messages for a moment. What such a queue says is found by reading
// it, as RocketMQ's broker does.

// scan reads queue 0 of a system topic on one broker.
type scan struct {
	cl       *cluster
	group    string
	topic    string
	at       queue
	most     int64                    // messages
	part     func(next int64) float64 // of the way; what the progress shows
	progress *progress
}

// newScan shows its progress on a terminal, as the command's error output.
func newScan(c *cobra.Command, cl *cluster, b broker, topic string, most int64) *scan {
	return &scan{cl: cl, group: toolsGroup, topic: topic, at: queue{broker: b.name, addr: b.addr}, most: most, progress: newProgress(c.ErrOrStderr())}
}

// scanCount is how many messages one pull asks for; RocketMQ gives no more than 32.
const scanCount = 256

// each calls fn for the messages from an offset on up to another; more tells that there were too many of them.
func (s *scan) each(ctx context.Context, from, to int64, fn func(*message.Record)) (more bool, err error) {
	defer s.progress.done()
	s.part = func(next int64) float64 { return float64(next-from) / float64(to-from) }
	return s.read(ctx, from, to, fn)
}

func (s *scan) read(ctx context.Context, from, to int64, fn func(*message.Record)) (more bool, err error) {
	var read int64
	for next := from; next < to; {
		if read >= s.most {
			return true, nil
		}
		got, err := s.cl.pull(ctx, pullRequest{group: s.group, topic: s.topic, queue: s.at, offset: next, count: scanCount, expression: "*"})
		if err != nil {
			return false, err
		}
		for i := range got.records {
			if m := &got.records[i]; m.QueueOffset < to {
				fn(m)
				read++
			}
		}
		if got.next <= next {
			return false, nil // the rest is gone
		}
		next = got.next
		s.progress.show(s.at.broker, s.part(next), s.topic)
	}
	return false, nil
}

// windowMax is how many messages backwards holds at a time.
const windowMax = 4096

// backwards calls fn for the newest messages, the last one first; more tells that there were too many of them.
func (s *scan) backwards(ctx context.Context, fn func(*message.Record)) (more bool, err error) {
	defer s.progress.done()
	low, high, err := s.bounds(ctx)
	first := max(low, high-s.most)
	for to := high; to > first && err == nil; to -= windowMax {
		var window []message.Record
		from := max(first, to-windowMax)
		s.part = func(next int64) float64 { return float64(high-to+next-from) / float64(high-first) }
		_, err = s.read(ctx, from, to, func(m *message.Record) { window = append(window, *m) })
		for i := len(window) - 1; i >= 0; i-- {
			fn(&window[i])
		}
	}
	return first > low, err
}

// bounds returns where the queue begins and ends; a topic that there is not has nothing.
func (s *scan) bounds(ctx context.Context) (low, high int64, err error) {
	low, high, err = s.cl.bounds(ctx, s.topic, s.at)
	return low, max(high, low), err
}
