package cold

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apogeemq/apogee/broker/transcript"
)

func TestTranscripts(t *testing.T) {
	transcript.Play(t, "testdata/*.txt", func(*testing.T) (*strings.Builder, func(string) error) {
		w := newWindows(Options{GroupBytes: 100, GlobalBytes: 1000})
		var out strings.Builder
		say := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
		return &out, func(event string) error {
			var group string
			var n int64
			scan := func(format string, into ...any) bool {
				read, err := fmt.Sscanf(event, format, into...)
				return err == nil && read == len(into)
			}
			switch {
			case scan("%s reads %d", &group, &n):
				w.Read(group, n, w.now)
				fallthrough
			case scan("%s asks", &group):
				if w.Exhausted(group, w.o) {
					say("enough for this window")
				} else {
					say("it may read on")
				}
			case scan("%s may read %d", &group, &n):
				w.SetLimit(group, n)
			case scan("%s may read as others", &group):
				w.Remove(group)
			case scan("pass %d s", &n):
				w.now = w.now.Add(time.Duration(n) * time.Second)
				w.Tick(w.now, w.o)
				info := w.Info(w.o)
				say("known: %s; limits %v", slices.Sorted(maps.Keys(info.Readers)), info.Limits)
			case event == "limits follow":
				w.o.Adaptive = true
			default:
				return fmt.Errorf("unknown event")
			}
			return nil
		}
	})
}
