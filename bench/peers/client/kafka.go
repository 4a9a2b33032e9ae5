package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/apogeemq/apogee/bench"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafka is Apache Kafka. Messages of one send each go through the client's own batching, as everybody sends to it; a batch of
// messages is one request. Consumers fetch partitions that they are given, without a group.
type kafka struct{}

// nodeID is the one broker's.
const nodeID = 1

// topic is what requests name.
type topic struct {
	name       string
	id         [16]byte
	partitions int
}

func newClient(t *bench.Target, opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(opts, kgo.SeedBrokers(t.Broker), kgo.DefaultProduceTopic(t.Topic), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordDeliveryTimeout(answerTimeout), kgo.MetadataMinAge(100*time.Millisecond))...)
}

// readyTopic makes the topic if there is none, and waits until its partitions have a leader.
func readyTopic(ctx context.Context, cl *kgo.Client, t *bench.Target) (*topic, error) {
	create := kmsg.NewPtrCreateTopicsRequest()
	create.TimeoutMillis = int32(answerTimeout.Milliseconds())
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = t.Topic, int32(t.Queues), 1
	create.Topics = append(create.Topics, wanted)
	if _, err := create.RequestWith(ctx, cl); err != nil {
		return nil, err
	}
	ask := kmsg.NewPtrMetadataRequest()
	named := kmsg.NewMetadataRequestTopic()
	named.Topic = kmsg.StringPtr(t.Topic)
	ask.Topics = append(ask.Topics, named)
	for deadline := time.Now().Add(answerTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		answer, err := ask.RequestWith(ctx, cl)
		if err != nil {
			return nil, err
		}
		found := answer.Topics[0]
		ready := found.ErrorCode == 0 && len(found.Partitions) > 0
		for _, p := range found.Partitions {
			ready = ready && p.ErrorCode == 0
		}
		if ready {
			return &topic{t.Topic, found.TopicID, len(found.Partitions)}, nil
		}
	}
	return nil, fmt.Errorf("topic %q is not ready after %s", t.Topic, answerTimeout)
}

// kafkaSender keeps messages, or batches, unanswered over one client.
type kafkaSender struct {
	*bench.Tally
	mu     sync.Mutex // guards Tally: callbacks come from the client's goroutines
	load   *bench.Load
	cl     *kgo.Client
	topic  *topic
	o      *bench.SendOptions
	number int
	body   []byte
}

func (kafka) sender(ctx context.Context, o *bench.SendOptions, number int, l *bench.Load) (bench.Sender, error) {
	cl, err := newClient(&o.Target)
	if err != nil {
		return nil, err
	}
	s := &kafkaSender{Tally: bench.NewTally(l), load: l, cl: cl, o: o, number: number, body: bytes.Repeat([]byte("x"), o.SizeBytes)}
	if s.topic, err = readyTopic(ctx, cl, &o.Target); err != nil {
		cl.Close()
		return nil, err
	}
	return s, nil
}

func (s *kafkaSender) Close() { s.cl.Close() }

// Finish has nothing to bound: the client gives up by itself.
func (s *kafkaSender) Finish() {}

func (s *kafkaSender) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Stopped()
}

func (s *kafkaSender) done(began time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.Refused(err.Error())
		return
	}
	s.Answered(time.Since(began), s.o.Batch)
}

func (s *kafkaSender) Run() error {
	if s.o.Batch > 1 {
		return s.batches()
	}
	window := make(chan struct{}, s.o.InFlight)
	for {
		window <- struct{}{}
		if s.stopped() || s.load.Claim(1) == 0 {
			break
		}
		began := time.Now()
		s.cl.Produce(context.Background(), &kgo.Record{Value: s.body}, func(_ *kgo.Record, err error) {
			s.done(began, err)
			<-window
		})
	}
	return s.cl.Flush(context.Background())
}

// batches sends requests of exactly one batch each, which is encoded once.
func (s *kafkaSender) batches() error {
	batch := recordBatch(s.o.Batch, s.body)
	var wg sync.WaitGroup
	for i := range s.o.InFlight {
		wg.Go(func() {
			for n := s.number + i; !s.stopped() && s.load.Claim(1) > 0; n++ {
				began := time.Now()
				s.done(began, s.topic.produce(s.cl, n, batch))
			}
		})
	}
	wg.Wait()
	return nil
}

