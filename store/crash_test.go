package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A run crashes at every third operation, and crashesChecked of its crashes, chosen at random, are recovered from. With STORE_CRASHES=all
// there are crashRuns runs instead, which together crash at every operation, and every crash is recovered from.
const (
	crashesChecked = 16
	crashStride    = 3
	crashRuns      = 10
)

// crashQueues is how many queues a crash test sends to.
const crashQueues = 3

// crashBatches is the queue whose records are batches, of crashSpan messages each. All records stand in crashLight as well, but those.
const (
	crashBatches = 2
	crashSpan    = 3
	crashLight   = "%LMQ%all"
)

// sent is what a crash test appended, in log order: message i of a queue, or, with queue -1, a change of state to i.
type sent struct {
	queue, index int
	end          int64 // log position behind it
}

// crash is the disk as a crash left it, and what must be there.
type crash struct {
	disk    *testDisk
	op      string
	acked   int   // what was acknowledged
	flushed int64 // log position up to which all was synced
	power   bool  // a power cut; else the end of the process
}

// crasher sends to a store, and meanwhile crashes the disk at every operation that it is told to.
type crasher struct {
	config func(*testDisk) Config
	random *rand.Rand
	stride int // of operations
	phase  int // the first of them

	store atomic.Pointer[Store]
	acked atomic.Int64
	all   []sent
	first int64 // position that the log begins at after the run

	mu      sync.Mutex // guards what follows, and random
	ops     int
	crashes []crash
}

func (c *crasher) crash(disk *testDisk, op string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops++
	s := c.store.Load()
	if c.ops%c.stride != c.phase || s == nil {
		return
	}
	now := crash{op: fmt.Sprint(op, " ", c.ops), acked: int(c.acked.Load()), flushed: s.log.Flushed()}
	now.disk = disk.kill(c.random)
	c.crashes = append(c.crashes, now)
	now.disk, now.power = disk.powerCut(c.random), true
	c.crashes = append(c.crashes, now)
}

// body is that of message i of a queue; its length goes over sectors.
func crashBody(queue, i int) string {
	return fmt.Sprintf("%d-%d-%s", queue, i, strings.Repeat(string(rune('a'+i%26)), (i*i*37+queue*200)%1500))
}

// run sends n batches, several of them in flight.
func (c *crasher) run(t *testing.T, disk *testDisk, n int) {
	s, _ := mustOpen(t, c.config(disk))
	c.store.Store(s)
	s.Hold(all)
	disk.onChange(func(op string) error { c.crash(disk, op); return nil })
	next := [crashQueues]int{}
	var wait sync.WaitGroup
	for i := range n {
		if i%4 == 3 {
			wait.Add(1)
			change := Mutation{Key: "last", Value: fmt.Append(nil, i)}
			err := s.UpdateState("test", []Mutation{change}, func(err error) { c.done(t, 1, err); wait.Done() })
			if err != nil {
				t.Fatal(err)
			}
			c.all = append(c.all, sent{-1, i, 0}) // its end is not known: before the next one's
			continue
		}
		b := &Batch{Done: func(b *Batch, err error) { c.done(t, len(b.Entries), err); wait.Done() }}
		for range 1 + i%5 {
			q := (i + len(b.Entries)) % crashQueues
			e := entryFor(s.Queue("T", int32(q)), []byte(crashBody(q, next[q])), "k")
			if q == crashBatches {
				numberedBatch(s, &e, crashSpan)
			} else {
				numberedLight(s, &e, crashLight)
			}
			b.Entries = append(b.Entries, e)
			c.all = append(c.all, sent{queue: q, index: next[q]})
			next[q]++
		}
		wait.Add(1)
		if err := s.Append(b); err != nil {
			t.Fatal(err)
		}
		for j := range b.Entries {
			e := &b.Entries[j]
			c.all[len(c.all)-len(b.Entries)+j].end = e.Record.PhysicalOffset + int64(e.Size)
		}
		if i%7 == 0 {
			wait.Wait()
		}
	}
	wait.Wait()
	disk.onChange(func(string) error { return nil })
	c.first = s.log.First()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if int(c.acked.Load()) != len(c.all) {
		t.Fatalf("%d of %d acknowledged", c.acked.Load(), len(c.all))
	}
}

func (c *crasher) done(t *testing.T, n int, err error) {
	if err != nil {
		t.Error(err)
	}
	c.acked.Add(int64(n))
}

// sure returns how many of what was sent must have survived.
func (c *crasher) sure(x crash, async bool) int {
	if !async || !x.power {
		return x.acked
	}
	n := 0
	for i, e := range c.all {
		if e.end > 0 && e.end <= x.flushed {
			n = i + 1
		}
	}
	return n
}

