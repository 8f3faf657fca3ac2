package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture serves the proxy.
type fixture struct{ *registrytest.Fixture }

func newFixture(tb testing.TB, changes ...func(*use.Config)) *fixture {
	tb.Helper()
	f := &fixture{registrytest.New(tb, changes...)}
	f.Storage["connectionpools/proxy"] = New(f.Gate)
	return f
}

// inFixture runs a test in virtual time.
func inFixture(t *testing.T, test func(*fixture), changes ...func(*use.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, changes...)
		defer f.Close()
		test(f)
	})
}

// proxied runs a test against the proxy of a real API behind a real server with
// TLS.
func proxied(t *testing.T, handler http.HandlerFunc, test func(*fixture, *httptest.Server), changes ...func(*use.Config)) {
	t.Helper()
	f := newFixture(t, changes...)
	f.Engine(registrytest.NewBackend(t, handler))
	server := httptest.NewUnstartedServer(f)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer func() {
		server.Close()
		if err := f.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		f.Set.Close(context.Background()) // which waits for leases that are out
	}()
	test(f, server)
}

// answered is an answer that has come to its end.
type answered struct {
	status int
	header http.Header
	body   string
}

// ask sends a request through the proxy.
func ask(t testing.TB, server *httptest.Server, method, path string, changes ...func(*http.Request)) answered {
	t.Helper()
	response := open(t, server, method, path, http.NoBody, changes...)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return answered{response.StatusCode, response.Header, string(body)}
}

// open sends a request through the proxy and leaves the body of the answer.
func open(t testing.TB, server *httptest.Server, method, path string, body io.Reader, changes ...func(*http.Request)) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+registrytest.ProxyPath+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(request)
	}
	response, err := server.Client().Transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}
