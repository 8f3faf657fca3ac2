package connectionpool

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/metrics"
	"github.com/connpool/connpool/internal/warming"
)

const (
	// maxFailing is how many failing targets a status lists at most.
	maxFailing = 10
	// maxNamed is how many failing targets a message names at most.
	maxNamed = 3
)

// Report returns the next status of the pool, which adds up the statuses of its
// targets, and how many of these fail. It is pure. The count of uses lacks those to
// targets that have left the pool.
func Report(
	pool *v1alpha1.ConnectionPool, targets []v1alpha1.ConnectionTarget, last v1alpha1.ConnectionPoolStatus, now time.Time,
) (v1alpha1.ConnectionPoolStatus, map[metrics.Failing]int) {
	s := sum(pool, targets)
	next := v1alpha1.ConnectionPoolStatus{
		ObservedGeneration: new(pool.Generation),
		Type:               typeOf(targets),
		Targets: v1alpha1.TargetCounts{
			Total: new(int32(len(targets))), Ready: new(int32(s.ready)), Failing: new(int32(len(s.failing))),
		},
		Connections: v1alpha1.PoolConnectionCounts{
			Warm: &s.warm, InUse: &s.inUse, Dialing: &s.dialing, Draining: &s.draining, Desired: &s.desired,
			WarmPerTarget: new(perTarget(s.warm, len(targets))),
		},
		UseCount:             &s.uses,
		OldestConnectionTime: s.oldest,
		LastUsedTime:         s.lastUsed,
		FailingTargets:       s.failingLongest(),
		Selector:             new(noPods + "=" + string(pool.UID)),
	}
	r := reporter{status.Conditions{Now: now, Generation: pool.Generation, Last: last.Conditions}}
	r.setConditions(pool, len(targets), s)
	r.schedules(pool)
	next.Conditions, next.Summary = r.List, r.summary(s)
	return next, s.counts()
}

// noPods is a label that no pod has.
const noPods = v1alpha1.GroupName + "/connectionpool-uid"

// perTarget returns the mean, rounded; 0 without targets.
func perTarget(warm int32, targets int) int32 {
	if targets == 0 {
		return 0
	}
	return int32(math.Round(float64(warm) / float64(targets)))
}

// typeOf returns the type that all targets have, or mixed; nil without a target.
func typeOf(targets []v1alpha1.ConnectionTarget) *v1alpha1.PoolType {
	if len(targets) == 0 {
		return nil
	}
	kind := targets[0].Spec.Type()
	for i := range targets {
		if targets[i].Spec.Type() != kind {
			return new(v1alpha1.PoolTypeMixed)
		}
	}
	return new(v1alpha1.PoolType(kind))
}

// totals are sums over the targets of a pool.
type totals struct {
	warm, inUse, dialing, draining, desired int32
	uses                                    int64
	oldest, lastUsed                        *metav1.Time
	// ready targets serve. Pending ones do not serve yet and have not failed. Growing
	// ones serve and are about to have more connections. Failing ones are ready, too, if
	// they serve nevertheless.
	ready, pending, growing int
	failing                 []failure
}

// failure is a target that fails.
type failure struct {
	v1alpha1.FailingTarget
	kind v1alpha1.TargetType
	// stalled says that only a change by a person helps.
	stalled bool
}

