// Package connectionpool reconciles ConnectionPools: it adds up the statuses of a
// pool's targets into the status of the pool. It runs on the leader only and touches
// no connection, because package connectiontarget makes the connections of each
// target.
package connectionpool

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/metrics"
)

// workers is how many pools are reconciled at the same time.
const workers = 4

// Reconciler reconciles ConnectionPools.
type Reconciler struct {
	Client client.Client
	Writer *Writer
	// Metrics is told of the conditions of each pool.
	Metrics *metrics.Conditions

	uids  status.UIDs
	uses  status.Tallies
	turns turns
}

// Writer writes the statuses of pools.
type Writer = status.Writer[v1alpha1.ConnectionPoolStatus]

// NewWriter returns a writer that writes as often as pace allows.
func NewWriter(c client.Client, recorder events.EventRecorder, pace *status.Pace[v1alpha1.ConnectionPoolStatus]) *Writer {
	return &Writer{
		Client: c, Recorder: recorder, Pace: pace,
		Conditions: func(s v1alpha1.ConnectionPoolStatus) []metav1.Condition { return s.Conditions },
		IsNotable:  isNotable,
	}
}

// isNotable reports whether something changed that users wait for: how many targets are
// ready or fail, why, or the figures of connections that have come to rest.
func isNotable(last, next v1alpha1.ConnectionPoolStatus) bool {
	return !equality.Semantic.DeepEqual(last.Targets, next.Targets) || !equality.Semantic.DeepEqual(last.Summary, next.Summary) ||
		status.CameToRest(counts(last.Connections), counts(next.Connections), ptr.Deref(next.Connections.Desired, 0))
}

func counts(of v1alpha1.PoolConnectionCounts) v1alpha1.ConnectionCounts {
	return v1alpha1.ConnectionCounts{Warm: of.Warm, Dialing: of.Dialing, Draining: of.Draining}
}

// +kubebuilder:rbac:groups=connpool.dev,resources=connectionpools/status,verbs=get;patch;update

// SetupWithManager registers the reconciler and its watches.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	// The first targets are there before the watch of pools begins, and selectors asks for pools.
	if _, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.ConnectionPool{}, cache.BlockUntilSynced(false)); err != nil {
		return fmt.Errorf("cache the pools: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("connectionpool").
		For(&v1alpha1.ConnectionPool{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.ConnectionTarget{}, handler.EnqueueRequestsFromMapFunc(r.selectors)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// selectors maps a target to the pools that select it, and to those that its status
// still mentions. An update maps the earlier state of the target, too. That finds the
// pools of a target whose labels changed or that is being deleted.
func (r *Reconciler) selectors(ctx context.Context, object client.Object) []reconcile.Request {
	target, ok := object.(*v1alpha1.ConnectionTarget)
	if !ok {
		return nil
	}
	var pools v1alpha1.ConnectionPoolList
	if err := r.Client.List(ctx, &pools, client.InNamespace(target.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		// The cache answers from memory; it fails only when the manager stops.
		log.FromContext(ctx).Error(err, "List pools")
		return nil
	}
	var requests []reconcile.Request
	for i := range pools.Items {
		pool := &pools.Items[i]
		if pool.Selects(target) || status.Share(target.Status.Pools, pool.UID) != nil {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pool)})
		}
	}
	return requests
}

// Reconcile brings the status of one pool up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	pool := &v1alpha1.ConnectionPool{}
	err := r.Client.Get(ctx, request.NamespacedName, pool, client.UnsafeDisableDeepCopy)
	if err != nil || !pool.DeletionTimestamp.IsZero() {
		r.forget(r.uids.Replace(request.NamespacedName, ""))
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.forget(r.uids.Replace(request.NamespacedName, pool.UID))
	began := time.Now()
	if wait := r.turns.wait(began, pool); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	targets, uses, err := r.targets(ctx, pool)
	if err != nil {
		return ctrl.Result{}, err
	}
	last := r.Writer.Pace.Last(pool.UID, pool.Status)
	next, failing := Report(pool, targets, last, time.Now())
	r.turns.took(pool, began, time.Now())
	next.UseCount = new(r.uses.Sum(pool.UID, last.UseCount, uses))
	r.Metrics.Set(string(pool.UID), pool.Namespace, pool.Name, measured(next.Conditions), failing)
	after, err := r.Writer.Write(ctx, pool, last, next)
	return ctrl.Result{RequeueAfter: after}, err
}

// targets returns the pool's targets in the order of their names, and the uses by the
// UIDs of all targets that have a share of the pool: those that have just left it, too.
// The targets belong to the cache: the caller must not change them.
func (r *Reconciler) targets(ctx context.Context, pool *v1alpha1.ConnectionPool) ([]v1alpha1.ConnectionTarget, map[types.UID]int64, error) {
	selects, _ := pool.Selector() // Report says whether targetSelector is invalid
	var all v1alpha1.ConnectionTargetList
	if err := r.Client.List(ctx, &all, client.InNamespace(pool.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, fmt.Errorf("list targets: %w", err)
	}
	uses := map[types.UID]int64{}
	for i := range all.Items {
		if share := status.Share(all.Items[i].Status.Pools, pool.UID); share != nil {
			uses[all.Items[i].UID] = ptr.Deref(share.UseCount, 0)
		}
	}
	targets := slices.DeleteFunc(all.Items, func(target v1alpha1.ConnectionTarget) bool {
		return !selects(&target)
	})
	return targets, uses, nil
}

// forget drops all that is kept about a pool that does not exist any more.
func (r *Reconciler) forget(uid types.UID) {
	if uid == "" {
		return
	}
	r.Writer.Pace.Forget(uid)
	r.uses.Forget(uid)
	r.turns.forget(uid)
	r.Metrics.Forget(string(uid))
}

// measured returns the conditions as metrics have them.
func measured(all []metav1.Condition) []metrics.Condition {
	var measured []metrics.Condition
	for _, c := range all {
		measured = append(measured, metrics.Condition{Type: c.Type, Status: string(c.Status), Reason: c.Reason})
	}
	return measured
}
