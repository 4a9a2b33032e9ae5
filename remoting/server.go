package remoting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// Defaults of a ServerConfig.
const (
	DefaultIdleTimeout     = 120 * time.Second // RocketMQ's serverChannelMaxIdleTimeSeconds
	DefaultOutBytesMax     = 64 << 20
	DefaultRequestBytesMax = 64 << 20
	DefaultMemoryBytesMax  = 1 << 30
	DefaultConnectionsMax  = 100_000
	DefaultCallTimeout     = 10 * time.Second // of requests that a server sends
)

// ServerConfig says what a server serves and within which limits. Zero values mean the defaults.
type ServerConfig struct {
	Routes  []Route
	NewSink func(*Conn) Sink // called at a connection's first request of LaneSend, on its reader
	Listen  []string         // host:port; bound by NewServer, served from Start on

	FrameBytesMax   int           // of a frame without its length field
	IdleTimeout     time.Duration // a connection without traffic is closed
	ConnectionsMax  int           // of all kinds
	OutBytesMax     int           // output of one connection that it has not read, payloads included; beyond, it is closed
	RequestBytesMax int           // requests of one connection that are not answered, with requestOverheadBytes each; beyond, they are refused
	MemoryBytesMax  int           // what all connections hold together; beyond, those that hold the most are closed
	Lanes           map[Lane]LaneLimits

	TLSMode TLSMode
	TLS     func() (*tls.Config, error) // asked at each handshake; nil: a self-signed certificate
	// ProxyAllowed tells whether the peer may give another address than its own (PROXY protocol); nil: nobody may.
	ProxyAllowed func(peer netip.Addr) bool
	HTTP2        func(net.Conn) // takes over connections that speak HTTP/2 and returns; nil: they are closed

	Authorize func(*Request, *Route) error      // may set Request.Principal
	Admit     func(*Request, *Route, int) error // the last is the frame's size in bytes
	OnClose   func(*Conn)                       // as Conn.OnClose, for every remoting connection
	Drain     func(context.Context)             // during Shutdown, when nothing more is read: answer what is in flight
	Logger    *slog.Logger
	Now       func() time.Time
}

// Server serves remoting connections.
type Server struct {
	cfg     ServerConfig
	env     env
	routes  routeTable
	lanes   [laneCount]*lane
	gate    *gate
	metrics serverMetrics
	own     func() (*tls.Config, error) // the self-signed certificate, made once

	wg      sync.WaitGroup // accept loops, connections, the janitor
	readers sync.WaitGroup // connections that may still read
	closing chan struct{}  // closed when connections that no longer read shall end
	stopped chan struct{}  // closed when the janitor shall end
	endOnce sync.Once

	mu        sync.Mutex // guards the following
	conns     map[*Conn]struct{}
	count     int // of conns and of connections handed over to HTTP2
	bound     []net.Listener
	listeners map[net.Listener]struct{}
	draining  bool
}

// NewServer checks the configuration and binds its addresses. Shutdown must be called to free them.
func NewServer(cfg ServerConfig) (*Server, error) {
	cfg.setDefaults()
	if cfg.FrameBytesMax >= frameBytesCeiling {
		return nil, fmt.Errorf("FrameBytesMax=%d is not below %d: frames could not be told from TLS or the PROXY protocol", cfg.FrameBytesMax, frameBytesCeiling)
	}
	s := &Server{
		cfg: cfg, own: sync.OnceValues(selfSigned),
		env: env{log: cfg.Logger, now: cfg.Now, frameBytesMax: cfg.FrameBytesMax, outBytesMax: cfg.OutBytesMax,
			overflow: overflowCloses, idleTimeout: cfg.IdleTimeout, callTimeout: DefaultCallTimeout,
			requestBytesMax: int64(cfg.RequestBytesMax), memory: memory{limit: int64(cfg.MemoryBytesMax), pressure: make(chan struct{}, 1)}},
		closing: make(chan struct{}), stopped: make(chan struct{}),
		conns: make(map[*Conn]struct{}), listeners: make(map[net.Listener]struct{}),
	}
	if err := s.makeRoutes(); err != nil {
		return nil, err
	}
	s.env.purge = s.purge
	for _, addr := range cfg.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			for _, l := range s.bound {
				_ = l.Close()
			}
			return nil, fmt.Errorf("cannot listen on %q: %w", addr, err)
		}
		s.bound = append(s.bound, l)
	}
	s.wg.Go(s.janitor)
	return s, nil
}

