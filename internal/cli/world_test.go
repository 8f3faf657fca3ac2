package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// asPlugin makes the test binary the plugin itself.
const asPlugin = "CONNPOOL_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		os.Exit(Main(os.Args, "v1.2.3", genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
	}
	goleak.VerifyTestMain(m)
}

// noon is now.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func minutesAgo(n int) *metav1.Time {
	at := metav1.NewTime(noon.Add(-time.Duration(n) * time.Minute))
	return &at
}

// world is a cluster with connpool installed: the two APIs, and the few others
// that doctor and completion ask.
type world struct {
	t   *testing.T
	url string

	mu          sync.Mutex
	pools       []v1alpha1.ConnectionPool
	targets     []v1alpha1.ConnectionTarget
	connections []livev1alpha1.Connection
	sessions    []livev1alpha1.Session
	checks      map[string]livev1alpha1.CheckStatus
	// denied are "verb group/resource" that RBAC refuses.
	denied map[string]bool
	// answers of paths, before anything else.
	answers map[string]http.HandlerFunc
	// remote runs commands.
	remote func(ctx context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status
	// api is the target's own, behind the proxy.
	api http.Handler
	// asked are the requests that came, as "METHOD path?query".
	asked []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, checks: map[string]livev1alpha1.CheckStatus{}, denied: map[string]bool{}, answers: map[string]http.HandlerFunc{},
	}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// result is what a command left.
type result struct {
	code           int
	stdout, stderr string
}

// connpool runs a command line as `kubectl connpool`, in namespace shop.
func (w *world) connpool(arguments ...string) result {
	w.t.Helper()
	return w.with(nil, arguments...)
}

func (w *world) with(stdin io.Reader, arguments ...string) result {
	w.t.Helper()
	return w.during(context.Background(), stdin, arguments...)
}

func (w *world) during(ctx context.Context, stdin io.Reader, arguments ...string) result {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	f := newFactory("kubectl connpool", "v1.2.3", genericiooptions.IOStreams{In: stdin, Out: &stdout, ErrOut: &stderr})
	f.now = func() time.Time { return noon }
	code := f.execute(ctx, append([]string{"--kubeconfig", w.kubeconfig()}, arguments...))
	return result{code, stdout.String(), stderr.String()}
}

func (w *world) kubeconfig() string {
	path := filepath.Join(w.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: it,
		contexts: [{name: it, context: {cluster: it, user: me, namespace: shop}}],
		clusters: [{name: it, cluster: {server: %q}}], users: [{name: me, user: {token: secret}}]}`, w.url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// ServeHTTP answers as the cluster would.
func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.asked = append(w.asked, r.Method+" "+r.URL.RequestURI())
	answer := w.answers[r.URL.Path]
	w.mu.Unlock()
	segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case answer != nil:
		answer(out, r)
	case len(segments) > 3 && segments[0] == "apis" && strings.HasSuffix(segments[1], v1alpha1.GroupName):
		w.resource(out, r, segments[1], segments[3:])
	default:
		w.other(out, r)
	}
}

// resource takes the path behind the version.
func (w *world) resource(out http.ResponseWriter, r *http.Request, group string, path []string) {
	namespace := ""
	if path[0] == "namespaces" {
		namespace, path = path[1], path[2:]
	}
	resource, name, sub := path[0], "", ""
	if len(path) > 1 {
		name = path[1]
	}
	verb := map[bool]string{true: "get", false: "list"}[name != ""]
	switch r.Method {
	case http.MethodPost:
		verb = "create"
	case http.MethodDelete:
		verb = "delete"
	}
	if len(path) > 2 {
		sub = "/" + path[2]
	}
	if w.denied[verb+" "+group+"/"+resource+sub] {
		w.refuse(out, forbidden(verb, group, resource+sub, name, namespace))
		return
	}
	w.serve(out, r, group+"/"+resource+sub, namespace, name)
}

func (w *world) serve(out http.ResponseWriter, r *http.Request, what, namespace, name string) {
	switch what {
	case "connpool.dev/connectionpools":
		list := v1alpha1.ConnectionPoolList{Items: in(w.pools, namespace, name)}
		serveObjects(w, out, list, list.Items, "connectionpools", name)
	case "connpool.dev/connectiontargets":
		list := v1alpha1.ConnectionTargetList{Items: in(w.targets, namespace, name)}
		serveObjects(w, out, list, list.Items, "connectiontargets", name)
	case "live.connpool.dev/connections":
		w.list(out, r, namespace)
	case "live.connpool.dev/connectionpools/drain", "live.connpool.dev/connections/drain":
		if w.has(out, strings.TrimSuffix(strings.TrimPrefix(what, "live.connpool.dev/"), "/drain"), namespace, name) {
			w.answer(out, livev1alpha1.Drain{Status: livev1alpha1.DrainStatus{Connections: int32(len(w.connections))}})
		}
	case "live.connpool.dev/connectiontargets/check":
		if w.has(out, "connectiontargets", namespace, name) {
			w.answer(out, livev1alpha1.Check{Status: w.checks[name]})
		}
	case "live.connpool.dev/sessions":
		w.session(out, r, namespace, name)
	case "live.connpool.dev/sessions/exec":
		if w.has(out, "sessions", namespace, name) {
			w.execIn(out, r, namespace, name)
		}
	case "live.connpool.dev/connectionpools/exec":
		if w.has(out, "connectionpools", namespace, name) {
			w.exec(out, r, namespace)
		}
	case "live.connpool.dev/connectionpools/proxy":
		if w.has(out, "connectionpools", namespace, name) {
			w.proxied(out, r)
		}
	default:
		w.refuse(out, notFound("", ""))
	}
}

// proxied hands a request to the target's API, if it is one of ours.
func (w *world) proxied(out http.ResponseWriter, r *http.Request) {
	_, behind, _ := strings.Cut(r.URL.Path, "/proxy/")
	target, path, _ := strings.Cut(behind, "/")
	if !w.has(out, "connectiontargets", "", target) {
		return
	}
	asked := r.Clone(r.Context())
	asked.URL.Path, asked.URL.RawPath = "/"+path, ""
	w.api.ServeHTTP(out, asked)
}

// named is any API object.
type named interface {
	GetName() string
	GetNamespace() string
}

// in are the objects of a namespace, or of all, and with a name, or any.
func in[T any, P interface {
	*T
	named
}](all []T, namespace, name string) []T {
	fitting := []T{}
	for i := range all {
		object := P(&all[i])
		if (namespace == "" || object.GetNamespace() == namespace) && (name == "" || object.GetName() == name) {
			fitting = append(fitting, all[i])
		}
	}
	return fitting
}

func serveObjects[L, T any](w *world, out http.ResponseWriter, list L, items []T, resource, name string) {
	switch {
	case name == "":
		w.answer(out, list)
	case len(items) == 0:
		w.refuse(out, notFound(resource, name))
	default:
		w.answer(out, items[0])
	}
}

func (w *world) has(out http.ResponseWriter, resource, namespace, name string) bool {
	found := map[string]int{
		"connectionpools": len(in(w.pools, namespace, name)), "connectiontargets": len(in(w.targets, namespace, name)),
		"connections": len(in(w.connections, namespace, name)), "sessions": len(in(w.sessions, namespace, name)),
	}[resource]
	if found == 0 {
		w.refuse(out, notFound(resource, name))
	}
	return found > 0
}

func (w *world) list(out http.ResponseWriter, r *http.Request, namespace string) {
	selector, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		w.t.Error(err)
	}
	list := livev1alpha1.ConnectionList{Items: slices.DeleteFunc(in(w.connections, namespace, ""), func(c livev1alpha1.Connection) bool {
		return !selector.Matches(fields.Set{"pool": c.Pool, "target": c.Target, "state": string(c.State)})
	})}
	w.answer(out, list)
}

func (w *world) exec(out http.ResponseWriter, r *http.Request, namespace string) {
	query := r.URL.Query()
	options := livev1alpha1.ExecOptions{
		Target: query.Get("target"), Container: query.Get("container"), Pod: query.Get("pod"), Namespace: query.Get("namespace"),
		Command: query["command"], Shell: query.Get("shell"), Env: query["env"],
		Stdin: query.Get("stdin") == "true", Stdout: true, Stderr: true, TTY: query.Get("tty") == "true", Term: query.Get("term"),
	}
	if options.Target != "" && !w.has(out, "connectiontargets", namespace, options.Target) {
		return
	}
	wants := stream.ExecOptions{
		Stdin: options.Stdin, Stdout: query.Get("stdout") == "true", Stderr: query.Get("stderr") == "true", TTY: options.TTY,
	}
	stream.ServeExec(out, r, wants, func(ctx context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
		return w.remote(ctx, options, streams, resize)
	})
}

// session creates, lists, shows or deletes sessions.
func (w *world) session(out http.ResponseWriter, r *http.Request, namespace, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case r.Method == http.MethodPost:
		var s livev1alpha1.Session
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			w.t.Error(err)
		}
		if len(in(w.pools, namespace, s.Spec.Pool)) == 0 {
			w.refuse(out, notFound("connectionpools", s.Spec.Pool))
			return
		}
		if s.Name == "" {
			s.Name = s.Spec.Pool + "-x7k2"
		}
		s.Status = livev1alpha1.SessionStatus{State: livev1alpha1.SessionReady, Owner: "alice", Target: s.Spec.Target}
		w.sessions = append(w.sessions, s)
		w.answer(out, s)
	case name == "":
		w.answer(out, livev1alpha1.SessionList{Items: in(w.sessions, namespace, "")})
	case !w.has(out, "sessions", namespace, name):
	default:
		w.answer(out, in(w.sessions, namespace, name)[0])
		if r.Method == http.MethodDelete {
			w.sessions = slices.DeleteFunc(w.sessions, func(s livev1alpha1.Session) bool { return s.Name == name })
		}
	}
}

// execIn runs a command in a session, unless that has ended.
func (w *world) execIn(out http.ResponseWriter, r *http.Request, namespace, name string) {
	if status := in(w.sessions, namespace, name)[0].Status; status.State == livev1alpha1.SessionEnded {
		refusal := *fails(livev1alpha1.OutcomeNotStarted, status.Reason, status.Message)
		refusal.Code, refusal.Reason = http.StatusConflict, metav1.StatusReasonConflict
		w.refuse(out, refusal)
		return
	}
	w.exec(out, r, namespace)
}

// other APIs: what doctor and completion ask.
func (w *world) other(out http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/version":
		w.answer(out, map[string]string{"gitVersion": "v1.37.2"})
	case "/apis/connpool.dev/v1alpha1":
		w.answer(out, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "connectionpools"}, {Name: "connectiontargets"}}})
	case "/apis/live.connpool.dev/v1alpha1":
		w.answer(out, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "connections"}}})
	case "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.live.connpool.dev":
		w.answer(out, map[string]any{"status": map[string]any{"conditions": []map[string]any{{"type": "Available", "status": "True"}}}})
	case "/openapi/v3/apis/live.connpool.dev/v1alpha1":
		w.answer(out, map[string]any{"info": map[string]any{"version": "v1.2.4"}})
	case "/apis/authentication.k8s.io/v1/selfsubjectreviews":
		w.answer(out, map[string]any{"status": map[string]any{"userInfo": map[string]any{"username": "alice"}}})
	case "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
		w.review(out, r)
	case "/api/v1/namespaces":
		w.answer(out, metav1.PartialObjectMetadataList{Items: []metav1.PartialObjectMetadata{
			{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, {ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}},
		}})
	default:
		http.NotFound(out, r)
	}
}

func (w *world) review(out http.ResponseWriter, r *http.Request) {
	var review accessReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		w.t.Error(err)
	}
	a := review.Spec.Attributes
	what := a.Verb + " " + a.Group + "/" + a.Resource
	if a.Subresource != "" {
		what += "/" + a.Subresource
	}
	review.Status.Allowed = !w.denied[what]
	w.answer(out, review)
}

func (w *world) answer(out http.ResponseWriter, object any) {
	out.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(out).Encode(object); err != nil {
		w.t.Error(err)
	}
}

func (w *world) refuse(out http.ResponseWriter, status metav1.Status) {
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	status.Status = metav1.StatusFailure
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(int(status.Code))
	if err := json.NewEncoder(out).Encode(status); err != nil {
		w.t.Error(err)
	}
}

func notFound(resource, name string) metav1.Status {
	return metav1.Status{
		Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: fmt.Sprintf("%s %q not found", resource, name),
		Details: &metav1.StatusDetails{Kind: resource, Name: name},
	}
}

func forbidden(verb, group, resource, name, namespace string) metav1.Status {
	kind, _, _ := strings.Cut(resource, "/")
	return metav1.Status{
		Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: fmt.Sprintf("%s.%s %q is forbidden: User \"alice\" cannot %s resource %q in API group %q in the namespace %q",
			kind, group, name, verb, resource, group, namespace),
		Details: &metav1.StatusDetails{Group: group, Kind: kind, Name: name},
	}
}

func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

func (w *world) streams() genericiooptions.IOStreams {
	return genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}
}
