package message

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzAppendWithout compares the copy of whole runs with one pair after the other.
func FuzzAppendWithout(f *testing.F) {
	f.Add([]byte("TAGS\x01a\x02KEYS\x01b\x02REAL_TOPIC\x01t\x02"), []byte(""))
	f.Add([]byte("REAL_TOPIC\x01t\x02\x01x\x02a\x01\x02b\x02c\x01d\x01e"), []byte("x\x01y"))
	f.Add([]byte("\x02\x02TAGS\x01a"), []byte("x\x01y\x02"))
	f.Fuzz(func(t *testing.T, p, before []byte) {
		drop := []string{PropTags, PropRealTopic, "x"}
		want := slices.Clone(before)
		for k, v := range Properties(p) {
			if !slices.Contains(drop, string(k)) {
				want = AppendProperty(want, string(k), v)
			}
		}
		if got := AppendWithout(slices.Clone(before), p, drop...); !bytes.Equal(got, want) {
			t.Errorf("AppendWithout(%q, %q) = %q, want %q", before, p, got, want)
		}
	})
}
