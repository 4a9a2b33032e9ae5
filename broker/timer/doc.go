// Package timer decides when delayed messages are due: two state machines without I/O, clock or goroutines.
//
// Levels: a level is a queue whose messages all wait equally long, so that they fall due in queue order (SCHEDULE_TOPIC_XXXX: queue = delay
// level - 1). The caller tells what it knows of each queue (Seen, Woken, Loaded), what became of deliveries (Stored, Refused) and the time
// (Step); Step answers with what to do: Load index entries, Deliver a run of messages, Watch a queue that has nothing to wait for,
// Move a run to where each waits for a moment of its own (MoveBefore).
//
// Moments: each message waits for a moment of its own (rmq_sys_wheel_timer). The caller keeps what waits, in the order of moments; of it
// a bounded window is known here, that which is due next, up to a horizon. The caller tells what begins to wait (Added), answers what is
// asked for (Load, Loaded), delivers what Step gives and tells what became of it (Stored, Refused), and takes messages out that somebody
// recalls or moves (Hold, LetGo).
//
// What holds: messages are handed out each once, a level's in queue order, until Refused takes some of them back, which makes all of a
// level that was handed out behind them come again as well. No more than inFlightMessagesMax and inFlightBytesMax of a level, and
// handedOutMax and handedOutBytesMax of all moments, are handed out and not yet stored. The package must not know where messages are
// kept, nor what they are.
package timer
