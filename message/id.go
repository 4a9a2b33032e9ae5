package message

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
)

// OffsetIDMaxSize is the length of an offset message id with an IPv6 host.
const OffsetIDMaxSize = 56

const upperHex = "0123456789ABCDEF"

// AppendOffsetID appends the offsetMsgId: upper-case hex of host address (4 or 16 bytes), port (int32) and physical offset (int64)
// (MessageDecoder.createMessageId).
func AppendOffsetID(dst []byte, host netip.AddrPort, physicalOffset int64) []byte {
	var raw [28]byte
	n := putHost(raw[:], host)
	binary.BigEndian.PutUint64(raw[n:], uint64(physicalOffset))
	for _, b := range raw[:n+8] {
		dst = append(dst, upperHex[b>>4], upperHex[b&15])
	}
	return dst
}

// ParseOffsetID reads an offsetMsgId of 32 (IPv4) or 56 (IPv6) hex digits.
func ParseOffsetID(id string) (host netip.AddrPort, physicalOffset int64, err error) {
	b, err := hex.DecodeString(id)
	if err != nil || (len(b) != 16 && len(b) != 28) {
		return host, 0, fmt.Errorf("message id %q: want 32 or 56 hex digits", id)
	}
	address, _ := netip.AddrFromSlice(b[:len(b)-12])
	port := binary.BigEndian.Uint32(b[len(b)-12:])
	if port > 65535 {
		return host, 0, fmt.Errorf("message id %q: port %d", id, port)
	}
	return netip.AddrPortFrom(address, uint16(port)), int64(binary.BigEndian.Uint64(b[len(b)-8:])), nil
}
