package operator

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/registry"
)

var _ registry.Objects = objects{}

// objects reads pools and targets from the manager's cache. What it returns is
// shared with the cache and must not be changed.
type objects struct{ cache client.Reader }

// Pool implements registry.Objects.
func (o objects) Pool(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error) {
	var pool v1alpha1.ConnectionPool
	err := o.cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pool, client.UnsafeDisableDeepCopy)
	return &pool, err
}

// Target implements registry.Objects.
func (o objects) Target(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error) {
	var target v1alpha1.ConnectionTarget
	err := o.cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &target, client.UnsafeDisableDeepCopy)
	return &target, err
}

// Targets implements registry.Objects.
func (o objects) Targets(ctx context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error) {
	var targets v1alpha1.ConnectionTargetList
	err := o.cache.List(ctx, &targets, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)
	return targets.Items, err
}
