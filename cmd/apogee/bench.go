package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/apogeemq/apogee/bench"
	"github.com/spf13/cobra"
)

func newBenchCommand() *cobra.Command {
	return noun("bench", "Measure a broker: sends, draining a backlog, end to end latency, timers",
		"Measures Apogee or Apache RocketMQ over plain remoting.\n\n"+
			"With --pid (Linux) the report has the server's CPU time per message and its memory.",
		newBenchSendCommand(), newBenchDrainCommand(), newBenchEndToEndCommand(), newBenchTimersCommand(), newBenchTableCommand())
}

// benchFlags are those of every workload.
type benchFlags struct {
	target bench.Target
	warmup string
	hgrm   string // file
	out    output
}

func (f *benchFlags) add(c *cobra.Command, topic string) {
	fs := c.Flags()
	fs.StringVar(&f.target.NameServer, "namesrv", defaultNameServer(), "name server, host:port[;host:port] (environment NAMESRV_ADDR)")
	fs.StringVar(&f.target.Broker, "broker", "", "broker's host:port, instead of asking the name server")
	fs.StringVar(&f.target.Topic, "topic", topic, "topic; created when it is missing")
	fs.IntVar(&f.target.Queues, "queues", 8, "queues of a topic that is created")
	fs.StringVar(&f.target.Header, "header", "binary", "header serialisation: binary or json")
	fs.IntVar(&f.target.ServerPID, "pid", 0, "server's process id, to report its CPU time and memory (Linux)")
	f.out.flag(c)
}

func (f *benchFlags) resolve() {
	if f.target.Broker != "" {
		f.target.NameServer = ""
	}
}

func (f *benchFlags) report(c *cobra.Command, r *bench.Report, err error) error {
	if err != nil {
		return err
	}
	err = f.out.print(c, r, func(w io.Writer) error { r.Print(w); return nil })
	if err == nil && f.hgrm != "" {
		err = f.writeDistribution(r)
	}
	return err
}

func (f *benchFlags) addHistogram(c *cobra.Command) {
	c.Flags().StringVar(&f.hgrm, "histogram", "", "write the latencies to this file, as HdrHistogram's percentile distribution in us (.hgrm)")
}

func (f *benchFlags) writeDistribution(r *bench.Report) error {
	file, err := os.Create(f.hgrm)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteDistribution(file), file.Close())
}

// observer draws a progress bar, on a terminal only.
func observer(w io.Writer) (observe bench.Observer, done func()) {
	bar := newProgress(w)
	return func(p bench.Progress) { bar.show(p.Phase, partOf(p), benchDetail(p)) }, bar.done
}

// partOf is how much of a phase is over; less than 0 when its end is not a time.
func partOf(p bench.Progress) float64 {
	if p.Of > 0 {
		return float64(p.Messages) / float64(p.Of)
	}
	if p.Total <= 0 {
		return -1
	}
	return float64(p.Elapsed) / float64(p.Total)
}

func benchDetail(p bench.Progress) string {
	return fmt.Sprintf("%5.1f s  %12d messages  %10.0f/s", p.Elapsed.Seconds(), p.Messages, p.Rate)
}

func newBenchSendCommand() *cobra.Command {
	var f benchFlags
	o := bench.SendOptions{}
	var duration time.Duration
	c := &cobra.Command{
		Use:   "send",
		Short: "Pipelined sends: connections x in-flight requests are outstanding at any time",
		Example: "  apogee bench send                                        # throughput\n" +
			"  apogee bench send --connections 1 --in-flight 1          # latency of one request\n" +
			"  apogee bench send --batch 32 --connections 8 --in-flight 4\n" +
			"  apogee bench send --transaction                          # complete transactions",
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Warmup, err = bench.ParseWarmup(f.warmup); err != nil {
				return asUsage(err)
			}
			f.resolve()
			o.Target, o.Duration = f.target, bench.Seconds(duration)
			if err := o.Check(); err != nil {
				return asUsage(err)
			}
			observe, done := observer(c.ErrOrStderr())
			r, err := bench.Send(c.Context(), o, observe)
			done()
			return f.report(c, r, err)
		},
	}
	f.add(c, "ApogeeBenchSend")
	f.addHistogram(c)
	fs := c.Flags()
	fs.IntVar(&o.Connections, "connections", 16, "connections")
	fs.IntVar(&o.InFlight, "in-flight", 128, "unanswered requests of a connection")
	fs.IntVar(&o.SizeBytes, "size", 1024, "body bytes of a message")
	fs.IntVar(&o.Batch, "batch", 1, "messages in a request")
	fs.BoolVar(&o.Transaction, "transaction", false, "half messages, each committed once it is answered: both count as one message")
	fs.DurationVar(&duration, "duration", 10*time.Second, "length of the measurement")
	fs.Int64Var(&o.Count, "count", 0, "messages to send, instead of --duration")
	fs.StringVar(&f.warmup, "warmup", "1s", "sends before the measurement: a duration, or until-stable (60s at most)")
	return c
}

