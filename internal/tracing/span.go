package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Span is a part of a trace that lasts. It is safe for concurrent use. A nil one does
// nothing.
type Span struct {
	tracer *Tracer
	ctx    context.Context //nolint:containedctx // only OpenTelemetry's parent is in it
	span   trace.Span
}

// Child begins a part of the span within the operator.
func (s *Span) Child(name string) *Span {
	if s == nil {
		return nil
	}
	return s.tracer.begin(s.ctx, name)
}

// Call begins a part of the span in which the operator waits for a target.
func (s *Span) Call(name string) *Span {
	if s == nil {
		return nil
	}
	return s.tracer.begin(s.ctx, name, trace.WithSpanKind(trace.SpanKindClient))
}

// Past adds a part of the span that is over, and returns it for parts of its own.
func (s *Span) Past(name string, from, to time.Time) *Span {
	if s == nil {
		return nil
	}
	past := s.tracer.begin(s.ctx, name, trace.WithTimestamp(from))
	if past != nil {
		past.span.End(trace.WithTimestamp(to))
	}
	return past
}

// Name gives the span another name.
func (s *Span) Name(name string) {
	if s != nil {
		s.span.SetName(name)
	}
}

// Set sets an attribute, unless it is empty.
func (s *Span) Set(key, value string) {
	if s != nil && value != "" {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// SetInt sets an attribute.
func (s *Span) SetInt(key string, value int) {
	if s != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// SetWords sets an attribute, unless it is empty.
func (s *Span) SetWords(key string, words []string) {
	if s != nil && len(words) > 0 {
		s.span.SetAttributes(attribute.StringSlice(key, words))
	}
}

// Fail says why what the span is about did not succeed: a reason, never the words of a
// message, which may be those of a command.
func (s *Span) Fail(reason string) {
	if s == nil {
		return
	}
	s.span.SetAttributes(semconv.ErrorTypeKey.String(reason))
	s.span.SetStatus(codes.Error, reason)
}

// End ends the span.
func (s *Span) End() {
	if s != nil {
		s.span.End()
	}
}
