package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// row is one requirement of the ledger.
type row struct {
	id, strength, text string
	reason             string // why no test is about it
}

// open reports whether the requirement is not met, or in part only.
func (r row) open() bool { return strings.HasPrefix(r.reason, "open: ") }

var rowID = regexp.MustCompile(`^BTNS-[A-Z]+-\d+$`)

// parseLedger reads lines of "ID | strength | requirement", with "| reason" where no test can be. Lines that begin with #
// are comments.
func parseLedger(text string) ([]row, error) {
	var rows []row
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "|")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		if len(f) < 3 || len(f) > 4 || !rowID.MatchString(f[0]) || f[1] == "" || f[2] == "" || len(f) == 4 && f[3] == "" {
			return nil, fmt.Errorf("%s:%d: want ID | strength | requirement [| reason], have %q", ledgerPath, n, line)
		}
		if seen[f[0]] {
			return nil, fmt.Errorf("%s:%d: %s stands there twice", ledgerPath, n, f[0])
		}
		seen[f[0]] = true
		r := row{id: f[0], strength: f[1], text: f[2]}
		if len(f) == 4 {
			r.reason = f[3]
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: no requirements", ledgerPath)
	}
	return rows, nil
}

// verdict is a requirement and the tests that show it.
type verdict struct {
	row
	tests []result
}

// judge finds the tests of each requirement, and says which ones have none that ran and passed.
func judge(rows []row, tests map[string][]result) ([]verdict, []error) {
	var out []verdict
	var missing []error
	known := map[string]bool{}
	for _, r := range rows {
		known[r.id] = true
		v := verdict{row: r}
		for _, t := range tests[r.id] {
			switch t.action {
			case "pass":
				v.tests = append(v.tests, t)
			default:
				missing = append(missing, fmt.Errorf("%s: %s in %s: %s", r.id, t.test, t.pkg, t.action))
			}
		}
		switch {
		case len(v.tests) == 0 && r.reason == "":
			missing = append(missing, fmt.Errorf("%s (%s): no test that names it has passed", r.id, r.text))
		case len(v.tests) > 0 && r.reason != "" && !r.open():
			missing = append(missing, fmt.Errorf("%s has a test, %s, and a reason for having none", r.id, v.tests[0].test))
		}
		out = append(out, v)
	}
	for id := range tests {
		if !known[id] {
			missing = append(missing, fmt.Errorf("%s is named by a test and stands not in %s", id, ledgerPath))
		}
	}
	slices.SortFunc(missing, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return out, missing
}
