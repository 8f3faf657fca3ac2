package exec

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
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/rest"
	clientcommand "k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// served runs a test against the registry behind a real server.
func served(t *testing.T, test func(*fixture, *httptest.Server)) {
	t.Helper()
	f := newFixture(t)
	f.Web()
	server := httptest.NewServer(f)
	defer func() {
		server.Close()
		if err := f.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		f.Close()
	}()
	test(f, server)
}

func TestStockClientsStreamCommands(t *testing.T) {
	for name, executor := range registrytest.Executors {
		t.Run(name, func(t *testing.T) {
			served(t, func(f *fixture, server *httptest.Server) {
				f.Fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
					_, _ = io.Copy(streams.Stdout, streams.Stdin)
					_, _ = fmt.Fprint(streams.Stderr, strings.Join(command.Argv, "|"), command.Env["A"])
					return driver.ExitStatus{Code: 3}, nil
				})
				e, err := executor(&rest.Config{Host: server.URL},
					registrytest.URLOf(server, "/pools/web/exec?command=cat&command=a+b&env=A%3D1&stdin=true&stdout=true&stderr=true"))
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
				if line := f.Audit(); !strings.Contains(line, `"transport"="`+name+`"`) || !strings.Contains(line, `"bytesIn"=10 "bytesOut"=18`) {
					t.Errorf("audit says %s", line)
				}
			})
		})
	}
}

func TestAnUpgradeTellsOfItsLease(t *testing.T) {
	served(t, func(f *fixture, server *httptest.Server) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		req := httptest.NewRequest(http.MethodGet, server.URL+"/pools/web/exec?command=true&stdout=1", http.NoBody)
		registrytest.Upgrading(req)
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", response, err)
		}
		defer response.Body.Close()
		if !f.HasConnection(response.Header.Get("Connpool-Connection")) {
			t.Errorf("the connection is said to be %q", response.Header.Get("Connpool-Connection"))
		}
		for header, want := range map[string]string{
			"Connpool-Target": "web-1", "Connpool-Acquired": "Warm", "Connpool-Signals": "None", "Connpool-Routing": "LeastLoaded",
		} {
			if got := response.Header.Get(header); got != want {
				t.Errorf("%s is %q, want %q", header, got, want)
			}
		}
		if response.Header.Get("Connpool-Request-Id") == "" {
			t.Error("no ID of the request")
		}
	})
}

// TestStreamsThatAskForItRunOnConnectionsOfTheirOwn: what is large enough to fill a window
// has the windows of all connections.
func TestStreamsThatAskForItRunOnConnectionsOfTheirOwn(t *testing.T) {
	for query, want := range map[string]int{"": 1, "&spread=true": 3, "&spread=false": 1} {
		t.Run("with "+query, func(t *testing.T) {
			f := newFixture(t)
			three := func(policy *poolset.Policy) { policy.MinWarm, policy.Max = 3, 3 }
			f.ConnectWith(f.Target("web-1", "web"), f.Fake, three, f.Pool("web", registrytest.LeastLoaded))
			for len(f.Set.Connections("")) < 3 {
				time.Sleep(time.Millisecond)
			}
			hold := make(chan struct{})
			f.Fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
				<-hold
				return driver.ExitStatus{}, nil
			})
			server := httptest.NewServer(f)
			defer func() {
				server.Close()
				if err := f.Wait(context.Background()); err != nil {
					t.Error(err)
				}
				f.Close()
			}()
			defer close(hold)
			used := map[string]bool{}
			for range 3 {
				name, leave := connectionOf(t, server, "/pools/web/exec?command=true&stdout=1"+query)
				used[name] = true
				defer leave() //nolint:errcheck // the client just goes
			}
			if len(used) != want {
				t.Errorf("3 streams ran on the connections %v, want %d", used, want)
			}
		})
	}
}

// connectionOf starts a stream, and returns on which connection it runs.
func connectionOf(t *testing.T, server *httptest.Server, path string) (name string, leave func() error) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, server.URL+path, http.NoBody)
	registrytest.Upgrading(req)
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", response, err)
	}
	_ = response.Body.Close()
	return response.Header.Get("Connpool-Connection"), conn.Close
}

func TestAStreamWithOnlyGetRunsNothing(t *testing.T) {
	served(t, func(f *fixture, server *httptest.Server) {
		f.Authorizer.DecideBy(registrytest.OnlyGet)
		e, err := clientcommand.NewWebSocketExecutor(&rest.Config{Host: server.URL}, http.MethodGet, server.URL+"/pools/web/exec?command=id&stdout=1")
		if err != nil {
			t.Fatal(err)
		}
		err = e.StreamWithContext(t.Context(), clientcommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "cannot create resource") || f.Execs() != 0 {
			t.Errorf("it ended with %v, and %d commands ran", err, f.Execs())
		}
	})
}

func TestAnUpgradeThatFailsGivesItsLeaseBack(t *testing.T) {
	served(t, func(f *fixture, server *httptest.Server) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/pools/web/exec?command=id&stdout=1", http.NoBody)
		registrytest.Upgrading(req)
		req.Header.Set("Sec-WebSocket-Protocol", "chat")
		response, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		defer response.Body.Close()
		if response.StatusCode < 400 || f.Execs() != 0 {
			t.Errorf("answered %d", response.StatusCode)
		}
		if leases := f.Set.Connections("")[0].Leases; leases != 0 {
			t.Errorf("%d leases are out", leases)
		}
	})
}

func TestHowAStreamEnds(t *testing.T) {
	base := use.Result{Lease: use.LeaseInfo{Target: "web-1", Connection: "web-1-0", Acquired: live.AcquiredWarm}}
	with := func(change func(*use.Result)) use.Result {
		r := base
		change(&r)
		return r
	}
	for name, test := range map[string]struct {
		result use.Result
		status string
		reason metav1.StatusReason
		first  metav1.CauseType
		code   string
	}{
		"with code 0":                      {with(func(r *use.Result) { r.Outcome = live.OutcomeCompleted }), "Success", "", live.CauseOutcome, ""},
		"with a code":                      {with(func(r *use.Result) { r.Outcome, r.Code = live.OutcomeCompleted, 7 }), "Failure", remotecommand.NonZeroExitCodeReason, remotecommand.ExitCodeCauseType, "7"},
		"with a code that no client reads": {with(func(r *use.Result) { r.Outcome, r.Code = live.OutcomeCompleted, 4711 }), "Failure", remotecommand.NonZeroExitCodeReason, remotecommand.ExitCodeCauseType, "255"},
		"before its start":                 {with(func(r *use.Result) { r.Outcome = live.OutcomeNotStarted }), "Failure", reasonNotStarted, live.CauseOutcome, ""},
		"with an unknown outcome":          {with(func(r *use.Result) { r.Outcome = live.OutcomeUnknown }), "Failure", reasonUnknown, live.CauseOutcome, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status := streamStatus(&test.result, "id")
			all := registrytest.Causes(*status)
			if status.Status != test.status || status.Reason != test.reason || status.Details.Causes[0].Type != test.first || all[remotecommand.ExitCodeCauseType] != test.code {
				t.Errorf("status is %+v", status)
			}
			if all[live.CauseOutcome] != string(test.result.Outcome) || all[live.CauseTarget] != "web-1" || all[live.CauseConnection] != "web-1-0" ||
				all[live.CauseAcquired] != "Warm" || all[live.CauseRequestID] != "id" || all[live.CauseAcquireMicroseconds] != "0" {
				t.Errorf("causes are %v", all)
			}
		})
	}
}
