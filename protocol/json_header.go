package protocol

import (
	"fmt"
	"math"
	"strconv"
)

// The JSON header (RemotingSerializable): a flat object with one nested object, extFields. It is read in place by hand: this is the
// hot path of every Java client, and its strings rarely need unescaping.

func decodeJSONHeader(b []byte, c *Command) error {
	s := jsonScanner{b: b, unescaped: c.unescaped}
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
			if !s.null() {
				c.Remark, err = s.scalar()
			}
		case "extFields":
			err = s.fields(c)
		default:
			err = s.skip(0)
		}
		return err
	})
	c.unescaped = s.unescaped
	if err != nil {
		return fmt.Errorf("%w: JSON header at byte %d: %w", ErrFrame, s.i, err)
	}
	return nil
}

// fields reads extFields. Nulls are left out.
func (s *jsonScanner) fields(c *Command) error {
	if s.null() {
		return nil
	}
	if err := s.want('{'); err != nil {
		return err
	}
	if s.next() == '}' {
		s.i++
		return nil
	}
	fields := c.Fields // a local: the loop is faster
	defer func() { c.Fields = fields }()
	for {
		key, value, ok := s.compactField()
		if !ok {
			var err error
			if key, value, err = s.field(); err != nil {
				return err
			}
		}
		if value != nil {
			if len(fields) == headerFieldsMax {
				return errFields
			}
			fields = append(fields, Field{key, value})
		}
		if s.next() != ',' {
			return s.want('}')
		}
		s.i++
	}
}

// field reads a field that may have spaces and escapes; the value of a null is nil.
func (s *jsonScanner) field() (key, value []byte, err error) {
	if key, err = s.scalar(); err != nil {
		return nil, nil, err
	}
	if err = s.want(':'); err != nil || s.null() {
		return key, nil, err
	}
	value, err = s.scalar()
	return key, value, err
}

func (s *jsonScanner) int32(key []byte) (int32, error) {
	if s.null() {
		return 0, nil
	}
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
		dst = AppendJSONString(dst, cutRemark(c.Remark))
	}
	dst = append(dst, `,"serializeTypeCurrentRPC":"JSON","version":`...)
	dst = strconv.AppendInt(dst, int64(c.Version), 10)
	return append(dst, '}')
}
