package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// TestMain waits for goroutines of the clients' libraries, some of which take seconds
// to notice the end: until the next heartbeat, or the end of a timer.
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

// quick are limits with which the end of a client is noticed soon.
var quick = limits{
	ping:    50 * time.Millisecond,
	silence: 200 * time.Millisecond,
	grace:   200 * time.Millisecond,
	open:    300 * time.Millisecond,
}

// server serves handler over TLS. At the end of the test it waits until every handler
// has returned.
func server(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	var handlers sync.WaitGroup
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		handler(w, r)
	}))
	s.StartTLS()
	t.Cleanup(func() {
		handlers.Wait()
		s.Close()
	})
	return s
}

// execServer serves one kind of command.
func execServer(t testing.TB, l limits, options ExecOptions, run RunFunc) *httptest.Server {
	t.Helper()
	return server(t, func(w http.ResponseWriter, r *http.Request) { l.serveExec(w, r, options, run) })
}

func clientConfig(s *httptest.Server) *rest.Config {
	config := &rest.Config{Host: s.URL}
	if certificate := s.Certificate(); certificate != nil {
		config.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	}
	return config
}

// trust returns the TLS configuration of a client that trusts the server.
func trust(s *httptest.Server) *tls.Config {
	roots := x509.NewCertPool()
	if certificate := s.Certificate(); certificate != nil {
		roots.AddCert(certificate)
	}
	return &tls.Config{RootCAs: roots}
}

// protocols are the executors that clients use.
var protocols = map[string]func(t testing.TB, s *httptest.Server) remotecommand.Executor{
	"websocket v5": webSocketExecutor("v5.channel.k8s.io"),
	"websocket v4": webSocketExecutor("v4.channel.k8s.io"),
	"spdy":         spdyExecutor,
}

func webSocketExecutor(protocol string) func(testing.TB, *httptest.Server) remotecommand.Executor {
	return func(t testing.TB, s *httptest.Server) remotecommand.Executor {
		t.Helper()
		executor, err := remotecommand.NewWebSocketExecutorForProtocols(clientConfig(s), http.MethodGet, s.URL, protocol)
		if err != nil {
			t.Fatal(err)
		}
		return executor
	}
}

func spdyExecutor(t testing.TB, s *httptest.Server) remotecommand.Executor {
	t.Helper()
	address, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(clientConfig(s), http.MethodPost, address)
	if err != nil {
		t.Fatal(err)
	}
	return executor
}

// eachProtocol runs a test with every executor.
func eachProtocol(t *testing.T, test func(t *testing.T, dial func(testing.TB, *httptest.Server) remotecommand.Executor)) {
	t.Helper()
	for name, dial := range protocols {
		t.Run(name, func(t *testing.T) { test(t, dial) })
	}
}

func success() *metav1.Status { return &metav1.Status{Status: metav1.StatusSuccess} }

func exited(code string) *metav1.Status {
	return &metav1.Status{
		Status:  metav1.StatusFailure,
		Message: "command terminated with exit code " + code,
		Reason:  "NonZeroExitCode",
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "ExitCode", Message: code}}},
	}
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		header   map[string]string
		code     int
		mentions string
	}{
		"a plain request is told what to send": {nil, 400, "v5.channel.k8s.io"},
		"an unknown upgrade is told what to send": {
			map[string]string{"Connection": "Upgrade", "Upgrade": "h2c"}, 400, "SPDY/3.1",
		},
		"a websocket without subprotocol is told which there are": {
			map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"}, 400, "v4.channel.k8s.io",
		},
		"a websocket with an unknown subprotocol is told which there are": {
			map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Protocol": "v9.channel.k8s.io"}, 403, "v5.channel.k8s.io",
		},
		"a websocket without key is refused": {
			map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Protocol": "v5.channel.k8s.io", "Sec-Websocket-Version": "13"}, 400, "Sec-WebSocket-Key",
		},
		"SPDY without protocol version is told which there are": {
			map[string]string{"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}, 400, "X-Stream-Protocol-Version",
		},
		"SPDY with an unknown protocol version is told which there are": {
			map[string]string{"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v9.channel.k8s.io"}, 403, "v4.channel.k8s.io",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for key, value := range tc.header {
				r.Header.Set(key, value)
			}
			w := httptest.NewRecorder()
			ServeExec(w, r, ExecOptions{Stdout: true}, nil)
			if w.Code != tc.code {
				t.Errorf("status %d, want %d", w.Code, tc.code)
			}
			if body := w.Body.String(); !strings.Contains(body, tc.mentions) || !strings.Contains(body, `"kind":"Status"`) {
				t.Errorf("body %q, want a Status that mentions %q", body, tc.mentions)
			}
		})
	}
}
