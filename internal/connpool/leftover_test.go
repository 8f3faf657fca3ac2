package connpool

import (
	"testing"
	"testing/synctest"
)

func TestLeftBehind(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a leftover keeps its slot, and the connection serves with the others until its successor is warm": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1, LeasesPerConn: 2})
			old := fix.connect()
			fix.lease().LeaveBehind(old.ctx.Done())
			if fix.lease().Conn() != old {
				t.Error("the slot that is left is not leased")
			}
			a := fix.ask()
			if !a.waits() {
				t.Fatal("the slot of the leftover was leased")
			}
			made := fix.connect()
			if got := a.got(); got.Conn() != made {
				t.Error("the caller did not get the successor")
			}
			fix.expect("1 in use, 1 draining, 2 leases")
		},
		"a slot is free again when the leftover ends and there is no successor yet": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
			old := fix.connect()
			ended := make(chan struct{})
			fix.lease().LeaveBehind(ended)
			fix.refuse(errRefused)
			a := fix.ask()
			if !a.waits() {
				t.Fatal("the slot of the leftover was leased")
			}
			close(ended)
			synctest.Wait()
			if got := a.got(); got.Conn() != old {
				t.Error("the caller did not get the slot")
			}
		},
		"the slot of a leftover that ends with its connection is not leased": func(t *testing.T) {
			for range 100 { // what the pool hears of first is left to chance
				fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
				old := fix.connect()
				ended := make(chan struct{})
				fix.lease().LeaveBehind(ended)
				fix.refuse(errRefused)
				a := fix.ask()
				old.cancel(errKilled)
				close(ended)
				if synctest.Wait(); !a.waits() && a.err == nil {
					t.Fatal("the dead connection was leased")
				}
				a.cancel()
			}
		},
		"a connection is not kept for the sake of its leftovers": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1, LeasesPerConn: 8})
			old := fix.connect()
			for range 8 {
				fix.lease().LeaveBehind(old.ctx.Done())
			}
			fix.connect()
			fix.expect("1 idle")
			if !old.isClosed() {
				t.Error("the connection is kept")
			}
		},
		"a refusal on a connection with a leftover teaches nothing, and drains it": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 2, LeasesPerConn: 8})
			fix.connect()
			first, second := fix.lease(), fix.lease()
			ended := make(chan struct{})
			first.LeaveBehind(ended)
			close(ended) // it may end between the refusal and its report
			synctest.Wait()
			second.Narrow()
			if learned := fix.pool.Stats().Cap; learned != 0 {
				t.Errorf("learned a limit of %d", learned)
			}
			if a := fix.ask(); !a.waits() {
				t.Error("the connection that had no room was leased again")
			}
			fix.connect()
			fix.expect("1 in use, 1 leases")
		},
		"what a held slot has left behind counts too": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
			old := fix.connect()
			fix.pool.Hold(old, func() <-chan struct{} { return old.ctx.Done() })
			if a := fix.ask(); !a.waits() {
				t.Error("the slot of the leftover was leased")
			}
			fix.connect()
			fix.expect("1 in use, 1 leases")
		},
	})
}
