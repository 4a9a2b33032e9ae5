package pop

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/broker/transcript"
)

// story plays a transcript: lines that begin with "> " are events, the others what came of them.
type story struct {
	q       Queue
	disk    map[string][]byte
	now     int64
	number  int32
	batches map[string]int64 // ordered deliveries by attempt
	out     strings.Builder
}

func TestTranscripts(t *testing.T) {
	transcript.Play(t, "testdata/*.txt", func(t *testing.T) (*strings.Builder, func(string) error) {
		s := &story{disk: map[string][]byte{}, batches: map[string]int64{}}
		return &s.out, func(event string) error {
			s.play(t, event)
			return nil
		}
	})
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *story) write(writes []Write) {
	for _, w := range writes {
		if w.Value == nil {
			delete(s.disk, w.Key)
		} else {
			s.disk[w.Key] = w.Value
		}
	}
}

func (s *story) ended(writes []Write, outcome Outcome) {
	s.write(writes)
	s.say("%s; low %d", [...]string{"done", "already", "over"}[outcome], s.q.Low())
}

// play takes one event: a word, and numbers.
func (s *story) play(t *testing.T, event string) {
	word, rest, _ := strings.Cut(event, " ")
	var a, b, c int64
	_, _ = fmt.Sscan(rest, &a, &b, &c)
	switch word {
	case "pass": // ms
		s.now += a
	case "pop": // count, invisible: numbered from 1 on
		s.number++
		start, _ := s.q.Next()
		var offsets []int64
		for i := range a {
			offsets = append(offsets, start+i)
		}
		s.write(s.q.Popped(nil, RunID{s.now + b, start, s.now, s.number}, offsets, start+a))
		s.say("delivery %d: %d; low %d", s.number, offsets, s.q.Low())
	case "ack": // delivery, offset
		s.ended(s.q.Ack(nil, s.run(int32(a)), b))
	case "renew": // delivery, offset, invisible
		s.number++
		s.ended(s.q.Renew(nil, s.run(int32(a)), b, RunID{s.now + c, b, s.now, s.number}, false))
	case "due":
		for _, r := range s.q.Due(s.now, 10, func(*Run) bool { return false }) {
			s.say("delivery %d is over: %d left of %d on", r.Number, slices.Collect(r.Left.All), r.Start)
			s.q.Revived(r.RunID)
			delete(s.disk, r.Key())
		}
	case "crash":
		s.q = Queue{}
		for _, key := range slices.Sorted(maps.Keys(s.disk)) {
			if err := s.q.Load(key, s.disk[key]); err != nil {
				t.Fatal(err)
			}
		}
		next, _ := s.q.Next()
		s.say("next %d, low %d", next, s.q.Low())
	default:
		s.playOrdered(t, word, rest)
	}
}

// run finds a delivery by its number, on the disk or, when it is over, by that alone.
func (s *story) run(number int32) RunID {
	for key := range s.disk {
		if r, err := ParseRun(key, s.disk[key]); err == nil && r.Number == number {
			return r.RunID
		}
	}
	return RunID{Number: number}
}

// playOrdered takes events that name an attempt first.
func (s *story) playOrdered(t *testing.T, word, rest string) {
	var attempt string
	var a, b int64
	_, _ = fmt.Sscan(rest, &attempt, &a, &b)
	switch word {
	case "order": // attempt, count, invisible
		if s.q.Blocked(attempt, s.now) {
			s.say("blocked until %d", s.q.Free())
			return
		}
		start := s.q.NextOrdered()
		var offsets []int64
		for i := range a {
			offsets = append(offsets, start+i)
		}
		s.batches[attempt] = s.q.Time(s.now)
		writes, counts := s.q.PoppedOrdered(nil, attempt, s.batches[attempt], b, offsets)
		s.write(writes)
		s.say("at %d: %d, attempts %v; low %d", s.batches[attempt], offsets, counts, s.q.Low())
	case "acko": // attempt, offset
		s.ended(s.q.AckOrdered(nil, s.batches[attempt], a))
	case "renewo": // attempt, offset, when it is visible
		s.ended(s.q.RenewOrdered(nil, s.batches[attempt], a, b))
	default:
		t.Fatalf("unknown event %q", word)
	}
}
