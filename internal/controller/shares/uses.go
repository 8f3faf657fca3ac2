package shares

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/poolset"
)

// Uses are the counts of uses, which go on where the last status ended: the pools
// count from 0 when the operator starts and when a target joins a pool. The zero value is
// ready to use, and methods are safe for concurrent use for different targets.
type Uses struct {
	shares sync.Map // *status.Tallies of the pools that have the target, by its UID
	totals status.Tallies
}

// Resume makes the pools' counts those of their shares, and their last uses those of an
// earlier process until there are newer ones. It returns the count of the target, in which
// pools are that no longer select it; nil before a pool does.
func (u *Uses) Resume(target types.UID, last v1alpha1.ConnectionTargetStatus, pools []poolset.PoolObservation) *int64 {
	found, _ := u.shares.LoadOrStore(target, new(status.Tallies))
	shares, _ := found.(*status.Tallies)
	counts := map[types.UID]int64{}
	for i := range pools {
		pool, count := types.UID(pools[i].Pool.UID), pools[i].Uses
		counts[pool] = count
		var stored *int64
		if share := status.Share(last.Pools, pool); share != nil {
			stored = share.UseCount
			pools[i].LastUsed = later(pools[i].LastUsed, share.LastUsedTime)
		}
		pools[i].Uses = shares.Sum(pool, stored, map[types.UID]int64{target: count})
	}
	shares.Retain(func(pool types.UID) bool { _, has := counts[pool]; return has })
	total := u.totals.Sum(target, last.UseCount, counts)
	if len(pools) == 0 {
		return last.UseCount
	}
	return &total
}

// later returns the later one of the time and the stored one, which may be nil.
func later(live time.Time, stored *metav1.Time) time.Time {
	if stored != nil && stored.After(live) {
		return stored.Time
	}
	return live
}

// Forget drops the counts of a target that does not exist any more.
func (u *Uses) Forget(target types.UID) {
	u.shares.Delete(target)
	u.totals.Forget(target)
}
