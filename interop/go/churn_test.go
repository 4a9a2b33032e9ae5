package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/apogeemq/apogee/interop/go/harness"
)

const (
	churnEventsDefault = 24
	churnEventsLong    = 100 // from here on everything that makes queues wait for a lock of 60 s
	churnQueues        = 8
	churnRate          = 300 // messages a second of one producer
	churnBodyBytes     = 256
	churnSettleMax     = 3 * time.Minute
)

// TestChurn has consumers join, leave and be killed with SIGKILL while messages flow, CHURN_EVENTS
// times: a group that consumes concurrently, in all languages, and an orderly one for each.
func TestChurn(t *testing.T) {
	events := churnEvents(t)
	_, c := harness.Own(t)
	f := newFleet(t, c, newTopic(t, c, churnQueues))
	crowd := &group{name: unique(t), listener: "concurrently"}
	groups, ordered, producers := []*group{crowd}, []*group{}, []*worker{}
	for _, language := range languages() {
		crowd.join(t, f, language, "")
		g := &group{name: unique(t), listener: "orderly"}
		for range orderedMembers(language, events) {
			g.join(t, f, language, "")
		}
		groups, ordered = append(groups, g), append(ordered, g)
		producers = append(producers, f.produce(t, language, churnRate, churnBodyBytes))
	}
	f.waitReady(t, f.all...)
	for event := range events {
		churn(t, f, crowd, event)
		if event%4 == 0 {
			churnOrdered(t, f, ordered[event/4%len(ordered)], event/8)
		}
		f.follow(t)
		time.Sleep(time.Duration(300+rand.IntN(1200)) * time.Millisecond) // the moment of a change is chance
	}
	for _, g := range ordered {
		if live := g.live(); len(live) > 1 {
			f.waitReady(t, live...)
			live[0].stop(t)
		}
		if events >= churnEventsLong {
			last := g.live()[0]
			last.kill()
			g.join(t, f, last.language, "") // another client, which has to wait for the locks
		}
	}
	for _, w := range producers {
		w.stop(t)
	}
	f.follow(t)
	acked := acknowledged(t, producers)
	fmt.Printf("churn: events=%d acked=%d\n", events, len(acked))
	settle(t, f, groups, acked, churnSettleMax)
}

// settle waits until every group has everything, stops the consumers, and checks what they got.
func settle(t *testing.T, f *fleet, groups []*group, acked map[place]messageID, most time.Duration) {
	t.Helper()
	began := time.Now()
	deadline := began.Add(most)
	for _, g := range groups {
		for !g.consumed(acked) && time.Now().Before(deadline) {
			time.Sleep(200 * time.Millisecond)
			f.follow(t)
		}
	}
	fmt.Printf("settled after %dms\n", time.Since(began).Milliseconds())
	for _, g := range groups {
		for _, w := range g.live() {
			w.stop(t)
		}
	}
	f.follow(t)
	for _, g := range groups {
		g.check(t, acked)
	}
}

// orderedMembers says how many members an orderly group has. The official Go client does not release
// the lock of a queue that a rebalance takes from it: whoever gets that queue waits 60 s.
func orderedMembers(language string, events int) int {
	if language == "go" && events < churnEventsLong {
		return 1
	}
	return 2
}

// churn is one change of a group that consumes concurrently. It has from two to six members.
func churn(t *testing.T, f *fleet, g *group, event int) {
	t.Helper()
	live := g.live()
	switch event % 4 {
	case 0, 1:
		g.join(t, f, languages()[event/2%len(languages())], "")
	case 2:
		live[rand.IntN(len(live))].kill()
	case 3:
		f.waitReady(t, live[0])
		live[0].stop(t)
	}
}

// churnOrdered kills a member and has it come back as the same client, which has its locks at once,
// or has one leave and then a new one join.
func churnOrdered(t *testing.T, f *fleet, g *group, event int) {
	t.Helper()
	live := g.live()
	w := live[rand.IntN(len(live))]
	instance := w.instance
	if event%2 == 0 {
		w.kill()
	} else {
		f.waitReady(t, w)
		w.stop(t)
		instance = ""
	}
	g.join(t, f, w.language, instance)
}

func churnEvents(t *testing.T) int {
	text := os.Getenv("CHURN_EVENTS")
	if text == "" {
		return churnEventsDefault
	}
	events, err := strconv.Atoi(text)
	if err != nil || events < 1 {
		t.Fatalf("CHURN_EVENTS=%q is not a number of changes", text)
	}
	return events
}
