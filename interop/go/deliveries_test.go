package interop

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"
)

// What a group may see twice is what its members had consumed but not yet committed when a queue
// changed hands, and what two members consumed while both believed to have the queue.
const (
	// Clients commit with every pull and every 5 s, the first time 10 s after their start.
	commitMax = 15 * time.Second
	// A change of members is told at once. Who is not reached looks for itself every 20 s.
	overlapMax = 25 * time.Second
	// After a restart the broker knows a member from its first heartbeat on: the Go client's come every 30 s. Until then
	// others have its queues as well, and what it commits in the end may set the group's offset back.
	unknownMax = 30 * time.Second
	// What a member may finish after its rebalance took the queue away.
	finishMax = time.Second
)

// group is a consumer group of a test.
type group struct {
	name       string
	listener   string        // concurrently or orderly
	unknownMax time.Duration // how long the broker may not know a member that is there
	members    []*worker
}

func (g *group) join(t *testing.T, f *fleet, language, instance string) *worker {
	t.Helper()
	w := f.consume(t, language, instance, g.name, g.listener)
	g.members = append(g.members, w)
	return w
}

// live are the members that run.
func (g *group) live() []*worker {
	return slices.DeleteFunc(slices.Clone(g.members), func(w *worker) bool { return w.ended != 0 })
}

// consumed tells whether the members together got every one of the messages.
func (g *group) consumed(acked map[place]messageID) bool {
	delivered := 0
	for _, w := range g.members {
		delivered += w.journal.gotCount
	}
	if delivered < len(acked) {
		return false // not worth a look
	}
	return len(g.missing(acked)) == 0
}

// missing are the places of acknowledged messages that no member got.
func (g *group) missing(acked map[place]messageID) []place {
	left := maps.Clone(acked)
	for _, w := range g.members {
		for _, own := range w.journal.ownerships {
			for _, m := range own.got {
				delete(left, place{m.queue, m.offset})
			}
		}
	}
	return slices.SortedFunc(maps.Keys(left), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.offset, b.offset))
	})
}

// delivery is a message that a member got.
type delivery struct {
	journalMessage
	own *ownership
}

// groupCheck goes through what a group got, queue by queue in the order of time.
type groupCheck struct {
	t                                *testing.T
	g                                *group
	delivered, duplicates, ownership int
	afterEnd, handedOver             int           // what the duplicates are due to
	oldest                           time.Duration // between a first consumption and the change that let it come again
	unowned                          time.Duration // the longest that a queue had no owner
}

// check wants nothing lost, order within every ownership, duplicates only around a change of
// ownership, and with an orderly listener never two owners of a queue at once.
func (g *group) check(t *testing.T, acked map[place]messageID) {
	t.Helper()
	lost := g.missing(acked)
	if len(lost) > 0 {
		t.Errorf("group %s: %d messages lost, the first %v: %v", g.name, len(lost), lost[0], acked[lost[0]])
	}
	byQueue := map[int][]*ownership{}
	for _, w := range g.members {
		for _, own := range w.journal.ownerships {
			byQueue[own.queue] = append(byQueue[own.queue], own)
		}
	}
	c := &groupCheck{t: t, g: g}
	for _, owners := range byQueue {
		c.queue(owners, acked)
	}
	fmt.Printf("group %s (%s): members=%d killed=%d ownerships=%d delivered=%d lost=%d duplicates=%d (after an end %d, handed over %d) oldest=%dms unowned_max=%dms\n",
		g.name, g.listener, len(g.members), len(slices.DeleteFunc(slices.Clone(g.members), func(w *worker) bool { return !w.killed })),
		c.ownership, c.delivered, len(lost), c.duplicates, c.afterEnd, c.handedOver, c.oldest.Milliseconds(), c.unowned.Milliseconds())
}

