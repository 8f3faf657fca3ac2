// Package registrytest serves the packages of the registry to their tests: over real
// pools, whose connections are fakes, and with as much of the generic API server as
// they need.
//
//	f := registrytest.New(t)
//	defer f.Close()
//	f.Storage["connectionpools/exec"] = exec.NewCommands(f.Gate.Memory).Storage(exec.InPools(f.Gate))
//	f.Web() // pool web with target web-1
//	f.Post(t.Context(), "web", registrytest.Command("true")).WantOutcome(t, live.OutcomeCompleted)
//
// Only tests import it. A fixture works in virtual time.
package registrytest

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
	"time"

	"github.com/go-logr/logr/funcr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/naming"
	"github.com/connpool/connpool/internal/registry/use"
)

// Namespace of all that a fixture declares.
const Namespace = "team"

// Fixture is a gate over real pools, whose connections are fakes, and what is served
// behind it.
type Fixture struct {
	testing.TB

	Fake       *drivertest.Fake
	Set        *poolset.Set
	Objects    *Objects
	Authorizer *Authorizer
	Gate       *use.Gate
	Scheme     *runtime.Scheme
	// Storage is what the fixture serves, by its paths; the test fills it.
	Storage map[string]rest.Storage

	mu    sync.Mutex
	lines []string
}

// New makes a fixture without objects and without storage.
func New(tb testing.TB, changes ...func(*use.Config)) *Fixture {
	tb.Helper()
	f := &Fixture{
		TB: tb, Fake: new(drivertest.Fake), Objects: new(Objects), Authorizer: new(Authorizer),
		Scheme: runtime.NewScheme(), Storage: map[string]rest.Storage{},
	}
	if err := live.AddToScheme(f.Scheme); err != nil {
		tb.Fatal(err)
	}
	f.Set = poolset.New(nowhere, dialbudget.New(30, 30, 30))
	config := use.Config{
		Pools: f.Set, Objects: f.Objects, Authorizer: f.Authorizer,
		Audit: funcr.New(func(_, args string) { f.note(args) }, funcr.Options{}),
	}
	for _, change := range changes {
		change(&config)
	}
	f.Gate = use.NewGate(config)
	return f
}

// Close ends the pools. Every test calls it at its end.
func (f *Fixture) Close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Set.Close(ctx)
}

// Wait waits until nothing is used any more. When ctx ends first, it cancels all uses.
func (f *Fixture) Wait(ctx context.Context) error {
	select {
	case <-f.Gate.Idle():
		return nil
	case <-ctx.Done():
	}
	f.Gate.Cancel()
	<-f.Gate.Idle()
	return ctx.Err()
}

// Idle reports whether nothing is used now.
func (f *Fixture) Idle() bool {
	select {
	case <-f.Gate.Idle():
		return true
	default:
		return false
	}
}

// HasConnection reports whether there is a connection of that name.
func (f *Fixture) HasConnection(name string) bool {
	return slices.ContainsFunc(f.Set.Connections(Namespace), func(c poolset.Connection) bool {
		return naming.Of(c.Pool, c.Target, c.ID).Name == name
	})
}

// Leases counts the leases that are out.
func (f *Fixture) Leases() (n int) {
	for _, c := range f.Set.Connections("") {
		n += c.Leases
	}
	return n
}

func nowhere(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nowhere") }

func (f *Fixture) note(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, line)
}

// Lines counts the audit lines so far.
func (f *Fixture) Lines() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lines)
}

// Audit returns all audit lines so far.
func (f *Fixture) Audit() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.lines, "\n")
}

// Objects are the objects of the cluster. It implements use.Objects.
type Objects struct {
	// Err is the error for what is not declared, instead of not found.
	Err error
	// Reading is called before a pool is read, unless it is nil.
	Reading func()

	mu      sync.Mutex
	pools   map[string]*v1alpha1.ConnectionPool
	targets map[string]*v1alpha1.ConnectionTarget
}

// Pool implements use.Objects.
func (o *Objects) Pool(_ context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error) {
	if o.Reading != nil {
		o.Reading()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if pool := o.pools[namespace+"/"+name]; pool != nil {
		return pool, nil
	}
	return nil, o.missing(name)
}

// Target implements use.Objects.
func (o *Objects) Target(_ context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if target := o.targets[namespace+"/"+name]; target != nil {
		return target, nil
	}
	return nil, o.missing(name)
}

func (o *Objects) missing(name string) error {
	if o.Err != nil {
		return o.Err
	}
	return apierrors.NewNotFound(v1alpha1.Resource("things"), name)
}

// Targets implements use.Objects.
func (o *Objects) Targets(_ context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []v1alpha1.ConnectionTarget
	for _, key := range slices.Sorted(maps.Keys(o.targets)) {
		if target := o.targets[key]; namespace == "" || target.Namespace == namespace {
			all = append(all, *target)
		}
	}
	return all, o.Err
}

// Pool declares a pool; by default for the targets with its label.
func (f *Fixture) Pool(name string, changes ...func(*v1alpha1.ConnectionPool)) *v1alpha1.ConnectionPool {
	pool := &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name, UID: types.UID("pool-" + name)},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"pool": name}}},
	}
	for _, change := range changes {
		change(pool)
	}
	if f.Objects.pools == nil {
		f.Objects.pools = map[string]*v1alpha1.ConnectionPool{}
	}
	f.Objects.pools[Namespace+"/"+name] = pool
	return pool
}

