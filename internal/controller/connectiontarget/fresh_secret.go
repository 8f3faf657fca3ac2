package connectiontarget

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// uncachedReadPeriod is the shortest time between two reads of a Secret from the API
// server itself.
const uncachedReadPeriod = 10 * time.Second

// uncachedSecrets are Secrets that were read from the API server itself, because
// their targets refuse what the cache holds. A token may be replaced only when it
// expires, and then the cache may still hold the old one.
type uncachedSecrets struct {
	mu       sync.Mutex
	byTarget map[types.UID]uncachedSecret
}

type uncachedSecret struct {
	at time.Time
	// secret is nil if it was not newer than the cached Secret.
	secret *corev1.Secret
}

// freshSecret returns the cached Secret of a target, or a newer version of it.
func (r *Reconciler) freshSecret(ctx context.Context, target *v1alpha1.ConnectionTarget, cached *corev1.Secret) *corev1.Secret {
	if r.isRefused(target) && r.uncached.due(target.UID) {
		r.readUncached(ctx, target.UID, client.ObjectKeyFromObject(cached))
	}
	if read := r.uncached.get(target.UID); read != nil && isNewer(read, cached) {
		return read
	}
	r.uncached.put(target.UID, nil)
	return cached
}

func (r *Reconciler) readUncached(ctx context.Context, target types.UID, key client.ObjectKey) {
	// At a high verbosity client-go logs what it receives. It must not log Secrets.
	silent := log.IntoContext(ctx, logr.Discard())
	read := &corev1.Secret{}
	switch err := r.Reader.Get(silent, key, read); {
	case client.IgnoreNotFound(err) != nil:
		log.FromContext(ctx).Error(err, "Read a refused Secret from the API server")
	case err == nil && isLabeled(read):
		r.uncached.put(target, read)
	}
}

// isRefused reports whether the target refuses its credentials and they are of a
// kind that expires.
func (r *Reconciler) isRefused(target *v1alpha1.ConnectionTarget) bool {
	if target.Spec.SSH != nil {
		return false
	}
	seen, _ := r.Pools.Observe(string(target.UID))
	return slices.ContainsFunc(seen.Pools, func(pool poolset.PoolObservation) bool {
		return refusesCredentials(pool.Err) || refusesCredentials(pool.Refused())
	})
}

func refusesCredentials(err *driver.Error) bool {
	return err != nil && err.Reason == driver.AuthenticationFailed
}

// nextUncachedRead returns after what time the Secret is read again; 0 means never.
func (r *Reconciler) nextUncachedRead(target *v1alpha1.ConnectionTarget) time.Duration {
	if !r.isRefused(target) {
		return 0
	}
	return uncachedReadPeriod
}

func isNewer(read, cached *corev1.Secret) bool {
	if read.Name != cached.Name {
		return false // the target names another Secret now
	}
	order, err := resourceversion.CompareResourceVersion(read.ResourceVersion, cached.ResourceVersion)
	return err == nil && order > 0
}

// due reports whether the Secret may be read again. If so, it counts as read now.
func (r *uncachedSecrets) due(target types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.byTarget[target]
	if time.Since(last.at) < uncachedReadPeriod {
		return false
	}
	if r.byTarget == nil {
		r.byTarget = map[types.UID]uncachedSecret{}
	}
	r.byTarget[target] = uncachedSecret{at: time.Now(), secret: last.secret}
	return true
}

func (r *uncachedSecrets) get(target types.UID) *corev1.Secret {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byTarget[target].secret
}

// put keeps a Secret that was read, unless the target was forgotten in the meantime.
func (r *uncachedSecrets) put(target types.UID, secret *corev1.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.byTarget[target]; ok {
		r.byTarget[target] = uncachedSecret{at: last.at, secret: secret}
	}
}

func (r *uncachedSecrets) forget(target types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byTarget, target)
}
