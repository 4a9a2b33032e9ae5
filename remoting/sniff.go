package remoting

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// wire is what the first bytes of a connection say it speaks.
type wire uint8

const (
	wireUnknown wire = iota // too few bytes to tell
	wireRemoting
	wireTLS
	wireProxy
	wireHTTP2
)

// String returns the name as it stands in metrics.
func (w wire) String() string {
	return [...]string{"unknown", "plain", "tls", "proxy", "http2"}[w]
}

const (
	tlsHandshake = 0x16
	proxyV1      = "PROXY "
	proxyV2      = "\r\n\r\n\x00\r\nQUIT\n"
	http2Prefix  = "PRI "

	// frameBytesCeiling keeps a frame's length apart from every signature: the lowest is that of PROXY v2, 0x0d0a0d0a.
	frameBytesCeiling = 0x0d << 24
)

// sniff tells what starts with b. A frame starts with its length, which no signature can be (see frameBytesCeiling).
func sniff(b []byte) wire {
	if len(b) == 0 {
		return wireUnknown
	}
	if b[0] == tlsHandshake {
		return wireTLS
	}
	short := false
	for _, s := range [...]struct {
		signature string
		wire      wire
	}{{proxyV1, wireProxy}, {proxyV2, wireProxy}, {http2Prefix, wireHTTP2}} {
		n := min(len(b), len(s.signature))
		if string(b[:n]) != s.signature[:n] {
			continue
		}
		if n == len(s.signature) {
			return s.wire
		}
		short = true
	}
	if short {
		return wireUnknown
	}
	return wireRemoting
}

const (
	proxyV1BytesMax = 107 // with CR LF, by its specification
	proxyV2BytesMax = 4 << 10
	proxyV2HeadSize = 16
)

var errProxy = errors.New("bad PROXY protocol header")

// parseProxy reads a PROXY protocol header, version 1 or 2, from the start of b. It returns the client's address (invalid where the
// proxy speaks for itself or for no TCP client) and the header's size; 0 when there is more to come.
func parseProxy(b []byte) (netip.AddrPort, int, error) {
	if bytes.HasPrefix(b, []byte(proxyV2)) {
		return parseProxyV2(b)
	}
	line, _, ok := bytes.Cut(b[:min(len(b), proxyV1BytesMax)], []byte("\r\n"))
	if !ok {
		if len(b) >= proxyV1BytesMax {
			return netip.AddrPort{}, 0, fmt.Errorf("%w: no line end in %d bytes", errProxy, proxyV1BytesMax)
		}
		return netip.AddrPort{}, 0, nil
	}
	size := len(line) + 2
	words := strings.Split(string(line), " ")
	if len(words) >= 2 && words[1] == "UNKNOWN" {
		return netip.AddrPort{}, size, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return netip.AddrPort{}, 0, fmt.Errorf("%w: %q", errProxy, line)
	}
	source, err := netip.ParseAddr(words[2])
	var port uint16
	if err == nil {
		port, err = parsePort(words[4])
	}
	if err == nil && source.Is4() != (words[1] == "TCP4") {
		err = fmt.Errorf("address of the other family")
	}
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("%w: %q: %w", errProxy, line, err)
	}
	return netip.AddrPortFrom(source.Unmap(), port), size, nil
}

func parsePort(s string) (uint16, error) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, fmt.Errorf("bad port %q", s)
		}
		n = n*10 + int(s[i]-'0')
		if n > 0xffff {
			return 0, fmt.Errorf("bad port %q", s)
		}
	}
	if s == "" {
		return 0, fmt.Errorf("no port")
	}
	return uint16(n), nil
}

// parseProxyV2 reads: signature 12, version and command 1, family 1, length 2, then source, destination, their ports, extensions.
func parseProxyV2(b []byte) (netip.AddrPort, int, error) {
	if len(b) < proxyV2HeadSize {
		return netip.AddrPort{}, 0, nil
	}
	be := binary.BigEndian
	size := proxyV2HeadSize + int(be.Uint16(b[14:]))
	if size > proxyV2BytesMax {
		return netip.AddrPort{}, 0, fmt.Errorf("%w: %d bytes, the limit is %d", errProxy, size, proxyV2BytesMax)
	}
	if b[12]>>4 != 2 || b[12]&15 > 1 {
		return netip.AddrPort{}, 0, fmt.Errorf("%w: version and command 0x%02x", errProxy, b[12])
	}
	if len(b) < size {
		return netip.AddrPort{}, 0, nil
	}
	if b[12]&15 == 0 { // LOCAL: a health check of the proxy itself
		return netip.AddrPort{}, size, nil
	}
	addrs := b[proxyV2HeadSize:size]
	switch b[13] {
	case 0x11: // TCP over IPv4
		if len(addrs) >= 12 {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addrs)), be.Uint16(addrs[8:])), size, nil
		}
	case 0x21: // TCP over IPv6
		if len(addrs) >= 36 {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addrs)).Unmap(), be.Uint16(addrs[32:])), size, nil
		}
	default:
		return netip.AddrPort{}, size, nil
	}
	return netip.AddrPort{}, 0, fmt.Errorf("%w: family 0x%02x in %d bytes", errProxy, b[13], len(addrs))
}
