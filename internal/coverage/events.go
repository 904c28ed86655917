package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

var errFailed = errors.New("tests failed")

// printEvents prints the output of packages, and of tests only when they fail, and writes the outcome of each test that
// names a requirement to results.
func printEvents(in io.Reader, out, results io.Writer) error {
	output := map[[2]string][]string{}
	failed := false
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			failed = printEvent(line, output, out, results) || failed
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if failed {
		return errFailed
	}
	return nil
}

// printEvent reports whether the line tells of a failure.
func printEvent(line string, output map[[2]string][]string, out, results io.Writer) (failed bool) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(out, line) // of the compiler
		return false
	}
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		if e.Test == "" && !noise(e.Output) {
			fmt.Fprint(out, e.Output)
		} else if e.Test != "" {
			output[key] = append(output[key], e.Output)
		}
	case "build-fail":
		return true
	case "fail":
		fmt.Fprint(out, strings.Join(output[key], ""))
		delete(output, key)
		failed = true
		fallthrough
	case "pass", "skip":
		if e.Action == "skip" {
			fmt.Fprint(out, strings.Join(output[key], ""))
		}
		delete(output, key)
		if e.Test != "" && named.MatchString(e.Test) {
			fmt.Fprintf(results, "%s %s %s\n", e.Action, e.Package, e.Test)
		}
	}
	return failed
}

// noise is what go test prints of a package only when it is asked to say more.
func noise(line string) bool {
	return line == "PASS\n" || strings.HasPrefix(line, "testing: warning: no tests to run")
}

// named finds the requirements that a test's name says it is about.
var named = regexp.MustCompile(`BTNS-[A-Z]+-\d+`)

// result is the outcome of one test.
type result struct{ action, pkg, test string }

// readResults reads what print wrote, by the requirement that a test names.
func readResults(r io.Reader) (map[string][]result, error) {
	by := map[string][]result{}
	s := bufio.NewScanner(r)
	for s.Scan() {
		var x result
		if _, err := fmt.Sscan(s.Text(), &x.action, &x.pkg, &x.test); err != nil {
			return nil, fmt.Errorf("results: %q: %w", s.Text(), err)
		}
		for _, id := range named.FindAllString(x.test, -1) {
			if !slices.Contains(by[id], x) {
				by[id] = append(by[id], x)
			}
		}
	}
	return by, s.Err()
}
