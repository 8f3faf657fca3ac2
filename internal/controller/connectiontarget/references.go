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

// maxJumps is how many jump hosts a path may have.
const maxJumps = 3

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

// credentialsOf returns the name of the Secret that a target authenticates with,
// empty if it needs none, and the name of the field.
func credentialsOf(target *v1alpha1.ConnectionTarget) (field, name string) {
	switch spec := target.Spec; {
	case spec.SSH != nil:
		return "ssh.credentialsRef", spec.SSH.CredentialsRef.Name
	case spec.Docker != nil && spec.Docker.TLSRef != nil:
		return "docker.tlsRef", spec.Docker.TLSRef.Name
	case spec.Kubernetes != nil:
		return "kubernetes.kubeconfigRef", spec.Kubernetes.KubeconfigRef.Name
	}
	return "", ""
}

// jumpRef returns the reference to the ssh target through which a target is reached,
// nil if it is reached directly, and the name of the field.
func jumpRef(target *v1alpha1.ConnectionTarget) (field string, ref *v1alpha1.TargetRef) {
	switch spec := target.Spec; {
	case spec.SSH != nil:
		return "ssh.jumpTargetRef", spec.SSH.JumpTargetRef
	case spec.Docker != nil:
		return "docker.sshTargetRef", spec.Docker.SSHTargetRef
	}
	return "", nil
}

// lookup finds targets in the cache.
type lookup struct{ cache client.Reader }

// using maps a Secret or ConfigMap to the targets that use it and to their
// dependents.
func (l lookup) using(index string) handler.MapFunc {
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		targets := l.list(ctx, object.GetNamespace(), client.MatchingFields{index: object.GetName()})
		for i := range targets {
			targets = append(targets, l.dependents(ctx, &targets[i], maxJumps)...)
		}
		return requestsFor(targets)
	}
}

// relatedTargets maps a target to its dependents and to its jump hosts.
func (l lookup) relatedTargets(ctx context.Context, object client.Object) []reconcile.Request {
	target, ok := object.(*v1alpha1.ConnectionTarget)
	if !ok {
		return nil
	}
	return append(requestsFor(l.dependents(ctx, target, maxJumps)), l.jumpRequests(ctx, target)...)
}

// dependents returns the targets that are reached through the target, with at most so
// many jump hosts.
func (l lookup) dependents(ctx context.Context, target *v1alpha1.ConnectionTarget, jumps int) []v1alpha1.ConnectionTarget {
	if jumps == 0 || target.Spec.SSH == nil {
		return nil
	}
	all := l.list(ctx, target.Namespace, client.MatchingFields{jumpIndex: target.Name})
	for i := range all {
		all = append(all, l.dependents(ctx, &all[i], jumps-1)...)
	}
	return all
}

// jumpRequests returns requests for the jump hosts of the target. It ends at the
// first that does not exist.
func (l lookup) jumpRequests(ctx context.Context, target *v1alpha1.ConnectionTarget) []reconcile.Request {
	var requests []reconcile.Request
	for range maxJumps {
		_, ref := jumpRef(target)
		if ref == nil {
			break
		}
		key := types.NamespacedName{Namespace: target.Namespace, Name: ref.Name}
		requests = append(requests, reconcile.Request{NamespacedName: key})
		target = &v1alpha1.ConnectionTarget{}
		if l.cache.Get(ctx, key, target) != nil {
			break
		}
	}
	return requests
}

// allTargets maps a pool to all targets of its namespace, because the pool may have
// selected any of them before its spec changed.
func (l lookup) allTargets(ctx context.Context, object client.Object) []reconcile.Request {
	return requestsFor(l.list(ctx, object.GetNamespace()))
}

func (l lookup) list(ctx context.Context, namespace string, options ...client.ListOption) []v1alpha1.ConnectionTarget {
	var targets v1alpha1.ConnectionTargetList
	options = append(options, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)
	if err := l.cache.List(ctx, &targets, options...); err != nil {
		// The cache answers from memory; it fails only when the manager stops.
		log.FromContext(ctx).Error(err, "List targets")
		return nil
	}
	return targets.Items
}

func requestsFor(targets []v1alpha1.ConnectionTarget) []reconcile.Request {
	requests := make([]reconcile.Request, len(targets))
	for i := range targets {
		requests[i].NamespacedName = client.ObjectKeyFromObject(&targets[i])
	}
	return requests
}
