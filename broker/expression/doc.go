// Package expression keeps what consumer groups filter topics by: the SQL92 expressions of their subscriptions (ConsumerFilterManager).
//
// It owns one kind of the broker's state and its compiled form, the versions by which a newer expression takes an older one's place, and
// what is forgotten when. It must not know who is connected and how pulls use a filter. The newest expression counts, also after a
// restart, until a day after the group was last seen.
package expression
