package connectiontarget

import (
	"context"
	"math/rand/v2"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/connpool/connpool/internal/controller/shares"
	"github.com/connpool/connpool/internal/controller/status"
)

// refreshPeriod is how often the counters of all targets are compared. Another period may
// pass until a target that was used is reconciled.
const refreshPeriod = status.Interval / 2

// refresh requests reconciliations of the targets that were used, until ctx ends: the pools
// send no events for uses. To reconcile thousands of idle targets again and again would be
// most of what the operator does at rest.
func (r *Reconciler) refresh(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	var counters shares.Counters
	go wait.UntilWithContext(ctx, func(context.Context) {
		for _, target := range counters.Used(r.Pools.Snapshot()) {
			key := types.NamespacedName{Namespace: target.Namespace, Name: target.Name}
			queue.AddAfter(reconcile.Request{NamespacedName: key}, rand.N(refreshPeriod)) // so that they do not come all at once
		}
	}, refreshPeriod)
	return nil
}
