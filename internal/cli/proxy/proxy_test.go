//go:build !windows

package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dockerAPI answers as a Docker engine does, as far as a proxy can see: it has a
// version, echoes requests, streams events, and lets clients hijack connections.
func dockerAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, `{"ApiVersion":"1.41"}`) })
	mux.HandleFunc("/echo", func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(out, "%s %s %s %q", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), body)
	})
	mux.HandleFunc("/events", func(out http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(out, "first\n")
		_ = http.NewResponseController(out).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("POST /attach", func(out http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(out).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
		_, _ = io.WriteString(conn, "bye\n")
	})
	return mux
}

// kubernetesAPI is the API of a cluster.
func kubernetesAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, `{"gitVersion":"v1.37.2"}`) })
	mux.HandleFunc("GET /api/v1/pods", func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, `{"kind":"PodList"}`) })
	return mux
}

// shop is a cluster whose targets have an HTTP API.
func shop(t *testing.T, api http.Handler) *clitest.Fixture {
	t.Helper()
	clitest.TempDir(t)
	f := clitest.Shop(t, New)
	f.API = api
	return f
}

// unixClient speaks HTTP over a socket.
func unixClient(t *testing.T, host string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(host, "unix://"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// exported returns the value of a variable that the user is told to export.
func exported(printed clitest.Lines, name string) string {
	for printed.Scan() {
		if _, text, ok := strings.Cut(printed.Text(), "export "+name+"="); ok {
			return text
		}
	}
	printed.T.Fatalf("%s was not printed", name)
	return ""
}

func TestAnEngineIsServedOnASocket(t *testing.T) {
	f := shop(t, dockerAPI())
	printed, stop := f.Start("proxy", "web/web-1")
	host := exported(printed, "DOCKER_HOST")
	path := strings.TrimPrefix(host, "unix://")
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	client := unixClient(t, host)
	response, err := client.Post("http://docker/echo?a=b;c&d", "text/x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, _ := io.ReadAll(response.Body); string(got) != `POST /echo?a=b;c&d text/x "body"` {
		t.Errorf("got %s", got)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestAStreamArrivesAtOnceAndEndsWithTheProxy(t *testing.T) {
	printed, stop := shop(t, dockerAPI()).Start("proxy", "web/web-1")
	response, err := unixClient(t, exported(printed, "DOCKER_HOST")).Get("http://docker/events")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	events := bufio.NewReader(response.Body)
	if line, err := events.ReadString('\n'); line != "first\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	stop()
	if _, err := io.ReadAll(events); err == nil {
		t.Error("the stream ended as if it were whole")
	}
}

// docker hijacks the connection, and ends its input first.
func TestAHijackedConnectionIsClosedHalfByHalf(t *testing.T) {
	printed, stop := shop(t, dockerAPI()).Start("proxy", "web/web-1")
	defer stop()
	conn := attach(t, exported(printed, "DOCKER_HOST"), "hel")
	_, _ = io.WriteString(conn, "lo\n")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello\nbye\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAHijackedConnectionEndsWithTheProxy(t *testing.T) {
	printed, stop := shop(t, dockerAPI()).Start("proxy", "web/web-1")
	conn := attach(t, exported(printed, "DOCKER_HOST"), "")
	stop()
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
}

// attach hijacks a connection, and sends something ahead of the answer.
func attach(t *testing.T, host, ahead string) *hijacked {
	t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(host, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, "POST /attach HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"+ahead)
	buffered := bufio.NewReader(conn)
	response, err := http.ReadResponse(buffered, nil) //nolint:bodyclose // the connection is the body
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Content-Type") != "application/vnd.docker.raw-stream" {
		t.Fatalf("got %v, %v", response, err)
	}
	return &hijacked{conn.(*net.UnixConn), buffered}
}

type hijacked struct {
	*net.UnixConn

	buffered *bufio.Reader
}

func (h *hijacked) Read(p []byte) (int, error) { return h.buffered.Read(p) }

func TestAClusterIsServedByAKubeconfig(t *testing.T) {
	f := shop(t, kubernetesAPI())
	f.Targets[1].Spec = v1alpha1.ConnectionTargetSpec{Kubernetes: &v1alpha1.KubernetesTarget{DefaultNamespace: new("prod")}}
	printed, stop := f.Start("proxy", "web/web-1")
	path := exported(printed, "KUBECONFIG")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	loader := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(loader, nil)
	if namespace, _, err := loaded.Namespace(); namespace != "prod" || err != nil {
		t.Errorf("the namespace is %q, %v", namespace, err)
	}
	config, err := loaded.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	if kind := podsKind(t, config); kind != "PodList" {
		t.Errorf("got a %s", kind)
	}
	config.BearerToken = "guessed"
	if kind := podsKind(t, config); kind != "Status" {
		t.Errorf("without the token: got a %s", kind)
	}
	stop()
}

// podsKind returns the kind of the object that a cluster answers when it is asked
// for pods.
func podsKind(t *testing.T, config *rest.Config) string {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	response, err := client.Get(config.Host + "/api/v1/pods")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var object metav1.TypeMeta
	if err := json.NewDecoder(response.Body).Decode(&object); err != nil {
		t.Error(err)
	}
	return object.Kind
}

// openTestPort serves a target on a port for everybody, and returns its address.
func openTestPort(t *testing.T, api http.Handler) (address, port string) {
	t.Helper()
	printed, stop := shop(t, api).Start("proxy", "web/web-1", "--port", "0")
	t.Cleanup(func() { stop() })
	_, address, _ = strings.Cut(printed.Next("at http://127.0.0.1:"), "http://")
	address, _, _ = strings.Cut(address, " ")
	_, port, _ = net.SplitHostPort(address)
	return address, port
}

func TestWebPagesGetNothingFromAPort(t *testing.T) {
	address, port := openTestPort(t, kubernetesAPI())
	tests := map[string]struct {
		host   string
		header http.Header
		code   int
	}{
		"a tool":                          {address, nil, http.StatusOK},
		"a tool that says localhost":      {"localhost:" + port, nil, http.StatusOK},
		"IPv6":                            {"[::1]:" + port, nil, http.StatusOK},
		"a name that was bound again":     {"evil.example.com:" + port, nil, http.StatusForbidden},
		"a name that only looks like one": {"localhost.example.com", nil, http.StatusForbidden},
		"a page's image":                  {address, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		"a page of the target's":          {address, http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://" + address}}, http.StatusForbidden},
		"a page that was navigated to":    {address, http.Header{"Sec-Fetch-Site": {"none"}}, http.StatusForbidden},

		"a tool that names the address it asks":  {address, http.Header{"Origin": {"http://" + address}}, http.StatusOK},
		"a tool that asks localhost and says so": {"localhost:" + port, http.Header{"Origin": {"http://localhost:" + port}}, http.StatusOK},
		"a tool that writes in capitals":         {"LOCALHOST:" + port, http.Header{"Origin": {"http://localhost:" + port}}, http.StatusForbidden},
		"a page of a name that was bound again":  {"evil.example.com:" + port, http.Header{"Origin": {"http://evil.example.com:" + port}}, http.StatusForbidden},
		"a page elsewhere":                       {address, http.Header{"Origin": {"https://evil.example.com"}}, http.StatusForbidden},
		"a page of another port of this machine": {"localhost:" + port, http.Header{"Origin": {"http://localhost:3000"}}, http.StatusForbidden},
		"a page of another name of this machine": {address, http.Header{"Origin": {"http://localhost:" + port}}, http.StatusForbidden},
		"a page of this machine without a port":  {address, http.Header{"Origin": {"http://127.0.0.1"}}, http.StatusForbidden},
		"a tool that is wrong about the scheme":  {address, http.Header{"Origin": {"https://" + address}}, http.StatusOK},
		"a page of another scheme":               {address, http.Header{"Origin": {"httpx://" + address}}, http.StatusForbidden},
		"a page in a sandbox":                    {address, http.Header{"Origin": {"null"}}, http.StatusForbidden},
		"a page whose origin only begins so":     {address, http.Header{"Origin": {"http://" + address + ".example.com"}}, http.StatusForbidden},
		"two origins, of which one is right":     {address, http.Header{"Origin": {"http://" + address, "http://evil.example.com"}}, http.StatusForbidden},
		"a page whose origin is hidden":          {address, http.Header{"Origin": {""}}, http.StatusForbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/version", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Host, request.Close = test.host, true
			maps.Copy(request.Header, test.header)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != test.code {
				t.Errorf("got %s, want %d", response.Status, test.code)
			}
		})
	}
}

// The client of Kubernetes for Python always sends an Origin with a WebSocket, and so
// does that of Docker.
func TestPythonsKubernetesClientRunsCommandsThroughAPort(t *testing.T) {
	const script = `
import sys
from kubernetes import client, config
from kubernetes.stream import stream
api = client.CoreV1Api(config.new_client_from_config(sys.argv[1]))
print(stream(api.connect_get_namespaced_pod_exec, "web-0", "prod", command=["hostname"], stdout=True, stderr=True))
`
	mux := http.NewServeMux()
	mux.Handle("/version", kubernetesAPI())
	mux.HandleFunc("/api/v1/namespaces/prod/pods/web-0/exec", func(out http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") == "" {
			t.Error("the client sends no Origin any more")
		}
		stream.ServeExec(out, r, stream.ExecOptions{Stdout: true, Stderr: true},
			func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				_, _ = io.WriteString(streams.Stdout, "web-0")
				return clitest.Exits(0, "")
			})
	})
	for name, words := range map[string][]string{"with a token": nil, "that is open": {"--port", "0"}} {
		t.Run(name, func(t *testing.T) {
			line := append([]string{"proxy", "web/web-1"}, words...)
			got := shop(t, mux).Run(append(line, "--", "sh", "-c", `/usr/bin/python3 -c "$0" "$KUBECONFIG"`, script)...)
			clitest.Want(t, got, 0, "web-0\n")
		})
	}
}

func TestACommandRunsWithTheAPIAndItsExitCodeIsPassedOn(t *testing.T) {
	tests := map[string]struct {
		api    http.Handler
		words  []string
		script string
		code   int
		says   string
	}{
		"its exit code": {dockerAPI(), nil, "exit 7", 7, ""},
		"its signal":    {dockerAPI(), nil, "kill -9 $$", 137, ""},
		"its success":   {dockerAPI(), nil, "true", 0, ""},
		"an engine's socket": {
			dockerAPI(), nil, `test -S "${DOCKER_HOST#unix://}" && echo "in$DOCKER_CONTEXT"`, 0, "in\n",
		},
		"a cluster's kubeconfig": {
			kubernetesAPI(), nil, `grep -c 'server: https://127.0.0.1' "$KUBECONFIG"; echo "$HELM_KUBECONTEXT"`, 0, "1\n\n",
		},
		"an engine's port": {
			dockerAPI(), []string{"--port", "0"}, `echo "${DOCKER_HOST%:*}"`, 0, "tcp://127.0.0.1\n",
		},
		"a cluster's open port": {
			kubernetesAPI(), []string{"--port", "0"}, `grep -c 'server: http://127.0.0.1' "$KUBECONFIG"`, 0, "1\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DOCKER_CONTEXT", "elsewhere")
			t.Setenv("HELM_KUBECONTEXT", "elsewhere")
			f := shop(t, test.api)
			words := append([]string{"proxy", "web/web-1"}, test.words...)
			clitest.Want(t, f.Run(append(words, "--", "sh", "-c", test.script)...), test.code, test.says)
		})
	}
}

func TestInputGoesToTheCommand(t *testing.T) {
	got := shop(t, dockerAPI()).RunWith(strings.NewReader("in"), "proxy", "db", "--", "cat")
	clitest.Want(t, got, 0, "in")
}

func TestProxiesThatAreRefusedSayWhy(t *testing.T) {
	noAPI := http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, "<html>") })
	tests := map[string]struct {
		api    http.Handler
		denied string
		words  []string
		says   []string
	}{
		"no permission": {
			dockerAPI(), "get live.connpool.dev/connectionpools/proxy",
			[]string{"web/web-1"},
			[]string{`resources: ["connectionpools/proxy"]`, `resourceNames: ["web"]`, "verbs: [create, get, update, patch, delete]"},
		},
		"several targets":              {dockerAPI(), "", []string{"web"}, []string{"pool web has 2 targets", "proxy web/web-1", "web-2"}},
		"no such pool":                 {dockerAPI(), "", []string{"wep"}, []string{"Did you mean web?"}},
		"no such target":               {dockerAPI(), "", []string{"web/web-9"}, []string{"Did you mean web-1 or web-2?"}},
		"another kind of API":          {noAPI, "", []string{"web/web-1"}, []string{"neither as a Docker engine nor as a cluster"}},
		"no such command":              {dockerAPI(), "", []string{"web/web-1", "--", "no-such-command"}, []string{"no-such-command", "not found"}},
		"a socket for kubectl":         {kubernetesAPI(), "", []string{"web/web-1", "--socket", "s", "--", "true"}, []string{"leave --socket out"}},
		"a socket that cannot be made": {dockerAPI(), "", []string{"web/web-1", "--socket", "/no/such/dir"}, []string{"listen on the socket"}},
		"a socket's path too long":     {dockerAPI(), "", []string{"web/web-1", "--socket", "/tmp/" + strings.Repeat("x", 200)}, []string{"too long"}},
		"a port and a socket":          {dockerAPI(), "", []string{"web/web-1", "--socket", "s", "--port", "1"}, []string{"port", "socket"}},
		"a port that is not one":       {dockerAPI(), "", []string{"web/web-1", "--port", "65536"}, []string{"--port 65536"}},
		"the command without dash":     {dockerAPI(), "", []string{"web", "docker", "ps"}, []string{"write -- before the command"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := shop(t, test.api)
			f.Denied[test.denied] = true
			clitest.WantStderr(t, f.Run(append([]string{"proxy"}, test.words...)...), exit.NotStarted, test.says...)
		})
	}
}

func TestAnotherUserCannotBeImpersonated(t *testing.T) {
	printed, stop := shop(t, dockerAPI()).Start("proxy", "web/web-1")
	defer stop()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://docker/version", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Impersonate-User", "bob")
	response, err := unixClient(t, exported(printed, "DOCKER_HOST")).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("got %s", response.Status)
	}
}

func TestALostTargetIsReportedAsAStatus(t *testing.T) {
	f := shop(t, dockerAPI())
	printed, stop := f.Start("proxy", "web/web-1")
	defer stop()
	client := unixClient(t, exported(printed, "DOCKER_HOST"))
	f.Answers[clitest.LivePools+"/web/proxy/web-1/echo"] = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	response, err := client.Post("http://docker/echo", "text/x", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var status metav1.Status
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil || response.StatusCode != http.StatusBadGateway || !strings.HasPrefix(status.Message, "connpool: ") {
		t.Errorf("got %s, %+v, %v", response.Status, status, err)
	}
}
