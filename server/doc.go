// Package server is the node: its configuration, the roles it runs, the order in which they start and stop. It is also the Go API to
// embed a broker in another program or in a test: New, Start, Close.
//
// It connects roles, which do not know one another, through the small interfaces that they declare.
package server
