package protocol

import (
	"fmt"
	"math"
	"strconv"
)

// Header is the custom header of a request or response. It declares its fields once, for both directions.
type Header interface{ visit(v *visitor) }

// visitor reads fields into a header's variables, or writes them out.
type visitor struct {
	in      Fields
	out     *Fields
	writing bool
	err     error
}

// need says whether a field may be missing.
type need bool

const (
	required need = true
	optional need = false
)

// DecodeHeader fills h from the fields. A required field that is missing, or a value of the wrong type, is an error that names it.
func DecodeHeader(f Fields, h Header) error {
	v := visitor{in: f}
	h.visit(&v)
	return v.err
}

// EncodeHeader appends h's fields. Optional fields that hold their zero value are left out.
func EncodeHeader(f Fields, h Header) Fields {
	v := visitor{out: &f, writing: true}
	h.visit(&v)
	return f
}

func (v *visitor) get(name string, n need) ([]byte, bool) {
	b, ok := v.in.Get(name)
	if !ok && n == required && v.err == nil {
		v.err = Errorf(RespSystemError, "the custom field <%s> is null", name)
	}
	return b, ok
}

func (v *visitor) bad(name string, value []byte, kind string) {
	if v.err == nil {
		v.err = Errorf(RespSystemError, "the custom field <%s> is not %s: %q", name, kind, value)
	}
}

func (v *visitor) str(name string, p *string, n need) {
	if v.writing {
		if n == required || *p != "" {
			v.out.Add(name, *p)
		}
		return
	}
	if b, ok := v.get(name, n); ok {
		*p = string(b)
	}
}

func (v *visitor) i64(name string, p *int64, n need) {
	if v.writing {
		if n == required || *p != 0 {
			v.out.Add(name, strconv.FormatInt(*p, 10))
		}
		return
	}
	if b, ok := v.get(name, n); ok {
		x, ok := ParseInt(b)
		if !ok {
			v.bad(name, b, "a long")
			return
		}
		*p = x
	}
}

func (v *visitor) i32(name string, p *int32, n need) {
	if v.writing {
		if n == required || *p != 0 {
			v.out.Add(name, strconv.Itoa(int(*p)))
		}
		return
	}
	if b, ok := v.get(name, n); ok {
		x, ok := ParseInt(b)
		if !ok || x < math.MinInt32 || x > math.MaxInt32 {
			v.bad(name, b, "an int")
			return
		}
		*p = int32(x)
	}
}

func (v *visitor) boolean(name string, p *bool, n need) {
	if v.writing {
		if n == required || *p {
			v.out.Add(name, strconv.FormatBool(*p))
		}
		return
	}
	if b, ok := v.get(name, n); ok {
		*p = string(b) == "true" || string(b) == "TRUE" || string(b) == "True" // Boolean.parseBoolean
	}
}

// NewRequest returns a request in the JSON serialisation, which carries every code.
func NewRequest(code RequestCode, h Header) *Command {
	c := &Command{Code: int32(code), Language: LanguageGo, Version: Version}
	if h != nil {
		c.Fields = EncodeHeader(nil, h)
	}
	return c
}

// NewResponse returns an answer with a header (nil for none).
func NewResponse(code ResponseCode, h Header) *Command {
	c := &Command{Code: int32(code)}
	if h != nil {
		c.Fields = EncodeHeader(nil, h)
	}
	return c
}

// Check returns the error that a response stands for: nil for SUCCESS.
func (c *Command) Check() error {
	if ResponseCode(c.Code) == RespSuccess {
		return nil
	}
	return &Error{Code: ResponseCode(c.Code), Remark: string(c.Remark)}
}

// String describes the command for logs.
func (c *Command) String() string {
	if c.IsResponse() {
		return fmt.Sprintf("response %s opaque %d", ResponseCode(c.Code), c.Opaque)
	}
	return fmt.Sprintf("request %s opaque %d", RequestCode(c.Code), c.Opaque)
}
