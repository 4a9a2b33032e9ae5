package interop

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"

	"github.com/apogeemq/apogee/interop/go/harness"
)

// A worker is a client in a process of its own, so that it can be killed: this test binary, or
// with INTEROP_JAVA (the target folder of interop/java after `mvn verify`) the Java client.

const (
	workerArgument = "worker" // the first argument of a test binary that is to be one
	javaWorker     = "io.github.apogeemq.interop.Worker"
	javaVariable   = "INTEROP_JAVA"
	workerSenders  = 4 // of one producer, each with one message in flight
	workerReadyMax = 2 * time.Minute
)

// worker is a child process with a client in it.
type worker struct {
	name     string
	language string
	instance string
	process  *harness.Process
	journal  *journal
	ended    int64 // microseconds since 1970; 0 while it runs
	killed   bool
}

// fleet starts the workers of one test.
type fleet struct {
	dir     string
	cluster harness.Cluster
	topic   string
	started int
	all     []*worker
}

func newFleet(t *testing.T, c harness.Cluster, topic string) *fleet {
	f := &fleet{dir: t.TempDir(), cluster: c, topic: topic}
	t.Cleanup(func() {
		for _, w := range f.all {
			if w.ended == 0 {
				w.process.Kill()
			}
			if t.Failed() {
				t.Logf("%s printed, at the end: %s", w.name, w.process.LogTail())
			}
		}
	})
	return f
}

// languages are what the environment has clients for.
func languages() []string {
	if os.Getenv(javaVariable) == "" {
		return []string{"go"}
	}
	return []string{"go", "java"}
}

// produce starts a sender of so many messages a second.
func (f *fleet) produce(t *testing.T, language string, rate, bodyBytes int) *worker {
	t.Helper()
	return f.start(t, language, "produce", "", "producers", strconv.Itoa(rate), strconv.Itoa(bodyBytes))
}

// consume starts a member of a group. An instance that was there before comes back as the same
// client, for a lock as well; the empty one is new.
func (f *fleet) consume(t *testing.T, language, instance, group, listener string) *worker {
	t.Helper()
	return f.start(t, language, "consume", instance, group, listener)
}

// start runs `ROLE NAMESRV TOPIC GROUP INSTANCE JOURNAL NUMBER OPTIONS...`
func (f *fleet) start(t *testing.T, language, role, instance, group string, options ...string) *worker {
	t.Helper()
	f.started++
	name := fmt.Sprintf("%s-%s-%d", language, role, f.started)
	if instance == "" {
		instance = unique(t)
	}
	w := &worker{name: name, language: language, instance: instance}
	w.journal = &journal{path: filepath.Join(f.dir, name+".journal"), member: w, current: map[int]*ownership{}}
	arguments := append([]string{role, f.cluster.NameServer, f.topic, group, instance, w.journal.path, strconv.Itoa(f.started)},
		options...)
	program, arguments := f.command(t, language, name, arguments)
	var err error
	if w.process, err = harness.Run(filepath.Join(f.dir, name+".log"), program, arguments...); err != nil {
		t.Fatal(err)
	}
	f.all = append(f.all, w)
	return w
}

func (f *fleet) command(t *testing.T, language, name string, arguments []string) (string, []string) {
	t.Helper()
	if language == "go" {
		return os.Args[0], append([]string{workerArgument}, arguments...)
	}
	target, err := filepath.Abs(os.Getenv(javaVariable))
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(f.dir, name)
	return "java", append([]string{
		"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.home=" + home,
		"-Drocketmq.client.logRoot=" + home, "-Drocketmq.client.logLevel=WARN",
		"-cp", filepath.Join(target, "test-classes") + string(os.PathListSeparator) + filepath.Join(target, "lib", "*"),
		javaWorker,
	}, arguments...)
}

// waitReady returns when these workers' clients have started.
func (f *fleet) waitReady(t *testing.T, workers ...*worker) {
	t.Helper()
	for _, w := range workers {
		within(t, workerReadyMax, w.name+" to be ready", func() bool {
			f.follow(t)
			return w.journal.ready
		})
	}
}

// follow reads what is new in the journals. A worker that ended by itself fails the test.
func (f *fleet) follow(t *testing.T) {
	t.Helper()
	for _, w := range f.all {
		w.journal.follow(t)
		if w.ended != 0 {
			continue
		}
		select {
		case <-w.process.Exited():
			w.ended = time.Now().UnixMicro()
			t.Fatalf("%s ended by itself; it printed: %s", w.name, w.process.LogTail())
		default:
		}
	}
}

