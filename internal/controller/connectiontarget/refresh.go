package connectiontarget

import (
	"context"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/poolset"
)

// refreshPeriod is how often the counters of all targets are compared. Another period may
// pass until a target that was used is reconciled.
const refreshPeriod = status.Interval / 2

// counters are what changes with each use, for which the pools send no events.
type counters struct {
	uses     int64
	inUse    int
	lastUsed time.Time
}

// share is a pool's share of a target, by their UIDs.
type share struct{ pool, target string }

// refresh requests reconciliations of the targets that were used, until ctx ends. To
// reconcile thousands of idle targets again and again would be most of what the operator
// does at rest.
func (r *Reconciler) refresh(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		ticker := time.NewTicker(refreshPeriod)
		defer ticker.Stop()
		known := map[share]counters{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			var used []poolset.Ref
			known, used = compare(known, r.Pools.Snapshot())
			for _, target := range used {
				key := types.NamespacedName{Namespace: target.Namespace, Name: target.Name}
				queue.AddAfter(reconcile.Request{NamespacedName: key}, rand.N(refreshPeriod)) // so that they do not come all at once
			}
		}
	}()
	return nil
}

// compare returns the counters of all shares that are not zero, and the targets that were
// used since those that were known.
func compare(known map[share]counters, seen []poolset.PoolObservation) (now map[share]counters, used []poolset.Ref) {
	now = make(map[share]counters, len(known))
	for _, o := range seen {
		found, key := counters{o.Uses, o.InUse, o.LastUsed}, share{o.Pool.UID, o.Target.UID}
		if o.Departed || found == (counters{}) {
			continue
		}
		now[key] = found
		if known[key] != found {
			used = append(used, o.Target)
		}
	}
	return now, used
}
