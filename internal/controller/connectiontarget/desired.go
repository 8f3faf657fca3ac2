package connectiontarget

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/warming"
)

// desired returns what the facts ask of the pools.
func desired(f facts, drivers Drivers) *poolset.Target {
	want := &poolset.Target{
		Ref:    refOf(f.target),
		Type:   string(f.target.Spec.Type()),
		Access: access(f.path, drivers),
	}
	for i := range f.pools {
		want.Pools = append(want.Pools, poolset.Pool{
			Ref:    poolset.Ref{UID: string(f.pools[i].UID), Namespace: f.pools[i].Namespace, Name: f.pools[i].Name},
			Policy: policy(&f.pools[i].Spec, f.target.Spec.Type(), f.now),
			// Of the pool and the target, the later one made it a wish.
			Declared: slices.MaxFunc([]time.Time{f.pools[i].CreationTimestamp.Time, f.target.CreationTimestamp.Time}, time.Time.Compare),
		})
	}
	return want
}

// nextSchedule returns how long the decision holds until a schedule of a pool
// starts or ends; 0 means for ever.
func nextSchedule(f facts) time.Duration {
	var first time.Duration
	for i := range f.pools {
		if _, next := warming.Floor(f.now, f.pools[i].Spec.Warming.Schedules); !next.IsZero() {
			first = soonest(first, next.Sub(f.now))
		}
	}
	return first
}

// nextRefresh returns after what time the counters of a target that is only a jump host
// are read again; 0 means never. The others are refreshed when they were used.
func nextRefresh(f facts) time.Duration {
	if !f.onlyJumpHost {
		return 0
	}
	return wait.Jitter(status.Interval, 0.1) // so that targets do not all come at the same time
}

// soonest returns the shortest of the waits that are not 0.
func soonest(waits ...time.Duration) time.Duration {
	var shortest time.Duration
	for _, wait := range waits {
		if wait > 0 && (shortest == 0 || wait < shortest) {
			shortest = wait
		}
	}
	return shortest
}

// policy translates a pool's spec for a target of a type. The API server fills in the defaults of the
// CRD. The same defaults stand here for objects that no API server has handled, and
// a test compares them.
func policy(spec *v1alpha1.ConnectionPoolSpec, target v1alpha1.TargetType, now time.Time) poolset.Policy {
	scheduled, _ := warming.Floor(now, spec.Warming.Schedules)
	probeTimeout := seconds(ptr.Deref(spec.Health.TimeoutSeconds, 5))
	return poolset.Policy{
		Limits: connpool.Limits{
			MinWarm:        max(int(ptr.Deref(spec.Size.MinWarm, v1alpha1.DefaultMinWarm)), scheduled),
			Max:            int(ptr.Deref(spec.Size.Max, v1alpha1.DefaultMaxConnections)),
			LeasesPerConn:  int(spec.SessionsOn(target)),
			MaxPending:     int(ptr.Deref(spec.Acquire.MaxPending, v1alpha1.DefaultMaxPending)),
			AcquireTimeout: seconds(ptr.Deref(spec.Acquire.TimeoutSeconds, 10)),
			MaxAge:         seconds(ptr.Deref(spec.Lifecycle.MaxAgeSeconds, 3600)),
			MaxIdle:        seconds(ptr.Deref(spec.Lifecycle.MaxIdleSeconds, 300)),
			MaxUses:        int64(ptr.Deref(spec.Lifecycle.MaxUses, 0)),
			DrainTimeout:   seconds(ptr.Deref(spec.Lifecycle.DrainTimeoutSeconds, 300)),
			ProbePeriod:    seconds(ptr.Deref(spec.Health.PeriodSeconds, 60)),
			ProbeTimeout:   probeTimeout,
			ProbeFailures:  int(ptr.Deref(spec.Health.FailureThreshold, 3)),
			Paused:         ptr.Deref(spec.State, v1alpha1.PoolActive) == v1alpha1.PoolPaused,
		},
		KeepaliveInterval: seconds(ptr.Deref(spec.Health.KeepaliveSeconds, 15)),
		KeepaliveTimeout:  probeTimeout,
		FailureThreshold:  int(ptr.Deref(spec.Health.FailureThreshold, 3)),
		SuccessThreshold:  int(ptr.Deref(spec.Health.SuccessThreshold, 2)),
		ProbeCommand:      spec.Health.Command,
	}
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }
