package server

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// limitPage reads the rows of docs/LIMITS.md, by the number of their columns: name first, without quotes.
func limitPage(t *testing.T) [][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "LIMITS.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		rows = append(rows, cells)
	}
	return rows
}

// TestLimitsPage holds docs/LIMITS.md against the options, whose defaults it gives, and the constants, whose values it gives.
func TestLimitsPage(t *testing.T) {
	options := map[string]Option{}
	for _, o := range Options() {
		options[o.Key] = o
	}
	onPage := map[string]bool{}
	for _, row := range limitPage(t) {
		name := row[0]
		onPage[name] = true
		if where := row[4]; strings.HasSuffix(where, ".go") {
			source, err := os.ReadFile(filepath.Join("..", where))
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(`\b` + name + `\s*=\s*` + regexp.QuoteMeta(row[1]) + `\n`).Match(source) {
				t.Errorf("%s: %s does not say %s = %s", name, where, name, row[1])
			}
			continue
		}
		o, ok := options[name]
		if !ok {
			t.Errorf("%s is on the page and no option", name)
			continue
		}
		c := DefaultConfig()
		if err := o.set(&c, row[2]); err != nil {
			t.Errorf("%s: the page's default %q: %v", name, row[2], err)
		} else if !reflect.DeepEqual(c, DefaultConfig()) {
			t.Errorf("%s: the page's default %q is not the default", name, row[2])
		}
	}
	for key := range options {
		if strings.HasSuffix(key, "BytesMax") && !onPage[key] {
			t.Errorf("option %s bounds something and is not on the page", key)
		}
	}
}
