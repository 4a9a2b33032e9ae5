package lite

import (
	"fmt"
	"maps"
	"slices"
)

// Client names a subscriber.
type Client struct{ Group, ID string }

// Registry has the subscriptions. The zero value is empty; Max is to be set.
type Registry struct {
	Max int // subscriptions, and clients, that there may be

	clients map[Client]*subscriber
	topics  map[string][]*subscriber     // by lite topic
	shared  map[string]map[string]*ready // of wildcard groups, by parent topic and group
	count   int
}

// subscriber is a client with its lite topics.
type subscriber struct {
	Client
	parent string
	topics map[string]struct{}
	*ready        // its own, or that of its wildcard group
	shares bool   // it is the group's
	waits  bool   // it is to be woken
	synced int64  // when it last sent a subscription
	polled int64  // when it last asked for something; 0: never
	last   string // attempt that it asked with
	given  []string
}

// Quota says that there are too many subscriptions.
type Quota struct {
	What  string
	Limit int
}

func (q *Quota) Error() string {
	return fmt.Sprintf("lite subscription quota exceeded %d: %s", q.Limit, q.What)
}

// Eviction is a subscription that ended because another client's is exclusive.
type Eviction struct {
	Client
	Topic string
}

// Add subscribes a client to lite topics of a parent, besides those that it has; quota, unless it is negative, bounds them. With exclusive
// the subscriptions of the other clients of its group end. Added are those that it had not.
func (r *Registry) Add(c Client, parent string, topics []string, exclusive bool, quota int, now int64) (added []string, evicted []Eviction, err error) {
	wanted := slices.Compact(slices.Sorted(slices.Values(topics)))
	s, fresh := r.clients[c], 0
	for _, topic := range wanted {
		if !s.has(topic) {
			fresh++
		}
	}
	if err := r.room(s, c, fresh, 0, quota); err != nil {
		return nil, nil, err
	}
	s = r.touch(c, parent, now)
	for _, topic := range wanted {
		for _, o := range slices.Clone(r.topics[topic]) {
			if exclusive && o != s && o.Group == c.Group {
				r.end(o, topic)
				evicted = append(evicted, Eviction{o.Client, topic})
			}
		}
		if !s.has(topic) {
			r.begin(s, topic)
			added = append(added, topic)
		}
	}
	return added, evicted, nil
}

// Replace makes these the lite topics that a client is subscribed to.
func (r *Registry) Replace(c Client, parent string, topics []string, quota int, now int64) (added []string, err error) {
	wanted := make(map[string]struct{}, len(topics))
	for _, topic := range topics {
		wanted[topic] = struct{}{}
	}
	s, kept := r.clients[c], 0
	for topic := range wanted {
		if s.has(topic) {
			kept++
		} else {
			added = append(added, topic)
		}
	}
	ended := 0
	if s != nil {
		ended = len(s.topics) - kept
	}
	if err := r.room(s, c, len(added), ended, quota); err != nil {
		return nil, err
	}
	s = r.touch(c, parent, now)
	for topic := range maps.Clone(s.topics) {
		if _, ok := wanted[topic]; !ok {
			r.end(s, topic)
		}
	}
	for _, topic := range added {
		r.begin(s, topic)
	}
	return added, nil
}

// Share makes a client one of a wildcard group. First tells that nothing is known of what is ready for it.
func (r *Registry) Share(c Client, parent string, now int64) (first bool, err error) {
	if s := r.clients[c]; s != nil && s.shares && s.parent == parent {
		s.synced = now
		return false, nil
	}
	r.Drop(c)
	if err := r.room(nil, c, 1, 0, -1); err != nil {
		return false, err
	}
	s := r.touch(c, parent, now)
	if s.ready = r.shared[parent][c.Group]; s.ready == nil {
		first = true
		s.ready = &ready{}
		if r.shared == nil {
			r.shared = map[string]map[string]*ready{}
		}
		if r.shared[parent] == nil {
			r.shared[parent] = map[string]*ready{}
		}
		r.shared[parent][c.Group] = s.ready
	}
	s.shares = true
	s.members++
	s.topics[parent+"@"+c.Group] = struct{}{} // as RocketMQ shows it
	r.count++
	return first, nil
}

// Remove ends subscriptions of a client, and returns those that it had.
func (r *Registry) Remove(c Client, topics []string, now int64) (ended []string) {
	s := r.clients[c]
	if s == nil {
		return nil
	}
	s.synced = now
	for _, topic := range topics {
		if s.has(topic) && !s.shares {
			r.end(s, topic)
			ended = append(ended, topic)
		}
	}
	return ended
}

