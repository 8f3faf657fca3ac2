package apiserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/apiserver"
	"github.com/connpool/connpool/internal/registry/limits"
	"github.com/connpool/connpool/test/controlplane"
)

// env is one control plane and one live API on it. Commands and most proxied requests
// there only say who used them.
var env struct {
	plane   *controlplane.ControlPlane
	address string
	// authority has issued the server's certificate.
	authority *x509.CertPool
	ca        []byte
	uses      atomic.Int32
	// denied counts audit lines, and lastDenied is the last one.
	denied     atomic.Int32
	lastDenied atomic.Value
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	plane, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start a control plane:", err)
		return 1
	}
	defer plane.Stop()
	env.plane = plane
	stop, err := serve(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve the live API:", err)
		return 1
	}
	defer func() { cancel(); stop() }()
	return m.Run()
}

// serve starts the server and registers it with kube-apiserver.
func serve(ctx context.Context) (stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	env.address = listener.Addr().String()
	cert, key, err := certutil.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"connpool-live.connpool-system.svc"})
	if err != nil {
		return nil, err
	}
	env.authority, env.ca = x509.NewCertPool(), cert
	env.authority.AppendCertsFromPEM(cert)
	content, err := dynamiccertificates.NewStaticCertKeyContent("test", cert, key)
	if err != nil {
		return nil, err
	}
	config, err := apiserver.Options{Listener: listener, Certificate: content, Cluster: env.plane.Config, Audit: countDenials(), Requests: limits.Limits{}.Requests()}.Config(ctx)
	if err != nil {
		return nil, err
	}
	fleet, served := newEngines(config.Authorizer())
	storage := served.Storage()
	proxy, _ := storage["connectionpools/proxy"].(rest.Connecter)
	storage["connectionpools"], storage["connectionpools/exec"] = parent{}, user{}
	storage["connectionpools/proxy"] = proxies{user: user{subpath: true}, real: proxy}
	server, err := config.New(storage)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := env.plane.RegisterAPI(ctx, live.GroupName, "v1alpha1", int32(port)); err != nil {
		return nil, err
	}
	if err := trust(ctx, cert); err != nil {
		return nil, err
	}
	return func() {
		defer fleet.close()
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, "the live API:", err)
		}
	}, nil
}

// trust writes the authority into the APIService and waits until kube-apiserver
// trusts it.
func trust(ctx context.Context, ca []byte) error {
	client, err := dynamic.NewForConfig(env.plane.Config)
	if err != nil {
		return err
	}
	services := client.Resource(apiServices)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"caBundle": ca}})
	if err != nil {
		return err
	}
	if _, err := services.Patch(ctx, "v1alpha1.live.connpool.dev", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	admin, err := kubernetes.NewForConfig(env.plane.Config)
	if err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		_, err := admin.Discovery().ServerResourcesForGroupVersion(live.GroupVersion.String())
		return err == nil, nil
	})
}

// countDenials returns an audit log that only counts refusals, and keeps the last.
func countDenials() logr.Logger {
	return funcr.New(func(_, line string) {
		if strings.Contains(line, "use refused") {
			env.lastDenied.Store(line)
			env.denied.Add(1)
		}
	}, funcr.Options{})
}

var apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}

// parent is a resource without verbs.
type parent struct{}

func (parent) New() runtime.Object     { return &live.Exec{} }
func (parent) Destroy()                {}
func (parent) NamespaceScoped() bool   { return true }
func (parent) GetSingularName() string { return "connectionpool" }

// user answers each request that gets through, and counts it.
type user struct{ subpath bool }

func (user) New() runtime.Object      { return &live.Exec{} }
func (user) Destroy()                 {}
func (user) ConnectMethods() []string { return []string{"GET", "POST", "PUT", "DELETE", "PATCH"} }

func (u user) NewConnectOptions() (runtime.Object, bool, string) {
	if u.subpath {
		return &live.ProxyOptions{}, true, "path"
	}
	return &live.ExecOptions{}, false, ""
}

func (user) Connect(ctx context.Context, name string, options runtime.Object, _ rest.Responder) (http.Handler, error) {
	info, _ := request.RequestInfoFrom(ctx)
	who, _ := request.UserFrom(ctx)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		env.uses.Add(1)
		fmt.Fprintf(w, "%s %s %s/%s %s by %s UID %s ", info.Verb, info.Resource, info.Namespace, name, info.Subresource, who.GetName(), who.GetUID())
		_ = json.NewEncoder(w).Encode(options)
	}), nil
}

// permit lets a user do the verbs on exec and proxy of every pool.
func permit(t *testing.T, name string, verbs ...string) {
	t.Helper()
	permitOn(t, []string{"connectionpools/exec", "connectionpools/proxy"}, name, verbs...)
}

