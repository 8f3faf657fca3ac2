package connpool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestNarrow(t *testing.T) {
	// leases takes so many of one connection that carries eight.
	leases := func(t *testing.T, n int) (*world, []*Lease[*fakeConn], *fakeConn) {
		w := newWorld(t, Limits{MinWarm: 1, LeasesPerConn: 8, MaxAge: time.Hour, DialTimeout: time.Hour})
		conn := w.connect()
		var leases []*Lease[*fakeConn]
		for range n {
			leases = append(leases, w.lease())
		}
		return w, leases, conn
	}
	expectCap := func(t *testing.T, w *world, want int) {
		t.Helper()
		if got := w.pool.Stats().Cap; got != want {
			t.Errorf("cap %d, want %d", got, want)
		}
	}
	bubbles(t, map[string]func(*testing.T){
		"counts the leases there were, not those that are left when the refusal comes": func(t *testing.T) {
			w, leases, _ := leases(t, 6)
			for _, l := range leases[:5] {
				l.Release()
			}
			leases[5].Narrow()
			expectCap(t, w, 5)
		},
		"counts the leases that came later, since those may have been served first": func(t *testing.T) {
			w, leases, _ := leases(t, 6)
			leases[0].Narrow()
			expectCap(t, w, 5)
		},
		"learns again from each refusal": func(t *testing.T) {
			w, leases, _ := leases(t, 6)
			leases[5].Narrow()
			leases[4].Narrow()
			expectCap(t, w, 4)
			leases[3].Narrow()
			expectCap(t, w, 3)
		},
		"is forgotten when the connection is replaced because of its age": func(t *testing.T) {
			w, leases, _ := leases(t, 1)
			leases[0].Narrow()
			expectCap(t, w, 1)
			after(time.Hour)
			w.connect()
			w.expect("1 idle")
			expectCap(t, w, 0)
			w.lease()
			w.lease()
			w.expect("1 in use, 2 leases")
		},
		"is forgotten when the connection is lost": func(t *testing.T) {
			w, leases, conn := leases(t, 1)
			leases[0].Narrow()
			conn.cancel(errKilled)
			w.connect()
			expectCap(t, w, 0)
		},
		"is remembered when another connection is lost": func(t *testing.T) {
			w, leases, _ := leases(t, 1)
			w.pool.SetLimits(Limits{MinWarm: 2, Max: 2, LeasesPerConn: 8})
			other := w.connect()
			leases[0].Narrow()
			other.cancel(errKilled)
			w.connect()
			expectCap(t, w, 1)
		},
		"serves those who wait when it is forgotten": func(t *testing.T) {
			w, leases, _ := leases(t, 2)
			leases[1].Narrow()
			a := w.ask()
			if !a.waits() {
				t.Fatal("a lease more than the server carries")
			}
			w.pool.RecycleAll()
			if a.waits() {
				t.Error("the caller waits although the lesson is forgotten")
			}
		},
	})
}

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
