package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
	clientportforward "k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// forwarding opens a forward of one port with the stock client.
func forwarding(t *testing.T, server *httptest.Server, query, ports string, stop chan struct{}) (local uint16, ended <-chan error) {
	t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(server.URL + "/pools/web/portforward" + query)
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, address)
	opened := make(chan struct{})
	forwarder, err := clientportforward.New(dialer, []string{ports}, stop, opened, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-opened:
	case err := <-done:
		t.Fatal(err)
	}
	forwarded, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return forwarded[0].Local, done
}

// echoing plays a remote that sends back what it gets.
func echoing(want string) drivertest.ForwardFunc {
	return func(_ context.Context, conn *drivertest.FakeConn, network, address string) (net.Conn, error) {
		if network+" "+address != want {
			return nil, &driver.Error{Reason: driver.Unreachable, Message: "nothing listens at " + address}
		}
		near, far := net.Pipe()
		go func() {
			_, _ = io.Copy(far, far)
			_ = far.Close()
		}()
		context.AfterFunc(conn.Context(), func() { _ = far.Close() })
		return near, nil
	}
}

func TestStockClientsForwardPorts(t *testing.T) {
	for name, test := range map[string]struct{ query, want string }{
		"of the target itself":    {"", "tcp localhost:5432"},
		"of a host behind it":     {"?host=db.internal", "tcp db.internal:5432"},
		"of an IPv6 address":      {"?host=%5B%3A%3A1%5D", "tcp [::1]:5432"},
		"of a unix socket":        {"?socket=/run/docker.sock", "unix /run/docker.sock"},
		"of a target by its name": {"?target=web-1", "tcp localhost:5432"},
	} {
		t.Run(name, func(t *testing.T) {
			served(t, func(f *fixture, server *httptest.Server) {
				f.Fake.OnForward(echoing(test.want))
				stop := make(chan struct{})
				port, ended := forwarding(t, server, test.query, "0:5432", stop)
				defer func() { close(stop); <-ended }()
				conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_, _ = io.WriteString(conn, "ping")
				answer := make([]byte, 4)
				if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "ping" {
					t.Errorf("answer %q, %v", answer, err)
				}
			})
		})
	}
}

func TestTheAuditNamesEachHostPortAndSocketThatIsDialed(t *testing.T) {
	for name, test := range map[string]struct {
		query string
		dials int // the stock client ends with the first that fails
		facts []string
	}{
		"a port of the target":  {"", 2, []string{`"host"="localhost"`, `"port"=5432`}},
		"a port of another":     {"?host=db.internal", 2, []string{`"host"="db.internal"`, `"port"=5432`}},
		"a socket":              {"?socket=/run/docker.sock", 2, []string{`"socket"="/run/docker.sock"`}},
		"what cannot be dialed": {"?host=none.internal", 1, []string{`"host"="none.internal"`, `"port"=5432`, `"message"="none.internal:5432 cannot be reached`}},
	} {
		t.Run(name, func(t *testing.T) {
			served(t, func(f *fixture, server *httptest.Server) {
				f.Fake.OnForward(func(_ context.Context, _ *drivertest.FakeConn, _, address string) (net.Conn, error) {
					if strings.HasPrefix(address, "none") {
						return nil, &driver.Error{Reason: driver.Unreachable, Message: "nothing listens"}
					}
					return echoingConn(), nil
				})
				stop := make(chan struct{})
				port, ended := forwarding(t, server, test.query, "0:5432", stop)
				defer func() { close(stop); <-ended }()
				for range test.dials {
					conn := connectTo(t, port)
					_, _ = io.WriteString(conn, "ping")
					_, _ = conn.Read(make([]byte, 1)) // it is dialed, or refused
				}
				dials := 0
				for line := range strings.SplitSeq(f.Audit(), "\n") {
					if !strings.Contains(line, `"msg"="forward dialed"`) {
						continue
					}
					dials++
					for _, want := range append(test.facts, `"user"="alice"`, `"pool"="web"`, `"target"="web-1"`) {
						if !strings.Contains(line, want) {
							t.Errorf("%s is missing in %s", want, line)
						}
					}
				}
				if dials != test.dials {
					t.Errorf("%d lines about %d dials: %s", dials, test.dials, f.Audit())
				}
			})
		})
	}
}

func TestTheAdviceAboutAnUnreachableAddressIsNotCut(t *testing.T) {
	advice := strings.Repeat("what a server says; ", 12) + "the next step"
	served(t, func(f *fixture, server *httptest.Server) {
		f.Fake.OnForward(func(context.Context, *drivertest.FakeConn, string, string) (net.Conn, error) {
			return nil, &driver.Error{Reason: driver.Unreachable, Stage: driver.StageSession, Message: advice}
		})
		stop := make(chan struct{})
		port, ended := forwarding(t, server, "?host=none.internal", "0:5432", stop)
		_, _ = connectTo(t, port).Read(make([]byte, 1))
		close(stop)
		<-ended
		want := `"message"="none.internal:5432 cannot be reached from the target: ` + advice + `"`
		if !strings.Contains(f.Audit(), want) {
			t.Errorf("%s is missing in %s", want, f.Audit())
		}
	})
}

