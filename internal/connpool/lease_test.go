package connpool

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestWarmPathAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{MinWarm: 2, Max: 2, LeasesPerConn: 2})
		w.connect()
		w.connect()
		ctx := context.Background()
		allocs := testing.AllocsPerRun(100, func() {
			var leases [4]*Lease[*fakeConn]
			for i := range leases {
				leases[i], _ = w.pool.Acquire(ctx)
			}
			for _, l := range leases {
				l.Release()
			}
		})
		if allocs > 0 {
			t.Errorf("%v allocations for four leases", allocs)
		}
	})
}

func TestWordsOfMetrics(t *testing.T) {
	got := []string{Warm.String(), Queued.String(), Dialed.String(), Idle.String(), Leased.String(), Draining.String(), Closing.String()}
	want := []string{"warm", "queued", "dialed", "idle", "leased", "draining", "closing"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}
