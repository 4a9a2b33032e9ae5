// Command compat writes docs/COMPATIBILITY.md: every feature and request code of RocketMQ beside the tests that prove it. It runs in the
// root of the repository and reads
//
//	docs/compatibility.txt              the rows, kept by hand: see readList
//	server/testdata/request_codes.txt   every request code of RocketMQ
//	docs/UNSUPPORTED.md                 those that are not served; a test of package server holds it against the roles' tables
//	out/results/*.json                  what gotest kept of the run, and of which commit the run was: all must be of one
//	interop/*/target/*-reports/*.xml    what Maven did
//
// A row is proven if every test that it names passed. A test that is not there at all is an error. With -check nothing is written: the
// page must be what would be.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	listFile        = "docs/compatibility.txt"
	pageFile        = "docs/COMPATIBILITY.md"
	codesFile       = "server/testdata/request_codes.txt"
	unsupportedFile = "docs/UNSUPPORTED.md"
)

func main() {
	check := flag.Bool("check", false, "write nothing, fail when the page is another one")
	flag.Parse()
	if err := run(".", *check); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	page, err := generate(root)
	if err != nil {
		return err
	}
	path := filepath.Join(root, pageFile)
	if !check {
		return os.WriteFile(path, []byte(page), 0o644)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if changes := difference(string(old), page); changes != "" {
		return fmt.Errorf("%s does not say what this run proved; run make compatibility after make test interop, and commit it:\n%s", pageFile, changes)
	}
	return nil
}

func generate(root string) (string, error) {
	list, err := readFile(root, listFile, readList)
	if err != nil {
		return "", err
	}
	codes, err := readFile(root, codesFile, readCodes)
	if err != nil {
		return "", err
	}
	reasons, err := readFile(root, unsupportedFile, readReasons)
	if err != nil {
		return "", err
	}
	r, err := readResults(root)
	if err != nil {
		return "", err
	}
	areas, rows, errs := fill(list, codes, reasons)
	for _, row := range slices.Concat(append(areas.rows(), rows)...) {
		for _, p := range row.proofs {
			if err := r.exists(root, p); err != nil {
				errs = append(errs, fmt.Errorf("%s, %q: %w", listFile, row.title, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return render(areas, rows, r), nil
}

func readFile[T any](root, name string, read func(string) (T, error)) (T, error) {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		var none T
		return none, err
	}
	value, err := read(string(text))
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return value, err
}

// difference lists the lines that only one of two pages has.
func difference(old, now string) string {
	var b strings.Builder
	report := func(mark, text, other string) {
		there := map[string]bool{}
		for line := range strings.Lines(other) {
			there[line] = true
		}
		for line := range strings.Lines(text) {
			if !there[line] {
				b.WriteString(mark + line)
			}
		}
	}
	report("- ", old, now)
	report("+ ", now, old)
	if b.Len() == 0 && old != now {
		return "the same lines in another order\n"
	}
	return b.String()
}
