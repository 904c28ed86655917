package main

import (
	"errors"
	"fmt"
	"os"
)

const (
	ledgerPath   = "docs/requirements.txt"
	documentPath = "docs/coverage.md"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "coverage:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: coverage print|check|write RESULTS, in the root of the repository")
	}
	if args[0] == "print" {
		f, err := os.OpenFile(args[1], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		return errors.Join(printEvents(os.Stdin, os.Stdout, f), f.Close())
	}
	results, err := os.Open(args[1])
	if err != nil {
		return err
	}
	defer results.Close()
	tests, err := readResults(results)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(ledgerPath)
	if err != nil {
		return err
	}
	rows, err := parseLedger(string(text))
	if err != nil {
		return err
	}
	doc, err := os.ReadFile(documentPath)
	if err != nil {
		return err
	}
	judged, missing := judge(rows, tests)
	want, err := replace(string(doc), judged)
	if err != nil {
		return err
	}
	switch args[0] {
	case "write":
		if err := os.WriteFile(documentPath, []byte(want), 0o644); err != nil {
			return err
		}
	case "check":
		if want != string(doc) {
			missing = append(missing, fmt.Errorf("%s does not say what was tested; bring it up to date with: make coverage", documentPath))
		}
	default:
		return fmt.Errorf("%q is none of print, check, write", args[0])
	}
	if err := errors.Join(missing...); err != nil {
		return err
	}
	fmt.Printf("coverage: %d requirements, each with a test that passed or a reason\n", len(rows))
	return nil
}
