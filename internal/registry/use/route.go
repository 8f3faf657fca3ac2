package use

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// Route is the declared pool, and the declared target if the request names one, that
// a request wants to use.
type Route struct {
	pool *v1alpha1.ConnectionPool
	// target is nil when the request names none.
	target *v1alpha1.ConnectionTarget
	// field of the request that names the target.
	field   *field.Path
	objects Objects
}

// Fit returns what of a request does not fit a target, mostly the target's type.
type Fit func(*v1alpha1.ConnectionTarget) field.ErrorList

// Request returns the route as the pools take it.
func (r Route) Request() poolset.Request {
	request := poolset.Request{Pool: string(r.pool.UID)}
	if r.target != nil {
		request.Target = string(r.target.UID)
	}
	return request
}

// Pool reads the declared pool, once.
func (u *Use) Pool(ctx context.Context) (*v1alpha1.ConnectionPool, error) {
	if u.pool != nil {
		return u.pool, nil
	}
	pool, err := u.Gate.Config.Objects.Pool(ctx, u.PoolName.Namespace, u.PoolName.Name)
	if err != nil {
		return nil, refusal.Unread(err, "connectionpools", u.PoolName.Name, "the pool")
	}
	u.pool = pool
	return pool, nil
}

// Route finds the pool, and the target that the request names in a field.
func (u *Use) Route(ctx context.Context, at *field.Path, target string) (Route, error) {
	pool, err := u.Pool(ctx)
	if err != nil {
		return Route{}, err
	}
	u.Target = target
	to := Route{pool: pool, field: at, objects: u.Gate.Config.Objects}
	if target == "" {
		if pool.Spec.TargetRef == nil && !routesToAny(pool) {
			return to, to.ambiguous(ctx)
		}
		return to, nil
	}
	to.target, err = to.objects.Target(ctx, pool.Namespace, target)
	if err != nil {
		return to, refusal.Unread(err, "connectiontargets", driver.Sanitize(target), "the target")
	}
	return to, nil
}

func routesToAny(pool *v1alpha1.ConnectionPool) bool {
	return pool.Spec.Routing != nil && *pool.Spec.Routing == v1alpha1.RoutingLeastLoaded
}

// Lease leases a connection to a target that the request fits. A request that does
// not fit is refused before the lease when it or the pool names the target, and after
// it when the pools have chosen one.
func (u *Use) Lease(ctx context.Context, to Route, fits Fit) (poolset.Lease, error) {
	target := to.onlyTarget(ctx)
	if target != nil {
		if problems := fits(target); len(problems) > 0 {
			if !to.pool.Selects(target) {
				return poolset.Lease{}, to.absent(ctx)
			}
			return poolset.Lease{}, refusal.Invalid(problems)
		}
	}
	lease, err := u.Gate.Config.Pools.Acquire(ctx, to.Request())
	if err != nil {
		return poolset.Lease{}, to.refuse(ctx, err)
	}
	u.Target = lease.Target.Name
	if target == nil {
		if err := to.fitsChosen(ctx, lease.Target, fits); err != nil {
			lease.Release()
			return poolset.Lease{}, err
		}
	}
	return lease, nil
}

// onlyTarget returns the only target that the request can mean; nil when there are
// several, or when it cannot be read.
func (r Route) onlyTarget(ctx context.Context) *v1alpha1.ConnectionTarget {
	ref := r.pool.Spec.TargetRef
	if r.target != nil || ref == nil {
		return r.target
	}
	target, err := r.objects.Target(ctx, r.pool.Namespace, ref.Name)
	if err != nil {
		return nil
	}
	return target
}

// fitsChosen refuses the target that the pools have chosen if the request does not
// fit it.
func (r Route) fitsChosen(ctx context.Context, chosen poolset.Ref, fits Fit) error {
	target, err := r.objects.Target(ctx, r.pool.Namespace, chosen.Name)
	if err != nil || string(target.UID) != chosen.UID {
		return refusal.NotStarted(refusal.Unavailable, "", fmt.Sprintf(
			"target %s was deleted or cannot be read now; try again", chosen.Name))
	}
	if problems := fits(target); len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	return nil
}
