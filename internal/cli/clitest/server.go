package clitest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// api serves the APIs of the cluster.
type api struct{ *Fixture }

// ServeHTTP answers as the cluster would.
func (a *api) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+r.URL.RequestURI())
	answer := a.Answers[r.URL.Path]
	a.mu.Unlock()
	segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case a.Expired.Load():
		a.Refuse(out, metav1.Status{Code: http.StatusUnauthorized, Reason: metav1.StatusReasonUnauthorized, Message: "Unauthorized"})
	case answer != nil:
		answer(out, r)
	case len(segments) > 3 && segments[0] == "apis" && strings.HasSuffix(segments[1], v1alpha1.GroupName):
		a.resource(out, r, segments[1], segments[3:])
	default:
		a.other(out, r)
	}
}

// resource answers for a path, which begins behind the version.
func (a *api) resource(out http.ResponseWriter, r *http.Request, group string, path []string) {
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
	if a.isDenied(verb + " " + group + "/" + resource + sub) {
		a.Refuse(out, forbidden(verb, group, resource+sub, name, namespace))
		return
	}
	if sub == "" || a.has(out, resource, namespace, name) {
		a.serve(out, r, group+"/"+resource+sub, namespace, name)
	}
}

func (a *api) isDenied(what string) bool {
	a.state.RLock()
	defer a.state.RUnlock()
	return a.Denied[what]
}

// serve answers for an object that exists, or for a list.
func (a *api) serve(out http.ResponseWriter, r *http.Request, what, namespace, name string) {
	switch what {
	case "connpool.dev/connectionpools":
		serveKind(a, out, r, &a.Pools, "ConnectionPool", namespace, name)
	case "connpool.dev/connectiontargets":
		serveKind(a, out, r, &a.Targets, "ConnectionTarget", namespace, name)
	case "live.connpool.dev/connections":
		a.list(out, r, namespace)
	case "live.connpool.dev/uses":
		a.listUses(out, r, namespace)
	case "live.connpool.dev/connectionpools/drain", "live.connpool.dev/connections/drain":
		a.Answer(out, livev1alpha1.Drain{Status: livev1alpha1.DrainStatus{Connections: int32(len(a.Connections))}})
	case "live.connpool.dev/connectiontargets/check":
		a.Answer(out, livev1alpha1.Check{Status: a.Checks[name]})
	case "live.connpool.dev/sessions":
		a.session(out, r, namespace, name)
	case "live.connpool.dev/sessions/exec":
		a.execIn(out, r, namespace, name)
	case "live.connpool.dev/connectionpools/exec":
		if r.Method == http.MethodPost {
			a.post(out, r, namespace, name)
			return
		}
		a.ServeExec(out, r, namespace)
	case "live.connpool.dev/connectionpools/proxy":
		a.proxied(out, r)
	default:
		a.Refuse(out, notFound("", ""))
	}
}

// proxied passes a request to the API of a target that exists.
func (a *api) proxied(out http.ResponseWriter, r *http.Request) {
	_, behind, _ := strings.Cut(r.URL.Path, "/proxy/")
	target, path, _ := strings.Cut(behind, "/")
	if !a.has(out, "connectiontargets", "", target) {
		return
	}
	asked := r.Clone(r.Context())
	asked.URL.Path, asked.URL.RawPath = "/"+path, ""
	a.API.ServeHTTP(out, asked)
}

// named is an API object.
type named interface {
	GetName() string
	GetNamespace() string
}

// in returns the objects of a namespace, or of all, with a name, or with any.
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

// has reports whether an object exists, and refuses the request if it does not.
func (a *api) has(out http.ResponseWriter, resource, namespace, name string) bool {
	found := map[string]int{
		"connectionpools": len(in(a.Pools, namespace, name)), "connectiontargets": len(in(a.Targets, namespace, name)),
		"connections": len(in(a.Connections, namespace, name)), "sessions": len(in(a.Sessions, namespace, name)),
	}[resource]
	if found == 0 {
		a.Refuse(out, notFound(resource, name))
	}
	return found > 0
}

