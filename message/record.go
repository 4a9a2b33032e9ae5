package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// A record in the commit log, all integers big-endian (RocketMQ MessageExtEncoder):
//
//	 0  total size        4      56  store timestamp   8 (12 more for an IPv6 born host)
//	 4  magic             4      64  store host      4+4 (16+4 for IPv6)
//	 8  body CRC          4      72  reconsume times   4
//	12  queue id          4      76  prepared offset   8
//	16  user flag         4      84  body length       4, body
//	20  queue offset      8          topic length      1 (V1) or 2 (V2), topic
//	28  physical offset   8          properties length 2, properties
//	36  sysFlag           4
//	40  born timestamp    8      The properties of every record that we write end in
//	48  born host       4+4      __CRC32# 0x01 dddddddddd 0x02 (see CRCPropertySize).
const (
	MagicV1    = 0xDAA320A7 // topic length in one byte
	MagicV2    = 0xDAA320AB // topic length in two bytes, for topics over 127 bytes
	MagicBlank = 0xCBD43194 // filler at a segment's end: total size 4, magic 4, store timestamp 8

	// BlankHeaderSize is the part of the filler that is written; the rest of the segment is skipped.
	BlankHeaderSize = 16
	// MinRecordSize is a V1 record with IPv4 hosts, no body, topic or properties.
	MinRecordSize = fixedSize + 1

	// HeadSize is what BodyEnd needs of a record.
	HeadSize = 88 + 2*ipv6Extra

	fixedSize         = 88 + 2 // up to and with the body length, and the properties length; without the topic length
	offsetQueueOffset = 20
	offsetPhysical    = 28
	offsetSysFlag     = 36
	ipv6Extra         = 12
)

// SysFlag bits of a message (MessageSysFlag).
const (
	FlagCompressed      = 1 << 0
	FlagMultiTags       = 1 << 1
	FlagTransactionMask = 3 << 2
	FlagPrepared        = 1 << 2
	FlagCommit          = 2 << 2
	FlagRollback        = 3 << 2
	FlagBornHostV6      = 1 << 4
	FlagStoreHostV6     = 1 << 5
	FlagNeedUnwrap      = 1 << 6 // clients take a batch apart that is one record
	FlagInnerBatch      = 1 << 7
	FlagCompressionMask = 7 << 8
)

const (
	// CRCPropertySize is the length of "__CRC32#", separator, ten digits, separator (CommitLog.CRC32_RESERVED_LEN).
	CRCPropertySize = len(crcPropertyName) + 1 + 10 + 1
	crcPropertyName = "__CRC32#"
)

// MaxPropertiesSize is the longest property string a record can hold (a signed 16-bit length), checksum property included.
const MaxPropertiesSize = 32767

// Record is a message as it stands in the log. Slices alias the buffer it was decoded from.
type Record struct {
	QueueID        int32
	Flag           int32 // the user's flag, opaque
	QueueOffset    int64
	PhysicalOffset int64
	SysFlag        int32
	BornTime       int64 // ms since 1970, the producer's clock
	BornHost       netip.AddrPort
	StoreTime      int64 // ms since 1970, never goes back within a log
	StoreHost      netip.AddrPort
	ReconsumeTimes int32
	PreparedOffset int64 // what this record replaces: the source's physical offset; 0 = none
	Body           []byte
	Topic          []byte
	Properties     []byte // without the checksum property when encoding, with it when decoded
	BodyCRC        uint32 // as stored, see BodyCRC; decoded only
}

// isV6 tells whether a host takes 16 bytes and its flag.
func isV6(a netip.AddrPort) bool { return a.Addr().Is6() && !a.Addr().Is4In6() }

// needsSeparator tells whether the properties must be closed before the checksum property is appended.
func needsSeparator(properties []byte) bool {
	return len(properties) > 0 && properties[len(properties)-1] != propertySeparator
}

// EncodedSize returns the bytes that Encode will write, checksum property included.
func (r *Record) EncodedSize() int {
	n := r.BodyOffset() + len(r.Body) + 3 + len(r.Topic) + r.EncodedPropertiesSize()
	if len(r.Topic) > 127 {
		n++
	}
	return n
}

