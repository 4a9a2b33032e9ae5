// Package journal writes changes of a kind of the broker's state that come often: what gathers while one record is on its way makes the
// next one, so that a group commit carries the changes that any number of clients asked for.
//
// It has no goroutine of its own. Its lock is never held while appending: what Confirmed calls may use it.
package journal
