package connectionpool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/warming"
)

const (
	// maxFailing is how many failing targets a status lists at most.
	maxFailing = 10
	// maxNamed is how many failing targets a message names at most.
	maxNamed = 3
)

// report returns the next status of the pool, which adds up the statuses of its
// targets. It is pure.
func report(
	pool *v1alpha1.ConnectionPool, targets []v1alpha1.ConnectionTarget, last v1alpha1.ConnectionPoolStatus, now time.Time,
) v1alpha1.ConnectionPoolStatus {
	s := sum(pool, targets)
	next := v1alpha1.ConnectionPoolStatus{
		ObservedGeneration: &pool.Generation,
		Type:               typeOf(targets),
		Targets:            v1alpha1.TargetCounts{Total: new(int32(len(targets))), Ready: new(int32(s.ready))},
		Connections: v1alpha1.PoolConnectionCounts{
			Warm: &s.warm, InUse: &s.inUse, Dialing: &s.dialing, Draining: &s.draining, Desired: &s.desired,
		},
		UseCount:             &s.uses,
		OldestConnectionTime: s.oldest,
		LastUsedTime:         s.lastUsed,
		FailingTargets:       s.failingLongest(),
	}
	if pool.Spec.TargetSelector != nil {
		next.Selector = new(metav1.FormatLabelSelector(pool.Spec.TargetSelector))
	}
	r := reporter{status.Conditions{Now: now, Generation: pool.Generation, Last: last.Conditions}}
	r.setConditions(pool, len(targets), s)
	r.schedules(pool)
	next.Conditions = r.List
	return next
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
	// ready targets have their warm connections. Pending ones lack some and have not
	// failed. The others are failing.
	ready, pending int
	failing        []v1alpha1.FailingTarget
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

// count counts the target as ready, pending or failing. The share is nil while the
// target's status does not speak of the pool, which wants so many warm connections.
func (s *totals) count(target *v1alpha1.ConnectionTarget, share *v1alpha1.TargetPoolStatus, wanted int32) {
	if share != nil && ptr.Deref(share.Ready, false) && ptr.Deref(share.MinWarm, 0) >= wanted {
		s.ready++
		return
	}
	ready := meta.FindStatusCondition(target.Status.Conditions, v1alpha1.ConditionReady)
	reason := unreadyReason(share, ready)
	if v1alpha1.IsExpectedReason(reason) {
		s.pending++
		return
	}
	failing := v1alpha1.FailingTarget{Name: target.Name, Reason: reason}
	if isFalse(ready) {
		failing.Since = &ready.LastTransitionTime
	}
	s.failing = append(s.failing, failing)
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
	failing := slices.Clone(s.failing)
	slices.SortStableFunc(failing, func(a, b v1alpha1.FailingTarget) int {
		var never metav1.Time
		return cmp.Or(ptr.Deref(a.Since, never).Compare(ptr.Deref(b.Since, never).Time), cmp.Compare(a.Name, b.Name))
	})
	return failing[:min(len(failing), maxFailing)]
}

// describe returns a message that names some failing targets.
func (s *totals) describe(total int) string {
	var named []string
	for _, failing := range s.failing[:min(len(s.failing), maxNamed)] {
		named = append(named, fmt.Sprintf("%s (%s)", failing.Name, failing.Reason))
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
		r.notReady(v1alpha1.ReasonPaused, "the pool hands out nothing; set spec.state to Active to go on")
	case total == 0:
		r.notReady(pool.WithoutTargets())
	case s.ready == total:
		r.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonWarm, "every target has its warm connections")
	case s.pending > 0 && !(s.ready > 0 && r.WasTrue(v1alpha1.ConditionReady)):
		r.warming(total, s)
	case s.ready > 0:
		r.degraded(total, s)
	default:
		r.notReady(v1alpha1.ReasonTargetsFailing, s.describe(total))
		r.Set(v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonTargetsFailing, s.describe(total))
	}
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

// degraded sets the conditions while some targets are ready and others are not.
// Pending targets do not make a pool degraded.
func (r *reporter) degraded(total int, s totals) {
	if len(s.failing) == 0 {
		r.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonWarm, "every target has its warm connections, or is about to")
		return
	}
	r.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonDegraded, s.describe(total))
	r.Set(v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonTargetsFailing, s.describe(total))
}
