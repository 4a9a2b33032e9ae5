package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A frame: length 4 (of what follows), serialisation 1 and header length 3, header, body.
const (
	FrameHeadSize = 8
	// DefaultFrameBytesMax is RocketMQ's limit of a whole frame (com.rocketmq.remoting.frameMaxLength).
	DefaultFrameBytesMax = 16 << 20
	// Version answers as RocketMQ 5.5.0 (MQVersion.V5_5_0): clients enable batches, heartbeat V2 and POP by it.
	Version = 513
)

// Serialization is the header's encoding; a response uses its request's.
type Serialization byte

// The two encodings (SerializeType).
const (
	SerializeJSON   Serialization = 0
	SerializeBinary Serialization = 1
)

// Flag bits of a command (RemotingCommand).
const (
	FlagResponse = 1
	FlagOneWay   = 2
)

// Command is one frame, request or response. Decoded slices alias the frame, or memory that the next Decode into the same Command uses.
type Command struct {
	Code      int32
	Language  Language
	Version   int32
	Opaque    int32 // chosen by the requester, echoed in the response
	Flag      int32
	Remark    []byte
	Fields    Fields
	Body      []byte
	Serialize Serialization

	unescaped []byte // header strings that had escapes; Fields and Remark may alias it too
}

// Limits of a header.
const (
	// headerFieldsMax is far more than any client sends: a frame of empty fields must not cost many times its size.
	headerFieldsMax = 1024
	// unescapedBytesKept is how much memory for unescaped strings a Command keeps for the next frame.
	unescapedBytesKept = 64 << 10
	// remarkBytesMax cuts remarks, which quote what a peer sent.
	remarkBytesMax = 16 << 10
)

// IsResponse and IsOneWay read the flag.
func (c *Command) IsResponse() bool { return c.Flag&FlagResponse != 0 }
func (c *Command) IsOneWay() bool   { return c.Flag&FlagOneWay != 0 }

// Field is one header field (extFields); values are always text.
type Field struct{ Key, Value []byte }

// Fields are the header fields in the order in which they came.
type Fields []Field

// Get returns the field called name.
func (f Fields) Get(name string) ([]byte, bool) {
	for i := range f {
		if string(f[i].Key) == name {
			return f[i].Value, true
		}
	}
	return nil, false
}

// Add appends a field.
func (f *Fields) Add(name, value string) {
	*f = append(*f, Field{[]byte(name), []byte(value)})
}

// cutRemark bounds a remark.
func cutRemark(remark []byte) []byte { return remark[:min(len(remark), remarkBytesMax)] }

// Why a frame is refused; each closes the connection, since what follows cannot be told apart.
var (
	ErrFrameTooLarge = errors.New("frame too large")
	ErrFrame         = errors.New("bad frame")
	errFields        = fmt.Errorf("%w: more than %d header fields", ErrFrame, headerFieldsMax)
)

// FrameSize returns the size of the frame that starts at b, 0 when b is too short to tell.
func FrameSize(b []byte, bytesMax int) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := int64(int32(binary.BigEndian.Uint32(b)))
	if n < 4 {
		return 0, fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	if n > int64(bytesMax) {
		return 0, fmt.Errorf("%w: %d bytes, the limit is frameBytesMax=%d", ErrFrameTooLarge, n, bytesMax)
	}
	return int(4 + n), nil
}

// Decode reads a whole frame, as FrameSize delimits it, into c, whose memory is reused: what it held before is overwritten. The frame is
// not changed.
func Decode(frame []byte, c *Command) error {
	if len(frame) < FrameHeadSize {
		return fmt.Errorf("%w: %d bytes", ErrFrame, len(frame))
	}
	head := binary.BigEndian.Uint32(frame[4:])
	size := int(head & 0xffffff)
	if size > len(frame)-FrameHeadSize {
		return fmt.Errorf("%w: header of %d in a frame of %d", ErrFrame, size, len(frame))
	}
	unescaped := c.unescaped[:0]
	if cap(unescaped) > unescapedBytesKept {
		unescaped = nil
	}
	*c = Command{Fields: c.Fields[:0], Serialize: Serialization(head >> 24), Body: frame[FrameHeadSize+size:], unescaped: unescaped}
	header := frame[FrameHeadSize : FrameHeadSize+size]
	switch c.Serialize {
	case SerializeJSON:
		return decodeJSONHeader(header, c)
	case SerializeBinary:
		return decodeBinaryHeader(header, c)
	}
	return fmt.Errorf("%w: unknown serialisation %d", ErrFrame, head>>24)
}

// AppendFrame appends c as one frame, in JSON where the code does not fit the binary form. bodySize, where the body is sent separately, is
// counted in the frame's length beside len(c.Body).
func AppendFrame(dst []byte, c *Command, bodySize int) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	serialize := c.Serialize
	if serialize == SerializeBinary && fitsBinary(c) {
		dst = appendBinaryHeader(dst, c)
	} else {
		serialize = SerializeJSON
		dst = appendJSONHeader(dst, c)
	}
	FinishFrame(dst, start, serialize, len(c.Body)+bodySize)
	return append(dst, c.Body...)
}

// FinishFrame fills the first eight bytes of a frame whose header runs from start+8 to the end of b.
func FinishFrame(b []byte, start int, s Serialization, bodySize int) {
	header := len(b) - start - FrameHeadSize
	binary.BigEndian.PutUint32(b[start:], uint32(4+header+bodySize))
	binary.BigEndian.PutUint32(b[start+4:], uint32(s)<<24|uint32(header))
}
