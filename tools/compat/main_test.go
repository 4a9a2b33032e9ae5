package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree is a repository with every kind of row.
func tree() map[string]string {
	return map[string]string{
		listFile: `# a comment
## Sending
One-way sends
  broker TestOneWay TestSub/case
  interop/java SendTest.oneWay
Batches
  broker TestBatch
Tags
  broker TestSkipped
Priorities
Timers
  planned
## Request codes
10 broker
  broker TestOneWay
`,
		codesFile: "# every code\n10 SEND_MESSAGE broker,container\n11 PULL_MESSAGE broker\n13 OLD none\n37 END_TRANSACTION broker\n",
		unsupportedFile: `| Code | Name | Role | Why |
| 10 | SEND_MESSAGE | container | one process each |
| 13 | OLD | none | served by nobody |
| 37 | END_TRANSACTION | broker | planned: transactions |
`,
		"broker/a_test.go": "package broker\n\nfunc TestOneWay(t *testing.T) {}\n\nfunc TestNeverRun(t *testing.T) {}\n",
		"out/results/unit.json": `{"Commit":"c0ffee"}
{"Action":"pass","Package":"github.com/apogeemq/apogee/broker","Test":"TestOneWay"}
{"Action":"pass","Package":"github.com/apogeemq/apogee/broker","Test":"TestSub"}
{"Action":"pass","Package":"github.com/apogeemq/apogee/broker","Test":"TestSub/case"}
{"Action":"fail","Package":"github.com/apogeemq/apogee/broker","Test":"TestBatch"}
{"Action":"skip","Package":"github.com/apogeemq/apogee/broker","Test":"TestSkipped"}
{"Action":"pass","Package":"github.com/apogeemq/apogee/broker"}
go: downloading something
`,
		"interop/java/target/surefire-reports/TEST-SendTest.xml": `<testsuite>
<testcase name="oneWay" classname="io.github.SendTest"/><testcase name="sizes(int)[1]" classname="io.github.SendTest"/></testsuite>`,
		"interop/java/target/surefire-reports/TEST-SendTest-tls.xml": `<testsuite>
<testcase name="oneWay" classname="io.github.SendTest(tls)"/>
<testcase name="sizes(int)[1]" classname="io.github.SendTest(tls)"><failure message="no">text</failure></testcase></testsuite>`,
		"interop/java/src/test/java/io/github/apogeemq/interop/SendTest.java": "    void notRunYet() throws Exception {\n",
	}
}

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestResultsOfOneCommit(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"the same":    {`{"Commit":"c0ffee"}`, ""},
		"another one": {`{"Commit":"decaf"}`, "results of different commits: c0ffee (unit.json), decaf (maven.json); run make test interop on one"},
		"none":        {`{"Action":"pass"}`, "maven.json: it does not say of which commit it is"},
	} {
		files := tree()
		files["out/results/maven.json"] = c.file
		_, err := generate(write(t, files))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestPage(t *testing.T) {
	root := write(t, tree())
	page, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	const want = `
Features: 1 proven, 3 not proven, 1 not begun. Request codes: 1 proven, 1 not proven, 1 not begun, 2 not served.

## Sending

| Feature | State | Tests |
|---|---|---|
| One-way sends | proven | broker: TestOneWay, TestSub/case; interop/java: SendTest.oneWay |
| Batches | **not proven** | broker: TestBatch (failed) |
| Tags | **not proven** | broker: TestSkipped (skipped) |
| Priorities | **not proven** |  |
| Timers | not begun |  |

## Request codes

| Code | Name | Role | State | Tests, or why there are none |
|---|---|---|---|---|
| 10 | SEND_MESSAGE | broker | proven | broker: TestOneWay |
| 10 | SEND_MESSAGE | container | not served | one process each |
| 11 | PULL_MESSAGE | broker | **not proven** |  |
| 13 | OLD | none | not served | served by nobody |
| 37 | END_TRANSACTION | broker | not begun | transactions |
`
	if got := strings.TrimPrefix(page, intro); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := run(root, false); err != nil {
		t.Fatal(err)
	}
	if err := run(root, true); err != nil {
		t.Errorf("the page as it was written: %v", err)
	}
}

func TestWhatIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		file, from, to string
		want           string // in the error, or in the page
	}{
		"one JVM's failure is the test's":  {listFile, "SendTest.oneWay", "SendTest.sizes", "SendTest.sizes (failed)"},
		"a Go test that did not run":       {listFile, "TestOneWay TestSub/case", "TestNeverRun", "TestNeverRun (not run)"},
		"a Java test that did not run":     {listFile, "SendTest.oneWay", "SendTest.notRunYet", "SendTest.notRunYet (not run)"},
		"a Go test that is not there":      {listFile, "TestSub/case", "TestGone", `"One-way sends": there is no test TestGone in broker`},
		"a case that is not there":         {listFile, "TestSub/case", "TestSub/gone", "broker: TestSub ran without gone"},
		"a Java test that is not there":    {listFile, "SendTest.oneWay", "SendTest.gone", "there is no test SendTest.gone in interop/java"},
		"a folder that is not there":       {listFile, "  broker TestBatch", "  brokre TestBatch", "there is no test TestBatch in brokre"},
		"a code that is not RocketMQ's":    {listFile, "10 broker", "12 broker", `"12 broker" is no request code`},
		"a code that is not served":        {listFile, "10 broker", "10 container", "10 container SEND_MESSAGE has tests but is not served"},
		"planned with a test":              {listFile, "  planned", "  planned\n  broker TestOneWay", `line 13: "Timers" is planned and has tests`},
		"a test without a feature":         {listFile, "One-way sends\n", "", "proves no feature"},
		"a test without a folder":          {listFile, "broker TestBatch", "TestBatch", `"TestBatch" is not SUITE TEST...`},
		"a feature in no area":             {listFile, "## Sending\n", "", "stands in no area"},
		"the same feature twice":           {listFile, "Batches", "One-way sends", "twice"},
		"a report that is not XML":         {"interop/java/target/surefire-reports/TEST-SendTest.xml", "</testsuite>", "", "TEST-SendTest.xml"},
		"no request codes":                 {codesFile, tree()[codesFile], "", "no request codes"},
		"a test that no longer passes":     {"out/results/unit.json", `pass","Package":"github.com/apogeemq/apogee/broker","Test":"TestOneWay"`, `fail","Package":"github.com/apogeemq/apogee/broker","Test":"TestOneWay"`, "| 10 | SEND_MESSAGE | broker | **not proven** | broker: TestOneWay (failed) |"},
		"a comment is no row":              {listFile, "# a comment", "# ## Another", "| One-way sends | proven |"},
		"a test of a code that is planned": {listFile, "10 broker", "37 broker", "37 broker END_TRANSACTION has tests but is not served"},
	} {
		t.Run(name, func(t *testing.T) {
			files := maps.Clone(tree())
			if !strings.Contains(files[c.file], c.from) {
				t.Fatalf("%s has no %q", c.file, c.from)
			}
			files[c.file] = strings.Replace(files[c.file], c.from, c.to, 1)
			got, err := generate(write(t, files))
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got\n%s\nwant in it\n%s", got, c.want)
			}
		})
	}
}

func TestCheckNamesTheLinesThatDiffer(t *testing.T) {
	files := tree()
	files[pageFile] = intro + "\nold line\n"
	root := write(t, files)
	err := run(root, true)
	for _, want := range []string{"make compatibility", "- old line", "+ | Timers | not begun |  |"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(root, pageFile)); string(text) != files[pageFile] {
		t.Error("-check wrote the page")
	}
}
