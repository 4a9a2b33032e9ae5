package compaction

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/broker/transcript"
)

func TestTranscripts(t *testing.T) {
	transcript.Play(t, "testdata/*.txt", func(*testing.T) (*strings.Builder, func(string) error) {
		var (
			p             Plan
			now, interval int64 = 0, 900_000
			retiring      int64
			out           strings.Builder
		)
		say := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
		next := func() {
			switch do, at := p.Next(now, interval); do {
			case Age:
				say("a round: compact what the last one saw")
			case Retire:
				retiring = at
				say("compact and copy all before %d", at)
			case Rest:
				say("rest for %d ms", at-now)
			}
		}
		return &out, func(event string) error {
			var n int64
			scan := func(format string) bool {
				read, err := fmt.Sscanf(event, format, &n)
				return err == nil && read == 1
			}
			switch {
			case scan("pass %d ms"):
				now += n
				next()
			case scan("interval %d ms"):
				interval = n
				next()
			case scan("retention wants %d"):
				if from := p.NeededFrom(n); from == math.MaxInt64 {
					say("nothing is needed")
				} else {
					say("needed from %d on", from)
				}
				next()
			case event == "done":
				p.Retired(retiring, now, nil)
				next()
			case event == "fails":
				p.Retired(retiring, now, errors.New("the disk"))
				next()
			default:
				return errors.New("unknown event")
			}
			return nil
		}
	})
}
