package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// bodyCommasMax bounds how many values a body has: a few bytes of JSON can become a few hundred of memory.
const bodyCommasMax = 1 << 18

// UnmarshalBody decodes a JSON body that fastjson wrote: unquoted keys, objects as keys (they become text that holds JSON),
// single-quoted strings and trailing zero bytes are accepted. A body of more than bodyCommasMax commas is refused.
func UnmarshalBody(body []byte, into any) error {
	if n := bytes.Count(body, []byte(",")); n > bodyCommasMax {
		return Errorf(RespSystemError, "cannot read the JSON body: it has %d commas, the limit is bodyCommasMax=%d; send less at once", n, bodyCommasMax)
	}
	return UnmarshalTable(body, into)
}

// UnmarshalTable is UnmarshalBody for a body of any number of values. The caller sees to it that few are decoded at once.
func UnmarshalTable(body []byte, into any) error {
	if json.Unmarshal(body, into) == nil { // what every client sends but for a few quirks
		return nil
	}
	standard, err := StandardJSON(body)
	if err == nil {
		err = json.Unmarshal(standard, into)
	}
	if err != nil {
		return Errorf(RespSystemError, "cannot read the JSON body: %v, in %q", err, excerpt(body))
	}
	return nil
}

// excerptBytes is how much of a value an error quotes.
const excerptBytes = 100

// excerpt cuts what an error quotes.
func excerpt(b []byte) []byte { return b[:min(len(b), excerptBytes)] }

// MarshalBody encodes a JSON body; a bean of this package cannot fail to encode.
func MarshalBody(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", v, err))
	}
	return b
}

// StandardJSON rewrites fastjson's dialect as standard JSON.
func StandardJSON(in []byte) ([]byte, error) {
	for len(in) > 0 && in[len(in)-1] == 0 {
		in = in[:len(in)-1]
	}
	s := jsonScanner{b: in}
	out, err := s.standard(make([]byte, 0, len(in)+len(in)/8), 0)
	if err != nil {
		return nil, fmt.Errorf("JSON at byte %d: %w", s.i, err)
	}
	if s.space(); s.i < len(s.b) {
		return nil, fmt.Errorf("JSON at byte %d: trailing %q", s.i, s.b[s.i])
	}
	return out, nil
}

// standard appends the value at the cursor in standard form.
func (s *jsonScanner) standard(dst []byte, depth int) ([]byte, error) {
	if depth > jsonDepthMax {
		return nil, fmt.Errorf("nested deeper than jsonDepthMax=%d", jsonDepthMax)
	}
	switch c := s.next(); c {
	case '{':
		return s.standardObject(dst, depth)
	case '[':
		return s.standardArray(dst, depth)
	case '"', '\'':
		v, err := s.text(c)
		return AppendJSONString(dst, v), err
	}
	v, err := s.scalar()
	if err == nil && !json.Valid(v) {
		return AppendJSONString(dst, v), nil
	}
	return append(dst, v...), err
}

func (s *jsonScanner) standardArray(dst []byte, depth int) ([]byte, error) {
	s.i++
	dst = append(dst, '[')
	for n := 0; ; n++ {
		c := s.next()
		if c == ']' {
			s.i++
			return append(dst, ']'), nil
		}
		if n > 0 {
			if err := s.want(','); err != nil {
				return nil, err
			}
			if s.next() == ']' {
				continue
			}
			dst = append(dst, ',')
		}
		var err error
		if dst, err = s.standard(dst, depth+1); err != nil {
			return nil, err
		}
	}
}

func (s *jsonScanner) standardObject(dst []byte, depth int) ([]byte, error) {
	s.i++
	dst = append(dst, '{')
	for n := 0; ; n++ {
		c := s.next()
		if c == '}' {
			s.i++
			return append(dst, '}'), nil
		}
		if n > 0 {
			if err := s.want(','); err != nil {
				return nil, err
			}
			if c = s.next(); c == '}' {
				continue
			}
			dst = append(dst, ',')
		}
		var key []byte
		var err error
		if c == '{' || c == '[' {
			if s.inKey { // each level would double what has to be quoted
				return nil, fmt.Errorf("an object as a key within a key")
			}
			s.inKey = true
			key, err = s.standard(nil, depth+1)
			s.inKey = false
		} else {
			key, err = s.scalar()
		}
		if err != nil {
			return nil, err
		}
		dst = append(AppendJSONString(dst, key), ':')
		if err := s.want(':'); err != nil {
			return nil, err
		}
		if dst, err = s.standard(dst, depth+1); err != nil {
			return nil, err
		}
	}
}
