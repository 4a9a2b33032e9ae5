// Package servertest gives a test a node of its own: name server and broker in memory, on free ports of the loopback, a few milliseconds
// after Start, and gone when the test ends.
//
// It is the one package of the product, other than test files, that imports testing.
package servertest
