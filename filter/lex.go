package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error says what is wrong with an expression, and where. Line and column count from 1, the column in characters.
type Error struct {
	Line, Column int
	Reason       string
}

func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// token is a piece of an expression. The kind of a keyword or a symbol is what it looks like, in upper case.
type token struct {
	kind string
	text string
	at   int // byte offset in the expression
}

// The other kinds.
const (
	kindEnd     = "the end"
	kindName    = "a property"
	kindText    = "a text"
	kindInteger = "an integer"
	kindFloat   = "a number"
)

func (t token) String() string {
	switch t.kind {
	case kindEnd:
		return kindEnd
	case kindText:
		return "'" + strings.ReplaceAll(t.text, "'", "''") + "'"
	}
	return t.text
}

var keywords = map[string]bool{
	"NOT": true, "AND": true, "OR": true, "BETWEEN": true, "IN": true, "TRUE": true, "FALSE": true, "NULL": true, "IS": true,
	"CONTAINS": true, "STARTSWITH": true, "ENDSWITH": true,
}

// symbols in the order in which they are tried.
var symbols = []string{"<>", "<=", ">=", "<", ">", "=", "(", ")", ",", "+", "-"}

// lexer cuts an expression into tokens, the longest possible ones.
type lexer struct {
	source string
	at     int
}

// fail makes the error of a place.
func (l *lexer) fail(at int, format string, args ...any) error {
	before := l.source[:at]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return &Error{line, column, fmt.Sprintf(format, args...)}
}

func (l *lexer) next() (token, error) {
	l.skip()
	rest, at := l.source[l.at:], l.at
	take := func(kind string, n int) (token, error) {
		l.at += n
		return token{kind, rest[:n], at}, nil
	}
	if rest == "" {
		return token{kindEnd, "", at}, nil
	}
	if rest[0] == '\'' {
		return l.text(rest)
	}
	if n := floatLength(rest); n > 0 {
		return take(kindFloat, n)
	}
	if n := integerLength(rest); n > 0 {
		return take(kindInteger, n)
	}
	if n := nameLength(rest); n > 0 {
		if word := strings.ToUpper(rest[:n]); keywords[word] {
			return take(word, n)
		}
		return take(kindName, n)
	}
	for _, s := range symbols {
		if strings.HasPrefix(rest, s) {
			return take(s, len(s))
		}
	}
	c, _ := utf8.DecodeRuneInString(rest)
	return token{}, l.fail(at, "%q means nothing here", c)
}

// skip passes over white space and comments. A line comment ends with its line, and is none without that end.
func (l *lexer) skip() {
	for l.at < len(l.source) {
		rest := l.source[l.at:]
		switch {
		case strings.IndexByte(" \t\n\r\f", rest[0]) >= 0:
			l.at++
		case strings.HasPrefix(rest, "--") && strings.ContainsAny(rest, "\r\n"):
			l.at += strings.IndexAny(rest, "\r\n")
		case strings.HasPrefix(rest, "/*") && strings.Contains(rest[2:], "*/"):
			l.at += 2 + strings.Index(rest[2:], "*/") + 2
		default:
			return
		}
	}
}

// text reads a text in single quotes; two of them stand for one, or, where nothing ends the text otherwise, the last two for its end and
// the beginning of another.
func (l *lexer) text(rest string) (token, error) {
	t, end := token{kind: kindText, at: l.at}, 0
	for i := 1; i < len(rest); i++ {
		if rest[i] != '\'' {
			continue
		}
		end = i
		if i+1 == len(rest) || rest[i+1] != '\'' {
			break
		}
		i++
	}
	if end == 0 {
		return t, l.fail(l.at, "the text has no end: a single quote is missing")
	}
	t.text = strings.ReplaceAll(rest[1:end], "''", "'")
	l.at += end + 1
	return t, nil
}

// floatLength is how much of s is a floating point number: 5.5, 5., .5, 5E10, each with an exponent or without; 0 for none.
func floatLength(s string) int {
	whole := digits(s)
	n := whole
	if n < len(s) && s[n] == '.' {
		fraction := digits(s[n+1:])
		if whole == 0 && fraction == 0 {
			return 0
		}
		n += 1 + fraction
	}
	exponent := exponentLength(s[n:])
	if n == whole && (whole == 0 || exponent == 0) {
		return 0
	}
	return n + exponent
}

func exponentLength(s string) int {
	if s == "" || s[0]|0x20 != 'e' {
		return 0
	}
	n := 1
	if n < len(s) && (s[n] == '+' || s[n] == '-') {
		n++
	}
	if d := digits(s[n:]); d > 0 {
		return n + d
	}
	return 0
}

// integerLength is how much of s is an integer: 0, or digits that do not begin with 0, with an L or without.
func integerLength(s string) int {
	n := digits(s)
	if n > 0 && s[0] == '0' {
		return 1
	}
	if n > 0 && n < len(s) && s[n]|0x20 == 'l' {
		n++
	}
	return n
}

func digits(s string) (n int) {
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

func nameLength(s string) (n int) {
	for n < len(s) {
		c := s[n]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c == '$'
		if !letter && (n == 0 || c < '0' || c > '9') {
			break
		}
		n++
	}
	return n
}
