package connectionpool

import (
	"fmt"
	"testing"
	"time"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
)

// writesOf returns how often the status of a pool is written within the span, if it is
// reconciled each second and change has been called before. Time is virtual.
func writesOf(pool *v1alpha1.ConnectionPool, targets []v1alpha1.ConnectionTarget, span time.Duration, change func(second int)) int {
	writer := NewWriter(nil, nil, nil)
	pace := status.NewPace[v1alpha1.ConnectionPoolStatus](status.NewBudget())
	writes := 0
	for second := range int(span / time.Second) {
		change(second)
		at := now.Add(time.Duration(second) * time.Second)
		last := pace.Last(pool.UID, pool.Status)
		next, _ := Report(pool, targets, last, at)
		urgency := status.Counters
		switch {
		case status.Changed(last.Conditions, next.Conditions):
			urgency = status.Transition
		case status.Reworded(last.Conditions, next.Conditions), writer.IsNotable(last, next):
			urgency = status.Notable
		}
		if due, _ := pace.Due(at, pool.UID, next, urgency); due {
			pace.Wrote(at, pool.UID, next)
			writes++
		}
	}
	return writes
}

func manyTargets(count int, of func(name string) v1alpha1.ConnectionTarget) []v1alpha1.ConnectionTarget {
	targets := make([]v1alpha1.ConnectionTarget, count)
	for i := range targets {
		targets[i] = of(fmt.Sprintf("web-%05d", i))
	}
	return targets
}

// The writes of a pool depend on the time, not on how many targets change in it.
func TestTheStatusOfAPoolOfTenThousandTargetsStaysQuiet(t *testing.T) {
	const count = 10_000
	warming := func(name string) v1alpha1.ConnectionTarget { return failing(name, v1alpha1.ReasonWarming) }
	for name, tc := range map[string]struct {
		begin  func(name string) v1alpha1.ConnectionTarget
		change func(targets []v1alpha1.ConnectionTarget) func(second int)
		most   int
	}{
		"all become ready within 40 s": {warming, func(targets []v1alpha1.ConnectionTarget) func(int) {
			return func(second int) {
				for i := second * count / 40; i < min(count, (second+1)*count/40); i++ {
					targets[i] = ready(targets[i].Name)
				}
			}
		}, 12},
		"one after the other fails and comes back": {ready, func(targets []v1alpha1.ConnectionTarget) func(int) {
			return func(second int) {
				targets[second] = failing(targets[second].Name, "Timeout")
				if second > 0 {
					targets[second-1] = ready(targets[second-1].Name)
				}
			}
		}, 12},
		"a command ends on all of them each second": {ready, func(targets []v1alpha1.ConnectionTarget) func(int) {
			return func(int) {
				for i := range targets {
					*targets[i].Status.Pools[0].UseCount++
				}
			}
		}, 4},
		"nothing happens": {ready, func([]v1alpha1.ConnectionTarget) func(int) { return func(int) {} }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			targets := manyTargets(count, tc.begin)
			if got := writesOf(selecting(), targets, time.Minute, tc.change(targets)); got > tc.most || got == 0 {
				t.Errorf("%d writes in a minute, want 1 to %d", got, tc.most)
			}
		})
	}
}
