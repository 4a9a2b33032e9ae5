// Package remoting carries RocketMQ's remoting protocol over connections: listeners, the first-byte switch (TLS, PROXY protocol,
// HTTP/2, remoting), frames in and out, dispatch by request code into bounded lanes, and the client side.
//
// It must not know what a request means: roles hand it a table of routes. Authorisation, admission, metrics and the mapping of an
// error to a response hang on the route's row, in one place. Answers may be slices with a release, so that no file is known here
// and no connection in the store.
//
// Goroutines. A connection has one reader, which ends last and runs the OnClose callbacks, and while it has output one flusher, which
// the reader waits for. A lane has at most LaneLimits.Workers goroutines and none while it is idle. A server and a client have one
// janitor each (idle connections, timeouts). Shutdown and Close wait for all of them.
//
// Back-pressure. Answers are queued, never waited for. A peer that does not read them is not read from while half of OutBytesMax
// waits, its pulls are parked meanwhile, and beyond OutBytesMax, or idle for IdleTimeout, its connection is closed. In a lane
// connections take turns. What all of them hold is bounded together: the largest is closed (memory.go).
//
// Locks. Conn.mu guards the output queue and whether the connection is open; callTable.mu a connection's own requests; lane.mu a
// lane's queue and the connections' backlogs in it; Server.mu and Client.mu the set of connections. Server.mu or Client.mu may be held while Conn.mu is taken; otherwise
// no two are held together, and none while anything blocks or foreign code runs (but for the function given to AppendOut).
//
// Memory. A reader decodes in place: what a Sink or a callback gets is valid for the time its contract names. Frames of other lanes
// are copied once into a pooled buffer that belongs to the Request until it is answered.
package remoting
