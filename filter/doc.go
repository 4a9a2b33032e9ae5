// Package filter decides by a message's properties whether a subscription wants it: the SQL92 expressions of RocketMQ
// (rocketmq-filter, SelectorParser.jj).
//
// It owns the grammar, its types and its three-valued logic, and knows nothing of groups, topics and the store: an expression and an
// encoded property string go in, a yes or no comes out. An expression is compiled once; matching a message takes no memory, but for
// numbers of more than 32 characters.
//
// What it takes and what it makes of it is what RocketMQ 5.5.0 takes and makes of it, surprises included, because subscriptions move from
// one to the other: testdata/sql92.txt holds both to the same answers. The surprises:
//
//   - What stands behind a whole expression is not read: `a = 1 b` is `a = 1`, and `a LIKE 'x'` is `a`, which matches nothing.
//   - NOT binds tighter than a comparison: `NOT a = 1` is `(NOT a) = 1`.
//   - A comparison is as wide as its literal. A property that is no number of that width (`5.5` for an integer) is not just unequal: no
//     part of the expression can match any more, unless what stands to the left of it has decided already.
//   - CONTAINS, STARTSWITH, ENDSWITH and their NOT forms do not hold for a property that is not there.
//   - `1 = a` does not hold where a is missing, so that `1 <> a` does; `a = 1` and `a <> 1` are both unknown.
//
// Differences: digits of integers are ASCII; an expression has limits (nestingMax, nodesMax).
package filter
