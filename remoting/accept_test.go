package remoting

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// whereFrom answers with the address that the server takes the peer to have.
func whereFrom(r *Request) (*Response, error) {
	resp := Respond(protocol.RespSuccess, nil)
	resp.Body = []byte(r.Conn.RemoteAddr().String())
	return resp, nil
}

func proxyHeaderV2(command, family byte, addrs []byte) []byte {
	b := append([]byte(proxyV2), 0x20|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addrs)))
	return append(b, addrs...)
}

func TestTLSAndPlainOnOnePort(t *testing.T) {
	cfg := echoConfig()
	cfg.Routes = append(cfg.Routes, payloadRouteBytes(300_000))
	s, addr := serve(t, cfg)
	plain := newTestClient(t, ClientConfig{})
	secure := newTestClient(t, ClientConfig{TLS: &tls.Config{InsecureSkipVerify: true}})
	for _, c := range []*Client{plain, secure} {
		for _, code := range []protocol.RequestCode{codeSend, codePull} {
			req := protocol.NewRequest(code, nil)
			req.Body = []byte("over TLS or not")
			resp, err := c.Invoke(t.Context(), addr, req)
			if err != nil || string(resp.Body) != "over TLS or not" {
				t.Fatalf("%v %v", resp, err)
			}
		}
		resp, err := c.Invoke(t.Context(), addr, protocol.NewRequest(codeAdmin, nil))
		if err != nil || string(resp.Body) != strings.Repeat("p", 300_000) {
			t.Fatalf("payload: %v", err)
		}
	}
	if p, s := s.metrics.open[wireRemoting].Load(), s.metrics.open[wireTLS].Load(); p != 1 || s != 1 {
		t.Errorf("%d plain, %d TLS", p, s)
	}
}

// payloadRouteBytes answers with a payload of many slices.
func payloadRouteBytes(size int) Route {
	return Route{Code: codeAdmin, Lane: LaneAdmin, Handle: func(*Request) (*Response, error) {
		resp := Respond(protocol.RespSuccess, nil)
		all := []byte(strings.Repeat("p", size))
		for len(all) > 0 {
			n := min(len(all), 7777)
			resp.Payload.Slices = append(resp.Payload.Slices, all[:n])
			resp.Payload.Size += n
			all = all[n:]
		}
		return resp, nil
	}}
}

func TestTLSModes(t *testing.T) {
	for _, tc := range []struct {
		mode        TLSMode
		plain, tls_ bool
	}{{TLSPermissive, true, true}, {TLSEnforcing, false, true}, {TLSDisabled, true, false}} {
		cfg := echoConfig()
		cfg.TLSMode = tc.mode
		_, addr := serve(t, cfg)
		for _, c := range []struct {
			config *tls.Config
			ok     bool
		}{{nil, tc.plain}, {&tls.Config{InsecureSkipVerify: true}, tc.tls_}} {
			client := newTestClient(t, ClientConfig{TLS: c.config})
			_, err := client.Invoke(t.Context(), addr, protocol.NewRequest(codeSend, nil))
			if (err == nil) != c.ok {
				t.Errorf("mode %d, TLS %t: %v", tc.mode, c.config != nil, err)
			}
		}
	}
}

