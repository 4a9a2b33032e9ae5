package remoting

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/apogeemq/apogee/protocol"
)

// routeState is a route with what the server keeps for it.
type routeState struct {
	Route
	lane    *lane // nil in LaneSend
	metrics RouteMetrics
}

// routesLow is up to where request codes are found without hashing: all but POP's and the lite ones.
const routesLow = 1024

// routeTable finds a route by request code.
type routeTable struct {
	low  [routesLow]*routeState
	high map[int32]*routeState
	all  []*routeState // by code
}

func (t *routeTable) add(rt *routeState) error {
	code := int32(rt.Code)
	if t.find(code) != nil {
		return fmt.Errorf("request code %s has two routes", rt.Code)
	}
	if code >= 0 && code < routesLow {
		t.low[code] = rt
	} else {
		if t.high == nil {
			t.high = make(map[int32]*routeState)
		}
		t.high[code] = rt
	}
	t.all = append(t.all, rt)
	slices.SortFunc(t.all, func(a, b *routeState) int { return int(a.Code) - int(b.Code) })
	return nil
}

func (t *routeTable) find(code int32) *routeState {
	if uint32(code) < routesLow {
		return t.low[code]
	}
	return t.high[code]
}

// roundRequestsMax ends a round early, so that a read of many small frames does not need more requests than this.
const roundRequestsMax = 1024

// round holds the requests of LaneSend between two calls of EndRound. Their addresses are stable; they are used again.
type round struct {
	requests []*Request
	used     int
}

var rounds = sync.Pool{New: func() any { return new(round) }}

func (r *round) next() *Request {
	if r.used == len(r.requests) {
		r.requests = append(r.requests, new(Request))
	}
	r.used++
	return r.requests[r.used-1]
}

// serverEnd is the server's end of a connection.
type serverEnd struct {
	s       *Server
	sink    Sink
	round   *round // nil between reads that hold no request of LaneSend
	queued  bool   // something of this round went to a lane
	handled bool   // the sink was given a request of this round
}

// frame serves one frame: requests of LaneSend in place, others from a copy in their lane.
func (e *serverEnd) frame(c *Conn, b []byte) error {
	if code, ok := peekCode(b); ok {
		if rt := e.s.routes.find(code); rt != nil && rt.Lane != LaneSend {
			e.queued = true
			return e.s.enqueue(c, b)
		}
	}
	if e.round == nil {
		e.round = rounds.Get().(*round)
	}
	r := e.round.next()
	if err := protocol.Decode(b, &r.Command); err != nil {
		return err
	}
	rt := e.s.routes.find(r.Code)
	switch {
	case r.IsResponse():
		e.round.used--
		c.complete(&r.Command)
		return nil
	case rt == nil || rt.Lane != LaneSend:
		e.round.used--
		return e.s.enqueue(c, b)
	}
	r.Conn, r.Received, r.route, r.state = c, c.received, rt, requestOpen
	r.Principal, r.Namespace, r.Trace = "", "", nil
	if err := e.s.check(r, rt, len(b)); err != nil {
		r.answer(nil, err, false)
		return nil
	}
	if e.sink == nil {
		e.sink = e.s.cfg.NewSink(c)
	}
	e.handled = true
	e.sink.Handle(r)
	if e.round.used >= roundRequestsMax {
		e.endRound(c)
	}
	return nil
}

// endRound ends what the sink was given of this read.
func (e *serverEnd) endRound(c *Conn) {
	if e.queued {
		e.queued = false
		e.s.gate.see()
	}
	if e.round == nil {
		return
	}
	if e.handled {
		e.handled = false
		e.s.gate.sent(c.received)
		e.sink.EndRound()
	}
	e.round.used = 0
	rounds.Put(e.round)
	e.round = nil
}

// peekCode reads a frame's code without decoding it, where every client known writes it: first. A response has one too.
func peekCode(b []byte) (int32, bool) {
	header := b[protocol.FrameHeadSize:]
	if protocol.Serialization(b[4]) == protocol.SerializeBinary {
		if len(header) < 2 {
			return 0, false
		}
		return int32(int16(binary.BigEndian.Uint16(header))), true
	}
	const first = `{"code":`
	if !bytes.HasPrefix(header, []byte(first)) {
		return 0, false
	}
	n, digits := int32(0), 0
	for _, c := range header[len(first):] {
		if c < '0' || c > '9' || digits > 8 {
			break
		}
		n = n*10 + int32(c-'0')
		digits++
	}
	return n, digits > 0
}

// ownRequest decodes a copy of the frame into a request of the pool.
func ownRequest(c *Conn, b []byte) (*Request, error) {
	r := requests.Get().(*Request)
	r.frame = append(r.frame[:0], b...)
	if err := protocol.Decode(r.frame, &r.Command); err != nil {
		r.recycle()
		return nil, err
	}
	r.Conn, r.Received, r.state = c, c.received, requestOpen
	r.ReadContext()
	return r, nil
}

// enqueue hands a frame to its lane.
func (s *Server) enqueue(c *Conn, b []byte) error {
	r, err := ownRequest(c, b)
	if err != nil {
		return err
	}
	if r.IsResponse() { // whose code is also that of a request
		c.complete(&r.Command)
		r.recycle()
		return nil
	}
	r.route = s.routes.find(r.Code)
	if r.route == nil {
		s.metrics.unknownCodes.Add(1)
		r.answer(nil, protocol.Errorf(protocol.RespRequestCodeNotSupported, " request type %d not supported", r.Code), false)
		return nil
	}
	if err := c.chargeRequest(r); err != nil {
		s.metrics.requestsRefused.Add(1)
		r.answer(nil, protocol.Errorf(protocol.RespSystemBusy, "%s", err), false)
		return nil
	}
	r.route.lane.submit(r)
	return nil
}

// check asks whether the request is allowed and affordable.
func (s *Server) check(r *Request, rt *routeState, size int) error {
	if s.cfg.Authorize != nil {
		if err := s.cfg.Authorize(r, &rt.Route); err != nil {
			return err
		}
	}
	if s.cfg.Admit != nil {
		return s.cfg.Admit(r, &rt.Route, size)
	}
	return nil
}
