package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/netfault"
)

// gateway is a proxy before the real API server that can answer in its place. It has no
// credentials of its own: the caller's token counts.
type gateway struct {
	*httptest.Server

	fault    atomic.Pointer[http.HandlerFunc] // answers instead, if it wants to
	requests atomic.Int64                     // that reached it, but for those of our own looks
}

// startGateway returns a gateway, and an endpoint whose token it passes on.
func startGateway(t *testing.T) (*gateway, driver.Endpoint) {
	t.Helper()
	plane := cluster(t).plane
	user, err := plane.ServiceAccount(t.Context(), "default", "gateway")
	if err != nil {
		t.Fatal(err)
	}
	allowEverything(t, plane.Config, "gateway")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(plane.Config.CAData)
	target, _ := url.Parse(plane.Config.Host)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport, ErrorLog: log.New(io.Discard, "", 0), FlushInterval: -1,
	}
	g := new(gateway)
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != readyPath && r.URL.Path != versionPath {
			g.requests.Add(1)
		}
		if fault := g.fault.Load(); fault != nil {
			answered := &answered{ResponseWriter: w}
			if (*fault)(answered, r); answered.yes {
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	g.EnableHTTP2 = true
	g.Config.ErrorLog = log.New(io.Discard, "", 0)
	g.StartTLS()
	t.Cleanup(g.Close)
	t.Cleanup(g.CloseClientConnections)
	config := &rest.Config{Host: g.URL, BearerToken: user.BearerToken}
	config.CAData = pemOf(g.Certificate())
	return g, endpointOf(t, config)
}

// allowEverything makes a ServiceAccount an administrator.
func allowEverything(t *testing.T, config *rest.Config, name string) {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: name}},
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

type answered struct {
	http.ResponseWriter

	yes bool
}

func (a *answered) WriteHeader(code int) {
	a.yes = true
	a.ResponseWriter.WriteHeader(code)
}

// set changes the fault. nil ends it.
func (g *gateway) set(fault http.HandlerFunc) {
	if fault == nil {
		g.fault.Store(nil)
		return
	}
	g.fault.Store(&fault)
}

