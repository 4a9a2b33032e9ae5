package apogee_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The limits. They may be lowered, never raised: split the file, the function or
// the idea instead.
const (
	fileLinesMax     = 800
	functionLinesMax = 70
	packageLinesMax  = 8_000
	productLinesMax  = 60_000
)

// longFunctions are the functions that pass functionLinesMax, with their length.
// An entry may only shrink: the test fails when the function is longer than what
// stands here, when it is shorter, and when it needs no entry any more.
var longFunctions = map[string]int{}

func TestFilesAreShort(t *testing.T)         { report(t, longFileProblems(readTree(t))) }
func TestPackageNames(t *testing.T)          { report(t, packageNameProblems(readTree(t))) }
func TestPackageComments(t *testing.T)       { report(t, packageCommentProblems(productOnly(readTree(t)))) }
func TestClockGoroutinesChance(t *testing.T) { report(t, effectProblems(productOnly(readTree(t)))) }
func TestNothingLeftToDo(t *testing.T)       { report(t, leftToDoProblems(productOnly(readTree(t)))) }

func TestFunctionsAreShort(t *testing.T) {
	report(t, longFunctionProblems(productOnly(readTree(t)), longFunctions))
}

// TestProductSize reports how large the product is, and keeps it small.
func TestProductSize(t *testing.T) {
	report(t, sizeProblems(productOnly(readTree(t)), t.Logf))
}

func longFileProblems(files []*source) []string {
	var problems []string
	for _, s := range files {
		if s.lines() > fileLinesMax {
			problems = append(problems, fmt.Sprintf("%s has %d lines: split it, the limit is %d", s.path, s.lines(), fileLinesMax))
		}
	}
	return problems
}

func longFunctionProblems(files []*source, exceptions map[string]int) []string {
	var problems []string
	unseen := maps.Clone(exceptions)
	for _, s := range files {
		for _, decl := range s.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := functionName(s, fn)
			lines := s.fset.Position(fn.End()).Line - s.fset.Position(fn.Pos()).Line + 1
			recorded, excepted := exceptions[name]
			delete(unseen, name)
			problem := ""
			switch {
			case excepted && lines <= functionLinesMax:
				problem = "is short now: delete its entry in longFunctions"
			case excepted && lines < recorded:
				problem = fmt.Sprintf("became shorter than the %d lines in longFunctions: record %d", recorded, lines)
			case lines > max(functionLinesMax, recorded):
				problem = fmt.Sprintf("has %d lines: split it, the limit is %d", lines, max(functionLinesMax, recorded))
			}
			if problem != "" {
				problems = append(problems, fmt.Sprintf("%s: %s %s", s.at(fn), name, problem))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unseen)) {
		problems = append(problems, fmt.Sprintf("%s is no longer there: delete its entry in longFunctions", name))
	}
	return problems
}

// functionName is the folder, the receiver if there is one, and the name:
// "store.Store.Append".
func functionName(s *source, fn *ast.FuncDecl) string {
	name := fn.Name.Name
	if fn.Recv != nil && len(fn.Recv.List) == 1 {
		receiver := fn.Recv.List[0].Type
		if star, ok := receiver.(*ast.StarExpr); ok {
			receiver = star.X
		}
		switch generic := receiver.(type) {
		case *ast.IndexExpr:
			receiver = generic.X
		case *ast.IndexListExpr:
			receiver = generic.X
		}
		if ident, ok := receiver.(*ast.Ident); ok {
			name = ident.Name + "." + name
		}
	}
	return s.pkg() + "." + name
}

// vagueNames say nothing about what a package holds.
var vagueNames = []string{"util", "utils", "common", "base", "helper", "helpers", "misc", "shared", "lib"}

func packageNameProblems(files []*source) []string {
	problems := map[string]bool{}
	for _, s := range files {
		if name := strings.TrimSuffix(s.file.Name.Name, "_test"); slices.Contains(vagueNames, name) {
			problems[fmt.Sprintf("%s: the package name %s says nothing: name what it holds", s.pkg(), name)] = true
		}
	}
	return slices.Sorted(maps.Keys(problems))
}

