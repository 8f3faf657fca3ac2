package registry

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// connectionDrain replaces one connection, then retires it when it is unused.
type connectionDrain struct{ *Registry }

// poolDrain does the same for all connections of a pool.
type poolDrain struct{ *Registry }

var (
	_ rest.NamedCreater = (*connectionDrain)(nil)
	_ rest.NamedCreater = (*poolDrain)(nil)
)

// New implements rest.Storage.
func (*connectionDrain) New() runtime.Object { return &live.Drain{} }

// Destroy implements rest.Storage.
func (*connectionDrain) Destroy() {}

// New implements rest.Storage.
func (*poolDrain) New() runtime.Object { return &live.Drain{} }

// Destroy implements rest.Storage.
func (*poolDrain) Destroy() {}

// Create implements rest.NamedCreater.
func (s *connectionDrain) Create(
	ctx context.Context, name string, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions,
) (runtime.Object, error) {
	if err := mayAct(ctx, object, validate, options); err != nil {
		return nil, err
	}
	c, ok := s.find(request.NamespaceValue(ctx), name)
	if !ok {
		return nil, apierrors.NewNotFound(live.Resource("connections"), name)
	}
	count := 0 // as it stays if the connection drains already
	if s.Pools.Recycle(c.Pool.UID, c.Target.UID, c.ID) {
		count = 1
	}
	s.auditDrain(ctx, "connections/drain", name, count)
	return drained(ctx, name, count), nil
}

// Create implements rest.NamedCreater.
func (s *poolDrain) Create(
	ctx context.Context, name string, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions,
) (runtime.Object, error) {
	if err := mayAct(ctx, object, validate, options); err != nil {
		return nil, err
	}
	pool, err := s.Objects.Pool(ctx, request.NamespaceValue(ctx), name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, notFound("connectionpools", name)
	case err != nil:
		return nil, unreadable("the pool")
	}
	count := s.Pools.RecyclePool(string(pool.UID))
	s.auditDrain(ctx, "connectionpools/drain", name, count)
	return drained(ctx, name, count), nil
}

// mayAct runs the admission of a request that acts at once, and cannot only try.
func mayAct(ctx context.Context, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) error {
	if options != nil && len(options.DryRun) > 0 {
		return refused(badRequest, "dryRun is not supported: nothing can be said without doing it")
	}
	if validate == nil {
		return nil
	}
	return validate(ctx, object)
}

func drained(ctx context.Context, name string, count int) *live.Drain {
	return &live.Drain{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Drain"},
		ObjectMeta: metav1.ObjectMeta{Namespace: request.NamespaceValue(ctx), Name: name},
		Status:     live.DrainStatus{Connections: int32(count)},
	}
}

func (r *Registry) auditDrain(ctx context.Context, resource, name string, count int) {
	user := ""
	if info, ok := request.UserFrom(ctx); ok {
		user = info.GetName()
	}
	r.Audit.Info("drained", "user", plain(user), "namespace", plain(request.NamespaceValue(ctx)), "resource", resource,
		"name", plain(name), "requestID", requestIDOf(ctx), "connections", count)
}