func newBenchDrainCommand() *cobra.Command {
	var f benchFlags
	o := bench.DrainOptions{}
	c := &cobra.Command{
		Use:   "drain",
		Short: "Fill a topic, then pull or pop all of it",
		Example: "  apogee bench drain\n" +
			"  apogee bench drain --pop                                 # POP, an acknowledgement for each message\n" +
			"  apogee bench drain --pop --ack-batch                     # one for all that a pop brought of a queue",
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			f.resolve()
			o.Target = f.target
			if err := o.Check(); err != nil {
				return asUsage(err)
			}
			observe, done := observer(c.ErrOrStderr())
			r, err := bench.Drain(c.Context(), o, observe)
			done()
			return f.report(c, r, err)
		},
	}
	f.add(c, "ApogeeBenchDrain")
	fs := c.Flags()
	fs.Int64Var(&o.Fill, "fill", 2_000_000, "messages to send first; 0 drains what the topic holds")
	fs.IntVar(&o.SizeBytes, "size", 1024, "body bytes of a message that is sent first")
	fs.IntVar(&o.Consumers, "consumers", 4, "connections, among which the queues are shared out")
	fs.IntVar(&o.InFlight, "in-flight", 4, "unanswered pulls of a queue, each of its own part of it")
	fs.IntVar(&o.PullMax, "pull-max", 32, "messages that a pull asks for")
	fs.IntVar(&o.Rounds, "rounds", 1, "how often the backlog is read; the last time is measured")
	fs.StringVar(&o.Group, "group", "apogee_bench_drain", "consumer group")
	fs.BoolVar(&o.Pop, "pop", false, "by POP: all of the topic, as a group of its own, each message acknowledged; --in-flight is then of a connection")
	fs.BoolVar(&o.AckBatch, "ack-batch", false, "with --pop: acknowledge in batches")
	fs.BoolVar(&o.Verify, "verify", false, "check the checksum of every record")
	return c
}

func newBenchEndToEndCommand() *cobra.Command {
	var o bench.EndToEndOptions
	c := newPacedCommand(&o, &cobra.Command{
		Use:   "e2e",
		Short: "Sends at a fixed rate and long-polling consumers: what is delivered, and how late",
		Long: "Sends at a fixed rate while consumers of a group long-poll. A latency counts from the instant at which the schedule wanted\n" +
			"the message sent to its receipt, so that a server that stalls the senders cannot hide it. The warm-up runs at the same rate; then\n" +
			"nothing is sent for two seconds, so that a backlog of the warm-up does not count.",
	}, "ApogeeBenchE2E", "apogee_bench_e2e")
	return c
}

func newBenchTimersCommand() *cobra.Command {
	var o bench.EndToEndOptions
	var delay time.Duration
	c := newPacedCommand(&o, &cobra.Command{
		Use:   "timers",
		Short: "Messages that wait for a moment, sent at a fixed rate: how late they come",
		Long: "Sends at a fixed rate messages that are due after --delay, while consumers long-poll. A lateness counts from the moment that a message\n" +
			"names to its receipt. With --pending, so many others are sent before, which are due hours later. RocketMQ delivers at whole seconds.",
		Example: "  apogee bench timers --rate 5000 --delay 5s\n  apogee bench timers --pending 10000000 --size 128",
		PreRunE: func(*cobra.Command, []string) error {
			if o.Delay = bench.Seconds(delay); delay < time.Millisecond {
				return usagef("--delay %s: want a millisecond or more", delay)
			}
			return nil
		},
	}, "ApogeeBenchTimers", "apogee_bench_timers")
	c.Flags().DurationVar(&delay, "delay", 5*time.Second, "after which a message is due")
	c.Flags().Int64Var(&o.Pending, "pending", 0, "messages that wait meanwhile")
	return c
}

// newPacedCommand makes c a workload of sends at a fixed rate.
func newPacedCommand(o *bench.EndToEndOptions, c *cobra.Command, topic, group string) *cobra.Command {
	var f benchFlags
	var duration, grace time.Duration
	c.Args = takes()
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if o.Warmup, err = bench.ParseWarmup(f.warmup); err != nil {
			return asUsage(err)
		}
		f.resolve()
		o.Target, o.Duration, o.Grace = f.target, bench.Seconds(duration), bench.Seconds(grace)
		if err := o.Check(); err != nil {
			return asUsage(err)
		}
		observe, done := observer(c.ErrOrStderr())
		r, err := bench.EndToEndLatency(c.Context(), *o, observe)
		done()
		return f.report(c, r, err)
	}
	f.add(c, topic)
	f.addHistogram(c)
	fs := c.Flags()
	fs.Float64Var(&o.Rate, "rate", 10_000, "messages per second, of all senders")
	fs.IntVar(&o.Senders, "senders", 4, "sending connections")
	fs.IntVar(&o.Consumers, "consumers", 4, "consuming connections, among which the queues are shared out")
	fs.IntVar(&o.InFlight, "in-flight", 1024, "unanswered sends of a sender, beyond which it holds back")
	fs.IntVar(&o.SizeBytes, "size", 1024, "body bytes of a message")
	fs.IntVar(&o.PullMax, "pull-max", 32, "messages that a pull asks for")
	fs.DurationVar(&duration, "duration", 10*time.Second, "length of the measurement")
	fs.DurationVar(&grace, "grace", 2*time.Second, "how long after the last send a message still counts as delivered")
	fs.StringVar(&f.warmup, "warmup", "2s", "time before the measurement")
	fs.StringVar(&o.Group, "group", group, "consumer group")
	return c
}

func newBenchTableCommand() *cobra.Command {
	var out output
	var baseline string
	c := &cobra.Command{
		Use:   "table DIR",
		Short: "Print the results DIR/SERVER/CASE.json side by side",
		Args:  takes("directory"),
		RunE: func(c *cobra.Command, args []string) error {
			results, err := bench.ReadResults(os.DirFS(args[0]))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if out.json {
				return out.writeJSON(c.OutOrStdout(), results)
			}
			return bench.PrintResults(c.OutOrStdout(), results, baseline)
		},
	}
	c.Flags().StringVar(&baseline, "baseline", "rocketmq", "server of which the others are given as a multiple")
	out.flag(c)
	return c
}
