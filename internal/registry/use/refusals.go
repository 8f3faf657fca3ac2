package use

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// refuse words an error of the pools, which return bare errors, for the client.
func (r Route) refuse(ctx context.Context, err error) *apierrors.StatusError {
	switch {
	case errors.Is(err, poolset.ErrUnknownPool), errors.Is(err, poolset.ErrUnknownTarget):
		return r.absent(ctx)
	case errors.Is(err, connpool.ErrPaused):
		return refusal.NotStarted(refusal.Unavailable, v1alpha1.ReasonPaused, fmt.Sprintf(
			"pool %s is paused; set its state to Active", r.pool.Name))
	case errors.Is(err, connpool.ErrGaveWay):
		return refusal.NotStarted(refusal.TooManyRequests, v1alpha1.ReasonPoolExhausted, fmt.Sprintf(
			"most requests that wait for pool %s are yours, no more may wait, and the latest of yours has made room for another user; "+
				"send fewer at once, or raise its acquire.maxPending, which is %d, or its %s",
			r.pool.Name, ptr.Deref(r.pool.Spec.Acquire.MaxPending, v1alpha1.DefaultMaxPending), r.moreUses(ctx)))
	case errors.Is(err, connpool.ErrQueueFull):
		return refusal.NotStarted(refusal.TooManyRequests, v1alpha1.ReasonPoolExhausted, fmt.Sprintf(
			"too many requests wait for pool %s already; try again later, or raise its acquire.maxPending, which is %d, "+
				"to the number of requests that come at once, or its %s",
			r.pool.Name, ptr.Deref(r.pool.Spec.Acquire.MaxPending, v1alpha1.DefaultMaxPending), r.moreUses(ctx)))
	case errors.Is(err, connpool.ErrExhausted):
		return refusal.NotStarted(refusal.TooManyRequests, v1alpha1.ReasonPoolExhausted, fmt.Sprintf(
			"every connection that pool %s may have is in use, and none became free in time; try again later, or raise its %s",
			r.pool.Name, r.moreUses(ctx)))
	}
	return r.down(err)
}

// moreUses names the field of the pool that lets more uses run at the same time, and what
// it would have to be for twice as many. An sshd bounds the sessions of a connection, so
// only more connections help there.
func (r Route) moreUses(ctx context.Context) string {
	connections := ptr.Deref(r.pool.Spec.Size.Max, v1alpha1.DefaultMaxConnections)
	target := r.onlyTarget(ctx)
	if target == nil || target.Spec.Type() == v1alpha1.TargetTypeSSH {
		return fmt.Sprintf("size.max, which is %d, to %d", connections, 2*connections)
	}
	uses := r.pool.Spec.SessionsOn(target.Spec.Type())
	return fmt.Sprintf("sessionsPerConnection, which is %d on each of %d connections, to %d", uses, connections, 2*uses)
}

// down says that there is a pool for the target, and no connection.
func (r Route) down(err error) *apierrors.StatusError {
	subject := r.subject()
	failure, ok := errors.AsType[*driver.Error](err)
	switch {
	case ok:
		return refusal.NotStarted(refusal.Unavailable, string(failure.Reason), fmt.Sprintf(
			"%s cannot be reached: %s", subject, failure.Error()))
	case errors.Is(err, connpool.ErrDialPending), errors.Is(err, context.DeadlineExceeded):
		return refusal.NotStarted(refusal.Unavailable, v1alpha1.ReasonTimeout, subject+" is still being dialed; try again")
	default:
		return refusal.NotStarted(refusal.Unavailable, "", subject+" gave no connection before the request or the pool ended; try again")
	}
}

func (r Route) subject() string {
	switch {
	case r.target != nil:
		return "target " + r.target.Name
	case r.pool.Spec.TargetRef != nil:
		return "target " + r.pool.Spec.TargetRef.Name
	default:
		return "pool " + r.pool.Name
	}
}

