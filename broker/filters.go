package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/apogeemq/apogee/filter"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// SQL92 expressions: what groups filter topics by (ConsumerFilterManager), and the expressions that requests carry themselves.
//
// What clients see: an expression is compiled when a heartbeat brings it, and counts until one with a higher version comes, also after a
// restart; it is forgotten a day after the group has gone. Expressions see properties as they are stored, those of the broker included.
// Differences: a pull that carries a bad expression is answered 23 with the place of the error, where RocketMQ delivers everything; 27
// says what is wrong with the group's expression; enablePropertyFilter is true by default.

const (
	// filterKept is how long an expression that nobody uses is kept (filterDataCleanTimeSpan).
	filterKept = 24 * time.Hour
	// filterSweep is how often unused ones are looked for.
	filterSweep = time.Minute
	// filterBytesMax bounds the expressions of all groups together; each counts filterOverhead more.
	filterBytesMax = 64 << 20
	filterOverhead = 512
)

// groupFilter is what a group filters a topic by: a value of kind "filters" of the state, under group 0 topic. Names are those of
// RocketMQ's consumerFilter.json.
type groupFilter struct {
	Expression string `json:"expression"`
	Type       string `json:"expressionType"`
	Version    int64  `json:"clientVersion"`
	Born       int64  `json:"bornTime"` // ms since 1970

	compiled *filter.Filter
	unused   time.Time // since when the group has not been subscribed; zero: it is
}

func (f *groupFilter) size() int { return filterOverhead + len(f.Expression) }

type filterTable struct {
	b *Broker

	mu        sync.RWMutex // guards what follows; writers hold it while they append to the log
	groups    map[string]map[string]*groupFilter
	bytes     int
	lastSweep time.Time
}

func newFilterTable(b *Broker) *filterTable {
	return &filterTable{b: b, groups: map[string]map[string]*groupFilter{}}
}

func filterKey(group, topic string) string { return group + "\x00" + topic }

func (t *filterTable) load() error {
	return t.b.store.State(kindFilters, func(key string, value []byte) error {
		group, topic, ok := strings.Cut(key, "\x00")
		f := &groupFilter{unused: t.b.c.Now()}
		err := json.Unmarshal(value, f)
		if !ok || err != nil {
			return fmt.Errorf("filter %q: %w", key, err)
		}
		if f.compiled, err = filter.Compile(f.Expression); err != nil {
			t.b.log.Warn("an expression from before the start is not known any more", "group", group, "topic", topic, "expression", f.Expression, "error", err)
			return nil
		}
		t.set(group, topic, f)
		return nil
	})
}

// set enters or, with nil, removes a filter. The caller holds mu, or is alone.
func (t *filterTable) set(group, topic string, f *groupFilter) {
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
		t.groups[group] = map[string]*groupFilter{}
	}
	t.groups[group][topic] = f
	t.bytes += f.size()
}

// find returns what a group filters a topic by.
func (t *filterTable) find(group, topic string) (groupFilter, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if f := t.groups[group][topic]; f != nil {
		return *f, true
	}
	return groupFilter{}, false
}