// refuseAll answers every request with an error of an API server.
func refuseAll(code int, header map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"because","code":%d}`, code)
	}
}

// ledger is a file to which each command appends its name, so that it shows which have
// run, and how often.
type ledger struct{ path string }

func newLedger(t *testing.T) ledger { return ledger{filepath.Join(t.TempDir(), "ran")} }

// command appends the name, then does the rest.
func (l ledger) command(name, rest string) driver.Command {
	return driver.Command{Place: web, Shell: "echo " + name + " >> " + l.path + "; " + rest}
}

func (l ledger) count(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile(l.path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(text), name+"\n")
}

// check compares what was reported with what happened.
func (l ledger) check(t *testing.T, name string, err error) {
	t.Helper()
	ran, outcome := l.count(t, name), driver.OutcomeOf(err)
	if ran > 1 || ran == 0 && outcome == driver.Completed || ran == 1 && outcome == driver.NotStarted {
		t.Errorf("%s ran %d times, and was reported as %s (%v)", name, ran, outcome, err)
	}
}

func TestRefusalsOfCommandsAreNotSentAgain(t *testing.T) {
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{}, endpoint)
	ran := newLedger(t)
	tests := map[string]struct {
		fault      http.HandlerFunc
		reason     driver.Reason
		started    bool
		retryAfter time.Duration
	}{
		"429 names its time":                          {refuseAll(429, map[string]string{"Retry-After": "7"}), driver.ThrottledByServer, false, 7 * time.Second},
		"503 of Kubernetes names its time":            {refuseAll(503, map[string]string{"Retry-After": "1"}), driver.Unreachable, false, time.Second},
		"403 is forbidden":                            {refuseAll(403, nil), driver.Forbidden, false, 0},
		"500 is refused":                              {refuseAll(500, nil), driver.Unreachable, false, 0},
		"504 may have started":                        {refuseAll(504, nil), driver.Unreachable, true, 0},
		"502 of a gateway may have started":           {plain(502), driver.Unreachable, true, 0},
		"a redirect is not followed":                  {redirect, driver.ProtocolError, false, 0},
		"200 is no upgrade, and may have started one": {plain(200), driver.ProtocolError, true, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g.set(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/exec") {
					test.fault(w, r)
				}
			})
			defer g.set(nil)
			before := g.requests.Load()
			_, err := output(t, conn, ran.command("never", ""))
			got := wantError(t, err, test.reason, driver.StageStart)
			if got.Started != test.started || got.RetryAfter != test.retryAfter {
				t.Errorf("started %t after %s, want %t and %s", got.Started, got.RetryAfter, test.started, test.retryAfter)
			}
			if sent := g.requests.Load() - before; sent != 1 {
				t.Errorf("sent %d times", sent)
			}
		})
	}
	if n := ran.count(t, "never"); n != 0 {
		t.Errorf("%d commands ran", n)
	}
	eventually(t, func() bool { // the server's authorizer learns of a binding a little later
		_, err := output(t, conn, ran.command("at last", ""))
		return err == nil
	})
	if n := ran.count(t, "at last"); n != 1 {
		t.Errorf("the last command ran %d times", n)
	}
}

func plain(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "<html>nothing</html>")
	}
}

func redirect(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/elsewhere", http.StatusFound)
}

func TestA401EndsTheConnectionAtOnce(t *testing.T) {
	tests := map[string]func(*testing.T, *conn){
		"when a command meets it": func(t *testing.T, conn *conn) {
			_, err := output(t, conn, driver.Command{Place: web, Argv: []string{"true"}})
			if got := wantError(t, err, driver.AuthenticationFailed, driver.StageStart); got.Started {
				t.Error("the command may have started")
			}
		},
		"when a proxied request meets it": func(t *testing.T, conn *conn) {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/api", nil)
			response, err := conn.Proxy(request)
			if err != nil || response.StatusCode != http.StatusUnauthorized {
				t.Fatalf("%v, error %v", response, err)
			}
			_ = response.Body.Close()
		},
		"when a probe meets it": func(t *testing.T, conn *conn) {
			wantError(t, conn.Probe(t.Context()), driver.AuthenticationFailed, driver.StageKeepalive)
		},
		"when a keepalive meets it": func(*testing.T, *conn) {},
	}
	for name, meet := range tests {
		t.Run(name, func(t *testing.T) {
			g, endpoint := startGateway(t)
			if name == "when a keepalive meets it" {
				endpoint = brief(endpoint)
			}
			conn := mustDial(t, Options{}, endpoint)
			g.set(refuseAll(http.StatusUnauthorized, nil))
			meet(t, conn)
			begin := time.Now()
			wantDeath(t, conn, driver.AuthenticationFailed, driver.StageKeepalive)
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("it took %s", took)
			}
			_, err := dialWith(t.Context(), Options{}, endpoint)
			wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication)
		})
	}
}

func TestA401OfSomethingBehindTheAPIEndsNothing(t *testing.T) {
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{}, endpoint)
	g.set(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/proxy") {
			refuseAll(http.StatusUnauthorized, nil)(w, r)
		}
	})
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/namespaces/default/services/login/proxy/", nil)
	response, err := conn.Proxy(request)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		t.Fatalf("%v, error %v", response, err)
	}
	_ = response.Body.Close()
	looked := conn.client.monitor.RoundTrip()
	eventually(t, func() bool { return conn.client.monitor.RoundTrip() != looked })
	if conn.Context().Err() != nil {
		t.Errorf("the connection ended: %v", context.Cause(conn.Context()))
	}
}

func TestAServerThatIsNotReadyIsSoWithoutLosingConnections(t *testing.T) {
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{}, brief(endpoint))
	g.set(refuseAll(http.StatusInternalServerError, nil))
	wantError(t, conn.Probe(t.Context()), driver.Unreachable, driver.StageKeepalive)
	_, err := dialWith(t.Context(), Options{}, endpoint)
	wantError(t, err, driver.Unreachable, driver.StageAuthentication)
	g.set(refuseAll(http.StatusTooManyRequests, map[string]string{"Retry-After": "9"}))
	_, err = dialWith(t.Context(), Options{}, endpoint)
	if got := wantError(t, err, driver.ThrottledByServer, driver.StageAuthentication); got.RetryAfter != 9*time.Second {
		t.Errorf("retry after %s", got.RetryAfter)
	}
	g.set(nil)
	eventually(t, func() bool { return conn.Probe(t.Context()) == nil })
	if conn.Context().Err() != nil {
		t.Errorf("the connection ended: %v", context.Cause(conn.Context()))
	}
}

func TestGOAWAYLosesNoRequestAndRepeatsNone(t *testing.T) {
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{QPS: 1e6, Burst: 1e6}, endpoint)
	var seen sync.Map
	g.set(func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("X-Name")
		if name == "" {
			return
		}
		if _, again := seen.LoadOrStore(name, true); again {
			t.Errorf("%s arrived twice", name)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(name, "7") {
			w.Header().Set("Connection", "close") // which is a GOAWAY in HTTP/2
		}
		w.WriteHeader(http.StatusCreated)
	})
	var senders sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			for j := range 50 {
				post(t, conn, fmt.Sprintf("%d-%d", i, j))
			}
		})
	}
	senders.Wait()
	if conn.Context().Err() != nil {
		t.Errorf("the connection ended: %v", context.Cause(conn.Context()))
	}
}

func post(t *testing.T, conn *conn, name string) {
	t.Helper()
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/api", strings.NewReader(name))
	request.GetBody = nil // as in requests that come from elsewhere
	request.Header.Set("X-Name", name)
	request.Header.Set("Idempotency-Key", name) // which must not have it sent twice
	response, err := conn.Proxy(request)
	if err != nil || response.StatusCode != http.StatusCreated {
		t.Errorf("%s: %v, error %v", name, response, err)
		return
	}
	_ = response.Body.Close()
}

func TestAFrozenServerIsNoticed(t *testing.T) {
	proxy, endpoint := through(t, admin(t))
	conn := mustDial(t, Options{StageTimeout: time.Second}, brief(endpoint))
	ran := newLedger(t)
	ended := make(chan error, 1)
	running := &notifying{seen: make(chan struct{})}
	go func() {
		_, err := conn.Exec(t.Context(), ran.command("frozen", "echo ready; sleep 1"), driver.Streams{Stdout: running})
		ended <- err
	}()
	<-running.seen
	proxy.Set(netfault.DropBoth)
	wantDeath(t, conn, driver.Timeout, driver.StageKeepalive)
	err := <-ended
	if got := driver.OutcomeOf(err); got != driver.Unknown {
		t.Errorf("outcome %s (%v)", got, err)
	}
	ran.check(t, "frozen", err)
	_, err = output(t, conn, ran.command("late", ""))
	if got := driver.OutcomeOf(err); got != driver.NotStarted || ran.count(t, "late") != 0 {
		t.Errorf("outcome %s (%v)", got, err)
	}
}

// notifying is a writer that tells when something is written.
type notifying struct {
	once sync.Once
	seen chan struct{}
}

func (n *notifying) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.seen) })
	return len(p), nil
}

func TestCommandsRunAtMostOnceWhileSocketsAreCut(t *testing.T) {
	proxy, endpoint := through(t, admin(t))
	conn := mustDial(t, Options{StageTimeout: 2 * time.Second}, endpoint)
	ran := newLedger(t)
	done := make(chan struct{})
	var cutter, workers sync.WaitGroup
	cutter.Go(func() {
		ticker := time.NewTicker(70 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				proxy.Reset()
			}
		}
	})
	var outcomes sync.Map
	for worker := range 4 {
		workers.Go(func() {
			for i := range 25 {
				name := fmt.Sprintf("c%d-%d", worker, i)
				_, err := output(t, conn, ran.command(name, ""))
				outcomes.Store(name, err)
			}
		})
	}
	workers.Wait()
	close(done)
	cutter.Wait()
	counts := map[driver.Outcome]int{}
	outcomes.Range(func(name, err any) bool {
		failed, _ := err.(error)
		counts[driver.OutcomeOf(failed)]++
		ran.check(t, name.(string), failed)
		return true
	})
	t.Logf("outcomes: %v", counts)
	if conn.Context().Err() == nil {
		eventually(t, func() bool { return conn.Probe(t.Context()) == nil })
	}
}

func TestTheLossOfSocketsEndsNoConnection(t *testing.T) {
	proxy, endpoint := through(t, admin(t))
	conn := mustDial(t, Options{}, endpoint)
	looked := conn.client.monitor.RoundTrip()
	proxy.Reset()
	eventually(t, func() bool { return conn.client.monitor.RoundTrip() != looked })
	if stdout, err := say(t, conn, "on"); stdout != "on\n" {
		t.Errorf("%q, error %v", stdout, err)
	}
	if conn.Context().Err() != nil {
		t.Errorf("the connection ended: %v", context.Cause(conn.Context()))
	}
}

func TestCommandsCutInTheMiddleAreUnknownAndTheirOutputIsABeginning(t *testing.T) {
	proxy, endpoint := through(t, admin(t))
	conn := mustDial(t, Options{}, endpoint)
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), driver.Command{Place: web, Shell: "seq 1 100000000"}, driver.Streams{Stdout: writer})
		_ = writer.Close()
		ended <- err
	}()
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(reader, got); err != nil {
		t.Fatal(err)
	}
	proxy.Reset()
	rest, _ := io.ReadAll(reader)
	if err := <-ended; driver.OutcomeOf(err) != driver.Unknown {
		t.Errorf("error %v", err)
	}
	lines := bytes.Split(slices.Concat(got, rest), []byte("\n"))
	for i, line := range lines[:len(lines)-1] {
		if string(line) != strconv.Itoa(i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
}

func TestABurstOfStartsFailsNoProbe(t *testing.T) {
	conn := mustDial(t, Options{StageTimeout: time.Minute}, admin(t)) // the machine may be busy, too
	var starts sync.WaitGroup
	for range 150 { // more than Options.Burst
		starts.Go(func() {
			if _, err := conn.Exec(t.Context(), driver.Command{Place: web, Argv: []string{"true"}}, driver.Streams{}); driver.OutcomeOf(err) != driver.Completed {
				t.Errorf("a command: %v", err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		starts.Wait()
		close(done)
	}()
	for {
		if err := conn.Probe(t.Context()); err != nil {
			t.Errorf("probe: %v", err)
			<-done
		}
		select {
		case <-done:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}
