package remoting

import (
	"errors"

	"github.com/apogeemq/apogee/protocol"
)

// Lane bounds the requests of one kind that run at once, so that a slow kind cannot delay another.
type Lane uint8

// The lanes. Requests of LaneSend are handled on the connection's reader, all frames of a read together (see Sink).
const (
	LaneSend Lane = iota
	LanePull
	LaneAck
	LaneHeartbeat
	LaneAdmin
	laneCount
)

// String returns the lane's name as it stands in metrics.
func (l Lane) String() string {
	return [...]string{"send", "pull", "ack", "heartbeat", "admin"}[l]
}

// Action is what a request does to its resource, for access control (RocketMQ's Action).
type Action uint8

// The actions of ACL 2.0.
const (
	ActionNone Action = iota // open to everyone: heartbeats, routes
	ActionPub
	ActionSub
	ActionCreate
	ActionUpdate
	ActionDelete
	ActionGet
	ActionList
)

// Handler answers a request that runs in a lane. The request's bytes stay valid until it has been answered.
// It returns the response, or an error (see protocol.CodeOf), or ErrLater when it will call Request.Reply itself, once.
type Handler func(r *Request) (*Response, error)

// ErrLater says that the handler keeps the request and will reply to it.
var ErrLater = errors.New("answered later")

// Route is one row of a role's table: how one request code is served.
type Route struct {
	Code   protocol.RequestCode
	Lane   Lane
	Action Action
	Handle Handler // nil in LaneSend: the connection's Sink takes those
}

// Sink takes the requests of LaneSend on the connection's reader: Handle for each frame of a read, then EndRound once. Requests and
// their bytes are valid until EndRound returns; it may block for back-pressure. A connection has one Sink and calls it from one goroutine.
//
// A request is answered by Request.Reply within the round, or later through Conn.AppendOut with what the sink kept of it (connection,
// opaque, serialisation) and RouteMetrics.ObserveN; one-way requests are not answered.
type Sink interface {
	Handle(r *Request)
	EndRound()
}

// Payload is a response body in slices that are not copied; Release (may be nil) is called once they were written or dropped.
type Payload struct {
	Slices  [][]byte
	Size    int
	Release func()
}

// Response is a command and, instead of its Body, possibly a Payload.
type Response struct {
	protocol.Command
	Payload Payload
}

// Respond returns a response with a header (nil for none).
func Respond(code protocol.ResponseCode, h protocol.Header) *Response {
	return &Response{Command: *protocol.NewResponse(code, h)}
}

// RespondBody returns a SUCCESS response with a JSON body.
func RespondBody(v any) *Response {
	r := Respond(protocol.RespSuccess, nil)
	r.Body = protocol.MarshalBody(v)
	return r
}
