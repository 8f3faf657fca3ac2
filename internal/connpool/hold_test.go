package connpool

import "testing"

func TestHolding(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a held slot is not leased meanwhile, and goes to who waits": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
			conn := fix.connect()
			var waiting *attempt
			held := fix.pool.Hold(conn, func() <-chan struct{} {
				waiting = fix.ask()
				fix.expect("1 in use, 1 pending")
				return nil
			})
			if !held {
				t.Fatal("no slot was held")
			}
			waiting.got()
			fix.expect("1 in use, 1 leases")
			if s := fix.pool.Stats(); s.Uses != 0 {
				t.Errorf("%d uses, want none", s.Uses)
			}
		},
		"a connection whose slots are leased cannot be held": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
			conn := fix.connect()
			fix.lease()
			if fix.pool.Hold(conn, func() <-chan struct{} {
				t.Error("used")
				return nil
			}) {
				t.Error("held")
			}
		},
	})
}
