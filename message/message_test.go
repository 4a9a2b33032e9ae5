package message

import (
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

func TestRecordsOfEveryShape(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("[2001:db8::1]:65535")
	for name, change := range map[string]func(*Record){
		"IPv4":               func(*Record) {},
		"IPv6 born host":     func(r *Record) { r.BornHost = v6 },
		"IPv6 store host":    func(r *Record) { r.StoreHost = v6 },
		"IPv6 both":          func(r *Record) { r.BornHost, r.StoreHost = v6, v6 },
		"mapped IPv4":        func(r *Record) { r.BornHost = netip.MustParseAddrPort("[::ffff:10.0.0.1]:1") },
		"no host":            func(r *Record) { r.BornHost = netip.AddrPort{} },
		"flags that lie":     func(r *Record) { r.SysFlag = FlagBornHostV6 | FlagStoreHostV6 | FlagCompressed },
		"topic of 127 bytes": func(r *Record) { r.Topic = []byte(strings.Repeat("t", 127)) },
		"topic of 128 bytes": func(r *Record) { r.Topic = []byte(strings.Repeat("t", 128)) },
		"topic of 255 bytes": func(r *Record) { r.Topic = []byte(strings.Repeat("t", 255)) },
		"no properties":      func(r *Record) { r.Properties = nil },
		"open properties":    func(r *Record) { r.Properties = []byte("a\x01b") },
		"longest properties": func(r *Record) { r.Properties = []byte(strings.Repeat("p", MaxPropertiesSize-CRCPropertySize-1)) },
		"no body":            func(r *Record) { r.Body = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := benchRecord(100)
			r.BornHost, r.StoreHost = v4, v4
			change(r)
			dst := make([]byte, r.EncodedSize())
			r.Encode(dst, crc32.ChecksumIEEE(r.Body))
			got, n, err := Decode(dst)
			if err != nil || n != len(dst) {
				t.Fatalf("%d of %d bytes: %v", n, len(dst), err)
			}
			if err := got.Verify(dst); err != nil {
				t.Error(err)
			}
			if string(got.Topic) != string(r.Topic) || string(got.Body) != string(r.Body) || got.QueueOffset != r.QueueOffset {
				t.Errorf("%+v", got)
			}
			for cut := range dst {
				if _, _, err := Decode(dst[:cut]); !errors.Is(err, ErrIncomplete) {
					t.Fatalf("%d of %d bytes: %v, want ErrIncomplete", cut, len(dst), err)
				}
			}
		})
	}
}

func TestRecordsThatDoNotAddUp(t *testing.T) {
	r := benchRecord(100)
	whole := make([]byte, r.EncodedSize())
	r.Encode(whole, crc32.ChecksumIEEE(r.Body))
	for name, c := range map[string]struct {
		at   int
		b    string
		want error
	}{
		"magic":              {4, "\xca\xfe\xba\xbe", ErrMagic},
		"filler":             {4, "\xcb\xd4\x31\x94", ErrMagic},
		"total too small":    {0, "\x00\x00\x00\x10", ErrSizes},
		"total too large":    {0, "\x7f\xff\xff\xff", ErrIncomplete},
		"body length":        {84, "\x00\x00\x00\x65", ErrSizes},
		"negative body":      {84, "\xff\xff\xff\xff", ErrSizes},
		"topic length":       {88 + 100, "\xff", ErrSizes},
		"version of a topic": {7, "\xab", ErrSizes},
		"IPv6 flags":         {39, "\x30", ErrSizes},
	} {
		b := []byte(string(whole))
		copy(b[c.at:], c.b)
		if _, _, err := Decode(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestOffsetIDs(t *testing.T) {
	for _, c := range []struct {
		host   string
		offset int64
		id     string
	}{
		{"127.0.0.1:10911", 0x1fc, "7F00000100002A9F00000000000001FC"},
		{"[2001:db8::1]:10911", 1 << 40, "20010DB800000000000000000000000100002A9F0000010000000000"},
	} {
		id := string(AppendOffsetID(nil, netip.MustParseAddrPort(c.host), c.offset))
		if id != c.id {
			t.Errorf("%s at %d: %s, want %s", c.host, c.offset, id, c.id)
		}
		host, offset, err := ParseOffsetID(strings.ToLower(id))
		if err != nil || host.String() != c.host || offset != c.offset {
			t.Errorf("%s: %s at %d, %v", id, host, offset, err)
		}
	}
	for _, id := range []string{"", "7F", strings.Repeat("x", 32), strings.Repeat("0", 34), "7F000001FFFF2A9F00000000000001FC"} {
		if host, offset, err := ParseOffsetID(id); err == nil {
			t.Errorf("%q is %s at %d", id, host, offset)
		}
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 250)
	for name, want := range map[string]string{
		"T": "", "%RETRY%g": "", "a|b_c-D9": "", long[:127]: "", RetryPrefix + long[:240]: "",
		"": "blank", " \t": "blank", "a b": "allowing only ^[%|a-zA-Z0-9_-]+$: not ' '", "日": "illegal", "a/b": "illegal",
		long[:128]: "max length: 127", DLQPrefix + long + "a": "max length: 255",
	} {
		if err := CheckTopic(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("topic %q: %v, want %q", name, err, want)
		}
	}
	for name, want := range map[string]string{"g": "", long[:120]: "", "": "blank", "a b": "illegal", long[:121]: "max length: 120"} {
		if err := CheckGroup(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("group %q: %v, want %q", name, err, want)
		}
	}
	for _, topic := range []string{TopicSchedule, TopicHalf, TopicOpHalf, TopicCheckMax, TopicSelfTest, TopicOffsetMoved, StatePrefix + "x"} {
		if !IsForbiddenToSend(topic) || !IsSystemTopic(topic) {
			t.Errorf("clients may send to %s", topic)
		}
	}
	if IsForbiddenToSend(TopicTrace) || IsSystemTopic("T") {
		t.Error("clients may send traces, and own T")
	}
}
