package remoting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// Defaults of a ClientConfig.
const (
	DefaultClientTimeout = 3 * time.Second // as RocketMQ's clients
	// dialCallsMax bounds the requests to one address that wait for it to be connected.
	dialCallsMax = 10_000
	// clientTick is how exactly the timeouts of callbacks are kept.
	clientTick = 50 * time.Millisecond
)

// ClientConfig says how a client connects. Zero values mean the defaults.
type ClientConfig struct {
	TLS                 *tls.Config                                     // nil: plain
	Timeout             time.Duration                                   // to connect; to answer, where the context has no deadline
	IdleTimeout         time.Duration                                   // a connection without traffic is closed
	FrameBytesMax       int                                             // of a frame without its length field
	OutBytesMax         int                                             // output of a connection that waits to be written; beyond, requests fail
	OnRequest           Handler                                         // serves requests from the other side; nil: they are not supported
	OnRequestLimits     LaneLimits                                      // of OnRequest
	HeaderSerialization protocol.Serialization                          // of requests; codes that do not fit are sent as JSON
	Dialer              func(context.Context, string) (net.Conn, error) // nil: TCP
	Logger              *slog.Logger
	Now                 func() time.Time
}

// Client sends requests to servers, over one connection for each address, which is made when it is needed and again when it was lost.
type Client struct {
	cfg   ClientConfig
	env   env
	push  routeState // serves what servers send
	wg    sync.WaitGroup
	stop  context.CancelFunc
	life  context.Context
	start sync.Once // the janitor

	mu     sync.Mutex // guards the following
	peers  map[string]*peer
	conns  map[*Conn]struct{}
	closed bool
}

// peer is an address and its shared connection; guarded by Client.mu.
type peer struct {
	conn    *Conn // nil or closed: to be dialed
	dialing bool
	waiting []waitingCall
}

// waitingCall is a request that waits for the connection.
type waitingCall struct {
	cmd     *protocol.Command // a copy
	timeout time.Duration
	done    Callback // nil for a one-way request
}

// ErrClientClosed says that the client was closed.
var ErrClientClosed = errors.New("remoting client is closed")

// NewClient returns a client; Close must be called.
func NewClient(cfg ClientConfig) *Client {
	setDefault(&cfg.Timeout, DefaultClientTimeout)
	setDefault(&cfg.IdleTimeout, DefaultIdleTimeout)
	setDefault(&cfg.FrameBytesMax, protocol.DefaultFrameBytesMax)
	setDefault(&cfg.OutBytesMax, DefaultOutBytesMax)
	setDefault(&cfg.OnRequestLimits, LaneLimits{Workers: 16, Queue: 10_000})
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Dialer == nil {
		cfg.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	c := &Client{
		cfg: cfg,
		env: env{log: cfg.Logger, now: cfg.Now, frameBytesMax: cfg.FrameBytesMax, outBytesMax: cfg.OutBytesMax, overflow: overflowRefuses,
			idleTimeout: cfg.IdleTimeout, callTimeout: cfg.Timeout, serialize: cfg.HeaderSerialization},
		peers: make(map[string]*peer), conns: make(map[*Conn]struct{}),
	}
	c.life, c.stop = context.WithCancel(context.Background())
	c.push.Lane, c.push.Handle = LaneAdmin, cfg.OnRequest
	c.push.lane = newLane(LaneAdmin, "client", cfg.OnRequestLimits, newGate(), nil)
	return c
}

// Close closes the connections; requests that wait fail.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	conns := make([]*Conn, 0, len(c.conns))
	for conn := range c.conns {
		conns = append(conns, conn)
	}
	c.mu.Unlock()
	c.stop()
	for _, conn := range conns {
		conn.close(slog.LevelDebug, "client closed")
	}
	c.wg.Wait()
	c.push.lane.wait()
}

// Dial makes a connection that is the caller's alone. Like a shared one it is closed after IdleTimeout without traffic.
func (c *Client) Dial(ctx context.Context, addr string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	nc, err := c.cfg.Dialer(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", addr, err)
	}
	conn := newConn(&c.env, nc)
	if c.cfg.TLS != nil {
		over, err := c.handshake(ctx, nc, addr)
		if err != nil {
			_ = nc.Close()
			return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
		}
		conn.nc, conn.direct = over, nil
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		_ = nc.Close()
		return nil, ErrClientClosed
	}
	c.conns[conn] = struct{}{}
	c.wg.Go(func() { c.read(conn) })
	c.start.Do(func() { c.wg.Go(c.janitor) })
	c.mu.Unlock()
	return conn, nil
}

func (c *Client) handshake(ctx context.Context, nc net.Conn, addr string) (*tls.Conn, error) {
	config := c.cfg.TLS
	if config.ServerName == "" && !config.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	over := tls.Client(nc, config)
	return over, over.HandshakeContext(ctx)
}

