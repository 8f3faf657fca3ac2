// Package shares says what one pool has of one target: its connections, whether the target
// serves it, and its uses. Except for the counts of uses, which last, its functions are
// pure.
package shares

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// Of returns the share of a pool that asks for at least so many warm connections. The last
// one matters: what served goes on to serve with fewer.
func Of(pool poolset.PoolObservation, least int, last *v1alpha1.TargetPoolStatus) v1alpha1.TargetPoolStatus {
	ready := isSatisfied(pool, least) || isServing(pool, last) || isReplacing(pool, last)
	own := v1alpha1.TargetPoolStatus{
		Name:                 pool.Pool.Name,
		UID:                  new(types.UID(pool.Pool.UID)),
		Ready:                &ready,
		MinWarm:              new(int32(least)),
		Desired:              new(int32(pool.MinWarm)),
		Connections:          Counts(pool),
		UseCount:             new(pool.Uses),
		OldestConnectionTime: status.Seconds(pool.Oldest),
		LastUsedTime:         status.Seconds(pool.LastUsed),
	}
	if !ready {
		own.Reason = new(Shortfall(pool))
	}
	return own
}

// Counts returns the connections as a status counts them.
func Counts(pool poolset.PoolObservation) v1alpha1.ConnectionCounts {
	return v1alpha1.ConnectionCounts{
		Warm: new(int32(pool.Warm())), InUse: new(int32(pool.InUse)),
		Dialing: new(int32(pool.Dialing)), Draining: new(int32(pool.Draining)),
	}
}

// isSatisfied reports whether the pool has its warm connections to a target that fails no
// dials. A target that accepts connections only to drop them would become ready with each.
func isSatisfied(pool poolset.PoolObservation, least int) bool {
	return !pool.Paused && pool.Warm() >= least && pool.Health != poolset.HealthDown
}

// isServing reports whether a pool that was ready has connections that serve, be they
// fewer than it wants by now. They do, although the target may fail dials.
func isServing(pool poolset.PoolObservation, last *v1alpha1.TargetPoolStatus) bool {
	return served(pool, last) && pool.Warm() > 0 && (pool.Err == nil || pool.Err.Reason != driver.ProbeFailed)
}

// isReplacing reports whether a pool that was ready has lost its connections, because the
// server or the operator restarted, or wants its first ones now, and no dial has failed
// since.
func isReplacing(pool poolset.PoolObservation, last *v1alpha1.TargetPoolStatus) bool {
	return served(pool, last) && pool.Health != poolset.HealthDown && pool.Dial.Failures == 0
}

func served(pool poolset.PoolObservation, last *v1alpha1.TargetPoolStatus) bool {
	return !pool.Paused && last != nil && ptr.Deref(last.Ready, false)
}

// IsGrowing reports whether a pool that serves wants more connections than before, and
// has not all of them yet. Connections that are being replaced are no growth.
func IsGrowing(shares []v1alpha1.TargetPoolStatus, last v1alpha1.ConnectionTargetStatus) bool {
	reconciling := meta.FindStatusCondition(last.Conditions, v1alpha1.ConditionReconciling)
	goesOn := reconciling != nil && reconciling.Reason == v1alpha1.ReasonWarming
	return slices.ContainsFunc(shares, func(share v1alpha1.TargetPoolStatus) bool {
		before := status.Share(last.Pools, *share.UID)
		if before == nil || !*share.Ready || *share.Connections.Warm >= *share.MinWarm {
			return false
		}
		return goesOn || ptr.Deref(before.MinWarm, 0) < *share.MinWarm
	})
}

// Shortfall returns the reason why a pool lacks connections.
func Shortfall(pool poolset.PoolObservation) string {
	switch {
	case pool.Paused:
		return v1alpha1.ReasonPaused
	case pool.Err != nil:
		return string(pool.Err.Reason)
	}
	return v1alpha1.ReasonWarming
}

// Differ reports whether something changed that the conditions of pools depend on.
func Differ(last, next v1alpha1.ConnectionTargetStatus) bool {
	return !slices.EqualFunc(last.Pools, next.Pools, func(a, b v1alpha1.TargetPoolStatus) bool {
		return ptr.Deref(a.UID, "") == ptr.Deref(b.UID, "") && ptr.Deref(a.Ready, false) == ptr.Deref(b.Ready, false) &&
			ptr.Deref(a.Reason, "") == ptr.Deref(b.Reason, "") && ptr.Deref(a.MinWarm, 0) == ptr.Deref(b.MinWarm, 0)
	})
}

// CameToRest reports whether the figures that were written last are about another moment
// and nothing changes them any more. Those of a target that fails come and go.
func CameToRest(last, next v1alpha1.ConnectionTargetStatus) bool {
	var desired int32
	for _, share := range next.Pools {
		if !*share.Ready && ptr.Deref(share.Reason, "") != v1alpha1.ReasonPaused {
			return false
		}
		desired += *share.Desired
	}
	return status.CameToRest(last.Connections, next.Connections, desired)
}

// outdated is how old the time of the oldest connection in a status may be.
const outdated = 24 * time.Hour

// Alike reports whether two statuses differ at most in what is not worth a write of its own.
// That is which replica holds the connections, since when the oldest is there, and, of what
// serves, how many are being replaced at this moment: all that a restart of the operator
// changes. The next write for another cause has them, or the first after a day.
func Alike(last, next v1alpha1.ConnectionTargetStatus) bool {
	if isOutdated(last.OldestConnectionTime, next.OldestConnectionTime) {
		return false
	}
	last.Replica, last.OldestConnectionTime = next.Replica, next.OldestConnectionTime
	last.Connections = settled(last.Connections, next.Connections)
	last.Pools = slices.Clone(last.Pools)
	for i := range last.Pools {
		before, now := &last.Pools[i], status.Share(next.Pools, ptr.Deref(last.Pools[i].UID, ""))
		if now == nil || !ptr.Deref(now.Ready, false) {
			continue
		}
		before.OldestConnectionTime = now.OldestConnectionTime
		before.Connections = settled(before.Connections, now.Connections)
	}
	return equality.Semantic.DeepEqual(last, next)
}

func isOutdated(last, next *metav1.Time) bool {
	return last != nil && next != nil && next.Sub(last.Time) > outdated
}

// settled returns the last counts with those of the next that change again when the dials
// that run have replaced what was lost.
func settled(last, next v1alpha1.ConnectionCounts) v1alpha1.ConnectionCounts {
	if ptr.Deref(next.Dialing, 0) > 0 && ptr.Deref(next.Warm, 0) <= ptr.Deref(last.Warm, 0) {
		last.Warm, last.Dialing, last.Draining = next.Warm, next.Dialing, next.Draining
	}
	return last
}
