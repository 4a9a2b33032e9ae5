package apogee_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// modulePath is the path of the product's module, which is the tree below this
// file without the nested modules (interop/go, tools, bench/peers/...).
const modulePath = "github.com/apogeemq/apogee"

// source is one Go file of the product's module, tests included.
type source struct {
	path string // slash-separated, from the root
	text string
	fset *token.FileSet
	file *ast.File
}

// pkg is the file's package as a folder from the root, "." at the root itself.
func (s *source) pkg() string { return path.Dir(s.path) }

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s *source) lines() int { return strings.Count(s.text, "\n") }

// at says where a node stands, for a person who wants to jump there.
func (s *source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// imports lists the import paths.
func (s *source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		paths = append(paths, importPath(spec))
	}
	return paths
}

// imported gives the import path that a name stands for in this file, "" if none.
func (s *source) imported(name string) string {
	for _, spec := range s.file.Imports {
		if spec.Name != nil && spec.Name.Name == name || spec.Name == nil && path.Base(importPath(spec)) == name {
			return importPath(spec)
		}
	}
	return ""
}

func importPath(spec *ast.ImportSpec) string {
	return strings.Trim(spec.Path.Value, "`\"")
}

func parseSource(t *testing.T, name, text string) *source {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("cannot parse %s: %v", name, err)
	}
	return &source{path: name, text: text, fset: fset, file: file}
}

// readTree parses every Go file of the module that is not generated.
func readTree(t *testing.T) []*source {
	t.Helper()
	var tree []*source
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipFolder(name)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if s := parseSource(t, filepath.ToSlash(name), string(text)); !ast.IsGenerated(s.file) {
			tree = append(tree, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func skipFolder(name string) error {
	base := filepath.Base(name)
	switch {
	case name == ".":
		return nil
	case strings.HasPrefix(base, "."), strings.HasPrefix(base, "_"), base == "testdata":
		return filepath.SkipDir
	case name == "bin", name == "data", name == "out":
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return filepath.SkipDir // a nested module
	}
	return nil
}

// productOnly leaves the test files out.
func productOnly(tree []*source) []*source {
	var product []*source
	for _, s := range tree {
		if !s.isTest() {
			product = append(product, s)
		}
	}
	return product
}

func report(t *testing.T, problems []string) {
	t.Helper()
	for _, problem := range problems {
		t.Error(problem)
	}
}

// snippet is a negative test: a small file that a check must find fault with, or
// must leave alone if want is empty.
type snippet struct {
	name string
	path string
	text string
	want string // part of the only problem that is reported
}

func checkSnippets(t *testing.T, snippets []snippet, check func([]*source) []string) {
	t.Helper()
	for _, sn := range snippets {
		t.Run(sn.name, func(t *testing.T) {
			problems := check([]*source{parseSource(t, sn.path, sn.text)})
			switch {
			case sn.want == "" && len(problems) != 0:
				t.Errorf("got %q, want no problem", problems)
			case sn.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], sn.want)):
				t.Errorf("got %q, want one problem with %q", problems, sn.want)
			}
		})
	}
}