// packageCommentProblems finds packages whose doc.go (or main.go, for a command)
// does not say what the package is.
func packageCommentProblems(files []*source) []string {
	commented := map[string]bool{}
	for _, s := range files {
		base := path.Base(s.path)
		if base == "doc.go" || base == "main.go" && s.file.Name.Name == "main" {
			commented[s.pkg()] = commented[s.pkg()] || s.file.Doc != nil
		} else {
			commented[s.pkg()] = commented[s.pkg()] || false
		}
	}
	var problems []string
	for _, pkg := range slices.Sorted(maps.Keys(commented)) {
		if !commented[pkg] {
			problems = append(problems, fmt.Sprintf(
				"%s has no package comment in doc.go: what it owns, what it must not know, its invariants", pkg))
		}
	}
	return problems
}

// Below server, time, chance and concurrency are handed in, so that every decision
// can be replayed on one thread. Excepted are the thin shells of goroutines that do
// the driving, and remoting, whose loops are connections.
var (
	effectsAllowedIn = []string{"cmd", "server", "admin", "bench", "remoting"}
	shellFile        = regexp.MustCompile(`^(shell|shell_.*|.*_shell|.*_shell_.*)\.go$`)
	randomPackages   = []string{"math/rand", "math/rand/v2", "crypto/rand"}
	clockFunctions   = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}
)

func effectProblems(files []*source) []string {
	var problems []string
	for _, s := range files {
		if shellFile.MatchString(path.Base(s.path)) || slices.ContainsFunc(effectsAllowedIn, func(p string) bool { return within(s.pkg(), p) }) {
			continue
		}
		for _, spec := range s.file.Imports {
			if imported := importPath(spec); slices.Contains(randomPackages, imported) {
				problems = append(problems, effect(s, spec, imported))
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				problems = append(problems, effect(s, n, "a go statement"))
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && s.imported(x.Name) == "time" && slices.Contains(clockFunctions, n.Sel.Name) {
					problems = append(problems, effect(s, n, "time."+n.Sel.Name))
				}
			}
			return true
		})
	}
	return problems
}

func effect(s *source, n ast.Node, what string) string {
	return fmt.Sprintf("%s: %s: below server this is only for shells (shell.go, shell_*.go, *_shell.go); hand it in", s.at(n), what)
}

// leftToDo matches whole words, so that SCHEDULE_TOPIC_XXXX is not one.
var leftToDo = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

func leftToDoProblems(files []*source) []string {
	var problems []string
	for _, s := range files {
		for i, line := range strings.Split(s.text, "\n") {
			if word := leftToDo.FindString(line); word != "" {
				problems = append(problems, fmt.Sprintf("%s:%d: %s: do it, or open an issue", s.path, i+1, word))
			}
		}
	}
	return problems
}

func sizeProblems(files []*source, logf func(string, ...any)) []string {
	total, perPackage := 0, map[string]int{}
	for _, s := range files {
		total += s.lines()
		perPackage[s.pkg()] += s.lines()
	}
	var problems []string
	if total > productLinesMax {
		problems = append(problems, fmt.Sprintf("the product has %d lines, the budget is %d", total, productLinesMax))
	}
	largestFirst := slices.SortedFunc(maps.Keys(perPackage), func(a, b string) int {
		return cmp.Or(cmp.Compare(perPackage[b], perPackage[a]), cmp.Compare(a, b))
	})
	for _, pkg := range largestFirst {
		logf("%6d %s", perPackage[pkg], pkg)
		if perPackage[pkg] > packageLinesMax {
			problems = append(problems, fmt.Sprintf("%s has %d lines: split the package, the limit is %d",
				pkg, perPackage[pkg], packageLinesMax))
		}
	}
	logf("%6d of %d lines of product code", total, productLinesMax)
	return problems
}

