package main

import (
	"fmt"
	"slices"
	"strings"
)

// The generated part of the document stands between these lines.
const (
	from = "<!-- generated from docs/requirements.txt and the tests: make coverage -->\n"
	to   = "<!-- end of the generated part -->\n"
)

// families are the headings of the tables, by the middle of an ID.
var families = []struct{ name, title string }{
	{"CORE", "RFC 5386: BTNS core"},
	{"NULL", "RFC 7619: NULL authentication"},
	{"TRUST", "Leap of faith"},
}

// replace puts the tables into the document.
func replace(doc string, rows []verdict) (string, error) {
	head, rest, ok := strings.Cut(doc, from)
	_, tail, also := strings.Cut(rest, to)
	if !ok || !also {
		return "", fmt.Errorf("%s: no lines %q and %q to write between", documentPath, strings.TrimSpace(from), strings.TrimSpace(to))
	}
	var b strings.Builder
	b.WriteString(head + from)
	done := 0
	for _, f := range families {
		fmt.Fprintf(&b, "\n## %s\n\n| ID | strength | requirement | shown by |\n| --- | --- | --- | --- |\n", f.title)
		for _, v := range rows {
			if strings.HasPrefix(v.id, "BTNS-"+f.name+"-") {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", v.id, v.strength, v.text, shown(v))
				done++
			}
		}
	}
	if done != len(rows) {
		return "", fmt.Errorf("%s: %d requirements belong to no table of %s", ledgerPath, len(rows)-done, documentPath)
	}
	b.WriteString("\n" + to + tail)
	return b.String(), nil
}

// shown names the tests of a requirement, one of each package, or says why there is none. What is open may have tests of the
// part that is done.
func shown(v verdict) string {
	if v.reason != "" && !v.open() {
		return "not applicable: " + v.reason
	}
	first := map[string]string{}
	for _, t := range v.tests {
		_, pkg, _ := strings.Cut(t.pkg, "github.com/btns-ipsec/btns/")
		name, _, _ := strings.Cut(t.test, "/")
		if old, ok := first[pkg]; !ok || name < old {
			first[pkg] = name
		}
	}
	var list []string
	for pkg, name := range first {
		list = append(list, fmt.Sprintf("`%s` %s", pkg, name))
	}
	slices.Sort(list)
	if v.open() {
		list = append([]string{v.reason}, list...)
	}
	return strings.Join(list, ", ")
}
