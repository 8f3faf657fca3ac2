// Package tracing makes spans of OpenTelemetry of what the operator does for a request, and
// sends them to a collector by OTLP.
//
//	tracer, err := tracing.New(ctx, tracing.Options{...}) // nil if the environment names no collector
//	defer tracer.Close(ctx)
//	span := tracer.Begin(ctx, "connpool.exec")
//	defer span.End()
//
// A nil Tracer begins nil spans, and every method of a nil Span does nothing, so that
// tracing costs nothing when it is off and when a request is not sampled.
//
// The standard environment variables of OpenTelemetry are its settings. A client says by
// the header traceparent that its request belongs to a trace that is sampled. That is
// believed a bounded number of times in a second; beyond, the request is not sampled.
//
// Trade-offs: spans are dropped when the collector is slow or away, because nothing waits
// for it.
package tracing

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

const (
	// clientTraces is how many traces in a second clients may ask for, over time, and
	// clientBurst how many at once. A trace takes some kilobytes until it is sent.
	clientTraces = 20
	clientBurst  = 100
	// complaintGap is the shortest time between two lines about a collector that gets no
	// spans.
	complaintGap = time.Minute
	// farewell bounds how long the last spans may take to be sent.
	farewell = 5 * time.Second
)

// Options are what a Tracer needs.
type Options struct {
	// Version of the program, and Replica, the name of this process, are in every span.
	Version, Replica string
	// Log gets a line when spans cannot be sent.
	Log logr.Logger
}

// Tracer begins spans. It is safe for concurrent use. A nil one begins none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	believed *rate.Limiter
}

// New returns a tracer, or nil if the environment turns tracing off or names no collector.
// It does not connect. A process can have one, because OpenTelemetry has one handler of
// errors.
func New(ctx context.Context, o Options) (*Tracer, error) {
	if off() {
		return nil, nil //nolint:nilnil // a nil Tracer is one that is off
	}
	exporter, err := newExporter(ctx)
	if err != nil {
		return nil, err
	}
	described, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("connpool"), semconv.ServiceVersion(o.Version), semconv.ServiceInstanceID(o.Replica)),
		resource.WithFromEnv(), // which comes before the above
	)
	if err != nil {
		return nil, fmt.Errorf("describe the operator for traces: %w; check OTEL_RESOURCE_ATTRIBUTES", err)
	}
	complaints := rate.Sometimes{First: 1, Interval: complaintGap}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		complaints.Do(func() {
			o.Log.Info("Traces are lost; check OTEL_EXPORTER_OTLP_ENDPOINT and its collector", "reason", err.Error())
		})
	}))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(described))
	return &Tracer{
		provider: provider, tracer: provider.Tracer("github.com/connpool/connpool"), believed: rate.NewLimiter(clientTraces, clientBurst),
	}, nil
}

// off reports whether the environment turns tracing off or does not turn it on.
func off() bool {
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) == "" ||
		strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || exporter == "none"
}

func newExporter(ctx context.Context) (sdk.SpanExporter, error) {
	if exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER must be otlp or none, not %q", exporter)
	}
	var client otlptrace.Client
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
	switch protocol {
	case "http/protobuf":
		client = otlptracehttp.NewClient()
	case "grpc":
		client = otlptracegrpc.NewClient()
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc, not %q", protocol)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("prepare to send traces: %w; check OTEL_EXPORTER_OTLP_ENDPOINT", err)
	}
	return exporter, nil
}

// Close sends the last spans, in bounded time.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// Begin begins the span of a request whose context has its trace, if the client names one.
// The span is nil if it is not sampled.
func (t *Tracer) Begin(ctx context.Context, name string) *Span {
	if t == nil {
		return nil
	}
	client := trace.SpanContextFromContext(ctx)
	if client.IsSampled() && !t.believed.Allow() {
		client = client.WithTraceFlags(client.TraceFlags().WithSampled(false))
	}
	parent := trace.ContextWithRemoteSpanContext(context.Background(), client) // nothing else of the request is kept
	return t.begin(parent, name, trace.WithSpanKind(trace.SpanKindServer))     //nolint:contextcheck // see above
}

func (t *Tracer) begin(ctx context.Context, name string, options ...trace.SpanStartOption) *Span {
	ctx, span := t.tracer.Start(ctx, name, options...)
	if !span.IsRecording() {
		return nil
	}
	return &Span{tracer: t, ctx: ctx, span: span}
}
