// Command gotest runs `go test` and keeps its results for tools/compat:
//
//	COMMIT=what-is-tested gotest RESULTS.json [arguments of go test]
//
// It prints what go test prints: with -v all but when tests began, otherwise packages and what failed. With -v, where
// that is far up, the tests that failed are printed again at the end of their package.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: gotest RESULTS.json [arguments of go test]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

func run(results string, args []string, out io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(results), 0o755); err != nil {
		return err
	}
	file, err := os.Create(results)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := fmt.Fprintf(file, "{\"Commit\":%q}\n", os.Getenv("COMMIT")); err != nil {
		return err
	}
	test := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	test.Stderr = os.Stderr
	events, err := test.StdoutPipe()
	if err != nil {
		return err
	}
	if err := test.Start(); err != nil {
		return err
	}
	p := printer{out: out, verbose: slices.Contains(args, "-v"), held: map[[2]string][]string{}}
	lines := bufio.NewReader(io.TeeReader(events, file))
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			p.line(line)
		}
		if err != nil {
			break
		}
	}
	if err := test.Wait(); err != nil {
		return fmt.Errorf("go test %s: %w", strings.Join(args, " "), err)
	}
	return file.Close()
}

// event is one of `go doc test2json`.
type event struct{ Action, Package, Test, Output string }

// againMax is how many lines of a failed test are printed again: its first and its last ones.
const againMax = 100

// printer holds back what a test prints until the test has failed.
type printer struct {
	out     io.Writer
	verbose bool
	held    map[[2]string][]string // by package and test
	failed  [][2]string
}

func (p *printer) line(line string) {
	var e event
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
		fmt.Fprint(p.out, line)
		return
	}
	test := [2]string{e.Package, e.Test}
	if strings.HasPrefix(e.Output, "=== ") {
		return // RUN, PAUSE, CONT, NAME
	}
	if e.Output != "" && (p.verbose || e.Test == "" && e.Output != "PASS\n") {
		fmt.Fprint(p.out, e.Output)
	}
	switch {
	case e.Test == "" && e.Action == "fail":
		p.again(e.Package)
	case e.Test == "":
	case e.Output != "":
		p.held[test] = append(p.held[test], e.Output)
	case e.Action == "fail" && p.verbose:
		p.failed = append(p.failed, test)
	case e.Action == "fail":
		fmt.Fprint(p.out, strings.Join(p.held[test], ""))
		delete(p.held, test)
	case e.Action == "pass", e.Action == "skip":
		delete(p.held, test)
	}
}

// again prints what a package's tests that failed have printed, in a form that nobody counts as one more failure.
func (p *printer) again(pkg string) {
	for _, test := range p.failed {
		if test[0] != pkg {
			continue
		}
		lines := p.held[test]
		fmt.Fprintf(p.out, "failed: %s %s\n", test[0], test[1])
		for i, line := range lines {
			if i < againMax/2 || i >= len(lines)-againMax/2 {
				fmt.Fprintf(p.out, "  | %s", line)
			}
		}
	}
}