// read is a connection's reader.
func (c *Client) read(conn *Conn) {
	err := conn.readFrames(&clientEnd{client: c})
	level, reason := endReason(err)
	conn.close(level, reason)
	conn.finish()
	c.mu.Lock()
	delete(c.conns, conn)
	c.mu.Unlock()
}

func (c *Client) janitor() {
	t := time.NewTicker(clientTick)
	defer t.Stop()
	var conns []*Conn
	for {
		select {
		case <-c.life.Done():
			return
		case <-t.C:
		}
		c.mu.Lock()
		conns = conns[:0]
		for conn := range c.conns {
			conns = append(conns, conn)
		}
		c.mu.Unlock()
		now := c.cfg.Now()
		for _, conn := range conns {
			conn.scan(now)
		}
		clear(conns)
	}
}

// clientEnd is the client's end of a connection.
type clientEnd struct {
	client *Client
	cmd    protocol.Command
}

// frame delivers an answer in place; a request gets a copy.
func (e *clientEnd) frame(conn *Conn, b []byte) error {
	if err := protocol.Decode(b, &e.cmd); err != nil {
		return err
	}
	if e.cmd.IsResponse() {
		conn.complete(&e.cmd)
		return nil
	}
	r, err := ownRequest(conn, b)
	if err != nil {
		return err
	}
	r.route = &e.client.push
	if r.route.Handle == nil {
		r.answer(nil, protocol.Errorf(protocol.RespRequestCodeNotSupported, " request type %d not supported", r.Code), false)
		return nil
	}
	r.route.lane.submit(r)
	return nil
}

func (e *clientEnd) endRound(*Conn) {}

// Go sends a request to addr (host:port, [IPv6]:port) over the shared connection; done gets the answer. cmd is not used after Go returns.
func (c *Client) Go(addr string, cmd *protocol.Command, done Callback) {
	c.send(addr, cmd, c.cfg.Timeout, done)
}

// Invoke sends a request and waits for the answer, which owns its memory.
func (c *Client) Invoke(ctx context.Context, addr string, cmd *protocol.Command) (*protocol.Command, error) {
	return await(ctx, addr, cmd.Code, c.cfg.Timeout, func(timeout time.Duration, done Callback) { c.send(addr, cmd, timeout, done) })
}

// OneWay sends a request that is not answered. A failure to connect is logged.
func (c *Client) OneWay(addr string, cmd *protocol.Command) error {
	conn, err := c.shared(addr, waitingCall{cmd: cmd})
	if err != nil || conn == nil {
		return err
	}
	return conn.OneWay(cmd)
}

func (c *Client) send(addr string, cmd *protocol.Command, timeout time.Duration, done Callback) {
	conn, err := c.shared(addr, waitingCall{cmd, timeout, done})
	if err != nil {
		done(nil, err)
	} else if conn != nil {
		conn.send(cmd, timeout, done)
	}
}

// shared returns the connection to addr; or nil, and the call will be made when there is one.
func (c *Client) shared(addr string, call waitingCall) (*Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClientClosed
	}
	p := c.peers[addr]
	if p == nil {
		p = &peer{}
		c.peers[addr] = p
	}
	if p.conn != nil {
		if !p.conn.IsClosed() {
			return p.conn, nil
		}
		p.conn = nil
	}
	if len(p.waiting) >= dialCallsMax {
		return nil, fmt.Errorf("cannot send to %s: %d requests wait for the connection, the limit is dialCallsMax", addr, len(p.waiting))
	}
	call.cmd = cloneCommand(call.cmd)
	p.waiting = append(p.waiting, call)
	if !p.dialing {
		p.dialing = true
		c.wg.Go(func() { c.dialShared(addr, p) })
	}
	return nil, nil
}

// dialShared connects and makes the calls that wait. Those that come meanwhile queue behind them, which keeps their order.
func (c *Client) dialShared(addr string, p *peer) {
	conn, err := c.Dial(c.life, addr)
	for {
		c.mu.Lock()
		calls := p.waiting
		p.waiting = nil
		if len(calls) == 0 {
			p.dialing, p.conn = false, conn
			if conn == nil {
				delete(c.peers, addr)
			}
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for _, call := range calls {
			c.resume(addr, conn, call, err)
		}
	}
}

// resume makes a call that waited for its connection.
func (c *Client) resume(addr string, conn *Conn, call waitingCall, err error) {
	switch {
	case err == nil && call.done == nil:
		err = conn.OneWay(call.cmd)
		if err != nil {
			c.cfg.Logger.Debug("one-way request lost", "addr", addr, "error", err)
		}
	case err == nil:
		conn.send(call.cmd, call.timeout, call.done)
	case call.done == nil:
		c.cfg.Logger.Debug("one-way request lost", "addr", addr, "error", err)
	default:
		call.done(nil, err)
	}
}
