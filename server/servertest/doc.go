// Package servertest gives a test a node of its own: name server and broker in memory, on free ports of the loopback, a few milliseconds
// after Start, and gone when the test ends.
//
// It and protocol/hostile are the packages of the product, other than test files, that import testing.
package servertest