func (cfg *ServerConfig) setDefaults() {
	setDefault(&cfg.FrameBytesMax, protocol.DefaultFrameBytesMax)
	setDefault(&cfg.IdleTimeout, DefaultIdleTimeout)
	setDefault(&cfg.ConnectionsMax, DefaultConnectionsMax)
	setDefault(&cfg.OutBytesMax, DefaultOutBytesMax)
	setDefault(&cfg.RequestBytesMax, DefaultRequestBytesMax)
	setDefault(&cfg.MemoryBytesMax, DefaultMemoryBytesMax)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (s *Server) makeRoutes() error {
	check := s.check
	if s.cfg.Authorize == nil && s.cfg.Admit == nil {
		check = nil
	}
	s.gate = newGate()
	s.gate.look = newLook()
	for kind, limits := range DefaultLanes() {
		if l, ok := s.cfg.Lanes[kind]; ok {
			limits = l
		}
		if limits.Workers < 1 || limits.Queue < 0 {
			return fmt.Errorf("lane %s: Workers=%d, Queue=%d: at least one worker is needed", kind, limits.Workers, limits.Queue)
		}
		s.lanes[kind] = newLane(kind, kind.String(), limits, s.gate, check)
	}
	for _, r := range s.cfg.Routes {
		if r.Lane >= laneCount {
			return fmt.Errorf("route %s: lane %d does not exist", r.Code, r.Lane)
		}
		if r.Lane == LaneSend && s.cfg.NewSink == nil {
			return fmt.Errorf("route %s is in lane send: NewSink is needed", r.Code)
		}
		if r.Lane != LaneSend && r.Handle == nil {
			return fmt.Errorf("route %s has no handler", r.Code)
		}
		if err := s.routes.add(&routeState{Route: r, lane: s.lanes[r.Lane]}); err != nil {
			return err
		}
	}
	return nil
}

// Addrs returns the addresses of ServerConfig.Listen as they were bound.
func (s *Server) Addrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, l := range s.bound {
		out = append(out, addrPort(l.Addr()))
	}
	return out
}

// Start serves the addresses of ServerConfig.Listen; it returns at once.
func (s *Server) Start() {
	for _, l := range s.bound {
		go func() {
			if err := s.Serve(l); err != nil {
				s.cfg.Logger.Error("listener failed", "addr", l.Addr().String(), "error", err)
			}
		}()
	}
}

// acceptPause is how long accepting waits after a failure that may pass (no file descriptors).
const acceptPause = 50 * time.Millisecond

// Serve accepts connections until Shutdown, when it returns nil, or until the listener fails.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		_ = l.Close()
		return nil
	}
	s.listeners[l] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			s.wg.Go(func() { s.serve(nc) })
		case s.isDraining():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("cannot accept on %s: %w", l.Addr(), err)
		default:
			s.cfg.Logger.Warn("cannot accept a connection", "addr", l.Addr().String(), "error", err)
			select {
			case <-time.After(acceptPause):
			case <-s.closing:
			}
		}
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// track admits a connection.
func (s *Server) track(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	if s.count >= s.cfg.ConnectionsMax {
		s.metrics.refused[refusedLimit].Add(1)
		s.cfg.Logger.Warn("connection refused", "remote", c.remoteName(), "reason", "ConnectionsMax reached", "limit", s.cfg.ConnectionsMax)
		return false
	}
	s.count++
	s.conns[c] = struct{}{}
	s.readers.Add(1)
	return true
}

func (s *Server) untrack(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

func (s *Server) uncount() {
	s.mu.Lock()
	s.count--
	s.mu.Unlock()
}

// Connections returns how many connections there are, of all kinds.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *Server) snapshot() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// janitorInterval is how often connections are looked over.
const janitorInterval = time.Second

func (s *Server) janitor() {
	t := time.NewTicker(janitorInterval)
	defer t.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-t.C:
			s.scan()
		case <-s.env.memory.pressure:
			s.relieve()
		}
	}
}

func (s *Server) scan() {
	now := s.cfg.Now()
	for _, c := range s.snapshot() {
		c.scan(now)
	}
}

// Shutdown stops accepting and reading, answers what is in flight, and closes. When ctx ends first, the rest is cut off and the
// error says so. Requests whose handler returned ErrLater are not waited for: Drain may answer them.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	again := s.draining
	s.draining = true
	for _, l := range s.bound {
		_ = l.Close()
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.stopReading()
	}
	s.mu.Unlock()
	if again {
		return nil
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain(ctx)
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		conns := s.snapshot()
		err = fmt.Errorf("remoting server not drained, %d connections cut off: %w", len(conns), ctx.Err())
		for _, c := range conns {
			c.close(slog.LevelInfo, "server stops, not drained in time")
		}
		s.end()
		select { // a handler may hang, which is not ours to wait for
		case <-drained:
		case <-time.After(time.Second):
		}
	}
	return err
}

// end lets the connections and the janitor end.
func (s *Server) end() {
	s.endOnce.Do(func() {
		close(s.closing)
		close(s.stopped)
		s.gate.look.close()
	})
}

func (s *Server) drain(ctx context.Context) {
	s.readers.Wait()
	for _, l := range s.lanes {
		if l != nil {
			l.wait()
		}
	}
	if s.cfg.Drain != nil {
		s.cfg.Drain(ctx)
	}
	for _, c := range s.snapshot() {
		c.waitFlushed(ctx)
	}
	s.end()
	s.wg.Wait()
}
