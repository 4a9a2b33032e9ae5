package remoting

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"
)

// TLSMode says what a server makes of TLS (tls.server.mode).
type TLSMode uint8

// The modes of RocketMQ.
const (
	TLSPermissive TLSMode = iota // TLS and plain, told apart by the first byte
	TLSEnforcing
	TLSDisabled
)

// selfSignedDays is how long a generated certificate is valid.
const selfSignedDays = 3650

// selfSigned returns a configuration with a certificate of its own, for encryption without identity (RocketMQ's tls.test.mode).
func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot generate a TLS key: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: host, Organization: []string{"Apogee self-signed"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(0, 0, selfSignedDays),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{host, "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign a TLS certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}, nil
}

// prefixConn is a connection some of whose bytes have been read already.
type prefixConn struct {
	net.Conn
	prefix []byte
}

// Read returns the bytes that had been read, then what follows.
func (c *prefixConn) Read(b []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(b, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// handedConn is a connection that another server takes over.
type handedConn struct {
	prefixConn
	remote  net.Addr
	once    sync.Once
	onClose func()
}

// RemoteAddr returns the peer's address, as the PROXY protocol gave it where it is used.
func (c *handedConn) RemoteAddr() net.Addr { return c.remote }

// Close closes the connection.
func (c *handedConn) Close() error {
	c.once.Do(c.onClose)
	return c.Conn.Close()
}
