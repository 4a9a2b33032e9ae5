package filter

import (
	"bytes"
	"cmp"
	"math"
	"strconv"
)

// kind is the type of a value.
type kind uint8

const (
	isNull kind = iota
	isBoolean
	isInteger // 32 bits
	isLong
	isDouble
	isText
	isFault // what could not be compared: nothing that contains it matches
)

// value is what a part of an expression comes to.
type value struct {
	kind kind
	n    int64 // of a truth value, 0 or 1, an integer or a long
	f    float64
	text []byte
}

var (
	unknown = value{kind: isNull}
	fault   = value{kind: isFault}
)

func truth(b bool) value {
	if b {
		return value{kind: isBoolean, n: 1}
	}
	return value{kind: isBoolean}
}

// node is a part of a compiled expression.
type node interface{ eval(v *values) value }

type (
	constant value
	property int // the slot of its value
	negate   struct{ of node }
	invert   struct{ of node } // NOT
	cast     struct{ of node } // a property as a truth value
	// logic is AND, which false decides, and OR, which true decides.
	logic struct {
		list    []node
		decides bool
	}
	equal struct{ left, right node }
	order struct {
		left, right node
		operator    string
	}
	in struct {
		of   node
		list map[string]struct{}
		not  bool
	}
	// search is CONTAINS, STARTSWITH and ENDSWITH.
	search struct {
		of       node
		operator string
		text     []byte
		not      bool
	}
)

func (c constant) eval(*values) value { return value(c) }

func (p property) eval(v *values) value {
	if text := v.list[p]; text != nil {
		return value{kind: isText, text: text}
	}
	return unknown
}

func (n negate) eval(v *values) value {
	x := n.of.eval(v)
	switch x.kind {
	case isInteger, isLong:
		x.n = -x.n
	case isDouble:
		x.f = -x.f
	case isFault:
	default:
		return unknown
	}
	return x
}

func (n invert) eval(v *values) value {
	x := n.of.eval(v)
	if x.kind == isBoolean {
		x.n = 1 - x.n
	}
	return x
}

func (n cast) eval(v *values) value {
	if x := n.of.eval(v); x.kind == isNull {
		return unknown
	}
	return truth(false)
}

func (n *logic) eval(v *values) value {
	result := truth(!n.decides)
	for _, operand := range n.list {
		switch x := operand.eval(v); {
		case x.kind == isFault:
			return fault
		case x.kind == isNull:
			result = unknown
		case (x.n != 0) == n.decides:
			return x
		}
	}
	return result
}

func (n equal) eval(v *values) value {
	l := n.left.eval(v)
	if l.kind == isFault {
		return fault
	}
	r := n.right.eval(v)
	switch {
	case r.kind == isFault:
		return fault
	case l.kind == isNull && r.kind == isNull:
		return truth(true)
	case l.kind == isNull:
		return unknown
	case r.kind == isNull:
		return truth(false)
	case l.kind == isText && r.kind == isText:
		return truth(bytes.Equal(l.text, r.text))
	}
	c, ok := compare(l, r)
	if !ok {
		return fault
	}
	return truth(c == 0)
}

func (n order) eval(v *values) value {
	l := n.left.eval(v)
	if l.kind == isNull || l.kind == isFault {
		return l
	}
	r := n.right.eval(v)
	if r.kind == isNull || r.kind == isFault {
		return r
	}
	c, ok := compare(l, r)
	switch {
	case !ok:
		return fault
	case n.operator == ">":
		return truth(c > 0)
	case n.operator == ">=":
		return truth(c >= 0)
	case n.operator == "<":
		return truth(c < 0)
	}
	return truth(c <= 0)
}

func (n *in) eval(v *values) value {
	x := n.of.eval(v)
	if x.kind == isNull {
		return unknown
	}
	_, found := n.list[string(x.text)]
	return truth(found != n.not)
}

func (n *search) eval(v *values) value {
	if len(n.text) == 0 { // in RocketMQ what it looks in is not evaluated then
		return truth(false)
	}
	x := n.of.eval(v)
	if x.kind == isFault {
		return fault
	}
	if x.kind != isText {
		return truth(false)
	}
	var found bool
	switch n.operator {
	case "CONTAINS":
		found = bytes.Contains(x.text, n.text)
	case "STARTSWITH":
		found = bytes.HasPrefix(x.text, n.text)
	default:
		found = bytes.HasSuffix(x.text, n.text)
	}
	return truth(found != n.not)
}

