package bench

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// A frame is encoded once with markers where a request differs from the next; the markers have the width of what replaces them.
// None occurs in a header or body otherwise.
const (
	markQueue   = '\x7f'
	markOffset  = '^'
	markTime    = '~'
	markKey     = '`'
	markDeliver = '!'

	timeDigits   = 13 // milliseconds until the year 2286
	queueDigits  = 5
	offsetDigits = 19
	countDigits  = 4
	keyDigits    = 16 // the counting half of a UNIQ_KEY
)

// template is an encoded frame and where its variable parts stand; zero means that there is none.
type template struct {
	bytes                       []byte
	json                        bool
	opaqueAt, queueAt           int
	timeAt                      int
	offsetAt, commitAt, countAt int // of a pull
	keysAt                      []int
	bodyAt                      int
	deliverAt                   int       // of a message that waits for its moment
	deliver                     spread    // when it is due; the zero value: who sends it knows
	messages                    int       // in the frame
	end                         *template // END_TRANSACTION of a half message; nil for others
}

// sendShape describes the requests of a sender.
type sendShape struct {
	topic       string
	queues      int
	size        int
	batch       int
	transaction bool
	deliver     spread
	serialize   protocol.Serialization
}

// group is the producers' group.
const group = "apogee_bench"

// uniqueKeyPrefix is the constant half of the UNIQ_KEY that every official client gives a message.
const uniqueKeyPrefix = "7F00000100000000"

func properties() []byte {
	p := append([]byte(message.PropUniqueKey+"\x01"+uniqueKeyPrefix), bytes.Repeat([]byte{markKey}, keyDigits)...)
	return append(p, "\x02"+message.PropWait+"\x01true\x02"...)
}

// sendTemplate encodes SEND_MESSAGE_V2, or SEND_BATCH_MESSAGE when batch > 1, as the Java client does: with UNIQ_KEY and WAIT.
func sendTemplate(s sendShape) *template {
	body := payload(s.size)
	h := &protocol.SendHeader{
		ProducerGroup: group, Topic: s.topic, DefaultTopic: message.TopicAutoCreate, DefaultTopicQueues: int32(s.queues),
		Properties: string(properties()), Short: true,
	}
	code := protocol.ReqSendMessageV2
	if s.batch > 1 {
		code, h.Batch, h.Properties = protocol.ReqSendBatchMessage, true, message.PropWait+"\x01true\x02"
		var items []byte
		for range s.batch {
			items = message.AppendBatchItem(items, message.BatchItem{Body: body, Properties: properties()})
		}
		body = items
	}
	t := &template{messages: max(s.batch, 1), deliver: s.deliver}
	if s.deliver != (spread{}) {
		h.Properties += message.PropTimerDeliver + "\x01" + strings.Repeat(string(markDeliver), timeDigits) + "\x02"
	}
	if s.transaction {
		h.SysFlag = message.FlagPrepared
		h.Properties += message.PropTransaction + "\x01true\x02" + message.PropProducerGroup + "\x01" + group + "\x02"
		t.end = commitTemplate(s.topic, s.serialize)
	}
	c := protocol.NewRequest(code, h)
	c.Body, c.Serialize, c.Opaque = body, s.serialize, firstOpaque
	setField(c.Fields, "e", markQueue, queueDigits)
	setField(c.Fields, "g", markTime, timeDigits)
	t.encode(c)
	t.bodyAt = len(t.bytes) - len(body)
	return t
}

// pullTemplate encodes PULL_MESSAGE with variable queue, offset, committed offset and number.
func pullTemplate(h *protocol.PullHeader, s protocol.Serialization) *template {
	c := protocol.NewRequest(protocol.ReqPullMessage, h)
	c.Serialize, c.Opaque = s, firstOpaque
	t := &template{}
	setField(c.Fields, "queueId", markQueue, queueDigits)
	setField(c.Fields, "queueOffset", markOffset, offsetDigits)
	setField(c.Fields, "commitOffset", markTime, offsetDigits)
	setField(c.Fields, "maxMsgNums", markKey, countDigits)
	t.encode(c)
	t.offsetAt, t.commitAt, t.countAt = t.find(markOffset, offsetDigits), t.timeAt, t.keysAt[0]
	t.timeAt, t.keysAt = 0, nil
	return t
}

