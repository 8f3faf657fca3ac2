package exec

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/tracing"
	"github.com/connpool/connpool/test/otlp"
)

func TestSpansHaveTheWordsOfCommandsOnlyWhenAuditLinesHaveThem(t *testing.T) {
	const word, input, variable = "word-of-a-command", "what-it-reads", "what-is-set"
	for name, audited := range map[string]bool{"without --audit-commands": false, "with --audit-commands": true} {
		t.Run(name, func(t *testing.T) {
			collector := otlp.Start()
			defer collector.Close()
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
			tracer, err := tracing.New(t.Context(), tracing.Options{Log: logr.Discard()})
			if err != nil {
				t.Fatal(err)
			}
			f := newFixture(t, func(c *use.Config) { c.Tracer, c.AuditCommands = tracer, audited })
			defer f.Close()
			f.Web()
			f.Fake.OnExec(registrytest.Saying("", "", 3))
			object := registrytest.Command("echo", word)
			object.Spec.Stdin, object.Spec.Env = []byte(input), map[string]string{"SECRET": variable}
			f.Post(t.Context(), "web", object).WantOutcome(f, live.OutcomeCompleted)
			tracer.Close(t.Context())
			spans := collector.Spans("")
			command := slices.IndexFunc(spans, func(s otlp.Span) bool { return s.Name == "connpool.command" })
			if command < 0 || strings.Contains(spans[command].Facts["process.command_args"], word) != audited {
				t.Errorf("the spans are %v", spans)
			}
			for _, span := range spans {
				if strings.Contains(span.Text, word) && !audited || strings.Contains(span.Text, input) || strings.Contains(span.Text, variable) {
					t.Errorf("%s says %s", span.Name, span.Text)
				}
			}
		})
	}
}