func TestStyleFindsFaults(t *testing.T) {
	body := func(lines int) string { return strings.Repeat("\n", lines) }
	quiet := func(string, ...any) {}
	size := func(files []*source) []string { return sizeProblems(files, quiet) }
	long := func(files []*source) []string { return longFunctionProblems(files, nil) }
	recorded := func(lines int) func([]*source) []string {
		return func(files []*source) []string {
			return longFunctionProblems(files, map[string]int{"p.T.f": lines})
		}
	}
	const method = "package p\n\nfunc (t *T[K]) f() {"
	for _, c := range []struct {
		snippet
		check func([]*source) []string
	}{
		{snippet{"file of 800", "p/a.go", "package p\n" + body(799), ""}, longFileProblems},
		{snippet{"file of 801", "p/a.go", "package p\n" + body(800), "p/a.go has 801 lines"}, longFileProblems},
		{snippet{"function of 70", "p/a.go", method + body(69) + "}\n", ""}, long},
		{snippet{"function of 71", "p/a.go", method + body(70) + "}\n", "p/a.go:3: p.T.f has 71 lines"}, long},
		{snippet{"as recorded", "p/a.go", method + body(79) + "}\n", ""}, recorded(80)},
		{snippet{"grown", "p/a.go", method + body(80) + "}\n", "the limit is 80"}, recorded(80)},
		{snippet{"shrunk", "p/a.go", method + body(78) + "}\n", "record 79"}, recorded(80)},
		{snippet{"needs no entry", "p/a.go", method + "}\n", "is short now"}, recorded(80)},
		{snippet{"gone", "p/a.go", "package p\n", "p.T.f is no longer there"}, recorded(80)},
		{snippet{"vague name", "broker/util/a.go", "package util\n", "broker/util: the package name util"}, packageNameProblems},
		{snippet{"vague name of tests", "p/a_test.go", "package common_test\n", "common"}, packageNameProblems},
		{snippet{"no doc.go", "p/a.go", "// Package p is.\npackage p\n", "p has no package comment"}, packageCommentProblems},
		{snippet{"empty doc.go", "p/doc.go", "package p\n", "p has no package comment"}, packageCommentProblems},
		{snippet{"doc.go", "p/doc.go", "// Package p is.\npackage p\n", ""}, packageCommentProblems},
		{snippet{"command", "cmd/p/main.go", "// Command p is.\npackage main\n", ""}, packageCommentProblems},
		{snippet{"left to do", "p/a.go", "package p\n\n// TODO: all of it\n", "p/a.go:3: TODO"}, leftToDoProblems},
		{snippet{"the topic's name", "p/a.go", "package p\n\nconst t = \"SCHEDULE_TOPIC_XXXX\"\n", ""}, leftToDoProblems},
		{snippet{"package of 8000", "p/a.go", "package p\n" + body(7_999), ""}, size},
		{snippet{"package of 8001", "p/a.go", "package p\n" + body(8_000), "p has 8001 lines"}, size},
	} {
		checkSnippets(t, []snippet{c.snippet}, c.check)
	}
}

func TestProductSizeHasABudget(t *testing.T) {
	var files []*source
	for i := range 8 {
		text := "package p\n" + strings.Repeat("\n", 7_900)
		files = append(files, parseSource(t, fmt.Sprintf("p%d/a.go", i), text))
	}
	problems := sizeProblems(files, func(string, ...any) {})
	if len(problems) != 1 || !strings.Contains(problems[0], "the budget is 60000") {
		t.Errorf("got %q, want one problem: the budget", problems)
	}
}

func TestEffectsAreFound(t *testing.T) {
	const clock = "package p\n\nimport \"time\"\n\nvar x = "
	const renamed = "package p\n\nimport t \"time\"\n\nvar x = "
	const spawn = "package p\n\nfunc f() { go f() }\n"
	checkSnippets(t, []snippet{
		{"clock", "broker/a.go", clock + "time.Now()\n", "broker/a.go:5: time.Now"},
		{"clock as a value", "store/view/a.go", clock + "time.Now\n", "time.Now"},
		{"renamed clock", "namesrv/a.go", renamed + "t.NewTimer\n", "time.NewTimer"},
		{"durations are no clock", "broker/a.go", clock + "time.Second\n", ""},
		{"a field named time", "broker/a.go", "package p\n\nvar x = time.Now\n", ""},
		{"goroutine", "store/a.go", spawn, "store/a.go:3: a go statement"},
		{"goroutine in a shell", "store/flush_shell.go", spawn, ""},
		{"goroutine in a platform's shell", "store/shell_linux.go", spawn, ""},
		{"a shell is a file, not a folder", "store/shell/a.go", spawn, "a go statement"},
		{"goroutine of a connection", "remoting/a.go", spawn, ""},
		{"goroutine of the node", "server/a.go", spawn, ""},
		{"server is a whole word", "serverless/a.go", spawn, "a go statement"},
		{"chance", "replication/a.go", "package p\n\nimport _ \"math/rand/v2\"\n", "math/rand/v2"},
		{"secrets", "auth/a.go", "package p\n\nimport _ \"crypto/rand\"\n", "crypto/rand"},
	}, effectProblems)
}