// BodyOffset returns where in the record its body begins.
func (r *Record) BodyOffset() int {
	n := fixedSize - 2
	if isV6(r.BornHost) {
		n += ipv6Extra
	}
	if isV6(r.StoreHost) {
		n += ipv6Extra
	}
	return n
}

// EncodedPropertiesSize returns the length of the property string as stored; at most MaxPropertiesSize is valid.
func (r *Record) EncodedPropertiesSize() int {
	n := len(r.Properties) + CRCPropertySize
	if needsSeparator(r.Properties) {
		n++
	}
	return n
}

// Encode writes the record into dst, which is exactly EncodedSize long, and completes its checksum. fullBodyCRC is the plain CRC-32 of
// the body, all 32 bits of it: a long body is read once only, to be copied. r.BodyCRC is not used.
func (r *Record) Encode(dst []byte, fullBodyCRC uint32) {
	be := binary.BigEndian
	sysFlag := uint32(r.SysFlag) &^ (FlagBornHostV6 | FlagStoreHostV6)
	if isV6(r.BornHost) {
		sysFlag |= FlagBornHostV6
	}
	if isV6(r.StoreHost) {
		sysFlag |= FlagStoreHostV6
	}
	magic := uint32(MagicV1)
	if len(r.Topic) > 127 {
		magic = MagicV2
	}
	be.PutUint32(dst, uint32(len(dst)))
	be.PutUint32(dst[4:], magic)
	be.PutUint32(dst[8:], fullBodyCRC&0x7fffffff)
	be.PutUint32(dst[12:], uint32(r.QueueID))
	be.PutUint32(dst[16:], uint32(r.Flag))
	be.PutUint64(dst[20:], uint64(r.QueueOffset))
	be.PutUint64(dst[28:], uint64(r.PhysicalOffset))
	be.PutUint32(dst[36:], sysFlag)
	be.PutUint64(dst[40:], uint64(r.BornTime))
	n := 48 + putHost(dst[48:], r.BornHost)
	be.PutUint64(dst[n:], uint64(r.StoreTime))
	n += 8
	n += putHost(dst[n:], r.StoreHost)
	be.PutUint32(dst[n:], uint32(r.ReconsumeTimes))
	be.PutUint64(dst[n+4:], uint64(r.PreparedOffset))
	be.PutUint32(dst[n+12:], uint32(len(r.Body)))
	n += 16
	head := n
	n += copy(dst[n:], r.Body)
	tail := n
	if magic == MagicV2 {
		be.PutUint16(dst[n:], uint16(len(r.Topic)))
		n += 2
	} else {
		dst[n] = byte(len(r.Topic))
		n++
	}
	n += copy(dst[n:], r.Topic)
	be.PutUint16(dst[n:], uint16(r.EncodedPropertiesSize()))
	n += 2
	n += copy(dst[n:], r.Properties)
	if needsSeparator(r.Properties) {
		dst[n] = propertySeparator
		n++
	}
	putCRCProperty(dst[n:], checksum(dst[:n], head, tail, fullBodyCRC)&0x7fffffff)
}

// Append appends the encoded record.
func (r *Record) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, r.EncodedSize())...)
	r.Encode(dst[start:], crc32.ChecksumIEEE(r.Body))
	return dst
}

// checksum returns the CRC-32 of b, in which the body is b[head:tail].
func checksum(b []byte, head, tail int, bodyCRC uint32) uint32 {
	if tail-head < combineLeast {
		return crc32.ChecksumIEEE(b)
	}
	sum := combineCRC(crc32.ChecksumIEEE(b[:head]), bodyCRC, tail-head)
	return crc32.Update(sum, crc32.IEEETable, b[tail:])
}

func putHost(dst []byte, a netip.AddrPort) int {
	n := 0
	if isV6(a) {
		b := a.Addr().As16()
		n = copy(dst, b[:])
	} else if a.IsValid() {
		b := a.Addr().Unmap().As4()
		n = copy(dst, b[:])
	} else {
		n = copy(dst, []byte{0, 0, 0, 0})
	}
	binary.BigEndian.PutUint32(dst[n:], uint32(a.Port()))
	return n + 4
}

