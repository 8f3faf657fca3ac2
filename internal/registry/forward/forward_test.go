package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/registry/limits"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/traffic"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/stream"
)

func TestEachTypeForwardsItsPorts(t *testing.T) {
	for name, test := range map[string]struct {
		kind  func(*v1alpha1.ConnectionTarget)
		query string
		words []string
	}{
		"of an engine":                {registrytest.Docker, "", []string{"type docker", "cannot forward ports", "exec"}},
		"of a container":              {registrytest.Docker, "?pod=web", []string{"type docker", "cannot forward ports"}},
		"of no pod of a cluster":      {registrytest.Kubernetes, "", []string{"pod: Required", "type kubernetes"}},
		"of a host of a cluster":      {registrytest.Kubernetes, "?pod=web&host=db", []string{"host: Forbidden", "name a pod instead"}},
		"of a socket of a cluster":    {registrytest.Kubernetes, "?pod=web&socket=/run/x", []string{"socket: Forbidden"}},
		"of a pod whose name is none": {registrytest.Kubernetes, "?pod=a/b", []string{"pod: Invalid"}},
		"of a namespace alone":        {registrytest.Kubernetes, "?namespace=prod", []string{"pod: Required"}},
		"of a port without a pod":     {registrytest.SSH, "?port=http", []string{"port: Forbidden", "name the pod"}},
		"of a port that is none":      {registrytest.Kubernetes, "?pod=web&port=70000", []string{"port: Invalid"}},
		"of a pod of a host":          {registrytest.SSH, "?pod=web", []string{"pod: Forbidden", "type ssh", "leave the pod out"}},
		"of a namespace of a host":    {registrytest.SSH, "?namespace=prod", []string{"namespace: Forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			for way, change := range map[string]func(*v1alpha1.ConnectionPool){
				"by the pool": registrytest.OnlyFor("web-1"), "by the pools' choice": registrytest.LeastLoaded,
			} {
				t.Run(way, func(t *testing.T) {
					inFixture(t, func(f *fixture) {
						f.Connect(f.Target("web-1", "web", test.kind), f.Pool("web", change))
						req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, "/pools/web/portforward"+test.query, http.NoBody)
						registrytest.Upgrading(req)
						f.Send(req).WantRefusal(f, http.StatusBadRequest, test.words...)
						if leases := f.Set.Connections("")[0].Leases; leases != 0 {
							t.Errorf("%d leases are out", leases)
						}
					})
				})
			}
		})
	}
}

func TestPortsOfPodsAreForwarded(t *testing.T) {
	f := newFixture(t)
	defer f.Close()
	api := &registrytest.Remote{Fake: f.Fake}
	f.ConnectWith(f.Target("web-1", "web", registrytest.Kubernetes), api, nil, f.Pool("web", registrytest.LeastLoaded))
	server := httptest.NewServer(f)
	defer server.Close()
	api.Pods = func(pod driver.Place, port uint16) (net.Conn, error) {
		if want := (driver.Place{Pod: "db-0", Namespace: "prod"}); pod != want || port != 5432 {
			return nil, fmt.Errorf("port %d of %+v", port, pod)
		}
		return echoingConn(), nil
	}
	stop := make(chan struct{})
	port, ended := forwarding(t, server, "?pod=db-0&namespace=prod", "0:5432", stop)
	defer func() { close(stop); <-ended }()
	echoThrough(t, port)
}

func TestAPortOfAPodIsForwardedByItsName(t *testing.T) {
	f := newFixture(t)
	defer f.Close()
	api := &registrytest.Remote{Fake: f.Fake}
	f.ConnectWith(f.Target("web-1", "web", registrytest.Kubernetes), api, nil, f.Pool("web", registrytest.LeastLoaded))
	server := httptest.NewServer(f)
	defer server.Close()
	api.Pods = func(_ driver.Place, port uint16) (net.Conn, error) {
		if port != 80 {
			return nil, fmt.Errorf("port %d", port)
		}
		return echoingConn(), nil
	}
	stop := make(chan struct{})
	port, ended := forwarding(t, server, "?pod=db-0&port=http", "0:1", stop)
	defer func() { close(stop); <-ended }()
	echoThrough(t, port)
	if audit := f.Audit(); !strings.Contains(audit, `"port"=80`) {
		t.Errorf("the audit lacks the port: %s", audit)
	}
}

func TestAPodThatIsAbsentIsRefusedBeforeAnythingIsForwarded(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.ConnectWith(f.Target("web-1", "web", registrytest.Kubernetes), &registrytest.Remote{Fake: f.Fake}, nil, f.Pool("web", registrytest.LeastLoaded))
		req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, "/pools/web/portforward?pod=none", http.NoBody)
		registrytest.Upgrading(req)
		f.Send(req).WantRefusal(f, http.StatusBadRequest, "pod none does not exist")
		if leases := f.Set.Connections("")[0].Leases; leases != 0 {
			t.Errorf("%d leases are out", leases)
		}
	})
}

func echoingConn() net.Conn {
	near, far := net.Pipe()
	go func() {
		_, _ = io.Copy(far, far)
		_ = far.Close()
	}()
	return near
}

