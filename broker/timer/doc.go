// Package timer decides when delayed messages are due: a state machine without I/O, clock or goroutines.
//
// A level is a queue whose messages all wait equally long, so that they fall due in queue order (SCHEDULE_TOPIC_XXXX: queue = delay
// level - 1). The caller tells what it knows of each queue (Seen, Woken, Loaded), what became of deliveries (Stored, Refused) and the time
// (Step); Step answers with what to do: Load index entries, Deliver a run of messages, Watch a queue that has nothing to wait for.
//
// What holds: a level's messages are handed out in queue order and each once, until Refused takes some of them back, which makes all
// that was handed out behind them come again as well. No more than inFlightMessagesMax and inFlightBytesMax of a level are handed out
// and not yet stored. The package must not know where messages are kept, nor what they are.
package timer