// putCRCProperty writes the checksum property: ten decimal digits, the least significant first (MessageDecoder.createCrc32).
func putCRCProperty(dst []byte, crc uint32) {
	n := copy(dst, crcPropertyName)
	dst[n] = nameValueSeparator
	for i := range 10 {
		dst[n+1+i] = '0' + byte(crc%10)
		crc /= 10
	}
	dst[n+11] = propertySeparator
}

// crcProperty reads the checksum property that ends a record; ok is false when there is none.
func crcProperty(record []byte) (crc uint32, ok bool) {
	if len(record) < CRCPropertySize {
		return 0, false
	}
	p := record[len(record)-CRCPropertySize:]
	n := len(crcPropertyName)
	if string(p[:n]) != crcPropertyName || p[n] != nameValueSeparator || p[n+11] != propertySeparator {
		return 0, false
	}
	var v uint64
	for i := 9; i >= 0; i-- {
		d := p[n+1+i] - '0'
		if d > 9 {
			return 0, false
		}
		v = v*10 + uint64(d)
	}
	return uint32(v), v <= 0x7fffffff
}

// Why a record is refused. ErrIncomplete means that more bytes may make it whole.
var (
	ErrIncomplete = errors.New("record incomplete")
	ErrMagic      = errors.New("unknown record magic")
	ErrSizes      = errors.New("record sizes do not add up")
	ErrChecksum   = errors.New("record checksum wrong")
)

// Decode reads the record at the start of b without verifying its checksum. n is its total size.
func Decode(b []byte) (r Record, n int, err error) {
	be := binary.BigEndian
	if len(b) < 8 {
		return r, 0, ErrIncomplete
	}
	n = int(be.Uint32(b))
	magic := be.Uint32(b[4:])
	if magic != MagicV1 && magic != MagicV2 {
		return r, 0, fmt.Errorf("%w 0x%08X", ErrMagic, magic)
	}
	if n < MinRecordSize {
		return r, 0, fmt.Errorf("%w: total %d", ErrSizes, n)
	}
	if len(b) < n {
		return r, n, ErrIncomplete
	}
	b = b[:n]
	r.BodyCRC = be.Uint32(b[8:])
	r.QueueID = int32(be.Uint32(b[12:]))
	r.Flag = int32(be.Uint32(b[16:]))
	r.QueueOffset = int64(be.Uint64(b[20:]))
	r.PhysicalOffset = int64(be.Uint64(b[28:]))
	r.SysFlag = int32(be.Uint32(b[36:]))
	r.BornTime = int64(be.Uint64(b[40:]))
	fixed := fixedSize + 1
	if r.SysFlag&FlagBornHostV6 != 0 {
		fixed += ipv6Extra
	}
	if r.SysFlag&FlagStoreHostV6 != 0 {
		fixed += ipv6Extra
	}
	if n < fixed {
		return r, 0, fmt.Errorf("%w: total %d", ErrSizes, n)
	}
	at := 48
	r.BornHost, at = host(b, at, r.SysFlag&FlagBornHostV6 != 0)
	r.StoreTime = int64(be.Uint64(b[at:]))
	r.StoreHost, at = host(b, at+8, r.SysFlag&FlagStoreHostV6 != 0)
	r.ReconsumeTimes = int32(be.Uint32(b[at:]))
	r.PreparedOffset = int64(be.Uint64(b[at+4:]))
	at += 12
	return r, n, r.decodeVariable(b, at, magic)
}

// BodyEnd returns where in a record of size bytes its body ends. Of the record it needs the first HeadSize bytes, or all.
func BodyEnd(head []byte, size int) (int, error) {
	at := fixedSize - 2
	if len(head) > offsetSysFlag+4 {
		for flags := binary.BigEndian.Uint32(head[offsetSysFlag:]) & (FlagBornHostV6 | FlagStoreHostV6); flags != 0; flags &= flags - 1 {
			at += ipv6Extra
		}
	}
	if len(head) < at {
		return 0, fmt.Errorf("%w: total %d", ErrSizes, size)
	}
	body := int64(int32(binary.BigEndian.Uint32(head[at-4:])))
	if body < 0 || body > int64(size-at) {
		return 0, fmt.Errorf("%w: body %d in a total of %d", ErrSizes, body, size)
	}
	return at + int(body), nil
}

