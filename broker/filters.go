package broker

import (
	"github.com/apogeemq/apogee/broker/expression"
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

func newFilterTable(b *Broker) *expression.Table {
	return expression.New(expression.Host{
		Update:     func(changes []store.Mutation, done func(error)) error { return b.update(kindFilters, done, changes...) },
		Subscribed: b.clients.subscribed, Now: b.c.Now, Logger: b.log,
	})
}

func (b *Broker) loadFilters() error {
	return b.filters.Load(func(fn func(string, []byte) error) error { return b.store.State(kindFilters, fn) })
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
	known, ok := b.filters.Find(group, d.Topic)
	if ok && known.Expression == d.Expression {
		s.filter = known.Compiled
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
	f, ok := b.filters.Find(group, s.data.Topic)
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
	return b.retrySubscription(group, &subscription{data: s.data, filter: f.Compiled}), nil
}

// retrySubscription has a retry topic's messages filtered by what the group wants of the topics they come from (filterSupportRetry,
// ExpressionForRetryMessageFilter).
func (b *Broker) retrySubscription(group string, s *subscription) *subscription {
	if _, retry := retryTopicGroup(s.data.Topic); retry && b.live().filterRetry {
		s.properties = func(properties []byte) bool {
			f, ok := b.filters.Find(group, string(message.Property(properties, message.PropRetryTopic)))
			return !ok || f.Compiled.Match(properties)
		}
	}
	return s
}
