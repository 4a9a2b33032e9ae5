// Package protocol is RocketMQ's remoting protocol: frames, both header serialisations, request and response codes, header fields
// and JSON bodies.
//
// The wire is data here: codecs take and return bytes and know no connection, clock or logger. What a peer sends never makes them
// panic or allocate more than it sent. Fields of a decoded Command alias the frame they were read from.
package protocol
