package cluster

import (
	"errors"
	"strings"

	"github.com/connpool/connpool/client"
)

// WithoutCommand returns an error of the client without the words about a command, for
// requests in which the user has typed none.
func WithoutCommand(err error) error {
	failed, ok := errors.AsType[*client.Error](err)
	if !ok || failed.Message == "" {
		return err
	}
	text := failed.Message
	for _, outcome := range []error{client.ErrNotStarted, client.ErrUnknown} {
		text = strings.TrimPrefix(text, outcome.Error()+": ")
	}
	if failed.RequestID != "" {
		text += " (request " + failed.RequestID + ")"
	}
	return &wordedError{error: err, text: text}
}

// wordedError is an error in other words.
type wordedError struct {
	error

	text string
}

// Error implements error.
func (e *wordedError) Error() string { return e.text }

// Unwrap returns the error.
func (e *wordedError) Unwrap() error { return e.error }
