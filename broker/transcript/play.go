package transcript

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the transcripts' answers anew")

// Play replays the transcripts whose paths match a pattern. Begin makes a world for one: what it says goes to out, and event takes one event.
func Play(t *testing.T, pattern string, begin func(t *testing.T) (out *strings.Builder, event func(line string) error)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out, event := begin(t)
			for line := range strings.Lines(string(text)) {
				words, ok := strings.CutPrefix(line, "> ")
				if ok || line == "\n" || line[0] == '#' {
					out.WriteString(line)
				}
				if !ok {
					continue
				}
				if err := event(strings.TrimSpace(words)); err != nil {
					t.Fatalf("%s: %v", words, err)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if out.String() != string(text) {
				t.Errorf("now it goes:\n%s", out)
			}
		})
	}
}
