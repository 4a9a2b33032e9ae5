// Package store keeps messages and the broker's state: a commit log that is the truth, and a view derived from it.
//
// It owns the directory, recovery, the move of the view's newest part to the database, and reading by queue, time, key and log
// position. It must not know connections, clients or what a state record means beyond its kind. Reads return slices of the log's
// memory with a release.
package store
