package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The ROCKETMQ header (RocketMQSerializable): code 2, language 1, version 2, opaque 4, flag 4, remark length 4 and text,
// fields length 4, then per field name length 2, name, value length 4, value.
const binaryFixedSize = 2 + 1 + 2 + 4 + 4 + 4 + 4

// fitsBinary tells whether the code can be written in 16 bits; POP and lite codes cannot.
func fitsBinary(c *Command) bool { return c.Code >= math.MinInt16 && c.Code <= math.MaxInt16 }

// popBase is what Java cuts off the codes of POP and lite requests when it writes them in 16 bits; requests from cutFrom to cutTo are meant.
const popBase, cutFrom, cutTo = 3 << 16, int32(ReqPopMessage) - popBase, int32(ReqBatchAckMessage) - popBase

// widen gives a request back the code that its client meant. RocketMQ does not know it any more.
func widen(code int32) int32 {
	if code >= cutFrom && code <= cutTo {
		return code + popBase
	}
	return code
}

func decodeBinaryHeader(b []byte, c *Command) error {
	be := binary.BigEndian
	if len(b) < binaryFixedSize {
		return fmt.Errorf("%w: binary header of %d bytes", ErrFrame, len(b))
	}
	c.Code = widen(int32(int16(be.Uint16(b))))
	c.Language = Language(b[2])
	c.Version = int32(int16(be.Uint16(b[3:])))
	c.Opaque = int32(be.Uint32(b[5:]))
	c.Flag = int32(be.Uint32(b[9:]))
	remark := int64(be.Uint32(b[13:]))
	b = b[17:]
	if remark > int64(len(b)-4) {
		return fmt.Errorf("%w: remark of %d bytes in %d", ErrFrame, remark, len(b))
	}
	c.Remark, b = b[:remark], b[remark:]
	fields := int64(be.Uint32(b))
	b = b[4:]
	if fields > int64(len(b)) {
		return fmt.Errorf("%w: fields of %d bytes in %d", ErrFrame, fields, len(b))
	}
	b = b[:fields]
	for len(b) > 0 {
		if len(b) < 2 {
			return fmt.Errorf("%w: truncated field name", ErrFrame)
		}
		k := int(be.Uint16(b))
		if len(b) < 2+k+4 {
			return fmt.Errorf("%w: field name of %d bytes in %d", ErrFrame, k, len(b))
		}
		name := b[2 : 2+k]
		b = b[2+k:]
		v := int64(be.Uint32(b))
		if v > int64(len(b)-4) {
			return fmt.Errorf("%w: field %q of %d bytes in %d", ErrFrame, name, v, len(b))
		}
		if len(c.Fields) == headerFieldsMax {
			return errFields
		}
		c.Fields = append(c.Fields, Field{name, b[4 : 4+v]})
		b = b[4+v:]
	}
	return nil
}

func appendBinaryHeader(dst []byte, c *Command) []byte {
	be := binary.BigEndian
	dst = be.AppendUint16(dst, uint16(c.Code))
	dst = append(dst, byte(c.Language))
	dst = be.AppendUint16(dst, uint16(c.Version))
	dst = be.AppendUint32(dst, uint32(c.Opaque))
	dst = be.AppendUint32(dst, uint32(c.Flag))
	remark := cutRemark(c.Remark)
	dst = be.AppendUint32(dst, uint32(len(remark)))
	dst = append(dst, remark...)
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for i := range c.Fields {
		dst = AppendBinaryField(dst, c.Fields[i].Key, c.Fields[i].Value)
	}
	be.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// AppendBinaryField appends one field of a ROCKETMQ header.
func AppendBinaryField[K, V string | []byte](dst []byte, name K, value V) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(name)))
	dst = append(dst, name...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	return append(dst, value...)
}
