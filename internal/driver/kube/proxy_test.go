package kube

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/controlplane/binaries"
)

// roundTripper is a connection as httputil.ReverseProxy wants it.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// serveProxy serves the API of the cluster, over the connection, in the clear.
func serveProxy(t *testing.T, conn *conn) (address string) {
	t.Helper()
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "", ""
		},
		Transport: roundTripper(conn.Proxy), FlushInterval: -1,
	})
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL
}

// kubectl is the stock one, without credentials of its own.
func kubectl(t *testing.T, server string) func(stdin string, args ...string) (string, error) {
	t.Helper()
	programs, err := binaries.Ensure(t.Context(), binaries.Printer(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	return func(stdin string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		command := exec.CommandContext(ctx, filepath.Join(programs, "kubectl"), append([]string{"--server=" + server}, args...)...)
		command.Env = []string{"HOME=" + home, "KUBECONFIG=" + filepath.Join(home, "none")}
		command.Stdin = strings.NewReader(stdin)
		text, err := command.CombinedOutput()
		return string(text), err
	}
}

func TestStockKubectlWorksThroughTheProxy(t *testing.T) {
	run := kubectl(t, serveProxy(t, mustDial(t, Options{}, admin(t))))
	const object = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"proxied","namespace":"default"},"data":{"a":"b"}}`
	for _, step := range []struct {
		stdin, args, want string
	}{
		{"", "version", "Server Version: v1."},
		{"", "api-resources", "configmaps"},
		{"", "get pods", "web"},
		{"", "auth can-i create pods", "yes"},
		{object, "apply -f -", "created"},
		{strings.Replace(object, `"b"`, `"c"`, 1), "apply --server-side --force-conflicts -f -", "serverside-applied"},
		{"", "get configmap proxied -o jsonpath={.data.a}", "c"},
		{"", "get configmaps --watch-only --request-timeout=1s", ""},
		{"", "delete configmap proxied", "deleted"},
		{"", "exec web -- echo from the pod", "from the pod"},
		{"some input", "exec -i web -- cat", "some input"},
		{"", "get --raw /readyz", "ok"},
	} {
		got, err := run(step.stdin, strings.Fields(step.args)...)
		if err != nil && step.want != "" || !strings.Contains(got, step.want) {
			t.Errorf("kubectl %s: %v\n%s", step.args, err, got)
		}
	}
}

func TestKubectlsOlderProtocolWorksThroughTheProxyToo(t *testing.T) {
	conn := mustDial(t, Options{}, admin(t))
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"/api/v1/namespaces/default/pods/web/exec?command=cat&stdin=true&stdout=true", http.NoBody)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "SPDY/3.1")
	request.Header.Set("X-Stream-Protocol-Version", "v4.channel.k8s.io")
	response, err := conn.Proxy(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stream, ok := response.Body.(interface {
		io.ReadWriteCloser
		driver.HalfCloser
	})
	if response.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("status %d, body %T", response.StatusCode, response.Body)
	}
	if err := stream.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Errorf("the end of the stream: %v", err)
	}
}

func TestAWatchStreamsUntilItsCallerLeaves(t *testing.T) {
	conn := mustDial(t, Options{}, brief(admin(t)))
	ctx, cancel := context.WithCancel(t.Context())
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/namespaces/default/pods?watch=true", nil)
	response, err := conn.Proxy(request)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"ADDED"`) {
		t.Errorf("%q, error %v", lines.Text(), lines.Err())
	}
	cancel()
	for lines.Scan() {
	}
	if lines.Err() == nil {
		t.Error("the watch ended as if it were complete")
	}
	_ = response.Body.Close()
}

func TestClosingTheConnectionEndsProxiedStreams(t *testing.T) {
	conn := mustDial(t, Options{}, admin(t))
	other := mustDial(t, Options{}, admin(t))
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/namespaces/default/pods?watch=true", nil)
	response, err := conn.Proxy(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if _, err := io.Copy(io.Discard, response.Body); err == nil {
		t.Error("the watch ended as if it were complete")
	}
	_ = response.Body.Close()
	_, err = conn.Proxy(request) //nolint:bodyclose // there is none
	if got := driver.OutcomeOf(err); got != driver.NotStarted {
		t.Errorf("outcome %s (%v)", got, err)
	}
	if err := other.Probe(t.Context()); err != nil {
		t.Errorf("another connection: %v", err)
	}
}

func TestOnlyOurOwnCredentialsGoThrough(t *testing.T) {
	var got http.Header
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{}, endpoint)
	g.set(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis" {
			got = r.Header.Clone()
			w.WriteHeader(http.StatusOK)
		}
	})
	for name, upgrade := range map[string]string{"a request": "", "an upgrade": "websocket"} {
		t.Run(name, func(t *testing.T) {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/apis?a=b", nil)
			for header, value := range map[string]string{
				"Authorization": canary, "Cookie": canary, "Proxy-Authorization": canary, "Impersonate-User": canary,
				"Impersonate-Extra-Scopes": canary, "X-Remote-User": canary, "X-Remote-Group": canary,
				"Sec-Websocket-Protocol": bearerProtocol + canary + ", v5.channel.k8s.io", "Accept": "application/json",
			} {
				request.Header.Set(header, value)
			}
			if upgrade != "" {
				request.Header.Set("Connection", "Upgrade")
				request.Header.Set("Upgrade", upgrade)
			}
			response, err := conn.Proxy(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if text := fmt.Sprint(got); strings.Contains(text, canary) {
				t.Errorf("headers %s", text)
			}
			if !strings.HasPrefix(got.Get("Authorization"), "Bearer ey") || got.Get("Accept") != "application/json" ||
				got.Get("Sec-WebSocket-Protocol") != "v5.channel.k8s.io" {
				t.Errorf("headers %v", got)
			}
		})
	}
}

