package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

const (
	dialTimeout = 5 * time.Second
	callTimeout = 10 * time.Second
	// frameBytesMax bounds an answer; a pull's is larger than RocketMQ's 16 MiB only if the server is broken.
	frameBytesMax   = 64 << 20
	readBufferBytes = 256 << 10
	// firstOpaque keeps the opaque seven digits wide, so that it can be patched in a JSON header too.
	firstOpaque = 1_000_000
	opaqueMax   = 9_000_000
)

// conn is a connection whose frames are read in place. Only one goroutine reads, only one writes.
type conn struct {
	nc         net.Conn
	addr       string
	buf        []byte
	start, end int // unread bytes of buf
	opaque     int32
	cmd        protocol.Command
}

func dial(ctx context.Context, addr string) (*conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot reach %s: %w", addr, err)
	}
	return &conn{nc: nc, addr: addr, buf: make([]byte, readBufferBytes), opaque: opaqueMax}, nil
}

func (c *conn) close() { _ = c.nc.Close() }

// frame returns the next whole frame of the buffer, nil when more must be read. It is valid until fill.
func (c *conn) frame() ([]byte, error) {
	n, err := protocol.FrameSize(c.buf[c.start:c.end], frameBytesMax)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", c.addr, err)
	}
	if n == 0 || n > c.end-c.start {
		if n > len(c.buf) {
			c.grow(n)
		}
		return nil, nil
	}
	f := c.buf[c.start : c.start+n]
	c.start += n
	return f, nil
}

func (c *conn) grow(n int) {
	b := make([]byte, n+readBufferBytes)
	c.end = copy(b, c.buf[c.start:c.end])
	c.start, c.buf = 0, b
}

// fill reads once, behind what is unread.
func (c *conn) fill() error {
	switch {
	case c.start == c.end:
		c.start, c.end = 0, 0
	case len(c.buf)-c.end < len(c.buf)/4: // moved rarely, since a pull's answers are large
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
	n, err := c.nc.Read(c.buf[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	return fmt.Errorf("connection to %s: %w", c.addr, err)
}

// call sends one request and waits for its answer, passing over what the broker pushes meanwhile. It is for set-up only: it must not
// run beside a hot loop on the same connection. The binary header is used, which every peer understands, bench/peers/echo too.
func (c *conn) call(cmd *protocol.Command) (*protocol.Command, error) {
	c.opaque++
	cmd.Opaque, cmd.Serialize = c.opaque, protocol.SerializeBinary
	if err := c.nc.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.nc.Write(protocol.AppendFrame(nil, cmd, 0)); err != nil {
		return nil, fmt.Errorf("request %s to %s: %w", protocol.RequestCode(cmd.Code), c.addr, err)
	}
	for {
		f, err := c.frame()
		if err == nil && f == nil {
			if err = c.fill(); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, fmt.Errorf("request %s: %w", protocol.RequestCode(cmd.Code), err)
		}
		var answer protocol.Command
		if err := protocol.Decode(bytes.Clone(f), &answer); err != nil {
			return nil, fmt.Errorf("answer of %s: %w", c.addr, err)
		}
		if answer.IsResponse() && answer.Opaque == cmd.Opaque {
			return &answer, c.nc.SetDeadline(time.Time{})
		}
	}
}

// invoke is call for a request that must succeed; result may be nil.
func (c *conn) invoke(code protocol.RequestCode, h, result protocol.Header) error {
	answer, err := c.call(protocol.NewRequest(code, h))
	if err != nil {
		return err
	}
	if err := answer.Check(); err != nil {
		return fmt.Errorf("%s at %s: %w", code, c.addr, err)
	}
	if result == nil {
		return nil
	}
	return protocol.DecodeHeader(answer.Fields, result)
}

// head is what the hot loops need of a frame's header.
type head struct {
	code, opaque int32
	response     bool
}

var (
	opaqueKey = []byte(`"opaque":`)
	codeKey   = []byte(`"code":`)
	flagKey   = []byte(`"flag":`)
)

// readHead reads the head without decoding the fields.
func readHead(frame []byte) (h head, err error) {
	if len(frame) < protocol.FrameHeadSize {
		return h, fmt.Errorf("%w: %d bytes", protocol.ErrFrame, len(frame))
	}
	word := binary.BigEndian.Uint32(frame[4:])
	header := frame[protocol.FrameHeadSize:]
	if n := int(word & 0xffffff); n <= len(header) {
		header = header[:n]
	}
	if protocol.Serialization(word>>24) == protocol.SerializeBinary && len(header) >= 13 {
		h.code = int32(int16(binary.BigEndian.Uint16(header)))
		h.opaque = int32(binary.BigEndian.Uint32(header[5:]))
		h.response = header[12]&protocol.FlagResponse != 0
		return h, nil
	}
	code, ok1 := jsonInt(header, codeKey)
	opaque, ok2 := jsonInt(header, opaqueKey)
	flag, ok3 := jsonInt(header, flagKey)
	if !ok1 || !ok2 || !ok3 {
		return h, fmt.Errorf("%w: no code, opaque or flag in the header %q", protocol.ErrFrame, header)
	}
	return head{code, opaque, flag&protocol.FlagResponse != 0}, nil
}

// jsonInt finds a number by its quoted key; a quote inside a value is escaped, so that the key cannot be met there.
func jsonInt(b, key []byte) (int32, bool) {
	i := bytes.Index(b, key)
	if i < 0 {
		return 0, false
	}
	b = b[i+len(key):]
	n, neg := int32(0), false
	if len(b) > 0 && b[0] == '-' {
		neg, b = true, b[1:]
	}
	for i = 0; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		n = n*10 + int32(b[i]-'0')
	}
	if neg {
		n = -n
	}
	return n, i > 0
}
