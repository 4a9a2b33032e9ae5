package message

import (
	"bytes"
	"errors"
	"hash/crc32"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// wantNoAllocation is for readers whose results alias what they read: however it is made, it cannot cost memory.
func wantNoAllocation(t *testing.T, what string, read func()) {
	t.Helper()
	if n := testing.AllocsPerRun(10, read); n != 0 {
		t.Fatalf("%s allocates %v times", what, n)
	}
}

func FuzzRecord(f *testing.F) {
	for _, raw := range readGolden(f) {
		f.Add(raw)
	}
	for _, size := range []int{0, 1, 3000} {
		r := benchRecord(size)
		dst := make([]byte, r.EncodedSize())
		r.Encode(dst, crc32.ChecksumIEEE(r.Body))
		f.Add(dst)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := Decode(b)
		if err != nil {
			return
		}
		if n > len(b) || len(r.Body)+len(r.Topic)+len(r.Properties) > n {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
		wantNoAllocation(t, "Decode", func() { _, _, _ = Decode(b) })
		_ = r.Verify(b[:n])
		end, err := BodyEnd(b[:min(n, HeadSize)], n)
		if err != nil {
			t.Fatal(err)
		}
		_, magic := Peek(b)
		if p, err := PropertiesBehindBody(b[end:n], magic); err != nil || !bytes.Equal(p, r.Properties) {
			t.Fatalf("without the body the properties are %q, %v, want %q", p, err, r.Properties)
		}
		if r.EncodedPropertiesSize() > MaxPropertiesSize || len(r.Topic) > 127 != (b[7] == MagicV2&0xff) {
			return // such as no producer may send
		}
		if r.BornHost.Addr().Is4In6() || r.StoreHost.Addr().Is4In6() {
			return // written as IPv4
		}
		dst := make([]byte, r.EncodedSize())
		r.Encode(dst, crc32.ChecksumIEEE(r.Body))
		again, m, err := Decode(dst)
		if err != nil || m != len(dst) || again.Verify(dst) != nil {
			t.Fatalf("%+v: encoded, then %v, %v", r, err, again.Verify(dst))
		}
		again.Properties = again.Properties[:len(again.Properties)-CRCPropertySize]
		if needsSeparator(r.Properties) {
			again.Properties = again.Properties[:len(again.Properties)-1]
		}
		r.BodyCRC = BodyCRC(r.Body)
		r.SysFlag = again.SysFlag&(FlagBornHostV6|FlagStoreHostV6) | r.SysFlag&^(FlagBornHostV6|FlagStoreHostV6)
		if diff := cmp.Diff(r, again, cmpopts.EquateComparable(r.BornHost), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-decoded +again)\n%s", diff)
		}
	})
}

func FuzzProperties(f *testing.F) {
	for _, raw := range readGolden(f) {
		r, _, err := Decode(raw)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.Properties, "TAGS")
	}
	f.Add([]byte("a\x01b\x02c\x02\x01d\x02e\x01\x02f\x01g\x01h"), "f")
	f.Fuzz(func(t *testing.T, p []byte, name string) {
		wantNoAllocation(t, "Properties", func() {
			for range Properties(p) {
			}
			_ = Property(p, name)
		})
		first := map[string]string{}
		pairs := 0
		for k, v := range Properties(p) {
			pairs++
			if _, ok := first[string(k)]; !ok {
				first[string(k)] = string(v)
			}
		}
		for k, v := range first {
			if got := Property(p, k); string(got) != v {
				t.Fatalf("%q in %q: %q, want %q", k, p, got, v)
			}
		}
		kept := 0
		for k := range Properties(AppendWithout(nil, p, name)) {
			if string(k) == name {
				t.Fatalf("%q is left in %q", name, p)
			}
			kept++
		}
		if _, there := first[name]; !there && kept != pairs {
			t.Fatalf("%d of %d pairs are left of %q", kept, pairs, p)
		}
		if bytes.ContainsAny([]byte(name), "\x01\x02") || name == "" || first[name] != "" {
			return
		}
		if got := Property(AppendProperty(bytes.Clone(p), name, []byte("v")), name); string(got) != "v" {
			t.Fatalf("%q appended to %q: %q", name, p, got)
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add(AppendBatchItem(AppendBatchItem(nil, BatchItem{Flag: 7, Body: []byte("a"), Properties: []byte("k\x01v\x02")}), BatchItem{Body: []byte("b")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			it, rest, err := NextBatchItem(b)
			if err != nil {
				if !errors.Is(err, ErrSizes) {
					t.Fatal(err)
				}
				return
			}
			wantNoAllocation(t, "NextBatchItem", func() { _, _, _ = NextBatchItem(b) })
			again, none, err := NextBatchItem(AppendBatchItem(nil, it))
			if err != nil || len(none) != 0 {
				t.Fatalf("%+v: %d bytes left, %v", it, len(none), err)
			}
			if diff := cmp.Diff(it, again, cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
			b = rest
		}
	})
}

func FuzzOffsetID(f *testing.F) {
	f.Add("7F00000100002A9F00000000000001FC")
	f.Add("20010DB800000000000000000000000100002A9F0000000000000001")
	f.Fuzz(func(t *testing.T, id string) {
		host, offset, err := ParseOffsetID(id)
		if err != nil || host.Addr().Is4In6() {
			return
		}
		if got := AppendOffsetID(nil, host, offset); string(got) != string(bytes.ToUpper([]byte(id))) {
			t.Fatalf("%q came back as %q", id, got)
		}
	})
}

func FuzzJavaHash(f *testing.F) {
	for _, s := range []string{"", "TagA", "中文", "🚀", "a\xff\xfe🚀\xf0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var want int32
		for _, unit := range utf16.Encode([]rune(s)) {
			want = 31*want + int32(unit)
		}
		if got := JavaHash([]byte(s)); got != want {
			t.Fatalf("%q: %d, want %d", s, got, want)
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"", " ", "T", "%RETRY%g", "a b", "日本", "rmq_sys_apogee_topics"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_ = CheckTopic(s)
		_ = CheckGroup(s)
		if IsStateTopic(s) && (!IsSystemTopic(s) || !IsForbiddenToSend(s)) {
			t.Fatalf("%q is state that a client may touch", s)
		}
	})
}
