package registry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// remote is a driver whose connections reach an API and the ports of pods.
type remote struct {
	*drivertest.Fake

	// api plays the API.
	api http.RoundTripper
	// pods plays the ports.
	pods func(pod driver.Place, port uint16) (net.Conn, error)
}

func (r *remote) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	dialer, err := r.Fake.Prepare(endpoint)
	return remoteDialer{dialer, r}, err
}

type remoteDialer struct {
	driver.Dialer

	remote *remote
}

func (d remoteDialer) Dial(ctx context.Context) (driver.Conn, error) {
	conn, err := d.Dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return &remoteConn{conn.(*drivertest.FakeConn), d.remote}, nil
}

type remoteConn struct {
	*drivertest.FakeConn

	remote *remote
}

var (
	_ driver.PodForwarder = (*remoteConn)(nil)
	_ driver.Proxier      = (*remoteConn)(nil)
)

func (c *remoteConn) ForwardPod(_ context.Context, pod driver.Place, port uint16) (net.Conn, error) {
	if c.remote.pods == nil {
		return nil, &driver.Error{Reason: driver.NotFound, Message: fmt.Sprintf("pod %s does not exist", pod.Pod)}
	}
	return c.remote.pods(pod, port)
}

func (c *remoteConn) Proxy(request *http.Request) (*http.Response, error) {
	return c.remote.api.RoundTrip(request)
}

// backend plays an API with a real server, which a transport reaches as a
// driver's does.
type backend struct {
	server    *httptest.Server
	transport *http.Transport
}

func newBackend(t testing.TB, handler http.HandlerFunc) *backend {
	t.Helper()
	b := &backend{httptest.NewServer(handler), &http.Transport{DisableCompression: true}}
	t.Cleanup(func() {
		b.transport.CloseIdleConnections()
		b.server.Close()
	})
	return b
}

func (b *backend) RoundTrip(request *http.Request) (*http.Response, error) {
	outgoing := request.Clone(request.Context())
	outgoing.URL.Scheme, outgoing.URL.Host = "http", b.server.Listener.Addr().String()
	outgoing.Header.Set("Authorization", "Bearer of-the-pool")
	answer, err := b.transport.RoundTrip(outgoing)
	if err != nil {
		return nil, &driver.Error{
			Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: "the connection ended", Err: err,
		}
	}
	return answer, nil
}

// inMemory plays an API without a network, for virtual time.
type inMemory http.HandlerFunc

func (handler inMemory) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	handler(recorder, request)
	return recorder.Result(), nil
}

// unanswering plays an API that gives no answer.
type unanswering func(*http.Request) error

func (u unanswering) RoundTrip(request *http.Request) (*http.Response, error) { return nil, u(request) }

// switching plays an API that takes a connection over.
type switching struct{ end io.ReadWriteCloser }

func (s switching) RoundTrip(request *http.Request) (*http.Response, error) {
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {request.Header.Get("Upgrade")}}
	return &http.Response{
		StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: header, Body: s.end, Request: request,
	}, nil
}

// engine declares and connects pool web with target build-1, a Docker engine.
func (w *world) engine(api http.RoundTripper) {
	w.Helper()
	w.connectWith(w.target("build-1", "web", docker), &remote{Fake: w.fake, api: api}, nil, w.pool("web", leastLoaded))
}

const proxyPath = "/pools/web/proxy/build-1"

// proxied runs a test against the proxy of a real API behind a real server with
// TLS.
func proxied(t *testing.T, handler http.HandlerFunc, test func(*world, *httptest.Server), changes ...func(*Config)) {
	t.Helper()
	w := newWorld(t, changes...)
	w.engine(newBackend(t, handler))
	server := httptest.NewUnstartedServer(w)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer func() {
		server.Close()
		if err := w.registry.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		w.set.Close(context.Background()) // which waits for leases that are out
	}()
	test(w, server)
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
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+proxyPath+path, body)
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
