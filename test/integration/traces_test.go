package integration

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/otlp"
)

// clientSpan is the span of a client, which is not sent to the collector.
const clientSpan = "00f067aa0ba902b7"

// traceparent sets the header of W3C trace context.
type traceparent struct {
	http.RoundTripper

	value string
}

func (t traceparent) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("Traceparent", t.value)
	return t.RoundTripper.RoundTrip(request)
}

// traced returns a client whose requests belong to a new trace.
func traced(t *testing.T, config *rest.Config, flags string) (*client.Client, string) {
	t.Helper()
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	trace := hex.EncodeToString(id)
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return traceparent{next, "00-" + trace + "-" + clientSpan + "-" + flags}
	})
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c, trace
}

// spansOf waits until the collector has the spans of a trace, by their names.
func spansOf(t *testing.T, trace string, want ...string) map[string]otlp.Span {
	t.Helper()
	found := map[string]otlp.Span{}
	eventually(t, 20*time.Second, "the trace is complete", func() (bool, string) {
		var missing []string
		for _, span := range env.traces.Spans(trace) {
			found[span.Name] = span
		}
		for _, name := range want {
			if found[name].ID == "" {
				missing = append(missing, name)
			}
		}
		return len(missing) == 0, fmt.Sprintf("%v are missing", missing)
	})
	return found
}

func TestOneTraceLeadsFromTheClientThroughKubeAPIServerToTheDial(t *testing.T) {
	p, direct := usable(t, size(1, 3), func(spec *v1alpha1.ConnectionPoolSpec) { spec.SessionsPerConnection = new(int32(1)) })
	config := proxied(direct)
	const secretWord = "word-of-a-command"
	for name, run := range map[string]func(context.Context, *client.Pool) error{
		"as JSON": func(ctx context.Context, pool *client.Pool) error {
			_, err := pool.Exec(ctx, client.Command{Shell: "exit 3 # " + secretWord})
			return err
		},
		"as a stream": func(ctx context.Context, pool *client.Pool) error {
			_, err := pool.Stream(ctx, client.Command{Shell: "exit 3 # " + secretWord}, client.Streams{Stdout: io.Discard})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			connpool, trace := traced(t, config, "01")
			busy, err := env.pools.Acquire(t.Context(), p.request()) // so that the command waits for a dial
			if err != nil {
				t.Fatal(err)
			}
			defer busy.Discard()
			exit := new(client.ExitError)
			if err := run(t.Context(), connpool.Pool(p.pool.Namespace, p.pool.Name)); !errors.As(err, &exit) || exit.Code != 3 {
				t.Fatal(err)
			}
			spans := spansOf(t, trace, "connpool.exec", "connpool.acquire", "connpool.command")
			for name, parent := range map[string]string{"connpool.acquire": "connpool.exec", "connpool.command": "connpool.exec"} {
				if spans[name].Parent != spans[parent].ID {
					t.Errorf("%s is not a part of %s", name, parent)
				}
			}
			if root := spans["connpool.exec"]; root.Parent != clientSpan || root.Facts["connpool.pool"] != p.pool.Name ||
				root.Facts["k8s.namespace.name"] != p.pool.Namespace || root.Facts["connpool.request_id"] == "" {
				t.Errorf("the first span is %v", root)
			}
			if facts := spans["connpool.command"].Facts; facts["connpool.outcome"] != "Completed" || !strings.Contains(facts["process.exit.code"], "3") {
				t.Errorf("the command's span says %v", facts)
			}
			for _, span := range spans {
				if strings.Contains(span.Text, secretWord) {
					t.Errorf("a word of the command is in %s", span.Text)
				}
			}
			checkDial(t, spans)
		})
	}
}

// checkDial checks the stages of the dial that a lease has waited for.
func checkDial(t *testing.T, spans map[string]otlp.Span) {
	t.Helper()
	acquire, dial := spans["connpool.acquire"], spans["connpool.dial"]
	if acquire.Facts["connpool.acquired"] != "dialed" || dial.Parent != acquire.ID {
		t.Fatalf("the lease was %v, with the dial %v", acquire.Facts, dial)
	}
	last := dial.From
	for _, stage := range []string{"turn", "connect", "banner", "key_exchange", "host_key", "authentication", "session"} {
		span, ok := spans["connpool.dial."+stage]
		if !ok || span.Parent != dial.ID || span.From.Before(last) || span.To.After(dial.To) {
			t.Errorf("stage %s is %v (%t)", stage, span, ok)
		}
		last = span.To
	}
}

func TestARefusalIsInItsTrace(t *testing.T) {
	p, direct := usable(t)
	p.server.Stop()
	var trace string
	// The first commands may still get a connection that is not yet known to be lost.
	eventually(t, 30*time.Second, "a command gets no connection", func() (bool, string) {
		var connpool *client.Client
		connpool, trace = traced(t, direct, "01")
		_, err := connpool.Pool(p.pool.Namespace, p.pool.Name).Exec(t.Context(), client.Command{Shell: "true"})
		return apierrors.IsServiceUnavailable(err), errorText(err)
	})
	spans := spansOf(t, trace, "connpool.exec", "connpool.acquire")
	for _, name := range []string{"connpool.exec", "connpool.acquire"} {
		if span := spans[name]; !span.Failed || span.Facts["error.type"] != "Unreachable" {
			t.Errorf("%s says %v", name, span.Facts)
		}
	}
}

