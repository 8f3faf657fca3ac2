package registry

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/rest"
	clientportforward "k8s.io/client-go/tools/portforward"
	clientcommand "k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// served runs a test against the registry behind a real server.
func served(t *testing.T, test func(*world, *httptest.Server)) {
	t.Helper()
	w := newWorld(t)
	w.web()
	server := httptest.NewServer(w)
	defer func() {
		server.Close()
		if err := w.registry.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		w.close()
	}()
	test(w, server)
}

func urlOf(server *httptest.Server, path string) *url.URL {
	address, _ := url.Parse(server.URL + path)
	return address
}

// executors are those of stock clients.
var executors = map[string]func(*rest.Config, *url.URL) (clientcommand.Executor, error){
	"websocket": func(config *rest.Config, address *url.URL) (clientcommand.Executor, error) {
		return clientcommand.NewWebSocketExecutor(config, http.MethodGet, address.String())
	},
	"spdy": func(config *rest.Config, address *url.URL) (clientcommand.Executor, error) {
		return clientcommand.NewSPDYExecutor(config, http.MethodPost, address)
	},
}

func TestStockClientsStreamCommands(t *testing.T) {
	for name, executor := range executors {
		t.Run(name, func(t *testing.T) {
			served(t, func(w *world, server *httptest.Server) {
				w.fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
					_, _ = io.Copy(streams.Stdout, streams.Stdin)
					_, _ = fmt.Fprint(streams.Stderr, strings.Join(command.Argv, "|"), command.Env["A"])
					return driver.ExitStatus{Code: 3}, nil
				})
				e, err := executor(&rest.Config{Host: server.URL},
					urlOf(server, "/pools/web/exec?command=cat&command=a+b&env=A%3D1&stdin=true&stdout=true&stderr=true"))
				if err != nil {
					t.Fatal(err)
				}
				var stdout, stderr bytes.Buffer
				err = e.StreamWithContext(t.Context(), clientcommand.StreamOptions{
					Stdin: strings.NewReader("in and out"), Stdout: &stdout, Stderr: &stderr,
				})
				exit := utilexec.CodeExitError{}
				if !errors.As(err, &exit) || exit.Code != 3 {
					t.Errorf("it ended with %v", err)
				}
				if stdout.String() != "in and out" || stderr.String() != "cat|a b1" {
					t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
				}
				if line := w.audit(); !strings.Contains(line, `"transport"="`+name+`"`) || !strings.Contains(line, `"bytesIn"=10 "bytesOut"=18`) {
					t.Errorf("audit says %s", line)
				}
			})
		})
	}
}

func TestAnUpgradeTellsOfItsLease(t *testing.T) {
	served(t, func(w *world, server *httptest.Server) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		req := httptest.NewRequest(http.MethodGet, server.URL+"/pools/web/exec?command=true&stdout=1", http.NoBody)
		upgrading(req)
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", response, err)
		}
		defer response.Body.Close()
		if _, ok := w.registry.find(namespace, response.Header.Get("Connpool-Connection")); !ok {
			t.Errorf("the connection is said to be %q", response.Header.Get("Connpool-Connection"))
		}
		for header, want := range map[string]string{"Connpool-Target": "web-1", "Connpool-Acquired": "Warm"} {
			if got := response.Header.Get(header); got != want {
				t.Errorf("%s is %q, want %q", header, got, want)
			}
		}
		if response.Header.Get("Connpool-Request-Id") == "" {
			t.Error("no ID of the request")
		}
	})
}

func TestAStreamWithOnlyGetRunsNothing(t *testing.T) {
	served(t, func(w *world, server *httptest.Server) {
		w.judge.verdict = onlyGet
		e, err := clientcommand.NewWebSocketExecutor(&rest.Config{Host: server.URL}, http.MethodGet, server.URL+"/pools/web/exec?command=id&stdout=1")
		if err != nil {
			t.Fatal(err)
		}
		err = e.StreamWithContext(t.Context(), clientcommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "cannot create resource") || w.execs() != 0 {
			t.Errorf("it ended with %v, and %d commands ran", err, w.execs())
		}
	})
}

