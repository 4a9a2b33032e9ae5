package bench

import (
	"context"
	"fmt"
	"time"
)

// Messages that wait for a moment: those of an end to end measurement with a delay, and a great many that wait meanwhile.

// spread says when the messages of a sender are due: at moments of a time that all of them fill.
type spread struct {
	from, span int64 // ms since 1970, and ms; a span of 0: who sends a message knows its moment
}

// at returns when the message with a key is due. Neighbours are far apart.
func (s spread) at(key uint64) int64 { return s.from + int64(key*0x9e3779b97f4a7c15>>16)%s.span }

// What waits is due between these times from now on. RocketMQ takes messages for three days.
const (
	pendingFrom = 4 * time.Hour
	pendingSpan = 60 * time.Hour
)

// anyMoment has a sender leave room for the moment.
var anyMoment = spread{from: 1}

// shapeNow is that of messages that do not wait.
func (o *EndToEndOptions) shapeNow(e endpoint) sendShape {
	return sendShape{topic: o.Topic, queues: e.queues, size: o.SizeBytes, batch: 1, serialize: o.Target.serialization()}
}

// shape is that of the measured messages.
func (o *EndToEndOptions) shape(e endpoint) sendShape {
	s := o.shapeNow(e)
	if o.Delay > 0 {
		s.deliver = anyMoment
	}
	return s
}

func (o *EndToEndOptions) workload() string {
	if o.Delay > 0 {
		return "timers"
	}
	return "e2e"
}

// due returns the moment of a message that is to be sent at an instant of the schedule, ms since 1970: not before its delay is over.
func (r *Run) due(at time.Duration) int64 {
	return r.epoch.Add(at+r.delay+time.Millisecond-1).UnixNano() / int64(time.Millisecond)
}

// fillPending sends the messages that wait.
func (o *EndToEndOptions) fillPending(ctx context.Context, at []endpoint, observe Observer) error {
	if o.Pending == 0 {
		return nil
	}
	send := SendOptions{
		Target: o.Target, Connections: 16, InFlight: 128, SizeBytes: o.SizeBytes, Batch: 1, Count: o.Pending,
		deliver: spread{time.Now().Add(pendingFrom).UnixMilli(), pendingSpan.Milliseconds()},
	}
	f, err := newFleet(ctx, &send, send.remoting(at))
	if err != nil {
		return err
	}
	defer f.close()
	f.start()
	_, err = watcher{observe: observe, counter: f.sent, want: o.Pending}.window(ctx, "pending", 0, false, f.done)
	f.stop()
	<-f.done
	if err := firstError(f.err, err); err != nil {
		return fmt.Errorf("sending what waits: %w", err)
	}
	return nil
}
