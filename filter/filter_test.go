package filter

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/google/go-cmp/cmp"
)

// encode makes a property string of name=value pairs separated by &.
func encode(pairs string) (p []byte) {
	for pair := range strings.SplitSeq(pairs, "&") {
		if name, v, _ := strings.Cut(pair, "="); v != "" {
			p = message.AppendProperty(p, name, []byte(v))
		}
	}
	return p
}

// The rows of testdata/sql92.txt are what RocketMQ 5.5.0 makes of them: interop/java's SqlTableTest compares them with rocketmq-filter.
func TestExpressionsMeanWhatTheyMeanInRocketMQ(t *testing.T) {
	text, err := os.ReadFile("testdata/sql92.txt")
	if err != nil {
		t.Fatal(err)
	}
	unescape := strings.NewReplacer(`\t`, "\t", `\n`, "\n", `\r`, "\r")
	rows := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(line, "\n"), " | ")
		if len(parts) != 3 {
			t.Fatalf("%q has not three parts", line)
		}
		rows++
		got := "refused"
		f, err := Compile(unescape.Replace(parts[0]))
		if err == nil {
			got = outcome(f.evaluate(encode(parts[1])))
			if f.Match(encode(parts[1])) != (got == "true") {
				t.Errorf("%s: matches, but comes to %s", line, got)
			}
		}
		if got != parts[2] {
			t.Errorf("%s with %s: %s, want %s (%v)", parts[0], parts[1], got, parts[2], err)
		}
	}
	if rows < 150 {
		t.Errorf("%d rows", rows)
	}
}

func outcome(v value) string {
	switch {
	case v.kind == isNull:
		return "null"
	case v.kind == isFault:
		return "fault"
	case v.kind == isBoolean && v.n != 0:
		return "true"
	case v.kind == isBoolean:
		return "false"
	}
	return "no truth value"
}

func TestErrorsSayWhereAndWhy(t *testing.T) {
	for _, c := range []struct{ expression, want string }{
		{"", "line 1, column 1: found the end, expected a literal, a property or ("},
		{"a > 5 AND", "line 1, column 10: found the end, expected a literal, a property or ("},
		{"ü = 1", "line 1, column 1: 'ü' means nothing here"},
		{"a = 'ü' AND b ~ 5", "line 1, column 15: '~' means nothing here"},
		{"a = 1\n  AND b = 'x", "line 2, column 11: the text has no end: a single quote is missing"},
		{"a > 'x'", "line 1, column 3: only numbers can be compared here: use = or <> for texts and truth values"},
		{"a BETWEEN 5 AND 1", "line 1, column 3: the lower bound of BETWEEN is greater than the upper one"},
		{"a = NULL", "line 1, column 3: NULL cannot be compared: use IS NULL or IS NOT NULL"},
		{"TRUE = 1", "line 1, column 6: a truth value cannot be compared with a number or a text"},
		{"'x' IN ('x')", "line 1, column 5: IN is for properties only"},
		{"a IN (5)", "line 1, column 7: found 5, expected a text"},
		{"a NOT 'it''s'", "line 1, column 7: found 'it''s', expected BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH"},
		{"(a = 1", "line 1, column 7: found the end, expected )"},
		{"a AND 5", "line 1, column 7: this is neither true nor false"},
		{"5", "line 1, column 1: this is neither true nor false"},
		{"a = 99999999999999999999", "line 1, column 5: 99999999999999999999 is greater than 9223372036854775807"},
		{"a = 0.0", "line 1, column 5: 0.0 is not a floating point number from 5e-324 to 1.7976931348623157e+308"},
		{strings.Repeat("(", 501) + "a", "line 1, column 501: parentheses, NOT and signs stand deeper than nestingMax=500"},
		{"a" + strings.Repeat(" IS NULL", 4096), "line 1, column 32770: the expression has more parts than nodesMax=4096"},
	} {
		_, err := Compile(c.expression)
		var where *Error
		if !errors.As(err, &where) {
			t.Errorf("%.50q: %v", c.expression, err)
			continue
		}
		if diff := cmp.Diff(c.want, err.Error()); diff != "" {
			t.Errorf("%.50q (-want +got):\n%s", c.expression, diff)
		}
	}
}

// Of two properties with one name the last one counts, as in RocketMQ.
func TestTheLastOfTwoPropertiesCounts(t *testing.T) {
	f, err := Compile("a = 2")
	if err != nil {
		t.Fatal(err)
	}
	if !f.Match(encode("a=1&a=2")) || f.Match(encode("a=2&a=1")) {
		t.Error("the first one counts")
	}
}

var typical = "a > 5 AND (b IS NULL OR b CONTAINS 'x') AND c IN ('p', 'q') AND d BETWEEN 1.5 AND 2.5 AND NOT (e = TRUE)"

func TestMatchingTakesNoMemory(t *testing.T) {
	f, err := Compile(typical)
	if err != nil {
		t.Fatal(err)
	}
	properties := encode("TAGS=x&UNIQ_KEY=0123456789ABCDEF0123456789ABCDEF&a=6&b=xy&c=q&d=2.25&e=false")
	if !f.Match(properties) {
		t.Fatal("no match")
	}
	if n := testing.AllocsPerRun(1000, func() { f.Match(properties) }); n != 0 {
		t.Errorf("%g allocations for each message", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	f, err := Compile(typical)
	if err != nil {
		b.Fatal(err)
	}
	properties := encode("TAGS=x&UNIQ_KEY=0123456789ABCDEF0123456789ABCDEF&a=6&b=xy&c=q&d=2.25&e=false")
	b.ReportAllocs()
	for b.Loop() {
		f.Match(properties)
	}
}

// An expression is refused with a place within it, or can be evaluated, whatever the properties are, and means the same in parentheses.
func FuzzCompile(f *testing.F) {
	text, err := os.ReadFile("testdata/sql92.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if parts := strings.Split(line, " | "); len(parts) == 3 {
			f.Add(parts[0], encode(parts[1]))
		}
	}
	f.Fuzz(func(t *testing.T, expression string, properties []byte) {
		compiled, err := Compile(expression)
		if err != nil {
			var where *Error
			if !errors.As(err, &where) || where.Line < 1 || where.Column < 1 || where.Column > len(expression)+1 {
				t.Fatalf("%q: %v", expression, err)
			}
			return
		}
		got := outcome(compiled.evaluate(properties))
		if got == "no truth value" {
			t.Fatalf("%q comes to none", expression)
		}
		again, err := Compile("(" + expression + ")")
		if err != nil || strings.Contains(expression, ")") {
			return // what stands behind an expression is not read, but where it closes the parenthesis
		}
		if other := outcome(again.evaluate(properties)); other != got {
			t.Fatalf("%q: %s, in parentheses %s", expression, got, other)
		}
	})
}