// register takes over the expressions of a heartbeat.
func (t *filterTable) register(group string, list []protocol.SubscriptionData) {
	var changes []store.Mutation
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		if d := &list[i]; d.Type == protocol.ExpressionSQL92 && d.Expression != "" {
			if f, changed := t.registered(group, d); changed {
				m := store.Mutation{Key: filterKey(group, d.Topic)}
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
func (t *filterTable) registered(group string, d *protocol.SubscriptionData) (f *groupFilter, changed bool) {
	old := t.groups[group][d.Topic]
	if old != nil && d.Version <= old.Version {
		return old, false
	}
	f = &groupFilter{Expression: d.Expression, Type: d.Type, Version: d.Version, Born: t.b.c.Now().UnixMilli()}
	if old != nil && old.Expression == d.Expression {
		f.compiled, f.Born = old.compiled, old.Born
		t.set(group, d.Topic, f)
		return f, true
	}
	var err error
	if f.compiled, err = filter.Compile(d.Expression); err == nil && t.bytes+f.size() > filterBytesMax {
		err = fmt.Errorf("the expressions of all groups have %d bytes, the limit is %d", t.bytes, filterBytesMax)
	}
	if err != nil {
		t.b.log.Warn("a group's expression is not taken", "group", group, "topic", d.Topic, "expression", d.Expression, "error", err)
		t.set(group, d.Topic, nil)
		return nil, old != nil
	}
	t.set(group, d.Topic, f)
	return f, true
}

// record writes changes; nobody waits for them, as the next heartbeat brings them again. The caller holds mu.
func (t *filterTable) record(changes []store.Mutation) {
	if len(changes) == 0 {
		return
	}
	failed := func(err error) {
		if err != nil {
			t.b.log.Warn("the expressions of groups are not kept", "error", err)
		}
	}
	if err := t.b.update(kindFilters, failed, changes...); err != nil {
		failed(err)
	}
}

// tick forgets what has been unused for filterKept.
func (t *filterTable) tick(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.lastSweep) < filterSweep {
		return
	}
	t.lastSweep = now
	var changes []store.Mutation
	for group, topics := range t.groups {
		for topic, f := range topics {
			switch {
			case t.b.clients.subscribed(group, topic):
				f.unused = time.Time{}
			case f.unused.IsZero():
				f.unused = now
			case now.Sub(f.unused) >= filterKept:
				t.set(group, topic, nil)
				changes = append(changes, store.Mutation{Key: filterKey(group, topic)})
			}
		}
	}
	t.record(changes)
}

// errNotByProperties says that an expression's type is not served (enablePropertyFilter).
func errNotByProperties(expressionType string) error {
	return protocol.Errorf(protocol.RespSystemError, "The broker does not support consumer to filter message by %s", expressionType)
}

// checkType refuses expressions that are neither of tags nor of a kind that the broker serves.
func (b *Broker) checkType(expressionType string) error {
	if !isTagType(expressionType) && (expressionType != protocol.ExpressionSQL92 || !b.live().propertyFilter) {
		return errNotByProperties(expressionType)
	}
	return nil
}

// compile reads an expression of a request.
func compile(expression string) (*filter.Filter, error) {
	f, err := filter.Compile(expression)
	if err != nil {
		return nil, protocol.Errorf(protocol.RespSubscriptionParseFailed, "Invalid MessageSelector. %s: %.200s", err, expression)
	}
	return f, nil
}

// ownSubscription prepares the subscription that a request carries itself, on behalf of a group.
func (b *Broker) ownSubscription(group string, d protocol.SubscriptionData) (*subscription, error) {
	if err := checkSubscription(&d); err != nil {
		return nil, err
	}
	s := newSubscription(d)
	if isTagType(d.Type) {
		return s, nil
	}
	if d.Expression == "" {
		return nil, protocol.Errorf(protocol.RespSubscriptionParseFailed, "parse the consumer's subscription failed: the expression of type %s is empty", d.Type)
	}
	if err := b.checkType(d.Type); err != nil {
		return nil, err
	}
	known, ok := b.filters.find(group, d.Topic)
	if ok && known.Expression == d.Expression {
		s.filter = known.compiled
	} else {
		var err error
		if s.filter, err = compile(d.Expression); err != nil {
			return nil, err
		}
	}
	return b.retrySubscription(group, s), nil
}

// groupSubscribed completes a subscription that a group's heartbeat brought, for a request that has seen the version.
func (b *Broker) groupSubscribed(group string, s *subscription, version int64) (*subscription, error) {
	if isTagType(s.data.Type) {
		return s, nil
	}
	f, ok := b.filters.find(group, s.data.Topic)
	switch {
	case !ok:
		why := ""
		if _, err := compile(s.data.Expression); err != nil {
			why = " " + err.Error()
		}
		return nil, protocol.Errorf(protocol.RespFilterDataNotExist, "The broker's consumer filter data is not exist!Your expression may be wrong!%s", why)
	case f.Version < version:
		return nil, protocol.Errorf(protocol.RespFilterDataNotLatest, "the consumer's consumer filter data not latest")
	}
	if err := b.checkType(s.data.Type); err != nil {
		return nil, err
	}
	return b.retrySubscription(group, &subscription{data: s.data, filter: f.compiled}), nil
}

// retrySubscription has a retry topic's messages filtered by what the group wants of the topics they come from (filterSupportRetry,
// ExpressionForRetryMessageFilter).
func (b *Broker) retrySubscription(group string, s *subscription) *subscription {
	if _, retry := retryTopicGroup(s.data.Topic); retry && b.live().filterRetry {
		s.properties = func(properties []byte) bool {
			f, ok := b.filters.find(group, string(message.Property(properties, message.PropRetryTopic)))
			return !ok || f.compiled.Match(properties)
		}
	}
	return s
}
