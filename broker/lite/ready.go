package lite

import (
	"slices"
	"strings"
)

func compare(a, b string) int { return strings.Compare(a, b) }

// ready are the lite topics that may have something for a client, or for the clients of a wildcard group.
type ready struct {
	list    []string // in order; those that are not in set were taken
	set     map[string]struct{}
	waiting []*subscriber // to be woken, in order
	members int           // clients that share it
}

func (r *ready) put(topic string) {
	if _, ok := r.set[topic]; ok {
		return
	}
	if r.set == nil {
		r.set = map[string]struct{}{}
	}
	if len(r.list) > 2*len(r.set)+64 { // those that were taken out of its middle are too many
		r.list = slices.DeleteFunc(r.list, func(t string) bool { _, ok := r.set[t]; return !ok })
	}
	r.set[topic] = struct{}{}
	r.list = append(r.list, topic)
}

func (r *ready) take(topic string) bool {
	_, ok := r.set[topic]
	delete(r.set, topic)
	return ok
}

func (r *ready) first() (topic string, ok bool) {
	for len(r.list) > 0 {
		topic, r.list = r.list[0], r.list[1:]
		if r.take(topic) {
			return topic, true
		}
	}
	return "", false
}

// wake returns who is to be served, nil for nobody.
func (r *ready) wake() *subscriber {
	if len(r.waiting) == 0 {
		return nil
	}
	s := r.waiting[0]
	r.waiting, s.waits = r.waiting[1:], false
	return s
}

// Arrived notes that a lite topic of a parent has something new. Woken are those to serve, one of a group.
func (r *Registry) Arrived(parent, topic string) (woken []Client) {
	var groups []string
	for _, s := range r.topics[topic] {
		if !slices.Contains(groups, s.Group) {
			groups = append(groups, s.Group)
			woken = r.wakeGroup(woken, s.Group, topic)
		}
	}
	for _, shared := range r.shared[parent] {
		woken = shared.arrived(woken, topic)
	}
	return woken
}

// Freed notes that a lite topic may have something for one group: what stood before it is acknowledged, or its time is over.
func (r *Registry) Freed(group, parent, topic string) (woken []Client) {
	if shared := r.shared[parent][group]; shared != nil {
		return shared.arrived(nil, topic)
	}
	return r.wakeGroup(nil, group, topic)
}

// wakeGroup makes a lite topic ready for the clients of a group that subscribe to it by name. Who is woken goes to the end of the line.
func (r *Registry) wakeGroup(woken []Client, group, topic string) []Client {
	list, at := r.topics[topic], -1
	for i, s := range list {
		if s.Group == group {
			if s.put(topic); at < 0 && s.waits {
				at = i
			}
		}
	}
	if at >= 0 {
		s := list[at].wake()
		copy(list[at:], list[at+1:])
		list[len(list)-1] = s
		woken = append(woken, s.Client)
	}
	return woken
}

func (r *ready) arrived(woken []Client, topic string) []Client {
	r.put(topic)
	if s := r.wake(); s != nil {
		woken = append(woken, s.Client)
	}
	return woken
}

// Ready makes lite topics ready for one client, as far as it is subscribed to them.
func (r *Registry) Ready(c Client, topics []string) {
	s := r.clients[c]
	for _, topic := range topics {
		if s.has(topic) || s != nil && s.shares {
			s.put(topic)
		}
	}
}

// Begin notes that a client asks for messages. The attempt that it made before gets again what it was given.
func (r *Registry) Begin(c Client, attempt string, now int64) {
	s := r.clients[c]
	if s == nil {
		return
	}
	s.polled = now
	if attempt != "" && attempt == s.last {
		for _, topic := range slices.Backward(s.given) {
			if s.take(topic); s.shares || s.has(topic) {
				s.put(topic)
				s.list = slices.Insert(s.list[:len(s.list)-1], 0, topic)
			}
		}
	}
	s.last, s.given = attempt, nil
}

// Next takes the next lite topic that may have something for a client.
func (r *Registry) Next(c Client) (topic string, ok bool) {
	s := r.clients[c]
	if s == nil {
		return "", false
	}
	return s.first()
}

// Gave notes that a client was given messages of a lite topic.
func (r *Registry) Gave(c Client, topic string) {
	if s := r.clients[c]; s != nil && s.last != "" {
		s.given = append(s.given, topic)
	}
}

// Wait has a client woken by the next thing that is ready for it; false when something is. One that has no subscription is not woken.
func (r *Registry) Wait(c Client) bool {
	s := r.clients[c]
	if s == nil || s.waits {
		return true
	}
	if len(s.set) > 0 {
		return false
	}
	s.waits = true
	s.waiting = append(s.waiting, s)
	return true
}

// Rest ends what Wait began.
func (r *Registry) Rest(c Client) {
	s := r.clients[c]
	if s == nil || !s.waits {
		return
	}
	s.waits = false
	s.waiting = slices.DeleteFunc(s.waiting, func(o *subscriber) bool { return o == s })
}

// Pass returns whom to serve instead of a client that was woken and does not wait any more.
func (r *Registry) Pass(c Client) (woken []Client) {
	s := r.clients[c]
	switch {
	case s == nil || len(s.set) == 0:
	case s.shares:
		if o := s.wake(); o != nil {
			woken = append(woken, o.Client)
		}
	default:
		for topic := range s.set {
			woken = r.wakeGroup(woken, c.Group, topic)
		}
	}
	return woken
}
