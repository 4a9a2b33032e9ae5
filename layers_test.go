package apogee_test

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// layers is the architecture. A package imports packages on lower lines and the
// packages of its own family (broker and broker/pop are one family); nothing on
// its own line, nothing above. So the roles never import each other, and store,
// replication, auth and filter import neither each other nor a role.
var layers = []layer{
	{"cmd/apogee", "the command line"},
	{"server", "the node: configuration, roles, start and stop order"},
	{"admin  proxy  namesrv  broker  controller", "the roles"},
	{"store  replication  auth  filter  bench", "log and view, their copies, who may, which message; load"},
	{"remoting", "connections, dispatch, lanes, and the client side"},
	{"protocol", "every byte on the wire"},
	{"message", "every byte of a record"},
}

type layer struct {
	families string
	holds    string
}

// importedOnlyBy narrows what the picture allows.
var importedOnlyBy = map[string]string{
	"bench": "cmd/apogee",
}

// forbidden lists what a family never imports from outside this module, folders
// below included: bytes are made and read without I/O, and what decides is handed
// the network instead of reaching for it.
var forbidden = map[string][]string{
	"message":  {"net", "os", "log"},
	"protocol": {"net", "os", "log"},
	"filter":   {"net", "os"},
	"store":    {"net"},
	"broker":   {"net"},
	"namesrv":  {"net"},
}

// harmless are the packages below net that do no I/O, and the functions of net that
// only put text together: a file that uses nothing else of net may import it.
var (
	harmless          = []string{"net/netip", "net/url"}
	harmlessFunctions = []string{"JoinHostPort", "SplitHostPort"}
)

func TestLayers(t *testing.T) {
	report(t, layerProblems(productOnly(readTree(t))))
}

func TestLayersFindFaults(t *testing.T) {
	of := func(imported string) string {
		return fmt.Sprintf("package p\n\nimport _ %q\n", imported)
	}
	checkSnippets(t, []snippet{
		{"down", "broker/send.go", of(modulePath + "/store"), ""},
		{"own family", "broker/pop/a.go", of(modulePath + "/broker/timer"), ""},
		{"folder of the top", "cmd/apogee/a.go", of(modulePath + "/bench"), ""},
		{"the standard library", "message/a.go", of("hash/crc32"), ""},
		{"addresses are not I/O", "message/a.go", of("net/netip"), ""},
		{"up", "protocol/a.go", of(modulePath + "/remoting"), "protocol/a.go:3: protocol must not import remoting"},
		{"message imports nothing of ours", "message/a.go", of(modulePath + "/protocol"), "message must not import protocol"},
		{"role to role", "broker/a.go", of(modulePath + "/namesrv"), "broker must not import namesrv"},
		{"role to role below", "admin/console/a.go", of(modulePath + "/broker/pop"), "admin/console must not import broker/pop"},
		{"store to replication", "store/view/a.go", of(modulePath + "/replication"), "store/view must not import replication"},
		{"store to a role", "store/a.go", of(modulePath + "/broker"), "store must not import broker"},
		{"load to a role", "bench/a.go", of(modulePath + "/broker"), "bench must not import broker"},
		{"only the command line loads", "server/a.go", of(modulePath + "/bench"), "only cmd/apogee imports bench"},
		{"unknown package", "helpers2/a.go", of("fmt"), "add it to the table layers"},
		{"unknown import", "server/a.go", of(modulePath + "/nowhere"), "add it to the table layers"},
		{"bytes do no I/O", "protocol/a.go", of("net"), "protocol must not import net"},
		{"bytes do not log", "message/a.go", of("log/slog"), "message must not import log/slog"},
		{"text is not I/O", "namesrv/a.go", "package p\n\nimport \"net\"\n\nvar x = net.JoinHostPort\n", ""},
		{"dialling is", "namesrv/a.go", "package p\n\nimport \"net\"\n\nvar x, y = net.JoinHostPort, net.Dial\n", "must not import net"},
		{"a prefix is not a parent", "message/a.go", of("oscillator"), ""},
	}, layerProblems)
}

// familyOf gives the entry of the table that a package belongs to, and its line.
func familyOf(pkg string) (family string, line int, known bool) {
	for line, layer := range layers {
		for _, family := range strings.Fields(layer.families) {
			if within(pkg, family) {
				return family, line, true
			}
		}
	}
	return "", 0, false
}

func within(pkg, folder string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

func layerProblems(files []*source) []string {
	var problems []string
	for _, s := range files {
		if s.pkg() == "." {
			continue // holds tests only
		}
		family, line, known := familyOf(s.pkg())
		if !known {
			problems = append(problems, unknownPackage(s.path, s.pkg()))
			continue
		}
		for _, spec := range s.file.Imports {
			if importPath(spec) == "net" && usesOnly(s, "net", harmlessFunctions) {
				continue
			}
			if problem := importProblem(s.pkg(), family, line, importPath(spec)); problem != "" {
				problems = append(problems, s.at(spec)+": "+problem)
			}
		}
	}
	return problems
}

// usesOnly says whether a file uses nothing else of an import than these names.
func usesOnly(s *source, imported string, names []string) bool {
	used, others := false, false
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && s.imported(x.Name) == imported {
				used = true
				others = others || !slices.Contains(names, sel.Sel.Name)
			}
		}
		return true
	})
	return used && !others
}

func unknownPackage(where, pkg string) string {
	return fmt.Sprintf("%s: package %s stands on no line: add it to the table layers in layers_test.go, "+
		"on the lowest line that its imports allow, or move it below a package that is there", where, pkg)
}

// importProblem says what is wrong with an import, or nothing.
func importProblem(pkg, family string, line int, imported string) string {
	ours, ok := strings.CutPrefix(imported, modulePath+"/")
	if !ok {
		if slices.ContainsFunc(forbidden[family], func(f string) bool { return within(imported, f) }) &&
			!slices.Contains(harmless, imported) {
			return fmt.Sprintf("%s must not import %s", pkg, imported)
		}
		return ""
	}
	to, toLine, known := familyOf(ours)
	switch {
	case !known:
		return unknownPackage(imported, ours)
	case to == family:
		return ""
	case toLine <= line:
		return fmt.Sprintf("%s must not import %s: only what stands on a lower line than %q of the table layers",
			pkg, ours, layers[line].holds)
	case importedOnlyBy[to] != "" && importedOnlyBy[to] != family:
		return fmt.Sprintf("%s must not import %s: only %s imports %s", pkg, ours, importedOnlyBy[to], to)
	}
	return ""
}