func permitOn(t *testing.T, resources []string, name string, verbs ...string) {
	t.Helper()
	admin, err := kubernetes.NewForConfig(env.plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{live.GroupName}, Resources: resources, Verbs: verbs,
	}}}
	if _, err := admin.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{
			{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name},
			{Kind: rbacv1.ServiceAccountKind, Namespace: corev1.NamespaceDefault, Name: name},
		},
	}
	if _, err := admin.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// send makes a request directly to the server and returns the status and body.
func send(t *testing.T, config *tls.Config, method, path string, header http.Header) (int, string) {
	t.Helper()
	config.RootCAs = env.authority
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+env.address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

const execPath = "/apis/live.connpool.dev/v1alpha1/namespaces/default/connectionpools/web/exec"

func TestOnlyKubeAPIServerSpeaksForOthers(t *testing.T) {
	certificate := func(name string, issue func(string) ([]byte, []byte, error)) *tls.Config {
		cert, key, err := issue(name)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	clientCA := func(name string) ([]byte, []byte, error) {
		config, err := env.plane.User(name)
		return config.CertData, config.KeyData, err
	}
	ownCA := func(name string) ([]byte, []byte, error) { return certutil.GenerateSelfSignedCertKey(name, nil, nil) }
	tests := map[string]struct {
		config *tls.Config
		want   int
	}{
		"no certificate":                                 {&tls.Config{}, http.StatusUnauthorized},
		"a certificate that no authority signed":         {certificate(controlplane.FrontProxyName, ownCA), http.StatusUnauthorized},
		"another name by the front proxy's authority":    {certificate("someone", env.plane.FrontProxy), http.StatusUnauthorized},
		"the front proxy's name by the users' authority": {certificate(controlplane.FrontProxyName, clientCA), http.StatusForbidden},
		"the front proxy":                                {certificate(controlplane.FrontProxyName, env.plane.FrontProxy), http.StatusOK},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			before := env.uses.Load()
			got, body := send(t, tc.config, http.MethodPost, execPath, http.Header{
				"X-Remote-User": {"root"}, "X-Remote-Group": {"system:masters"},
			})
			if got != tc.want {
				t.Errorf("status %d, want %d: %s", got, tc.want, body)
			}
			if ran := env.uses.Load() - before; ran != 0 && tc.want != http.StatusOK {
				t.Error("it got through")
			}
		})
	}
}

func TestUsingNeedsCreateWhateverTheMethod(t *testing.T) {
	permit(t, "reader", "get", "list", "watch", "update", "patch", "delete")
	permit(t, "writer", "create")
	tokens := map[string]string{}
	for _, name := range []string{"reader", "writer", "powerless"} {
		config, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, name)
		if err != nil {
			t.Fatal(err)
		}
		tokens[name] = config.BearerToken
	}
	tests := []struct {
		name, user, method, path string
		want                     int
	}{
		{"no token", "", "POST", execPath, http.StatusUnauthorized},
		{"a token that is invalid", "none", "POST", execPath, http.StatusUnauthorized},
		{"reading permissions and GET", "reader", "GET", execPath, http.StatusForbidden},
		{"reading permissions and POST", "reader", "POST", execPath, http.StatusForbidden},
		{"reading permissions and DELETE on a proxy", "reader", "DELETE", proxyPath, http.StatusForbidden},
		{"no permissions", "powerless", "POST", execPath, http.StatusForbidden},
		{"create and GET", "writer", "GET", execPath, http.StatusOK},
		{"create and POST", "writer", "POST", execPath, http.StatusOK},
		{"create and PATCH on a proxy", "writer", "PATCH", proxyPath, http.StatusOK},
		{"create does not reach another subresource", "writer", "POST", strings.Replace(execPath, "exec", "portforward", 1), http.StatusForbidden},
		{"health needs no token", "", "GET", "/readyz", http.StatusOK},
		{"health of a single check needs a token", "", "GET", "/readyz/ping", http.StatusUnauthorized},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			header := http.Header{}
			if tc.user != "" {
				header.Set("Authorization", "Bearer "+tc.user)
				if token, ok := tokens[tc.user]; ok {
					header.Set("Authorization", "Bearer "+token)
				}
			}
			before, denied := env.uses.Load(), env.denied.Load()
			got, body := send(t, &tls.Config{}, tc.method, tc.path, header)
			if got != tc.want {
				t.Errorf("status %d, want %d: %s", got, tc.want, body)
			}
			if tc.want == http.StatusForbidden && env.uses.Load() != before {
				t.Error("it got through")
			}
			if isDenied := env.denied.Load() > denied; isDenied != (tc.want == http.StatusForbidden) {
				t.Errorf("audited as denied: %t", isDenied)
			}
		})
	}
}

