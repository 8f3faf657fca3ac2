// Package connectionpool adds the statuses of a pool's targets up into the
// pool's status. It runs on the leader only and touches no connection: what a
// pool asks for is made true target by target.
package connectionpool

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/connpool/connpool/api/v1alpha1"
	applyv1alpha1 "github.com/connpool/connpool/client/applyconfiguration/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/quiet"
)

// fieldOwner is the manager of the status in server-side apply.
const fieldOwner = client.FieldOwner("connpool")

// workers is how many pools are reconciled at the same time.
const workers = 4

// Reconciler reconciles ConnectionPools.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Pace     *quiet.Pace[v1alpha1.ConnectionPoolStatus]
}

// +kubebuilder:rbac:groups=connpool.dev,resources=connectionpools/status,verbs=get;patch;update

// SetupWithManager registers the reconciler and what wakes it up.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("connectionpool").
		For(&v1alpha1.ConnectionPool{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.ConnectionTarget{}, handler.EnqueueRequestsFromMapFunc(r.selectors)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// selectors maps a target to the pools that select it, and to those that its
// status still speaks of.
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
		selector, err := selectorOf(pool)
		if err == nil && (matches(pool, selector, target) || shareOf(target, pool.UID) != nil) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pool)})
		}
	}
	return requests
}

// selectorOf parses targetSelector; with targetRef it selects nothing.
func selectorOf(pool *v1alpha1.ConnectionPool) (labels.Selector, error) {
	selector, err := metav1.LabelSelectorAsSelector(pool.Spec.TargetSelector)
	if err != nil {
		return nil, fmt.Errorf("parse targetSelector: %w", err)
	}
	return selector, nil
}

func matches(pool *v1alpha1.ConnectionPool, selector labels.Selector, target *v1alpha1.ConnectionTarget) bool {
	if ref := pool.Spec.TargetRef; ref != nil {
		return ref.Name == target.Name
	}
	return selector.Matches(labels.Set(target.Labels))
}

func shareOf(target *v1alpha1.ConnectionTarget, pool types.UID) *v1alpha1.TargetPoolStatus {
	for i := range target.Status.Pools {
		if uid := target.Status.Pools[i].UID; uid != nil && *uid == pool {
			return &target.Status.Pools[i]
		}
	}
	return nil
}

// Reconcile writes one pool's status.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	pool := &v1alpha1.ConnectionPool{}
	if err := r.Client.Get(ctx, request.NamespacedName, pool); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !pool.DeletionTimestamp.IsZero() {
		r.Pace.Forget(pool.UID)
		return ctrl.Result{}, nil
	}
	targets, err := r.targets(ctx, pool)
	if err != nil {
		return ctrl.Result{}, err
	}
	last := r.Pace.Last(pool.UID, pool.Status)
	next := report(pool, targets, last)
	return r.write(ctx, pool, last, next)
}

// targets returns the pool's targets by name. They come from the cache and must
// not be changed.
func (r *Reconciler) targets(ctx context.Context, pool *v1alpha1.ConnectionPool) ([]v1alpha1.ConnectionTarget, error) {
	selector, err := selectorOf(pool)
	if err != nil {
		return nil, nil // report says so
	}
	var all v1alpha1.ConnectionTargetList
	if err := r.Client.List(ctx, &all, client.InNamespace(pool.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list targets: %w", err)
	}
	targets := slices.DeleteFunc(all.Items, func(target v1alpha1.ConnectionTarget) bool {
		return !target.DeletionTimestamp.IsZero() || !matches(pool, selector, &target)
	})
	slices.SortFunc(targets, func(a, b v1alpha1.ConnectionTarget) int { return cmp.Compare(a.Name, b.Name) })
	return targets, nil
}

// write applies the status if it is due, and tells what changed.
func (r *Reconciler) write(ctx context.Context, pool *v1alpha1.ConnectionPool, last, next v1alpha1.ConnectionPoolStatus) (ctrl.Result, error) {
	now := time.Now()
	due, after := r.Pace.Due(now, pool.UID, next, quiet.Turned(last.Conditions, next.Conditions))
	if !due {
		return ctrl.Result{RequeueAfter: after}, nil
	}
	if err := r.apply(ctx, pool, next); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.Pace.Wrote(now, pool.UID, next)
	r.tell(pool,
		meta.FindStatusCondition(last.Conditions, v1alpha1.ConditionReady),
		meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionReady))
	return ctrl.Result{}, nil
}

// apply writes the status by server-side apply. The UID makes sure that it does
// not end up in a namesake.
func (r *Reconciler) apply(ctx context.Context, pool *v1alpha1.ConnectionPool, status v1alpha1.ConnectionPoolStatus) error {
	raw, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	applied := applyv1alpha1.ConnectionPoolStatus()
	if err := json.Unmarshal(raw, applied); err != nil {
		return fmt.Errorf("decode status: %w", err)
	}
	object := applyv1alpha1.ConnectionPool(pool.Name, pool.Namespace).WithUID(pool.UID).WithStatus(applied)
	if err := r.Client.Status().Apply(ctx, object, fieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("apply status: %w", err)
	}
	return nil
}

// tell records an event when Ready has turned.
func (r *Reconciler) tell(pool *v1alpha1.ConnectionPool, before, after *metav1.Condition) {
	if before != nil && before.Status == after.Status && before.Reason == after.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	if after.Reason == v1alpha1.ReasonTargetsFailing || after.Reason == v1alpha1.ReasonDegraded {
		kind = corev1.EventTypeWarning
	}
	was := "unknown"
	if before != nil {
		was = before.Reason
	}
	r.Recorder.Eventf(pool, nil, kind, after.Reason, "Reconcile", "%s, was %s: %s", after.Reason, was, after.Message)
}
