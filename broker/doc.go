// Package broker is the role that clients send to and consume from: topics, sends, pulls with long polling, consumer groups and their
// offsets, queue locks, and queries.
//
// routes.go has one row per request code; each family has a file that opens with its codes and what clients see. All durable state
// (topics, groups, offsets, locks) is written to the log through store.UpdateState and loaded from it at a start; what a client's
// connection brings (heartbeats, held pulls) is not. The package must not know files, the name server or how a connection works;
// time comes in through Tick and the injected clock, and goroutines are started by its shell only.
package broker
