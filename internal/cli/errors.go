package cli

import (
	"errors"
	"fmt"

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

// report tells of an error and returns the exit code that it means.
func (f *factory) report(_ *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		if exit.err != nil {
			fmt.Fprintln(f.ErrOut, "error:", exit.err)
		}

		return exit.code
	}
	fmt.Fprintln(f.ErrOut, "error:", err)

	return 1
}
