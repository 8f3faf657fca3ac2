package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const namespace = "team"

// world is a registry over real pools, whose connections are fakes.
type world struct {
	testing.TB
	fake     *drivertest.Fake
	set      *poolset.Set
	objects  *declaredObjects
	judge    *judge
	registry *Registry
	scheme   *runtime.Scheme

	mu    sync.Mutex
	lines []string
}

// newWorld makes a world without objects; closing it fails on what is left.
func newWorld(tb testing.TB, changes ...func(*Config)) *world {
	tb.Helper()
	w := &world{
		TB: tb, fake: new(drivertest.Fake), objects: new(declaredObjects), judge: new(judge),
		scheme: runtime.NewScheme(),
	}
	if err := live.AddToScheme(w.scheme); err != nil {
		tb.Fatal(err)
	}
	w.set = poolset.New(nowhere, connpool.NewBudget(30, 30, 30))
	config := Config{
		Pools: w.set, Objects: w.objects, Authorizer: w.judge, Replica: "replica-0",
		Audit: funcr.New(func(_, args string) { w.note(args) }, funcr.Options{}),
	}
	for _, change := range changes {
		change(&config)
	}
	w.registry = New(config)
	return w
}

// close ends the pools; it is for the end of every test.
func (w *world) close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.set.Close(ctx)
}

// inWorld runs a test in virtual time.
func inWorld(t *testing.T, test func(*world), changes ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, changes...)
		defer w.close()
		test(w)
	})
}

func nowhere(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nowhere") }

func (w *world) note(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line)
}

// audit is all audit lines so far.
func (w *world) audit() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "\n")
}

// declaredObjects are the objects of the cluster.
type declaredObjects struct {
	mu      sync.Mutex
	pools   map[string]*v1alpha1.ConnectionPool
	targets map[string]*v1alpha1.ConnectionTarget
	err     error
}

func (o *declaredObjects) Pool(_ context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if pool := o.pools[namespace+"/"+name]; pool != nil {
		return pool, nil
	}
	return nil, o.missing(name)
}

func (o *declaredObjects) Target(_ context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if target := o.targets[namespace+"/"+name]; target != nil {
		return target, nil
	}
	return nil, o.missing(name)
}

func (o *declaredObjects) missing(name string) error {
	if o.err != nil {
		return o.err
	}
	return apierrors.NewNotFound(v1alpha1.Resource("things"), name)
}

func (o *declaredObjects) Targets(_ context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []v1alpha1.ConnectionTarget
	for _, key := range slices.Sorted(maps.Keys(o.targets)) {
		if target := o.targets[key]; namespace == "" || target.Namespace == namespace {
			all = append(all, *target)
		}
	}
	return all, o.err
}

// judge permits everything until told otherwise, and remembers what it was asked.
type judge struct {
	mu      sync.Mutex
	asked   []authorizer.Attributes
	verdict func(authorizer.Attributes) (authorizer.Decision, string, error)
}

func (j *judge) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = append(j.asked, a)
	if j.verdict == nil {
		return authorizer.DecisionAllow, "", nil
	}
	return j.verdict(a)
}

func (j *judge) decide(decision authorizer.Decision, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.verdict = func(authorizer.Attributes) (authorizer.Decision, string, error) { return decision, "", err }
}

func (j *judge) questions() []authorizer.Attributes {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.asked)
}

// pool declares a pool; by default for the targets with its label.
func (w *world) pool(name string, changes ...func(*v1alpha1.ConnectionPool)) *v1alpha1.ConnectionPool {
	pool := &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("pool-" + name)},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"pool": name}}},
	}
	for _, change := range changes {
		change(pool)
	}
	if w.objects.pools == nil {
		w.objects.pools = map[string]*v1alpha1.ConnectionPool{}
	}
	w.objects.pools[namespace+"/"+name] = pool
	return pool
}

func leastLoaded(pool *v1alpha1.ConnectionPool) {
	pool.Spec.Routing = new(v1alpha1.RoutingLeastLoaded)
}

func onlyFor(target string) func(*v1alpha1.ConnectionPool) {
	return func(pool *v1alpha1.ConnectionPool) {
		pool.Spec.TargetSelector, pool.Spec.TargetRef = nil, &v1alpha1.TargetRef{Name: target}
	}
}