// echoThrough sends a word through a forwarded port and wants it back. The
// connection stays open.
func echoThrough(t *testing.T, port uint16) net.Conn {
	t.Helper()
	conn := connectTo(t, port)
	_, _ = io.WriteString(conn, "ping")
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "ping" {
		t.Errorf("answer %q, %v", answer, err)
	}
	return conn
}

func connectTo(t *testing.T, port uint16) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestWhyAPortOfAPodIsNotForwarded(t *testing.T) {
	missing := &driver.Error{Reason: driver.NotFound, Stage: driver.StageSession, Message: "the pod does not exist"}
	options := &live.PortForwardOptions{Pod: "web-0"}
	api := &registrytest.Remote{Pods: func(driver.Place, uint16) (net.Conn, error) { return nil, missing }}
	dial := dialer(registrytest.NewRemoteConn(api), options)
	if _, err := dial(t.Context(), 80); err == nil || !strings.Contains(err.Error(), "port 80 of pod web-0 cannot be reached: the pod does not exist") {
		t.Errorf("error is %v", err)
	}
	if _, err := dial(t.Context(), 0); !errors.Is(err, errNoPort) {
		t.Errorf("error is %v", err)
	}
	if dialer(struct{ driver.Conn }{}, options) != nil {
		t.Error("a connection without pods forwards to them")
	}
}

// Connections have a limit of their own, beside that of uses.
func TestConnectionsOfAForwardAreLimited(t *testing.T) {
	f := newFixture(t, func(c *use.Config) { c.Limits.ForwardsPerUser, c.Limits.StreamsPerUser = 2, 2 })
	defer f.Close()
	f.Web()
	server := httptest.NewServer(f)
	defer server.Close()
	f.Fake.OnForward(func(context.Context, *drivertest.FakeConn, string, string) (net.Conn, error) {
		return echoingConn(), nil
	})
	stop := make(chan struct{})
	port, ended := forwarding(t, server, "", "0:5432", stop)
	defer close(stop)
	echoThrough(t, port)
	echoThrough(t, port)
	f.Post(t.Context(), "web", registrytest.Command("true")).WantOutcome(f, live.OutcomeCompleted)
	third := connectTo(t, port)
	if rest, _ := io.ReadAll(third); len(rest) != 0 {
		t.Errorf("%q came back", rest)
	}
	<-ended // as the stock client does after every error
	if err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Post(t.Context(), "web", registrytest.Command("true")).WantOutcome(f, live.OutcomeCompleted)
}

// limited returns what dials for a user within the limits of forwards.
func limited(t *testing.T, f *fixture, name string, dial func() (net.Conn, error)) stream.DialFunc {
	t.Helper()
	ctx := request.WithUser(request.WithNamespace(t.Context(), registrytest.Namespace), &user.DefaultInfo{Name: name})
	u, err := f.Gate.Admit(ctx, "web", "portforward")
	if err != nil {
		t.Fatal(err)
	}
	return limiter{u}.limit(func(context.Context, uint16) (net.Conn, error) { return dial() }, new(traffic.Bytes))
}

func TestForwardedConnectionsAreBoundedByUserAndByNamespace(t *testing.T) {
	for name, test := range map[string]struct {
		limits limits.Limits
		users  []string
		most   int
		says   string
	}{
		"one user":                   {limits.Limits{ForwardsPerUser: 3}, []string{"ann"}, 3, "--max-forwarded-connections-per-user"},
		"the users of one namespace": {limits.Limits{Forwards: 16, ForwardsPerUser: 3}, []string{"ann", "bob", "cat"}, 8, "users of the namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *use.Config) { c.Limits = test.limits })
			defer f.Close()
			var open []net.Conn
			var refused error
			for _, name := range test.users {
				dial := limited(t, f, name, func() (net.Conn, error) {
					near, _ := net.Pipe()
					return near, nil
				})
				for refused = nil; refused == nil; {
					var conn net.Conn
					if conn, refused = dial(t.Context(), 1); refused == nil {
						open = append(open, conn)
					}
				}
			}
			if len(open) != test.most || !strings.Contains(refused.Error(), test.says) {
				t.Errorf("%d are open, then: %v", len(open), refused)
			}
			for _, conn := range open {
				_ = conn.Close()
				_ = conn.Close()
			}
			failed := errors.New("refused")
			dial := limited(t, f, "ann", func() (net.Conn, error) { return nil, failed })
			for range test.most + 1 {
				if _, err := dial(t.Context(), 1); !errors.Is(err, failed) {
					t.Errorf("error is %v", err)
				}
			}
		})
	}
}

// A connection whose client does not read holds memory until it is cut.
func TestAForwardedConnectionThatIsNotReadIsCutWhenMemoryIsShort(t *testing.T) {
	f := newFixture(t)
	defer f.Close()
	near, far := net.Pipe()
	conn, err := limited(t, f, "ann", func() (net.Conn, error) { return near, nil })(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if cut := f.Gate.Deliveries.Relieve(1); cut != 0 {
		t.Error("a connection without output is cut")
	}
	go func() { _, _ = far.Write([]byte("x")) }()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if cut := f.Gate.Deliveries.Relieve(1); cut != 1 {
		t.Errorf("%d connections are cut", cut)
	}
	if _, err := far.Write([]byte("x")); err == nil {
		t.Error("the target can still write")
	}
}