func TestASocketNeedsARightOfItsOwn(t *testing.T) {
	withoutSockets := func(asked authorizer.Attributes) (authorizer.Decision, string, error) {
		if asked.GetSubresource() == "socketforward" {
			return authorizer.DecisionNoOpinion, "no rule allows it", nil
		}
		return authorizer.DecisionAllow, "", nil
	}
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Authorizer.DecideBy(withoutSockets)
		req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, "/pools/web/portforward?socket=/run/docker.sock", http.NoBody)
		registrytest.Upgrading(req)
		f.Send(req).WantRefusal(f, http.StatusForbidden, "connectionpools/socketforward", "create", `"alice"`, `"web"`,
			fmt.Sprintf("in the namespace %q", registrytest.Namespace))
		if line := f.Audit(); !strings.Contains(line, `"msg"="use refused"`) || !strings.Contains(line, `"socket"="/run/docker.sock"`) {
			t.Errorf("audit says %s", line)
		}
	})
	served(t, func(f *fixture, server *httptest.Server) {
		f.Authorizer.DecideBy(withoutSockets)
		f.Fake.OnForward(echoing("tcp localhost:5432"))
		stop := make(chan struct{})
		port, ended := forwarding(t, server, "", "0:5432", stop)
		defer func() { close(stop); <-ended }()
		echoThrough(t, port)
	})
}

func TestAForwardedSocketEndsWithItsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.Close()
		f.Web()
		u, err := f.Gate.Admit(request.WithNamespace(asAlice(t.Context()), registrytest.Namespace), "web", "portforward")
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Require(request.WithNamespace(asAlice(t.Context()), registrytest.Namespace), "connectionpools", "web", socketforward); err != nil {
			t.Fatal(err)
		}
		watched, stop := u.Watch(t.Context())
		defer stop()
		f.Authorizer.DecideBy(func(asked authorizer.Attributes) (authorizer.Decision, string, error) {
			if asked.GetSubresource() == socketforward {
				return authorizer.DecisionNoOpinion, "", nil
			}
			return authorizer.DecisionAllow, "", nil
		})
		revoked := time.Now()
		<-watched.Done()
		if !errors.Is(context.Cause(watched), use.ErrRevoked) || time.Since(revoked) > 45*time.Second {
			t.Errorf("it ended after %v: %v", time.Since(revoked), context.Cause(watched))
		}
	})
}

func asAlice(ctx context.Context) context.Context {
	return request.WithUser(ctx, &user.DefaultInfo{Name: "alice"})
}

func TestAForwardEndsWithItsConnection(t *testing.T) {
	served(t, func(f *fixture, server *httptest.Server) {
		f.Fake.OnForward(echoing("tcp localhost:5432"))
		stop := make(chan struct{})
		defer close(stop)
		_, ended := forwarding(t, server, "", "0:5432", stop)
		f.Fake.Live()[0].Kill(nil)
		<-ended
		if err := f.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(f.Audit(), `"reason"="Unreachable"`) {
			t.Errorf("audit says %s", f.Audit())
		}
	})
}

func TestPortZeroIsNoPort(t *testing.T) {
	if _, err := dialFrom(t.Context(), nil, &live.PortForwardOptions{}, 0); err == nil || !strings.Contains(err.Error(), "0 is not a valid port") {
		t.Errorf("error is %v", err)
	}
}

// execOnly is a driver whose connections forward nothing.
type execOnly struct{ *drivertest.Fake }

func (d execOnly) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	dialer, err := d.Fake.Prepare(endpoint)
	return execOnlyDialer{dialer}, err
}

type execOnlyDialer struct{ driver.Dialer }

func (d execOnlyDialer) With(change func(*driver.Endpoint)) driver.Dialer {
	return execOnlyDialer{d.Dialer.With(change)}
}

func (d execOnlyDialer) Dial(ctx context.Context) (driver.Conn, error) {
	conn, err := d.Dialer.Dial(ctx)
	return struct{ driver.Conn }{conn}, err
}

func TestATargetThatForwardsNothingSaysSo(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.ConnectWith(f.Target("web-1", "web"), execOnly{f.Fake}, nil, f.Pool("web", registrytest.LeastLoaded))
		req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, "/pools/web/portforward", http.NoBody)
		registrytest.Upgrading(req)
		f.Send(req).WantRefusal(f, http.StatusBadRequest, "target web-1 cannot forward ports")
		if leases := f.Set.Connections("")[0].Leases; leases != 0 {
			t.Errorf("%d leases are out", leases)
		}
	})
}

func TestWhereAForwardMayLead(t *testing.T) {
	for name, test := range map[string]struct {
		options live.PortForwardOptions
		want    []string
	}{
		"localhost when nothing is said": {live.PortForwardOptions{}, nil},
		"a name":                         {live.PortForwardOptions{Host: "DB.example.com."}, nil},
		"an address":                     {live.PortForwardOptions{Host: "10.0.0.1"}, nil},
		"an IPv6 address":                {live.PortForwardOptions{Host: "[::1]"}, nil},
		"a socket":                       {live.PortForwardOptions{Socket: "/run/docker.sock"}, nil},
		"a host with a port":             {live.PortForwardOptions{Host: "db:5432"}, []string{"host"}},
		"a host with a space":            {live.PortForwardOptions{Host: "d b"}, []string{"host"}},
		"a URL":                          {live.PortForwardOptions{Host: "http://db"}, []string{"host"}},
		"a relative socket":              {live.PortForwardOptions{Socket: "docker.sock"}, []string{"socket"}},
		"a socket with a newline":        {live.PortForwardOptions{Socket: "/a\nb"}, []string{"socket"}},
		"too long a socket":              {live.PortForwardOptions{Socket: "/" + strings.Repeat("x", 107)}, []string{"socket"}},
		"a host and a socket":            {live.PortForwardOptions{Host: "db", Socket: "/run/x"}, []string{"socket"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := registrytest.Fields(validateOptions(&test.options)); !slices.Equal(got, test.want) {
				t.Errorf("wrong are %v, want %v", got, test.want)
			}
		})
	}
}
