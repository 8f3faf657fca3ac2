package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/halfclose"
	"github.com/connpool/connpool/internal/redirect"
)

const proxyPath = "/apis/live.connpool.dev/v1alpha1/namespaces/shop/connectionpools/web/proxy/ci"

func proxied(t testing.TB, w *fixture) http.RoundTripper {
	t.Helper()
	return w.pool(t).Proxy("ci")
}

func TestPathsOfTheTargetsAPIStayAsTheyAreEncoded(t *testing.T) {
	tests := map[string]struct{ asked, want string }{
		"a path with a query":        {"http://docker/v1.41/containers/json?all=1", proxyPath + "/v1.41/containers/json?all=1"},
		"the root":                   {"http://docker/", proxyPath + "/"},
		"no path at all":             {"http://docker", proxyPath + "/"},
		"slashes that are encoded":   {"http://docker/images/a%2Fb/json", proxyPath + "/images/a%2Fb/json"},
		"spaces and signs":           {"http://docker/a%20b/c+d", proxyPath + "/a%20b/c+d"},
		"the end with a slash":       {"https://cluster/api/", proxyPath + "/api/"},
		"an empty part is no matter": {"https://cluster/api//v1", proxyPath + "/api//v1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(rw, "%s %s %s %s", r.Method, r.RequestURI, r.Header.Get("Authorization"), body)
			})
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, test.asked, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer other-user")
			response, err := proxied(t, w).RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			got, _ := io.ReadAll(response.Body)
			if want := "PUT " + test.want + " Bearer token body"; string(got) != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestWhatWouldMeanSomethingElseOnTheWayIsNotSent(t *testing.T) {
	w := newFixture(t, true, func(http.ResponseWriter, *http.Request) {})
	tests := map[string]struct{ url, header string }{
		"another user":          {"http://cluster/api", "Impersonate-User"},
		"another user's groups": {"http://cluster/api", "Impersonate-Group"},
		"with underscores":      {"http://cluster/api", "impersonate_user"},
		"a way out":             {"http://cluster/a/../../exec", "Accept"},
		"an encoded way out":    {"http://cluster/a/%2e%2e/exec", "Accept"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.url, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set(test.header, "x")
			response, err := proxied(t, w).RoundTrip(request)
			if err == nil {
				_ = response.Body.Close()
			}
			if !errors.Is(err, ErrNotProxied) || w.requests.Load() != 0 {
				t.Errorf("it was sent, or %v", err)
			}
		})
	}
}

// The server stands for the operator behind a kube-apiserver, which refuses an answer
// that has a Location.
func TestARedirectComesBackAsTheTargetSentIt(t *testing.T) {
	for name, upgrade := range map[string]string{"of a request": "", "of an upgrade": "websocket"} {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
				asked := redirect.Take(r.Header)
				rw.Header().Set("Location", "/login?from=%2F")
				redirect.Rename(rw.Header(), asked)
				if rw.Header().Get("Location") != "" || len(r.Header["Connpool-Rename-Location"]) > 0 {
					t.Errorf("asked with %v, answered with %v", r.Header, rw.Header())
				}
				rw.WriteHeader(http.StatusFound)
			})
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cluster/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if upgrade != "" {
				request.Header.Set("Connection", "Upgrade")
				request.Header.Set("Upgrade", upgrade)
			}
			response, err := proxied(t, w).RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusFound || response.Header.Get("Location") != "/login?from=%2F" || response.Header.Get("Connpool-Location") != "" {
				t.Errorf("got %s, %v", response.Status, response.Header)
			}
		})
	}
}

// The server is a hijacked connection of a Docker engine. It sends back what it
// reads, and a last word after the client has ended its direction.
func TestAnUpgradeIsABodyWithTwoDirections(t *testing.T) {
	accept := map[string]func(http.ResponseWriter, *http.Request) http.ResponseWriter{
		"in frames":                  halfclose.Accept,
		"without, from a TLS server": func(rw http.ResponseWriter, _ *http.Request) http.ResponseWriter { return rw },
	}
	for name, accept := range accept {
		t.Run(name, func(t *testing.T) { twoDirections(t, accept) })
	}
}

func twoDirections(t *testing.T, accept func(http.ResponseWriter, *http.Request) http.ResponseWriter) {
	t.Helper()
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		rw = accept(rw, r)
		if r.Header.Get("Upgrade") != "tcp" || r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		conn, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = buffered.WriteString("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n")
		_ = rw.Header().Write(buffered)
		_, _ = buffered.WriteString("\r\n")
		_ = buffered.Flush()
		_, _ = io.Copy(conn, buffered.Reader)
		_, _ = io.WriteString(conn, "bye")
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://docker/attach", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	response, err := proxied(t, w).RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", response, err)
	}
	defer response.Body.Close()
	conn, ok := response.Body.(interface {
		io.Writer
		CloseWrite() error
	})
	if !ok {
		t.Fatalf("the body is a %T", response.Body)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "bye" {
		t.Errorf("got %q, %v", rest, err)
	}
}

func TestAProxiedRequestThatMayHaveArrivedIsNotRepeated(t *testing.T) {
	w := newFixture(t, false, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == proxyPath+"/die" {
			panic(http.ErrAbortHandler)
		}
	})
	api := proxied(t, w)
	send := func(method, path string) error {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://docker"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Idempotency-Key", "k")
		response, err := api.RoundTrip(request)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response.Body.Close()
	}
	if err := send(http.MethodPost, "/fine"); err != nil {
		t.Fatal(err)
	}
	if err := send(http.MethodPost, "/die"); err == nil {
		t.Error("no error")
	}
	if sent := w.requests.Load(); sent != 2 {
		t.Errorf("%d requests arrived, want 2", sent)
	}
}
