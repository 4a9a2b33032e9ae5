// Command client runs the workloads of `apogee bench` on NATS JetStream and on Apache Kafka:
//
//	client nats|kafka send|drain|e2e FLAGS
//
// The flags are those of `apogee bench`, and so are the measuring and the report, which is printed as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/apogeemq/apogee/bench"
)

// system makes connections to a peer.
type system interface {
	// sender connects one that keeps o.InFlight requests of o.Batch messages unanswered.
	sender(ctx context.Context, o *bench.SendOptions, number int, l *bench.Load) (bench.Sender, error)
	// open connects the readers of a whole topic.
	open(ctx context.Context, o *bench.DrainOptions, r *bench.Readers) (held int64, err error)
	// connect connects what sends and receives at once.
	connect(ctx context.Context, o *bench.EndToEndOptions, r *bench.Run) error
}

var systems = map[string]system{"nats": nats{}, "kafka": kafka{}}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := run(ctx, os.Args[1:])
	if err == nil {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (*bench.Report, error) {
	if len(args) < 2 || systems[args[0]] == nil {
		return nil, fmt.Errorf("%q: want nats or kafka, then send, drain or e2e", args)
	}
	s, fs := systems[args[0]], flag.NewFlagSet(args[1], flag.ContinueOnError)
	t := bench.Target{Header: "binary"}
	fs.StringVar(&t.Broker, "broker", "", "host:port of the server")
	fs.StringVar(&t.Topic, "topic", "Bench", "topic, or stream and subject")
	fs.IntVar(&t.Queues, "queues", 8, "partitions of a topic of Kafka's")
	fs.IntVar(&t.ServerPID, "pid", 0, "the server's process, to be measured")
	fs.Bool("json", true, "as `apogee bench` has it; there is nothing else")
	switch args[1] {
	case "send":
		return send(ctx, s, &t, fs, args[2:])
	case "drain":
		return drain(ctx, s, &t, fs, args[2:])
	case "e2e":
		return endToEnd(ctx, s, &t, fs, args[2:])
	}
	return nil, fmt.Errorf("%q: want send, drain or e2e", args[1])
}

func send(ctx context.Context, s system, t *bench.Target, fs *flag.FlagSet, args []string) (*bench.Report, error) {
	var o bench.SendOptions
	fs.IntVar(&o.Connections, "connections", 16, "connections")
	fs.IntVar(&o.InFlight, "in-flight", 128, "unanswered requests of a connection")
	fs.IntVar(&o.SizeBytes, "size", 1024, "body bytes of a message")
	fs.IntVar(&o.Batch, "batch", 1, "messages in a request")
	duration := fs.Duration("duration", 10*time.Second, "length of the measurement")
	fs.Int64Var(&o.Count, "count", 0, "messages to send, instead of --duration")
	warmup := fs.String("warmup", "1s", "sends before the measurement: a duration, or until-stable")
	err := fs.Parse(args)
	if err == nil {
		o.Warmup, err = bench.ParseWarmup(*warmup)
	}
	if err != nil {
		return nil, err
	}
	o.Target, o.Duration = *t, bench.Seconds(*duration)
	return bench.SendBy(ctx, o, func(ctx context.Context, number int, l *bench.Load) (bench.Sender, error) {
		return s.sender(ctx, &o, number, l)
	}, nil)
}

func drain(ctx context.Context, s system, t *bench.Target, fs *flag.FlagSet, args []string) (*bench.Report, error) {
	o := bench.DrainOptions{Group: "bench_drain"}
	fs.Int64Var(&o.Fill, "fill", 2_000_000, "messages to send first")
	fs.IntVar(&o.SizeBytes, "size", 1024, "body bytes of a message that is sent first")
	fs.IntVar(&o.Consumers, "consumers", 4, "connections")
	fs.IntVar(&o.InFlight, "in-flight", 2, "unanswered fetches of a connection")
	fs.IntVar(&o.PullMax, "pull-max", 256, "messages of a fetch, where messages are counted")
	fs.IntVar(&o.Rounds, "rounds", 1, "how often the backlog is read; the last time is measured")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	o.Target = *t
	return bench.DrainBy(ctx, o, s.sender, s.open, nil)
}

func endToEnd(ctx context.Context, s system, t *bench.Target, fs *flag.FlagSet, args []string) (*bench.Report, error) {
	o := bench.EndToEndOptions{Group: "bench_e2e"}
	fs.Float64Var(&o.Rate, "rate", 10_000, "messages per second, of all senders")
	fs.IntVar(&o.Senders, "senders", 4, "sending connections")
	fs.IntVar(&o.Consumers, "consumers", 4, "consuming connections")
	fs.IntVar(&o.InFlight, "in-flight", 1024, "unanswered sends of a sender, beyond which it holds back")
	fs.IntVar(&o.SizeBytes, "size", 1024, "body bytes of a message")
	fs.IntVar(&o.PullMax, "pull-max", 256, "messages of a fetch, where messages are counted")
	duration := fs.Duration("duration", 10*time.Second, "length of the measurement")
	grace := fs.Duration("grace", 2*time.Second, "how long after the last send a message still counts as delivered")
	warmup := fs.String("warmup", "2s", "the same before the measurement")
	err := fs.Parse(args)
	if err == nil {
		o.Warmup, err = bench.ParseWarmup(*warmup)
	}
	if err != nil {
		return nil, err
	}
	o.Target, o.Duration, o.Grace = *t, bench.Seconds(*duration), bench.Seconds(*grace)
	return bench.EndToEndBy(ctx, o, func(ctx context.Context, r *bench.Run) error { return s.connect(ctx, &o, r) }, nil)
}
