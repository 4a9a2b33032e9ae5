package bench

import "encoding/binary"

// stamp is at the start of an end to end message's body: which run, when it should have been sent, by whom, and its number.
type stamp struct {
	run      uint64
	intended int64 // ns since the run's epoch
	sender   int
	seq      int
}

const (
	stampBytes = 24
	seqBits    = 40
)

func (s stamp) put(b []byte) {
	binary.BigEndian.PutUint64(b, s.run)
	binary.BigEndian.PutUint64(b[8:], uint64(s.intended))
	binary.BigEndian.PutUint64(b[16:], uint64(s.sender)<<seqBits|uint64(s.seq))
}

func readStamp(b []byte) (s stamp, ok bool) {
	if len(b) < stampBytes {
		return s, false
	}
	s.run = binary.BigEndian.Uint64(b)
	s.intended = int64(binary.BigEndian.Uint64(b[8:]))
	id := binary.BigEndian.Uint64(b[16:])
	s.sender, s.seq = int(id>>seqBits), int(id&(1<<seqBits-1))
	return s, true
}
