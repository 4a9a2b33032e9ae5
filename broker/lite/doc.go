// Package lite knows who consumes which lite topics, which of them have something, and how old they may get: state machines without I/O,
// clock or goroutines.
//
// A Registry takes what subscribers ask for (Add, Remove, Replace, Drop), what happens (Arrived, Freed) and the time, and says whom to
// serve. A lite topic that has something is ready for each subscriber at once, so that none has to be taken from one that has gone away;
// whoever comes first gets its messages, and the others find nothing. The clients of a wildcard group share what is ready. Nothing here
// is durable: clients send their subscriptions again, more often than the registry lets go of silent ones.
//
// What holds: a client that waits is woken, once, by the first thing that is ready for it, and of a group one for each thing; memory
// grows with the subscriptions, whose number is bounded, and for wildcard groups with the lite topics that have something.
//
// Lite topics go by the names of their light queues. The package must not know messages, offsets or connections. Times are in ms since
// 1970.
package lite
