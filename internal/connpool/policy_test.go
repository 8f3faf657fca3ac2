package connpool

import (
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestWarming(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"the first connection is tried alone, then the others together": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 3, Max: 5})
			fix.expect("1 dialing")
			fix.connect()
			fix.expect("1 idle, 2 dialing")
			fix.connect()
			fix.connect()
			fix.expect("3 idle")
			fix.quiet()
		},
		"waiters get no more dials than their slots need": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 10, LeasesPerConn: 4})
			for range 9 {
				fix.ask()
			}
			fix.connect()
			fix.expect("1 in use, 2 dialing, 4 leases, 5 pending")
		},
		"waiters get no more dials than the maximum": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 2})
			for range 9 {
				fix.ask()
			}
			fix.connect()
			fix.connect()
			fix.expect("2 in use, 2 leases, 7 pending")
			fix.quiet()
		},
		"loaded connections are preferred, then the one used last": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 2, Max: 2, LeasesPerConn: 2})
			fix.connect()
			fix.connect()
			a, b := fix.lease(), fix.lease()
			if a.Conn() != b.Conn() {
				t.Error("the second lease went to an idle connection")
			}
			c := fix.lease()
			last := c.Conn()
			a.Release()
			b.Release()
			c.Release()
			if fix.lease().Conn() != last {
				t.Error("not the connection that was used last")
			}
		},
		"an idle pool and an idle connection need no goroutine": func(t *testing.T) {
			before := runtime.NumGoroutine()
			for range 50 {
				fix := newFixture(t, Limits{MinWarm: 2, Max: 2, MaxAge: time.Hour, MaxIdle: time.Hour, ProbePeriod: time.Hour})
				fix.connect()
				fix.connect()
			}
			synctest.Wait()
			if grown := runtime.NumGoroutine() - before; grown > 5 {
				t.Errorf("%d goroutines for 50 idle pools of 2 connections", grown)
			}
		},
	})
}

func TestAgeing(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"an old connection leaves when its successor is warm": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, MaxAge: time.Hour, DialTimeout: time.Hour})
			old := fix.connect()
			after(54*time.Minute - 1)
			fix.expect("1 idle")
			after(6*time.Minute + 1)
			fix.expect("1 idle, 1 dialing")
			if fix.lease().Conn() != old {
				t.Error("the old connection does not serve")
			}
			fix.connect()
			fix.expect("1 idle, 1 draining, 1 leases")
		},
		"an old connection stays while its successor cannot be dialed": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, MaxAge: time.Hour, DialTimeout: time.Hour})
			old := fix.connect()
			after(time.Hour)
			for range 5 {
				fix.refuse(errRefused)
				after(time.Minute)
				fix.expectClosed(old, false)
			}
			fix.connect()
			fix.expectClosed(old, true)
			fix.expect("1 idle")
		},
		"an old connection is never cut, however long its lease runs": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, MaxAge: time.Hour, DialTimeout: time.Hour, DrainTimeout: time.Minute})
			old := fix.connect()
			l := fix.lease()
			after(time.Hour)
			fix.connect()
			after(24 * time.Hour)
			fix.expectClosed(old, false)
			l.Release()
			fix.expectClosed(old, true)
		},
		"an old connection that is not needed is closed without a successor": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1, MaxAge: time.Hour, DialTimeout: time.Hour})
			a := fix.ask()
			conn := fix.connect()
			a.got().Release()
			after(time.Hour)
			fix.expectClosed(conn, true)
			fix.expect("empty")
		},
		"connections of one age do not leave together": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 8, Max: 8, MaxAge: time.Hour, DialTimeout: time.Hour})
			for range 8 {
				fix.connect()
			}
			after(54*time.Minute - 1)
			seen := 0
			for range 60 {
				after(6 * time.Second)
				if now := fix.pool.Stats().Dialing; now > seen {
					seen = now
					if seen == 8 {
						break
					}
				}
			}
			if seen <= 1 || fix.pool.Stats().Dialing != 8 {
				t.Errorf("%d replaced in the last tenth", fix.pool.Stats().Dialing)
			}
		},
		"a connection is replaced after its uses": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, MaxUses: 3})
			old := fix.connect()
			for range 3 {
				fix.quiet()
				fix.lease().Release()
			}
			fix.expect("1 idle, 1 dialing")
			fix.connect()
			fix.expectClosed(old, true)
			if uses := fix.pool.Stats().Uses; uses != 3 {
				t.Errorf("%d uses, want 3: those of gone connections count", uses)
			}
		},
		"an unused connection is relieved before a leased one": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 2, Max: 2})
			fix.connect()
			fix.connect()
			newer, older := fix.lease(), fix.lease()
			newer.Release()
			fix.pool.RecycleAll()
			fix.connect()
			fix.expectClosed(older.Conn(), false)
			fix.expect("1 idle, 1 in use, 1 dialing, 1 leases")
		},
		"a leased connection waits for its successor, though another is idle": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 2})
			fix.connect()
			l := fix.lease()
			fix.ask()
			fix.connect()
			fix.pool.Recycle(1)
			fix.expect("2 in use, 1 dialing, 2 leases")
			l.Release()
			fix.expect("1 in use, 1 dialing, 1 leases")
		},
		"a connection on its way out still serves those who wait": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1})
			first := fix.ask()
			conn := fix.connect()
			a := fix.ask()
			fix.pool.RecycleAll()
			fix.refuse(errBadKey)
			first.got().Release()
			if a.got().Conn() != conn {
				t.Error("not the old connection")
			}
		},
		"successors come when the whole pool is recycled at its maximum": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 3, Max: 3})
			for range 3 {
				fix.connect()
			}
			fix.pool.RecycleAll()
			for left := 3; left > 0; left-- {
				fix.connect()
			}
			fix.expect("3 idle")
			fix.quiet()
		},
	})
}

