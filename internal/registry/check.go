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

// stageCredentials comes before every dial: it passes if the declared target and its
// credentials can be used.
const stageCredentials = "credentials"

// check dials a target once and reports stage by stage.
type check struct {
	pools   Pools
	objects Objects
}

var _ rest.NamedCreater = (*check)(nil)

func (*check) New() runtime.Object { return &live.Check{} }

func (*check) Destroy() {}

func (s *check) Create(
	ctx context.Context, name string, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions,
) (runtime.Object, error) {
	if err := refusal.RunAdmission(ctx, object, validate, options); err != nil {
		return nil, err
	}
	target, err := s.objects.Target(ctx, request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, refusal.Unread(err, "connectiontargets", name, "the target")
	}
	status, err := s.check(ctx, target)
	if err != nil {
		return nil, err
	}
	return &live.Check{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Check"},
		ObjectMeta: metav1.ObjectMeta{Namespace: target.Namespace, Name: target.Name},
		Status:     status,
	}, nil
}

func (s *check) check(ctx context.Context, target *v1alpha1.ConnectionTarget) (live.CheckStatus, error) {
	found, err := s.pools.Check(ctx, string(target.UID))
	switch {
	case errors.Is(err, poolset.ErrUnknownTarget):
		return declared(target), nil
	case err != nil:
		failure := driver.AsError(err)
		return live.CheckStatus{}, refusal.New(refusal.Unavailable, "the check did not come to its end: "+failure.Error())
	}
	return statusOf(found), nil
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

// declared returns from the target's conditions why there is nothing to dial: the
// pools have only targets that can be used.
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