// Drop ends all subscriptions of a client.
func (r *Registry) Drop(c Client) {
	s := r.clients[c]
	if s == nil {
		return
	}
	r.Rest(c)
	delete(r.clients, c)
	if !s.shares {
		for topic := range s.topics {
			r.end(s, topic)
		}
		return
	}
	r.count--
	if s.members--; s.members == 0 {
		if delete(r.shared[s.parent], c.Group); len(r.shared[s.parent]) == 0 {
			delete(r.shared, s.parent)
		}
	}
}

// Expire drops the clients that have not sent a subscription since a time, and returns them.
func (r *Registry) Expire(before int64) (gone []Client) {
	for c, s := range r.clients {
		if s.synced < before {
			r.Drop(c)
			gone = append(gone, c)
		}
	}
	return gone
}

// DropGroup drops the clients of a group, and returns them.
func (r *Registry) DropGroup(group string) (gone []Client) {
	gone = r.Clients(group)
	for _, c := range gone {
		r.Drop(c)
	}
	return gone
}

// Gone ends all subscriptions to a lite topic.
func (r *Registry) Gone(topic string) {
	for _, s := range slices.Clone(r.topics[topic]) {
		r.end(s, topic)
	}
}

func (s *subscriber) has(topic string) bool {
	if s == nil {
		return false
	}
	_, ok := s.topics[topic]
	return ok
}

// room refuses subscriptions when there would be too many.
func (r *Registry) room(s *subscriber, c Client, added, ended, quota int) error {
	have := 0
	if s != nil {
		have = len(s.topics)
	}
	if n := have + added - ended; quota >= 0 && n > quota && added > 0 {
		return &Quota{fmt.Sprintf("client %s of group %s would have %d lite topics, the limit is the group's lite.sub.client.quota=%d; end some, or raise it", c.ID, c.Group, n, quota), quota}
	}
	if n := r.count + added - ended; added > 0 && n > r.Max || s == nil && len(r.clients) >= r.Max {
		return &Quota{fmt.Sprintf("the broker would have %d with those of client %s of group %s, the limit is maxLiteSubscriptionCount=%d; end some, or raise it", n, c.ID, c.Group, r.Max), r.Max}
	}
	return nil
}

// touch returns a client that takes lite topics by name, made when it is new or was another's.
func (r *Registry) touch(c Client, parent string, now int64) *subscriber {
	s := r.clients[c]
	if s != nil && (s.shares || s.parent != parent) {
		r.Drop(c)
		s = nil
	}
	if s == nil {
		s = &subscriber{Client: c, parent: parent, topics: map[string]struct{}{}, ready: &ready{}}
		if r.clients == nil {
			r.clients, r.topics = map[Client]*subscriber{}, map[string][]*subscriber{}
		}
		r.clients[c] = s
	}
	s.synced = now
	return s
}

func (r *Registry) begin(s *subscriber, topic string) {
	s.topics[topic] = struct{}{}
	r.topics[topic] = append(r.topics[topic], s)
	r.count++
}

func (r *Registry) end(s *subscriber, topic string) {
	delete(s.topics, topic)
	s.take(topic)
	if list := slices.DeleteFunc(r.topics[topic], func(o *subscriber) bool { return o == s }); len(list) > 0 {
		r.topics[topic] = list
	} else {
		delete(r.topics, topic)
	}
	r.count--
}

// Count returns how many subscriptions there are, and how many clients.
func (r *Registry) Count() (subscriptions, clients int) { return r.count, len(r.clients) }

// Clients returns the clients of a group, in order of their ids.
func (r *Registry) Clients(group string) (list []Client) {
	for c := range r.clients {
		if c.Group == group {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b Client) int { return compare(a.ID, b.ID) })
	return list
}

// Subscribers returns who is subscribed to a lite topic of a parent; all clients of a wildcard group are one, `*`.
func (r *Registry) Subscribers(parent, topic string) (list []Client) {
	for _, s := range r.topics[topic] {
		list = append(list, s.Client)
	}
	for group := range r.shared[parent] {
		list = append(list, Client{group, "*"})
	}
	return list
}

// Info returns the lite topics of a client, and when it last asked for messages, 0 for never; ok is false when it is not there.
func (r *Registry) Info(c Client) (topics []string, polled int64, ok bool) {
	s := r.clients[c]
	if s == nil {
		return nil, 0, false
	}
	return slices.Sorted(maps.Keys(s.topics)), s.polled, true
}
