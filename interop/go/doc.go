// Package interop drives the built binary with the official Go client of RocketMQ 4.x and 5.x
// (github.com/apache/rocketmq-client-go). It must not import the product: what a test knows of
// Apogee is its command line, its ports and its exit.
//
// All tests share one cluster, which the first of them starts, and keep apart by topic and group
// names of their own. A test that kills or restarts the broker starts its own.
package interop
