package main

import (
	"fmt"
	"strings"
)

const intro = `# Compatibility

What Apogee does as Apache RocketMQ 5.5.0 does, and the tests that prove it. ` + "`make compatibility`" + ` writes this page from
[compatibility.txt](compatibility.txt) and the results of ` + "`make test interop`" + `; CI fails when it is another one.

*proven*: every test named passed in the run. *not proven*: one did not, or nobody has written one. *not begun*: planned, and refused until
then. *not served*: RocketMQ has no use for it either, or Apogee has none, for the reason given.

A test is named by its folder. Those in interop are RocketMQ's own clients and tools against the built binary; [STATUS.md](STATUS.md) says
what comes next.
`

// state is the verdict on a row.
func (r row) state(results results) string {
	if strings.HasPrefix(r.reason, "planned") {
		return "not begun"
	}
	if r.reason != "" {
		return "not served"
	}
	if len(r.proofs) == 0 {
		return "not proven"
	}
	for _, p := range r.proofs {
		if results[p] != passed {
			return "not proven"
		}
	}
	return "proven"
}

// evidence is the last cell: tests, by suite, or the reason why there is none.
func (r row) evidence(results results) string {
	if r.reason != "" {
		return strings.TrimPrefix(strings.TrimPrefix(r.reason, "planned"), ": ")
	}
	var b strings.Builder
	suite := ""
	for _, p := range r.proofs {
		switch {
		case p.suite != suite && suite != "":
			b.WriteString("; " + p.suite + ":")
		case p.suite != suite:
			b.WriteString(p.suite + ":")
		default:
			b.WriteString(",")
		}
		suite = p.suite
		b.WriteString(" " + p.test)
		if o := results[p]; o != passed {
			b.WriteString(" (" + o.String() + ")")
		}
	}
	return b.String()
}

func render(areas areaList, codes []row, results results) string {
	var b strings.Builder
	b.WriteString(intro)
	var features []row
	for _, a := range areas {
		features = append(features, a.list...)
	}
	fmt.Fprintf(&b, "\nFeatures: %s. Request codes: %s.\n", count(features, results), count(codes, results))
	for _, a := range areas {
		fmt.Fprintf(&b, "\n## %s\n\n| Feature | State | Tests |\n|---|---|---|\n", a.title)
		writeRows(&b, a.list, results)
	}
	fmt.Fprintf(&b, "\n## %s\n\n| Code | Name | Role | State | Tests, or why there are none |\n|---|---|---|---|---|\n", codesArea)
	writeRows(&b, codes, results)
	return b.String()
}

func writeRows(b *strings.Builder, rows []row, results results) {
	for _, r := range rows {
		state := r.state(results)
		if state == "not proven" {
			state = "**not proven**"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", r.title, state, r.evidence(results))
	}
}

func count(rows []row, results results) string {
	n := map[string]int{}
	for _, r := range rows {
		n[r.state(results)]++
	}
	var parts []string
	for _, state := range []string{"proven", "not proven", "not begun", "not served"} {
		if n[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[state], state))
		}
	}
	return strings.Join(parts, ", ")
}
