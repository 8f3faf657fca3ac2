package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	restclient "k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// engines is a registry with one pool, called engines, of one target, called build.
// The target's API is a real server.
type engines struct {
	*drivertest.Fake

	api *httptest.Server
	set *poolset.Set
}

func newEngines(authorizer authorizer.UnconditionalAuthorizer) (*engines, *registry.Registry) {
	e := &engines{Fake: new(drivertest.Fake), api: httptest.NewServer(http.HandlerFunc(engineAPI))}
	nowhere := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nowhere") }
	e.set = poolset.New(nowhere, dialbudget.New(30, 30, 30))
	_ = registrytest.Ensured(e.set, poolset.Target{
		Ref: poolset.Ref{UID: "build", Namespace: "default", Name: "build"}, Type: "docker",
		Access: poolset.Access{Driver: e, Identity: "build"},
		Pools: []poolset.Pool{{
			Ref: poolset.Ref{UID: "engines", Namespace: "default", Name: "engines"},
			Policy: poolset.Policy{
				Limits:           connpool.Limits{MinWarm: 1, Max: 1, LeasesPerConn: 100, MaxPending: 10, AcquireTimeout: time.Second},
				FailureThreshold: 1, SuccessThreshold: 1,
			},
		}},
	})
	return e, registry.New(e.set, "replica-0", use.Config{Objects: declared{}, Authorizer: authorizer})
}

func (e *engines) close() {
	e.api.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.set.Close(ctx)
}

func (e *engines) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	dialer, err := e.Fake.Prepare(endpoint)
	return enginesDialer{dialer, e}, err
}

type enginesDialer struct {
	driver.Dialer

	engines *engines
}

func (d enginesDialer) With(change func(*driver.Endpoint)) driver.Dialer {
	return enginesDialer{d.Dialer.With(change), d.engines}
}

func (d enginesDialer) Dial(ctx context.Context) (driver.Conn, error) {
	conn, err := d.Dialer.Dial(ctx)
	return engineConn{conn, d.engines}, err
}

type engineConn struct {
	driver.Conn

	engines *engines
}

func (c engineConn) Proxy(request *http.Request) (*http.Response, error) {
	request.URL.Scheme, request.URL.Host = "http", c.engines.api.Listener.Addr().String()
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, &driver.Error{Reason: driver.Unreachable, Started: true, Message: "no answer", Err: err}
	}
	return answer, nil
}

// engineAPI answers with the request that it gets, echoes the lines of a stream, and
// upgrades connections.
func engineAPI(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	switch {
	case r.Header.Get("Upgrade") != "":
		conn, buffers, _ := control.Hijack()
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		all, _ := io.ReadAll(buffers)
		_, _ = conn.Write(append([]byte("got "), all...))
	case r.URL.Path == "/cut":
		conn, _, _ := control.Hijack()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")
		_ = conn.Close()
	case r.URL.Path == "/flow":
		_ = control.EnableFullDuplex()
		lines := bufio.NewReader(r.Body)
		for line, err := lines.ReadString('\n'); err == nil; line, err = lines.ReadString('\n') {
			_, _ = io.WriteString(w, "got "+line)
			_ = control.Flush()
		}
	default:
		_, _ = fmt.Fprintf(w, "%s %s", r.Method, r.RequestURI)
	}
}

// declared is the pool and the target of engines, as objects.
type declared struct{}

func (declared) Pool(_ context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error) {
	return &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "engines"},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetRef: &v1alpha1.TargetRef{Name: "build"}},
	}, nil
}

func (declared) Target(_ context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error) {
	if name != "build" {
		return nil, apierrors.NewNotFound(v1alpha1.Resource("connectiontargets"), name)
	}
	return &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "build"},
		Spec:       v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{}},
	}, nil
}

func (declared) Targets(context.Context, string) ([]v1alpha1.ConnectionTarget, error) {
	return nil, nil
}

// proxies is the real proxy for the pool engines, and one that only counts for all
// other pools.
type proxies struct {
	user

	real rest.Connecter
}

func (p proxies) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	if name == "engines" {
		return p.real.Connect(ctx, name, options, responder)
	}
	return p.user.Connect(ctx, name, options, responder)
}

const enginePath = "/apis/live.connpool.dev/v1alpha1/namespaces/default/connectionpools/engines/proxy/build"