func TestIdling(t *testing.T) {
	idlers := func(t *testing.T, limits Limits) (*fixture, []*Lease[*fakeConn]) {
		fix := newFixture(t, limits)
		var asks []*attempt
		for range 3 {
			asks = append(asks, fix.ask())
		}
		var leases []*Lease[*fakeConn]
		for range 3 {
			fix.connect()
		}
		for _, a := range asks {
			leases = append(leases, a.got())
		}
		return fix, leases
	}
	bubbles(t, map[string]func(*testing.T){
		"surplus connections close after the idle time, down to the minimum": func(t *testing.T) {
			fix, leases := idlers(t, Limits{MinWarm: 1, Max: 3, MaxIdle: time.Minute})
			for _, l := range leases {
				l.Release()
			}
			after(time.Minute - 1)
			fix.expect("3 idle")
			after(1)
			fix.expect("1 idle")
			after(time.Hour)
			fix.expect("1 idle")
		},
		"the one used least recently goes first": func(t *testing.T) {
			fix, leases := idlers(t, Limits{MinWarm: 2, Max: 3, MaxIdle: time.Minute})
			oldest := leases[1].Conn()
			leases[1].Release()
			after(time.Second)
			leases[0].Release()
			leases[2].Release()
			after(59 * time.Second)
			fix.expectClosed(oldest, true)
			fix.expect("2 idle")
		},
		"a leased connection does not idle out": func(t *testing.T) {
			fix, leases := idlers(t, Limits{Max: 3, MaxIdle: time.Minute})
			leases[0].Release()
			leases[1].Release()
			after(time.Hour)
			fix.expect("1 in use, 1 leases")
			leases[2].Release()
			after(time.Minute - 1)
			fix.expect("1 idle")
			after(1)
			fix.expect("empty")
		},
	})
}

