// Package view is what is derived from the log: queue indexes, the key index, the broker's state, and the log position up to which
// they are true.
//
// The newest part is in memory; Freeze and Stage move it to a Pebble database in large batches, together with the position that they
// cover, so that the database is true as of one log position after any crash. The write-ahead log is off: the log itself is that.
// The database can be deleted at any time and is rebuilt by replay. The package must not know files of the log, clocks or
// connections.
//
// Keys in the database (integers big-endian; strings end in a zero byte, which no name holds):
//
//	"a"                                   applied: version, log position 8, last record's position 8, last store time 8
//	"r"                                   a replay from the log's beginning has not ended: the database is made anew
//	"n" topic 0 queue 4                   next offset 8, minimum offset 8
//	"q" topic 0 queue 4 first offset 8    the run that holds the queue from this offset on: from 8, end 8
//	"x" from 8 end 8 "q" topic 0 queue 4 first offset 8
//	                                      index entries of a run, 20 bytes each: log position 8, size 4, tags code 8 (RocketMQ's unit).
//	                                      Bits 30 and 31 of the size: the record holds several messages; it has the next offset, too
//	"x" from 8 end 8 "k" hash 8 sequence 4
//	                                      key index of a run: sorted pairs of key hash 5 (its first bytes) and how far before
//	                                      the run's end the message is 5; the hash in the key is that of the last pair, 8
//	"K" from 8                            a run: end position 8, store times of its first and last key 8
//	"s" kind 0 key                        the broker's state
package view
