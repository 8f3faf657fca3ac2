// Package otlp is a collector of traces for tests.
//
//	collector := otlp.Start()
//	defer collector.Close()
//	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
//	...
//	spans := collector.Spans(traceID)
//
// It takes OTLP over HTTP, as protobuf.
package otlp

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	collect "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	pb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it was received.
type Span struct {
	Name, Trace, ID, Parent string
	Kind                    pb.Span_SpanKind
	From, To                time.Time
	// Facts are the attributes, each as text.
	Facts map[string]string
	// Failed reports whether its status is an error.
	Failed bool
	// Text is all of it.
	Text string
}

// Collector is a running collector. It is safe for concurrent use.
type Collector struct {
	*httptest.Server

	mu    sync.Mutex
	spans []Span
}

// Start starts a collector on a free port of the loopback.
func Start() *Collector {
	c := &Collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.receive))
	return c
}

// Spans returns the spans of a trace that have been received so far, or all for "".
func (c *Collector) Spans(trace string) []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Span
	for _, span := range c.spans {
		if trace == "" || span.Trace == trace {
			found = append(found, span)
		}
	}
	return found
}

func (c *Collector) receive(w http.ResponseWriter, r *http.Request) {
	request, err := decode(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, received(span, resource.GetResource().GetAttributes()))
			}
		}
	}
}

func decode(r *http.Request) (*collect.ExportTraceServiceRequest, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	request := &collect.ExportTraceServiceRequest{}
	return request, proto.Unmarshal(text, request)
}

func received(span *pb.Span, resource []*common.KeyValue) Span {
	facts := map[string]string{}
	for _, fact := range append(resource, span.GetAttributes()...) {
		facts[fact.GetKey()] = text(fact.GetValue())
	}
	return Span{
		Name: span.GetName(), Trace: hex.EncodeToString(span.GetTraceId()),
		ID: hex.EncodeToString(span.GetSpanId()), Parent: hex.EncodeToString(span.GetParentSpanId()),
		Kind: span.GetKind(), From: at(span.GetStartTimeUnixNano()), To: at(span.GetEndTimeUnixNano()),
		Facts: facts, Failed: span.GetStatus().GetCode() == pb.Status_STATUS_CODE_ERROR, Text: span.String(),
	}
}

func at(nanoseconds uint64) time.Time { return time.Unix(0, int64(nanoseconds)) }

func text(value *common.AnyValue) string {
	if s, ok := value.GetValue().(*common.AnyValue_StringValue); ok {
		return s.StringValue
	}
	return value.String()
}
