// Package pop keeps what one consumer group was given of one queue and has not acknowledged: a state machine without I/O, clock or
// goroutines.
//
// A Queue takes what happens (Popped, Ack, Renew, the time in Due) and gives back Writes, the changes of its durable state. Load of all
// of them, in any order, makes the same Queue again: that is a restart. Messages that were handed out together are one Run, with a
// deadline and a bit for each message; runs stand in the order of their deadlines. Only the first runsKept of them are in memory, so that
// a million messages that nobody acknowledges cost no more than a thousand: Absent and Missing say which runs the caller has to Load from
// where it keeps the Writes.
//
// What holds: every delivery has its own identity (RunID, and the offset), and Ack or Renew of one that is over changes nothing. A
// message is handed out once until its deadline. Low, the group's offset, is the lowest offset that is not acknowledged, or below it.
//
// Ordered consumption keeps one Batch for the whole queue instead: nothing is handed out behind it until it is acknowledged or its
// deadlines have passed, and then the same messages are handed out again.
//
// The package must not know where messages or writes are kept, nor what a message is beyond its offset. Times are in ms since 1970.
package pop
