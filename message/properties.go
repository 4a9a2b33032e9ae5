package message

import (
	"bytes"
	"iter"
	"slices"
)

// Properties are `key 0x01 value 0x02 ...`; nothing is escaped and the last separator may be missing
// (MessageDecoder.messageProperties2String).
const (
	nameValueSeparator = 1
	propertySeparator  = 2
)

// Names of properties that a broker reads or writes (MessageConst).
const (
	PropKeys              = "KEYS"
	PropTags              = "TAGS"
	PropWait              = "WAIT"
	PropDelay             = "DELAY"
	PropRetryTopic        = "RETRY_TOPIC"
	PropRealTopic         = "REAL_TOPIC"
	PropRealQueueID       = "REAL_QID"
	PropTransaction       = "TRAN_MSG"
	PropProducerGroup     = "PGROUP"
	PropMinOffset         = "MIN_OFFSET"
	PropMaxOffset         = "MAX_OFFSET"
	PropUniqueKey         = "UNIQ_KEY"
	PropPopCheckpoint     = "POP_CK"
	PropPopRetired        = "POP_CK_OFFSET"
	PropFirstPopTime      = "1ST_POP_TIME"
	PropOriginGroup       = "ORIGIN_GROUP"
	PropCluster           = "CLUSTER"
	PropOriginMessageID   = "ORIGIN_MESSAGE_ID"
	PropMaxReconsumeTimes = "MAX_RECONSUME_TIMES"
	PropTraceSwitch       = "TRACE_ON"
	PropRegion            = "MSG_REGION"
	PropPriority          = "_SYS_MSG_PRIORITY_"
	PropTimerDeliver      = "TIMER_DELIVER_MS"
	PropTimerDelayMS      = "TIMER_DELAY_MS"
	PropTimerDelaySec     = "TIMER_DELAY_SEC"
	PropTimerOut          = "TIMER_OUT_MS"
	PropTimerEnqueue      = "TIMER_ENQUEUE_MS"
	PropTimerDequeue      = "TIMER_DEQUEUE_MS"
	PropTimerRolls        = "TIMER_ROLL_TIMES"
	PropTimerDelete       = "TIMER_DEL_UNIQKEY"
	PropBornTimestamp     = "BORN_TIMESTAMP"
	PropTransactionID     = "__transactionId__"
	PropCheckImmunity     = "CHECK_IMMUNITY_TIME_IN_SECONDS"
	PropCheckTimes        = "TRANSACTION_CHECK_TIMES"
	PropPreparedOffset    = "TRAN_PREPARED_QUEUE_OFFSET" // of a half message that RocketMQ put back: where it stood first
	PropReplyTo           = "REPLY_TO_CLIENT"
	PropPushReplyTime     = "PUSH_REPLY_TIME"
	PropMultiDispatch     = "INNER_MULTI_DISPATCH"     // light queues that the message is to stand in as well, separated by commas
	PropMultiOffset       = "INNER_MULTI_QUEUE_OFFSET" // its offsets there
	PropLiteTopic         = "__LITE_TOPIC"             // of the parent topic that the message is sent to
	PropInnerNum          = "INNER_NUM"                // messages in a batch that is one record
	PropInnerBase         = "INNER_BASE"               // the offset of the first of them
	PropCRC               = crcPropertyName
)

// Properties iterates over the pairs of an encoded property string. Pairs without a name or a separator are passed over, as RocketMQ does.
func Properties(p []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for len(p) > 0 {
			pair := p
			if i := bytes.IndexByte(p, propertySeparator); i >= 0 {
				pair, p = p[:i], p[i+1:]
			} else {
				p = nil
			}
			if i := bytes.IndexByte(pair, nameValueSeparator); i > 0 && i < len(pair)-1 {
				if !yield(pair[:i], pair[i+1:]) {
					return
				}
			}
		}
	}
}

// Property returns the value of the first property called name, or nil.
func Property(p []byte, name string) []byte {
	for len(p) > 0 {
		pair := p
		if i := bytes.IndexByte(p, propertySeparator); i >= 0 {
			pair, p = p[:i], p[i+1:]
		} else {
			p = nil
		}
		if len(pair) > len(name)+1 && pair[len(name)] == nameValueSeparator && string(pair[:len(name)]) == name {
			return pair[len(name)+1:]
		}
	}
	return nil
}

// AppendProperty appends one pair, closing what stands before it where that was left open.
func AppendProperty(p []byte, name string, value []byte) []byte {
	if needsSeparator(p) {
		p = append(p, propertySeparator)
	}
	p = append(p, name...)
	p = append(p, nameValueSeparator)
	p = append(p, value...)
	return append(p, propertySeparator)
}

// AppendWithout appends to dst all pairs of p whose names are not in drop.
func AppendWithout(dst, p []byte, drop ...string) []byte {
	run := 0 // pairs that stay and stand together are copied at once
	flush := func(end int) {
		if run == end {
			return
		}
		if needsSeparator(dst) {
			dst = append(dst, propertySeparator)
		}
		if dst = append(dst, p[run:end]...); needsSeparator(dst) {
			dst = append(dst, propertySeparator)
		}
	}
	for start := 0; start < len(p); {
		end := len(p)
		if i := bytes.IndexByte(p[start:], propertySeparator); i >= 0 {
			end = start + i + 1
		}
		pair := bytes.TrimSuffix(p[start:end], []byte{propertySeparator})
		if i := bytes.IndexByte(pair, nameValueSeparator); i <= 0 || i == len(pair)-1 || slices.Contains(drop, string(pair[:i])) {
			flush(start)
			run = end
		}
		start = end
	}
	flush(len(p))
	return dst
}

// TagsCode is what a queue index holds of a message's tag: Java's String.hashCode, sign-extended; 0 without a tag
// (MessageExtBrokerInner.tagsString2tagsCode).
func TagsCode(tag []byte) int64 { return int64(JavaHash(tag)) }

// JavaHash returns Java's String.hashCode of UTF-8 text (over UTF-16 units). Invalid bytes count as U+FFFD, as Java decodes them.
func JavaHash(s []byte) int32 {
	var h int32
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return javaHashUnicode(h, s[i:])
		}
		h = 31*h + int32(s[i])
	}
	return h
}

func javaHashUnicode(h int32, s []byte) int32 {
	for _, r := range string(s) {
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + int32(0xd800+(r>>10))
			h = 31*h + int32(0xdc00+(r&0x3ff))
			continue
		}
		h = 31*h + int32(r)
	}
	return h
}