// found returns how many of what was sent a store holds: the messages and the state must be those of one log position.
func (c *crasher) found(t *testing.T, s *Store, extra int) int {
	t.Helper()
	var have [crashQueues][]string
	var first, ends, count [crashQueues]int // offsets: retention takes the oldest messages
	for q := range have {
		queue := s.Queue("T", int32(q))
		have[q] = readAll(t, s, queue)
		from, end := queue.Bounds()
		first[q], ends[q] = int(from), int(end)-extra
		if q == crashBatches {
			if first[q]%crashSpan != 0 || ends[q]%crashSpan != 0 {
				t.Fatalf("queue %d is [%d,%d): batches of %d", q, first[q], ends[q], crashSpan)
			}
			first[q], ends[q] = first[q]/crashSpan, ends[q]/crashSpan
		}
		if n := len(have[q]) - extra; n < 0 || slices.ContainsFunc(have[q][n:], func(b string) bool { return b != "more" }) {
			t.Fatalf("queue %d ends in %q, want %d more", q, have[q][max(n, 0):], extra)
		}
		have[q] = have[q][:len(have[q])-extra]
	}
	if _, end := s.Queue(crashLight, 0).Bounds(); int(end) != ends[0]+ends[1] {
		t.Fatalf("the light queue ends at %d, the others at %v", end, ends)
	}
	readAll(t, s, s.Queue(crashLight, 0))
	state := ""
	if err := s.State("test", func(_ string, v []byte) error { state = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	was := ""
	for n := 0; ; n++ {
		if was == state && count == ends {
			return n
		}
		if n == len(c.all) {
			t.Fatalf("queues that end at %v and state %q were never together", ends, state)
		}
		e := c.all[n]
		if e.queue < 0 {
			was = fmt.Sprint(e.index)
		} else if i := count[e.queue] - first[e.queue]; i >= 0 && i < len(have[e.queue]) && have[e.queue][i] != crashBody(e.queue, e.index) {
			t.Fatalf("queue %d at %d: %.40q", e.queue, i, have[e.queue][i])
		} else {
			count[e.queue]++
		}
	}
}

// verify recovers from a crash, with a second one meanwhile, and checks that all is there that must be, and goes on.
func (c *crasher) verify(t *testing.T, x crash) {
	t.Helper()
	config := c.config(x.disk)
	sure := c.sure(x, config.AsyncFlush)
	var second []*testDisk
	ops, at := 0, 1+c.random.IntN(12)
	var mu sync.Mutex
	x.disk.onChange(func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if ops++; ops == at {
			second = append(second, x.disk.powerCut(c.random))
		}
		return nil
	})
	s, rec := mustOpen(t, config)
	mu.Lock()
	at = -1
	mu.Unlock()
	if len(rec.Gaps) > 0 {
		t.Fatalf("%s: gaps %v", x.op, rec.Gaps)
	}
	found := c.found(t, s, 0)
	if found < sure {
		t.Fatalf("crash at %s (power %v): %d found, %d were sure", x.op, x.power, found, sure)
	}
	again := x.disk.powerCut(c.random) // what was recovered is there to stay
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.goOn(t, x, again, found)
	if !x.power && config.AsyncFlush { // the second crash is a power cut, of what only the first left
		sure = c.sure(crash{flushed: x.flushed, power: true}, true)
	}
	for _, disk := range second {
		c.goOn(t, x, disk, sure)
	}
}

// goOn opens a disk, checks it, sends, crashes once more, and checks that too.
func (c *crasher) goOn(t *testing.T, x crash, disk *testDisk, sure int) {
	t.Helper()
	s, _ := mustOpen(t, c.config(disk))
	found := c.found(t, s, 0)
	if found < sure {
		t.Fatalf("second crash after one at %s (power %v): %d found, %d were sure", x.op, x.power, found, sure)
	}
	for q := range crashQueues {
		put(t, s, entryFor(s.Queue("T", int32(q)), []byte("more"), "k"))
	}
	if err := s.log.SyncStep(); err != nil {
		t.Fatal(err)
	}
	third := disk.powerCut(c.random)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, rec := mustOpen(t, c.config(third))
	defer s.Close()
	if got := c.found(t, s, 1); got != found || len(rec.Gaps) > 0 {
		t.Fatalf("third crash after one at %s: %d found, before %d; gaps %v", x.op, got, found, rec.Gaps)
	}
}

func TestWhatWasAcknowledgedSurvivesAnyCrash(t *testing.T) {
	every := os.Getenv("STORE_CRASHES") == "all"
	for _, async := range []bool{false, true} {
		for _, spares := range []string{"zeros", "stale", "recycled"} {
			t.Run(fmt.Sprintf("async=%v/%s", async, spares), func(t *testing.T) {
				t.Parallel()
				if !every {
					crashAndRecover(t, async, spares, &crasher{stride: crashStride}, crashesChecked)
					return
				}
				for phase := range crashRuns {
					crashAndRecover(t, async, spares, &crasher{stride: crashRuns, phase: phase}, math.MaxInt)
				}
			})
		}
	}
}

// crashAndRecover makes one run and recovers from up to most of its crashes.
func crashAndRecover(t *testing.T, async bool, spares string, c *crasher, most int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c.random = rand.New(rand.NewPCG(seed, 1))
	c.config = func(d *testDisk) Config {
		config := memConfig(d)
		config.Files, config.AsyncFlush, config.MultiDispatch = d.files(), async, true
		config.FlushInterval, config.StageInterval = 3*time.Millisecond, 5*time.Millisecond
		if spares == "recycled" { // retention makes spares of the oldest segments
			config.Retention.BytesMax = 2 * config.SegmentBytes
		}
		return config
	}
	disk := newTestDisk()
	if spares == "stale" {
		disk.stale = staleSegment(t)
	}
	batches := 160
	if spares == "recycled" {
		batches = 480
	}
	c.run(t, disk, batches)
	if (c.first > 0) != (spares == "recycled") {
		t.Fatalf("the log begins at %d", c.first)
	}
	c.random.Shuffle(len(c.crashes), func(i, j int) { c.crashes[i], c.crashes[j] = c.crashes[j], c.crashes[i] })
	for _, x := range c.crashes[:min(len(c.crashes), most)] {
		c.verify(t, x)
	}
	t.Logf("%d operations, %d crashes", c.ops, len(c.crashes))
}

// staleSegment returns what a recycled segment holds: good records, but of other positions.
func staleSegment(t *testing.T) []byte {
	disk := newTestDisk()
	config := memConfig(disk)
	config.Files = disk.files()
	s, _ := mustOpen(t, config)
	for i := range 100 {
		put(t, s, entryFor(s.Queue("T", 0), []byte(crashBody(0, i)), "k"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return disk.segments[2].now[100:] // shifted, and of the second segment
}
