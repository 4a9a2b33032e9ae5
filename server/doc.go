// Package server is the node: its configuration, the roles it runs, the order in which they start and stop. It is also the Go API to
// embed a broker in another program (New, Start, Close) or in a test (package servertest). Nodes run side by side in one process: none
// changes what belongs to the process.
//
// It connects roles, which do not know one another, through the small interfaces that they declare.
package server
