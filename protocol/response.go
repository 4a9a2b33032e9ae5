package protocol

import (
	"encoding/binary"
	"strconv"
)

// ResponseBuilder writes one response frame field by field, without allocating: the send path answers with it.
type ResponseBuilder struct {
	dst       []byte
	start     int
	fieldsAt  int
	fields    int
	opaque    int32
	serialize Serialization
}

// BeginResponse begins a response behind dst.
func BeginResponse(dst []byte, s Serialization, code ResponseCode, opaque int32) ResponseBuilder {
	b := ResponseBuilder{start: len(dst), serialize: s, opaque: opaque}
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	be := binary.BigEndian
	if s == SerializeBinary {
		dst = be.AppendUint16(dst, uint16(code))
		dst = append(dst, byte(LanguageGo))
		dst = be.AppendUint16(dst, Version)
		dst = be.AppendUint32(dst, uint32(opaque))
		dst = be.AppendUint32(dst, FlagResponse)
		dst = append(dst, 0, 0, 0, 0) // no remark
		b.fieldsAt = len(dst)
		dst = append(dst, 0, 0, 0, 0)
	} else {
		dst = append(dst, `{"code":`...)
		dst = strconv.AppendInt(dst, int64(code), 10)
		dst = append(dst, `,"extFields":{`...)
	}
	b.dst = dst
	return b
}

// Text adds a field. In JSON the value must need no escaping beyond quotes, backslashes and control characters.
func (b *ResponseBuilder) Text(name string, value []byte) {
	if b.serialize == SerializeBinary {
		b.dst = AppendBinaryField(b.dst, name, value)
		return
	}
	b.name(name)
	b.dst = AppendJSONString(b.dst, value)
}

// Int adds a field that holds a number.
func (b *ResponseBuilder) Int(name string, value int64) {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], value, 10)
	if b.serialize == SerializeBinary {
		b.dst = AppendBinaryField(b.dst, name, text)
		return
	}
	b.name(name)
	b.dst = append(b.dst, '"')
	b.dst = append(b.dst, text...)
	b.dst = append(b.dst, '"')
}

// String adds a field whose value needs no escaping.
func (b *ResponseBuilder) String(name, value string) {
	if b.serialize == SerializeBinary {
		b.dst = AppendBinaryField(b.dst, name, value)
		return
	}
	b.name(name)
	b.dst = append(b.dst, '"')
	b.dst = append(b.dst, value...)
	b.dst = append(b.dst, '"')
}

func (b *ResponseBuilder) name(name string) {
	if b.fields++; b.fields > 1 {
		b.dst = append(b.dst, ',')
	}
	b.dst = append(b.dst, '"')
	b.dst = append(b.dst, name...)
	b.dst = append(b.dst, '"', ':')
}

// Finish ends the frame, which has no body, and returns what was written.
func (b *ResponseBuilder) Finish() []byte {
	if b.serialize == SerializeBinary {
		binary.BigEndian.PutUint32(b.dst[b.fieldsAt:], uint32(len(b.dst)-b.fieldsAt-4))
	} else {
		b.dst = append(b.dst, `},"flag":1,"language":"GO","opaque":`...)
		b.dst = strconv.AppendInt(b.dst, int64(b.opaque), 10)
		b.dst = append(b.dst, `,"serializeTypeCurrentRPC":"JSON","version":`...)
		b.dst = strconv.AppendInt(b.dst, Version, 10)
		b.dst = append(b.dst, '}')
	}
	FinishFrame(b.dst, b.start, b.serialize, 0)
	return b.dst
}
