package connpool

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestNarrow(t *testing.T) {
	// leases takes a number of leases of one connection that carries eight.
	leases := func(t *testing.T, n int) (*fixture, []*Lease[*fakeConn], *fakeConn) {
		fix := newFixture(t, Limits{MinWarm: 1, LeasesPerConn: 8, MaxAge: time.Hour, DialTimeout: time.Hour})
		conn := fix.connect()
		var leases []*Lease[*fakeConn]
		for range n {
			leases = append(leases, fix.lease())
		}
		return fix, leases, conn
	}
	expectCap := func(t *testing.T, fix *fixture, want int) {
		t.Helper()
		if got := fix.pool.Stats().Cap; got != want {
			t.Errorf("cap %d, want %d", got, want)
		}
	}
	bubbles(t, map[string]func(*testing.T){
		"counts the leases there were, not those that are left when the refusal comes": func(t *testing.T) {
			fix, leases, _ := leases(t, 6)
			for _, l := range leases[:5] {
				l.Release()
			}
			leases[5].Narrow()
			expectCap(t, fix, 5)
		},
		"counts the leases that came later, since those may have been served first": func(t *testing.T) {
			fix, leases, _ := leases(t, 6)
			leases[0].Narrow()
			expectCap(t, fix, 5)
		},
		"learns again from each refusal": func(t *testing.T) {
			fix, leases, _ := leases(t, 6)
			leases[5].Narrow()
			leases[4].Narrow()
			expectCap(t, fix, 4)
			leases[3].Narrow()
			expectCap(t, fix, 3)
		},
		"is forgotten when the connection is replaced because of its age": func(t *testing.T) {
			fix, leases, _ := leases(t, 1)
			leases[0].Narrow()
			expectCap(t, fix, 1)
			after(time.Hour)
			fix.connect()
			fix.expect("1 idle")
			expectCap(t, fix, 0)
			fix.lease()
			fix.lease()
			fix.expect("1 in use, 2 leases")
		},
		"is forgotten when the connection is lost": func(t *testing.T) {
			fix, leases, conn := leases(t, 1)
			leases[0].Narrow()
			conn.cancel(errKilled)
			fix.connect()
			expectCap(t, fix, 0)
		},
		"is remembered when another connection is lost": func(t *testing.T) {
			fix, leases, _ := leases(t, 1)
			fix.pool.SetLimits(Limits{MinWarm: 2, Max: 2, LeasesPerConn: 8})
			other := fix.connect()
			leases[0].Narrow()
			other.cancel(errKilled)
			fix.connect()
			expectCap(t, fix, 1)
		},
		"serves those who wait when it is forgotten": func(t *testing.T) {
			fix, leases, _ := leases(t, 2)
			leases[1].Narrow()
			a := fix.ask()
			if !a.waits() {
				t.Fatal("a lease more than the server carries")
			}
			fix.pool.RecycleAll()
			if a.waits() {
				t.Error("the caller waits although the lesson is forgotten")
			}
		},
	})
}

func TestWarmPathAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fix := newFixture(t, Limits{MinWarm: 2, Max: 2, LeasesPerConn: 2})
		fix.connect()
		fix.connect()
		ctx := context.Background()
		allocs := testing.AllocsPerRun(100, func() {
			var leases [4]*Lease[*fakeConn]
			for i := range leases {
				leases[i], _ = fix.pool.Acquire(ctx)
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

func TestSpreading(t *testing.T) {
	// ids leases by a function until it has n leases, and returns on which connections they are.
	ids := func(fix *fixture, acquire func(context.Context, string) (*Lease[*fakeConn], error), n int) (ids []uint64) {
		for range n {
			l, err := acquire(context.Background(), "")
			if err != nil {
				fix.t.Fatalf("%v", err)
			}
			ids = append(ids, l.ID())
		}
		return ids
	}
	distinct := func(ids []uint64) int {
		slices.Sort(ids)
		return len(slices.Compact(ids))
	}
	warm := func(t *testing.T) *fixture {
		fix := newFixture(t, Limits{MinWarm: 3, Max: 3, LeasesPerConn: 4})
		for range 3 {
			fix.connect()
		}
		return fix
	}
	bubbles(t, map[string]func(*testing.T){
		"takes a connection for each lease while there are idle ones": func(t *testing.T) {
			fix := warm(t)
			if got := distinct(ids(fix, fix.pool.SpreadAs, 3)); got != 3 {
				t.Errorf("3 leases are on %d connections", got)
			}
		},
		"then shares them evenly": func(t *testing.T) {
			fix := warm(t)
			counts := map[uint64]int{}
			for _, id := range ids(fix, fix.pool.SpreadAs, 9) {
				counts[id]++
			}
			for id, n := range counts {
				if n != 3 {
					t.Errorf("connection %d has %d of 9 leases", id, n)
				}
			}
		},
		"leaves other leases packed": func(t *testing.T) {
			fix := warm(t)
			if got := distinct(ids(fix, fix.pool.InsistAs, 3)); got != 1 {
				t.Errorf("3 leases are on %d connections", got)
			}
		},
	})
}
