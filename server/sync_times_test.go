package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTheFirstSyncsAreToldOnce(t *testing.T) {
	for _, c := range []struct {
		name    string
		awaited bool
		took    time.Duration // most of them
		want    []string
	}{
		{"fast", true, 100 * time.Microsecond, []string{"level=INFO", "p50=100µs", "p99=30ms"}},
		{"slow", true, 6 * time.Millisecond, []string{"level=WARN", "p50=6ms", "p99=30ms", "slowFrom=5ms", "--flush-disk-type ASYNC_FLUSH"}},
		{"nobody waits", false, 6 * time.Millisecond, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			s := newSyncTimes(c.awaited, slog.New(slog.NewTextHandler(&out, nil)))
			for i := range 3 * syncsSampled {
				if i == syncsSampled-1 && out.Len() > 0 {
					t.Errorf("told after %d syncs: %s", i, &out)
				}
				took := c.took
				if i < 2 {
					took = 30 * time.Millisecond
				}
				s.note(took)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not in: %s", want, &out)
				}
			}
			if got, want := strings.Count(out.String(), "\n"), min(len(c.want), 1); got != want {
				t.Errorf("%d lines, want %d: %s", got, want, &out)
			}
		})
	}
}