// LeastLoaded lets a pool choose the target.
func LeastLoaded(pool *v1alpha1.ConnectionPool) {
	pool.Spec.Routing = new(v1alpha1.RoutingLeastLoaded)
}

// OnlyFor makes a pool one of a single target.
func OnlyFor(target string) func(*v1alpha1.ConnectionPool) {
	return func(pool *v1alpha1.ConnectionPool) {
		pool.Spec.TargetSelector, pool.Spec.TargetRef = nil, &v1alpha1.TargetRef{Name: target}
	}
}

// Target declares a target of a pool; no pool dials it yet.
func (f *Fixture) Target(name, pool string, changes ...func(*v1alpha1.ConnectionTarget)) *v1alpha1.ConnectionTarget {
	target := &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: name, UID: types.UID("target-" + name), Labels: map[string]string{"pool": pool, "name": name},
		},
		Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{Host: name}},
	}
	for _, change := range changes {
		change(target)
	}
	if f.Objects.targets == nil {
		f.Objects.targets = map[string]*v1alpha1.ConnectionTarget{}
	}
	f.Objects.targets[Namespace+"/"+name] = target
	return target
}

// Unusable is a change of a target that cannot be used now. Its stored status says
// something else, which is no longer true.
func (f *Fixture) Unusable(reason, message string) func(*v1alpha1.ConnectionTarget) {
	return func(target *v1alpha1.ConnectionTarget) {
		f.Set.Explain(string(target.UID), &driver.Error{Reason: driver.Reason(reason), Message: message})
		target.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "Stale", Message: "this was true a minute ago",
		}}
	}
}

// Connect makes a declared target a member of declared pools, with one connection
// each.
func (f *Fixture) Connect(target *v1alpha1.ConnectionTarget, pools ...*v1alpha1.ConnectionPool) {
	f.Helper()
	f.ConnectWith(target, f.Fake, nil, pools...)
}

// Ensured applies a target to a set and returns how that ended, once its credentials
// are prepared.
func Ensured(set *poolset.Set, want poolset.Target) error {
	for {
		err := set.Ensure(want)
		preparing, ok := errors.AsType[*poolset.PreparingError](err)
		if !ok {
			return err
		}
		<-preparing.Done
	}
}

// ConnectWith is Connect with another driver and a changed policy.
func (f *Fixture) ConnectWith(
	target *v1alpha1.ConnectionTarget, with driver.Driver, change func(*poolset.Policy), pools ...*v1alpha1.ConnectionPool,
) {
	f.Helper()
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
		}
		if change != nil {
			change(&policy)
		}
		want.Pools = append(want.Pools, poolset.Pool{
			Ref: poolset.Ref{UID: string(pool.UID), Namespace: pool.Namespace, Name: pool.Name}, Policy: policy,
		})
	}
	if err := Ensured(f.Set, want); err != nil {
		f.Fatal(err)
	}
	for _, pool := range want.Pools {
		if lease, err := f.Set.Acquire(context.Background(), poolset.Request{Pool: pool.UID, Target: want.UID}); err == nil {
			lease.Release()
		}
	}
}

// Web declares and connects pool web with target web-1.
func (f *Fixture) Web() {
	f.Helper()
	f.Connect(f.Target("web-1", "web"), f.Pool("web", LeastLoaded))
}

// Execs counts the commands that reached a remote.
func (f *Fixture) Execs() (n int) {
	for _, conn := range f.Fake.Live() {
		n += len(conn.Execs())
	}
	return n
}

// ServeHTTP is as much of the generic API server as the registry needs: the path
// becomes a namespace, a pool, a subresource and options.
func (f *Fixture) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	resource, name, subresource, path := split(req.URL.Path)
	who := req.Header.Get("Test-User")
	if who == "" {
		who = "alice"
	}
	ctx := request.WithUser(req.Context(), &user.DefaultInfo{Name: who, UID: req.Header.Get("Test-Uid")})
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{Path: req.URL.Path})
	req = req.WithContext(ctx)
	answer := &responder{rw}
	storage, ok := f.Storage[resource+"/"+subresource].(rest.Connecter)
	if !ok {
		http.NotFound(rw, req)
		return
	}
	options, subpath, key := storage.NewConnectOptions()
	query := req.URL.Query()
	if subpath {
		query.Set(key, path)
	}
	if err := runtime.NewParameterCodec(f.Scheme).DecodeParameters(query, live.GroupVersion, options); err != nil {
		answer.Error(apierrors.NewBadRequest(err.Error()))
		return
	}
	// Only this context has the namespace, and not that of the request.
	handler, err := storage.Connect(request.WithNamespace(ctx, Namespace), name, options, answer)
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

