package connectiontarget

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/credentials"
)

// facts are all that the decision depends on. The objects are the cache's: none is changed.
type facts struct {
	// now is when the facts were gathered.
	now    time.Time
	target *v1alpha1.ConnectionTarget
	// pools are the pools that select the target, in the order of their names.
	pools []v1alpha1.ConnectionPool
	// onlyJumpHost says that no pool selects the target, but a pool selects a target
	// that is reached through it.
	onlyJumpHost bool
	// path is the target itself and then its jump hosts, the one nearest to the target
	// first. It ends at the first element that does not exist, repeats an earlier one,
	// is not of type ssh, or is one jump host too many.
	path []pathElement
}

// pathElement is the target or one of its jump hosts.
type pathElement struct {
	name string
	// target is nil when it does not exist.
	target *v1alpha1.ConnectionTarget
	// secret is nil when it does not exist or is not labeled, and when the target
	// needs no Secret.
	secret *corev1.Secret
	// knownHosts of an ssh target are nil when their ConfigMap, Secret or key does
	// not exist.
	knownHosts []byte
	// cluster is what the kubeconfig of a kubernetes target says.
	cluster cluster
}

// gatherer reads facts.
type gatherer struct {
	lookup
	// server reads from the API server itself, not from the cache.
	server  client.Reader
	rereads *credentials.Rereads
}

// gather reads the facts from the cache. It fails only if the cache does. An object
// that does not exist is a fact. If the target refuses its Secret, a newer one is read
// from the API server.
func (g gatherer) gather(ctx context.Context, target *v1alpha1.ConnectionTarget, refused bool) (facts, error) {
	var all v1alpha1.ConnectionPoolList
	if err := g.cache.List(ctx, &all, client.InNamespace(target.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return facts{}, fmt.Errorf("list pools: %w", err)
	}
	f := facts{now: time.Now(), target: target, pools: selectors(all.Items, target)}
	f.onlyJumpHost = len(f.pools) == 0 && g.isJumpHost(ctx, target, all.Items)
	var err error
	if f.path, err = g.path(ctx, target); err != nil {
		return facts{}, err
	}
	here := &f.path[0]
	if here.secret != nil {
		here.secret = g.rereads.Newest(ctx, g.server, target.UID, here.secret, refused)
	}
	if spec := target.Spec.Kubernetes; spec != nil && here.secret != nil {
		here.cluster = readCluster(here.secret.Data[spec.KubeconfigRef.Key], ptr.Deref(spec.Context, ""))
	}
	return f, nil
}

// selectors returns the pools that select the target, in the order of their names.
func selectors(all []v1alpha1.ConnectionPool, target *v1alpha1.ConnectionTarget) []v1alpha1.ConnectionPool {
	var pools []v1alpha1.ConnectionPool
	for i := range all {
		if all[i].Selects(target) {
			pools = append(pools, all[i])
		}
	}
	slices.SortFunc(pools, func(a, b v1alpha1.ConnectionPool) int { return cmp.Compare(a.Name, b.Name) })
	return pools
}

// isJumpHost reports whether one of the pools selects a target that is reached
// through this one.
func (g gatherer) isJumpHost(ctx context.Context, target *v1alpha1.ConnectionTarget, pools []v1alpha1.ConnectionPool) bool {
	return slices.ContainsFunc(g.dependents(ctx, target, maxJumps), func(other v1alpha1.ConnectionTarget) bool {
		return slices.ContainsFunc(pools, func(pool v1alpha1.ConnectionPool) bool { return pool.Selects(&other) })
	})
}

// path follows the references to jump hosts from the target on.
func (g gatherer) path(ctx context.Context, target *v1alpha1.ConnectionTarget) ([]pathElement, error) {
	var path []pathElement
	for next := target; ; {
		here, err := g.pathElement(ctx, next)
		if err != nil {
			return nil, err
		}
		path = append(path, here)
		_, ref := jumpRef(next)
		if ref == nil || len(path) > maxJumps+1 || visited(path[:len(path)-1], next.Name) {
			return path, nil
		}
		next = &v1alpha1.ConnectionTarget{}
		found, err := g.get(ctx, target.Namespace, ref.Name, next)
		switch {
		case err != nil:
			return nil, err
		case !found:
			return append(path, pathElement{name: ref.Name}), nil
		case next.Spec.SSH == nil:
			return append(path, pathElement{name: ref.Name, target: next}), nil
		}
	}
}

func visited(path []pathElement, name string) bool {
	return slices.ContainsFunc(path, func(e pathElement) bool { return e.name == name })
}

// pathElement reads the objects that a target refers to.
func (g gatherer) pathElement(ctx context.Context, target *v1alpha1.ConnectionTarget) (pathElement, error) {
	here := pathElement{name: target.Name, target: target}
	var err error
	if _, name := credentialsOf(target); name != "" {
		here.secret, err = credentials.Secret(ctx, g.cache, client.ObjectKey{Namespace: target.Namespace, Name: name})
	}
	if target.Spec.SSH != nil && err == nil {
		here.knownHosts, err = g.knownHosts(ctx, target)
	}
	return here, err
}

func (g gatherer) knownHosts(ctx context.Context, target *v1alpha1.ConnectionTarget) ([]byte, error) {
	keys := target.Spec.SSH.HostKeys
	switch {
	case keys.ConfigMapRef != nil:
		configMap, err := credentials.ConfigMap(ctx, g.cache, client.ObjectKey{Namespace: target.Namespace, Name: keys.ConfigMapRef.Name})
		if configMap == nil {
			return nil, err
		}
		if value, ok := configMap.Data[keys.ConfigMapRef.Key]; ok {
			return []byte(value), nil
		}
		return nil, nil
	case keys.SecretRef != nil:
		secret, err := credentials.Secret(ctx, g.cache, client.ObjectKey{Namespace: target.Namespace, Name: keys.SecretRef.Name})
		if secret == nil {
			return nil, err
		}
		return secret.Data[keys.SecretRef.Key], nil
	}
	return []byte(strings.Join(keys.KnownHosts, "\n") + "\n"), nil
}

// get reads an object and reports whether it exists.
func (g gatherer) get(ctx context.Context, namespace, name string, object client.Object) (bool, error) {
	err := g.cache.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, object, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	return err == nil, nil
}
