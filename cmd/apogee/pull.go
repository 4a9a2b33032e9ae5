package main

import (
	"bytes"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// pullRequest asks for messages of one queue.
type pullRequest struct {
	group, topic string
	queue        queue
	offset       int64
	count        int32
	expression   string        // tags, or *
	sql          string        // instead of the tags
	suspend      time.Duration // how long the broker may hold it while there is nothing
}

// pulled is what came: the records may be none, and next is where to go on.
type pulled struct {
	records []message.Record
	next    int64
	max     int64
}

// pull asks once. An offset outside the queue is answered with where the queue begins or ends.
func (c *cluster) pull(ctx context.Context, q pullRequest) (*pulled, error) {
	h := &protocol.PullHeader{
		Group: q.group, Topic: q.topic, QueueID: q.queue.id, QueueOffset: q.offset, MaxMessages: q.count,
		SysFlag: protocol.PullSubscription, Subscription: q.expression, SubVersion: time.Now().UnixMilli(), ExpressionType: protocol.ExpressionTag,
	}
	if q.sql != "" {
		h.Subscription, h.ExpressionType = q.sql, protocol.ExpressionSQL92
	}
	if q.suspend > 0 {
		h.SysFlag |= protocol.PullSuspend
		h.SuspendMS = q.suspend.Milliseconds()
	}
	answer, err := c.exchange(ctx, q.queue.addr, request{code: protocol.ReqPullMessage, header: h, wait: q.suspend})
	if err != nil {
		return nil, fmt.Errorf("cannot reach broker %s: %w", q.queue.addr, err)
	}
	switch protocol.ResponseCode(answer.Code) {
	case protocol.RespSuccess, protocol.RespPullNotFound, protocol.RespPullRetryImmediately, protocol.RespPullOffsetMoved:
	default:
		return nil, fmt.Errorf("pull of topic %q, queue %d of broker %q, at offset %d: %w", q.topic, q.queue.id, q.queue.broker, q.offset, answer.Check())
	}
	var r protocol.PullResult
	if err := protocol.DecodeHeader(answer.Fields, &r); err != nil {
		return nil, err
	}
	out := &pulled{next: r.NextOffset, max: r.MaxOffset}
	if protocol.ResponseCode(answer.Code) != protocol.RespSuccess {
		return out, nil
	}
	wanted := tagSet(q.expression)
	for b := answer.Body; len(b) > 0; {
		record, n, err := message.Decode(b)
		if err != nil {
			return nil, fmt.Errorf("queue %d of broker %q at offset %d: %w", q.queue.id, q.queue.broker, q.offset, err)
		}
		b = b[n:]
		// The broker compares hashes of tags only.
		if wanted == nil || slices.Contains(wanted, string(message.Property(record.Properties, message.PropTags))) {
			out.records = append(out.records, record)
		}
	}
	return out, nil
}

// tagSet splits an expression such as "a || b"; nil means everything.
func tagSet(expression string) []string {
	if e := strings.TrimSpace(expression); e == "*" || e == "" {
		return nil
	}
	var tags []string
	for t := range strings.SplitSeq(expression, "||") {
		if t = strings.TrimSpace(t); t != "" {
			tags = append(tags, t)
		}
	}
	return tags
}

// Compression types in bits 8 to 10 of a message's sysFlag; none named means zlib.
const (
	compressionShift = 8
	compressionNone  = 0
	compressionZlib  = 3
	// bodyBytesMax bounds what a compressed body may become.
	bodyBytesMax = 64 << 20
)

// bodyOf returns the body as the producer gave it.
func bodyOf(r *message.Record) ([]byte, error) {
	if r.SysFlag&message.FlagCompressed == 0 {
		return r.Body, nil
	}
	kind := (r.SysFlag & message.FlagCompressionMask) >> compressionShift
	if kind != compressionNone && kind != compressionZlib {
		return nil, fmt.Errorf("message at offset %d of queue %d: its body is compressed with type %d (1 LZ4, 2 ZSTD), which this command cannot read",
			r.QueueOffset, r.QueueID, kind)
	}
	z, err := zlib.NewReader(bytes.NewReader(r.Body))
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(z, bodyBytesMax)); err == nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("message at offset %d of queue %d: body: %w", r.QueueOffset, r.QueueID, err)
}
