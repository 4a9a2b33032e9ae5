// Package popserve serves POP consumption: what groups pop, acknowledge and wait for, over the state machines of package pop.
//
// It owns the state of kind "pop" and of kind "requestModes", the line of the pops that wait, and the deliveries that are over. Of the
// broker it knows what Host says. Each file opens with the request codes that it serves and what clients see; goroutines are started in
// shell.go. A message's way: pop.go hands it out, or has the pop wait in wait.go; ack.go ends the delivery, or renews it; revive.go delivers
// again what is over; table.go keeps all of that. rocketmq.go takes over what RocketMQ had handed out.
//
// Locks: that of a queue (Queue.mu) may be held when those of the journal, the deadlines and the group's offsets are taken; that of the
// waiting pops is a leaf. None is held while a record is appended, so whatever is told of a record may take them.
package popserve