// kill ends the worker with SIGKILL.
func (w *worker) kill() {
	w.process.Kill()
	w.ended, w.killed = time.Now().UnixMicro(), true
}

// stop has the worker shut its client down.
func (w *worker) stop(t *testing.T) {
	t.Helper()
	if err := w.process.Stop(); err != nil {
		t.Error(err)
	}
	w.ended = time.Now().UnixMicro()
}

// workerMain is what a test binary does that is started as a worker.
func workerMain(arguments []string) int {
	rlog.SetLogLevel("error")
	rlog.SetOutputPath(os.DevNull)
	if err := work(arguments); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func work(arguments []string) error {
	role, namesrv, topic, group, instance := arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
	j, err := newJournalWriter(arguments[5])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	servers := primitive.NewPassthroughResolver([]string{namesrv})
	if role == "produce" {
		return workProducing(ctx, j, servers, topic, group, instance, arguments[6:])
	}
	return workConsuming(ctx, j, servers, topic, group, instance, arguments[7])
}

func workConsuming(ctx context.Context, j *journalWriter, servers primitive.NsResolver, topic, group, instance, listener string) error {
	push, err := rocketmq.NewPushConsumer(
		consumer.WithNsResolver(servers), consumer.WithGroupName(group), consumer.WithInstance(instance),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithConsumerOrder(listener == "orderly"),
		consumer.WithConsumeGoroutineNums(1), // so that it consumes in the order of pulls
		consumer.WithStrategy(func(group, client string, all []*primitive.MessageQueue, clients []string) []*primitive.MessageQueue {
			mine := consumer.AllocateByAveragely(group, client, all, clients)
			if len(all) > 0 && all[0].Topic == topic {
				j.owns(queueList(mine))
			}
			return mine
		}))
	if err != nil {
		return err
	}
	err = push.Subscribe(topic, everything, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			id, _, _ := strings.Cut(string(m.Body), " ")
			j.message("got", m.Queue.QueueId, m.QueueOffset, []byte(id))
		}
		return consumer.ConsumeSuccess, nil
	})
	if err != nil {
		return err
	}
	if err := push.Start(); err != nil {
		return err
	}
	j.write("ready", "")
	<-ctx.Done()
	return push.Shutdown()
}

func queueList(queues []*primitive.MessageQueue) string {
	var ids []string
	for _, q := range queues {
		ids = append(ids, strconv.Itoa(q.QueueId))
	}
	return strings.Join(ids, ",")
}

func workProducing(ctx context.Context, j *journalWriter, servers primitive.NsResolver, topic, group, instance string, options []string) error {
	sender := options[0]
	rate, err := strconv.Atoi(options[1])
	if err != nil {
		return err
	}
	bodyBytes, err := strconv.Atoi(options[2])
	if err != nil {
		return err
	}
	p, err := rocketmq.NewProducer(producer.WithNsResolver(servers), producer.WithGroupName(group),
		producer.WithInstanceName(instance), producer.WithRetry(0),
		producer.WithQueueSelector(producer.NewRoundRobinQueueSelector()))
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	j.write("ready", "")
	pace := time.NewTicker(time.Second / time.Duration(rate))
	var number atomic.Int64
	var senders sync.WaitGroup
	for range workerSenders {
		senders.Go(func() {
			for ctx.Err() == nil {
				<-pace.C
				sendNumber(j, p, topic, fmt.Sprintf("%s-%d", sender, number.Add(1)), bodyBytes)
			}
		})
	}
	senders.Wait()
	return p.Shutdown()
}

func sendNumber(j *journalWriter, p rocketmq.Producer, topic, id string, bodyBytes int) {
	body := append([]byte(id), ' ')
	for len(body) < bodyBytes {
		body = append(body, 'x')
	}
	attempt, cancel := context.WithTimeout(context.Background(), killSendMax)
	defer cancel()
	result, err := p.SendSync(attempt, primitive.NewMessage(topic, body))
	switch {
	case err != nil:
		time.Sleep(killPause) // the broker is down
	case result.Status == primitive.SendOK:
		j.message("acked", result.MessageQueue.QueueId, result.QueueOffset, []byte(id))
	}
}
