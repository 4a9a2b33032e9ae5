package apogee_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dependenciesPage has a row `| module | what for | why this one |` for each
// module that a file of ours imports.
const dependenciesPage = "docs/DEPENDENCIES.md"

func TestDependenciesAreExplained(t *testing.T) {
	page, err := os.ReadFile(dependenciesPage)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatalf("cannot read go.mod: %v", err)
	}
	var mod struct{ Require []struct{ Path string } }
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	var required []string
	for _, r := range mod.Require {
		required = append(required, r.Path)
	}
	report(t, dependencyProblems(string(page), required, readTree(t)))
}

func TestDependenciesFindFaults(t *testing.T) {
	required := []string{"example.org/used", "example.org/used/v2", "example.org/indirect"}
	files := []*source{
		parseSource(t, "p/a.go", "package p\n\nimport _ \"example.org/used/v2/sub\"\n\nimport _ \"fmt\"\n"),
		parseSource(t, "p/a_test.go", "package p\n\nimport _ \"example.org/new/sub\"\n"),
	}
	const (
		heading = "| Module | What for | Why this one |\n|---|---|---|\n"
		used    = "| `example.org/used/v2` | bytes | it is small |\n"
	)
	for _, c := range []struct {
		name, page, want string
	}{
		{"explained", heading + used, ""},
		{"what is not imported may be explained early", heading + used + "| `example.org/indirect` | bytes | small |\n", ""},
		{"imported before go.mod says so", heading + used + "| `example.org/new` | bytes | small |\n", ""},
		{"missing", heading, "example.org/used/v2 has no row"},
		{"stale", heading + used + "| `example.org/gone` | bytes | small |\n", "example.org/gone is not in go.mod"},
		{"no reason", heading + "| `example.org/used/v2` | bytes | |\n", "example.org/used/v2 has an empty cell"},
		{"twice", heading + used + used, "example.org/used/v2 has two rows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			problems := dependencyProblems(c.page, required, files)
			if c.want == "" && len(problems) != 0 || c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], c.want)) {
				t.Errorf("got %q, want %q", problems, c.want)
			}
		})
	}
}

// importedModules gives those of the required modules that the files import.
func importedModules(files []*source, required []string) []string {
	var modules []string
	for _, s := range files {
		for _, imported := range s.imports() {
			owner := ""
			for _, module := range required {
				if within(imported, module) && len(module) > len(owner) {
					owner = module
				}
			}
			if owner != "" && !slices.Contains(modules, owner) {
				modules = append(modules, owner)
			}
		}
	}
	slices.Sort(modules)
	return modules
}

var dependencyRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|([^|\n]*)\\|([^|\n]*)\\|$")

func dependencyProblems(page string, required []string, files []*source) []string {
	var problems, explained []string
	add := func(module, what string) {
		problems = append(problems, dependenciesPage+": "+module+" "+what)
	}
	for _, row := range dependencyRow.FindAllStringSubmatch(page, -1) {
		module := row[1]
		switch {
		case slices.Contains(explained, module):
			add(module, "has two rows")
		case strings.TrimSpace(row[2]) == "" || strings.TrimSpace(row[3]) == "":
			add(module, "has an empty cell: say what for, and why this one")
		case !slices.Contains(required, module) && len(importedModules(files, []string{module})) == 0:
			add(module, "is not in go.mod: delete its row")
		}
		explained = append(explained, module)
	}
	for _, module := range importedModules(files, required) {
		if !slices.Contains(explained, module) {
			add(module, "has no row, but it is imported: say what for, and why this one")
		}
	}
	return problems
}
