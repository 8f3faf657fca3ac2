// Package registry is the REST storage of the live API. It assembles the packages below
// it and has the rest itself: connections, drains and checks.
//
//	r := registry.New(set, "replica-0", use.Config{Objects: cache, Authorizer: authorizer})
//	group.VersionedResourcesStorageMap["v1alpha1"] = r.Storage()
//	...
//	r.Wait(ctx) // after the last request was accepted
//
// Nothing is stored: every request asks the pools for their connections.
//
// Trade-offs: a connection is found by its name by looking at all connections of its
// namespace, which is cheaper than a map that has to follow every change.
package registry

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/audit"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/exec"
	"github.com/connpool/connpool/internal/registry/forward"
	"github.com/connpool/connpool/internal/registry/proxy"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/session"
	"github.com/connpool/connpool/internal/registry/use"
)

// Registry is the storage of the live API. It is safe for concurrent use.
type Registry struct {
	pools    *poolset.Set
	replica  string
	gate     *use.Gate
	commands *exec.Commands
	sessions *session.Sessions
}

// New makes a registry of the pools of the replica. config says how they are used, but for
// its Pools. New panics when a required collaborator is missing.
func New(pools *poolset.Set, replica string, config use.Config) *Registry {
	if pools == nil || config.Objects == nil || config.Authorizer == nil {
		panic("registry: pools, Objects and Authorizer are required")
	}
	config.Pools = pools
	gate := use.NewGate(config)
	return &Registry{pools: pools, replica: replica, gate: gate, commands: exec.NewCommands(gate.Memory), sessions: session.New(gate)}
}

// Storage returns the resources by their paths.
func (r *Registry) Storage() map[string]rest.Storage {
	return map[string]rest.Storage{
		"connections": &connections{
			Resource: connectionResource, pools: r.pools, objects: r.gate.Config.Objects, replica: r.replica,
		},
		"uses":                        &uses{Resource: useResource, history: r.gate.History, replica: r.replica},
		"connections/drain":           &action{&live.Drain{}, r.drainConnection},
		"connectionpools":             &subresourceParent{singular: "connectionpool", kind: "ConnectionPool", sample: &live.Exec{}},
		"connectionpools/drain":       &action{&live.Drain{}, r.drainPool},
		"connectionpools/exec":        r.commands.Storage(exec.InPools(r.gate)),
		"connectionpools/portforward": forward.New(r.gate),
		"connectionpools/proxy":       proxy.New(r.gate),
		"connectiontargets":           &subresourceParent{singular: "connectiontarget", kind: "ConnectionTarget", sample: &live.Check{}},
		"connectiontargets/check":     &action{&live.Check{}, r.check},
		"sessions":                    r.sessions,
		"sessions/exec":               r.commands.Storage(r.sessions.AdmitCommand),
	}
}

// Wait ends sessions, busy ones after what they run now, and returns nil once nothing is
// used any more. When ctx ends first, it ends what is left and returns the error of ctx.
func (r *Registry) Wait(ctx context.Context) error {
	r.sessions.EndWhenIdle()
	select {
	case <-r.gate.Idle():
		return nil
	case <-ctx.Done():
	}
	r.gate.Cancel()
	<-r.gate.Idle()
	return ctx.Err()
}

// Relieve frees about that many bytes by cutting outputs that clients do not read, and
// returns how many outputs it has cut.
func (r *Registry) Relieve(bytes int64) int { return r.gate.Deliveries.Relieve(bytes) }

// AwaitOutput waits until there is an output on its way to a client. It fails when ctx ends.
func (r *Registry) AwaitOutput(ctx context.Context) error { return r.gate.Deliveries.Await(ctx) }

// subresourceParent is the parent of subresources; its objects are custom resources.
type subresourceParent struct {
	singular, kind string
	// sample has a type that the live API knows; no request creates one.
	sample runtime.Object
}

var _ rest.KindProvider = (*subresourceParent)(nil)

// New implements rest.Storage.
func (p *subresourceParent) New() runtime.Object { return p.sample.DeepCopyObject() }

// Destroy implements rest.Storage.
func (*subresourceParent) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (*subresourceParent) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (p *subresourceParent) GetSingularName() string { return p.singular }

// Kind implements rest.KindProvider.
func (p *subresourceParent) Kind() string { return p.kind }

// action is the REST storage of a subresource that acts at once on what has its name.
type action struct {
	// sample has the type of its requests.
	sample runtime.Object
	act    func(ctx context.Context, name string) (runtime.Object, error)
}

