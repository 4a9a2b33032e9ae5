// Package message is RocketMQ's stored record, byte by byte, and what is inside it: properties, tags, batches, ids and names.
//
// It owns the layout of a record in the commit log (which is also the body of a pull answer), the property encoding, the
// checksum arithmetic, the offset message id and the rules for names. It must not know files, connections or brokers:
// every function is pure, takes and returns bytes, and never panics on what a peer or a disk sent.
package message