func sum(pool *v1alpha1.ConnectionPool, targets []v1alpha1.ConnectionTarget) totals {
	var s totals
	wanted := ptr.Deref(pool.Spec.Size.MinWarm, v1alpha1.DefaultMinWarm)
	for i := range targets {
		share := status.Share(targets[i].Status.Pools, pool.UID)
		if share != nil {
			s.add(share)
		} else {
			s.desired += wanted
		}
		s.count(&targets[i], share, wanted)
	}
	slices.SortFunc(s.failing, func(a, b failure) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// add adds one target's share to the sums.
func (s *totals) add(share *v1alpha1.TargetPoolStatus) {
	s.warm += ptr.Deref(share.Connections.Warm, 0)
	s.inUse += ptr.Deref(share.Connections.InUse, 0)
	s.dialing += ptr.Deref(share.Connections.Dialing, 0)
	s.draining += ptr.Deref(share.Connections.Draining, 0)
	s.desired += ptr.Deref(share.Desired, 0)
	s.uses += ptr.Deref(share.UseCount, 0)
	if t := share.OldestConnectionTime; t != nil && (s.oldest == nil || t.Before(s.oldest)) {
		s.oldest = t
	}
	if t := share.LastUsedTime; t != nil && (s.lastUsed == nil || s.lastUsed.Before(t)) {
		s.lastUsed = t
	}
}

// count counts the target as ready, pending, growing or failing. The share is nil while
// the target's status does not speak of the pool, which wants so many warm connections.
func (s *totals) count(target *v1alpha1.ConnectionTarget, share *v1alpha1.TargetPoolStatus, wanted int32) {
	serving := share != nil && ptr.Deref(share.Ready, false)
	ready := meta.FindStatusCondition(target.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case !serving && v1alpha1.IsExpectedReason(unreadyReason(share, ready)):
		s.pending++
	case !serving:
		failing := failure{kind: target.Spec.Type(), stalled: stalled(target) != nil}
		failing.Name, failing.Reason = target.Name, unreadyReason(share, ready)
		if isFalse(ready) {
			failing.Since = &ready.LastTransitionTime
		}
		s.failing = append(s.failing, failing)
		return
	case isGrowing(target, share, wanted):
		s.growing++
	}
	if serving {
		s.ready++
	}
	s.countFailure(target, serving)
}

// countFailure counts the target as failing if its conditions say so, although it serves
// or, as in a paused pool, need not.
func (s *totals) countFailure(target *v1alpha1.ConnectionTarget, serving bool) {
	found := stalled(target)
	failing := failure{kind: target.Spec.Type(), stalled: found != nil}
	if found == nil {
		found = status.Failure(target.Status.Conditions, v1alpha1.ConditionReachable)
	}
	// The health command of one pool says nothing about another.
	if found == nil || found.Reason == v1alpha1.ReasonProbeFailed {
		return
	}
	failing.Name, failing.Reason, failing.Since = target.Name, found.Reason, &found.LastTransitionTime
	if serving {
		failing.Serving = &serving
	}
	s.failing = append(s.failing, failing)
}

// stalled returns the condition which says that only a change by a person helps the
// target; nil if none does.
func stalled(target *v1alpha1.ConnectionTarget) *metav1.Condition {
	return status.Failure(target.Status.Conditions, v1alpha1.ConditionStalled, v1alpha1.ConditionCredentialsReady)
}

// isGrowing reports whether a target that serves does not know yet how many connections
// the pool wants, or makes more of them.
func isGrowing(target *v1alpha1.ConnectionTarget, share *v1alpha1.TargetPoolStatus, wanted int32) bool {
	if ptr.Deref(share.MinWarm, 0) < wanted {
		return true
	}
	reconciling := meta.FindStatusCondition(target.Status.Conditions, v1alpha1.ConditionReconciling)
	return ptr.Deref(share.Connections.Warm, 0) < wanted && reconciling != nil && reconciling.Reason == v1alpha1.ReasonWarming
}

// unreadyReason returns why a target is not ready for the pool: what its share says, or
// its condition Ready if it has no share.
func unreadyReason(share *v1alpha1.TargetPoolStatus, ready *metav1.Condition) string {
	switch {
	case share != nil:
		return ptr.Deref(share.Reason, v1alpha1.ReasonPending)
	case isFalse(ready):
		return ready.Reason
	}
	return v1alpha1.ReasonPending
}

func isFalse(condition *metav1.Condition) bool {
	return condition != nil && condition.Status == metav1.ConditionFalse
}

// failingLongest returns at most maxFailing targets: those that have failed longest.
func (s *totals) failingLongest() []v1alpha1.FailingTarget {
	var failing []v1alpha1.FailingTarget
	for _, f := range s.failing {
		failing = append(failing, f.FailingTarget)
	}
	slices.SortStableFunc(failing, func(a, b v1alpha1.FailingTarget) int {
		var never metav1.Time
		return cmp.Or(ptr.Deref(a.Since, never).Compare(ptr.Deref(b.Since, never).Time), cmp.Compare(a.Name, b.Name))
	})
	return failing[:min(len(failing), maxFailing)]
}

// counts returns how many targets fail in which way.
func (s *totals) counts() map[metrics.Failing]int {
	counts := map[metrics.Failing]int{}
	for _, f := range s.failing {
		counts[metrics.Failing{
			Kind: string(f.kind), Reason: f.Reason, Stalled: f.stalled, Serving: ptr.Deref(f.Serving, false),
		}]++
	}
	return counts
}

// stalledReasons returns why targets fail that only a change by a person helps, each
// reason once, at most maxNamed.
func (s *totals) stalledReasons() []string {
	var reasons []string
	for _, f := range s.failing {
		if f.stalled {
			reasons = append(reasons, f.Reason)
		}
	}
	slices.Sort(reasons)
	reasons = slices.Compact(reasons)
	return reasons[:min(len(reasons), maxNamed)]
}

// describe returns a message that names some failing targets.
func (s *totals) describe(total int) string {
	var named []string
	for _, failing := range s.failing[:min(len(s.failing), maxNamed)] {
		text := failing.Reason
		if ptr.Deref(failing.Serving, false) {
			text += ", still serves"
		}
		named = append(named, fmt.Sprintf("%s (%s)", failing.Name, text))
	}
	if more := len(s.failing) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf("%d of %d targets fail: %s; see the conditions of each: kubectl describe connectiontarget %s",
		len(s.failing), total, strings.Join(named, ", "), s.failing[0].Name)
}

// reporter collects conditions.
type reporter struct{ status.Conditions }

// setConditions sets the conditions of a pool with so many targets.
func (r *reporter) setConditions(pool *v1alpha1.ConnectionPool, total int, s totals) {
	if _, err := pool.Selector(); err != nil {
		reason, message := pool.WithoutTargets()
		r.notReady(reason, message)
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, message)
		return
	}
	switch {
	case ptr.Deref(pool.Spec.State, v1alpha1.PoolActive) == v1alpha1.PoolPaused:
		r.notReady(v1alpha1.ReasonPaused, "the pool gives out no connections; set spec.state to Active to resume")
	case total == 0:
		r.notReady(pool.WithoutTargets())
	case s.pending > 0 && !(s.ready > 0 && r.wasReady()):
		r.warming(total, s)
	case s.ready > 0:
		r.serving(total, s)
	default:
		r.failing(s.describe(total), s)
	}
	if len(s.failing) > 0 {
		r.Set(v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonTargetsFailing, s.describe(total))
	}
}

// failing sets the conditions while no target serves or is about to.
func (r *reporter) failing(message string, s totals) {
	r.notReady(v1alpha1.ReasonTargetsFailing, message)
	if !slices.ContainsFunc(s.failing, func(f failure) bool { return !f.stalled }) {
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonTargetsFailing, message)
	}
}

