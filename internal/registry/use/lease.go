package use

import (
	"context"
	"errors"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/natural"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/naming"
	"github.com/connpool/connpool/internal/registry/refusal"
)

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

// Members returns the targets that the pool selects, by name. The cache owns them.
func (u *Use) Members(ctx context.Context) ([]v1alpha1.ConnectionTarget, error) {
	pool, err := u.Pool(ctx)
	if err != nil {
		return nil, err
	}
	targets, err := membersOf(ctx, u.Gate.Config.Objects, pool)
	if err != nil {
		return nil, refusal.Unread(err, "connectiontargets", "", "the targets")
	}
	return targets, nil
}

func membersOf(ctx context.Context, objects Objects, pool *v1alpha1.ConnectionPool) ([]v1alpha1.ConnectionTarget, error) {
	targets, err := objects.Targets(ctx, pool.Namespace)
	if err != nil {
		return nil, err
	}
	targets = slices.DeleteFunc(targets, func(t v1alpha1.ConnectionTarget) bool { return !pool.Matches(&t) })
	slices.SortFunc(targets, func(a, b v1alpha1.ConnectionTarget) int { return natural.Compare(a.Name, b.Name) })
	return targets, nil
}

// Route finds the pool, and the target that the request names in a field.
func (u *Use) Route(ctx context.Context, at *field.Path, target string) (Route, error) {
	pool, err := u.Pool(ctx)
	if err != nil {
		return Route{}, err
	}
	u.Target = target
	to := Route{pool: pool, field: at, objects: u.Gate.Config.Objects, pools: u.Gate.Config.Pools, user: u.UserName()}
	if target == "" {
		if pool.Spec.TargetRef == nil && !routesToAny(pool) {
			return to, to.ambiguous(ctx)
		}
		return to, nil
	}
	to.target, err = to.objects.Target(ctx, pool.Namespace, target)
	switch {
	case apierrors.IsNotFound(err), err == nil && !pool.Matches(to.target):
		return to, to.notInPool(ctx, target)
	case err != nil:
		return to, refusal.Unread(err, "connectiontargets", driver.Sanitize(target), "the target")
	}
	return to, nil
}

// Lease leases a connection to a target that the request fits. A request that does
// not fit is refused before the lease when it or the pool names the target, and after
// it when the pools have chosen one.
func (u *Use) Lease(ctx context.Context, to Route, fits Fit) (poolset.Lease, error) {
	target := to.onlyTarget(ctx)
	if target != nil {
		u.Figures.On(string(target.Spec.Type()))
		if problems := fits(target); len(problems) > 0 {
			return poolset.Lease{}, refusal.Invalid(problems)
		}
	}
	span, began := u.Span.Child("connpool.acquire"), time.Now()
	lease, err := u.Gate.Config.Pools.Acquire(ctx, to.Request())
	if err != nil {
		refused := to.refuse(ctx, err)
		traceRefused(span, errors.Join(refused, err))
		return poolset.Lease{}, refused
	}
	traceAcquired(span, lease)
	u.Figures.Leased(time.Since(began))
	u.Target = lease.Target.Name
	if target == nil {
		if err := u.fitsChosen(ctx, to, lease.Target, fits); err != nil {
			lease.Release()
			return poolset.Lease{}, err
		}
	}
	return lease, nil
}

// LeaseInfo describes a lease of the route.
func (r Route) LeaseInfo(lease poolset.Lease) LeaseInfo {
	return r.LeaseInfoFor(poolset.Execution{
		Target: lease.Target, Connection: lease.ID(), How: lease.How(), Wait: lease.Wait(),
	})
}

// LeaseInfoFor describes the lease of the route on which a command has run.
func (r Route) LeaseInfoFor(ran poolset.Execution) LeaseInfo {
	info := LeaseInfo{
		Target:     ran.Target.Name,
		Connection: naming.Of(poolset.Ref{UID: string(r.pool.UID)}, ran.Target, ran.Connection).Name,
		Acquired:   [...]live.Acquired{live.AcquiredWarm, live.AcquiredQueued, live.AcquiredDialed}[ran.How],
		Wait:       ran.Wait,
	}
	if r.target == nil && r.pool.Spec.TargetRef == nil {
		info.Routing = *r.pool.Spec.Routing // without which the request would have been refused
	}
	return info
}
