package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const modulePath = "github.com/apogeemq/apogee"

// outcome is how a test ended. A test that ran several times (JVMs, parameters) failed if it failed once.
type outcome int

const (
	notRun outcome = iota
	skipped
	passed
	failed
)

func (o outcome) String() string {
	return [...]string{"not run", "skipped", "passed", "failed"}[o]
}

// results are the outcomes of a run.
type results map[proof]outcome

// commits are those that files of results name, each with one of the files: all must be of one commit.
type commits map[string]string

func (c commits) check() error {
	if len(c) <= 1 {
		return nil
	}
	var of []string
	for commit, path := range c {
		of = append(of, fmt.Sprintf("%s (%s)", commit, path))
	}
	slices.Sort(of)
	return fmt.Errorf("results of different commits: %s; run make test interop on one", strings.Join(of, ", "))
}

func (r results) add(p proof, o outcome) { r[p] = max(r[p], o) }

func readResults(root string) (results, error) {
	r, from := results{}, commits{}
	var errs []error
	each := func(pattern string, read func(path string) error) {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		errs = append(errs, err)
		for _, path := range paths {
			if err := read(path); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", path, err))
			}
		}
	}
	each("out/results/*.json", func(path string) error {
		commit, err := r.readGo(path)
		if commit == "" && err == nil {
			err = errors.New("it does not say of which commit it is; make it again")
		}
		from[commit] = filepath.Base(path)
		return err
	})
	each("interop/*/target/*-reports/TEST-*.xml", func(path string) error {
		return r.readMaven("interop/"+filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(path)))), path)
	})
	return r, errors.Join(append(errs, from.check())...)
}

// readGo reads the events of go test -json, and the commit in front of them. The file that stands for Maven's reports has nothing else: make
// interop deletes them before it writes that one.
func (r results) readGo(path string) (commit string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	outcomes := map[string]outcome{"pass": passed, "fail": failed, "skip": skipped}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e struct{ Action, Package, Test, Commit string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the go command itself printed it
		}
		commit = cmp.Or(e.Commit, commit)
		if e.Test == "" || outcomes[e.Action] == notRun {
			continue
		}
		suite := strings.TrimPrefix(strings.TrimPrefix(e.Package, modulePath), "/")
		r.add(proof{suite, e.Test}, outcomes[e.Action])
	}
	return commit, lines.Err()
}

// readMaven reads a report of Surefire or Failsafe.
func (r results) readMaven(suite, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var report struct {
		Cases []struct {
			Name    string    `xml:"name,attr"`
			Class   string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	}
	if err := xml.Unmarshal(text, &report); err != nil {
		return err
	}
	for _, c := range report.Cases {
		o := passed
		switch {
		case c.Failure != nil || c.Error != nil:
			o = failed
		case c.Skipped != nil:
			o = skipped
		}
		// "io.github.SendTest(tls)" and "compressed(CompressionType)[2]": which JVM, and with which parameters
		class, _, _ := strings.Cut(c.Class, "(")
		method, _, _ := strings.Cut(c.Name, "(")
		method, _, _ = strings.Cut(method, "{")
		method, _, _ = strings.Cut(method, "[")
		r.add(proof{suite, class[strings.LastIndex(class, ".")+1:] + "." + method}, o)
	}
	return nil
}

// exists returns an error if there is no such test in the source: a row must not rest on one that was renamed.
func (r results) exists(root string, p proof) error {
	if r[p] != notRun {
		return nil
	}
	pattern, declared := "*_test.go", `(?m)^func %s\(`
	name, sub, hasSub := strings.Cut(p.test, "/")
	if hasSub && r[proof{p.suite, name}] == passed {
		return fmt.Errorf("%s: %s ran without %s", p.suite, name, sub)
	}
	if class, method, java := strings.Cut(p.test, "."); java {
		pattern, declared, name = "src/test/java/*/*/*/*/"+class+".java", `(?m)^\s.*\s%s\(.*\{`, method
	}
	paths, err := filepath.Glob(filepath.Join(root, p.suite, pattern))
	if err != nil {
		return err
	}
	expression := regexp.MustCompile(fmt.Sprintf(declared, regexp.QuoteMeta(name)))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if expression.Match(text) {
			return nil
		}
	}
	return fmt.Errorf("there is no test %s in %s", p.test, p.suite)
}
