package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// proof is a test: the folder of its package or Maven project, and its name, Class.method in Java.
type proof struct{ suite, test string }

// row is one line of the page.
type row struct {
	title  string
	proofs []proof
	reason string // why there is nothing to prove; planned: nobody has begun
}

// area is a table of features.
type area struct {
	title string
	list  []row
}

type areaList []area

func (l areaList) rows() (all [][]row) {
	for _, a := range l {
		all = append(all, a.list)
	}
	return all
}

// codesArea is the area whose rows are "CODE ROLE" instead of a title.
const codesArea = "Request codes"

// readList reads the rows: "## AREA"; below it, for each feature, its title, and indented the tests that prove it, SUITE TEST..., or
// "planned". Lines that begin with "# " are comments.
func readList(text string) (areas areaList, err error) {
	var errs []error
	n := 0
	for line := range strings.Lines(text) {
		n++
		fault := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("line %d: "+format, append([]any{n}, args...)...))
		}
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		line = strings.TrimSpace(line)
		title, isArea := strings.CutPrefix(line, "## ")
		switch {
		case line == "" || line == "#" || strings.HasPrefix(line, "# "):
		case isArea:
			areas = append(areas, area{title: title})
		case len(areas) == 0:
			fault("%q stands in no area (## AREA)", line)
		case !indented:
			last := &areas[len(areas)-1]
			last.list = append(last.list, row{title: line})
		case len(areas[len(areas)-1].list) == 0:
			fault("%q proves no feature: its title is missing", line)
		default:
			list := areas[len(areas)-1].list
			if problem := list[len(list)-1].add(line); problem != "" {
				fault("%s", problem)
			}
		}
	}
	return areas, errors.Join(errs...)
}

// add takes an indented line.
func (r *row) add(line string) (problem string) {
	words := strings.Fields(line)
	switch {
	case line == "planned":
		r.reason = line
	case len(words) < 2:
		return fmt.Sprintf("%q is not SUITE TEST...", line)
	default:
		for _, test := range words[1:] {
			r.proofs = append(r.proofs, proof{words[0], test})
		}
	}
	if r.reason != "" && len(r.proofs) > 0 {
		return fmt.Sprintf("%q is planned and has tests", r.title)
	}
	return ""
}

// code is a request code at one of the roles that serve it in RocketMQ.
type code struct {
	number int
	name   string
	role   string
}

// key is how the list names it.
func (c code) key() string { return strconv.Itoa(c.number) + " " + c.role }

// readCodes reads "CODE NAME ROLE,ROLE" lines.
func readCodes(text string) (codes []code, err error) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 3 || strings.HasPrefix(line, "#") {
			continue
		}
		number, err := strconv.Atoi(words[0])
		if err != nil {
			return nil, err
		}
		for role := range strings.SplitSeq(words[2], ",") {
			codes = append(codes, code{number, words[1], role})
		}
	}
	if len(codes) == 0 {
		return nil, errors.New("no request codes")
	}
	return codes, nil
}

// readReasons reads the table of codes that are not served: by code and role, the reason.
func readReasons(text string) (map[string]string, error) {
	reasons := map[string]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			continue
		}
		if number, err := strconv.Atoi(strings.TrimSpace(cells[1])); err == nil {
			reasons[code{number: number, role: strings.TrimSpace(cells[3])}.key()] = strings.TrimSpace(cells[4])
		}
	}
	return reasons, nil
}

// fill returns the areas of features, and a row for every code, with what the list and the reasons say of it.
func fill(list areaList, codes []code, reasons map[string]string) (areas areaList, rows []row, errs []error) {
	listed := map[string]row{}
	seen := map[string]bool{}
	for _, a := range list {
		for _, r := range a.list {
			if seen[a.title+"\n"+r.title] {
				errs = append(errs, fmt.Errorf("%s: %q stands there twice", listFile, r.title))
			}
			seen[a.title+"\n"+r.title] = true
			if a.title == codesArea {
				listed[r.title] = r
			}
		}
		if a.title != codesArea {
			areas = append(areas, a)
		}
	}
	for _, c := range codes {
		r := listed[c.key()]
		delete(listed, c.key())
		if reason := reasons[c.key()]; reason != "" {
			if len(r.proofs) > 0 {
				errs = append(errs, fmt.Errorf("%s: %s %s has tests but is not served (%s: %s)", listFile, c.key(), c.name, unsupportedFile, reason))
			}
			r.reason = reason
		}
		r.title = fmt.Sprintf("%d | %s | %s", c.number, c.name, c.role)
		rows = append(rows, r)
	}
	for key := range listed {
		errs = append(errs, fmt.Errorf("%s: %q is no request code and role of %s", listFile, key, codesFile))
	}
	return areas, rows, errs
}
