package interop

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	killRoundsDefault = 50
	killRoundsAsync   = 3
	killSenders       = 8
	killQueues        = 4
	killSendMax       = 500 * time.Millisecond // a request that died with its connection ends here
	killPause         = 20 * time.Millisecond  // between attempts while the broker is down
	killBodyBytes     = 256

	recycleRounds = 3
	recycleBytes  = 48 << 20 // twice what is kept, in each round
	writtenMetric = `apogee_log_position_bytes{position="written"}`
)

// place is where the broker said that a message is.
type place struct {
	queue  int
	offset int64
}

// load sends until it is stopped and keeps what was acknowledged.
type load struct {
	acks atomic.Int64

	mu    sync.Mutex // guards what follows
	acked map[string]place
	tried int
}

func (l *load) run(ctx context.Context, p rocketmq.Producer, topic string, sender int) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%d-%d", sender, n)
		m := primitive.NewMessage(topic, slices.Grow([]byte(id), killBodyBytes)[:killBodyBytes])
		m.WithProperty("id", id)
		attempt, cancel := context.WithTimeout(ctx, killSendMax)
		result, err := p.SendSync(attempt, m)
		cancel()
		l.mu.Lock()
		l.tried++
		if err == nil && result.Status == primitive.SendOK {
			l.acked[id] = place{result.MessageQueue.QueueId, result.QueueOffset}
		}
		l.mu.Unlock()
		if err != nil {
			time.Sleep(killPause)
			continue
		}
		l.acks.Add(1)
	}
}

// start has senders send until ctx ends.
func (l *load) start(ctx context.Context, t *testing.T, c harness.Cluster, topic string) *sync.WaitGroup {
	var senders sync.WaitGroup
	for sender := range killSenders {
		p := newProducer(t, c, producer.WithRetry(0), producer.WithQueueSelector(producer.NewRoundRobinQueueSelector()))
		senders.Go(func() { l.run(ctx, p, topic, sender) })
	}
	return &senders
}

// TestKill9UnderLoad kills the broker with SIGKILL while it takes messages, KILL_ROUNDS times.
// Whatever was acknowledged must be there, once, where the acknowledgement said.
func TestKill9UnderLoad(t *testing.T) {
	killUnderLoad(t, "synchronous", killRounds(t, killRoundsDefault))
}

// TestKill9UnderLoadInAsynchronousFlush does the same where an acknowledged message is written and not yet on disk: only a power cut may
// take it.
func TestKill9UnderLoadInAsynchronousFlush(t *testing.T) {
	t.Setenv("APOGEE_FLUSH_DISK_TYPE", "ASYNC_FLUSH")
	killUnderLoad(t, "asynchronous", killRounds(t, killRoundsAsync))
}

func killUnderLoad(t *testing.T, flush string, rounds int) {
	s, c := harness.Own(t)
	topic := newTopic(t, c, killQueues)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l := &load{acked: map[string]place{}}
	senders := l.start(ctx, t, c, topic)
	var restarts []time.Duration
	for range rounds {
		waitForAck(t, l)
		time.Sleep(time.Duration(100+rand.IntN(500)) * time.Millisecond) // the moment of a kill is chance
		s.Kill()
		started := time.Now()
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		restarts = append(restarts, time.Since(started))
	}
	waitForAck(t, l)
	stop()
	senders.Wait()
	found, _ := readAll(t, c, topic)
	var lost, misplaced, duplicates, unacked int
	for id, acked := range l.acked {
		at := found[id]
		switch {
		case len(at) == 0:
			lost++
			t.Errorf("lost: %s, acknowledged for queue %d, offset %d", id, acked.queue, acked.offset)
		case !slices.Contains(at, acked):
			misplaced++
			t.Errorf("misplaced: %s is at %v, acknowledged for %v", id, at, acked)
		}
	}
	for id, at := range found {
		duplicates += len(at) - 1
		if _, acked := l.acked[id]; !acked {
			unacked++
		}
	}
	if duplicates > 0 {
		t.Errorf("%d duplicates, though no send was repeated", duplicates)
	}
	slices.Sort(restarts)
	line := fmt.Sprintf("kill9: %s flush, rounds=%d acked=%d found=%d lost=%d duplicates=%d unacked_present=%d restart_p50=%dms max=%dms",
		flush, rounds, len(l.acked), len(l.acked)-lost, lost, duplicates, unacked,
		restarts[len(restarts)/2].Milliseconds(), restarts[len(restarts)-1].Milliseconds())
	fmt.Println(line)
	t.Logf("%s tried=%d misplaced=%d", line, l.tried, misplaced)
}

