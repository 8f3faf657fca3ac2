package use

import (
	"context"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/refusal"
)

const (
	// RecheckPeriod is how often the permission of a use is checked while it lasts. With the
	// authorizer's cache of 10 s, a use ends within 45 s after its user has lost it.
	RecheckPeriod  = 15 * time.Second
	recheckTimeout = 10 * time.Second
)

// permissionFor is create on the exact subresource, whatever the HTTP method.
func permissionFor(ctx context.Context, resource, name, subresource string) authorizer.AttributesRecord {
	attributes := authorizer.AttributesRecord{
		Verb: "create", Namespace: request.NamespaceValue(ctx),
		APIGroup: live.GroupVersion.Group, APIVersion: live.GroupVersion.Version,
		Resource: resource, Subresource: subresource, Name: name,
		ResourceRequest: true,
	}
	attributes.User, _ = request.UserFrom(ctx)
	if info, ok := request.RequestInfoFrom(ctx); ok {
		attributes.Path = info.Path
	}
	return attributes
}

// Authorize checks that the user may create the subresource of an object, and returns
// that permission. It fails closed: an authorizer that cannot be asked permits nothing.
func (g *Gate) Authorize(ctx context.Context, resource, name, subresource string) (authorizer.AttributesRecord, error) {
	wanted := permissionFor(ctx, resource, name, subresource)
	if wanted.User == nil {
		return wanted, apierrors.NewUnauthorized("the request has no user")
	}
	decision, reason, err := g.Config.Authorizer.Authorize(ctx, wanted)
	switch {
	case decision == authorizer.DecisionAllow:
		return wanted, nil
	case err != nil:
		return wanted, refusal.NotStarted(refusal.Unavailable, "", "the operator cannot find out now whether this is permitted; try again")
	default:
		return wanted, responsewriters.ForbiddenStatusError(wanted, reason)
	}
}

// Require checks one more permission, in the namespace of the pool, without which the use
// may not begin, nor go on. The context of an HTTP request has the user, but no namespace.
func (u *Use) Require(ctx context.Context, resource, name, subresource string) error {
	required, err := u.Gate.Authorize(request.WithNamespace(ctx, u.PoolName.Namespace), resource, name, subresource)
	if err == nil {
		u.required = append(u.required, required)
	}
	return err
}

// Watch returns a context that ends when the user loses a permission of the use, with
// ErrRevoked, or when the gate cancels all uses, with ErrShutdown. An authorizer that
// cannot decide ends nothing. stop must be called.
func (u *Use) Watch(ctx context.Context) (watched context.Context, stop func()) {
	if u.watched != nil {
		return u.watchWhole(ctx)
	}
	watched, end := context.WithCancelCause(ctx)
	go func() {
		ticker := time.NewTicker(RecheckPeriod)
		defer ticker.Stop()
		for {
			select {
			case <-watched.Done():
				return
			case <-u.Gate.Canceled():
				end(ErrShutdown)
				return
			case <-ticker.C:
				if u.revoked(watched) {
					end(ErrRevoked)
				}
			}
		}
	}()
	return watched, func() { end(context.Canceled) }
}

func (u *Use) revoked(ctx context.Context) bool {
	return u.Gate.revoked(ctx, u.permission) ||
		slices.ContainsFunc(u.required, func(more authorizer.AttributesRecord) bool { return u.Gate.revoked(ctx, more) })
}

func (g *Gate) revoked(ctx context.Context, permission authorizer.AttributesRecord) bool {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	decision, _, err := g.Config.Authorizer.Authorize(ctx, permission)
	return decision != authorizer.DecisionAllow && err == nil
}
