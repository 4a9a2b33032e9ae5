// Package transaction decides when the producers of half messages are asked how their transactions ended, and when it is given up: a
// state machine without I/O, clock or goroutines, and the form in which a pending half message is state.
//
// Time goes by in rounds. A round looks at all half messages that were pending when it began, page by page: the caller answers Scan
// with Scanned. Out of what it finds come Check (count one more check, then ask the producer) and GiveUp (move the message to where
// somebody looks after it); the caller answers them with Done once they are durable, or refused. A half message that is decided meanwhile
// is the caller's to leave out.
//
// What holds: no half message is looked at twice in a round; no more than inFlightMax batches are handed out and not done; a round
// begins one interval after the one before has ended. The package must not know where messages are kept, nor who produced them.
package transaction
