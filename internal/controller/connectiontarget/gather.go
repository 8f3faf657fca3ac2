package connectiontarget

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/connpool/connpool/api/v1alpha1"
)

// facts are all that the decision depends on.
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
	server   client.Reader
	uncached *sync.Map // uncachedSecret by the UID of its target
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
		here.secret = g.newest(ctx, target.UID, here.secret, refused)
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
	if _, name := credentialsOf(target); name != "" {
		secret := &corev1.Secret{}
		found, err := g.getLabeled(ctx, target.Namespace, name, secret)
		if err != nil {
			return pathElement{}, err
		}
		if found {
			here.secret = secret
		}
	}
	var err error
	if target.Spec.SSH != nil {
		here.knownHosts, err = g.knownHosts(ctx, target)
	}
	return here, err
}

func (g gatherer) knownHosts(ctx context.Context, target *v1alpha1.ConnectionTarget) ([]byte, error) {
	keys := target.Spec.SSH.HostKeys
	switch {
	case keys.ConfigMapRef != nil:
		configMap := &corev1.ConfigMap{}
		found, err := g.getLabeled(ctx, target.Namespace, keys.ConfigMapRef.Name, configMap)
		if value, ok := configMap.Data[keys.ConfigMapRef.Key]; found && ok {
			return []byte(value), nil
		}
		return nil, err
	case keys.SecretRef != nil:
		secret := &corev1.Secret{}
		found, err := g.getLabeled(ctx, target.Namespace, keys.SecretRef.Name, secret)
		if value, ok := secret.Data[keys.SecretRef.Key]; found && ok {
			return value, nil
		}
		return nil, err
	}
	return []byte(strings.Join(keys.KnownHosts, "\n") + "\n"), nil
}

// getLabeled reads an object and reports whether it exists and targets may use it.
func (g gatherer) getLabeled(ctx context.Context, namespace, name string, object client.Object) (bool, error) {
	found, err := g.get(ctx, namespace, name, object)
	return found && isLabeled(object), err
}

// isLabeled reports whether targets may use the object. The cache holds labeled
// objects only. This check does not depend on how the cache is configured.
func isLabeled(object client.Object) bool {
	return object.GetLabels()[v1alpha1.CredentialsLabel] == v1alpha1.CredentialsLabelValue
}

// get reads an object and reports whether it exists.
func (g gatherer) get(ctx context.Context, namespace, name string, object client.Object) (bool, error) {
	err := g.cache.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, object)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	return err == nil, nil
}

// A Secret is read from the API server itself after these times: first soon, since a
// new one may be about to arrive, then more and more rarely.
const (
	firstUncachedRead = 10 * time.Second
	lastUncachedRead  = 5 * time.Minute
)

// uncachedSecret is a Secret that was read from the API server itself, because its
// target refuses what the cache holds. A token may be replaced only when it expires,
// and then the cache may still hold the old one.
type uncachedSecret struct {
	// at is when it was read, or was to be read; wait is how long it is not read again.
	at   time.Time
	wait time.Duration
	// version is that of the Secret that the target refuses.
	version string
	// secret is nil if it was not newer than the cached Secret.
	secret *corev1.Secret
}

// next is after what time the Secret is read again.
func (u uncachedSecret) next() time.Duration { return max(0, u.wait-time.Since(u.at)) }

// isDue reports whether a Secret of the version, which the target refuses, is to be
// read again. Another version than before need not wait for long.
func (u uncachedSecret) isDue(version string) bool {
	return u.next() == 0 || u.version != version && time.Since(u.at) >= firstUncachedRead
}

// after returns what is remembered of a read of a refused Secret of the version.
func (u uncachedSecret) after(version string, read *corev1.Secret) uncachedSecret {
	next := uncachedSecret{at: time.Now(), wait: firstUncachedRead, version: version, secret: cmp.Or(read, u.secret)}
	if u.version == version {
		next.wait = min(2*u.wait, lastUncachedRead)
	}
	return next
}

// newest returns the cached Secret of a target, or a newer version of it. A target is
// reconciled by one worker at a time, so its entry is not changed in the meantime.
func (g gatherer) newest(ctx context.Context, target types.UID, cached *corev1.Secret, refused bool) *corev1.Secret {
	kept, known := g.uncached.Load(target)
	last, _ := kept.(uncachedSecret)
	version := cmp.Or(last.secret, cached).ResourceVersion
	if refused && last.isDue(version) {
		known = true
		last = last.after(version, g.readUncached(ctx, client.ObjectKeyFromObject(cached)))
	}
	if !refused {
		last.wait, last.version = min(last.wait, firstUncachedRead), ""
	}
	if last.secret != nil && !isNewer(last.secret, cached) {
		last.secret = nil
	}
	if known {
		g.uncached.Store(target, last)
	}
	return cmp.Or(last.secret, cached)
}

// readUncached returns the Secret if it can be read and targets may use it.
func (g gatherer) readUncached(ctx context.Context, key client.ObjectKey) *corev1.Secret {
	// At a high verbosity client-go logs what it receives. It must not log Secrets.
	silent := log.IntoContext(ctx, logr.Discard())
	secret := &corev1.Secret{}
	err := g.server.Get(silent, key, secret)
	if client.IgnoreNotFound(err) != nil {
		log.FromContext(ctx).Error(err, "Read a refused Secret from the API server")
	}
	if err != nil || !isLabeled(secret) {
		return nil
	}
	return secret
}

func isNewer(read, cached *corev1.Secret) bool {
	if read.Name != cached.Name {
		return false // the target names another Secret now
	}
	order, err := resourceversion.CompareResourceVersion(read.ResourceVersion, cached.ResourceVersion)
	return err == nil && order > 0
}
