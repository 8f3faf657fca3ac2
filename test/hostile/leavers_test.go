package hostile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	liveapi "github.com/connpool/connpool/api/live/v1alpha1"
	live "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/netfault"
)

// Errors and stack traces in the log are for what a person has to look at.
func TestClientsThatGoAwayLeaveNoErrorsInTheLog(t *testing.T) {
	leaver := newTenant(t, "leaver")
	defer leaver.leave(t)
	serveAttacker(t, leaver)
	addOwnCluster(t, leaver)
	seen := logSize(t)
	for _, through := range []struct {
		name   string
		config *rest.Config
	}{
		{"directly", leaver.direct},
		{"through kube-apiserver", aggregated(t, leaver)},
	} {
		for _, abuse := range leavers() {
			t.Run(abuse.name+" "+through.name, func(t *testing.T) {
				abuse.run(t, leaver, through.config)
				seen = checkLog(t, leaver, seen)
			})
		}
	}
	for _, abuse := range strangers() {
		t.Run(abuse.name, func(t *testing.T) {
			abuse.run(t, leaver)
			seen = checkLog(t, leaver, seen)
		})
	}
}

// leavers are the ways in which clients go away who may use the pools.
func leavers() []struct {
	name string
	run  func(t *testing.T, leaver tenant, config *rest.Config)
} {
	return []struct {
		name string
		run  func(t *testing.T, leaver tenant, config *rest.Config)
	}{
		{"a command as JSON is cut", cutUse(func(ctx context.Context, c *live.Client) error {
			_, err := c.Pool("leaver", "own").Exec(ctx, live.Command{Argv: []string{"sleep", "30"}})
			return err
		})},
		{"a streamed command is cut", cutUse(func(ctx context.Context, c *live.Client) error {
			_, err := c.Pool("leaver", "own").Stream(ctx, live.Command{Shell: "while sleep 0.01; do date; done"}, live.Streams{Stdout: io.Discard})
			return err
		})},
		{"a terminal is cut", cutUse(func(ctx context.Context, c *live.Client) error {
			input, end := io.Pipe()
			defer end.Close() //nolint:errcheck // it never fails
			_, err := c.Pool("leaver", "own").Stream(ctx, live.Command{Stdin: input}, live.Streams{
				Stdout: io.Discard, Terminal: &live.Terminal{},
			})
			return err
		})},
		{"a port-forward is cut", cutUse(forwardForEver)},
		{"a watch through the proxy is cut", cutUse(proxyForEver("/api/v1/namespaces?watch=true"))},
		{"a request that waits for its lease is cut", cutUse(waitForLease)},
		{"a session's command is cut", cutUse(func(ctx context.Context, c *live.Client) error {
			session, err := c.NewSession(ctx, "leaver", "own", live.SessionOptions{})
			if err != nil {
				return err
			}
			_, err = session.Exec(ctx, live.Command{Argv: []string{"sleep", "30"}})
			return err
		})},
		{"lists are cut", cutUse(listForEver)},
	}
}

// cutUse begins a use and cuts it in several ways.
func cutUse(begin func(context.Context, *live.Client) error) func(*testing.T, tenant, *rest.Config) {
	return func(t *testing.T, _ tenant, config *rest.Config) {
		proxy, err := netfault.Start(strings.TrimPrefix(config.Host, "https://"), netfault.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Close()
		behind := rest.CopyConfig(config)
		behind.Host = "https://" + proxy.Addr
		for _, running := range []bool{true, false} {
			for _, reset := range []bool{true, false} {
				c := cut{proxy: proxy, running: running, reset: reset}
				c.once(t, behind, begin)
			}
		}
	}
}

// cut is how a use is cut: when it runs, or when it is connected, by a reset or by the
// client's own end.
type cut struct {
	proxy          *netfault.Proxy
	running, reset bool
}

func (c cut) once(t *testing.T, config *rest.Config, begin func(context.Context, *live.Client) error) {
	t.Helper()
	logged := logSize(t)
	config = rest.CopyConfig(config)
	config.Dial = (&net.Dialer{}).DialContext // so that it shares no connection that was cut
	user, err := live.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer user.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	ended := make(chan error, 4)
	for range cap(ended) {
		all.Go(func() { ended <- begin(ctx, user) })
	}
	eventually(t, 30*time.Second, "it is under way", func(context.Context) (bool, string) {
		select {
		case err := <-ended:
			t.Errorf("a use ended before it was cut: %v", err)
		default:
		}
		return c.proxy.Connections() > 0 && (!c.running || logSize(t) > logged), "nothing"
	})
	if c.reset {
		c.proxy.Set(netfault.Refuse)
		c.proxy.Reset()
	}
	cancel()
	all.Wait()
	c.proxy.Set(netfault.None)
}

func forwardForEver(ctx context.Context, c *live.Client) error {
	_, port, _ := net.SplitHostPort(env.address) // which waits for a handshake
	forwarder, err := c.Pool("leaver", "own").Forward(ctx, "own", port)
	if err != nil {
		return err
	}
	defer forwarder.Close()
	conn, err := forwarder.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, _ = io.Copy(io.Discard, conn)
	return errors.New("it was cut")
}

func proxyForEver(path string) func(context.Context, *live.Client) error {
	return func(ctx context.Context, c *live.Client) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://cluster"+path, http.NoBody)
		if err != nil {
			return err
		}
		answer, err := c.Pool("leaver", "cluster").Proxy("cluster").RoundTrip(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
}

// waitForLease takes all leases of the pool, so that some of them wait.
func waitForLease(ctx context.Context, c *live.Client) error {
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() { _, _ = c.Pool("leaver", "own").Exec(ctx, live.Command{Argv: []string{"sleep", "30"}}) })
	}
	all.Wait()
	return errors.New("it was cut")
}

