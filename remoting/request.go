package remoting

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// Request is a command with where it came from and on whose behalf.
type Request struct {
	protocol.Command
	Conn      *Conn
	Received  time.Time
	Principal string // authenticated user; empty while access control is off
	Namespace string // header field ns, when nsd is true (LaneSend: after ReadContext)
	Trace     []byte // header field traceparent or TRACE_CONTEXT, for spans (LaneSend: after ReadContext)

	route   *routeState
	next    *Request // in a lane's queue
	frame   []byte   // a copy of the frame; nil in LaneSend, whose frames stay in the connection's buffer
	charged int      // bytes that count for the connection
	local   func(*Response, error)
	state   uint32 // requestOpen or requestAnswered, atomically
}

const (
	requestOpen = iota
	requestAnswered
)

// ownFrameBytesMax is the largest frame buffer that is kept for reuse.
const ownFrameBytesMax = 64 << 10

// requests pools those that run in a lane, with their frames.
var requests = sync.Pool{New: func() any { return &Request{frame: make([]byte, 0, 1024)} }}

// NewLocalRequest returns a request that came over no connection, for callers in the same process and for tests: its answer, also one
// given later, goes to answer, on the goroutine that gives it.
func NewLocalRequest(cmd *protocol.Command, answer func(*Response, error)) *Request {
	r := &Request{Command: *cmd, local: answer}
	r.ReadContext()
	return r
}

// Metrics returns where latencies of the request's route are counted; it outlives the request.
func (r *Request) Metrics() *RouteMetrics { return &r.route.metrics }

// Route returns the request's row.
func (r *Request) Route() *Route { return &r.route.Route }

// Read decodes the request's header fields into h.
func (r *Request) Read(h protocol.Header) error { return protocol.DecodeHeader(r.Fields, h) }

// ReadContext fills Namespace and Trace from the header fields. It has been called for requests that run in a lane; a Sink calls it
// when it needs them.
func (r *Request) ReadContext() {
	var namespace []byte
	namespaced := false
	for i := range r.Fields {
		f := &r.Fields[i]
		switch string(f.Key) {
		case "ns":
			namespace = f.Value
		case "nsd":
			namespaced = string(f.Value) == "true"
		case "traceparent", "TRACE_CONTEXT":
			r.Trace = f.Value
		}
	}
	if namespaced {
		r.Namespace = string(namespace)
	}
}

// Reply answers the request, once; an error is sent as its code and remark (protocol.CodeOf), neither as SUCCESS without a body. The
// request and its bytes must not be used afterwards. A one-way request is only counted. It never blocks.
func (r *Request) Reply(resp *Response, err error) { r.answer(resp, err, r.frame != nil) }

// answer is the one place where a response gets its code, remark, opaque, flags and metrics. held: the handler had returned ErrLater.
func (r *Request) answer(resp *Response, err error, held bool) {
	if !atomic.CompareAndSwapUint32(&r.state, requestOpen, requestAnswered) {
		panic("remoting: request answered twice")
	}
	if r.local != nil {
		r.local(resp, err)
		return
	}
	var cmd protocol.Command
	var payload *Payload
	if resp != nil {
		payload = &resp.Payload
	}
	switch {
	case err != nil:
		code, remark := protocol.CodeOf(err)
		cmd.Code, cmd.Remark = int32(code), []byte(remark)
		payload.release()
		payload = nil
	case resp != nil:
		cmd = resp.Command
	}
	conn := r.Conn
	if r.IsOneWay() {
		payload.release()
	} else {
		cmd.Opaque, cmd.Serialize = r.Opaque, r.Serialize
		cmd.Flag, cmd.Language, cmd.Version = protocol.FlagResponse, protocol.LanguageGo, protocol.Version
		_ = conn.write(&cmd, payload) // a connection that closed meanwhile has said so
	}
	if r.route != nil {
		r.route.metrics.observe(protocol.ResponseCode(cmd.Code), conn.env.now().Sub(r.Received), 1, held)
	}
	r.recycle()
}

// recycle gives a request that owns its frame back to the pool.
func (r *Request) recycle() {
	if r.frame == nil {
		return
	}
	r.discharge()
	frame, fields := r.frame[:0], r.Fields[:0]
	if cap(frame) > ownFrameBytesMax {
		frame = make([]byte, 0, 1024)
		fields = nil
	}
	*r = Request{frame: frame, state: requestAnswered}
	r.Fields = fields
	requests.Put(r)
}

func (p *Payload) release() {
	if p != nil && p.Release != nil {
		p.Release()
	}
}
