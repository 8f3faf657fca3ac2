package shares

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/poolset"
)

// counted returns what the pools have counted in this process.
func counted(pools map[string]int64) []poolset.PoolObservation {
	var all []poolset.PoolObservation
	for name, uses := range pools {
		all = append(all, poolset.PoolObservation{
			Pool: poolset.Ref{UID: name + "-uid", Name: name}, Stats: connpool.Stats{Uses: uses},
		})
	}
	return all
}

// stored returns a status with these counts.
func stored(total int64, pools map[string]int64) v1alpha1.ConnectionTargetStatus {
	last := v1alpha1.ConnectionTargetStatus{UseCount: &total}
	for name, uses := range pools {
		last.Pools = append(last.Pools, v1alpha1.TargetPoolStatus{Name: name, UID: new(types.UID(name + "-uid")), UseCount: new(uses)})
	}
	return last
}

func TestUsesAreCountedOnAcrossARestartAndWhenAPoolLeaves(t *testing.T) {
	var u Uses
	type counts = map[string]int64
	steps := []struct {
		what  string
		last  v1alpha1.ConnectionTargetStatus
		seen  counts
		want  counts
		total int64
	}{
		{"the operator has just started", stored(30, counts{"a": 10, "b": 20}), counts{"a": 0, "b": 0}, counts{"a": 10, "b": 20}, 30},
		{"both are used", stored(30, counts{"a": 10, "b": 20}), counts{"a": 1, "b": 2}, counts{"a": 11, "b": 22}, 33},
		{"one leaves", stored(33, counts{"a": 11, "b": 22}), counts{"a": 2}, counts{"a": 12}, 34},
		{"it comes back", stored(34, counts{"a": 12}), counts{"a": 2, "b": 3}, counts{"a": 12, "b": 3}, 37},
		{"it is made anew", stored(37, counts{"a": 12, "b": 3}), counts{"a": 2, "b": 1}, counts{"a": 12, "b": 4}, 38},
		{"none has the target", stored(38, counts{"a": 12, "b": 4}), nil, counts{}, 38},
	}
	for _, step := range steps {
		pools := counted(step.seen)
		total := u.Resume("web-uid", step.last, pools)
		if got := ptr.Deref(total, -1); got != step.total {
			t.Errorf("%s: %d uses of the target, want %d", step.what, got, step.total)
		}
		for _, pool := range pools {
			if want := step.want[pool.Pool.Name]; pool.Uses != want {
				t.Errorf("%s: %d uses of pool %s, want %d", step.what, pool.Uses, pool.Pool.Name, want)
			}
		}
	}
}

func TestTheLastUseIsKnownAcrossARestart(t *testing.T) {
	noon := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	last := stored(10, map[string]int64{"a": 10})
	last.Pools[0].LastUsedTime = &noon
	later := noon.Add(time.Minute)
	for name, tc := range map[string]struct{ seen, want time.Time }{
		"not used since": {time.Time{}, noon.Time},
		"used again":     {later, later},
	} {
		t.Run(name, func(t *testing.T) {
			pools := counted(map[string]int64{"a": 0})
			pools[0].LastUsed = tc.seen
			new(Uses).Resume("web-uid", last, pools)
			if got := pools[0].LastUsed; !got.Equal(tc.want) {
				t.Errorf("last used at %s, want %s", got, tc.want)
			}
		})
	}
}
