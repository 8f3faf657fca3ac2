package connpool

import (
	"errors"
	"testing"
	"time"
)

// inLongBackoff is a pool that has failed so often that its next dial is many seconds
// away.
func inLongBackoff(t *testing.T, limits Limits) *fixture {
	fix := newFixture(t, limits)
	for range 12 {
		fix.refuse(errRefused)
		if wait := time.Until(fix.pool.Stats().Dial.Next); wait > 20*time.Second {
			return fix
		}
		after(time.Until(fix.pool.Stats().Dial.Next))
	}
	t.Fatal("the backoff did not become long")
	return nil
}

func TestCallersWhoInsist(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a target in backoff is dialed for them when the last dial has ended 2 s ago": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1})
			after(InsistGap)
			a := fix.insist()
			fix.connect()
			if lease := a.got(); lease.How() != Dialed {
				t.Errorf("the lease was got %s", lease.How())
			}
		},
		"before that they get the error that is remembered": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1})
			after(InsistGap - 1)
			if err := fix.insist().failed(); !errors.Is(err, errRefused) {
				t.Errorf("error %v, want the last failure", err)
			}
			fix.quiet()
		},
		"many share one dial, and get its error": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1, Max: 4})
			after(InsistGap)
			var asks []*attempt
			for range 50 {
				asks = append(asks, fix.insist())
			}
			fix.quietDuringDial()
			fix.refuse(errKilled)
			for _, a := range asks {
				if err := a.failed(); !errors.Is(err, errKilled) {
					t.Fatalf("error %v, want that of the dial", err)
				}
			}
			fix.quiet()
		},
		"many share one dial that succeeds": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1, Max: 1, LeasesPerConn: 8})
			after(InsistGap)
			a, b := fix.insist(), fix.insist()
			fix.connect()
			a.got()
			b.got()
		},
		"a storm of them makes one dial in 2 s": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1, Max: 4})
			began, dials := time.Now(), 0
			for time.Since(began) < time.Minute {
				fix.insist()
				for fix.running() > 0 {
					dials++
					fix.refuse(errRefused)
				}
				after(10 * time.Millisecond)
			}
			if dials < 25 || dials > 34 {
				t.Errorf("%d dials in a minute, want one in 2 s", dials)
			}
		},
		"their dials do not make the backoff longer": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.refuse(errRefused)
			fix.pool.change(func(s *state[*fakeConn], now instant) { s.gen.streak.next = now + time.Hour })
			for range 20 {
				after(InsistGap)
				a := fix.insist()
				fix.refuse(errRefused)
				a.failed()
				if wait := time.Until(fix.pool.Stats().Dial.Next); wait > time.Second {
					t.Fatalf("the next dial is in %s, want at most the second of the first failure", wait)
				}
				fix.pool.change(func(s *state[*fakeConn], now instant) { s.gen.streak.next = now + time.Hour })
			}
		},
		"a parked target is not dialed for them": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.refuse(errBadKey)
			after(4 * time.Minute)
			if err := fix.insist().failed(); !errors.Is(err, errBadKey) {
				t.Errorf("error %v, want why it is parked", err)
			}
			fix.quiet()
		},
		"a target that asked for a wait is not dialed for them": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.refuse(errThrottled)
			after(time.Minute - 1)
			if err := fix.insist().failed(); !errors.Is(err, errThrottled) {
				t.Errorf("error %v, want that of the wait", err)
			}
			fix.quiet()
		},
		"a target that is parked by their dial stays parked": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1})
			after(InsistGap)
			a := fix.insist()
			fix.refuse(errBadKey)
			a.failed()
			if f := fix.pool.Stats().Dial; !f.Parked || time.Until(f.Next) != 5*time.Minute {
				t.Errorf("failure %+v, want parked for 5 minutes", f)
			}
		},
		"their own deadline ends the wait, and the dial goes on": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1})
			after(InsistGap)
			a := fix.insist()
			a.cancel()
			a.failed()
			fix.connect()
			fix.expect("1 idle")
		},
		"what serves is leased, and nothing dialed": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.connect()
			fix.insist().got()
			fix.quiet()
		},
		"a paused pool refuses them": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1})
			fix.pool.SetLimits(Limits{MinWarm: 1, Paused: true})
			after(InsistGap)
			if err := fix.insist().failed(); !errors.Is(err, ErrPaused) {
				t.Errorf("error %v, want paused", err)
			}
			fix.quiet()
		},
		"others who share the target may have used up the attempt": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1})
			fix.pool.mayInsist = func() bool { return false }
			after(InsistGap)
			fix.insist().failed()
			fix.quiet()
		},
		"a dial for them is marked, also the first one": func(t *testing.T) {
			fix := newFixture(t, Limits{})
			fix.insist()
			if dial := fix.dial(); !Insists(dial.ctx) {
				t.Error("the first dial does not insist")
			} else {
				dial.fail(errRefused)
			}
			after(InsistGap)
			fix.ask()
			if dial := fix.dial(); Insists(dial.ctx) {
				t.Error("a dial for others insists")
			}
		},
		"callers who do not insist are refused from memory": func(t *testing.T) {
			fix := inLongBackoff(t, Limits{MinWarm: 1})
			after(InsistGap)
			fix.ask().failed()
			fix.quiet()
		},
	})
}