func TestProxiedRequestsAreSentOnceAndNotRedirected(t *testing.T) {
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{}, endpoint)
	for name, answer := range map[string]struct {
		fault http.HandlerFunc
		code  int
	}{
		"429":        {refuseAll(429, map[string]string{"Retry-After": "1"}), 429},
		"503":        {refuseAll(503, map[string]string{"Retry-After": "1"}), 503},
		"a redirect": {redirect, 302},
	} {
		t.Run(name, func(t *testing.T) {
			g.set(answer.fault)
			defer g.set(nil)
			before := g.requests.Load()
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/api", bytes.NewReader([]byte("{}")))
			response, err := conn.Proxy(request)
			if err != nil || response.StatusCode != answer.code {
				t.Fatalf("%v, error %v", response, err)
			}
			_ = response.Body.Close()
			if sent := g.requests.Load() - before; sent != 1 {
				t.Errorf("sent %d times", sent)
			}
		})
	}
}

func TestARequestWhoseAnswerIsLostMayHaveBeenReceivedAndIsNotSentAgain(t *testing.T) {
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{}, endpoint)
	g.set(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler)
		}
	})
	for _, body := range []string{"", "{}"} {
		before := g.requests.Load()
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/api", strings.NewReader(body))
		request.Header.Set("Idempotency-Key", "1")
		_, err := conn.Proxy(request) //nolint:bodyclose // there is none
		if got := driver.OutcomeOf(err); got != driver.Unknown {
			t.Errorf("outcome %s (%v)", got, err)
		}
		if sent := g.requests.Load() - before; sent != 1 {
			t.Errorf("sent %d times", sent)
		}
	}
}

// echo answers with what it gets, once the client has closed its side.
func echo(t *testing.T) (port uint16) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

func TestAPortForwardCarriesBothDirectionsAndTheirEnds(t *testing.T) {
	conn := mustDial(t, Options{}, admin(t))
	stream, err := conn.ForwardPod(t.Context(), web, echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	go func() {
		_, _ = stream.Write(data)
		_ = driver.CloseWrite(stream)
	}()
	got, err := io.ReadAll(stream)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes, error %v", len(got), len(data), err)
	}
}

func TestAPortForwardEndsWithTheReason(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(closed.Addr().(*net.TCPAddr).Port)
	_ = closed.Close()
	conn := mustDial(t, Options{}, admin(t))
	t.Run("that nothing listens at the port", func(t *testing.T) {
		stream, err := conn.ForwardPod(t.Context(), web, port)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		_, err = stream.Read(make([]byte, 1))
		if got := wantError(t, err, driver.Unreachable, driver.StageRun); !strings.Contains(got.Message, "refused") {
			t.Errorf("message %q", got.Message)
		}
	})
	t.Run("that there is no such pod", func(t *testing.T) {
		_, err := conn.ForwardPod(t.Context(), driver.Place{Pod: "absent"}, 80)
		wantError(t, err, driver.NotFound, driver.StageStart)
	})
	t.Run("that it is no port", func(t *testing.T) {
		_, err := conn.ForwardPod(t.Context(), web, 0)
		wantError(t, err, driver.NotFound, driver.StageStart)
	})
	t.Run("that its deadline has passed", func(t *testing.T) {
		stream, err := conn.ForwardPod(t.Context(), web, echo(t))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		_ = stream.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := stream.Read(make([]byte, 1)); !os.IsTimeout(err) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("that the connection was closed", func(t *testing.T) {
		stream, err := conn.ForwardPod(t.Context(), web, echo(t))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		_ = conn.Close()
		_, err = stream.Read(make([]byte, 1))
		wantError(t, err, driver.Unreachable, driver.StageRun)
	})
}
