package registry

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

const (
	// recheckPeriod is how often the permission for a use that lasts is checked.
	// With the authorizer's cache of 10 s, what is revoked ends within 45 s.
	recheckPeriod = 15 * time.Second
	// recheckTimeout bounds one check.
	recheckTimeout = 10 * time.Second
)

// errRevoked ends what somebody may not do any longer.
var errRevoked = errors.New("the permission was revoked")

// permissionFor is what using a pool needs: create on the exact subresource,
// whatever the HTTP method.
func permissionFor(ctx context.Context, namespace, pool, subresource string) authorizer.AttributesRecord {
	attributes := authorizer.AttributesRecord{
		Verb: "create", Namespace: namespace,
		APIGroup: live.GroupVersion.Group, APIVersion: live.GroupVersion.Version,
		Resource: "connectionpools", Subresource: subresource, Name: pool,
		ResourceRequest: true,
	}
	attributes.User, _ = request.UserFrom(ctx)
	if info, ok := request.RequestInfoFrom(ctx); ok {
		attributes.Path = info.Path
	}
	return attributes
}

// authorize fails closed: who cannot be asked about permits nothing.
func (r *Registry) authorize(ctx context.Context, wanted authorizer.AttributesRecord) error {
	if wanted.User == nil {
		return apierrors.NewUnauthorized("the request has no user")
	}
	decision, reason, err := r.Authorizer.Authorize(ctx, wanted)
	switch {
	case decision == authorizer.DecisionAllow:
		return nil
	case err != nil:
		return refusedBeforeStart(unavailable, "", "whether this is permitted cannot be decided now; try again")
	default:
		return responsewriters.ForbiddenStatusError(wanted, reason)
	}
}

// watch returns a context that ends with the permission, or when what is left is
// cut. Its cause says which. An authorizer that cannot decide ends
// nothing. stop must be called.
func (r *Registry) watch(ctx context.Context, permission authorizer.AttributesRecord) (watched context.Context, stop func()) {
	watched, end := context.WithCancelCause(ctx)
	go func() {
		ticker := time.NewTicker(recheckPeriod)
		defer ticker.Stop()
		for {
			select {
			case <-watched.Done():
				return
			case <-r.uses.cutting:
				end(errShutdown)
				return
			case <-ticker.C:
				if r.revoked(watched, permission) {
					end(errRevoked)
				}
			}
		}
	}()
	return watched, func() { end(context.Canceled) }
}

func (r *Registry) revoked(ctx context.Context, permission authorizer.AttributesRecord) bool {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	decision, _, err := r.Authorizer.Authorize(ctx, permission)
	return decision != authorizer.DecisionAllow && err == nil
}
