package remoting

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// firstBytesMax is the time from a connection's first byte until it is known what it speaks; before it, IdleTimeout counts.
	firstBytesMax = 10 * time.Second
	// lingerMax is how long a connection that ends in good order waits for its peer to close: else unread input would make the
	// system cut off output that is still under way.
	lingerMax = 250 * time.Millisecond
)

// serve is a connection's reader, from its first byte to its end.
func (s *Server) serve(nc net.Conn) {
	c := newConn(&s.env, nc)
	if !s.track(c) {
		_ = nc.Close()
		return
	}
	s.metrics.open[wireUnknown].Add(1)
	kind, err := s.establish(c)
	s.metrics.open[wireUnknown].Add(-1)
	if kind != wireUnknown {
		s.metrics.opened[kind].Add(1)
		s.metrics.open[kind].Add(1)
	}
	if kind == wireHTTP2 && err == nil {
		s.handOver(c)
		return
	}
	if err == nil {
		err = c.readFrames(&serverEnd{s: s})
	}
	s.readers.Done()
	if errors.Is(err, errStopped) {
		<-s.closing
		c.goodbye()
	}
	level, reason := endReason(err)
	c.close(level, reason)
	c.finish()
	if s.cfg.OnClose != nil && kind != wireUnknown {
		s.cfg.OnClose(c)
	}
	if kind != wireUnknown {
		s.metrics.open[kind].Add(-1)
	}
	s.untrack(c)
	s.uncount()
}

// endReason says how loudly the end of a connection is reported.
func endReason(err error) (slog.Level, string) {
	switch {
	case errors.Is(err, io.EOF):
		return slog.LevelDebug, "closed by the peer"
	case errors.Is(err, errStopped):
		return slog.LevelDebug, "server stops"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		return slog.LevelDebug, err.Error()
	}
	return slog.LevelInfo, err.Error()
}

// establish finds out what the connection speaks, and unwraps TLS and the PROXY protocol.
func (s *Server) establish(c *Conn) (wire, error) {
	kind := wireRemoting // or wireTLS
	proxied := false
	var until time.Time
	for {
		switch w := sniff(c.in.unread()); w {
		case wireUnknown:
			if err := c.fillFirst(&until); err != nil {
				return wireUnknown, err
			}
		case wireProxy:
			if proxied {
				return wireUnknown, fmt.Errorf("%w: the second one", errProxy)
			}
			proxied = true
			if err := s.unwrapProxy(c, &until); err != nil {
				s.metrics.refused[refusedProxy].Add(1)
				return wireUnknown, err
			}
			s.metrics.opened[wireProxy].Add(1)
		case wireTLS:
			if kind == wireTLS || s.cfg.TLSMode == TLSDisabled {
				s.metrics.refused[refusedTLS].Add(1)
				return wireUnknown, fmt.Errorf("TLS refused: it is disabled, or inside TLS")
			}
			kind = wireTLS
			if err := s.unwrapTLS(c); err != nil {
				s.metrics.refused[refusedTLS].Add(1)
				return wireUnknown, err
			}
		default:
			if kind != wireTLS && s.cfg.TLSMode == TLSEnforcing {
				s.metrics.refused[refusedPlain].Add(1)
				return wireUnknown, fmt.Errorf("plain connection refused: TLS is enforced")
			}
			if w == wireHTTP2 {
				kind = wireHTTP2
				if s.cfg.HTTP2 == nil {
					s.metrics.refused[refusedHTTP2].Add(1)
					return wireUnknown, fmt.Errorf("HTTP/2 is not served on this port")
				}
			}
			_ = c.nc.SetReadDeadline(time.Time{})
			if c.stopping.Load() {
				return wireUnknown, errStopped
			}
			return kind, nil
		}
	}
}

// fillFirst reads some of the first bytes. Once there is one, the rest must come until firstBytesMax later, however it trickles in.
func (c *Conn) fillFirst(until *time.Time) error {
	if len(c.in.unread()) > 0 && until.IsZero() {
		*until = time.Now().Add(firstBytesMax)
		_ = c.nc.SetReadDeadline(*until)
	}
	err := c.fill()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if c.stopping.Load() {
			return errStopped
		}
		return fmt.Errorf("the first bytes did not say within %s what they are", firstBytesMax)
	}
	return err
}

// unwrapProxy takes the PROXY protocol's header off the connection.
func (s *Server) unwrapProxy(c *Conn, until *time.Time) error {
	if s.cfg.ProxyAllowed == nil || !s.cfg.ProxyAllowed(c.remote.Addr()) {
		return fmt.Errorf("PROXY protocol is not allowed from %s", c.remoteName())
	}
	for {
		addr, n, err := parseProxy(c.in.unread())
		if err != nil {
			return err
		}
		if n == 0 {
			if err := c.fillFirst(until); err != nil {
				return err
			}
			continue
		}
		c.in.r += n
		if addr.IsValid() {
			c.mu.Lock()
			c.remote = addr
			c.mu.Unlock()
		}
		return nil
	}
}

// unwrapTLS does the handshake; the connection's bytes are from then on those inside.
func (s *Server) unwrapTLS(c *Conn) error {
	provide := s.cfg.TLS
	if provide == nil {
		provide = s.own
	}
	config, err := provide()
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	if s.cfg.HTTP2 != nil && len(config.NextProtos) == 0 { // gRPC insists on it
		config = config.Clone()
		config.NextProtos = []string{"h2"}
	}
	under := &prefixConn{Conn: c.nc, prefix: append([]byte(nil), c.in.unread()...)}
	c.in = inBuffer{}
	over := tls.Server(under, config)
	_ = over.SetDeadline(time.Now().Add(firstBytesMax))
	if err := over.Handshake(); err != nil {
		if c.stopping.Load() {
			return errStopped
		}
		return fmt.Errorf("TLS handshake: %w", err)
	}
	_ = over.SetDeadline(time.Time{})
	c.mu.Lock()
	c.nc, c.direct = over, nil
	c.mu.Unlock()
	return nil
}

// handOver gives an HTTP/2 connection to its server.
func (s *Server) handOver(c *Conn) {
	s.untrack(c)
	_ = c.nc.SetReadDeadline(time.Time{}) // Shutdown's, if it came between
	s.readers.Done()
	s.cfg.HTTP2(&handedConn{
		prefixConn: prefixConn{Conn: c.nc, prefix: append([]byte(nil), c.in.unread()...)},
		remote:     net.TCPAddrFromAddrPort(c.remote),
		onClose: func() {
			s.metrics.open[wireHTTP2].Add(-1)
			s.uncount()
		},
	})
}

// goodbye ends a connection whose output has been written.
func (c *Conn) goodbye() {
	type halfCloser interface{ CloseWrite() error }
	_ = c.nc.SetDeadline(time.Now().Add(lingerMax))
	if h, ok := c.nc.(halfCloser); ok {
		_ = h.CloseWrite()
	}
	if h, ok := c.raw.(halfCloser); ok {
		_ = h.CloseWrite()
	}
	var scrap [512]byte
	for {
		if _, err := c.raw.Read(scrap[:]); err != nil {
			return
		}
	}
}