func (a *api) list(out http.ResponseWriter, r *http.Request, namespace string) {
	selector, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		a.t.Error(err)
	}
	a.state.RLock()
	defer a.state.RUnlock()
	list := livev1alpha1.ConnectionList{Items: slices.DeleteFunc(in(a.Connections, namespace, ""), func(c livev1alpha1.Connection) bool {
		return !selector.Matches(fields.Set{"pool": c.Pool, "target": c.Target, "state": string(c.State)})
	})}
	list.Counts = slices.DeleteFunc(slices.Clone(a.counts()), func(c livev1alpha1.ConnectionCounts) bool {
		return namespace != "" && c.Namespace != namespace || !selector.Matches(fields.Set{"pool": c.Pool, "target": c.Target})
	})
	if limit, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil {
		list.Items = list.Items[:min(len(list.Items), limit)]
	}
	a.Answer(out, list)
}

// counts returns the counts of the fixture, by default one for each connection.
func (a *api) counts() []livev1alpha1.ConnectionCounts {
	if a.Counts != nil {
		return a.Counts
	}
	var counts []livev1alpha1.ConnectionCounts
	for i := range a.Connections {
		c := &a.Connections[i]
		counts = append(counts, livev1alpha1.ConnectionCounts{
			Namespace: c.Namespace, Pool: c.Pool, Target: c.Target, Desired: 1, Warm: 1, InUse: min(c.InUse, 1), UseCount: c.UseCount,
			OldestConnectionTime: &c.CreationTimestamp, LastUsedTime: c.LastUsedTime,
		})
	}
	return counts
}

func (a *api) listUses(out http.ResponseWriter, r *http.Request, namespace string) {
	selector, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		a.t.Error(err)
	}
	a.state.RLock()
	defer a.state.RUnlock()
	a.Answer(out, livev1alpha1.UseList{Items: slices.DeleteFunc(in(a.Uses, namespace, ""), func(u livev1alpha1.Use) bool {
		return !selector.Matches(fields.Set{"pool": u.Pool, "target": u.Target})
	})})
}

// ServeExec runs a command on the target that a request names.
func (f *Fixture) ServeExec(out http.ResponseWriter, r *http.Request, namespace string) {
	query := r.URL.Query()
	options := livev1alpha1.ExecOptions{
		Target: query.Get("target"), Container: query.Get("container"), Pod: query.Get("pod"), Namespace: query.Get("namespace"),
		Command: query["command"], Shell: query.Get("shell"), Env: query["env"],
		Stdin: query.Get("stdin") == "true", Stdout: true, Stderr: true, TTY: query.Get("tty") == "true", Term: query.Get("term"),
	}
	if options.Target != "" && !(&api{f}).has(out, "connectiontargets", namespace, options.Target) {
		return
	}
	wants := stream.ExecOptions{
		Stdin: options.Stdin, Stdout: query.Get("stdout") == "true", Stderr: query.Get("stderr") == "true", TTY: options.TTY,
	}
	container := ""
	if options.Container == "" {
		container = f.OnlyContainer
	}
	for header, value := range map[string]string{
		"Connpool-Target": options.Target, "Connpool-Request-Id": "req-7", "Connpool-Signals": string(f.Signals), "Connpool-Routing": f.Routing,
		"Connpool-Container": container,
	} {
		if value != "" {
			out.Header().Set(header, value)
		}
	}
	stream.ServeExec(out, r, wants, func(ctx context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
		return f.Remote(ctx, options, streams, resize)
	})
}

// session creates, lists, shows or deletes sessions.
func (a *api) session(out http.ResponseWriter, r *http.Request, namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case r.Method == http.MethodPost:
		var s livev1alpha1.Session
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			a.t.Error(err)
		}
		if len(in(a.Pools, namespace, s.Spec.Pool)) == 0 {
			a.Refuse(out, notFound("connectionpools", s.Spec.Pool))
			return
		}
		if s.Name == "" {
			s.Name = s.Spec.Pool + "-x7k2"
		}
		s.Status = livev1alpha1.SessionStatus{State: livev1alpha1.SessionReady, Owner: "alice", Target: s.Spec.Target}
		if s.Spec.Container == "" {
			s.Status.Container = a.OnlyContainer
		}
		a.Sessions = append(a.Sessions, s)
		a.Answer(out, s)
	case name == "":
		a.Answer(out, livev1alpha1.SessionList{Items: in(a.Sessions, namespace, "")})
	case !a.has(out, "sessions", namespace, name):
	default:
		a.Answer(out, in(a.Sessions, namespace, name)[0])
		if r.Method == http.MethodDelete {
			a.Sessions = slices.DeleteFunc(a.Sessions, func(s livev1alpha1.Session) bool { return s.Name == name })
		}
	}
}