// wasReady reports whether the pool served before, by whatever spec.
func (r *reporter) wasReady() bool {
	return meta.IsStatusConditionTrue(r.Last, v1alpha1.ConditionReady)
}

// schedules sets Stalled if a schedule can never hold. Valid schedules and
// size.minWarm hold nevertheless.
func (r *reporter) schedules(pool *v1alpha1.ConnectionPool) {
	err := warming.Check(r.Now, pool.Spec.Warming.Schedules)
	if err != nil && r.Find(v1alpha1.ConditionStalled) == nil {
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonScheduleInvalid, err.Error())
	}
}

// notReady sets Ready=False.
func (r *reporter) notReady(reason, message string) {
	r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
}

// warming sets the conditions while connections are being made.
func (r *reporter) warming(total int, s totals) {
	message := fmt.Sprintf("connections to %d of %d targets are being made", s.pending, total)
	r.notReady(v1alpha1.ReasonWarming, message)
	r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonWarming, message)
}

// serving sets the conditions while at least one target serves. Pending targets do not
// make a pool degraded.
func (r *reporter) serving(total int, s totals) {
	reason, message := v1alpha1.ReasonWarm, "every target has its warm connections"
	switch {
	case s.ready+s.pending < total:
		reason, message = v1alpha1.ReasonDegraded, s.describe(total)
	case len(s.failing) > 0:
		message = "every target serves, or is about to; Degraded says which targets could not be connected again"
	case s.pending > 0:
		message = "every target has its warm connections, or is about to"
	case s.growing > 0:
		message = "every target serves, and more connections are being made"
	}
	r.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, reason, message)
	if s.growing > 0 {
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonWarming,
			fmt.Sprintf("more connections to %d of %d targets are being made", s.growing, total))
	}
}

// summary returns what the column STATUS shows.
func (r *reporter) summary(s totals) *string {
	var failures []string
	if found := status.Failure(r.List, v1alpha1.ConditionStalled); found != nil {
		failures = append(failures, found.Reason)
	}
	failures = append(failures, s.stalledReasons()...)
	degraded := status.Failure(r.List, v1alpha1.ConditionDegraded)
	if degraded != nil && len(failures) == 0 && r.Find(v1alpha1.ConditionReady).Reason != v1alpha1.ReasonDegraded {
		failures = append(failures, degraded.Reason)
	}
	return status.Summary(r.List, failures...)
}