func TestAnUpgradeThatFailsGivesItsLeaseBack(t *testing.T) {
	served(t, func(w *world, server *httptest.Server) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/pools/web/exec?command=id&stdout=1", http.NoBody)
		upgrading(req)
		req.Header.Set("Sec-WebSocket-Protocol", "chat")
		response, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		defer response.Body.Close()
		if response.StatusCode < 400 || w.execs() != 0 {
			t.Errorf("answered %d", response.StatusCode)
		}
		if leases := w.set.Connections("")[0].Leases; leases != 0 {
			t.Errorf("%d leases are out", leases)
		}
	})
}

func TestHowAStreamEnds(t *testing.T) {
	base := ending{held: held{target: "web-1", connection: "web-1-0", acquired: live.AcquiredWarm}, requestID: "id"}
	with := func(change func(*ending)) ending {
		e := base
		change(&e)
		return e
	}
	for name, test := range map[string]struct {
		ending ending
		status string
		reason metav1.StatusReason
		first  metav1.CauseType
		code   string
	}{
		"with code 0":                      {with(func(e *ending) { e.outcome = live.OutcomeCompleted }), "Success", "", live.CauseOutcome, ""},
		"with a code":                      {with(func(e *ending) { e.outcome, e.code = live.OutcomeCompleted, 7 }), "Failure", remotecommand.NonZeroExitCodeReason, remotecommand.ExitCodeCauseType, "7"},
		"with a code that no client reads": {with(func(e *ending) { e.outcome, e.code = live.OutcomeCompleted, 4711 }), "Failure", remotecommand.NonZeroExitCodeReason, remotecommand.ExitCodeCauseType, "255"},
		"before its start":                 {with(func(e *ending) { e.outcome = live.OutcomeNotStarted }), "Failure", reasonNotStarted, live.CauseOutcome, ""},
		"nobody knows how":                 {with(func(e *ending) { e.outcome = live.OutcomeUnknown }), "Failure", reasonUnknown, live.CauseOutcome, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status := test.ending.status()
			all := causes(*status)
			if status.Status != test.status || status.Reason != test.reason || status.Details.Causes[0].Type != test.first || all[remotecommand.ExitCodeCauseType] != test.code {
				t.Errorf("status is %+v", status)
			}
			if all[live.CauseOutcome] != string(test.ending.outcome) || all[live.CauseTarget] != "web-1" || all[live.CauseConnection] != "web-1-0" ||
				all[live.CauseAcquired] != "Warm" || all[live.CauseRequestID] != "id" || all[live.CauseAcquireMicroseconds] != "0" {
				t.Errorf("causes are %v", all)
			}
		})
	}
}

// forwarding opens a forward of one port with the stock client.
func forwarding(t *testing.T, server *httptest.Server, query, ports string, stop chan struct{}) (local uint16, ended <-chan error) {
	t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, urlOf(server, "/pools/web/portforward"+query))
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
			served(t, func(w *world, server *httptest.Server) {
				w.fake.OnForward(echoing(test.want))
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

func TestAForwardEndsWithItsConnection(t *testing.T) {
	served(t, func(w *world, server *httptest.Server) {
		w.fake.OnForward(echoing("tcp localhost:5432"))
		stop := make(chan struct{})
		defer close(stop)
		_, ended := forwarding(t, server, "", "0:5432", stop)
		w.fake.Live()[0].Kill(nil)
		<-ended
		if err := w.registry.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(w.audit(), `"reason"="Unreachable"`) {
			t.Errorf("audit says %s", w.audit())
		}
	})
}

func TestPortZeroIsNoPort(t *testing.T) {
	if _, err := dialFrom(t.Context(), nil, &live.PortForwardOptions{}, 0); err == nil || !strings.Contains(err.Error(), "port 0") {
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

func (d execOnlyDialer) Dial(ctx context.Context) (driver.Conn, error) {
	conn, err := d.Dialer.Dial(ctx)
	return struct{ driver.Conn }{conn}, err
}

func TestATargetThatForwardsNothingSaysSo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.connectWith(w.target("web-1", "web"), execOnly{w.fake}, nil, w.pool("web", leastLoaded))
		req := httptest.NewRequestWithContext(w.Context(), http.MethodGet, "/pools/web/portforward", http.NoBody)
		upgrading(req)
		w.send(req).wantRefusal(w, http.StatusBadRequest, "target web-1 forwards no ports")
		if leases := w.set.Connections("")[0].Leases; leases != 0 {
			t.Errorf("%d leases are out", leases)
		}
	})
}
