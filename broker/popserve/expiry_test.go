package popserve

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// expiryHost is what the expiry of lite topics asks of a broker. Its clock stands where a test puts it.
type expiryHost struct {
	Host
	now       time.Time
	minutes   map[string]int64
	forgotten []string
}

func (h *expiryHost) Now() time.Time     { return h.now }
func (h *expiryHost) Settings() Settings { return Settings{LiteKeptMin: 15 * time.Minute} }
func (h *expiryHost) LiteParents() (map[string]int64, map[string][]string) {
	return h.minutes, map[string][]string{"P": {"G"}}
}
func (h *expiryHost) ForgetOffsets(keys []Key, done func(error)) {
	for _, k := range keys {
		h.forgotten = append(h.forgotten, fmt.Sprint(k.Group, " in ", k.Topic))
	}
	done(nil)
}

func TestOldLiteTopicsGo(t *testing.T) {
	h := &expiryHost{now: time.UnixMilli(1763720000000), minutes: map[string]int64{"P": 20, "Short": 1, "Ever": -1}}
	fs := vfs.NewMem()
	s, _, err := store.Open(store.Config{FS: fs, Files: commitlog.NewVFSFiles(fs), Dir: "data", SegmentBytes: 1 << 20, MultiDispatch: true, Now: h.Now, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, err := New(h, s, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	send := func(queue string) {
		t.Helper()
		done := make(chan error, 1)
		r := message.Record{Topic: []byte("T"), Body: []byte("x"), Properties: message.AppendProperty(nil, message.PropMultiDispatch, []byte(queue))}
		batch := &store.Batch{Entries: []store.Entry{s.EntryFor(r, s.Queue("T", 0))}, Done: func(_ *store.Batch, err error) { done <- err }}
		if err := s.Append(batch); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	left := func(want ...string) {
		t.Helper()
		v.expireLites(h.now)
		s.Settle()
		got := s.LightTopics(message.LMQPrefix)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("after %v there are %q, want %q", h.now.Sub(time.UnixMilli(1763720000000)), got, want)
		}
	}
	for _, queue := range []string{"%LMQ%$P$a", "%LMQ%$P$b", "%LMQ%$Short$a", "%LMQ%$Ever$a", "%LMQ%$Unknown$a", "%LMQ%other"} {
		send(queue)
	}
	h.now = h.now.Add(14 * time.Minute)
	left("%LMQ%$Ever$a", "%LMQ%$P$a", "%LMQ%$P$b", "%LMQ%$Short$a", "%LMQ%$Unknown$a", "%LMQ%other")
	h.now = h.now.Add(2 * time.Minute) // minLiteTTl is longer than what Short says
	left("%LMQ%$Ever$a", "%LMQ%$P$a", "%LMQ%$P$b", "%LMQ%$Unknown$a", "%LMQ%other")
	send("%LMQ%$P$b")
	h.now = h.now.Add(5 * time.Minute)
	left("%LMQ%$Ever$a", "%LMQ%$P$b", "%LMQ%$Unknown$a", "%LMQ%other")
	if want := []string{"G in %LMQ%$P$a"}; !slices.Equal(h.forgotten, want) {
		t.Errorf("forgotten is %q, want %q", h.forgotten, want)
	}
	send("%LMQ%$P$a") // it begins anew
	if first, end := s.Find("%LMQ%$P$a", 0).Bounds(); first != 0 || end != 1 {
		t.Errorf("made anew it has offsets %d to %d", first, end)
	}
	h.minutes["P"] = 15
	h.now = h.now.Add(15*time.Minute + 1)
	left("%LMQ%$Ever$a", "%LMQ%$P$a", "%LMQ%$Unknown$a", "%LMQ%other")
}
