// Package namesrv is RocketMQ's name server: which brokers there are, which topics they hold, and where they listen.
//
// It owns the route table, the key-value configuration and their rules: registration, data versions, liveness, acting masters,
// zones. Nothing of it outlives the process but the key-value configuration and what an administrator set at run time (two small
// files); name servers do not talk to each other, every broker registers with all of them.
//
// The broker of the same process is not copied into the table: its topics are read through LocalBroker at every answer, so that a
// topic is visible as soon as it exists, and unless a host is advertised its address is the one by which the asking client
// reached this process.
//
// Layers: table*.go is a state machine without clock, goroutine or I/O (time goes in, effects come out); namesrv.go locks it and
// applies the effects; one file per family of requests decodes, asks the table and answers. It must not know the broker, the store
// or how a connection works.
//
// Invariants. Handlers never hold the lock while they write a file, close a connection or push. A broker name whose topics come
// from a local broker has no stored queues. A route answer depends on nothing but the table's version, the local broker's answer
// for that topic and the local address of the connection: that is what makes answers cacheable.
package namesrv
