package credentials

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// A Secret is read from the API server itself after these times: first soon, since a
// new one may be about to arrive, then more and more rarely.
const (
	firstReread = 10 * time.Second
	lastReread  = 5 * time.Minute
)

// Rereads reads Secrets that targets refuse from the API server itself, and remembers
// when. A token may be replaced only when it expires, and then the cache may still hold
// the old one. The zero value is ready for use.
type Rereads struct {
	byTarget sync.Map // reread by the UID of its target
}

// reread is a Secret that was read from the API server itself.
type reread struct {
	// at is when it was read, or was to be read; wait is how long it is not read again.
	at   time.Time
	wait time.Duration
	// version is that of the Secret that the target refuses.
	version string
	// secret is nil if it was not newer than the cached Secret.
	secret *corev1.Secret
}

// next is after what time the Secret is read again.
func (r reread) next() time.Duration { return max(0, r.wait-time.Since(r.at)) }

// isDue reports whether a Secret of the version, which the target refuses, is to be
// read again. Another version than before need not wait for long.
func (r reread) isDue(version string) bool {
	return r.next() == 0 || r.version != version && time.Since(r.at) >= firstReread
}

// after returns what is remembered of a read of a refused Secret of the version.
func (r reread) after(version string, read *corev1.Secret) reread {
	next := reread{at: time.Now(), wait: firstReread, version: version, secret: cmp.Or(read, r.secret)}
	if r.version == version {
		next.wait = min(2*r.wait, lastReread)
	}
	return next
}

// Newest returns the cached Secret of a target, or a newer version of it, which it reads
// from the server if the target refuses what is known. A target is reconciled by one
// worker at a time, so what is remembered of it is not changed in the meantime.
func (r *Rereads) Newest(
	ctx context.Context, server client.Reader, target types.UID, cached *corev1.Secret, refused bool,
) *corev1.Secret {
	kept, known := r.byTarget.Load(target)
	last, _ := kept.(reread)
	version := cmp.Or(last.secret, cached).ResourceVersion
	if refused && last.isDue(version) {
		known = true
		last = last.after(version, readUncached(ctx, server, client.ObjectKeyFromObject(cached)))
	}
	if !refused {
		last.wait, last.version = min(last.wait, firstReread), ""
	}
	if last.secret != nil && !isNewer(last.secret, cached) {
		last.secret = nil
	}
	if known {
		r.byTarget.Store(target, last)
	}
	return cmp.Or(last.secret, cached)
}

// Next returns after what time the Secret of a target that refuses it is read again.
func (r *Rereads) Next(target types.UID) time.Duration {
	kept, _ := r.byTarget.Load(target)
	last, _ := kept.(reread)
	return last.next()
}

// Forget drops what is remembered of a target that does not exist any more.
func (r *Rereads) Forget(target types.UID) { r.byTarget.Delete(target) }

// readUncached returns the Secret if it can be read and targets may use it.
func readUncached(ctx context.Context, server client.Reader, key client.ObjectKey) *corev1.Secret {
	// At a high verbosity client-go logs what it receives. It must not log Secrets.
	secret, err := Secret(log.IntoContext(ctx, logr.Discard()), server, key)
	if err != nil {
		log.FromContext(ctx).Error(err, "Read a refused Secret from the API server")
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
