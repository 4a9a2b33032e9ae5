package main

import (
	"strings"
	"testing"
)

func TestWhatIsPrinted(t *testing.T) {
	const events = `{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"good\n"}
{"Action":"run","Package":"p","Test":"TestBad"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"=== RUN   TestBad\n"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"bad\n"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"--- PASS: TestGood (0.00s)\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestBad"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
{"ImportPath":"q","Action":"build-output","Output":"q.go:1: syntax error\n"}
no event
`
	for _, c := range []struct {
		verbose bool
		want    string
	}{
		{false, "bad\n--- FAIL: TestBad (0.00s)\nFAIL\nFAIL\tp\t0.1s\nq.go:1: syntax error\nno event\n"},
		{true, "good\nbad\n--- PASS: TestGood (0.00s)\n--- FAIL: TestBad (0.00s)\nFAIL\nFAIL\tp\t0.1s\n" +
			"failed: p TestBad\n  | bad\n  | --- FAIL: TestBad (0.00s)\nq.go:1: syntax error\nno event\n"},
	} {
		var b strings.Builder
		p := printer{out: &b, verbose: c.verbose, held: map[[2]string][]string{}}
		for line := range strings.Lines(events) {
			p.line(line)
		}
		if b.String() != c.want {
			t.Errorf("verbose %v: got\n%s\nwant\n%s", c.verbose, b.String(), c.want)
		}
	}
}

func TestFailureOfGoTestIsAFailure(t *testing.T) {
	if err := run(t.TempDir()+"/r.json", []string{"./nosuch"}, t.Output()); err == nil {
		t.Error("a package that is not there passed")
	}
}