// Failure returns the error of a command on a lease of the route in the words of the API.
// When a server refuses one more channel, the pools acquire another lease; if they refuse
// that, the error has no reason and wraps theirs. All other errors are returned as they are.
func (r Route) Failure(ctx context.Context, err error) error {
	failure, ok := errors.AsType[*driver.Error](err)
	if !ok || failure.Started || failure.Reason != "" || failure.Err == nil {
		return err
	}
	refused := r.refuse(ctx, failure.Err)
	return &driver.Error{Reason: reasonIn(refused), Message: refused.ErrStatus.Message, Err: err}
}

// reasonIn returns the reason that a refusal gives to clients; empty if it gives none.
func reasonIn(err error) driver.Reason {
	cause, _ := apierrors.StatusCause(err, live.CauseReason)
	return driver.Reason(cause.Message)
}

// ambiguous lists the targets of which the request must name one.
func (r Route) ambiguous(ctx context.Context) *apierrors.StatusError {
	message := fmt.Sprintf("pool %s may have several targets; name one, or set its routing to LeastLoaded", r.pool.Name)
	if names := r.members(ctx); len(names) > 0 {
		message += "; it has " + refusal.List(names, 10)
	}
	return refusal.Invalid(field.ErrorList{field.Required(r.field, message)})
}

// members returns the names of the targets that the pool selects, in order.
func (r Route) members(ctx context.Context) (names []string) {
	targets, _ := r.selected(ctx)
	for i := range targets {
		names = append(names, targets[i].Name)
	}
	return names
}

// selected returns the targets that the pool selects, in the order of their names.
func (r Route) selected(ctx context.Context) ([]v1alpha1.ConnectionTarget, error) {
	return membersOf(ctx, r.objects, r.pool)
}

// absent says why the pools lack what is declared: they have only what can be used. It
// says what is known now, and not what a status says, which is written later.
func (r Route) absent(ctx context.Context) *apierrors.StatusError {
	if target := r.onlyTarget(ctx); target != nil {
		if problem := r.pools.Problem(string(target.UID)); problem != nil {
			return notReady("target "+target.Name, string(problem.Reason), problem.Message)
		}
		return r.pending()
	}
	selected, err := r.selected(ctx)
	if err == nil && len(selected) == 0 {
		reason, message := r.pool.WithoutTargets()
		return notReady("pool "+r.pool.Name, reason, message)
	}
	for i := range selected {
		if problem := r.pools.Problem(string(selected[i].UID)); problem != nil {
			return notReady("pool "+r.pool.Name, v1alpha1.ReasonTargetsFailing, fmt.Sprintf(
				"none of its targets can be used; for example, %s: %s: %s", selected[i].Name, problem.Reason, problem.Message))
		}
	}
	return r.pending()
}

func (r Route) pending() *apierrors.StatusError {
	return refusal.NotStarted(refusal.Unavailable, v1alpha1.ReasonPending, fmt.Sprintf(
		"the operator has not made the connections of pool %s yet; try again", r.pool.Name))
}

// notInPool refuses a target that the pool does not select, in the same words whether it
// exists or not: that is no matter of a user who may use this pool.
func (r Route) notInPool(ctx context.Context, name string) *apierrors.StatusError {
	refused := apierrors.NewNotFound(v1alpha1.Resource("connectiontargets"), driver.Sanitize(name))
	refused.ErrStatus.Message = fmt.Sprintf("pool %s has no target %q", r.pool.Name, driver.Sanitize(name))
	if names := r.members(ctx); len(names) > 0 {
		refused.ErrStatus.Message += "; it has " + refusal.List(names, 10)
	}
	return refused
}

func notReady(subject, reason, message string) *apierrors.StatusError {
	return refusal.NotStarted(refusal.Unavailable, reason, fmt.Sprintf("%s is not ready: %s: %s", subject, reason, message))
}
