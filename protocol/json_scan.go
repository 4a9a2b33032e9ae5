package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// jsonScanner reads JSON, and what fastjson takes for JSON, in place.
type jsonScanner struct {
	b []byte
	i int
	// unescaped holds the strings that had escapes: unescaping never lengthens, so that with the capacity of b it never moves.
	unescaped []byte
	inKey     bool // of standard: within an object that is a key
}

func (s *jsonScanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\t' || s.b[s.i] == '\r') {
		s.i++
	}
}

// next returns the next significant byte without consuming it, 0 at the end.
func (s *jsonScanner) next() byte {
	if s.i < len(s.b) && s.b[s.i] > ' ' {
		return s.b[s.i]
	}
	return s.nextAfterSpace()
}

func (s *jsonScanner) nextAfterSpace() byte {
	if s.space(); s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
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

// compactField reads `"key":"value"` without any space in it, as every client writes header fields. ok is false, and nothing is consumed,
// where that is not what stands there.
func (s *jsonScanner) compactField() (key, value []byte, ok bool) {
	b := s.b[s.i:]
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	end := 2 // of a name of one letter, such as those of sends
	if len(b) < 3 || b[2] != '"' || b[1] == '\\' || b[1] == '"' {
		end = 1 + plainPrefix(b[1:], '"')
	}
	if end+2 >= len(b) || b[end] != '"' || b[end+1] != ':' || b[end+2] != '"' {
		return nil, nil, false
	}
	from := end + 3
	to := from + plainPrefix(b[from:], '"')
	if to == len(b) || b[to] != '"' {
		return nil, nil, false
	}
	s.i += to + 1
	return b[1:end], b[from:to], true
}

// null passes over a null.
func (s *jsonScanner) null() bool {
	if s.next() != 'n' || !bytes.HasPrefix(s.b[s.i:], []byte("null")) {
		return false
	}
	if end := s.i + 4; end < len(s.b) && !jsonEndsWord[s.b[end]] {
		return false
	}
	s.i += 4
	return true
}

// jsonEndsWord are the bytes that end a number, boolean, null or bare word.
var jsonEndsWord = [256]bool{
	',': true, ':': true, '{': true, '}': true, '[': true, ']': true, '"': true, '\'': true, ' ': true, '\t': true, '\r': true, '\n': true,
}

// scalar returns a string's text, or the bytes of a number, boolean, null or bare word.
func (s *jsonScanner) scalar() ([]byte, error) {
	q := s.next()
	if q == '"' || q == '\'' {
		return s.text(q)
	}
	start := s.i
	for s.i < len(s.b) && !jsonEndsWord[s.b[s.i]] {
		s.i++
	}
	if s.i == start {
		return nil, fmt.Errorf("want a value, found %q", q)
	}
	return s.b[start:s.i], nil
}

// text reads the string that starts at the cursor with quote.
func (s *jsonScanner) text(quote byte) ([]byte, error) {
	start := s.i + 1
	end := start + plainPrefix(s.b[start:], quote)
	switch {
	case end == len(s.b):
		s.i = end
		return nil, errStringOpen
	case s.b[end] == quote:
		s.i = end + 1
		return s.b[start:end], nil
	}
	return s.escaped(quote, start, end)
}

var errStringOpen = fmt.Errorf("string not closed")

// plainPrefix returns how many bytes of b come before a quote or a backslash. It looks at eight bytes at a time.
func plainPrefix(b []byte, quote byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quotes := ones * uint64(quote)
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		word := binary.LittleEndian.Uint64(b[n:])
		q, e := word^quotes, word^(ones*'\\')
		// The lowest set bit marks the first byte that is zero in q or e.
		if found := ((q-ones)&^q | (e-ones)&^e) & highs; found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for n < len(b) && b[n] != quote && b[n] != '\\' {
		n++
	}
	return n
}

// escaped finishes a string whose first backslash stands at b[end]; the result is a copy.
func (s *jsonScanner) escaped(quote byte, start, end int) ([]byte, error) {
	if cap(s.unescaped)-len(s.unescaped) < len(s.b)-start {
		s.unescaped = make([]byte, 0, len(s.b)+len(s.b)/4) // what was handed out keeps the old one
	}
	out := s.unescaped
	first := len(out)
	s.i = start
	for {
		out = append(out, s.b[s.i:end]...)
		if end == len(s.b) {
			s.i = end
			return nil, errStringOpen
		}
		s.i = end + 1
		if s.b[end] == quote {
			s.unescaped = out
			return out[first:len(out):len(out)], nil
		}
		if c, ok := asciiEscape(s.b[s.i:]); ok { // such as the separators of properties
			out = append(out, c)
			s.i += len("u0001")
		} else {
			var err error
			if out, err = s.escape(out); err != nil {
				return nil, err
			}
		}
		end = s.i + plainPrefix(s.b[s.i:], quote)
	}
}

// asciiEscape reads u0000 to u007f.
func asciiEscape(b []byte) (c byte, ok bool) {
	if len(b) < 5 || b[0] != 'u' || b[1] != '0' || b[2] != '0' || b[3] > '7' {
		return 0, false
	}
	high, low := hexValues[b[3]], hexValues[b[4]]
	return (high-1)<<4 | (low - 1), high != 0 && low != 0
}

// jsonEscapes are the letters behind a backslash that stand for something else, JSON's and fastjson's.
var jsonEscapes = [256]byte{
	'n': '\n', 't': '\t', 'r': '\r', 'b': '\b', 'f': '\f', 'F': '\f', 'v': '\v', '1': 1, '2': 2, '3': 3, '4': 4, '5': 5, '6': 6, '7': 7,
}

// escape appends what the escape means whose backslash was just passed.
func (s *jsonScanner) escape(out []byte) ([]byte, error) {
	if s.i >= len(s.b) {
		return nil, errStringOpen
	}
	c := s.b[s.i]
	s.i++
	switch c {
	case 'u':
		r, err := s.unicode()
		return utf8.AppendRune(out, r), err
	case 'x': // fastjson writes control characters so
		r, err := s.hex(2)
		return utf8.AppendRune(out, r), err
	case '0':
		return append(out, 0), nil
	}
	if meant := jsonEscapes[c]; meant != 0 {
		c = meant
	}
	return append(out, c), nil
}

// hexValues are the values of hexadecimal digits, plus one; 0 for other bytes.
var hexValues = func() (t [256]byte) {
	for i := range byte(10) {
		t['0'+i] = i + 1
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 11+i, 11+i
	}
	return t
}()

func (s *jsonScanner) hex(digits int) (rune, error) {
	if s.i+digits > len(s.b) {
		return 0, fmt.Errorf("truncated escape")
	}
	var r rune
	for _, c := range s.b[s.i : s.i+digits] {
		v := hexValues[c]
		if v == 0 {
			return 0, fmt.Errorf("bad escape %q", s.b[s.i:s.i+digits])
		}
		r = r<<4 | rune(v-1)
	}
	s.i += digits
	return r, nil
}

// unicode reads the digits of \u, and the second half of a surrogate pair. Half a pair becomes U+FFFD when it is appended.
func (s *jsonScanner) unicode() (rune, error) {
	r, err := s.hex(4)
	if err != nil || r < 0xd800 || r > 0xdbff || !bytes.HasPrefix(s.b[s.i:], []byte(`\u`)) {
		return r, err
	}
	second := s.i
	s.i += 2
	low, err := s.hex(4)
	if err == nil && (low < 0xdc00 || low > 0xdfff) {
		s.i = second // not its other half: read it for itself
		return r, nil
	}
	return (r-0xd800)<<10 + (low - 0xdc00) + 0x10000, err
}

// jsonDepthMax bounds the nesting of a value that is passed over.
const jsonDepthMax = 16

// skip passes over a value of any kind.
func (s *jsonScanner) skip(depth int) error {
	if depth > jsonDepthMax {
		return fmt.Errorf("nested deeper than jsonDepthMax=%d", jsonDepthMax)
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

const hexDigits = "0123456789abcdef"

// jsonPlain are the bytes that stand for themselves in a JSON string.
var jsonPlain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// AppendJSONString appends s quoted; invalid UTF-8 becomes U+FFFD.
func AppendJSONString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	copied := 0 // s[:copied] is in dst
	for i := 0; i < len(s); {
		c := s[i]
		if jsonPlain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		dst = append(dst, s[copied:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
		i++
		copied = i
	}
	dst = append(dst, s[copied:]...)
	return append(dst, '"')
}
