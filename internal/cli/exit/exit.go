// Package exit is how a command of the plugin ends: its exit code, what it
// prints on standard error, and the next step that it proposes.
//
// A command returns an error, and Report turns it into the exit code of the
// process. An ordinary error means the code that the command has for its own
// failures; With and WithError choose another one. Hint adds the next step to an
// error, and the error may be wrapped afterwards.
//
//	return exit.Hint(err, "See why: %s status %s", name, pool)
//
// Trade-off: a hint is text and not structured, because only people read it.
package exit

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/connpool/connpool/internal/cli/display"
)

// Exit codes of the plugin that are not the remote command's. The codes of ssh,
// docker and env are lower, and commands use those themselves.
const (
	// Failed is the code of an ordinary failure.
	Failed = 1
	// NotStarted says that the remote command certainly did not run.
	NotStarted = 254
	// Unknown says that the remote command may have run. It is a code of ssh, too.
	Unknown = 255
	// Interrupted is how a shell reports a program that Ctrl-C ended.
	Interrupted = 130
	// Terminated and HungUp are the same for SIGTERM and SIGHUP.
	Terminated = 143
	HungUp     = 129
)

// codeError ends the process with a code of its own.
type codeError struct {
	code int
	// err is printed on standard error, unless it is nil.
	err error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// With returns an error that ends the process with code and prints nothing.
func With(code int) error { return WithError(code, nil) }

// WithError returns an error that ends the process with code and prints err.
func WithError(code int, err error) error { return &codeError{code: code, err: err} }

type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }

func (e *hintedError) Unwrap() error { return e.err }

// Hint adds the next step to an error.
func Hint(err error, format string, args ...any) error {
	return &hintedError{err: err, hint: fmt.Sprintf(format, args...)}
}

// HintOf returns the next step that an error proposes, or "".
func HintOf(err error) string {
	if hinted, ok := errors.AsType[*hintedError](err); ok {
		return strings.TrimRight(hinted.hint, "\n")
	}
	return ""
}

// Report prints an error and returns the exit code that it means: its own if it has one,
// Interrupted if the user has ended the command, and otherwise failed.
func Report(out io.Writer, err error, failed int) int {
	if err == nil {
		return 0
	}
	code := failed
	if isInterrupt(err) {
		code = Interrupted
	}
	if own, ok := errors.AsType[*codeError](err); ok {
		code, err = own.code, own.err
	}
	if err != nil {
		Print(out, err)
	}
	return code
}

// Print prints an error and, if it has one, the next step. Further lines of an error
// are indented: a server may have written them, and they are no next step.
func Print(out io.Writer, err error) {
	fmt.Fprintln(out, "error:", strings.ReplaceAll(display.Printable(Words(err.Error())), "\n", "\n  "))
	PrintHint(out, err)
}

// PrintHint prints the next step, if the error has one.
func PrintHint(out io.Writer, err error) {
	if hint := HintOf(err); hint != "" {
		fmt.Fprintf(out, "\n%s\n", display.Printable(hint))
	}
}

// PrintNote prints what is neither an error nor output of a command, unless it is empty.
func PrintNote(out io.Writer, text string) {
	if text != "" {
		fmt.Fprintln(out, "note:", display.OneLine(Words(text)))
	}
}