// PropertiesBehindBody returns the properties from the part of a record that follows its body.
func PropertiesBehindBody(b []byte, magic uint32) ([]byte, error) {
	at := 1
	if magic == MagicV2 {
		at = 2
	}
	if len(b) < at {
		return nil, fmt.Errorf("%w: %d bytes behind the body", ErrSizes, len(b))
	}
	topic := int(b[0])
	if magic == MagicV2 {
		topic = topic<<8 | int(b[1])
	}
	if at += topic + 2; len(b) < at || len(b)-at != int(int16(binary.BigEndian.Uint16(b[at-2:]))) {
		return nil, fmt.Errorf("%w: topic %d in the %d bytes behind the body", ErrSizes, topic, len(b))
	}
	return b[at:], nil
}

// decodeVariable reads body, topic and properties, whose lengths must add up to the record's end.
func (r *Record) decodeVariable(b []byte, at int, magic uint32) error {
	be := binary.BigEndian
	bad := func(what string, length int) error {
		return fmt.Errorf("%w: %s %d in a total of %d", ErrSizes, what, length, len(b))
	}
	body := int(int32(be.Uint32(b[at:])))
	at += 4
	if body < 0 || body > len(b)-at-3 {
		return bad("body", body)
	}
	r.Body, at = b[at:at+body], at+body
	topic := int(b[at])
	at++
	if magic == MagicV2 {
		topic = topic<<8 | int(b[at])
		at++
	}
	if topic > len(b)-at-2 {
		return bad("topic", topic)
	}
	r.Topic, at = b[at:at+topic], at+topic
	properties := int(int16(be.Uint16(b[at:])))
	at += 2
	if properties != len(b)-at {
		return bad("properties", properties)
	}
	r.Properties = b[at:]
	return nil
}

func host(b []byte, at int, v6 bool) (netip.AddrPort, int) {
	if v6 {
		a := netip.AddrFrom16([16]byte(b[at:]))
		return netip.AddrPortFrom(a, uint16(binary.BigEndian.Uint32(b[at+16:]))), at + 20
	}
	a := netip.AddrFrom4([4]byte(b[at:]))
	return netip.AddrPortFrom(a, uint16(binary.BigEndian.Uint32(b[at+4:]))), at + 8
}

// Verify checks the record in b, which is exactly one record that Decode accepted as r: the whole-record checksum where there is one
// (every record that Apogee wrote), the body's otherwise (RocketMQ's default).
func (r *Record) Verify(b []byte) error {
	if want, ok := crcProperty(b); ok {
		if got := crc32.ChecksumIEEE(b[:len(b)-CRCPropertySize]) & 0x7fffffff; got != want {
			return fmt.Errorf("%w: computed %08x, stored %08x", ErrChecksum, got, want)
		}
		return nil
	}
	if len(r.Body) == 0 {
		return nil // RocketMQ does not check an empty body either
	}
	if got := BodyCRC(r.Body); got != r.BodyCRC {
		return fmt.Errorf("%w: computed %08x, stored %08x for the body", ErrChecksum, got, r.BodyCRC)
	}
	return nil
}

// PutBlank writes the filler's header at the start of dst: size bytes up to the segment's end are skipped.
func PutBlank(dst []byte, size int, storeTime int64) {
	binary.BigEndian.PutUint32(dst, uint32(size))
	binary.BigEndian.PutUint32(dst[4:], MagicBlank)
	binary.BigEndian.PutUint64(dst[8:], uint64(storeTime))
}

// Peek returns total size and magic of what starts at b (at least 8 bytes).
func Peek(b []byte) (size int, magic uint32) {
	return int(int32(binary.BigEndian.Uint32(b))), binary.BigEndian.Uint32(b[4:])
}

// QueueOffsetOf reads the queue offset of the record that starts at b (at least 28 bytes).
func QueueOffsetOf(b []byte) int64 { return int64(binary.BigEndian.Uint64(b[offsetQueueOffset:])) }

// PhysicalOffsetOf reads the physical offset of the record that starts at b (at least 36 bytes).
func PhysicalOffsetOf(b []byte) int64 { return int64(binary.BigEndian.Uint64(b[offsetPhysical:])) }
