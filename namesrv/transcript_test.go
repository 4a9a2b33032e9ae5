package namesrv

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what happened into the transcripts")

// step is a directive of a transcript: a command with name=value arguments, lines of input, "----", and the output up to a blank line.
type step struct {
	at, cmd  string
	args     []string
	input    string
	expected string
}

func (s *step) fatalf(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Fatalf("%s: %s: %s", s.at, s.cmd, fmt.Sprintf(format, args...))
}

// arg reads an argument into a variable and says whether it was given.
func (s *step) arg(t *testing.T, name string, into any) bool {
	t.Helper()
	for _, a := range s.args {
		if value, ok := strings.CutPrefix(a, name+"="); ok {
			if text, isText := into.(*string); isText {
				*text = value
			} else if _, err := fmt.Sscan(value, into); err != nil {
				s.fatalf(t, "%s: %v", a, err)
			}
			return true
		}
	}
	return false
}

func (s *step) mustArg(t *testing.T, name string, into any) {
	t.Helper()
	if !s.arg(t, name, into) {
		s.fatalf(t, "no argument %s", name)
	}
}

// runTranscripts runs every transcript of a folder. run gives a step's output.
func runTranscripts(t *testing.T, dir string, run func(*testing.T, *step) string) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts in %s: %v", dir, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) { runTranscript(t, path, *rewrite, run) })
	}
}

func runTranscript(t *testing.T, path string, rewriting bool, run func(*testing.T, *step) string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	var out []string
	for i := 0; i < len(lines); {
		if lines[i] == "" || lines[i][0] == '#' {
			out = append(out, lines[i])
			i++
			continue
		}
		words := strings.Fields(lines[i])
		s := step{at: fmt.Sprintf("%s:%d", path, i+1), cmd: words[0], args: words[1:]}
		out = append(out, lines[i])
		for i++; lines[i] != "----"; i++ {
			out = append(out, lines[i])
			s.input += lines[i] + "\n"
		}
		out = append(out, "----")
		for i++; i < len(lines) && lines[i] != ""; i++ {
			s.expected += lines[i] + "\n"
		}
		got := run(t, &s)
		if got != s.expected && !rewriting {
			t.Errorf("%s: %s\nexpected:\n%s\nfound:\n%s", s.at, s.cmd, s.expected, got)
		}
		out = append(out, strings.Split(strings.TrimSuffix(got, "\n"), "\n")...)
		if got == "" {
			out = out[:len(out)-1]
		}
	}
	if rewriting {
		if err := os.WriteFile(path, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