// Object implements rest.Responder.
func (r *responder) Object(code int, object runtime.Object) {
	r.Header().Set("Content-Type", "application/json")
	r.WriteHeader(code)
	_ = json.NewEncoder(r).Encode(object)
}

// Error implements rest.Responder.
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

// Reply is the answer to a JSON request: an Exec object, or the Status of a refusal.
type Reply struct {
	Code   int
	Header http.Header
	Exec   live.Exec
	Status metav1.Status
}

// Post sends an Exec object to a pool, without a network, so that it works in virtual
// time.
func (f *Fixture) Post(ctx context.Context, pool string, body any, changes ...func(*http.Request)) Reply {
	f.Helper()
	text, isText := body.(string)
	if !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			f.Fatal(err)
		}
		text = string(encoded)
	}
	return f.PostTo(ctx, "/pools/"+pool+"/exec", text, changes...)
}

// PostTo sends words to a path.
func (f *Fixture) PostTo(ctx context.Context, path, text string, changes ...func(*http.Request)) Reply {
	f.Helper()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(text))
	for _, change := range changes {
		change(req)
	}
	return f.Send(req)
}

// Send sends a request and reads its answer, which must be JSON.
func (f *Fixture) Send(req *http.Request) Reply {
	f.Helper()
	recorder := httptest.NewRecorder()
	f.ServeHTTP(recorder, req)
	result := Reply{Code: recorder.Code, Header: recorder.Header()}
	if result.Header.Get("Retry-After") != "" {
		f.Errorf("the answer %d has Retry-After, and clients would send the command again", recorder.Code)
	}
	into := any(&result.Exec)
	if recorder.Code >= 300 {
		into = &result.Status
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), into); err != nil {
		f.Fatalf("%d %q: %v", recorder.Code, recorder.Body, err)
	}
	return result
}

// As sends a request as another user.
func As(name string) func(*http.Request) {
	return func(req *http.Request) { req.Header.Set("Test-User", name) }
}

// AsOneOf sends a request as the user of that name who has that UID.
func AsOneOf(name, uid string) func(*http.Request) {
	return func(req *http.Request) {
		As(name)(req)
		req.Header.Set("Test-Uid", uid)
	}
}

// Command returns an Exec object.
func Command(words ...string) live.Exec { return live.Exec{Spec: live.ExecSpec{Command: words}} }

// Identified returns an Exec object with a request ID.
func Identified(id string, words ...string) live.Exec {
	object := Command(words...)
	object.Spec.RequestID = id
	return object
}

// WantRefusal checks a refusal and what its message, or the cause of a field, says.
func (r Reply) WantRefusal(t testing.TB, code int, words ...string) {
	t.Helper()
	if r.Code != code || int(r.Status.Code) != code {
		t.Errorf("answered %d (%d) %s, want %d", r.Code, r.Status.Code, r.Status.Message, code)
	}
	said := []string{r.Status.Message}
	if r.Status.Details != nil {
		for _, cause := range r.Status.Details.Causes {
			said = append(said, cause.Field+": "+cause.Message)
		}
	}
	for _, word := range words {
		if !strings.Contains(strings.Join(said, "\n"), word) {
			t.Errorf("message %q does not contain %q", said, word)
		}
	}
}

// WantOutcome checks that a command ran, and its outcome.
func (r Reply) WantOutcome(t testing.TB, want live.Outcome) {
	t.Helper()
	if r.Code != http.StatusOK || r.Exec.Status.Outcome != want {
		t.Errorf("answered %d with outcome %q (%s%s), want 200 with %s",
			r.Code, r.Exec.Status.Outcome, r.Status.Message, r.Exec.Status.Message, want)
	}
}

// Causes returns the causes of a status by their type.
func Causes(status metav1.Status) map[metav1.CauseType]string {
	all := map[metav1.CauseType]string{}
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			all[cause.Type] = cause.Message
		}
	}
	return all
}

// Saying plays a command that writes and ends with a code.
func Saying(stdout, stderr string, code int) drivertest.ExecFunc {
	return func(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
		_, _ = io.WriteString(streams.Stdout, stdout)
		if streams.Stderr != nil {
			_, _ = io.WriteString(streams.Stderr, stderr)
		}
		return driver.ExitStatus{Code: code}, nil
	}
}

// Failing plays a command that does not complete.
func Failing(err *driver.Error) drivertest.ExecFunc {
	return func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
		return driver.ExitStatus{}, err
	}
}

// Lasting plays a command that runs until its context ends or release is closed.
func Lasting(release <-chan struct{}) drivertest.ExecFunc {
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
				Reason: driver.Timeout, Stage: driver.StageRun, Started: true, Message: "the caller stopped waiting",
			}
		}
	}
}

// Later posts in the background.
func (f *Fixture) Later(ctx context.Context, pool string, body any, changes ...func(*http.Request)) <-chan Reply {
	answered := make(chan Reply, 1)
	go func() { answered <- f.Post(ctx, pool, body, changes...) }()
	return answered
}

// Fields returns the fields that problems name.
func Fields(problems field.ErrorList) (names []string) {
	for _, problem := range problems {
		names = append(names, problem.Field)
	}
	return names
}