func (c *groupCheck) queue(owners []*ownership, acked map[place]messageID) {
	var all []delivery
	slices.SortFunc(owners, func(a, b *ownership) int { return cmp.Compare(a.gained, b.gained) })
	owned := owners[0].gained // until then
	for _, own := range owners {
		c.unowned = max(c.unowned, time.Duration(own.gained-owned)*time.Microsecond)
		owned = max(owned, own.end())
		if len(own.got) > 0 {
			c.ownership++
		}
		for i, m := range own.got {
			if i > 0 && m.offset != own.got[i-1].offset+1 {
				c.t.Errorf("group %s: %s: offset %d of queue %d follows %d within one ownership", c.g.name, own.member.name,
					m.offset, m.queue, own.got[i-1].offset)
			}
			all = append(all, delivery{m, own})
		}
	}
	slices.SortStableFunc(all, func(a, b delivery) int { return cmp.Compare(a.at, b.at) })
	c.delivered += len(all)
	before := map[int64]delivery{} // the first one of each offset
	past := map[*ownership]bool{}
	for i, d := range all {
		if want, ok := acked[place{d.queue, d.offset}]; ok && want != d.id {
			c.t.Errorf("group %s: %s got %v from queue %d, offset %d, where %v was acknowledged", c.g.name, d.own.member.name,
				d.id, d.queue, d.offset, want)
		}
		if i > 0 && all[i-1].own != d.own {
			past[all[i-1].own] = true
		}
		if c.g.listener == "orderly" && past[d.own] {
			c.t.Errorf("group %s: %s consumed offset %d of queue %d after another owner began", c.g.name, d.own.member.name,
				d.offset, d.queue)
		}
		if first, ok := before[d.offset]; ok {
			c.duplicate(owners, first, d)
		} else {
			before[d.offset] = d
		}
	}
}

// duplicate wants a change of ownership that explains why a message came again.
func (c *groupCheck) duplicate(owners []*ownership, first, again delivery) {
	c.duplicates++
	if first.own == again.own {
		return // not ascending, reported before
	}
	if end := first.own.member.ended; end != 0 && end < again.at {
		c.afterEnd++
	} else {
		c.handedOver++
	}
	explained := false
	if again.own.gained >= first.own.gained { // the new owner began at what was committed
		age := consuming(owners, first.at, again.own.gained)
		c.oldest = max(c.oldest, age)
		explained = age <= commitMax+c.g.unknownMax
	} else { // the old owner had not noticed yet, and went on where it was
		overlap := time.Duration(min(first.own.end(), again.own.end())-first.own.gained) * time.Microsecond
		explained = overlap <= overlapMax+c.g.unknownMax && again.at <= again.own.end()+finishMax.Microseconds()
	}
	if !explained {
		c.t.Errorf("group %s: offset %d of queue %d came to %s (owner from %d to %d) at %d and again to %s (owner from %d to %d) at %d",
			c.g.name, again.offset, again.queue, first.own.member.name, first.own.gained, first.own.end(), first.at,
			again.own.member.name, again.own.gained, again.own.end(), again.at)
	}
}

// consuming is how much of a time somebody consumed from the queue, and so could commit.
func consuming(owners []*ownership, from, to int64) time.Duration {
	var sum int64
	for _, own := range owners { // in the order in which they got the queue
		if len(own.got) > 0 && own.end() > from {
			start := max(from, own.got[0].at)
			from = max(from, own.end())
			sum += max(0, min(to, own.end())-start)
		}
	}
	return time.Duration(sum) * time.Microsecond
}

// end is when the queue was taken away or the process ended.
func (o *ownership) end() int64 {
	switch {
	case o.lost != 0:
		return o.lost
	case o.member.ended != 0:
		return o.member.ended
	}
	return math.MaxInt64 / 2
}

// acknowledged collects what producers were told, by place. One place has one message.
func acknowledged(t *testing.T, producers []*worker) map[place]messageID {
	t.Helper()
	acked := map[place]messageID{}
	for _, w := range producers {
		for _, m := range w.journal.acked {
			at := place{m.queue, m.offset}
			if other, taken := acked[at]; taken {
				t.Errorf("%v and %v were both acknowledged for %v", other, m.id, at)
			}
			acked[at] = m.id
		}
	}
	return acked
}
