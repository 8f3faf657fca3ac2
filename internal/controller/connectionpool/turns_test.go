package connectionpool

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
)

// Each target that changes asks for a reconciliation of the pool, which looks at all of them.
func TestAPoolTakesABoundedShareOfTheTimeHoweverManyTargetsItHas(t *testing.T) {
	for _, targets := range []int{1, 100, 10000} {
		var turns turns
		pool := selecting()
		cost := time.Duration(targets) * time.Microsecond
		spent := time.Duration(0)
		for at := now; at.Before(now.Add(time.Minute)); at = at.Add(100 * time.Microsecond) {
			if turns.wait(at, pool) == 0 {
				turns.took(pool, at, at.Add(cost))
				spent += cost
			}
		}
		if most := time.Minute/share + 2*cost; spent > most || spent == 0 {
			t.Errorf("%d targets: reconciliations took %s of a minute, want at most %s", targets, spent, most)
		}
	}
}

func TestAChangedSpecDoesNotWaitForItsTurn(t *testing.T) {
	var turns turns
	pool := selecting()
	turns.took(pool, now, now.Add(time.Second))
	if got := turns.wait(now.Add(time.Second), pool); got != longestWait {
		t.Errorf("it waits for %s, want %s", got, longestWait)
	}
	changed := pool.DeepCopy()
	changed.Generation++
	other := &v1alpha1.ConnectionPool{ObjectMeta: metav1.ObjectMeta{UID: "other"}}
	for _, pool := range []*v1alpha1.ConnectionPool{changed, other} {
		if wait := turns.wait(now.Add(time.Second), pool); wait > 0 {
			t.Errorf("%s, generation %d, waits for %s", pool.UID, pool.Generation, wait)
		}
	}
	turns.forget(pool.UID)
	if len(turns.last) > 0 {
		t.Error("a deleted pool is remembered")
	}
}
