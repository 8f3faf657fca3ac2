package connectiontarget

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/connpool/connpool/api/v1alpha1"
)

// Indexes of targets by the names of the objects that they refer to.
const (
	secretIndex    = "secrets"
	configMapIndex = "configMaps"
	jumpIndex      = "jumpTarget"
)

func indexTargets(ctx context.Context, indexer client.FieldIndexer) error {
	indexes := map[string]func(*v1alpha1.ConnectionTarget) []string{
		secretIndex:    secretNames,
		configMapIndex: configMapNames,
		jumpIndex:      jumpNames,
	}
	for name, keys := range indexes {
		err := indexer.IndexField(ctx, &v1alpha1.ConnectionTarget{}, name, func(object client.Object) []string {
			target, ok := object.(*v1alpha1.ConnectionTarget)
			if !ok {
				return nil
			}
			return keys(target)
		})
		if err != nil {
			return fmt.Errorf("index targets by %s: %w", name, err)
		}
	}
	return nil
}

func secretNames(target *v1alpha1.ConnectionTarget) []string {
	var names []string
	if _, name := credentialsOf(target); name != "" {
		names = append(names, name)
	}
	if ssh := target.Spec.SSH; ssh != nil && ssh.HostKeys.SecretRef != nil {
		names = append(names, ssh.HostKeys.SecretRef.Name)
	}
	return names
}

func configMapNames(target *v1alpha1.ConnectionTarget) []string {
	if ssh := target.Spec.SSH; ssh != nil && ssh.HostKeys.ConfigMapRef != nil {
		return []string{ssh.HostKeys.ConfigMapRef.Name}
	}
	return nil
}

func jumpNames(target *v1alpha1.ConnectionTarget) []string {
	if _, ref := jumpRef(target); ref != nil {
		return []string{ref.Name}
	}
	return nil
}

// using maps a Secret or ConfigMap to the targets that use it and to their
// dependents.
func (r *Reconciler) using(index string) handler.MapFunc {
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		var requests []reconcile.Request
		for _, target := range r.list(ctx, object.GetNamespace(), client.MatchingFields{index: object.GetName()}) {
			requests = append(requests, requestFor(&target))
			requests = append(requests, requestsFor(r.dependents(ctx, &target))...)
		}
		return requests
	}
}

// relatedTargets maps a target to its dependents and to its jump hosts.
func (r *Reconciler) relatedTargets(ctx context.Context, object client.Object) []reconcile.Request {
	target, ok := object.(*v1alpha1.ConnectionTarget)
	if !ok {
		return nil
	}
	return append(requestsFor(r.dependents(ctx, target)), r.jumpRequests(ctx, target)...)
}

// dependents returns the targets that are reached through the target.
func (r *Reconciler) dependents(ctx context.Context, target *v1alpha1.ConnectionTarget) []v1alpha1.ConnectionTarget {
	return r.dependentsWithin(ctx, target, maxJumps)
}

func (r *Reconciler) dependentsWithin(ctx context.Context, target *v1alpha1.ConnectionTarget, depth int) []v1alpha1.ConnectionTarget {
	if depth == 0 || target.Spec.SSH == nil {
		return nil
	}
	direct := r.list(ctx, target.Namespace, client.MatchingFields{jumpIndex: target.Name})
	all := direct
	for i := range direct {
		all = append(all, r.dependentsWithin(ctx, &direct[i], depth-1)...)
	}
	return all
}

// jumpRequests returns requests for the jump hosts of the target. It ends at the
// first that does not exist.
func (r *Reconciler) jumpRequests(ctx context.Context, target *v1alpha1.ConnectionTarget) []reconcile.Request {
	var requests []reconcile.Request
	for range maxJumps {
		_, ref := jumpRef(target)
		if ref == nil {
			return requests
		}
		key := types.NamespacedName{Namespace: target.Namespace, Name: ref.Name}
		requests = append(requests, reconcile.Request{NamespacedName: key})
		target = &v1alpha1.ConnectionTarget{}
		if r.Client.Get(ctx, key, target) != nil {
			return requests
		}
	}
	return requests
}

// allTargets maps a pool to all targets of its namespace, because the pool may have
// selected any of them before its spec changed.
func (r *Reconciler) allTargets(ctx context.Context, object client.Object) []reconcile.Request {
	return requestsFor(r.list(ctx, object.GetNamespace()))
}

func (r *Reconciler) list(ctx context.Context, namespace string, options ...client.ListOption) []v1alpha1.ConnectionTarget {
	var targets v1alpha1.ConnectionTargetList
	options = append(options, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)
	if err := r.Client.List(ctx, &targets, options...); err != nil {
		// The cache answers from memory; it fails only when the manager stops.
		log.FromContext(ctx).Error(err, "List targets")
		return nil
	}
	return targets.Items
}

func requestFor(target *v1alpha1.ConnectionTarget) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: target.Namespace, Name: target.Name}}
}

func requestsFor(targets []v1alpha1.ConnectionTarget) []reconcile.Request {
	requests := make([]reconcile.Request, len(targets))
	for i := range targets {
		requests[i] = requestFor(&targets[i])
	}
	return requests
}
