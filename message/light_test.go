package message

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLightQueuesAreNamesWithThePrefix(t *testing.T) {
	for list, want := range map[string]string{
		"": "", " ": "", ",": "", "%LMQ%a": "%LMQ%a", "%LMQ%a,%LMQ%b%c,,": "%LMQ%a %LMQ%b%c", "%LMQ%": "%LMQ%",
		"a": "refused", "%LMQ%a,b": "refused", "%LMQ%a,,%LMQ%b": "refused", "%LMQ%a/b": "refused", "%LMQ%\x00": "refused",
		"%LMQ%" + strings.Repeat("x", 251): "refused",
	} {
		names, ok := LightQueues([]byte(list))
		got := "refused"
		if ok {
			var all []string
			for _, name := range names {
				all = append(all, string(name))
			}
			got = strings.Join(all, " ")
		}
		if got != want {
			t.Errorf("%.40q: %s, want %s", list, got, want)
		}
	}
}

func TestStampsAreReadBackAsTheyWerePut(t *testing.T) {
	p, at := AppendStamps([]byte("KEYS\x01k"), PropMultiOffset, 3)
	if n := len("KEYS\x01k\x02") + StampsSize(PropMultiOffset, 3); len(p) != n {
		t.Errorf("%d bytes, want %d", len(p), n)
	}
	want := []int64{0, 7, 1<<63 - 1}
	for i, offset := range want {
		PutStamp(p[at+i*(StampSize+1):], offset)
	}
	got, ok := LightOffsets(Property(p, PropMultiOffset))
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("%q: %s", p, diff)
	}
	if _, ok := LightOffsets([]byte("1,")); ok {
		t.Error("a missing offset was read")
	}
	if string(Property(p, PropKeys)) != "k" {
		t.Errorf("%q", p)
	}
}
