package namesrv

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/apogeemq/apogee/protocol"
)

const (
	// registrationBytesMax bounds what a compressed registration may unpack to: more than a million topics.
	registrationBytesMax = 64 << 20
	// registrationSmall is the size up to which registrations are decoded beside one another: a large one becomes many times as much.
	registrationSmall = 64 << 10
)

// oneLarge is held while a large registration is decoded.
var oneLarge sync.Mutex

// decodeRegistration reads the body of REGISTER_BROKER: JSON, or, when compressed, a zlib stream of
//
//	length 4, DataVersion as JSON
//	count 4, of each topic: length 4, "name readQueues writeQueues perm filterType attributesJSON"
//	length 4, the filter servers as JSON
//	count 4, of each static topic: length 4, TopicQueueMappingInfo as JSON     (from brokers since 5.0)
//
// size is its length when it is not compressed.
func decodeRegistration(b []byte, compressed bool) (body protocol.RegisterBrokerBody, size int, err error) {
	if len(b) == 0 {
		return body, 0, nil
	}
	if compressed || len(b) > registrationSmall {
		oneLarge.Lock()
		defer oneLarge.Unlock()
	}
	if compressed {
		size, err = inflateRegistration(b, &body)
	} else {
		size, err = len(b), protocol.UnmarshalTable(b, &body)
	}
	if err != nil {
		var refusal *protocol.Error
		if errors.As(err, &refusal) {
			err = errors.New(refusal.Remark)
		}
		return body, size, protocol.Errorf(protocol.RespSystemError, "cannot read the registration: %v", err)
	}
	return body, size, nil
}

func inflateRegistration(b []byte, body *protocol.RegisterBrokerBody) (size int, err error) {
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	raw, err := io.ReadAll(io.LimitReader(z, registrationBytesMax+1))
	if err != nil {
		return 0, err
	}
	if len(raw) > registrationBytesMax {
		return 0, fmt.Errorf("it unpacks to more than registrationBytesMax=%d", registrationBytesMax)
	}
	return len(raw), readRegistration(raw, body)
}

func readRegistration(raw []byte, body *protocol.RegisterBrokerBody) error {
	r := blocks{b: raw}
	r.json("the data version", &body.Topics.DataVersion)
	body.Topics.Topics = map[string]protocol.TopicConfig{}
	for i, count := 0, r.count("topics"); i < count && r.err == nil; i++ {
		if t, ok := r.topic(); ok {
			body.Topics.Topics[t.TopicName] = t
		}
	}
	r.json("the filter servers", &body.Filters)
	if r.err != nil || len(r.b) == 0 {
		return r.err
	}
	body.Topics.Mapping = map[string]any{}
	for i, count := 0, r.count("static topics"); i < count && r.err == nil; i++ {
		var m map[string]any
		r.json("a static topic", &m)
		name, _ := m["topic"].(string)
		body.Topics.Mapping[name] = m
	}
	return r.err
}

// blocks reads what follows a length; the first error stays.
type blocks struct {
	b   []byte
	err error
}

func (r *blocks) int(what string) int {
	if r.err == nil && len(r.b) < 4 {
		r.err = fmt.Errorf("%s: %w", what, io.ErrUnexpectedEOF)
	}
	if r.err != nil {
		return 0
	}
	n := int(int32(binary.BigEndian.Uint32(r.b)))
	r.b = r.b[4:]
	if n < 0 || n > len(r.b) {
		r.err = fmt.Errorf("%s: length or count %d, %d bytes follow", what, n, len(r.b))
	}
	return n
}

// count reads how many blocks follow; each takes at least its length, so that a wrong count cannot cost memory.
func (r *blocks) count(what string) int { return r.int(what) }

func (r *blocks) block(what string) []byte {
	n := r.int(what)
	if r.err != nil {
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *blocks) json(what string, into any) {
	b := r.block(what)
	if r.err == nil {
		r.err = protocol.UnmarshalTable(b, into)
	}
}

func (r *blocks) topic() (protocol.TopicConfig, bool) {
	var t protocol.TopicConfig
	b := r.block("a topic")
	if r.err != nil {
		return t, false
	}
	parts := strings.SplitN(string(b), " ", 6)
	if len(parts) < 5 {
		r.err = fmt.Errorf("a topic: %q", b)
		return t, false
	}
	t.TopicName, t.FilterType = parts[0], parts[4]
	for i, p := range []*int32{&t.ReadQueues, &t.WriteQueues, &t.Perm} {
		n, err := strconv.ParseInt(parts[i+1], 10, 32)
		if err != nil {
			r.err = fmt.Errorf("a topic: %q: %w", b, err)
			return t, false
		}
		*p = int32(n)
	}
	return t, true // the attributes mean nothing to a name server
}