var _ rest.NamedCreater = (*action)(nil)

// New implements rest.Storage.
func (a *action) New() runtime.Object { return a.sample.DeepCopyObject() }

// Destroy implements rest.Storage.
func (*action) Destroy() {}

// Create implements rest.NamedCreater.
func (a *action) Create(
	ctx context.Context, name string, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions,
) (runtime.Object, error) {
	if err := refusal.RunAdmission(ctx, object, validate, options); err != nil {
		return nil, err
	}
	return a.act(ctx, name)
}

// drainConnection recycles a connection: it serves until its successor is warm.
func (r *Registry) drainConnection(ctx context.Context, name string) (runtime.Object, error) {
	c, err := find(ctx, r.pools, name)
	if err != nil {
		return nil, err
	}
	count := 0 // it stays 0 if the connection drains already
	if r.pools.Recycle(c.Pool.UID, c.Target.UID, c.ID) {
		count = 1
	}
	return r.drained(ctx, "connections/drain", name, count), nil
}

func (r *Registry) drainPool(ctx context.Context, name string) (runtime.Object, error) {
	pool, err := r.gate.Config.Objects.Pool(ctx, request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, refusal.Unread(err, "connectionpools", name, "the pool")
	}
	return r.drained(ctx, "connectionpools/drain", name, r.pools.RecyclePool(string(pool.UID))), nil
}

// drained writes an audit line and returns the answer.
func (r *Registry) drained(ctx context.Context, resource, name string, count int) *live.Drain {
	namespace := request.NamespaceValue(ctx)
	r.gate.Config.Audit.Info("drained", append(audit.UserOf(ctx), "namespace", audit.Name(namespace),
		"resource", resource, "name", audit.Name(name), "requestID", audit.Name(audit.RequestIDOf(ctx)), "connections", count)...)
	return &live.Drain{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Drain"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Status:     live.DrainStatus{Connections: int32(count)},
	}
}

// stageCredentials passes if the declared target and its credentials can be used.
const stageCredentials = "credentials"

// check dials a target once and reports stage by stage.
func (r *Registry) check(ctx context.Context, name string) (runtime.Object, error) {
	target, err := r.gate.Config.Objects.Target(ctx, request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, refusal.Unread(err, "connectiontargets", name, "the target")
	}
	checked := &live.Check{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Check"},
		ObjectMeta: metav1.ObjectMeta{Namespace: target.Namespace, Name: target.Name},
	}
	found, err := r.pools.Check(ctx, string(target.UID))
	switch {
	case errors.Is(err, poolset.ErrUnknownTarget):
		checked.Status = declared(r.pools.Problem(string(target.UID)))
	case err != nil:
		return nil, refusal.New(refusal.Unavailable, "the check did not come to its end: "+driver.AsError(err).Error())
	default:
		checked.Status = statusOf(found)
	}
	return checked, nil
}

func statusOf(found poolset.Check) live.CheckStatus {
	status := live.CheckStatus{
		Ready: len(found.Stages) > 0, ServerVersion: found.Info.ServerVersion, RemoteAddress: found.Info.RemoteAddress,
	}
	if len(found.Stages) == 0 || found.Stages[0].Stage != driver.StagePrepare {
		status.Stages = append(status.Stages, live.CheckStage{Name: stageCredentials, Passed: true})
	}
	for _, stage := range found.Stages {
		status.Ready = status.Ready && stage.Err == nil
		status.Stages = append(status.Stages, stageOf(stage))
	}
	return status
}

func stageOf(found poolset.CheckStage) live.CheckStage {
	stage := live.CheckStage{
		Name: string(found.Stage), Passed: found.Err == nil,
		DurationMicroseconds: found.Duration.Microseconds(), Message: found.Found,
	}
	if found.Stage == driver.StagePrepare {
		stage.Name = stageCredentials
	}
	if found.Err != nil {
		stage.Reason, stage.Message = string(found.Err.Reason), found.Err.Message
	}
	return stage
}

// declared returns why there is nothing to dial: the problem, if it is known.
func declared(problem *driver.Error) live.CheckStatus {
	stage := live.CheckStage{
		Name: stageCredentials, Reason: v1alpha1.ReasonPending,
		Message: "the operator has not prepared the target yet; try again",
	}
	if problem != nil {
		stage.Reason, stage.Message = string(problem.Reason), problem.Message
	}
	return live.CheckStatus{Stages: []live.CheckStage{stage}}
}