func TestSetLimits(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a higher minimum is warmed": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 3})
			fix.connect()
			fix.pool.SetLimits(Limits{MinWarm: 3, Max: 3})
			fix.expect("1 idle, 2 dialing")
		},
		"a lower maximum closes idle connections first and lets leases finish": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 3, Max: 3})
			for range 3 {
				fix.connect()
			}
			a, b := fix.lease(), fix.lease()
			fix.pool.SetLimits(Limits{Max: 1})
			fix.expect("1 in use, 1 draining, 2 leases")
			a.Release()
			b.Release()
			fix.expect("1 idle")
		},
		"a lower maximum closes retiring connections beyond it": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 3, Max: 3})
			for range 3 {
				fix.connect()
			}
			fix.pool.RecycleAll()
			for range 3 {
				fix.refuse(errRefused)
			}
			fix.pool.SetLimits(Limits{MinWarm: 1, Max: 1})
			after(time.Second)
			fix.connect()
			fix.expect("1 idle")
		},
		"more leases for each connection serve those who wait": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.connect()
			fix.lease()
			a := fix.ask()
			fix.pool.SetLimits(Limits{MinWarm: 1, LeasesPerConn: 2})
			a.got()
		},
		"fewer leases for each connection cut none": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, LeasesPerConn: 2})
			fix.connect()
			a, b := fix.lease(), fix.lease()
			fix.pool.SetLimits(Limits{MinWarm: 1, LeasesPerConn: 1, MaxPending: 1})
			c := fix.ask()
			a.Release()
			if !c.waits() {
				t.Error("a lease above the new limit was given")
			}
			b.Release()
			c.got()
		},
		"a paused pool hands out and dials nothing, and finishes what runs": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 2})
			conn := fix.connect()
			l := fix.lease()
			a := fix.ask()
			dial := fix.dial()
			fix.pool.SetLimits(Limits{MinWarm: 1, Max: 2, Paused: true})
			if dial.ctx.Err() == nil {
				t.Error("the dial from before goes on")
			}
			if err := a.failed(); !errors.Is(err, ErrPaused) {
				t.Errorf("waiter: %v, want paused", err)
			}
			if err := fix.ask().failed(); !errors.Is(err, ErrPaused) {
				t.Errorf("Acquire: %v, want paused", err)
			}
			l.Release()
			fix.expectClosed(conn, false)
			conn.cancel(errKilled)
			fix.expect("empty")
			fix.pool.SetLimits(Limits{MinWarm: 1, Max: 2, MaxPending: 1})
			fix.ask()
			fix.expect("1 dialing, 1 pending")
		},
		"a paused pool does not replace what it loses": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			conn := fix.connect()
			fix.pool.SetLimits(Limits{MinWarm: 1, Paused: true})
			conn.cancel(errKilled)
			fix.expect("empty")
			fix.pool.SetLimits(Limits{MinWarm: 1})
			fix.expect("1 dialing")
		},
		"a paused pool tries no new credentials": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.connect()
			fix.pool.SetLimits(Limits{MinWarm: 1, Paused: true})
			fix.pool.Rotate(fix.dialer("new"))
			fix.expect("1 idle")
			fix.pool.SetLimits(Limits{MinWarm: 1})
			fix.expect("1 idle, 1 dialing")
		},
		"a lower maximum drains retiring connections that can have no successor": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 3, Max: 3})
			for range 3 {
				fix.connect()
			}
			for range 3 {
				fix.lease()
			}
			fix.pool.RecycleAll()
			for range 3 {
				fix.refuse(errRefused)
			}
			fix.pool.SetLimits(Limits{MinWarm: 2, Max: 2})
			after(time.Second)
			fix.connect()
			fix.pool.SetLimits(Limits{MinWarm: 1, Max: 1})
			fix.expect("1 idle, 3 draining, 3 leases")
		},
		"a minimum above the maximum counts as the maximum": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 5, Max: 1})
			fix.connect()
			fix.quiet()
		},
	})
}

func TestNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fix := newFixture(t, Limits{MinWarm: 1, LeasesPerConn: 2})
		steps := []struct {
			name string
			act  func()
			want bool
		}{
			{"a failed dial is a transition", func() { fix.refuse(errRefused); after(time.Second) }, true},
			{"a connection gained is a transition", func() { fix.connect() }, true},
			{"a lease is none", func() { fix.lease().Release() }, false},
			{"time that passes is none", func() { after(time.Hour) }, false},
			{"a connection lost is a transition", func() { fix.pool.Conns()[0].Conn.cancel(errKilled) }, true},
		}
		for _, step := range steps {
			fix.transitions()
			step.act()
			if got := fix.transitions() > 0; got != step.want {
				t.Errorf("%s: notified %v, want %v", step.name, got, step.want)
			}
		}
	})
}

func TestStatsOfLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fix := newFixture(t, Limits{Max: 1})
		born := time.Now()
		a, b := fix.ask(), fix.ask()
		after(time.Second)
		fix.connect()
		after(time.Second)
		a.got().Release()
		b.got().Release()
		after(time.Second)
		fix.lease()
		s := fix.pool.Stats()
		want := [3]AcquireCount{Warm: {Count: 1}, Queued: {1, 2 * time.Second}, Dialed: {1, time.Second}}
		if s.Acquired != want {
			t.Errorf("acquired %+v, want %+v", s.Acquired, want)
		}
		if !s.LastUsed.Equal(born.Add(2*time.Second)) || !s.Oldest.Equal(born.Add(time.Second)) {
			t.Errorf("last used %s, oldest %s; born %s", s.LastUsed, s.Oldest, born)
		}
		if s.Dials.Succeeded != 1 || s.Dials.Time != time.Second {
			t.Errorf("dials %+v, want one of 1s", s.Dials)
		}
		c := fix.pool.Conns()[0]
		if c.State != Leased || c.Uses != 2 || c.Leases != 1 || c.Generation != 1 || c.ID != 1 {
			t.Errorf("connection %+v", c)
		}
	})
}