func TestARefusalBeforeTheRegistryIsAuditedAsWhatItIs(t *testing.T) {
	config, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, "curious")
	if err != nil {
		t.Fatal(err)
	}
	const base = "/apis/live.connpool.dev/v1alpha1/namespaces/default/"
	for name, test := range map[string]struct {
		method, path string
		// want are facts of the line; nil means that there is none.
		want []string
	}{
		"a command":              {"POST", base + "connectionpools/web/exec", []string{`"pool"="web"`, `"subresource"="exec"`, `"verb"="create"`}},
		"a command in a session": {"POST", base + "sessions/s/exec", []string{`"session"="s"`, `"subresource"="exec"`}},
		"a proxied request": {"DELETE", base + "connectionpools/web/proxy/build/x?secret=1", []string{
			`"pool"="web"`, `"subresource"="proxy"`, `"path"="` + base + `connectionpools/web/proxy/build/x"`,
		}},
		"a drain":             {"POST", base + "connectionpools/web/drain", []string{`"pool"="web"`, `"subresource"="drain"`}},
		"a check":             {"POST", base + "connectiontargets/t/check", []string{`"target"="t"`, `"subresource"="check"`}},
		"a session's end":     {"DELETE", base + "sessions/s", []string{`"session"="s"`, `"verb"="delete"`}},
		"a look":              {"GET", base + "sessions", nil},
		"what is not our API": {"POST", "/apis/apps/v1/namespaces/default/deployments", nil},
	} {
		t.Run(name, func(t *testing.T) {
			before := env.denied.Load()
			header := http.Header{"Authorization": {"Bearer " + config.BearerToken}, "Audit-Id": {"spoofed"}}
			if status, body := send(t, &tls.Config{}, test.method, test.path, header); status != http.StatusForbidden {
				t.Fatalf("answered %d %s", status, body)
			}
			if lines := env.denied.Load() - before; (lines == 1) != (test.want != nil) {
				t.Fatalf("%d lines", lines)
			}
			if test.want == nil {
				return
			}
			line, _ := env.lastDenied.Load().(string)
			for _, want := range append(test.want, `"user"="system:serviceaccount:default:curious" "uid"="`, `"namespace"="default"`, `"code"=403`, `"requestID"="`) {
				if !strings.Contains(line, want) {
					t.Errorf("%s is missing in %s", want, line)
				}
			}
			if strings.Contains(line, "spoofed") || strings.Contains(line, "secret") {
				t.Errorf("the line is %s", line)
			}
		})
	}
}

const proxyPath = "/apis/live.connpool.dev/v1alpha1/namespaces/default/connectionpools/web/proxy/build/containers/json"

// A request must not be authorized for one pool and run in another.
func TestPathsMeanTheSameToEveryLayer(t *testing.T) {
	permit(t, "pathfinder", "create")
	config, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, "pathfinder")
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Authorization": {"Bearer " + config.BearerToken}}
	base := "/apis/live.connpool.dev/v1alpha1/namespaces/default/connectionpools/"
	tests := map[string]struct{ path, want string }{
		"plainly":                   {base + "web/exec", "create connectionpools default/web exec"},
		"two slashes":               {base + "/web/exec", ""},
		"an escaped slash":          {base + "web%2fexec", "create connectionpools default/web exec"},
		"a parent segment":          {base + "other/../web/exec", ""},
		"an escaped parent segment": {base + "other%2f..%2fweb/exec", ""},
		"a segment too many":        {base + "web/exec/more", ""},
		"a path in a proxy":         {base + "web/proxy/build/a/b", "create connectionpools default/web proxy"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			status, body := send(t, &tls.Config{}, http.MethodPost, tc.path, header)
			if tc.want == "" {
				if status == http.StatusOK {
					t.Errorf("it got through: %s", body)
				}
				return
			}
			if !strings.HasPrefix(body, tc.want) {
				t.Errorf("%d %q, want %q", status, body, tc.want)
			}
		})
	}
}

func TestUsersOfKubeAPIServerAreThemselvesHere(t *testing.T) {
	permit(t, "alice", "create")
	config, err := env.plane.User("alice")
	if err != nil {
		t.Fatal(err)
	}
	config = restclient.CopyConfig(config)
	config.GroupVersion, config.NegotiatedSerializer = &live.GroupVersion, nil
	client, err := restclient.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, config.Host+execPath+"?command=a&command=b+c&tty=true", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	want := "create connectionpools default/web exec by alice"
	if !strings.HasPrefix(string(body), want) || !strings.Contains(string(body), `"command":["a","b c"]`) || !strings.Contains(string(body), `"tty":true`) {
		t.Errorf("%d %q, want %q with the options", response.StatusCode, body, want)
	}
}