// commitTemplate encodes END_TRANSACTION with variable offsets of the half message.
func commitTemplate(topic string, s protocol.Serialization) *template {
	c := protocol.NewRequest(protocol.ReqEndTransaction, &protocol.EndTransactionHeader{
		Topic: topic, ProducerGroup: group, Decision: message.FlagCommit, MsgID: uniqueKeyPrefix,
	})
	c.Serialize, c.Opaque = s, firstOpaque
	t := &template{}
	setField(c.Fields, "tranStateTableOffset", markOffset, offsetDigits)
	setField(c.Fields, "commitLogOffset", markTime, offsetDigits)
	t.encode(c)
	t.offsetAt, t.commitAt, t.timeAt = t.find(markOffset, offsetDigits), t.timeAt, 0
	return t
}

// appendCommit appends a frame of commitTemplate.
func (t *template) appendCommit(dst []byte, opaque int32, offset, position int64) []byte {
	start := len(dst)
	dst = append(dst, t.bytes...)
	frame := dst[start:]
	t.putOpaque(frame, opaque)
	putDecimal(frame[t.offsetAt:t.offsetAt+offsetDigits], offset)
	putDecimal(frame[t.commitAt:t.commitAt+offsetDigits], position)
	return dst
}

func setField(f protocol.Fields, name string, mark byte, width int) {
	for i := range f {
		if string(f[i].Key) == name {
			f[i].Value = bytes.Repeat([]byte{mark}, width)
			return
		}
	}
	panic("bench: no field " + name)
}

func (t *template) encode(c *protocol.Command) {
	t.bytes = protocol.AppendFrame(nil, c, 0)
	t.json = protocol.Serialization(t.bytes[4]) == protocol.SerializeJSON // a large code has no room in a binary header
	t.opaqueAt = protocol.FrameHeadSize + 5
	if t.json {
		t.opaqueAt = bytes.Index(t.bytes, opaqueKey) + len(opaqueKey)
	}
	t.queueAt = t.find(markQueue, queueDigits)
	t.timeAt = t.find(markTime, timeDigits)
	t.deliverAt = t.find(markDeliver, timeDigits)
	mark := bytes.Repeat([]byte{markKey}, countDigits)
	for at := 0; ; {
		i := bytes.Index(t.bytes[at:], mark)
		if i < 0 {
			return
		}
		t.keysAt = append(t.keysAt, at+i)
		for at += i; at < len(t.bytes) && t.bytes[at] == markKey; at++ {
		}
	}
}

func (t *template) find(mark byte, width int) int {
	return max(bytes.Index(t.bytes, bytes.Repeat([]byte{mark}, width)), 0)
}

func (t *template) putOpaque(frame []byte, opaque int32) {
	if t.json {
		putDecimal(frame[t.opaqueAt:t.opaqueAt+7], int64(opaque))
		return
	}
	binary.BigEndian.PutUint32(frame[t.opaqueAt:], uint32(opaque))
}

func (t *template) putQueue(frame []byte, queue int) {
	putDecimal(frame[t.queueAt:t.queueAt+queueDigits], int64(queue))
}

// putSend patches a frame of sendTemplate. Keys count up from key.
func (t *template) putSend(frame []byte, opaque int32, queue int, bornMS int64, key uint64) {
	t.putOpaque(frame, opaque)
	t.putQueue(frame, queue)
	putDecimal(frame[t.timeAt:t.timeAt+timeDigits], bornMS)
	for i, at := range t.keysAt {
		putHex(frame[at:at+keyDigits], key+uint64(i))
	}
	if t.deliver.span > 0 {
		t.putDeliver(frame, t.deliver.at(key))
	}
}

func (t *template) putDeliver(frame []byte, atMS int64) {
	putDecimal(frame[t.deliverAt:t.deliverAt+timeDigits], atMS)
}

// putPull patches a frame of pullTemplate.
func (t *template) putPull(frame []byte, opaque int32, queue int, offset, commit int64, count int) {
	t.putOpaque(frame, opaque)
	t.putQueue(frame, queue)
	putDecimal(frame[t.offsetAt:t.offsetAt+offsetDigits], offset)
	putDecimal(frame[t.commitAt:t.commitAt+offsetDigits], commit)
	putDecimal(frame[t.countAt:t.countAt+countDigits], int64(count))
}

// putDecimal fills dst with n, zero-padded.
func putDecimal(dst []byte, n int64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = '0' + byte(n%10)
		n /= 10
	}
}

const hexPairs = "0123456789ABCDEF"

func putHex(dst []byte, n uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = hexPairs[n&15]
		n >>= 4
	}
}

// payload is text without a marker that does not compress to nothing.
func payload(size int) []byte {
	b := make([]byte, size)
	x := uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = 'A' + byte(x%26)
	}
	return b
}