func TestProxyProtocol(t *testing.T) {
	v4 := append([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 0, 10, 0, 20)
	v6 := append(append(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("::2").AsSlice()...), 0, 10, 0, 20)
	for name, tc := range map[string]struct {
		header []byte
		want   string // empty: the socket's own
		tls    bool
	}{
		"v1 TCP4":      {[]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1000 20\r\n"), "1.2.3.4:1000", false},
		"v1 TCP6":      {[]byte("PROXY TCP6 2001:db8::1 ::2 1000 20\r\n"), "[2001:db8::1]:1000", false},
		"v1 UNKNOWN":   {[]byte("PROXY UNKNOWN\r\n"), "", false},
		"v2 TCP4":      {proxyHeaderV2(1, 0x11, v4), "1.2.3.4:10", false},
		"v2 TCP6":      {proxyHeaderV2(1, 0x21, v6), "[2001:db8::1]:10", false},
		"v2 TLVs":      {proxyHeaderV2(1, 0x11, append(v4, make([]byte, 500)...)), "1.2.3.4:10", false},
		"v2 LOCAL":     {proxyHeaderV2(0, 0, nil), "", false},
		"v2 unix":      {proxyHeaderV2(1, 0x31, make([]byte, 216)), "", false},
		"v1 then TLS":  {[]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1000 20\r\n"), "1.2.3.4:1000", true},
		"v2 then TLS":  {proxyHeaderV2(1, 0x11, v4), "1.2.3.4:10", true},
		"no header":    {nil, "", false},
		"TLS no proxy": {nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := echoConfig()
			cfg.Routes[1].Handle = whereFrom
			cfg.ProxyAllowed = func(peer netip.Addr) bool { return peer.IsLoopback() }
			_, addr := serve(t, cfg)
			nc := dialRaw(t, addr)
			want := tc.want
			if want == "" {
				want = nc.LocalAddr().String()
			}
			_, _ = nc.Write(tc.header)
			var rw io.ReadWriter = nc
			if tc.tls {
				rw = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
			}
			_, _ = rw.Write(request(codePull, 1, protocol.SerializeJSON, ""))
			if cmd := mustRead(t, rw); string(cmd.Body) != want {
				t.Errorf("peer is %s, want %s", cmd.Body, want)
			}
		})
	}
}

func TestBadProxyHeaderCloses(t *testing.T) {
	for name, header := range map[string][]byte{
		"no line end":   []byte("PROXY TCP4 " + strings.Repeat("1", 200)),
		"words":         []byte("PROXY TCP4 1.2.3.4\r\n"),
		"port":          []byte("PROXY TCP4 1.2.3.4 5.6.7.8 70000 20\r\n"),
		"other family":  []byte("PROXY TCP6 1.2.3.4 5.6.7.8 70 20\r\n"),
		"twice":         []byte("PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n"),
		"v2 version":    append([]byte(proxyV2), 0x11, 0x11, 0, 0),
		"v2 too short":  proxyHeaderV2(1, 0x11, make([]byte, 4)),
		"v2 far larger": append([]byte(proxyV2), 0x21, 0x11, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := echoConfig()
			cfg.ProxyAllowed = func(netip.Addr) bool { return true }
			s, addr := serve(t, cfg)
			nc := dialRaw(t, addr)
			_, _ = nc.Write(header)
			wantClosed(t, nc)
			waitFor(t, "the end", func() bool { return s.Connections() == 0 })
		})
	}
}

func TestHTTP2IsHandedOver(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for _, secure := range []bool{false, true} {
		handed := make(chan net.Conn, 1)
		cfg := echoConfig()
		cfg.HTTP2 = func(nc net.Conn) { handed <- nc }
		s, addr := serve(t, cfg)
		nc := dialRaw(t, addr)
		var rw io.ReadWriter = nc
		if secure {
			over := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err := over.Handshake(); err != nil || over.ConnectionState().NegotiatedProtocol != "h2" {
				t.Fatalf("TLS for gRPC: %v", err)
			}
			rw = over
		}
		_, _ = rw.Write([]byte(preface + "more"))
		got := <-handed
		b := make([]byte, len(preface)+4)
		if _, err := io.ReadFull(got, b); err != nil || string(b) != preface+"more" {
			t.Fatalf("%q %v", b, err)
		}
		if got.RemoteAddr().String() != nc.LocalAddr().String() {
			t.Errorf("remote %s", got.RemoteAddr())
		}
		_, _ = got.Write([]byte("ok"))
		if _, err := io.ReadFull(rw, b[:2]); err != nil {
			t.Fatal(err)
		}
		if s.Connections() != 1 {
			t.Error("not counted")
		}
		_ = got.Close()
		if s.Connections() != 0 {
			t.Error("still counted")
		}
	}
}

func TestFirstBytesMustCome(t *testing.T) {
	s, addr := serve(t, echoConfig())
	nc := dialRaw(t, addr)
	_, _ = nc.Write([]byte("PRO"))
	waitFor(t, "the connection", func() bool { return s.Connections() == 1 })
	c := s.snapshot()[0]
	waitFor(t, "its end", func() bool { // instead of waiting firstBytesMax, which it may just be about to set
		_ = c.raw.SetReadDeadline(time.Now())
		return s.Connections() == 0
	})
	wantClosed(t, nc)
}

func FuzzSniff(f *testing.F) {
	for _, s := range []string{"", "P", "PROXY ", "PRI * ", proxyV2, "\x16\x03\x01", "\x00\x00\x01\x00{"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		last := wireUnknown
		for i := range len(b) + 1 { // a verdict does not change with what follows
			w := sniff(b[:i])
			if last != wireUnknown && w != last {
				t.Fatalf("%q: %s, then %s", b[:i], last, w)
			}
			last = w
		}
		if last == wireUnknown && len(b) >= len(proxyV2) {
			t.Fatalf("%q: undecided", b)
		}
		if n, err := protocol.FrameSize(b, frameBytesCeiling-1); err == nil && n > 0 && last != wireRemoting {
			t.Fatalf("%q: a frame is taken for %s", b, last)
		}
	})
}

func FuzzProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1000 20\r\nrest"))
	f.Add([]byte("PROXY TCP6 ::1 ::2 1 65535\r\n"))
	f.Add([]byte("PROXY UNKNOWN ffff::1\r\n"))
	f.Add(proxyHeaderV2(1, 0x11, make([]byte, 12)))
	f.Add(proxyHeaderV2(1, 0x21, make([]byte, 40)))
	f.Add(proxyHeaderV2(0, 0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if sniff(b) != wireProxy {
			return
		}
		addr, n, err := parseProxy(b)
		switch {
		case err != nil && (n != 0 || addr.IsValid()):
			t.Fatalf("%v with %d, %v", err, n, addr)
		case n < 0 || n > len(b):
			t.Fatalf("%d of %d bytes", n, len(b))
		case err == nil && n == 0 && len(b) >= proxyV2BytesMax:
			t.Fatalf("undecided after %d bytes", len(b))
		case n > 0:
			again, m, err := parseProxy(b[:n])
			if again != addr || m != n || err != nil {
				t.Fatalf("depends on what follows: %v %d %v", again, m, err)
			}
			for i := len(proxyV1); i < n; i++ { // every shorter prefix asks for more
				if sniff(b[:i]) != wireProxy {
					continue
				}
				if _, m, err := parseProxy(b[:i]); m != 0 || err != nil {
					t.Fatalf("decided after %d of %d bytes: %v", i, n, err)
				}
			}
		}
	})
}

// FuzzConnection throws bytes at a server over a pipe: whatever comes, it must go on and end.
func FuzzConnection(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1000 20\r\n"), []byte{3, 200})
	f.Add(request(codeSend, 1, protocol.SerializeJSON, "x"), []byte{1, 1, 1})
	f.Add(append(request(codePull, 1, protocol.SerializeBinary, "x"), request(codeSend, 2, protocol.SerializeJSON, "")...), []byte{9})
	f.Add([]byte("\x16\x03\x01\x00\x05hello"), []byte{})
	cfg := echoConfig()
	cfg.Listen = nil
	cfg.ProxyAllowed = func(netip.Addr) bool { return true }
	s, err := NewServer(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Shutdown(f.Context()) })
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.serve(theirs)
		}()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		_ = ours.SetWriteDeadline(time.Now().Add(5 * time.Second))
		for len(b) > 0 {
			n := len(b)
			if len(cuts) > 0 {
				n = min(n, 1+int(cuts[0]))
				cuts = cuts[1:]
			}
			if _, err := ours.Write(b[:n]); err != nil {
				break
			}
			b = b[n:]
		}
		_ = ours.Close()
		<-done
	})
}
