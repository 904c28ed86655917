package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

// Exit codes: a contract.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitNoDaemon
)

// usageError says that a command line makes no sense.
type usageError struct {
	text    string
	command string // whose --help says more
}

func (e *usageError) Error() string { return e.text }

// hintError adds to an error what to do about it.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

func hint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// errQuiet ends with exit code 1 and nothing more to say.
var errQuiet = errors.New("failed")

// execute runs a command line and says what went wrong.
func execute(ctx context.Context, root *cobra.Command, stderr io.Writer) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var (
		usage    *usageError
		noDaemon *control.NoDaemonError
		answered *control.Error
		hinted   *hintError
	)
	switch {
	case errors.Is(err, errQuiet):
		return exitFailed
	case errors.As(err, &usage):
		complain(stderr, usage.text, "see: "+usage.command+" --help")
		return exitUsage
	case errors.As(err, &noDaemon):
		fmt.Fprintf(stderr, "btns: %v; start one with: btns up\n", noDaemon)
		return exitNoDaemon
	case errors.As(err, &hinted):
		complain(stderr, err.Error(), hinted.hint)
		if errors.As(err, new(*inputError)) {
			return exitUsage
		}
	case errors.As(err, &answered):
		complain(stderr, err.Error(), answered.Hint)
		if answered.Input {
			return exitUsage
		}
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		complain(stderr, "interrupted", "")
	case errors.As(err, new(*inputError)):
		complain(stderr, err.Error(), "")
		return exitUsage
	default:
		complain(stderr, err.Error(), "")
	}
	return exitFailed
}

// inputError says that what a flag or an argument names cannot be used: exit code 2.
type inputError struct{ err error }

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

func complain(w io.Writer, text, hint string) {
	fmt.Fprintf(w, "btns: %s\n", strings.TrimPrefix(text, "btns: "))
	if hint != "" {
		fmt.Fprintf(w, "btns: hint: %s\n", hint)
	}
}
