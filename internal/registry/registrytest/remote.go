package registrytest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"

	"k8s.io/apiserver/pkg/authorization/authorizer"
	restclient "k8s.io/client-go/rest"
	clientcommand "k8s.io/client-go/tools/remotecommand"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// Remote is a driver whose connections reach an API and the ports of pods.
type Remote struct {
	*drivertest.Fake

	// API plays the API.
	API http.RoundTripper
	// Pods plays the ports.
	Pods func(pod driver.Place, port uint16) (net.Conn, error)
}

// Prepare implements driver.Driver.
func (r *Remote) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	dialer, err := r.Fake.Prepare(endpoint)
	return remoteDialer{dialer, r}, err
}

type remoteDialer struct {
	driver.Dialer

	remote *Remote
}

// With implements driver.Dialer.
func (d remoteDialer) With(change func(*driver.Endpoint)) driver.Dialer {
	return remoteDialer{d.Dialer.With(change), d.remote}
}

// Dial implements driver.Dialer.
func (d remoteDialer) Dial(ctx context.Context) (driver.Conn, error) {
	conn, err := d.Dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return &RemoteConn{conn.(*drivertest.FakeConn), d.remote}, nil
}

// RemoteConn is a connection of a Remote.
type RemoteConn struct {
	*drivertest.FakeConn

	remote *Remote
}

var (
	_ driver.PodForwarder = (*RemoteConn)(nil)
	_ driver.Proxier      = (*RemoteConn)(nil)
)

// ForwardPod implements driver.PodForwarder.
func (c *RemoteConn) ForwardPod(_ context.Context, pod driver.Place, port uint16) (net.Conn, error) {
	if c.remote.Pods == nil {
		return nil, &driver.Error{Reason: driver.NotFound, Message: fmt.Sprintf("pod %s does not exist", pod.Pod)}
	}
	return c.remote.Pods(pod, port)
}

// PodPort implements driver.PodForwarder. The port http is 80.
func (c *RemoteConn) PodPort(_ context.Context, pod driver.Place, port string) (uint16, error) {
	if c.remote.Pods == nil {
		return 0, &driver.Error{Reason: driver.NotFound, Message: fmt.Sprintf("pod %s does not exist", pod.Pod)}
	}
	if port == "http" {
		return 80, nil
	}
	number, err := strconv.ParseUint("0"+port, 10, 16)
	if err != nil {
		return 0, &driver.Error{Reason: driver.NotFound, Message: fmt.Sprintf("pod %s has no port %s", pod.Pod, port)}
	}
	return uint16(number), nil
}

// Proxy implements driver.Proxier.
func (c *RemoteConn) Proxy(request *http.Request) (*http.Response, error) {
	return c.remote.API.RoundTrip(request)
}

// Backend plays an API with a real server, which it reaches with a transport like that
// of a driver.
type Backend struct {
	server    *httptest.Server
	transport *http.Transport
}

// NewBackend starts a Backend that ends with its test.
func NewBackend(t testing.TB, handler http.HandlerFunc) *Backend {
	t.Helper()
	b := &Backend{httptest.NewServer(handler), &http.Transport{DisableCompression: true}}
	t.Cleanup(func() {
		b.transport.CloseIdleConnections()
		b.server.Close()
	})
	return b
}

// RoundTrip implements http.RoundTripper.
func (b *Backend) RoundTrip(request *http.Request) (*http.Response, error) {
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

// InMemory plays an API without a network, for virtual time.
type InMemory http.HandlerFunc

// RoundTrip implements http.RoundTripper.
func (handler InMemory) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	handler(recorder, request)
	return recorder.Result(), nil
}

// Unanswering plays an API that gives no answer.
type Unanswering func(*http.Request) error

// RoundTrip implements http.RoundTripper.
func (u Unanswering) RoundTrip(request *http.Request) (*http.Response, error) { return nil, u(request) }

// Switching plays an API that takes a connection over.
type Switching struct{ End io.ReadWriteCloser }

// RoundTrip implements http.RoundTripper.
func (s Switching) RoundTrip(request *http.Request) (*http.Response, error) {
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {request.Header.Get("Upgrade")}}
	return &http.Response{
		StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: header, Body: s.End, Request: request,
	}, nil
}

// Engine declares and connects pool web with target build-1, a Docker engine.
func (f *Fixture) Engine(api http.RoundTripper) {
	f.Helper()
	f.ConnectWith(f.Target("build-1", "web", Docker), &Remote{Fake: f.Fake, API: api}, nil, f.Pool("web", LeastLoaded))
}

// ProxyPath is where the API of that target is.
const ProxyPath = "/pools/web/proxy/build-1"

// NewRemoteConn returns a connection of a Remote that reaches the ports of pods only.
func NewRemoteConn(remote *Remote) *RemoteConn { return &RemoteConn{remote: remote} }

// Docker makes a target a Docker engine.
func Docker(target *v1alpha1.ConnectionTarget) {
	target.Spec.SSH, target.Spec.Docker = nil, &v1alpha1.DockerTarget{Endpoint: "unix:///var/run/docker.sock"}
}

// Kubernetes makes a target a cluster.
func Kubernetes(target *v1alpha1.ConnectionTarget) {
	target.Spec.SSH, target.Spec.Kubernetes = nil, &v1alpha1.KubernetesTarget{}
}

// SSH leaves a target as it is, a host.
func SSH(*v1alpha1.ConnectionTarget) {}

// Upgrading makes a request one for a WebSocket.
func Upgrading(req *http.Request) {
	req.Method = http.MethodGet
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	req.Header.Set("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
}

// OnlyGet permits what a viewer may do.
func OnlyGet(a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetVerb() == "get" {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "no rule allows it", nil
}

// On returns a command for a target.
func On(target string) live.Exec {
	object := Command("true")
	object.Spec.Target = target
	return object
}

// Pipes is a listener in memory, so that streams can be served in virtual time.
type Pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

// NewPipes returns a listener.
func NewPipes() Pipes { return Pipes{make(chan net.Conn), make(chan struct{})} }

// Accept implements net.Listener.
func (p Pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p Pipes) Close() error {
	close(p.closed)
	return nil
}

// Addr implements net.Listener.
func (p Pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Dial returns one end of a connection, whatever the address. Accept returns the other
// end.
func (p Pipes) Dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.accepted <- far
	return near, nil
}

// Serve serves a handler over pipes until stop is called.
func Serve(handler http.Handler) (listener Pipes, stop func()) {
	listener = NewPipes()
	server := &http.Server{Handler: handler} //nolint:gosec // in memory, and for a test
	go func() { _ = server.Serve(listener) }()
	return listener, func() { _ = server.Close() }
}

// URLOf returns the URL of a path.
func URLOf(server *httptest.Server, path string) *url.URL {
	address, _ := url.Parse(server.URL + path)
	return address
}

// Executors are the executors of stock clients.
var Executors = map[string]func(*restclient.Config, *url.URL) (clientcommand.Executor, error){
	"websocket": func(config *restclient.Config, address *url.URL) (clientcommand.Executor, error) {
		return clientcommand.NewWebSocketExecutor(config, http.MethodGet, address.String())
	},
	"spdy": func(config *restclient.Config, address *url.URL) (clientcommand.Executor, error) {
		return clientcommand.NewSPDYExecutor(config, http.MethodPost, address)
	},
}
