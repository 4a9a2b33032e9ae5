package filter

import (
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/apogeemq/apogee/message"
)

// Limits of an expression; RocketMQ's are its stack.
const (
	// nestingMax bounds parentheses, NOT and signs within one another.
	nestingMax = 500
	// nodesMax bounds properties, literals outside of IN lists, and what combines them.
	nodesMax = 4096
)

// Filter is a compiled expression. It may be used by many goroutines at once.
type Filter struct {
	root    node
	slots   map[string]int // where the value of a property is during a match
	scratch sync.Pool      // of *values
}

// values are the properties that an expression names, of one message; nil is missing.
type values struct{ list [][]byte }

// Compile reads an expression. Its errors are of type *Error.
func Compile(expression string) (*Filter, error) {
	p := &parser{lexer: lexer{source: expression}, slots: map[string]int{}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	root, err := p.or()
	if err == nil {
		root, err = p.boolean(root, 0)
	}
	if err != nil {
		return nil, err
	}
	f := &Filter{root: root, slots: p.slots}
	f.scratch.New = func() any { return &values{make([][]byte, len(f.slots))} }
	return f, nil
}

// Match tells whether a message with these properties, encoded as in a record, is wanted.
func (f *Filter) Match(properties []byte) bool {
	v := f.evaluate(properties)
	return v.kind == isBoolean && v.n != 0
}

func (f *Filter) evaluate(properties []byte) value {
	v := f.scratch.Get().(*values)
	for name, text := range message.Properties(properties) {
		if slot, ok := f.slots[string(name)]; ok {
			v.list[slot] = text
		}
	}
	result := f.root.eval(v)
	clear(v.list)
	f.scratch.Put(v)
	return result
}

// parser descends by the grammar, each rule one function, with one token of look-ahead.
type parser struct {
	lexer
	token   token // the next one
	slots   map[string]int
	nodes   int
	nesting int
}

func (p *parser) advance() (err error) {
	p.token, err = p.next()
	return err
}

func (p *parser) is(kind string) bool { return p.token.kind == kind }

// accept takes the next token if it is of a kind.
func (p *parser) accept(kind string) (bool, error) {
	if !p.is(kind) {
		return false, nil
	}
	return true, p.advance()
}

func (p *parser) expect(kind string) error {
	if !p.is(kind) {
		return p.unexpected(kind)
	}
	return p.advance()
}

func (p *parser) unexpected(wanted string) error {
	return p.fail(p.token.at, "found %s, expected %s", p.token, wanted)
}

// made counts a new node.
func (p *parser) made(n node) (node, error) {
	if p.nodes++; p.nodes > nodesMax {
		return nil, p.fail(p.token.at, "the expression has more parts than nodesMax=%d", nodesMax)
	}
	return n, nil
}

// boolean makes an operand of AND, OR and NOT: what is true or false, or a property, which as a text is neither and counts as false.
func (p *parser) boolean(n node, at int) (node, error) {
	if _, ok := n.(property); ok {
		return p.made(cast{n})
	}
	if !hasTruth(n) {
		return nil, p.fail(at, "this is neither true nor false")
	}
	return n, nil
}

// hasTruth tells what RocketMQ calls a BooleanExpression.
func hasTruth(n node) bool {
	switch n := n.(type) {
	case constant:
		return n.kind == isBoolean || n.kind == isNull
	case property, negate:
		return false
	}
	return true
}

func (p *parser) or() (node, error)  { return p.chain("OR", true, p.and) }
func (p *parser) and() (node, error) { return p.chain("AND", false, p.equality) }

func (p *parser) chain(word string, decides bool, operand func() (node, error)) (node, error) {
	at := p.token.at
	first, err := operand()
	if err != nil || !p.is(word) {
		return first, err
	}
	if first, err = p.boolean(first, at); err != nil {
		return nil, err
	}
	all := logic{[]node{first}, decides}
	for p.is(word) {
		if err := p.advance(); err != nil {
			return nil, err
		}
		at := p.token.at
		n, err := operand()
		if err == nil {
			n, err = p.boolean(n, at)
		}
		if err != nil {
			return nil, err
		}
		all.list = append(all.list, n)
	}
	return p.made(&all)
}

func (p *parser) equality() (node, error) {
	left, err := p.comparison()
	for err == nil && (p.is("=") || p.is("<>") || p.is("IS")) {
		operator := p.token
		if err := p.advance(); err != nil {
			return nil, err
		}
		if operator.kind == "IS" {
			left, err = p.isNull(left)
		} else {
			left, err = p.equal(left, operator)
		}
	}
	return left, err
}

func (p *parser) isNull(left node) (node, error) {
	not, err := p.accept("NOT")
	if err == nil {
		err = p.expect("NULL")
	}
	if err != nil {
		return nil, err
	}
	n, err := p.made(equal{left, constant{kind: isNull}})
	if err == nil && not {
		n, err = p.made(invert{n})
	}
	return n, err
}

func (p *parser) equal(left node, operator token) (node, error) {
	right, err := p.comparison()
	if err != nil {
		return nil, err
	}
	l, leftConstant := left.(constant)
	r, rightConstant := right.(constant)
	if leftConstant && l.kind == isNull || rightConstant && r.kind == isNull {
		return nil, p.fail(operator.at, "NULL cannot be compared: use IS NULL or IS NOT NULL")
	}
	if leftConstant && rightConstant && l.kind == isBoolean && r.kind != isBoolean {
		return nil, p.fail(operator.at, "a truth value cannot be compared with a number or a text")
	}
	n, err := p.made(equal{left, right})
	if err == nil && operator.kind == "<>" {
		n, err = p.made(invert{n})
	}
	return n, err
}

func (p *parser) comparison() (node, error) {
	left, err := p.unary()
	for err == nil {
		operator := p.token
		switch operator.kind {
		case ">", ">=", "<", "<=":
			if err = p.advance(); err == nil {
				left, err = p.order(left, operator)
			}
		case "NOT", "BETWEEN", "IN", "CONTAINS", "STARTSWITH", "ENDSWITH":
			left, err = p.wordComparison(left)
		default:
			return left, nil
		}
	}
	return nil, err
}

func (p *parser) order(left node, operator token) (node, error) {
	right, err := p.unary()
	if err != nil {
		return nil, err
	}
	return p.ordered(left, operator.kind, right, operator.at)
}

// ordered compares numbers; a text literal or a truth value is refused.
func (p *parser) ordered(left node, operator string, right node, at int) (node, error) {
	for _, n := range []node{left, right} {
		c, isConstant := n.(constant)
		if isConstant && c.kind != isInteger && c.kind != isLong && c.kind != isDouble || !isConstant && hasTruth(n) {
			return nil, p.fail(at, "only numbers can be compared here: use = or <> for texts and truth values")
		}
	}
	return p.made(order{left, right, operator})
}

func (p *parser) wordComparison(left node) (node, error) {
	not, err := p.accept("NOT")
	if err != nil {
		return nil, err
	}
	operator := p.token
	switch operator.kind {
	case "BETWEEN", "IN", "CONTAINS", "STARTSWITH", "ENDSWITH":
	default:
		return nil, p.unexpected("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	switch operator.kind {
	case "BETWEEN":
		return p.between(left, not, operator.at)
	case "IN":
		return p.in(left, not, operator.at)
	}
	searched, err := p.textLiteral()
	if err != nil {
		return nil, err
	}
	return p.made(&search{left, operator.kind, []byte(searched), not})
}

func (p *parser) between(left node, not bool, at int) (node, error) {
	low, err := p.unary()
	if err == nil {
		err = p.expect("AND")
	}
	if err != nil {
		return nil, err
	}
	high, err := p.unary()
	if err != nil {
		return nil, err
	}
	first, second := ">=", "<="
	if not {
		first, second = "<", ">"
	}
	lower, err := p.ordered(left, first, low, at)
	if err != nil {
		return nil, err
	}
	upper, err := p.ordered(left, second, high, at)
	if err != nil {
		return nil, err
	}
	l, lowConstant := low.(constant)
	h, highConstant := high.(constant)
	if !not && lowConstant && highConstant {
		if c, _ := compare(value(h), value(l)); c < 0 {
			return nil, p.fail(at, "the lower bound of BETWEEN is greater than the upper one")
		}
	}
	return p.made(&logic{[]node{lower, upper}, not})
}

func (p *parser) in(left node, not bool, at int) (node, error) {
	if _, ok := left.(property); !ok {
		return nil, p.fail(at, "IN is for properties only")
	}
	n := &in{left, map[string]struct{}{}, not}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	for {
		text, err := p.textLiteral()
		if err != nil {
			return nil, err
		}
		n.list[text] = struct{}{}
		more, err := p.accept(",")
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	if err := p.expect(")"); err != nil {
		return nil, err
	}
	return p.made(n)
}

func (p *parser) textLiteral() (string, error) {
	text := p.token.text
	return text, p.expect(kindText)
}

func (p *parser) unary() (node, error) {
	sign := p.token
	if sign.kind != "+" && sign.kind != "-" && sign.kind != "NOT" {
		return p.primary()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	if err := p.advance(); err != nil {
		return nil, err
	}
	at := p.token.at
	n, err := p.unary()
	if err != nil {
		return nil, err
	}
	switch sign.kind {
	case "-":
		return p.made(negate{n})
	case "NOT":
		if n, err = p.boolean(n, at); err != nil {
			return nil, err
		}
		return p.made(invert{n})
	}
	return n, nil
}

func (p *parser) enter() error {
	if p.nesting++; p.nesting > nestingMax {
		return p.fail(p.token.at, "parentheses, NOT and signs stand deeper than nestingMax=%d", nestingMax)
	}
	return nil
}

func (p *parser) leave() { p.nesting-- }

func (p *parser) primary() (node, error) {
	t := p.token
	var n node
	switch t.kind {
	case "(":
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer p.leave()
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := p.or()
		if err != nil {
			return nil, err
		}
		return n, p.expect(")")
	case kindName:
		slot, known := p.slots[t.text]
		if !known {
			slot = len(p.slots)
			p.slots[t.text] = slot
		}
		n = property(slot)
	case "TRUE":
		n = constant(truth(true))
	case "FALSE":
		n = constant(truth(false))
	case "NULL":
		n = constant{kind: isNull}
	case kindText:
		n = constant{kind: isText, text: []byte(t.text)}
	case kindInteger, kindFloat:
		c, err := p.number(t)
		if err != nil {
			return nil, err
		}
		n = c
	default:
		return nil, p.unexpected("a literal, a property or (")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	return p.made(n)
}

// number is a literal: 32 bits wide if it fits, else 64; a floating point number is greater than 0.
func (p *parser) number(t token) (constant, error) {
	if t.kind == kindFloat {
		f, _ := strconv.ParseFloat(t.text, 64) // beyond the range it is infinite or 0
		if f == 0 || math.IsInf(f, 0) {
			return constant{}, p.fail(t.at, "%s is not a floating point number from %g to %g", t.text, math.SmallestNonzeroFloat64, math.MaxFloat64)
		}
		return constant{kind: isDouble, f: f}, nil
	}
	n, err := strconv.ParseInt(strings.TrimRight(t.text, "lL"), 10, 64)
	if err != nil {
		return constant{}, p.fail(t.at, "%s is greater than %d", t.text, int64(math.MaxInt64))
	}
	if n == int64(int32(n)) {
		return constant{kind: isInteger, n: n}, nil
	}
	return constant{kind: isLong, n: n}, nil
}