func listForEver(ctx context.Context, c *live.Client) error {
	if _, err := c.Pool("leaver", "own").Exec(ctx, live.Command{Argv: []string{"true"}}); err != nil { // which the log shows
		return err
	}
	for ctx.Err() == nil {
		_, _ = c.Uses(ctx, "leaver", metav1.ListOptions{}) // of which there may be too many
		_, _ = c.Connections(ctx, "leaver", metav1.ListOptions{})
	}
	return ctx.Err()
}

// strangers are what clients do who need no permission, and what users do to objects.
func strangers() []struct {
	name string
	run  func(t *testing.T, leaver tenant)
} {
	return []struct {
		name string
		run  func(t *testing.T, leaver tenant)
	}{
		{"handshakes with the live API are cut", func(t *testing.T, _ tenant) { cutHandshakes(t, env.address) }},
		{"handshakes with the metrics are cut", func(t *testing.T, _ tenant) { cutHandshakes(t, env.metrics) }},
		{"HTTP/2 is cut", cutHTTP2},
		{"HTTP/2 is spoken wrongly", wrongHTTP2},
		{"a token is wrong", func(t *testing.T, leaver tenant) {
			wrong := rest.CopyConfig(leaver.direct)
			wrong.BearerToken = "wrong"
			_ = listOnce(t, wrong, leaver.url("uses"))
			_ = listOnce(t, wrong, "https://"+env.metrics+"/metrics")
		}},
		{"scrapes are cut", cutScrapes},
		{"a body is cut", func(t *testing.T, leaver tenant) {
			for _, path := range []string{"connectionpools/own/exec", "sessions", "connectionpools/own/drain"} {
				_ = beginBody(t, leaver.direct, leaver.url(path), 100).Close()
			}
		}},
		{"objects are deleted while they are looked at", churn},
	}
}

func cutHandshakes(t *testing.T, address string) {
	for _, hello := range []string{"", "\x16\x03\x01", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05hello"} {
		for _, linger := range []int{-1, 0} {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, hello)
			_ = conn.(*net.TCPConn).SetLinger(linger)
			_ = conn.Close()
		}
	}
	_, err := tls.Dial("tcp", address, &tls.Config{ServerName: "stranger"}) // trusts no such certificate
	if err == nil {
		t.Error("the certificate is trusted")
	}
}

func cutHTTP2(t *testing.T, leaver tenant) {
	for _, sent := range []string{"", http2.ClientPreface[:5], http2.ClientPreface, http2.ClientPreface + "\x00\x00"} {
		for _, linger := range []int{-1, 0} {
			conn := dial(t, leaver.direct, "h2")
			_, _ = io.WriteString(conn, sent)
			_ = conn.NetConn().(*net.TCPConn).SetLinger(linger)
			_ = conn.NetConn().Close()
		}
	}
}

func wrongHTTP2(t *testing.T, leaver tenant) {
	conn := dial(t, leaver.direct, "h2")
	_, _ = io.WriteString(conn, "this is no preface of HTTP/2 at all, but long enough to be read as one")
	_, _ = io.Copy(io.Discard, conn)
	conn, framer := dialHTTP2(t, leaver)
	_ = framer.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2, []byte("no headers"))
	_, _ = io.Copy(io.Discard, conn)
}

