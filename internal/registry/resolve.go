package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// route is where a request wants to go, as declared.
type route struct {
	pool *v1alpha1.ConnectionPool
	// target is nil when the request names none.
	target *v1alpha1.ConnectionTarget
	// field of the request that names the target.
	field *field.Path
}

// request says the same in the pools' words.
func (r route) request() poolset.Request {
	request := poolset.Request{Pool: string(r.pool.UID)}
	if r.target != nil {
		request.Target = string(r.target.UID)
	}
	return request
}

// subject is what a message is about.
func (r route) subject() string {
	switch {
	case r.target != nil:
		return "target " + r.target.Name
	case r.pool.Spec.TargetRef != nil:
		return "target " + r.pool.Spec.TargetRef.Name
	default:
		return "pool " + r.pool.Name
	}
}

// poolObject reads the declared pool.
func (c *call) poolObject(ctx context.Context) (*v1alpha1.ConnectionPool, error) {
	pool, err := c.Objects.Pool(ctx, c.pool.namespace, c.pool.name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, notFound("connectionpools", c.pool.name)
	case err != nil:
		return nil, unreadable("the pool")
	}
	return pool, nil
}

// route finds the target that the request names in a field.
func (c *call) route(ctx context.Context, pool *v1alpha1.ConnectionPool, at *field.Path, target string) (route, error) {
	c.target = target
	to := route{pool: pool, field: at}
	if target == "" {
		if pool.Spec.TargetRef == nil && !routesToAny(pool) {
			return to, c.ambiguous(ctx, to)
		}
		return to, nil
	}
	var err error
	to.target, err = c.Objects.Target(ctx, c.pool.namespace, target)
	switch {
	case apierrors.IsNotFound(err):
		return to, notFound("connectiontargets", plain(target))
	case err != nil:
		return to, unreadable("the target")
	}
	return to, nil
}

func routesToAny(pool *v1alpha1.ConnectionPool) bool {
	return pool.Spec.Routing != nil && *pool.Spec.Routing == v1alpha1.RoutingLeastLoaded
}

// acquire leases a connection; its error says why there is none.
func (c *call) acquire(ctx context.Context, to route) (poolset.Lease, error) {
	lease, err := c.Pools.Acquire(ctx, to.request())
	if err != nil {
		return lease, c.explain(ctx, to, err)
	}
	c.target = lease.Target.Name
	return lease, nil
}

// explain puts a refusal of the pools into the words of HTTP.
func (c *call) explain(ctx context.Context, to route, err error) error {
	switch {
	case errors.Is(err, poolset.ErrTargetRequired):
		return c.ambiguous(ctx, to)
	case errors.Is(err, poolset.ErrUnknownPool), errors.Is(err, poolset.ErrUnknownTarget):
		return c.absent(ctx, to)
	case errors.Is(err, connpool.ErrPaused):
		return refusedBeforeStart(unavailable, v1alpha1.ReasonPaused,
			fmt.Sprintf("pool %s is paused; set its state to Active", c.pool.name))
	case errors.Is(err, connpool.ErrQueueFull):
		return refusedBeforeStart(tooManyRequests, v1alpha1.ReasonPoolExhausted, fmt.Sprintf(
			"too many requests wait for pool %s already; try again later, or raise its acquire.maxPending or size.max", c.pool.name))
	case errors.Is(err, connpool.ErrExhausted):
		return refusedBeforeStart(tooManyRequests, v1alpha1.ReasonPoolExhausted, fmt.Sprintf(
			"every session of pool %s is in use and none became free in time; try again later, or raise its size.max", c.pool.name))
	}
	return c.down(to, err)
}

// down says that there is a pool for the target, and no connection.
func (c *call) down(to route, err error) error {
	subject := to.subject()
	failure, ok := errors.AsType[*driver.Error](err)
	switch {
	case ok:
		return refusedBeforeStart(unavailable, string(failure.Reason), fmt.Sprintf(
			"%s cannot be reached: %s", subject, failure.Error()))
	case errors.Is(err, connpool.ErrDialPending), errors.Is(err, context.DeadlineExceeded):
		return refusedBeforeStart(unavailable, v1alpha1.ReasonTimeout, subject+" is still being dialed; try again")
	default:
		return refusedBeforeStart(unavailable, "", subject+" gave no connection before the request or the pool ended; try again")
	}
}

// ambiguous lists the targets of which the request must name one.
func (c *call) ambiguous(ctx context.Context, to route) error {
	message := fmt.Sprintf("pool %s may have several targets; name one, or set its routing to LeastLoaded", c.pool.name)
	if names := c.members(ctx, to.pool); len(names) > 0 {
		message += "; it has " + list(names, 10)
	}
	return invalid(field.ErrorList{field.Required(to.field, message)})
}

// members are the names of the targets that a pool selects, in order.
func (c *call) members(ctx context.Context, pool *v1alpha1.ConnectionPool) (names []string) {
	targets, err := c.Objects.Targets(ctx, c.pool.namespace)
	if err != nil {
		return nil
	}
	for i := range targets {
		if pool.Selects(&targets[i]) {
			names = append(names, targets[i].Name)
		}
	}
	slices.Sort(names)
	return names
}

// absent says why the pools do not know what is declared: they know only what
// can be used.
func (c *call) absent(ctx context.Context, to route) error {
	if to.target != nil && !to.pool.Selects(to.target) {
		return c.notInPool(ctx, to)
	}
	target := to.target
	if ref := to.pool.Spec.TargetRef; target == nil && ref != nil {
		// A target that cannot be read leaves the pool's own words.
		target, _ = c.Objects.Target(ctx, c.pool.namespace, ref.Name)
	}
	if target != nil {
		if ready := meta.FindStatusCondition(target.Status.Conditions, v1alpha1.ConditionReady); unready(ready) {
			return notReady("target "+target.Name, ready)
		}
	}
	if ready := meta.FindStatusCondition(to.pool.Status.Conditions, v1alpha1.ConditionReady); unready(ready) {
		return notReady("pool "+to.pool.Name, ready)
	}
	return refusedBeforeStart(unavailable, v1alpha1.ReasonPending, fmt.Sprintf(
		"the operator has not made the connections of pool %s yet; try again", c.pool.name))
}

func (c *call) notInPool(ctx context.Context, to route) error {
	message := "the target is not of pool " + c.pool.name
	if names := c.members(ctx, to.pool); len(names) > 0 {
		message += ", which has " + list(names, 10)
	}
	return invalid(field.ErrorList{field.Invalid(to.field, to.target.Name, message)})
}

func unready(ready *metav1.Condition) bool {
	return ready != nil && ready.Status != metav1.ConditionTrue
}

func notReady(subject string, ready *metav1.Condition) error {
	return refusedBeforeStart(unavailable, ready.Reason, fmt.Sprintf("%s is not ready: %s: %s", subject, ready.Reason, ready.Message))
}