// execIn runs a command in a session, unless the session has ended.
func (a *api) execIn(out http.ResponseWriter, r *http.Request, namespace, name string) {
	if status := in(a.Sessions, namespace, name)[0].Status; status.State == livev1alpha1.SessionEnded {
		refusal := *Fails(livev1alpha1.OutcomeNotStarted, status.Reason, status.Message)
		refusal.Code, refusal.Reason = http.StatusConflict, metav1.StatusReasonConflict
		a.Refuse(out, refusal)
		return
	}
	a.ServeExec(out, r, namespace)
}

// other answers for the other APIs, which doctor and completion ask.
func (a *api) other(out http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/version":
		a.Answer(out, map[string]string{"gitVersion": "v1.37.2"})
	case "/apis/connpool.dev/v1alpha1":
		a.Answer(out, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "connectionpools"}, {Name: "connectiontargets"}}})
	case "/apis/live.connpool.dev/v1alpha1":
		a.Answer(out, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "connections"}}})
	case "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.live.connpool.dev":
		a.Answer(out, map[string]any{"status": map[string]any{"conditions": []map[string]any{{"type": "Available", "status": "True"}}}})
	case "/openapi/v3/apis/live.connpool.dev/v1alpha1":
		a.Answer(out, map[string]any{"info": map[string]any{"version": "v1.2.4"}})
	case "/apis/authentication.k8s.io/v1/selfsubjectreviews":
		a.Answer(out, map[string]any{"status": map[string]any{"userInfo": map[string]any{"username": "alice"}}})
	case "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
		a.review(out, r)
	case "/api/v1/namespaces":
		a.Answer(out, metav1.PartialObjectMetadataList{Items: []metav1.PartialObjectMetadata{
			{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, {ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}},
		}})
	default:
		http.NotFound(out, r)
	}
}

func (a *api) review(out http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SelfSubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		a.t.Error(err)
	}
	asked := review.Spec.ResourceAttributes
	what := asked.Verb + " " + asked.Group + "/" + asked.Resource
	if asked.Subresource != "" {
		what += "/" + asked.Subresource
	}
	review.Status.Allowed = !a.isDenied(what)
	a.Answer(out, review)
}

// Answer sends an object.
func (f *Fixture) Answer(out http.ResponseWriter, object any) { f.send(out, http.StatusOK, object) }

// send sends an object to a client, which may have left meanwhile.
func (f *Fixture) send(out http.ResponseWriter, code int, object any) {
	text, err := json.Marshal(object)
	if err != nil {
		f.t.Error(err)
	}
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(code)
	_, _ = out.Write(append(text, '\n'))
}

// Refuse sends a failure.
func (f *Fixture) Refuse(out http.ResponseWriter, status metav1.Status) {
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	status.Status = metav1.StatusFailure
	f.send(out, int(status.Code), status)
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

// Exits returns how a stream reports that a command ended.
func Exits(code int, signal string) *metav1.Status {
	causes := []metav1.StatusCause{{Type: livev1alpha1.CauseOutcome, Message: string(livev1alpha1.OutcomeCompleted)}}
	status := &metav1.Status{Status: metav1.StatusSuccess}
	if code != 0 {
		status = &metav1.Status{Status: metav1.StatusFailure, Reason: "NonZeroExitCode", Message: "command terminated"}
		causes = append(causes, metav1.StatusCause{Type: "ExitCode", Message: strconv.Itoa(code)})
	}
	if signal != "" {
		causes = append(causes, metav1.StatusCause{Type: livev1alpha1.CauseSignal, Message: signal})
	}
	status.Details = &metav1.StatusDetails{Causes: causes}
	return status
}

// Fails returns how a stream reports that there is no exit code.
func Fails(outcome livev1alpha1.Outcome, reason, message string) *metav1.Status {
	return &metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: message,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{
			{Type: livev1alpha1.CauseOutcome, Message: string(outcome)},
			{Type: livev1alpha1.CauseReason, Message: reason},
			{Type: livev1alpha1.CauseRequestID, Message: "req-7"},
		}},
	}
}

// NoPool returns the answer about a pool that does not exist.
func (f *Fixture) NoPool(name string) http.HandlerFunc {
	return func(out http.ResponseWriter, _ *http.Request) { f.Refuse(out, notFound("connectionpools", name)) }
}
