package registry

import (
	"context"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
)

// drain replaces connections, then retires them when they are unused.
type drain struct {
	pools   Pools
	objects Objects
	audit   logr.Logger
}

// connectionDrain drains one connection.
type connectionDrain struct{ drain drain }

// poolDrain drains all connections of a pool.
type poolDrain struct{ drain drain }

var (
	_ rest.NamedCreater = (*connectionDrain)(nil)
	_ rest.NamedCreater = (*poolDrain)(nil)
)

func (*connectionDrain) New() runtime.Object { return &live.Drain{} }

func (*connectionDrain) Destroy() {}

func (*poolDrain) New() runtime.Object { return &live.Drain{} }

func (*poolDrain) Destroy() {}

func (s *connectionDrain) Create(
	ctx context.Context, name string, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions,
) (runtime.Object, error) {
	if err := refusal.RunAdmission(ctx, object, validate, options); err != nil {
		return nil, err
	}
	c, ok := find(s.drain.pools, request.NamespaceValue(ctx), name)
	if !ok {
		return nil, apierrors.NewNotFound(live.Resource("connections"), name)
	}
	count := 0 // it stays 0 if the connection drains already
	if s.drain.pools.Recycle(c.Pool.UID, c.Target.UID, c.ID) {
		count = 1
	}
	s.drain.note(ctx, "connections/drain", name, count)
	return drained(ctx, name, count), nil
}

func (s *poolDrain) Create(
	ctx context.Context, name string, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions,
) (runtime.Object, error) {
	if err := refusal.RunAdmission(ctx, object, validate, options); err != nil {
		return nil, err
	}
	pool, err := s.drain.objects.Pool(ctx, request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, refusal.Unread(err, "connectionpools", name, "the pool")
	}
	count := s.drain.pools.RecyclePool(string(pool.UID))
	s.drain.note(ctx, "connectionpools/drain", name, count)
	return drained(ctx, name, count), nil
}

func drained(ctx context.Context, name string, count int) *live.Drain {
	return &live.Drain{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Drain"},
		ObjectMeta: metav1.ObjectMeta{Namespace: request.NamespaceValue(ctx), Name: name},
		Status:     live.DrainStatus{Connections: int32(count)},
	}
}

// note writes an audit line.
func (d drain) note(ctx context.Context, resource, name string, count int) {
	user := ""
	if info, ok := request.UserFrom(ctx); ok {
		user = info.GetName()
	}
	d.audit.Info("drained", "user", driver.Sanitize(user), "namespace", driver.Sanitize(request.NamespaceValue(ctx)), "resource", resource,
		"name", driver.Sanitize(name), "requestID", use.RequestIDOf(ctx), "connections", count)
}
