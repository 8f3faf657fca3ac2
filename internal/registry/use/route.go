package use

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// Route is the declared pool, and the target if the request names one.
type Route struct {
	pool *v1alpha1.ConnectionPool
	// target is nil when the request names none.
	target *v1alpha1.ConnectionTarget
	// field of the request that names the target.
	field   *field.Path
	objects Objects
	pools   Pools
	// user tells those who wait for a connection apart.
	user string
	// Spread is that of the requests of the route.
	Spread bool
}

// Fit returns what of a request does not fit a target, mostly the target's type.
type Fit func(*v1alpha1.ConnectionTarget) field.ErrorList

// Request returns the route as the pools take it.
func (r Route) Request() poolset.Request {
	request := poolset.Request{Pool: string(r.pool.UID), User: r.user, Spread: r.Spread}
	if r.target != nil {
		request.Target = string(r.target.UID)
	}
	return request
}

func routesToAny(pool *v1alpha1.ConnectionPool) bool {
	return pool.Spec.Routing != nil && *pool.Spec.Routing == v1alpha1.RoutingLeastLoaded
}

// onlyTarget returns the only target that the request can mean; nil when it is not known.
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

// fitsChosen refuses the target that the pools have chosen if the request does not fit it.
func (u *Use) fitsChosen(ctx context.Context, r Route, chosen poolset.Ref, fits Fit) error {
	target, err := r.objects.Target(ctx, r.pool.Namespace, chosen.Name)
	if err != nil || string(target.UID) != chosen.UID {
		return refusal.NotStarted(refusal.Unavailable, "", fmt.Sprintf(
			"target %s was deleted or cannot be read now; try again", chosen.Name))
	}
	u.Figures.On(string(target.Spec.Type()))
	if problems := fits(target); len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	return nil
}
