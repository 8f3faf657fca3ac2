package use

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/figures"
)

// Part returns the use of one target by a request that uses many: with the same user,
// permission and pool, and with its own audit lines, history and figures. It has a span if
// traced is true. watched is the context that Watch of the whole has returned, so that the
// permission is checked for all parts at once. End must be called.
func (u *Use) Part(watched context.Context, target string, traced bool) *Use {
	part := &Use{
		Gate: u.Gate, PoolName: u.PoolName, Target: target, Place: u.Place, Transport: u.Transport,
		RequestID: u.RequestID, AuditID: u.AuditID, admitted: true, permission: u.permission, pool: u.pool, watched: watched,
		Figures: figures.New(u.Gate.Config.Meter, u.PoolName.Namespace, u.PoolName.Name),
	}
	part.Figures.Accepted()
	if traced {
		part.Span = u.Span.Child("connpool.target")
	}
	return part
}

// End ends a part, also one that has panicked.
func (u *Use) End() {
	u.recordLost()
	u.EndSpan()
}

// watchWhole returns a context that ends with the whole of which the use is a part.
func (u *Use) watchWhole(ctx context.Context) (watched context.Context, stop func()) {
	watched, end := context.WithCancelCause(ctx)
	if u.watched.Err() != nil {
		end(context.Cause(u.watched))
	}
	detach := context.AfterFunc(u.watched, func() { end(context.Cause(u.watched)) })
	return watched, func() {
		detach()
		end(context.Canceled)
	}
}

// NotInPool refuses a target that the pool does not have, without the names of others.
func (u *Use) NotInPool(target string) error {
	refused := apierrors.NewNotFound(live.Resource("connectiontargets"), driver.Sanitize(target))
	refused.ErrStatus.Message = "pool " + u.PoolName.Name + " has no target \"" + driver.Sanitize(target) + "\""
	return refused
}