// compare orders two values (ComparisonExpression.__compare): of different types, both become the wider one; a text becomes what the other
// one is. What has no order is -1. Two texts are compared as numbers. ok is false where a text does not say a value of that type.
func compare(l, r value) (c int, ok bool) {
	switch {
	case l.kind == isText && r.kind == isText:
		a, aok := parseDouble(l.text)
		b, bok := parseDouble(r.text)
		return compareDoubles(a, b), aok && bok
	case l.kind == isText:
		l, ok = r.parse(l.text)
		if !ok {
			return 0, false
		}
	case r.kind == isText:
		r, ok = l.parse(r.text)
		if !ok || l.kind == isBoolean { // RocketMQ fails there by mistake
			return 0, false
		}
	}
	switch {
	case (l.kind == isBoolean) != (r.kind == isBoolean):
		return -1, true
	case l.kind == isDouble || r.kind == isDouble:
		return compareDoubles(l.double(), r.double()), true
	}
	return cmp.Compare(l.n, r.n), true
}

func (v value) double() float64 {
	if v.kind == isDouble {
		return v.f
	}
	return float64(v.n)
}

// parse reads a text as a value of v's type.
func (v value) parse(text []byte) (value, bool) {
	switch v.kind {
	case isBoolean:
		return truth(bytes.EqualFold(text, []byte("true"))), true
	case isDouble:
		f, ok := parseDouble(text)
		return value{kind: isDouble, f: f}, ok
	}
	n, ok := parseLong(text)
	return value{kind: v.kind, n: n}, ok && (v.kind == isLong || n == int64(int32(n)))
}

// compareDoubles is Double.compare: -0 is less than 0, and NaN greater than all others.
func compareDoubles(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return cmp.Compare(int(math.Float64bits(b)>>63), int(math.Float64bits(a)>>63))
	case a == a: //nolint:staticcheck // b is NaN
		return -1
	case b == b: //nolint:staticcheck // a is NaN
		return 1
	}
	return 0
}

// parseLong is Long.parseLong.
func parseLong(s []byte) (n int64, ok bool) {
	negative := len(s) > 0 && s[0] == '-'
	if negative || len(s) > 0 && s[0] == '+' {
		s = s[1:]
	}
	if len(s) == 0 {
		return 0, false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int64(c - '0') // counted downwards: there is one more negative number than positive ones
		if n < (math.MinInt64+d)/10 {
			return 0, false
		}
		n = n*10 - d
	}
	if !negative && n == math.MinInt64 {
		return 0, false
	}
	if negative {
		return n, true
	}
	return -n, true
}

// parseDouble is Double.parseDouble.
func parseDouble(s []byte) (float64, bool) {
	for len(s) > 0 && s[0] <= ' ' {
		s = s[1:]
	}
	for len(s) > 0 && s[len(s)-1] <= ' ' {
		s = s[:len(s)-1]
	}
	n, ok := doubleLength(s)
	switch {
	case !ok:
		return 0, false
	case s[n-1] == 'N': // NaN, which strconv takes without a sign only
		return math.NaN(), true
	}
	f, _ := strconv.ParseFloat(string(s[:n]), 64) // beyond the range it is infinite or 0, as in Java
	return f, true
}

// doubleLength checks the form of a number in Java: what strconv.ParseFloat reads of it is its first n bytes, without the letter that may
// say its type.
func doubleLength(s []byte) (n int, ok bool) {
	number := s
	if len(number) > 0 && (number[0] == '+' || number[0] == '-') {
		number = number[1:]
	}
	if string(number) == "NaN" || string(number) == "Infinity" {
		return len(s), true
	}
	isDigit, exponent := func(c byte) bool { return '0' <= c && c <= '9' }, byte('e')
	if hex := len(number) > 2 && number[0] == '0' && number[1]|0x20 == 'x'; hex {
		number, exponent = number[2:], 'p'
		isDigit = func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
	}
	count, i := 0, 0
	for point := false; i < len(number) && (isDigit(number[i]) || number[i] == '.' && !point); i++ {
		if number[i] == '.' {
			point = true
		} else {
			count++
		}
	}
	if count == 0 {
		return 0, false
	}
	if i < len(number) && number[i]|0x20 == exponent {
		if i++; i < len(number) && (number[i] == '+' || number[i] == '-') {
			i++
		}
		digits := i
		for i < len(number) && '0' <= number[i] && number[i] <= '9' {
			i++
		}
		if i == digits {
			return 0, false
		}
	} else if exponent == 'p' {
		return 0, false
	}
	n = len(s) - len(number) + i
	if i < len(number) && bytes.IndexByte([]byte("fFdD"), number[i]) >= 0 {
		i++
	}
	return n, i == len(number)
}
