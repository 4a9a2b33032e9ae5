package broker

import (
	"slices"
	"strings"

	"github.com/apogeemq/apogee/filter"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
)

// subscription is what a group wants of a topic, ready to be matched.
type subscription struct {
	data       protocol.SubscriptionData
	tags       []int64 // tags codes; none: every message
	filter     *filter.Filter
	properties func(properties []byte) bool // instead of the filter
}

// newSubscription prepares a heartbeat's subscription. Its hash codes are computed here: a client may send none.
func newSubscription(d protocol.SubscriptionData) *subscription {
	s := &subscription{data: d}
	if isTagType(d.Type) {
		s.tags = tagsCodes(d.Expression)
	}
	return s
}

// isTagType tells whether an expression is one of tags (ExpressionType.isTagType).
func isTagType(expressionType string) bool {
	return expressionType == "" || expressionType == protocol.ExpressionTag
}

// tagsCodes returns the codes of an expression `A || B`; none for `*` and for nothing (FilterAPI.buildSubscriptionData).
func tagsCodes(expression string) []int64 {
	if expression == "" || expression == "*" {
		return nil
	}
	var codes []int64
	for tag := range strings.SplitSeq(expression, "||") {
		if tag = strings.TrimSpace(tag); tag != "" {
			codes = append(codes, message.TagsCode([]byte(tag)))
		}
	}
	return codes
}

// match returns the filter for reads. Codes of tags collide: the client compares the tags themselves.
func (s *subscription) match() (m store.Match) {
	switch {
	case s.properties != nil:
		m.Properties = s.properties
	case s.filter != nil:
		m.Properties = s.filter.Match
	case len(s.tags) > 0:
		m.Tags = func(tagsCode int64) bool { return slices.Contains(s.tags, tagsCode) }
	}
	return m
}