func (t *topic) produce(cl *kgo.Client, n int, batch []byte) error {
	r := kmsg.NewPtrProduceRequest()
	r.Acks, r.TimeoutMillis = -1, int32(answerTimeout.Milliseconds())
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = int32(n%t.partitions), batch
	of := kmsg.NewProduceRequestTopic()
	of.Topic, of.TopicID, of.Partitions = t.name, t.id, append(of.Partitions, p)
	r.Topics = append(r.Topics, of)
	answer, err := cl.Broker(nodeID).Request(context.Background(), r)
	if err != nil {
		return err
	}
	return errorOf(answer.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

// open adds readers that fetch without a session: offsets are counted, and records not decoded, as `apogee bench` does.
func (kafka) open(ctx context.Context, o *bench.DrainOptions, r *bench.Readers) (held int64, err error) {
	for i := range o.Consumers {
		cl, err := newClient(&o.Target)
		if err != nil {
			return 0, err
		}
		t, err := readyTopic(ctx, cl, &o.Target)
		if err != nil {
			return 0, err
		}
		d := &drainer{Reader: bench.NewReader(), cl: cl, topic: t}
		for p := i; p < t.partitions; p += o.Consumers {
			d.parts = append(d.parts, part{number: int32(p)})
		}
		if err := d.measure(ctx); err != nil {
			return 0, err
		}
		for _, p := range d.parts {
			held += p.end
		}
		r.Add(d.Reader, cl.Close, func() error { return d.run(ctx) })
	}
	return held, nil
}

type part struct {
	number    int32
	next, end int64
}

// drainer reads its partitions with one fetch after the other.
type drainer struct {
	*bench.Reader
	cl    *kgo.Client
	topic *topic
	parts []part
}

// measure asks for the partitions' ends.
func (d *drainer) measure(ctx context.Context) error {
	r := kmsg.NewPtrListOffsetsRequest()
	of := kmsg.NewListOffsetsRequestTopic()
	of.Topic = d.topic.name
	for _, p := range d.parts {
		q := kmsg.NewListOffsetsRequestTopicPartition()
		q.Partition, q.Timestamp = p.number, -1
		of.Partitions = append(of.Partitions, q)
	}
	r.Topics = append(r.Topics, of)
	answer, err := d.cl.Broker(nodeID).Request(ctx, r)
	if err != nil {
		return err
	}
	for _, found := range answer.(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
		if err := errorOf(found.ErrorCode); err != nil {
			return err
		}
		d.part(found.Partition).end = found.Offset
	}
	return nil
}

// part returns one of the reader's partitions; answers have them in any order.
func (d *drainer) part(number int32) *part {
	return &d.parts[slices.IndexFunc(d.parts, func(p part) bool { return p.number == number })]
}

func (d *drainer) run(ctx context.Context) error {
	for {
		r := kmsg.NewPtrFetchRequest()
		r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = 500, 1, 50<<20, -1 // the Java consumer's
		of := kmsg.NewFetchRequestTopic()
		of.Topic, of.TopicID = d.topic.name, d.topic.id
		for _, p := range d.parts {
			if p.next < p.end {
				q := kmsg.NewFetchRequestTopicPartition()
				q.Partition, q.FetchOffset, q.PartitionMaxBytes = p.number, p.next, 1<<20
				of.Partitions = append(of.Partitions, q)
			}
		}
		if len(of.Partitions) == 0 {
			return nil
		}
		r.Topics = append(r.Topics, of)
		answer, err := d.cl.Broker(nodeID).Request(ctx, r)
		if err != nil {
			return err
		}
		if err := d.take(answer.(*kmsg.FetchResponse)); err != nil {
			return err
		}
	}
}

func (d *drainer) take(answer *kmsg.FetchResponse) error {
	if err := errorOf(answer.ErrorCode); err != nil {
		return err
	}
	for _, found := range answer.Topics[0].Partitions {
		if err := errorOf(found.ErrorCode); err != nil {
			return err
		}
		p := d.part(found.Partition)
		next := min(max(batchesEnd(found.RecordBatches), p.next), p.end)
		d.Read(next-p.next, int64(len(found.RecordBatches)))
		p.next = next
	}
	return nil
}

func (kafka) connect(ctx context.Context, o *bench.EndToEndOptions, r *bench.Run) error {
	var t *topic
	for i := range o.Senders {
		cl, err := newClient(&o.Target)
		if err != nil {
			return err
		}
		if t, err = readyTopic(ctx, cl, &o.Target); err != nil {
			return err
		}
		if i == 0 { // the first message of a producer waits for its id
			if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("first")}).FirstErr(); err != nil {
				return err
			}
		}
		p := r.NewPaced()
		write := func(first, n int) error {
			for seq := first; seq < first+n; seq++ {
				body, measured := make([]byte, o.SizeBytes), p.Measured(seq)
				p.Stamp(body, seq)
				cl.Produce(context.Background(), &kgo.Record{Value: body}, func(_ *kgo.Record, err error) { p.Answered(measured && err == nil) })
			}
			return nil
		}
		r.Send(cl.Close, func() error { return p.Pace(o.InFlight, write) })
	}
	for i := range o.Consumers {
		own := map[int32]kgo.Offset{}
		for p := i; p < t.partitions; p += o.Consumers {
			own[int32(p)] = kgo.NewOffset().AtEnd()
		}
		cl, err := newClient(&o.Target, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.name: own}))
		if err != nil {
			return err
		}
		r.Listen(cl.Close, receive(cl, r.NewReceiver()))
	}
	return nil
}

func receive(cl *kgo.Client, c *bench.Receiver) func() error {
	return func() error {
		for {
			fetches := cl.PollFetches(context.Background())
			if err := fetches.Err(); err != nil {
				return err
			}
			now := c.Now()
			fetches.EachRecord(func(r *kgo.Record) { c.Receive(r.Value, now) })
		}
	}
}
