package protocol

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// RecallHandle names a message that waits for a moment, for its recall: base64 of five words, the first of which is the version
// (RecallMessageHandle.HandleV1).
type RecallHandle struct {
	Topic, Broker string
	At            int64 // ms; -1: not a number
	UniqueKey     string
}

// String is the handle as a client gets it.
func (h RecallHandle) String() string {
	return base64.URLEncoding.EncodeToString(fmt.Appendf(nil, "v1 %s %s %d %s", h.Topic, h.Broker, h.At, h.UniqueKey))
}

// ParseRecallHandle reads a handle.
func ParseRecallHandle(s string) (h RecallHandle, err error) {
	raw, err := base64.URLEncoding.DecodeString(s)
	if err != nil {
		raw, err = base64.RawURLEncoding.DecodeString(s) // Java's decoder does without the padding
	}
	words := strings.Split(string(raw), " ")
	if err != nil || len(words) < 5 || words[0] != "v1" {
		return h, fmt.Errorf("recall handle is invalid: %.40q", s)
	}
	at, ok := ParseInt([]byte(words[3]))
	if !ok {
		at = -1
	}
	return RecallHandle{Topic: words[1], Broker: words[2], At: at, UniqueKey: words[4]}, nil
}