func TestALostCommandIsInItsTrace(t *testing.T) {
	p, direct := usable(t)
	connpool, trace := traced(t, direct, "01")
	marks := marksOn(t, p.server)
	ended := make(chan error, 1)
	go func() {
		_, err := connpool.Pool(p.pool.Namespace, p.pool.Name).Exec(t.Context(), client.Command{Shell: trapped(marks)})
		ended <- err
	}()
	awaitMark(t, 20*time.Second, marks, "started")
	p.server.Stop()
	if err := <-ended; !errors.Is(err, client.ErrUnknown) {
		t.Fatalf("the command ended with %v", err)
	}
	spans := spansOf(t, trace, "connpool.exec", "connpool.command")
	for _, name := range []string{"connpool.exec", "connpool.command"} {
		if span := spans[name]; !span.Failed || span.Facts["error.type"] != "Unreachable" {
			t.Errorf("%s says %v", name, span.Facts)
		}
	}
}

func TestARequestThatIsNotSampledLeavesNoSpans(t *testing.T) {
	p, direct := usable(t)
	silent, unsampled := traced(t, direct, "00")
	traced, sampled := traced(t, direct, "01")
	for _, c := range []*client.Client{silent, traced} {
		if _, err := c.Pool(p.pool.Namespace, p.pool.Name).Exec(t.Context(), client.Command{Shell: "true"}); err != nil {
			t.Fatal(err)
		}
	}
	spansOf(t, sampled, "connpool.exec") // which is sent after the other would be
	if spans := env.traces.Spans(unsampled); len(spans) > 0 {
		t.Errorf("there are %v", spans)
	}
}

// running checks the span of what a use does on its connection, and returns the first span.
func running(t *testing.T, spans map[string]otlp.Span, first, what string) otlp.Span {
	t.Helper()
	root := spans[first]
	for _, name := range []string{"connpool.acquire", what} {
		if spans[name].Parent != root.ID {
			t.Errorf("%s is not a part of %s", name, first)
		}
	}
	if root.Parent != clientSpan || root.Facts["connpool.pool"] == "" || root.Facts["connpool.target"] == "" || root.Failed {
		t.Errorf("the first span is %v", root)
	}
	if spans[what].Facts["connpool.connection"] == "" || spans[what].Failed {
		t.Errorf("%s says %v", what, spans[what].Facts)
	}
	return root
}

func TestAProxiedRequestHasItsSpansAndNoneHasItsPath(t *testing.T) {
	_, _, ct, p := warmEngine(t)
	c, trace := traced(t, env.config, "01")
	const path = "/containers/name-of-a-container/json"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://target"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Pool(p.Namespace, p.Name).Proxy(ct.Name).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	spans := spansOf(t, trace, "connpool.proxy", "connpool.acquire", "connpool.request")
	root := running(t, spans, "connpool.proxy", "connpool.request")
	if root.Facts["http.request.method"] != http.MethodGet || root.Facts["connpool.transport"] != "http" {
		t.Errorf("the first span says %v", root.Facts)
	}
	if facts := spans["connpool.request"].Facts; !strings.Contains(facts["http.response.status_code"], "404") || facts["connpool.outcome"] != "Completed" {
		t.Errorf("the request's span says %v", facts)
	}
	for _, span := range spans {
		if strings.Contains(span.Text, "name-of-a-container") {
			t.Errorf("a part of the path is in %s", span.Text)
		}
	}
}

func TestAPortForwardHasItsSpans(t *testing.T) {
	p := warm(t, startPlainSSHD(t))
	c, trace := traced(t, env.config, "01")
	forwarder, err := c.Pool(p.pool.Namespace, p.pool.Name).Forward(t.Context(), "", strconv.Itoa(int(*p.target.Spec.SSH.Port)))
	if err != nil {
		t.Fatal(err)
	}
	far, err := forwarder.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	banner := make([]byte, 4)
	if _, err := io.ReadFull(far, banner); err != nil || string(banner) != "SSH-" {
		t.Errorf("read %q, %v", banner, err)
	}
	_ = far.Close()
	forwarder.Close()
	spans := spansOf(t, trace, "connpool.portforward", "connpool.acquire", "connpool.forward")
	running(t, spans, "connpool.portforward", "connpool.forward")
}

func TestASessionAndItsCommandsHaveTheirSpans(t *testing.T) {
	p := warm(t, startPlainSSHD(t))
	c, trace := traced(t, env.config, "01")
	session := open(t, c, p, client.SessionOptions{})
	if _, err := session.Exec(t.Context(), client.Command{Shell: "true"}); err != nil {
		t.Fatal(err)
	}
	if err := session.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := spansOf(t, trace, "connpool.session", "connpool.acquire", "connpool.exec", "connpool.command")
	begun, command := spans["connpool.session"], spans["connpool.exec"]
	if begun.Parent != clientSpan || spans["connpool.acquire"].Parent != begun.ID || begun.Facts["connpool.session"] != session.Name() {
		t.Errorf("the session's span is %v, with the lease %v", begun, spans["connpool.acquire"])
	}
	if command.Facts["connpool.session"] != session.Name() || spans["connpool.command"].Parent != command.ID {
		t.Errorf("the span of a command in the session is %v", command)
	}
}
