package lite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/broker/transcript"
)

// TestTranscripts replays stories of one parent topic, P. Clients are named group/id.
func TestTranscripts(t *testing.T) {
	transcript.Play(t, "testdata/*.txt", func(*testing.T) (*strings.Builder, func(string) error) {
		s := &story{r: Registry{Max: 100}}
		return &s.out, s.play
	})
}

type story struct {
	r   Registry
	now int64
	out strings.Builder
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *story) woken(list []Client) {
	if len(list) == 0 {
		s.say("nobody is woken")
		return
	}
	s.say("woken: %s", strings.Join(ids(list), " "))
}

func (s *story) play(event string) error {
	words := strings.Fields(event)
	group, id, _ := strings.Cut(words[0], "/")
	c, verb, topics := Client{group, id}, words[1], words[2:]
	switch verb {
	case "subscribes", "alone": // besides what it has; alone: nobody else of its group
		added, evicted, err := s.r.Add(c, "P", topics, verb == "alone", 3, s.now)
		if quota := new(Quota); errors.As(err, &quota) {
			s.say("refused: the limit is %d", quota.Limit)
			return nil
		}
		s.say("new: %v", added)
		for _, e := range evicted {
			s.say("%s/%s has lost %s", e.Group, e.ID, e.Topic)
		}
	case "shares":
		first, err := s.r.Share(c, "P", s.now)
		s.say("first of its group: %v", first)
		return err
	case "waits":
		s.say("it waits: %v", s.r.Wait(c))
	case "pops":
		s.r.Begin(c, strings.Join(topics, ""), s.now)
		var got []string
		for topic, ok := s.r.Next(c); ok; topic, ok = s.r.Next(c) {
			s.r.Gave(c, topic)
			got = append(got, topic)
		}
		s.say("it looks into %v", got)
	case "gone":
		s.woken(s.r.Pass(c))
	case "arrives":
		s.woken(s.r.Arrived("P", words[0]))
	case "free":
		s.woken(s.r.Freed(topics[0], "P", words[0]))
	case "ms": // pass
		var n int64
		_, _ = fmt.Sscan(words[0], &n)
		s.now += n
		gone := ids(s.r.Expire(s.now - 1000))
		slices.Sort(gone)
		s.say("let go of: %v", gone)
	default:
		return fmt.Errorf("unknown event")
	}
	return nil
}
