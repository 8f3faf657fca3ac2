package apiserver_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/connpool/connpool/test/controlplane"
)

const namespacePath = "/apis/live.connpool.dev/v1alpha1/namespaces/default/"

// frontProxy returns the TLS configuration of kube-apiserver's front proxy.
func frontProxy(t *testing.T) *tls.Config {
	t.Helper()
	cert, key, err := env.plane.FrontProxy(controlplane.FrontProxyName)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: env.authority}
}

// asRoot sends a request through the front proxy, as an administrator.
func asRoot(t *testing.T, method, path, contentType, body string) (int, string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: frontProxy(t)}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+env.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {contentType}, "X-Remote-User": {"root"}, "X-Remote-Group": {"system:masters"}}
	response, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// Aliases make 200 MB of 62 KB before anything else of a body is looked at.
func TestABombOfYAMLAliasesIsNotDecoded(t *testing.T) {
	bomb := `x: &a "` + strings.Repeat("A", 50_000) + "\"\ny: [" + strings.TrimSuffix(strings.Repeat("*a,", 4000), ",") + "]\n"
	for _, request := range []struct{ method, path string }{
		{http.MethodPost, "connectionpools/web/exec"},
		{http.MethodPost, "connectionpools/web/drain"},
		{http.MethodPost, "connectiontargets/web/check"},
		{http.MethodPost, "sessions"},
		{http.MethodDelete, "sessions/web"},
		{http.MethodPost, "sessions/web/exec"},
		{http.MethodPatch, "sessions/web"},
	} {
		for _, contentType := range []string{"application/yaml", "Application/YAML; charset=utf-8", "application/apply-patch+yaml", "application/yaml; q"} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			status, text := asRoot(t, request.method, namespacePath+request.path, contentType, bomb)
			runtime.ReadMemStats(&after)
			if status != http.StatusUnsupportedMediaType || !strings.Contains(text, "application/json") {
				t.Errorf("%s %s as %s: %d %s", request.method, request.path, contentType, status, text)
			}
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took >= 10 {
				t.Errorf("%s %s as %s took %d MiB", request.method, request.path, contentType, took)
			}
		}
	}
}

// Answers may still be YAML, and what is proxied belongs to another API.
func TestYAMLIsRefusedNeitherAsAnAnswerNorInAProxy(t *testing.T) {
	status, text := asRoot(t, http.MethodPatch, proxyPath, "application/apply-patch+yaml", "a: b")
	if status != http.StatusOK {
		t.Errorf("proxied: %d %s", status, text)
	}
	status, text = asRoot(t, http.MethodPost, namespacePath+"connectiontargets/web/check", "application/json", "{}")
	if status != http.StatusNotFound {
		t.Errorf("JSON: %d %s", status, text)
	}
}

// Whoever is not admitted cannot keep a socket by sending a body slowly.
func TestSlowBodiesOfRequestsThatAreNotAdmittedHoldNoSockets(t *testing.T) {
	powerless, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, "slow")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ path, header string }{
		"no token":         {execPath, ""},
		"an invalid token": {execPath, "Authorization: Bearer none\r\n"},
		"no permission":    {execPath, "Authorization: Bearer " + powerless.BearerToken + "\r\n"},
		"no path":          {"/nothing", ""},
		"health":           {"/readyz", ""},
		"YAML":             {execPath, "Content-Type: application/yaml\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			const clients = 50
			began := time.Now()
			var all []*tls.Conn
			for range clients {
				conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: env.authority}}).DialContext(t.Context(), "tcp", env.address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%sTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", test.path, test.header)
				all = append(all, conn.(*tls.Conn))
			}
			deadline := time.Now().Add(10 * time.Second)
			for n, conn := range all {
				_ = conn.SetReadDeadline(deadline)
				if answer, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%d of %d are still held after %v; this one was answered %q", clients-n, clients, time.Since(began), answer)
				}
			}
			t.Logf("all are gone after %v", time.Since(began))
		})
	}
}
