package protocol

import (
	"encoding/json"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func addGolden(f *testing.F, part func(*Command, []byte) []byte) {
	for _, frame := range readGolden(f) {
		var c Command
		if err := Decode(frame, &c); err != nil {
			f.Fatal(err)
		}
		f.Add(part(&c, frame))
	}
}

func FuzzRecallHandle(f *testing.F) {
	f.Add(RecallHandle{"T", "b", 1763720000001, "id"}.String())
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseRecallHandle(s)
		if err != nil {
			return
		}
		if again, err := ParseRecallHandle(h.String()); err != nil || again != h {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}

// A header copies each of its fields once, or quotes one in an error.
const (
	headerCopies     = 2
	headersBytesMore = 64 << 10
)

func FuzzFrame(f *testing.F) {
	addGolden(f, func(_ *Command, frame []byte) []byte { return frame })
	f.Add([]byte("\x00\x00\x00\x0b\x00\x00\x00\x07{\"a\":1}"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		size, err := FrameSize(frame, DefaultFrameBytesMax)
		if err != nil || size == 0 || size > len(frame) {
			return
		}
		frame = frame[:size]
		var c, twice Command
		err = Decode(frame, &c)
		if again := Decode(frame, &twice); (err == nil) != (again == nil) {
			t.Fatalf("decoded twice: %v, then %v", err, again)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(meaningOf(&c), meaningOf(&twice)); diff != "" {
			t.Fatalf("decoded twice:\n%s", diff)
		}
		if cap(c.unescaped) > 2*len(frame)+16 || len(c.Fields) > headerFieldsMax {
			t.Fatalf("%d bytes became %d of text, %d fields", len(frame), cap(c.unescaped), len(c.Fields))
		}
		headers := everyHeader()
		if n, most := allocated(func() {
			for _, h := range headers {
				_ = DecodeHeader(c.Fields, h)
			}
		}), headersBytesMore+headerCopies*len(frame)*len(headers); n > uint64(most) {
			t.Fatalf("a frame of %d bytes became %d as headers, want at most %d", len(frame), n, most)
		}
		wantSameAgain(t, &c)
	})
}

// wantSameAgain encodes and decodes twice: after the first time invalid UTF-8 is gone and long remarks are cut.
func wantSameAgain(t *testing.T, c *Command) {
	t.Helper()
	for _, f := range c.Fields {
		if len(f.Key) > 1000 || len(f.Value) > 1<<16 {
			return // no command of ours has such, and a header is at most 16 MiB long
		}
	}
	c.Serialize = SerializeJSON
	once := mustDecode(t, AppendFrame(nil, c, 0))
	if int16(once.Version) == int16(c.Version) && fitsBinary(once) {
		once.Version = int32(int16(once.Version))
		once.Serialize = SerializeBinary
	}
	again := mustDecode(t, AppendFrame(nil, once, 0))
	if once.Language > 13 {
		once.Language = again.Language
	}
	if diff := cmp.Diff(meaningOf(once), meaningOf(again)); diff != "" {
		t.Fatalf("(-once +again)\n%s", diff)
	}
}

func FuzzJSONHeader(f *testing.F) {
	addGolden(f, func(c *Command, frame []byte) []byte { return frame[FrameHeadSize : len(frame)-len(c.Body)] })
	for _, q := range quirks {
		f.Add([]byte(q.header))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		var c Command
		if decodeJSONHeader(header, &c) != nil {
			return
		}
		for _, field := range c.Fields {
			if len(field.Key)+len(field.Value) > len(header) {
				t.Fatalf("field %q is longer than its header", field.Key)
			}
		}
		if cap(c.unescaped) > 2*len(header)+16 {
			t.Fatalf("%d bytes for a header of %d", cap(c.unescaped), len(header))
		}
	})
}

func FuzzBinaryHeader(f *testing.F) {
	addGolden(f, func(c *Command, frame []byte) []byte { return appendBinaryHeader(nil, c) })
	f.Fuzz(func(t *testing.T, header []byte) {
		var c Command
		if decodeBinaryHeader(header, &c) != nil || len(c.Remark) > remarkBytesMax {
			return
		}
		if got := appendBinaryHeader(nil, &c); string(got) != string(header[:len(got)]) {
			t.Fatalf("read %q, wrote %q", header, got)
		}
	})
}

func FuzzStandardJSON(f *testing.F) {
	addGolden(f, func(c *Command, _ []byte) []byte { return c.Body })
	for _, d := range dialect {
		f.Add([]byte(d.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := StandardJSON(in)
		if err != nil {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q", in, out)
		}
		// A control character takes seven bytes, quoted within a key; no nesting makes it more.
		if len(out) > 8*len(in)+16 {
			t.Fatalf("%d bytes became %d", len(in), len(out))
		}
		if !utf8.Valid(out) {
			t.Fatalf("%q is not UTF-8", out)
		}
	})
}

// What a body may become: a few hundred bytes for each of its values, of which the shortest takes two bytes, in each of fastjson's two readings.
const (
	bodyBytesPerByte = 512
	bodyBytesMore    = 64 << 10
)

func FuzzBodies(f *testing.F) {
	addGolden(f, func(c *Command, _ []byte) []byte { return c.Body })
	f.Fuzz(func(t *testing.T, body []byte) {
		all, most := everyBody(), uint64(len(body)*bodyBytesPerByte+bodyBytesMore)
		read := func(into any) {
			if UnmarshalBody(body, into) == nil {
				MarshalBody(into)
			}
		}
		if allocated(func() {
			for _, into := range all {
				read(into)
			}
		}) <= most {
			return
		}
		for _, into := range everyBody() { // together they may need more
			if n := allocated(func() { read(into) }); n > most {
				t.Fatalf("%T: %d bytes became %d, want at most %d", into, len(body), n, most)
			}
		}
	})
}

func FuzzParseInt(f *testing.F) {
	for _, s := range []string{"0", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "", "-", "+1", "1_0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseInt([]byte(s))
		want, err := strconv.ParseInt(s, 10, 64)
		if ok && (err != nil || got != want) {
			t.Fatalf("%q: %d, want %d, %v", s, got, want, err)
		}
		if !ok && err == nil && len(s) < 20 && s[0] != '+' {
			t.Fatalf("%q is refused", s)
		}
	})
}
