// Package commitlog is the log: the one sequence of records that everything else is derived from.
//
// It owns the segment files, the memory of the tail and the cache of log blocks, the assignment of offsets, group commit, and the
// search for the log's end after a crash. It must not know topics, queues, connections or what a record is for: a caller hands it
// batches of encoded-to-be records with a queue's Sequence each, and is told when a batch is confirmed.
//
// One message's way: Append assigns offsets under one short lock, the caller's goroutine encodes the records straight into the
// tail's memory blocks (no other copy is made), Step writes all that is encoded with one write and one fdatasync, Confirm tells the
// batches. Readers get slices of the same blocks.
//
// Invariants:
//   - flushed <= written <= next, confirmed <= written; none of them ever goes back.
//   - A record counts only if its sizes add up, its checksum is right and its physical-offset field equals its position.
//   - Every write ends on an alignment boundary in zeros, at least 8 of them after the last record (unless the segment ends there).
//   - Two writes never overlap in time; the last block's image comes from memory, never from the file.
//   - After a failed write or fsync of a segment nothing is written any more (ErrStopped).
package commitlog