func killRounds(t *testing.T, short int) int {
	text := os.Getenv("KILL_ROUNDS")
	if text == "" {
		return short
	}
	rounds, err := strconv.Atoi(text)
	if err != nil || rounds < 1 {
		t.Fatalf("KILL_ROUNDS=%q is not a number of rounds", text)
	}
	return rounds
}

// waitForAck returns when something more has been acknowledged: each round kills a broker that
// took messages, and in the end it works.
func waitForAck(t *testing.T, l *load) {
	t.Helper()
	before := l.acks.Load()
	eventually(t, "an acknowledgement after the restart", func() bool { return l.acks.Load() > before })
}

// TestKill9WhileSegmentsAreUsedAgain kills the broker while old segments become new ones. What is still kept must be there, and nothing
// that an earlier use of a segment has left.
func TestKill9WhileSegmentsAreUsedAgain(t *testing.T) {
	t.Setenv("APOGEE_MAPPED_FILE_SIZE_COMMIT_LOG", "4MiB")
	t.Setenv("APOGEE_MAX_MESSAGE_SIZE", "1MiB")
	t.Setenv("APOGEE_LOG_BYTES_MAX", "24MiB")
	s, c := harness.Own(t)
	topic, filler := newTopic(t, c, killQueues), newTopic(t, c, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l := &load{acked: map[string]place{}}
	senders := l.start(ctx, t, c, topic)
	p := newProducer(t, c, producer.WithRetry(0))
	noise := make([]byte, 512<<10) // clients compress what they can
	crand.Read(noise)
	senders.Go(func() {
		for ctx.Err() == nil {
			if _, err := p.SendSync(ctx, primitive.NewMessage(filler, noise)); err != nil {
				time.Sleep(killPause)
			}
		}
	})
	for range recycleRounds {
		written := metrics(t, s)[writtenMetric]
		eventually(t, "the log to be written over", func() bool { return metrics(t, s)[writtenMetric] > written+recycleBytes })
		s.Kill()
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		waitForAck(t, l)
	}
	stop()
	senders.Wait()
	found, first := readAll(t, c, topic)
	kept, gone := 0, 0
	for id, acked := range l.acked {
		switch {
		case slices.Contains(found[id], acked):
			kept++
		case acked.offset < first[acked.queue]:
			gone++
		default:
			t.Errorf("lost: %s, acknowledged for queue %d, offset %d, is at %v", id, acked.queue, acked.offset, found[id])
		}
	}
	fmt.Printf("kill9 while segments are used again: rounds=%d acked=%d kept=%d removed by retention=%d\n", recycleRounds, len(l.acked), kept, gone)
	if kept == 0 || gone == 0 {
		t.Errorf("%d messages kept and %d removed: want some of each", kept, gone)
	}
}

// readAll reads every queue from the first offset that is kept up to a mark at its end, and returns these first offsets, too. That the
// offsets have no gaps is checked on the way.
func readAll(t *testing.T, c harness.Cluster, topic string) (found map[string][]place, first map[int]int64) {
	t.Helper()
	p := newProducer(t, c, producer.WithQueueSelector(producer.NewManualQueueSelector()))
	pull := startPull(t, c, unique(t), topic)
	found, first = map[string][]place{}, map[int]int64{}
	for _, queue := range queuesOf(t, c, topic) {
		mark := primitive.NewMessage(topic, []byte("mark"))
		mark.Queue = queue
		end := send(t, p, mark).QueueOffset
		look, err := pull.PullFrom(t.Context(), queue, end, 1)
		if err != nil {
			t.Fatal(err)
		}
		first[queue.QueueId] = look.MinOffset
		for _, m := range readFrom(t, pull, queue, look.MinOffset, end) {
			id := m.GetProperty("id")
			if id == "" || len(m.Body) != killBodyBytes || string(m.Body[:len(id)]) != id {
				t.Errorf("queue %d, offset %d: not a message that was sent: id %q, body of %d bytes", queue.QueueId,
					m.QueueOffset, id, len(m.Body))
				continue
			}
			found[id] = append(found[id], place{queue.QueueId, m.QueueOffset})
		}
	}
	return found, first
}
