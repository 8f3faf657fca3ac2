// Package logs is what the log of the operator leaves out and words otherwise of what
// libraries log.
//
//	logger := logs.WithoutDepartures(logs.WithoutBodies(logger))
//	ctrl.SetLogger(logger)
//	err := logs.Capture(logger)
//
// An error in the log is for a person to act upon. A client that goes away is none, although
// libraries say so with a stack trace: such lines are written at level debug.
//
// Trade-offs: lines are recognized by their texts, because that is all that libraries
// give. A text that changes makes a line an error again, which a test with real clients
// finds.
package logs

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/go-logr/logr"
)

// debug is the verbosity of lines that only help to find out what happened.
const debug = 1

// WithoutDepartures returns a logger that writes what the given one does, but errors that
// only say that a client went away at level debug, and refused logins as information.
func WithoutDepartures(logger logr.Logger) logr.Logger {
	return logger.WithSink(withoutDepartures{logger.WithCallDepth(1).GetSink()})
}

type withoutDepartures struct{ logr.LogSink }

// Error implements logr.LogSink.
func (s withoutDepartures) Error(err error, message string, facts ...any) {
	level, demoted := demote(err, message)
	switch {
	case !demoted:
		s.LogSink.Error(err, message, facts...)
	case s.Enabled(level) && err != nil:
		s.Info(level, message, append(slices.Clone(facts), "reason", err.Error())...)
	case s.Enabled(level):
		s.Info(level, message, facts...)
	}
}

// WithValues implements logr.LogSink.
func (s withoutDepartures) WithValues(facts ...any) logr.LogSink {
	return withoutDepartures{s.LogSink.WithValues(facts...)}
}

// WithName implements logr.LogSink.
func (s withoutDepartures) WithName(name string) logr.LogSink {
	return withoutDepartures{s.LogSink.WithName(name)}
}

// WithCallDepth implements logr.CallDepthLogSink.
func (s withoutDepartures) WithCallDepth(depth int) logr.LogSink {
	if deep, ok := s.LogSink.(logr.CallDepthLogSink); ok {
		return withoutDepartures{deep.WithCallDepth(depth)}
	}
	return s
}

// refusedLogins are messages about a client that is not known, which is told so. If
// kube-apiserver cannot be asked, that has a line of its own.
var refusedLogins = []string{"Unable to authenticate the request", "Authentication failed"}

// departures are messages that always mean that the client did not wait for its answer.
var departures = []string{"Post-timeout activity", "Timeout or abort while handling"}

// answers are how errors about an answer begin, and cuts what is in them when the
// connection to the client was cut.
var (
	answers = []string{
		"apiserver was unable to write a ", "apiserver was unable to close cleanly the response writer",
		"apiserver received an error that is not an metav1.Status",
	}
	cuts = []string{
		"http: Handler timeout", "stream closed", "client disconnected", "connection reset by peer", "broken pipe",
		"use of closed network connection", "i/o timeout", `s:"unexpected EOF"`, "body closed by handler",
	}
)

// finished is how the line about a request begins whose client had left, and panicked what
// is in it if the request failed by a mistake in the program.
const (
	finished = "FinishRequest: post-timeout activity"
	panicked = "panicked: true"
)

// demote returns the level of an error that no person need act on.
func demote(err error, message string) (level int, demoted bool) {
	text := message
	if err != nil {
		text = err.Error()
	}
	switch {
	case slices.Contains(refusedLogins, message):
		return 0, true
	case slices.Contains(departures, message), canceled(err, text):
		return debug, true
	case strings.HasPrefix(text, finished):
		return debug, !strings.Contains(text, panicked)
	}
	return debug, startsWithOneOf(text, answers) && containsOneOf(text, cuts)
}

// canceled reports whether an error is the end of a context: a client has left, or the
// operator stops. Libraries that format errors leave only the text.
func canceled(err error, text string) bool {
	return errors.Is(err, context.Canceled) || strings.HasSuffix(text, ": "+context.Canceled.Error())
}

func startsWithOneOf(text string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(text, prefix) })
}

func containsOneOf(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}
