package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// TestMain waits for goroutines of libraries, some of which take a moment to notice
// the end.
func TestMain(m *testing.M) {
	code := m.Run()
	var leak error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if leak = goleak.Find(); leak == nil {
			os.Exit(code)
		}
	}
	fmt.Fprintln(os.Stderr, leak)
	os.Exit(1)
}

// fixture is an API server whose live API is one handler.
type fixture struct {
	*httptest.Server

	requests, connections atomic.Int64
	handlers              sync.WaitGroup
}

// newFixture serves over TLS, and waits for its handlers at the end of the test.
func newFixture(t testing.TB, http2 bool, handler http.HandlerFunc) *fixture {
	t.Helper()
	w := &fixture{}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.handlers.Add(1)
		defer w.handlers.Done()
		w.requests.Add(1)
		handler(rw, r)
	}))
	w.EnableHTTP2 = http2
	w.Config.ErrorLog = nil
	w.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			w.connections.Add(1)
		}
	}
	w.StartTLS()
	t.Cleanup(func() {
		w.CloseClientConnections()
		w.handlers.Wait()
		w.Close()
	})
	return w
}

func (w *fixture) config() *rest.Config { return configFor(w.URL) }

func configFor(host string) *rest.Config {
	return &rest.Config{Host: host, BearerToken: "token", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func (w *fixture) client(t testing.TB) *Client {
	t.Helper()
	return newClient(t, w.config())
}

func (w *fixture) pool(t testing.TB) *Pool {
	t.Helper()
	return w.client(t).Pool("shop", "web")
}

func newClient(t testing.TB, config *rest.Config) *Client {
	t.Helper()
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// answer writes an object as JSON.
func answer(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

func failure(code int32, reason metav1.StatusReason, message string, causes ...metav1.StatusCause) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: message,
		Details: &metav1.StatusDetails{Causes: causes},
	}
}

// readExec reads the object that a client has sent.
func readExec(r *http.Request) *live.Exec {
	exec := &live.Exec{}
	if err := json.NewDecoder(r.Body).Decode(exec); err != nil {
		panic(err)
	}
	return exec
}

// wantError fails the test unless err is an *Error with the outcome of want.
func wantError(t testing.TB, err, want error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %T %v, want an *Error", err, err)
	}
	for _, outcome := range []error{ErrNotStarted, ErrUnknown} {
		if errors.Is(err, outcome) != errors.Is(want, outcome) {
			t.Fatalf("got %v, want: %v", err, want)
		}
	}
	return e
}

// line is the client's end of a connection that breaks.
type line struct {
	net.Conn

	// capacity is how many more bytes it takes before it breaks.
	capacity *atomic.Int64
}

var errBroken = errors.New("the line is broken")

func (l *line) Write(p []byte) (int, error) {
	if l.capacity.Add(-int64(len(p))) < 0 {
		return 0, errBroken
	}
	return l.Conn.Write(p)
}

func discard(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