// ways returns each way in which a client can reach the live API.
func ways(t *testing.T, name string) map[string]func() (host string, client *http.Client, config *restclient.Config) {
	t.Helper()
	permit(t, name, "create", "get", "update", "patch", "delete") // kube-apiserver also requires the verb of the method
	through, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, name)
	if err != nil {
		t.Fatal(err)
	}
	direct := restclient.CopyConfig(through)
	direct.Host = "https://" + env.address
	direct.TLSClientConfig = restclient.TLSClientConfig{CAData: env.ca}
	old := restclient.CopyConfig(direct)
	old.NextProtos = []string{"http/1.1"} // as the docker client
	made := map[string]func() (string, *http.Client, *restclient.Config){}
	for way, config := range map[string]*restclient.Config{"directly": direct, "directly over HTTP/1.1": old, "through kube-apiserver": through} {
		made[way] = func() (string, *http.Client, *restclient.Config) {
			client, err := restclient.HTTPClientFor(config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.CloseIdleConnections)
			return config.Host, client, config
		}
	}
	return made
}

func TestAProxiedRequestArrives(t *testing.T) {
	for way, reach := range ways(t, "proxy-user") {
		for name, test := range map[string]struct{ method, path string }{
			"a list":                       {http.MethodGet, "/v1.41/containers/json?all=1"},
			"nothing but the target":       {http.MethodGet, "/"},
			"a slash at the end":           {http.MethodGet, "/apis/"},
			"a watch":                      {http.MethodGet, "/api/v1/pods?timeoutSeconds=500&watch=true"},
			"a time limit of another API":  {http.MethodGet, "/api?timeout=32s"},
			"a dry run of another API":     {http.MethodPatch, "/api/v1/namespaces/x/pods/y?dryRun=All&fieldManager=kubectl"},
			"a deletion of another API":    {http.MethodDelete, "/api/v1/namespaces/x/pods/y"},
			"a path in the query":          {http.MethodPut, "/containers/x/archive?path=%2Fetc"},
			"the path of another live API": {http.MethodGet, enginePath},
		} {
			t.Run(way+" "+name, func(t *testing.T) {
				host, client, _ := reach()
				request, _ := http.NewRequestWithContext(t.Context(), test.method, host+enginePath+test.path, http.NoBody)
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				if want := test.method + " " + test.path; string(body) != want || err != nil {
					t.Errorf("%d %q, %v; want %q", response.StatusCode, body, err, want)
				}
				if response.Header.Get("Connpool-Target") != "build" {
					t.Errorf("headers are %v", response.Header)
				}
			})
		}
	}
}

func TestAProxiedRequestAndItsAnswerFlow(t *testing.T) {
	for way, reach := range ways(t, "proxy-flow") {
		t.Run(way, func(t *testing.T) {
			host, client, _ := reach()
			body, sent := io.Pipe()
			go func() { _, _ = io.WriteString(sent, "part 0\n") }()
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, host+enginePath+"/flow", body)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			progress := bufio.NewReader(response.Body)
			for n := range 3 {
				if got, err := progress.ReadString('\n'); got != fmt.Sprintf("got part %d\n", n) {
					t.Fatalf("progress %q, %v", got, err)
				}
				_, _ = fmt.Fprintf(sent, "part %d\n", n+1)
			}
			_ = sent.Close()
			if _, err := io.Copy(io.Discard, progress); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAProxiedAnswerThatIsCutLooksCut(t *testing.T) {
	for way, reach := range ways(t, "proxy-cut") {
		t.Run(way, func(t *testing.T) {
			host, client, _ := reach()
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, host+enginePath+"/cut", http.NoBody)
			response, err := client.Do(request)
			if err != nil {
				return
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err == nil {
				t.Errorf("%q looks whole", body)
			}
		})
	}
}

// Directly, output can come after the end of input. kube-apiserver ends both together.
func TestAProxiedConnectionIsTakenOver(t *testing.T) {
	reach := ways(t, "proxy-upgrade")["directly"]
	_, _, config := reach()
	tlsConfig, err := restclient.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig.NextProtos = []string{"http/1.1"}
	address, _ := url.Parse(config.Host)
	dialer := tls.Dialer{Config: tlsConfig}
	conn, err := dialer.DialContext(t.Context(), "tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "POST %s/session HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nearly, ",
		enginePath, config.BearerToken)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answered %d", response.StatusCode)
	}
	_, _ = io.WriteString(conn, "late")
	_ = conn.(*tls.Conn).CloseWrite()
	if got, err := io.ReadAll(reader); string(got) != "got early, late" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A user who may impersonate others here must not do so at the target.
func TestNoUserImpersonatesThroughAProxy(t *testing.T) {
	reader, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, "impersonator")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path string
		want int
	}{
		"of a target":     {enginePath + "/x", http.StatusBadRequest},
		"nor of any pool": {proxyPath, http.StatusBadRequest},
		"a command is for the server's own rules to judge": {execPath, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := send(t, &tls.Config{}, http.MethodPost, test.path, http.Header{
				"Authorization": {"Bearer " + reader.BearerToken}, "Impersonate-User": {"root"},
			})
			if status != test.want || (status == http.StatusBadRequest && !strings.Contains(body, "leave the Impersonate- headers out")) {
				t.Errorf("answered %d %s", status, body)
			}
		})
	}
}
