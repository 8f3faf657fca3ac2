// Package connectiontarget reconciles ConnectionTargets. It tells the live pools
// what the target, its Secret, its jump hosts and the pools that select it ask for,
// and writes what it observes of the live pools into the target's status.
//
// A reconciliation gathers the facts, decides by an ordered list of pure checks,
// acts, observes and reports. It never dials, and never waits for keys to be decrypted.
// It waits for writes to the API server, and for one read: that of a Secret whose target
// refuses what the cache holds. The live pools request a reconciliation when their
// connections change, and when credentials have been prepared.
package connectiontarget

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/credentials"
	"github.com/connpool/connpool/internal/controller/ownership"
	"github.com/connpool/connpool/internal/controller/shares"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// workers is how many targets are reconciled at the same time. A reconciliation
// waits for the API server only.
const workers = 8

// Writer writes the statuses of targets.
type Writer = status.Writer[v1alpha1.ConnectionTargetStatus]

// NewWriter returns a writer that writes as often as pace allows.
func NewWriter(c client.Client, recorder events.EventRecorder, pace *status.Pace[v1alpha1.ConnectionTargetStatus]) *Writer {
	return &Writer{
		Client: c, Recorder: recorder, Pace: pace,
		Conditions: func(s v1alpha1.ConnectionTargetStatus) []metav1.Condition { return s.Conditions },
		IsNotable: func(last, next v1alpha1.ConnectionTargetStatus) bool {
			return shares.Differ(last, next) || shares.CameToRest(last, next)
		},
		IsAlike:   shares.Alike,
		IsArrival: isArrival,
	}
}

// Reconciler reconciles ConnectionTargets.
type Reconciler struct {
	Client client.Client
	// Reader reads from the API server itself, not from the cache.
	Reader  client.Reader
	Pools   *poolset.Set
	Drivers Drivers
	// Replica is the name of this process in the status.
	Replica string
	Writer  *Writer
	// Audit gets a line when a health command begins to be used on a target, changes or
	// is gone; the zero value none.
	Audit logr.Logger
	// Ledger is told which targets were taken on.
	Ledger *ownership.Ledger

	health  healthCommands
	uses    shares.Uses
	uids    status.UIDs
	rereads credentials.Rereads
}

// +kubebuilder:rbac:groups=connpool.dev,resources=connectiontargets;connectionpools,verbs=get;list;watch
// +kubebuilder:rbac:groups=connpool.dev,resources=connectiontargets/status,verbs=get;patch;update
// +kubebuilder:rbac:groups="",resources=secrets;configmaps,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the reconciler and its watches.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	if err := indexTargets(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	targets := lookup{r.Client}
	specOrLabels := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{})
	return ctrl.NewControllerManagedBy(mgr).
		Named("connectiontarget").
		For(&v1alpha1.ConnectionTarget{}, builder.WithPredicates(specOrLabels)).
		Watches(&v1alpha1.ConnectionTarget{}, handler.EnqueueRequestsFromMapFunc(targets.relatedTargets),
			builder.WithPredicates(specOrLabels)).
		Watches(&v1alpha1.ConnectionPool{}, handler.EnqueueRequestsFromMapFunc(targets.allTargets),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(targets.using(secretIndex))).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(targets.using(configMapIndex))).
		WatchesRawSource(source.Func(r.subscribe)).
		WatchesRawSource(source.Func(r.refresh)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// subscribe turns events of the pools into requests. The queue drops duplicates and
// does not block.
func (r *Reconciler) subscribe(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.Pools.Subscribe(func(ref poolset.Ref) {
		queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}})
	})
	return nil
}

// Reconcile brings the live pools and the status of one target up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	target := &v1alpha1.ConnectionTarget{}
	err := r.Client.Get(ctx, request.NamespacedName, target, client.UnsafeDisableDeepCopy)
	if err != nil || !target.DeletionTimestamp.IsZero() {
		r.forget(r.uids.Replace(request.NamespacedName, ""))
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.forget(r.uids.Replace(request.NamespacedName, target.UID))
	gathered, err := gatherer{lookup{r.Client}, r.Reader, &r.rereads}.gather(ctx, target, r.isRefused(target))
	if err != nil {
		return ctrl.Result{}, err
	}
	decided := r.act(target, decide(gathered, r.Drivers))
	r.Pools.Explain(string(target.UID), decided.problem.refusal()) // at once, whenever the status is written
	r.Ledger.Take(target.UID)
	observation, _ := r.Pools.Observe(string(target.UID))
	if wait := decided.quietFor(target, len(observation.Pools) > 0); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	last := r.Writer.Pace.Last(target.UID, target.Status)
	uses := r.uses.Resume(target.UID, last, observation.Pools)
	next := report(gathered, decided, observation, last, r.Replica)
	next.UseCount = uses
	after, err := r.Writer.Write(ctx, target, last, next)
	return ctrl.Result{RequeueAfter: soonest(after, nextSchedule(gathered), nextRefresh(gathered), r.nextReread(target))}, err
}

// act carries the decision out. If the pools refuse it, or do not know yet whether they
// do, the returned decision has the problem. In the second case the pools request a
// reconciliation as soon as they know.
func (r *Reconciler) act(target *v1alpha1.ConnectionTarget, decided decision) decision {
	if decided.want == nil {
		r.Pools.Remove(string(target.UID))
		r.health.forget(target.UID)
		return decided
	}
	err := r.Pools.Ensure(*decided.want)
	if preparing, ok := errors.AsType[*poolset.PreparingError](err); ok {
		decided.problem = &problem{reason: v1alpha1.ReasonPending, message: preparing.Error()}
		decided.preparing = preparing.Since
		return decided
	}
	if err != nil {
		refusal := driver.AsError(err)
		decided.problem = &problem{
			condition: v1alpha1.ConditionCredentialsReady,
			reason:    string(refusal.Reason),
			message:   refusal.Message,
		}
		return decided
	}
	r.health.audit(r.Audit, decided.want)
	return decided
}

// isRefused reports whether the target refuses its credentials and they are of a
// kind that expires.
func (r *Reconciler) isRefused(target *v1alpha1.ConnectionTarget) bool {
	if !expires(target.Spec.Type()) {
		return false
	}
	isRefusal := func(err *driver.Error) bool { return err != nil && err.Reason == driver.AuthenticationFailed }
	seen, _ := r.Pools.Observe(string(target.UID))
	return slices.ContainsFunc(seen.Pools, func(pool poolset.PoolObservation) bool {
		return isRefusal(pool.Err) || isRefusal(pool.Refused())
	})
}

// expires reports whether the credentials of a type are such that expire, so that a
// newer version of the Secret may be about to arrive: certificates and tokens are, the
// keys and passwords of SSH are not.
func expires(kind v1alpha1.TargetType) bool {
	switch kind {
	case v1alpha1.TargetTypeDocker, v1alpha1.TargetTypeKubernetes:
		return true
	case v1alpha1.TargetTypeSSH:
	}
	return false
}

// nextReread returns after what time the Secret is read again; 0 means never.
func (r *Reconciler) nextReread(target *v1alpha1.ConnectionTarget) time.Duration {
	if !r.isRefused(target) {
		return 0
	}
	return max(r.rereads.Next(target.UID), time.Second)
}

// forget drops all that is kept about a target that does not exist any more.
func (r *Reconciler) forget(uid types.UID) {
	if uid == "" {
		return
	}
	r.Pools.Remove(string(uid))
	r.health.forget(uid)
	r.uses.Forget(uid)
	r.Writer.Pace.Forget(uid)
	r.rereads.Forget(uid)
	r.Ledger.Forget(uid)
}
