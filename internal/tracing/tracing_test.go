package tracing

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"go.opentelemetry.io/otel/propagation"

	"github.com/connpool/connpool/test/otlp"
)

// asked returns the context of a request with the header.
func asked(t *testing.T, traceparent string) context.Context {
	t.Helper()
	return propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": traceparent})
}

const (
	traceID   = "4bf92f3577b34da6a3ce929d0e0e4736"
	sampled   = "00-" + traceID + "-00f067aa0ba902b7-01"
	unsampled = "00-" + traceID + "-00f067aa0ba902b7-00"
)

func start(t *testing.T, environment map[string]string) *Tracer {
	t.Helper()
	for name, value := range environment {
		t.Setenv(name, value)
	}
	tracer, err := New(t.Context(), Options{Version: "v1", Replica: "one", Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tracer.Close(context.WithoutCancel(t.Context())) })
	return tracer
}

func TestTracingIsOffUnlessACollectorIsNamed(t *testing.T) {
	for name, environment := range map[string]map[string]string{
		"nothing is set":      {},
		"OpenTelemetry off":   {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		"traces are not sent": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			tracer := start(t, environment)
			span := tracer.Begin(asked(t, sampled), "a")
			child := span.Child("b").Call("c").Past("d", time.Now(), time.Now())
			child.Set("a", "b")
			child.SetInt("a", 1)
			child.SetWords("a", []string{"b"})
			child.Name("c")
			child.Fail("why")
			child.End()
			if tracer != nil || span != nil || child != nil {
				t.Errorf("tracer %v, spans %v and %v", tracer, span, child)
			}
			if allocated := testing.AllocsPerRun(100, func() { tracer.Begin(t.Context(), "a").Child("b").End() }); allocated > 0 {
				t.Errorf("%v allocations for nothing", allocated)
			}
		})
	}
}

func TestBadSettingsAreRefusedWithTheVariable(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	for variable, value := range map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_TRACES_EXPORTER": "zipkin"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			if _, err := New(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), variable) {
				t.Errorf("error %v, want it to name %s", err, variable)
			}
		})
	}
}

func TestOneTraceHasTheClientAndAllParts(t *testing.T) {
	collector := otlp.Start()
	defer collector.Close()
	tracer := start(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_SERVICE_NAME": "pools"})
	root := tracer.Begin(asked(t, sampled), "use")
	past := root.Past("dial", time.Unix(1, 0), time.Unix(3, 0))
	past.Past("stage", time.Unix(1, 0), time.Unix(2, 0))
	call := root.Call("command")
	call.Fail("Timeout")
	call.End()
	root.End()
	tracer.Close(t.Context())
	ids := map[string]string{"client": "00f067aa0ba902b7"}
	spans := collector.Spans(traceID)
	for _, span := range spans {
		ids[span.Name] = span.ID
	}
	for name, parent := range map[string]string{"use": "client", "dial": "use", "stage": "dial", "command": "use"} {
		i := slices.IndexFunc(spans, func(s otlp.Span) bool { return s.Name == name })
		if i < 0 || spans[i].Parent != ids[parent] || spans[i].Facts["service.name"] != "pools" || spans[i].Facts["service.instance.id"] != "one" {
			t.Errorf("%s is not a part of %s: %v", name, parent, spans)
		}
		if i >= 0 && (spans[i].Failed != (name == "command") || name == "dial" && spans[i].To.Sub(spans[i].From) != 2*time.Second) {
			t.Errorf("it is %v", spans[i])
		}
	}
}

func TestWhatAClientMayAskForIsBounded(t *testing.T) {
	collector := otlp.Start()
	defer collector.Close()
	tracer := start(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": "parentbased_always_off",
	})
	for name, test := range map[string]struct {
		traceparent string
		least, most int
	}{
		"sampled":    {sampled, clientBurst, clientBurst + 5*clientTraces}, // on a slow machine
		"unsampled":  {unsampled, 0, 0},
		"no trace":   {"", 0, 0},
		"no sampled": {"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", 0, 0},
	} {
		begun := 0
		for range 10 * clientBurst {
			if span := tracer.Begin(asked(t, test.traceparent), "use"); span != nil {
				begun++
				span.End()
			}
		}
		if begun < test.least || begun > test.most {
			t.Errorf("%s: %d traces, want %d to %d", name, begun, test.least, test.most)
		}
	}
}

// A collector that is away, or that accepts and says nothing, costs no time and little
// memory.
func TestACollectorThatHangsHoldsNothingUp(t *testing.T) {
	hangs := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer hanging.Close()
	defer close(hangs)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for name, url := range map[string]string{"it hangs": hanging.URL, "it is away": "http://" + gone.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
			lines := make(chan string, 1000)
			tracer, err := New(t.Context(), Options{Log: funcr.New(func(_, line string) { lines <- line }, funcr.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			before := heap()
			began := time.Now()
			for range 50_000 {
				tracer.Begin(t.Context(), "use").End()
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("50,000 spans took %s", took)
			}
			if grown := heap() - before; grown > 32<<20 {
				t.Errorf("50,000 spans hold %d bytes", grown)
			}
			ctx, cancel := context.WithTimeout(t.Context(), farewell)
			defer cancel()
			began = time.Now()
			tracer.Close(ctx)
			if took := time.Since(began); took > 2*farewell {
				t.Errorf("it took %s to end", took)
			}
			if len(lines) > 2 {
				t.Errorf("%d lines in the log", len(lines))
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
