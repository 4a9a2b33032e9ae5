package message

import (
	"bufio"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readGolden returns records as RocketMQ's broker stored them.
func readGolden(t testing.TB) (records [][]byte) {
	t.Helper()
	f, err := os.Open("testdata/apache/records.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		text, err := strconv.Unquote(s.Text())
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, []byte(text))
	}
	return records
}

func TestGoldenRecords(t *testing.T) {
	// Tag and what Java's hashCode says of it, in the order of the file.
	tags := []struct {
		body, tag, keys string
		hash            int32
	}{
		{"hello", "TagA", "key1 key2", 2598919},
		{"batch0", "标签0", "bk0", 26572473}, {"batch1", "标签1", "bk1", 26572474}, {"batch2", "标签2", "bk2", 26572475},
		{"oneway", "TagB", "", 2598920},
		{"café", "café", "", 3045921},
		{"中文", "中文", "", 646394},
		{"🚀rocket", "🚀rocket", "", -1579737481},
		{"Tag With Space", "Tag With Space", "", -780929646},
		{"aVeryLongTagNameWhoseHashOverflowsTheIntegerRange", "aVeryLongTagNameWhoseHashOverflowsTheIntegerRange", "", -904097973},
		{"hello from go", "TagA", "gk1 gk2", 2598919},
	}
	records := readGolden(t)
	if len(records) < len(tags) {
		t.Fatalf("%d records", len(records))
	}
	for i, want := range tags {
		r, n, err := Decode(records[i])
		if err != nil || n != len(records[i]) {
			t.Fatalf("record %d: %d of %d bytes: %v", i, n, len(records[i]), err)
		}
		if err := r.Verify(records[i]); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
		tag := Property(r.Properties, PropTags)
		if string(r.Body) != want.body || string(tag) != want.tag || string(Property(r.Properties, PropKeys)) != want.keys {
			t.Errorf("record %d: body %q, properties %q; want %+v", i, r.Body, r.Properties, want)
		}
		if got := TagsCode(tag); got != int64(want.hash) {
			t.Errorf("hash of %q: %d, want %d", tag, got, want.hash)
		}
		if string(r.Topic) != "GoldenTopic" || r.StoreHost.String() != "127.0.0.1:10911" || r.BornTime < 1795257235949 || r.StoreTime < r.BornTime {
			t.Errorf("record %d: %+v", i, r)
		}
	}
}

// What we write of a recorded message differs from the recording in total size, properties and their checksum only.
func TestGoldenRecordsAreWrittenAlike(t *testing.T) {
	for i, raw := range readGolden(t) {
		r, _, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, r.EncodedSize())
		r.Encode(dst, crc32.ChecksumIEEE(r.Body))
		propertiesAt := len(raw) - len(r.Properties)
		if diff := cmp.Diff(raw[4:propertiesAt-2], dst[4:propertiesAt-2]); diff != "" {
			t.Errorf("record %d: (-RocketMQ +Apogee)\n%s", i, diff)
		}
		if got := string(dst[propertiesAt : len(dst)-CRCPropertySize]); got != string(r.Properties) {
			t.Errorf("record %d: properties %q, want %q", i, got, r.Properties)
		}
	}
}
