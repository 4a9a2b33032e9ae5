package transaction

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// Half is a half message that is pending, or that was given up.
type Half struct {
	Offset   int64  // in the half topic's queue, by which END_TRANSACTION names it
	Position int64  // in the log
	Size     int32  // of its record, bytes
	Born     int64  // the producer's clock, ms
	Immunity string // CHECK_IMMUNITY_TIME_IN_SECONDS as the producer wrote it; empty: none
	Checks   int32  // how often its producer was asked (TRANSACTION_CHECK_TIMES)
	Topic    string // where it goes when it is committed
}

// Keys of the state: one letter, then the offset in the half topic's queue, 8 bytes big-endian, so that keys are in its order.
const (
	Pending = 'p'
	GivenUp = 'd' // its message stands in TRANS_CHECK_MAX_TIME_TOPIC; a late END_TRANSACTION still decides it
	keySize = 9
)

// Key returns the state's key of the half message at an offset.
func Key(list byte, offset int64) string {
	var k [keySize]byte
	k[0] = list
	binary.BigEndian.PutUint64(k[1:], uint64(offset))
	return string(k[:])
}

// A value of the state, integers big-endian:
//
//	format version 1, log position 8, record size 4, born 8, checks 4, immunity length 1, immunity, topic to the end
const (
	format      = 1
	fixedSize   = 26
	immunityMax = 255
)

// Value returns the half message as a value of the state.
func (h *Half) Value() []byte {
	be := binary.BigEndian
	immunity := h.Immunity[:min(len(h.Immunity), immunityMax)]
	b := make([]byte, 0, fixedSize+len(immunity)+len(h.Topic))
	b = append(b, format)
	b = be.AppendUint64(b, uint64(h.Position))
	b = be.AppendUint32(b, uint32(h.Size))
	b = be.AppendUint64(b, uint64(h.Born))
	b = be.AppendUint32(b, uint32(h.Checks))
	b = append(b, byte(len(immunity)))
	return append(append(b, immunity...), h.Topic...)
}

// Decode reads an entry of the state.
func Decode(key string, value []byte) (h Half, list byte, err error) {
	if len(key) != keySize || len(value) < fixedSize || value[0] != format || fixedSize+int(value[fixedSize-1]) > len(value) {
		return h, 0, fmt.Errorf("half message %x: %x is not of format %d", key, value, format)
	}
	be := binary.BigEndian
	end := fixedSize + int(value[fixedSize-1])
	return Half{
		Offset: int64(be.Uint64([]byte(key[1:]))), Position: int64(be.Uint64(value[1:])), Size: int32(be.Uint32(value[9:])),
		Born: int64(be.Uint64(value[13:])), Checks: int32(be.Uint32(value[21:])),
		Immunity: string(value[fixedSize:end]), Topic: string(value[end:]),
	}, key[0], nil
}

// Rules are the broker's options.
type Rules struct {
	Interval   int64 // transactionCheckInterval: between rounds, ms
	Timeout    int64 // transactionTimeOut: no check before a message has this age, ms
	ChecksMax  int32 // transactionCheckMax
	ReservedMS int64 // fileReservedTime: an older message is given up, ms; 0: none is
}

// verdict is what a round does with a half message.
type verdict uint8

const (
	keep verdict = iota
	check
	giveUp
)

// judge looks at a half message at now, ms of the wall clock (TransactionalMessageServiceImpl.check: needDiscard, needSkip, then the
// age). A message from the future is checked at once, unless it names its own immunity.
func (r *Rules) judge(h *Half, now int64) verdict {
	age := now - h.Born
	switch {
	case h.Checks >= r.ChecksMax, r.ReservedMS > 0 && age > r.ReservedMS:
		return giveUp
	case h.Immunity != "":
		if age <= r.immunity(h.Immunity) {
			return keep
		}
	case age >= 0 && age <= r.Timeout:
		return keep
	}
	return check
}

// immunity returns for how long a message is not checked, ms. What is not a number, or -1, counts as none given.
func (r *Rules) immunity(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n == -1 {
		return r.Timeout
	}
	return n * 1000
}

// TooLate tells whether a producer that was not asked may not decide any more: it named an immunity, at least the time-out, and that is
// over (EndTransactionProcessor.rejectCommitOrRollback). The check will settle it.
func (r *Rules) TooLate(born int64, immunity string, now int64) bool {
	if immunity == "" {
		return false
	}
	n, err := strconv.ParseInt(immunity, 10, 64)
	if err != nil {
		n = 0
	}
	return now-born > max(n*1000, r.Timeout)
}