// target declares a target of a pool, which nobody dials.
func (w *world) target(name, pool string, changes ...func(*v1alpha1.ConnectionTarget)) *v1alpha1.ConnectionTarget {
	target := &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID("target-" + name), Labels: map[string]string{"pool": pool, "name": name},
		},
		Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{Host: name}},
	}
	for _, change := range changes {
		change(target)
	}
	if w.objects.targets == nil {
		w.objects.targets = map[string]*v1alpha1.ConnectionTarget{}
	}
	w.objects.targets[namespace+"/"+name] = target
	return target
}

func ready(status metav1.ConditionStatus, reason, message string) func(*v1alpha1.ConnectionTarget) {
	return func(target *v1alpha1.ConnectionTarget) {
		target.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: message,
		}}
	}
}

// connect makes a declared target a member of declared pools, with one connection
// each.
func (w *world) connect(target *v1alpha1.ConnectionTarget, pools ...*v1alpha1.ConnectionPool) {
	w.Helper()
	w.connectWith(target, w.fake, nil, pools...)
}

func (w *world) connectWith(
	target *v1alpha1.ConnectionTarget, with driver.Driver, change func(*poolset.Policy), pools ...*v1alpha1.ConnectionPool,
) {
	w.Helper()
	want := poolset.Target{
		Ref: poolset.Ref{UID: string(target.UID), Namespace: target.Namespace, Name: target.Name}, Type: "ssh",
		Access: poolset.Access{Driver: with, Endpoint: driver.Endpoint{Address: target.Name + ":22"}, Identity: target.Name},
	}
	for _, pool := range pools {
		policy := poolset.Policy{
			Limits: connpool.Limits{
				MinWarm: 1, Max: 1, LeasesPerConn: 100, MaxPending: 10, AcquireTimeout: time.Second, DrainTimeout: 5 * time.Minute,
			},
			FailureThreshold: 1, SuccessThreshold: 1,
			Single: pool.Spec.TargetRef != nil, AnyTarget: routesToAny(pool),
		}
		if change != nil {
			change(&policy)
		}
		want.Pools = append(want.Pools, poolset.Pool{
			Ref: poolset.Ref{UID: string(pool.UID), Namespace: pool.Namespace, Name: pool.Name}, Policy: policy,
		})
	}
	if err := w.set.Ensure(want); err != nil {
		w.Fatal(err)
	}
	for _, pool := range want.Pools {
		if lease, err := w.set.Acquire(context.Background(), poolset.Request{Pool: pool.UID, Target: want.UID}); err == nil {
			lease.Release()
		}
	}
}

// web declares and connects pool web with target web-1.
func (w *world) web() {
	w.Helper()
	w.connect(w.target("web-1", "web"), w.pool("web", leastLoaded))
}

// execs counts the commands that reached a remote.
func (w *world) execs() (n int) {
	for _, conn := range w.fake.Live() {
		n += len(conn.Execs())
	}
	return n
}

// ServeHTTP is as much of the generic API server as the registry needs: the path
// becomes a namespace, a pool, a subresource and options.
func (w *world) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	resource, name, subresource, path := split(req.URL.Path)
	ctx := request.WithNamespace(req.Context(), namespace)
	who := req.Header.Get("Test-User")
	if who == "" {
		who = "alice"
	}
	ctx = request.WithUser(ctx, &user.DefaultInfo{Name: who})
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{Path: req.URL.Path})
	req = req.WithContext(ctx)
	answer := &responder{rw}
	storage, ok := w.registry.Storage()[resource+"/"+subresource].(rest.Connecter)
	if !ok {
		http.NotFound(rw, req)
		return
	}
	options, subpath, key := storage.NewConnectOptions()
	query := req.URL.Query()
	if subpath {
		query.Set(key, path)
	}
	if err := runtime.NewParameterCodec(w.scheme).DecodeParameters(query, live.GroupVersion, options); err != nil {
		answer.Error(apierrors.NewBadRequest(err.Error()))
		return
	}
	handler, err := storage.Connect(ctx, name, options, answer)
	if err != nil {
		answer.Error(err)
		return
	}
	handler.ServeHTTP(rw, req)
}

// split takes /{resource}/{name}/{subresource}{path} apart; pools are short for
// connectionpools.
func split(path string) (resource, name, subresource, rest string) {
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 4)
	if len(parts) == 4 {
		rest = "/" + parts[3]
	}
	if resource = parts[0]; resource == "pools" {
		resource = "connectionpools"
	}
	return resource, parts[1], parts[2], rest
}

// responder answers in JSON, as the generic server does.
type responder struct{ http.ResponseWriter }

func (r *responder) Object(code int, object runtime.Object) {
	r.Header().Set("Content-Type", "application/json")
	r.WriteHeader(code)
	_ = json.NewEncoder(r).Encode(object)
}

