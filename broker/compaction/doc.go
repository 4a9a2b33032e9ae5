// Package compaction has the queues of compaction topics compacted in the background: what is old enough, in rounds, and what retention is
// about to remove, at once. It decides when (Plan, a state machine) and at what pace; how is package store's. It must not know what a topic's
// attributes look like.
package compaction
