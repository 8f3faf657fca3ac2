package shares

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/poolset"
)

func TestOnlyTargetsThatWereUsedAreFound(t *testing.T) {
	seen := func(target string, uses int64, inUse int) poolset.PoolObservation {
		o := poolset.PoolObservation{
			Pool: poolset.Ref{UID: "pool"}, Target: poolset.Ref{UID: target}, Stats: connpool.Stats{Uses: uses, InUse: inUse},
		}
		if uses > 0 {
			o.LastUsed = time.Unix(uses, 0)
		}
		return o
	}
	departed := seen("departed", 9, 0)
	departed.Departed = true
	var counters Counters
	for _, step := range []struct {
		seen []poolset.PoolObservation
		want []string
	}{
		{[]poolset.PoolObservation{seen("a", 0, 0), seen("b", 0, 0)}, nil},
		{[]poolset.PoolObservation{seen("a", 1, 0), seen("b", 0, 1), seen("c", 0, 0), departed}, []string{"a", "b"}},
		{[]poolset.PoolObservation{seen("a", 1, 0), seen("b", 1, 0), seen("c", 0, 0)}, []string{"b"}},
		{[]poolset.PoolObservation{seen("a", 1, 0), seen("b", 1, 0)}, nil},
	} {
		var got []string
		for _, ref := range counters.Used(step.seen) {
			got = append(got, ref.UID)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("used (-want +got):\n%s", diff)
		}
	}
}
