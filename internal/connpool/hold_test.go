package connpool

import "testing"

func TestHolding(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a held slot is not leased meanwhile, and goes to who waits": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 1})
			conn := w.connect()
			var waiting *attempt
			held := w.pool.Hold(conn, func() {
				waiting = w.ask()
				w.expect("1 in use, 1 pending")
			})
			if !held {
				t.Fatal("no slot was held")
			}
			waiting.got()
			w.expect("1 in use, 1 leases")
			if s := w.pool.Stats(); s.Uses != 0 {
				t.Errorf("%d uses, want none", s.Uses)
			}
		},
		"a connection whose slots are leased cannot be held": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 1})
			conn := w.connect()
			w.lease()
			if w.pool.Hold(conn, func() { t.Error("used") }) {
				t.Error("held")
			}
		},
	})
}
