package lite

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/google/go-cmp/cmp"
)

func client(id string) Client { return Client{"G", id} }

func ids(list []Client) (all []string) {
	for _, c := range list {
		all = append(all, c.Group+"/"+c.ID)
	}
	return all
}

func want(t *testing.T, got any, want ...string) {
	t.Helper()
	if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); diff != "" {
		t.Error(diff)
	}
}

// all takes what is ready for a client.
func (r *Registry) all(c Client) (topics []string) {
	for topic, ok := r.Next(c); ok; topic, ok = r.Next(c) {
		topics = append(topics, topic)
	}
	return topics
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestOneOfAGroupIsWokenForEachThing(t *testing.T) {
	r := &Registry{Max: 100}
	other := Client{"H", "h"}
	for _, c := range []Client{client("a"), client("b"), client("c"), other} {
		must[[]string](t)(r.Replace(c, "P", []string{"x", "y"}, -1, 0))
		for range 2 { // asked twice, it is woken once
			if !r.Wait(c) {
				t.Errorf("%v does not wait", c)
			}
		}
	}
	want(t, ids(r.Arrived("P", "x")), "G/a", "H/h")
	want(t, ids(r.Arrived("P", "x")), "G/b")
	want(t, ids(r.Freed("H", "P", "y")))
	want(t, ids(r.Freed("G", "P", "y")), "G/c")
	want(t, ids(r.Arrived("P", "y")))
	want(t, r.all(client("a")), "x", "y")
	want(t, r.all(client("a")))
	want(t, r.all(other), "x", "y")
	if r.Wait(client("b")) {
		t.Error("b waits, although it has not seen x")
	}
	want(t, r.all(client("b")), "x", "y")
	r.Wait(client("b"))
	r.Wait(client("a"))
	r.Rest(client("a"))
	want(t, ids(r.Arrived("P", "z")))
	want(t, ids(r.Arrived("P", "x")), "G/b")
	r.Wait(client("a")) // it has x, too
	want(t, ids(r.Pass(client("b"))))
	want(t, r.all(client("a")), "x")
	r.Wait(client("a"))
	want(t, ids(r.Pass(client("b"))), "G/a")
}

func TestClientsOfAWildcardGroupShareWhatIsReady(t *testing.T) {
	r := &Registry{Max: 3}
	first := must[bool](t)(r.Share(client("a"), "P", 0))
	again := must[bool](t)(r.Share(client("a"), "P", 0))
	second := must[bool](t)(r.Share(client("b"), "P", 0))
	if !first || again || second {
		t.Error(first, again, second)
	}
	r.Ready(client("a"), []string{"x"})
	if r.Wait(client("b")) {
		t.Error("b waits, although x is ready")
	}
	want(t, r.all(client("b")), "x")
	r.Wait(client("b"))
	r.Wait(client("a"))
	want(t, ids(r.Arrived("other", "x")))
	want(t, ids(r.Arrived("P", "x")), "G/b")
	want(t, ids(r.Pass(client("b"))), "G/a")
	want(t, r.all(client("a")), "x")
	want(t, ids(r.Subscribers("P", "any")), "G/*")
	must[[]string](t)(r.Replace(client("b"), "P", []string{"x"}, -1, 0)) // it changes sides
	want(t, ids(r.Subscribers("P", "x")), "G/b", "G/*")
	r.Drop(client("a"))
	want(t, ids(r.Subscribers("P", "x")), "G/b")
	if n, clients := r.Count(); n != 1 || clients != 1 {
		t.Error(n, clients)
	}
}

func TestAnAttemptIsGivenTheSameFirst(t *testing.T) {
	r := &Registry{Max: 100}
	a := client("a")
	must[[]string](t)(r.Replace(a, "P", []string{"x", "y", "z"}, -1, 0))
	ask := func(attempt string) []string {
		r.Begin(a, attempt, 1)
		given := r.all(a)
		for _, topic := range given {
			r.Gave(a, topic)
		}
		return given
	}
	r.Arrived("P", "x")
	r.Arrived("P", "y")
	want(t, ask("1"), "x", "y")
	r.Arrived("P", "z")
	r.Remove(a, []string{"y"}, 1)
	want(t, ask("1"), "x", "z")
	want(t, ask("2"))
	want(t, ask("1"))
	r.Arrived("P", "x")
	want(t, ask(""), "x")
	want(t, ask(""))
}

func TestSubscriptionsEnd(t *testing.T) {
	r := &Registry{Max: 100}
	a, b := client("a"), client("b")
	must[[]string](t)(r.Replace(a, "P", []string{"x", "y"}, -1, 1000))
	added, evicted, err := r.Add(b, "P", []string{"y", "z", "y"}, true, 2, 2000)
	if err != nil {
		t.Fatal(err)
	}
	want(t, added, "y", "z")
	want(t, evicted, "{{G a} y}")
	r.Arrived("P", "y")
	r.Arrived("P", "x")
	r.Gone("x")
	want(t, r.all(a))
	want(t, r.all(b), "y")
	want(t, ids(r.Expire(1000)))
	want(t, ids(r.Expire(1001)), "G/a")
	want(t, r.Remove(b, []string{"y", "never"}, 3000), "y")
	want(t, ids(r.Expire(3000)))
	if topics, polled, ok := r.Info(b); fmt.Sprint(topics, polled, ok) != "[z] 0 true" {
		t.Error(topics, polled, ok)
	}
	want(t, ids(r.DropGroup("G")), "G/b")
	if n, clients := r.Count(); n != 0 || clients != 0 || len(r.topics) != 0 {
		t.Error(n, clients, r.topics)
	}
}

func TestQuotasRefuseAllOrNothing(t *testing.T) {
	r := &Registry{Max: 3}
	a, b := client("a"), client("b")
	must[[]string](t)(r.Replace(a, "P", []string{"x", "y"}, 2, 0))
	for what, err := range map[string]error{
		"the client's": second(r.Replace(a, "P", []string{"x", "y", "z"}, 2, 0)),
		"the broker's": second(r.Replace(b, "P", []string{"x", "y"}, -1, 0)),
	} {
		if q := new(Quota); !errors.As(err, &q) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must[[]string](t)(r.Replace(a, "P", []string{"z", "y"}, 2, 0))
	if n, clients := r.Count(); n != 2 || clients != 1 {
		t.Error(n, clients)
	}
}

func second[T any](_ T, err error) error { return err }

// TestNothingIsLost plays at random: whatever arrived is ready for one that asks, or somebody who waits was woken for it.
func TestNothingIsLost(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := &Registry{Max: 1000}
		clients := []Client{{"G", "a"}, {"G", "b"}, {"W", "c"}, {"W", "d"}}
		left := map[string]map[string]bool{"G": {}, "W": {}} // what a group has not seen
		subscribe := func(c Client) {
			if c.Group == "W" {
				must[bool](t)(r.Share(c, "P", 0))
			} else {
				must[[]string](t)(r.Replace(c, "P", []string{"x", "y", "z"}, -1, 0))
			}
			r.Ready(c, slices.Collect(maps.Keys(left[c.Group])))
		}
		for _, c := range clients {
			subscribe(c)
		}
		waiting := map[Client]bool{}
		serve := func(list []Client) {
			for len(list) > 0 {
				c := list[0]
				if list = list[1:]; !waiting[c] { // its pop has ended in between
					list = append(list, r.Pass(c)...)
					continue
				}
				for _, topic := range r.all(c) {
					delete(left[c.Group], topic)
				}
				delete(waiting, c)
			}
		}
		for range 300 {
			c, topic := clients[rnd.IntN(4)], []string{"x", "y", "z"}[rnd.IntN(3)]
			switch rnd.IntN(5) {
			case 0, 1:
				left["G"][topic], left["W"][topic] = true, true
				serve(r.Arrived("P", topic))
			case 2:
				if waiting[c] = true; !r.Wait(c) {
					serve([]Client{c})
				}
			case 3:
				if delete(waiting, c); rnd.IntN(2) == 0 { // else the registry is not told before it wakes it
					r.Rest(c)
				}
			case 4:
				r.Drop(c)
				subscribe(c)
				if waiting[c] && !r.Wait(c) {
					serve([]Client{c})
				}
			}
			for _, c := range clients {
				if waiting[c] && len(left[c.Group]) > 0 {
					t.Fatalf("seed %d: %v waits, although %v is there", seed, c, left[c.Group])
				}
			}
		}
	}
}

func TestWhatIsTakenOutDoesNotPileUp(t *testing.T) {
	r := &Registry{Max: 10}
	a := client("a")
	for range 10_000 {
		must[[]string](t)(r.Replace(a, "P", []string{"x"}, -1, 0))
		r.Arrived("P", "x")
		r.Remove(a, []string{"x"}, 0)
	}
	if n := len(r.clients[a].list); n > 100 {
		t.Errorf("%d names are kept", n)
	}
}

func TestLiteTopicsGrowOld(t *testing.T) {
	var ages Ages
	stored, reads := map[string]int64{"x": 1000, "y": 1500, "z": 0}, 0
	look := func(now int64, kept map[string]int64) (over []string) {
		l := ages.Next()
		for _, topic := range slices.Sorted(maps.Keys(kept)) {
			if l.Over(topic, kept[topic], now, func() int64 { reads++; return stored[topic] }) {
				over = append(over, topic)
			}
		}
		ages.End(l)
		return over
	}
	kept := map[string]int64{"x": 500, "y": 500, "z": -1}
	want(t, look(1500, kept))
	stored["y"] = 1900
	want(t, look(1501, kept), "x")
	delete(kept, "x")
	want(t, look(2000, kept))
	if reads != 3 {
		t.Errorf("%d reads", reads)
	}
	want(t, look(2001, kept))
	kept["y"] = 100
	want(t, look(2002, kept), "y")
	if look(2002, nil); len(ages.stored) != 0 {
		t.Error("topics that are gone are remembered")
	}
}

// TestShards has what Guava's Hashing.consistentHash answered.
func TestShards(t *testing.T) {
	counts := []int{1, 2, 3, 8, 16, 100, 1000}
	for name, want := range map[string][]int{
		"a":                     {0, 0, 0, 0, 0, 29, 346},
		"b":                     {0, 0, 0, 5, 5, 80, 184},
		"session-1":             {0, 0, 0, 3, 10, 98, 98},
		"session-2":             {0, 0, 2, 4, 9, 92, 501},
		"sitzung-ä":             {0, 1, 1, 6, 6, 68, 929},
		"lite_topic_0123456789": {0, 1, 2, 3, 8, 51, 51},
	} {
		var got []int
		for _, n := range counts {
			got = append(got, Shard(message.JavaHash([]byte(name)), n))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