func listOnce(t *testing.T, config *rest.Config, url string) error {
	t.Helper()
	answer, err := httpClient(t, config).Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func cutScrapes(t *testing.T, leaver tenant) {
	name := metav1.ObjectMeta{Name: "leaver-scrapes"}
	leaver.create(t,
		&rbacv1.ClusterRole{ObjectMeta: name, Rules: []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: name, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: leaver.namespace, Name: "user"}},
		})
	url := "https://" + env.metrics + "/metrics"
	eventually(t, 30*time.Second, "the scraper may scrape", func(context.Context) (bool, string) {
		answer, err := httpClient(t, leaver.direct).Get(url)
		if err != nil {
			return false, err.Error()
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK, answer.Status
	})
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(leaver.direct.CAData)
	for range 10 {
		conn, err := net.Dial("tcp", env.metrics)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetReadBuffer(1024)
		secured := tls.Client(conn, &tls.Config{RootCAs: authorities, ServerName: "127.0.0.1"})
		fmt.Fprintf(secured, "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", leaver.direct.BearerToken)
		_, _ = secured.Read(make([]byte, 16))
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

// hostKey is a key that no server has.
const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIImdnHyl3nbZgF2k/cEvp5o+IPOB4rUSmpFoIoZ/SZxA"

// churn makes, changes and deletes objects faster than they can be looked at.
func churn(t *testing.T, leaver tenant) {
	for i := range 20 {
		name := fmt.Sprint("short-lived-", i)
		target, pool := leaver.sshTarget(name, "127.0.0.1:1", hostKey, "x"), leaver.poolOf(name, name)
		leaver.create(t, target, pool)
		before := pool.DeepCopy()
		pool.Spec.Size.Max = new(int32(3))
		if err := env.client.Patch(t.Context(), pool, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			leaver.condition(t, name, 30*time.Second, func(metav1.Condition) bool { return true })
		}
		if err := errors.Join(env.client.Delete(t.Context(), target), env.client.Delete(t.Context(), pool)); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			leaver.create(t, leaver.sshTarget(name, "127.0.0.1:1", hostKey, "x"))
		}
	}
}

// addOwnCluster makes the control plane a target, which has an API to proxy.
func addOwnCluster(t *testing.T, leaver tenant) {
	t.Helper()
	kubeconfig, err := env.plane.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	leaver.secret(t, "cluster", map[string][]byte{"kubeconfig": kubeconfig})
	leaver.create(t, leaver.clusterTarget("cluster"), leaver.poolOf("cluster", "cluster"))
	leaver.ready(t, "cluster", 30*time.Second)
}

// aggregated returns the same user's configuration for kube-apiserver.
func aggregated(t *testing.T, n tenant) *rest.Config {
	t.Helper()
	config := rest.AnonymousClientConfig(env.plane.Config)
	config.BearerToken = n.direct.BearerToken
	return config
}

func logFile() string { return filepath.Join(env.dir, "manager.log") }

func logSize(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(logFile())
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// checkLog looks at the lines since seen bytes, once the operator has ended what it did,
// and returns how long the log is.
func checkLog(t *testing.T, leaver tenant, seen int64) int64 {
	t.Helper()
	settle(t, leaver)
	text, err := os.ReadFile(logFile())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text[seen:])) {
		var parsed struct {
			Level, Msg, Stacktrace string
		}
		if err := json.Unmarshal([]byte(line), &parsed); err != nil {
			t.Errorf("a line is not structured: %s", line)
		} else if parsed.Level != "info" || parsed.Stacktrace != "" || strings.Contains(line, "goroutine ") {
			t.Errorf("a line of level %s, which no person need act on: %s", parsed.Level, line)
		}
	}
	return int64(len(text))
}

// settle waits until no use of the tenant runs any more, and the pool serves.
func settle(t *testing.T, leaver tenant) {
	t.Helper()
	user := leaver.client(t)
	defer user.CloseIdleConnections()
	eventually(t, 30*time.Second, "the uses have ended", func(ctx context.Context) (bool, string) {
		uses, err := user.Uses(ctx, leaver.namespace, metav1.ListOptions{})
		if err != nil {
			return false, err.Error()
		}
		for i := range uses.Items {
			if use := &uses.Items[i]; use.EndTime == nil && use.Action != liveapi.UseSession {
				return false, string(use.Action) + " runs"
			}
		}
		_, err = user.Pool(leaver.namespace, "own").Exec(ctx, live.Command{Argv: []string{"true"}})
		return err == nil, errorText(err)
	})
}
