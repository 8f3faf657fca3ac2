package registry

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
)

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

type actions struct {
	pools  *poolset.Set
	config use.Config
}

// drainConnection replaces a connection, then retires it when it is unused.
func (a *actions) drainConnection(ctx context.Context, name string) (runtime.Object, error) {
	c, err := find(ctx, a.pools, name)
	if err != nil {
		return nil, err
	}
	count := 0 // it stays 0 if the connection drains already
	if a.pools.Recycle(c.Pool.UID, c.Target.UID, c.ID) {
		count = 1
	}
	return a.drained(ctx, "connections/drain", name, count), nil
}

// drainPool drains all connections of a pool.
func (a *actions) drainPool(ctx context.Context, name string) (runtime.Object, error) {
	pool, err := a.config.Objects.Pool(ctx, request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, refusal.Unread(err, "connectionpools", name, "the pool")
	}
	return a.drained(ctx, "connectionpools/drain", name, a.pools.RecyclePool(string(pool.UID))), nil
}

// drained writes an audit line and returns the answer.
func (a *actions) drained(ctx context.Context, resource, name string, count int) *live.Drain {
	namespace := request.NamespaceValue(ctx)
	a.config.Audit.Info("drained", "user", driver.Sanitize(use.UserOf(ctx)), "namespace", driver.Sanitize(namespace),
		"resource", resource, "name", driver.Sanitize(name), "requestID", use.RequestIDOf(ctx), "connections", count)
	return &live.Drain{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Drain"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Status:     live.DrainStatus{Connections: int32(count)},
	}
}

// stageCredentials passes if the declared target and its credentials can be used.
const stageCredentials = "credentials"

// check dials a target once and reports stage by stage.
func (a *actions) check(ctx context.Context, name string) (runtime.Object, error) {
	target, err := a.config.Objects.Target(ctx, request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, refusal.Unread(err, "connectiontargets", name, "the target")
	}
	checked := &live.Check{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Check"},
		ObjectMeta: metav1.ObjectMeta{Namespace: target.Namespace, Name: target.Name},
	}
	found, err := a.pools.Check(ctx, string(target.UID))
	switch {
	case errors.Is(err, poolset.ErrUnknownTarget):
		checked.Status = declared(target)
	case err != nil:
		return nil, refusal.New(refusal.Unavailable, "the check did not come to its end: "+driver.AsError(err).Error())
	default:
		checked.Status = statusOf(found)
	}
	return checked, nil
}

// statusOf puts the stages of a dial into the words of the API.
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

// declared returns why there is nothing to dial, from the target's conditions.
func declared(target *v1alpha1.ConnectionTarget) live.CheckStatus {
	stage := live.CheckStage{
		Name: stageCredentials, Reason: v1alpha1.ReasonPending,
		Message: "the operator has not prepared the target yet; try again",
	}
	if ready := meta.FindStatusCondition(target.Status.Conditions, v1alpha1.ConditionReady); use.Unready(ready) {
		stage.Reason, stage.Message = ready.Reason, ready.Message
	}
	return live.CheckStatus{Stages: []live.CheckStage{stage}}
}