func TestARecreatedServiceAccountIsNotItsNamesake(t *testing.T) {
	permit(t, "phoenix", "create")
	admin, err := kubernetes.NewForConfig(env.plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	accounts := admin.CoreV1().ServiceAccounts(corev1.NamespaceDefault)
	var old http.Header
	for range 2 {
		config, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, "phoenix")
		if err != nil {
			t.Fatal(err)
		}
		account, err := accounts.Get(t.Context(), "phoenix", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := "by system:serviceaccount:default:phoenix UID " + string(account.UID) + " "
		header := http.Header{"Authorization": {"Bearer " + config.BearerToken}}
		if status, body := send(t, &tls.Config{}, http.MethodPost, execPath, header); !strings.Contains(body, want) {
			t.Errorf("directly: %d %s, want %s", status, body, want)
		}
		eventually(t, "it is itself through kube-apiserver", func() bool {
			return strings.Contains(throughKubeAPIServer(t, config), want)
		})
		if err := accounts.Delete(t.Context(), "phoenix", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		old = header
	}
	eventually(t, "the token of the deleted one permits nothing", func() bool {
		status, _ := send(t, &tls.Config{}, http.MethodPost, execPath, old)
		return status == http.StatusUnauthorized || status == http.StatusForbidden
	})
}

func throughKubeAPIServer(t *testing.T, config *restclient.Config) string {
	t.Helper()
	client, err := restclient.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, config.Host+execPath, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 45*time.Second, true,
		func(context.Context) (bool, error) { return is(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestTheLiveAPIIsDescribed(t *testing.T) {
	admin, err := kubernetes.NewForConfig(env.plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/openapi/v3/apis/live.connpool.dev/v1alpha1", "/openapi/v2"} {
		err := wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, 90*time.Second, true, func(ctx context.Context) (bool, error) {
			text, err := admin.RESTClient().Get().AbsPath(path).DoRaw(ctx)
			const pool = "namespaces/{namespace}/connectionpools/{name}/"
			return err == nil && strings.Contains(string(text), pool+"exec") && strings.Contains(string(text), pool+"proxy/{path}"), nil
		})
		if err != nil {
			t.Errorf("%s does not describe the live API: %v", path, err)
		}
	}
}

func TestTheVerbsOfAProxyAreListed(t *testing.T) {
	admin, err := kubernetes.NewForConfig(env.plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	resources, err := admin.Discovery().ServerResourcesForGroupVersion(live.GroupVersion.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range resources.APIResources {
		if resource.Name == "connectionpools/proxy" {
			if got := resource.Verbs.String(); got != "[create delete get patch update]" {
				t.Errorf("its verbs are %s", got)
			}
			return
		}
	}
	t.Errorf("it is not listed: %v", resources.APIResources)
}

func TestAWatchIsRefusedWithWhatToTypeInstead(t *testing.T) {
	permitOn(t, []string{"connections", "sessions", "uses"}, "watcher", "list", "watch")
	permitOn(t, []string{"connections", "sessions", "uses"}, "lister", "list")
	header := func(user string) http.Header {
		config, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, user)
		if err != nil {
			t.Fatal(err)
		}
		return http.Header{"Authorization": {"Bearer " + config.BearerToken}}
	}
	watcher, lister := header("watcher"), header("lister")
	const api, namespaced = "/apis/live.connpool.dev/v1alpha1/", "/apis/live.connpool.dev/v1alpha1/namespaces/default/"
	for path, want := range map[string]string{
		namespaced + "connections?watch=true":                       "kubectl connpool connections --watch",
		namespaced + "connections?watch=1&fieldSelector=pool%3Dweb": "kubectl connpool connections --watch",
		namespaced + "sessions?watch=true":                          "kubectl connpool session list --watch",
		namespaced + "uses?watch=true":                              "kubectl connpool history --watch",
		api + "connections?watch=true":                              "kubectl connpool connections --watch",
	} {
		got, body := send(t, &tls.Config{}, "GET", path, watcher)
		if got != http.StatusMethodNotAllowed || !strings.Contains(body, want) {
			t.Errorf("%s: status %d, want 405 with %q: %s", path, got, want, body)
		}
		if got, body := send(t, &tls.Config{}, "GET", path, lister); got != http.StatusForbidden {
			t.Errorf("%s: without the verb the status is %d, want 403: %s", path, got, body)
		}
	}
}
