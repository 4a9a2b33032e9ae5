package protocol

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// The JSON header (RemotingSerializable): a flat object with one nested object, extFields. It is read in place by hand: this is the
// hot path of every Java client, and its strings rarely need unescaping.

type jsonScanner struct {
	b []byte
	i int
}

func decodeJSONHeader(b []byte, c *Command) error {
	s := jsonScanner{b: b}
	err := s.object(func(key []byte) error {
		var err error
		switch string(key) {
		case "code":
			c.Code, err = s.int32(key)
		case "version":
			c.Version, err = s.int32(key)
		case "opaque":
			c.Opaque, err = s.int32(key)
		case "flag":
			c.Flag, err = s.int32(key)
		case "language":
			var v []byte
			v, err = s.scalar()
			c.Language = LanguageOf(v)
		case "remark":
			c.Remark, err = s.scalar()
		case "extFields":
			err = s.fields(c)
		default:
			err = s.skip(0)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: JSON header at byte %d: %w", ErrFrame, s.i, err)
	}
	return nil
}

func (s *jsonScanner) fields(c *Command) error {
	s.space()
	if bytes.HasPrefix(s.b[s.i:], []byte("null")) {
		s.i += 4
		return nil
	}
	return s.object(func(key []byte) error {
		s.space()
		if bytes.HasPrefix(s.b[s.i:], []byte("null")) {
			s.i += 4
			return nil
		}
		v, err := s.scalar()
		c.Fields = append(c.Fields, Field{key, v})
		return err
	})
}

func (s *jsonScanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\t' || s.b[s.i] == '\r') {
		s.i++
	}
}

// next returns the next significant byte without consuming it, 0 at the end.
func (s *jsonScanner) next() byte {
	s.space()
	if s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *jsonScanner) want(c byte) error {
	if got := s.next(); got != c {
		return fmt.Errorf("want %q, found %q", c, got)
	}
	s.i++
	return nil
}

// object calls member at each value; member consumes it.
func (s *jsonScanner) object(member func(key []byte) error) error {
	if err := s.want('{'); err != nil {
		return err
	}
	if s.next() == '}' {
		s.i++
		return nil
	}
	for {
		s.space()
		key, err := s.scalar()
		if err != nil {
			return err
		}
		if err := s.want(':'); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
		if s.next() == ',' {
			s.i++
			continue
		}
		return s.want('}')
	}
}

// scalar returns a string's text, or the bytes of a number, boolean, null or bare word.
func (s *jsonScanner) scalar() ([]byte, error) {
	q := s.next()
	if q == '"' || q == '\'' {
		return s.text(q)
	}
	start := s.i
	for s.i < len(s.b) && bytes.IndexByte([]byte(",:{}[]\"' \t\r\n"), s.b[s.i]) < 0 {
		s.i++
	}
	if s.i == start {
		return nil, fmt.Errorf("want a value, found %q", q)
	}
	return s.b[start:s.i], nil
}

func (s *jsonScanner) text(quote byte) ([]byte, error) {
	s.i++
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case quote:
			s.i++
			return s.b[start : s.i-1], nil
		case '\\':
			return s.escaped(quote, start)
		}
	}
	return nil, fmt.Errorf("string not closed")
}

// escaped finishes a string in which a backslash was met; the result is a copy.
func (s *jsonScanner) escaped(quote byte, start int) ([]byte, error) {
	out := append([]byte(nil), s.b[start:s.i]...)
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == quote:
			return out, nil
		case c != '\\':
			out = append(out, c)
			continue
		}
		if s.i >= len(s.b) {
			break
		}
		c = s.b[s.i]
		s.i++
		switch c {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'u':
			r, err := s.unicode()
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, r)
		case 'x': // fastjson writes control characters so
			r, err := s.hex(2)
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
	}
	return nil, fmt.Errorf("string not closed")
}

func (s *jsonScanner) hex(n int) (rune, error) {
	if s.i+n > len(s.b) {
		return 0, fmt.Errorf("truncated escape")
	}
	v, err := strconv.ParseUint(string(s.b[s.i:s.i+n]), 16, 32)
	if err != nil {
		return 0, fmt.Errorf("bad escape %q", s.b[s.i:s.i+n])
	}
	s.i += n
	return rune(v), nil
}

// unicode reads the digits of \u, and the second half of a surrogate pair.
func (s *jsonScanner) unicode() (rune, error) {
	r, err := s.hex(4)
	if err != nil || r < 0xd800 || r > 0xdbff || !bytes.HasPrefix(s.b[s.i:], []byte(`\u`)) {
		return r, err
	}
	s.i += 2
	low, err := s.hex(4)
	if err != nil || low < 0xdc00 || low > 0xdfff {
		return utf8.RuneError, err
	}
	return (r-0xd800)<<10 + (low - 0xdc00) + 0x10000, nil
}

func (s *jsonScanner) int32(key []byte) (int32, error) {
	v, err := s.scalar()
	if err != nil {
		return 0, err
	}
	n, ok := ParseInt(v)
	if !ok || n < math.MinInt32 || n > math.MaxInt32 {
		return 0, fmt.Errorf("%s: %q is not an int32", key, v)
	}
	return int32(n), nil
}

// jsonDepthMax bounds the nesting of a value that is passed over.
const jsonDepthMax = 16

// skip passes over a value of any kind.
func (s *jsonScanner) skip(depth int) error {
	if depth > jsonDepthMax {
		return fmt.Errorf("nested deeper than %d", jsonDepthMax)
	}
	switch s.next() {
	case '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	case '[':
		s.i++
		if s.next() == ']' {
			s.i++
			return nil
		}
		for {
			if err := s.skip(depth + 1); err != nil {
				return err
			}
			if s.next() == ',' {
				s.i++
				continue
			}
			return s.want(']')
		}
	}
	_, err := s.scalar()
	return err
}

// ParseInt reads a decimal integer without allocating.
func ParseInt(b []byte) (int64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	if neg {
		return -int64(n), n <= 1<<63
	}
	return int64(n), n < 1<<63
}

func appendJSONHeader(dst []byte, c *Command) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(c.Code), 10)
	if len(c.Fields) > 0 {
		dst = append(dst, `,"extFields":{`...)
		for i := range c.Fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSONString(dst, c.Fields[i].Key)
			dst = append(dst, ':')
			dst = AppendJSONString(dst, c.Fields[i].Value)
		}
		dst = append(dst, '}')
	}
	dst = append(dst, `,"flag":`...)
	dst = strconv.AppendInt(dst, int64(c.Flag), 10)
	dst = append(dst, `,"language":"`...)
	dst = append(dst, c.Language.String()...)
	dst = append(dst, `","opaque":`...)
	dst = strconv.AppendInt(dst, int64(c.Opaque), 10)
	if len(c.Remark) > 0 {
		dst = append(dst, `,"remark":`...)
		dst = AppendJSONString(dst, c.Remark)
	}
	dst = append(dst, `,"serializeTypeCurrentRPC":"JSON","version":`...)
	dst = strconv.AppendInt(dst, int64(c.Version), 10)
	return append(dst, '}')
}

const hexDigits = "0123456789abcdef"

// AppendJSONString appends s quoted; invalid UTF-8 becomes U+FFFD.
func AppendJSONString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			dst = utf8.AppendRune(dst, r)
			i += n - 1
		}
	}
	return append(dst, '"')
}
