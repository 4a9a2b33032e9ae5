package expression

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/apogeemq/apogee/filter"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

const (
	// kept is how long an expression that nobody uses is kept (filterDataCleanTimeSpan).
	kept = 24 * time.Hour
	// sweep is how often unused ones are looked for.
	sweep = time.Minute
	// bytesMax bounds the expressions of all groups together; each counts overhead more.
	bytesMax = 64 << 20
	overhead = 512
)

// Filter is what a group filters a topic by: a value of kind "filters" of the state, under group 0 topic. Names are those of
// RocketMQ's consumerFilter.json.
type Filter struct {
	Expression string `json:"expression"`
	Type       string `json:"expressionType"`
	Version    int64  `json:"clientVersion"`
	Born       int64  `json:"bornTime"` // ms since 1970

	Compiled *filter.Filter `json:"-"`
	unused   time.Time      // since when the group has not been subscribed; zero: it is
}

func (f *Filter) size() int { return overhead + len(f.Expression) }

// Host is what a table stands in.
type Host struct {
	// Update appends changes to the log; done is told once they are there, unless it returns an error.
	Update     func(changes []store.Mutation, done func(error)) error
	Subscribed func(group, topic string) bool // by a live member
	Now        func() time.Time
	Logger     *slog.Logger
}

// Table is what groups filter topics by. It may be used by many goroutines at once.
type Table struct {
	host Host

	mu        sync.RWMutex // guards what follows; writers hold it while they append to the log
	groups    map[string]map[string]*Filter
	bytes     int
	lastSweep time.Time
}

// New returns a table without filters.
func New(host Host) *Table {
	return &Table{host: host, groups: map[string]map[string]*Filter{}}
}

// Key is a filter's key in the state.
func Key(group, topic string) string { return group + "\x00" + topic }

// Load enters what the state has. Nothing is known to be used yet.
func (t *Table) Load(state func(func(key string, value []byte) error) error) error {
	return state(func(key string, value []byte) error {
		group, topic, ok := strings.Cut(key, "\x00")
		f := &Filter{unused: t.host.Now()}
		err := json.Unmarshal(value, f)
		if !ok || err != nil {
			return fmt.Errorf("filter %q: %w", key, err)
		}
		if f.Compiled, err = filter.Compile(f.Expression); err != nil {
			t.host.Logger.Warn("an expression from before the start is not known any more", "group", group, "topic", topic, "expression", f.Expression, "error", err)
			return nil
		}
		t.set(group, topic, f)
		return nil
	})
}

// set enters or, with nil, removes a filter. The caller holds mu, or is alone.
func (t *Table) set(group, topic string, f *Filter) {
	if old := t.groups[group][topic]; old != nil {
		t.bytes -= old.size()
	}
	if f == nil {
		if delete(t.groups[group], topic); len(t.groups[group]) == 0 {
			delete(t.groups, group)
		}
		return
	}
	if t.groups[group] == nil {
		t.groups[group] = map[string]*Filter{}
	}
	t.groups[group][topic] = f
	t.bytes += f.size()
}

// Find returns what a group filters a topic by.
func (t *Table) Find(group, topic string) (Filter, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if f := t.groups[group][topic]; f != nil {
		return *f, true
	}
	return Filter{}, false
}

// Register takes over the expressions of a heartbeat.
func (t *Table) Register(group string, list []protocol.SubscriptionData) {
	var changes []store.Mutation
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		if d := &list[i]; d.Type == protocol.ExpressionSQL92 && d.Expression != "" {
			if f, changed := t.registered(group, d); changed {
				m := store.Mutation{Key: Key(group, d.Topic)}
				if f != nil {
					m.Value = protocol.MarshalBody(f)
				}
				changes = append(changes, m)
			}
		}
	}
	t.record(changes)
}

// registered takes over one; nil when it is not good, so that pulls are told. The caller holds mu.
func (t *Table) registered(group string, d *protocol.SubscriptionData) (f *Filter, changed bool) {
	old := t.groups[group][d.Topic]
	if old != nil && d.Version <= old.Version {
		return old, false
	}
	f = &Filter{Expression: d.Expression, Type: d.Type, Version: d.Version, Born: t.host.Now().UnixMilli()}
	if old != nil && old.Expression == d.Expression {
		f.Compiled, f.Born = old.Compiled, old.Born
		t.set(group, d.Topic, f)
		return f, true
	}
	var err error
	if f.Compiled, err = filter.Compile(d.Expression); err == nil && t.bytes+f.size() > bytesMax {
		err = fmt.Errorf("the expressions of all groups have %d bytes, the limit is bytesMax=%d; shorten some, or stop groups that are not needed", t.bytes, bytesMax)
	}
	if err != nil {
		t.host.Logger.Warn("a group's expression is not taken", "group", group, "topic", d.Topic, "expression", d.Expression, "error", err)
		t.set(group, d.Topic, nil)
		return nil, old != nil
	}
	t.set(group, d.Topic, f)
	return f, true
}

// record writes changes; nobody waits for them, as the next heartbeat brings them again. The caller holds mu.
func (t *Table) record(changes []store.Mutation) {
	if len(changes) == 0 {
		return
	}
	failed := func(err error) {
		if err != nil {
			t.host.Logger.Warn("the expressions of groups are not kept", "error", err)
		}
	}
	if err := t.host.Update(changes, failed); err != nil {
		failed(err)
	}
}

// Tick forgets what has been unused for kept.
func (t *Table) Tick(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.lastSweep) < sweep {
		return
	}
	t.lastSweep = now
	var changes []store.Mutation
	for group, topics := range t.groups {
		for topic, f := range topics {
			switch {
			case t.host.Subscribed(group, topic):
				f.unused = time.Time{}
			case f.unused.IsZero():
				f.unused = now
			case now.Sub(f.unused) >= kept:
				t.set(group, topic, nil)
				changes = append(changes, store.Mutation{Key: Key(group, topic)})
			}
		}
	}
	t.record(changes)
}