func (r *responder) Error(err error) {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		http.Error(r, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := status.Status()
	if answer.Details != nil && answer.Details.RetryAfterSeconds > 0 {
		r.Header().Set("Retry-After", "1")
	}
	r.Object(int(answer.Code), &answer)
}

// reply is what a JSON request was answered.
type reply struct {
	code   int
	header http.Header
	exec   live.Exec
	status metav1.Status
}

// post sends an Exec object, without a network, so that it works in virtual time.
func (w *world) post(ctx context.Context, pool string, body any, changes ...func(*http.Request)) reply {
	w.Helper()
	text, isText := body.(string)
	if !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			w.Fatal(err)
		}
		text = string(encoded)
	}
	return w.postTo(ctx, "/pools/"+pool+"/exec", text, changes...)
}

func (w *world) postTo(ctx context.Context, path, text string, changes ...func(*http.Request)) reply {
	w.Helper()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(text))
	for _, change := range changes {
		change(req)
	}
	return w.send(req)
}

func (w *world) send(req *http.Request) reply {
	w.Helper()
	recorder := httptest.NewRecorder()
	w.ServeHTTP(recorder, req)
	result := reply{code: recorder.Code, header: recorder.Header()}
	if result.header.Get("Retry-After") != "" {
		w.Errorf("the answer %d has Retry-After, and clients would send the command again", recorder.Code)
	}
	into := any(&result.exec)
	if recorder.Code >= 300 {
		into = &result.status
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), into); err != nil {
		w.Fatalf("%d %q: %v", recorder.Code, recorder.Body, err)
	}
	return result
}

// as sends a request as somebody.
func as(name string) func(*http.Request) {
	return func(req *http.Request) { req.Header.Set("Test-User", name) }
}

// command is an Exec object.
func command(words ...string) live.Exec { return live.Exec{Spec: live.ExecSpec{Command: words}} }

// identified is an Exec object with an ID of the request.
func identified(id string, words ...string) live.Exec {
	object := command(words...)
	object.Spec.RequestID = id
	return object
}

// wantRefusal checks a refusal and what its message says.
func (r reply) wantRefusal(t testing.TB, code int, words ...string) {
	t.Helper()
	if r.code != code || int(r.status.Code) != code {
		t.Errorf("answered %d (%d) %s, want %d", r.code, r.status.Code, r.status.Message, code)
	}
	for _, word := range words {
		if !strings.Contains(r.status.Message, word) {
			t.Errorf("message %q does not contain %q", r.status.Message, word)
		}
	}
}

func (r reply) wantOutcome(t testing.TB, want live.Outcome) {
	t.Helper()
	if r.code != http.StatusOK || r.exec.Status.Outcome != want {
		t.Errorf("answered %d with outcome %q (%s%s), want 200 with %s",
			r.code, r.exec.Status.Outcome, r.status.Message, r.exec.Status.Message, want)
	}
}

// causes of a status by their type.
func causes(status metav1.Status) map[metav1.CauseType]string {
	all := map[metav1.CauseType]string{}
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			all[cause.Type] = cause.Message
		}
	}
	return all
}

// saying plays a command that writes and ends with a code.
func saying(stdout, stderr string, code int) drivertest.ExecFunc {
	return func(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
		_, _ = io.WriteString(streams.Stdout, stdout)
		if streams.Stderr != nil {
			_, _ = io.WriteString(streams.Stderr, stderr)
		}
		return driver.ExitStatus{Code: code}, nil
	}
}

// failing plays a command that does not complete.
func failing(err *driver.Error) drivertest.ExecFunc {
	return func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
		return driver.ExitStatus{}, err
	}
}

// lasting plays a command that runs until its context ends or release is closed.
func lasting(release <-chan struct{}) drivertest.ExecFunc {
	return func(ctx context.Context, conn *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
		select {
		case <-release:
			return driver.ExitStatus{}, nil
		case <-conn.Context().Done():
			return driver.ExitStatus{}, &driver.Error{
				Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: "the connection ended",
			}
		case <-ctx.Done():
			return driver.ExitStatus{}, &driver.Error{
				Reason: driver.Timeout, Stage: driver.StageRun, Started: true, Message: "the caller did not wait any longer",
			}
		}
	}
}

// later posts in the background.
func (w *world) later(ctx context.Context, pool string, body any, changes ...func(*http.Request)) <-chan reply {
	answered := make(chan reply, 1)
	go func() { answered <- w.post(ctx, pool, body, changes...) }()
	return answered
}
