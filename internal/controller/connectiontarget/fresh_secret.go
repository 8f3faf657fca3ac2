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

// uncachedReadPeriod is how often at most the Secret of a target that is refused is
// read from the API server itself.
const uncachedReadPeriod = 10 * time.Second

// uncachedSecrets are the Secrets that were read past the cache, because their targets
// refuse what the cache holds. A token may be replaced at the moment when it
// expires, and the cache may be late.
type uncachedSecrets struct {
	mu       sync.Mutex
	byTarget map[types.UID]uncachedSecret
}

type uncachedSecret struct {
	at time.Time
	// secret is nil if it was not newer than the cached one.
	secret *corev1.Secret
}

// freshSecret is the cached Secret of a target, or a newer one.
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
	// At a high verbosity client-go logs what it receives: not this.
	silent := log.IntoContext(ctx, logr.Discard())
	read := &corev1.Secret{}
	switch err := r.Reader.Get(silent, key, read); {
	case client.IgnoreNotFound(err) != nil:
		log.FromContext(ctx).Error(err, "Read a refused Secret past the cache")
	case err == nil && isLabeled(read):
		r.uncached.put(target, read)
	}
}

// isRefused reports that the credentials of a target are of a kind that expires,
// and that it refuses them.
func (r *Reconciler) isRefused(target *v1alpha1.ConnectionTarget) bool {
	if target.Spec.SSH != nil {
		return false
	}
	seen, _ := r.Pools.Observe(string(target.UID))
	return slices.ContainsFunc(seen.Pools, func(pool poolset.PoolObservation) bool {
		return refusesCredentials(pool.Err) || refusesCredentials(pool.Refused)
	})
}

func refusesCredentials(err *driver.Error) bool {
	return err != nil && err.Reason == driver.AuthenticationFailed
}

// nextUncachedRead is when the Secret is read again; 0 when not.
func (r *Reconciler) nextUncachedRead(target *v1alpha1.ConnectionTarget) time.Duration {
	if !r.isRefused(target) {
		return 0
	}
	return uncachedReadPeriod
}

func isNewer(read, cached *corev1.Secret) bool {
	if read.Name != cached.Name {
		return false // the target has come to name another one
	}
	order, err := resourceversion.CompareResourceVersion(read.ResourceVersion, cached.ResourceVersion)
	return err == nil && order > 0
}

// due reports whether the Secret may be read again, and takes it that it is.
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

// put keeps a Secret, if it is still known when it was read.
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
