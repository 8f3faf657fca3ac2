package logs

import (
	"slices"

	"github.com/go-logr/logr"
)

// WithoutBodies returns a logger that writes what the given one does, but for the lines in
// which client-go logs bodies of requests and answers, at level 8 and above. Among them
// are all Secrets of the operator.
func WithoutBodies(logger logr.Logger) logr.Logger {
	return logger.WithSink(withoutBodies{logger.WithCallDepth(1).GetSink()})
}

// bodies are the messages of client-go's lines about bodies.
var bodies = []string{"Request Body", "Response Body"}

type withoutBodies struct{ logr.LogSink }

// Info implements logr.LogSink.
func (s withoutBodies) Info(level int, message string, facts ...any) {
	if !slices.Contains(bodies, message) {
		s.LogSink.Info(level, message, facts...)
	}
}

// WithValues implements logr.LogSink.
func (s withoutBodies) WithValues(facts ...any) logr.LogSink {
	return withoutBodies{s.LogSink.WithValues(facts...)}
}

// WithName implements logr.LogSink.
func (s withoutBodies) WithName(name string) logr.LogSink {
	return withoutBodies{s.LogSink.WithName(name)}
}

// WithCallDepth implements logr.CallDepthLogSink.
func (s withoutBodies) WithCallDepth(depth int) logr.LogSink {
	if deep, ok := s.LogSink.(logr.CallDepthLogSink); ok {
		return withoutBodies{deep.WithCallDepth(depth)}
	}
	return s
}
