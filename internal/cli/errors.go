package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// exitError ends the process with a code of its own.
type exitError struct {
	code int
	// err is told on standard error; nothing is if it is nil.
	err error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitWith ends the process with a code and says nothing.
func exitWith(code int) error { return &exitError{code: code} }

// hintedError is an error with the next step.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }

func (e *hintedError) Unwrap() error { return e.err }

func hinted(err error, format string, args ...any) error {
	return &hintedError{err: err, hint: fmt.Sprintf(format, args...)}
}

// failureCode is the annotation of a command whose own failures must not be
// taken for exit codes of the remote command.
const failureCode = "connpool.dev/failure-exit-code"

// report tells of an error and returns the exit code that it means.
func (f *factory) report(command *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	code := 1
	if command != nil && command.Annotations[failureCode] != "" {
		code = exitNotStarted
	}
	exit, ok := errors.AsType[*exitError](err)
	if ok {
		code, err = exit.code, exit.err
	}
	if err != nil {
		f.tell(err)
	}
	return code
}

// tell prints an error and, if it has one, the next step.
func (f *factory) tell(err error) {
	fmt.Fprintln(f.ErrOut, "error:", printable(err.Error()))
	f.tellHint(err)
}

// tellHint prints the next step, if the error has one.
func (f *factory) tellHint(err error) {
	if hint, ok := errors.AsType[*hintedError](err); ok {
		fmt.Fprintf(f.ErrOut, "\n%s\n", strings.TrimRight(hint.hint, "\n"))
	}
}
