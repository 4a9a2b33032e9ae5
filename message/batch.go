package message

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// One message in the body of SEND_BATCH_MESSAGE (MessageDecoder.encodeMessage):
//
//	total size 4, magic 4 (0), body CRC 4 (0), flag 4, body length 4, body, properties length 2, properties
const batchFixedSize = 4 + 4 + 4 + 4 + 4 + 2

// BatchItem is one message of a batch. Slices alias the batch's bytes.
type BatchItem struct {
	Flag       int32
	Body       []byte
	Properties []byte
}

// NextBatchItem reads the first message of b and returns what follows it.
func NextBatchItem(b []byte) (it BatchItem, rest []byte, err error) {
	be := binary.BigEndian
	if len(b) < batchFixedSize {
		return it, nil, fmt.Errorf("batch: %w: %d bytes left, a message needs %d", ErrSizes, len(b), batchFixedSize)
	}
	total := int(int32(be.Uint32(b)))
	if total < batchFixedSize || total > len(b) {
		return it, nil, fmt.Errorf("batch: %w: message of %d in %d bytes", ErrSizes, total, len(b))
	}
	b, rest = b[:total], b[total:]
	it.Flag = int32(be.Uint32(b[12:]))
	body := int(int32(be.Uint32(b[16:])))
	if body < 0 || body > total-batchFixedSize {
		return it, nil, fmt.Errorf("batch: %w: body of %d in a message of %d", ErrSizes, body, total)
	}
	it.Body = b[20 : 20+body]
	properties := int(int16(be.Uint16(b[20+body:])))
	if properties != total-batchFixedSize-body {
		return it, nil, fmt.Errorf("batch: %w: properties of %d in a message of %d", ErrSizes, properties, total)
	}
	it.Properties = b[22+body:]
	return it, rest, nil
}

// AppendBatchItem appends a message in the form that NextBatchItem reads.
func AppendBatchItem(dst []byte, it BatchItem) []byte {
	be := binary.BigEndian
	dst = be.AppendUint32(dst, uint32(batchFixedSize+len(it.Body)+len(it.Properties)))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = be.AppendUint32(dst, uint32(it.Flag))
	dst = be.AppendUint32(dst, uint32(len(it.Body)))
	dst = append(dst, it.Body...)
	dst = be.AppendUint16(dst, uint16(len(it.Properties)))
	return append(dst, it.Properties...)
}

// InnerMessagesMax bounds the messages of a batch that is one record (a Java short).
const InnerMessagesMax = 32767

// InnerMessages returns how many messages a record holds, each of which takes an offset of its queue; 0 when it is not a batch.
func (r *Record) InnerMessages() int64 {
	if r.SysFlag&FlagInnerBatch == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(Property(r.Properties, PropInnerNum)), 10, 16)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
