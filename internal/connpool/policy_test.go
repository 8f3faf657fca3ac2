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
			w := newWorld(t, Limits{MinWarm: 3, Max: 5})
			w.expect("1 dialing")
			w.connect()
			w.expect("1 idle, 2 dialing")
			w.connect()
			w.connect()
			w.expect("3 idle")
			w.quiet()
		},
		"waiters get no more dials than their slots need": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 10, LeasesPerConn: 4})
			for range 9 {
				w.ask()
			}
			w.connect()
			w.expect("1 in use, 2 dialing, 4 leases, 5 pending")
		},
		"waiters get no more dials than the maximum": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 2})
			for range 9 {
				w.ask()
			}
			w.connect()
			w.connect()
			w.expect("2 in use, 2 leases, 7 pending")
			w.quiet()
		},
		"loaded connections are preferred, then the one used last": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 2, Max: 2, LeasesPerConn: 2})
			w.connect()
			w.connect()
			a, b := w.lease(), w.lease()
			if a.Conn() != b.Conn() {
				t.Error("the second lease went to an idle connection")
			}
			c := w.lease()
			last := c.Conn()
			a.Release()
			b.Release()
			c.Release()
			if w.lease().Conn() != last {
				t.Error("not the connection that was used last")
			}
		},
		"an idle pool and an idle connection need no goroutine": func(t *testing.T) {
			before := runtime.NumGoroutine()
			for range 50 {
				w := newWorld(t, Limits{MinWarm: 2, Max: 2, MaxAge: time.Hour, MaxIdle: time.Hour, ProbePeriod: time.Hour})
				w.connect()
				w.connect()
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
			w := newWorld(t, Limits{MinWarm: 1, MaxAge: time.Hour, DialTimeout: time.Hour})
			old := w.connect()
			after(54*time.Minute - 1)
			w.expect("1 idle")
			after(6*time.Minute + 1)
			w.expect("1 idle, 1 dialing")
			if w.lease().Conn() != old {
				t.Error("the old connection does not serve")
			}
			w.connect()
			w.expect("1 idle, 1 draining, 1 leases")
		},
		"an old connection stays while its successor cannot be dialed": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, MaxAge: time.Hour, DialTimeout: time.Hour})
			old := w.connect()
			after(time.Hour)
			for range 5 {
				w.refuse(errRefused)
				after(time.Minute)
				w.expectClosed(old, false)
			}
			w.connect()
			w.expectClosed(old, true)
			w.expect("1 idle")
		},
		"an old connection is never cut, however long its lease runs": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, MaxAge: time.Hour, DialTimeout: time.Hour, DrainTimeout: time.Minute})
			old := w.connect()
			l := w.lease()
			after(time.Hour)
			w.connect()
			after(24 * time.Hour)
			w.expectClosed(old, false)
			l.Release()
			w.expectClosed(old, true)
		},
		"an old connection that nobody needs is closed without a successor": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 1, MaxAge: time.Hour, DialTimeout: time.Hour})
			a := w.ask()
			conn := w.connect()
			a.got().Release()
			after(time.Hour)
			w.expectClosed(conn, true)
			w.expect("empty")
		},
		"connections of one age do not leave together": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 8, Max: 8, MaxAge: time.Hour, DialTimeout: time.Hour})
			for range 8 {
				w.connect()
			}
			after(54*time.Minute - 1)
			seen := 0
			for range 60 {
				after(6 * time.Second)
				if now := w.pool.Stats().Dialing; now > seen {
					seen = now
					if seen == 8 {
						break
					}
				}
			}
			if seen <= 1 || w.pool.Stats().Dialing != 8 {
				t.Errorf("%d replaced in the last tenth", w.pool.Stats().Dialing)
			}
		},
		"a connection is replaced after its uses": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, MaxUses: 3})
			old := w.connect()
			for range 3 {
				w.quiet()
				w.lease().Release()
			}
			w.expect("1 idle, 1 dialing")
			w.connect()
			w.expectClosed(old, true)
			if uses := w.pool.Stats().Uses; uses != 3 {
				t.Errorf("%d uses, want 3: those of gone connections count", uses)
			}
		},
		"an unused connection is relieved before a leased one": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 2, Max: 2})
			w.connect()
			w.connect()
			newer, older := w.lease(), w.lease()
			newer.Release()
			w.pool.RecycleAll()
			w.connect()
			w.expectClosed(older.Conn(), false)
			w.expect("1 idle, 1 in use, 1 dialing, 1 leases")
		},
		"a leased connection waits for its successor, though another is idle": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 2})
			w.connect()
			l := w.lease()
			w.ask()
			w.connect()
			w.pool.Recycle(1)
			w.expect("2 in use, 1 dialing, 2 leases")
			l.Release()
			w.expect("1 in use, 1 dialing, 1 leases")
		},
		"a connection on its way out still serves those who wait": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 1})
			first := w.ask()
			conn := w.connect()
			a := w.ask()
			w.pool.RecycleAll()
			w.refuse(errBadKey)
			first.got().Release()
			if a.got().Conn() != conn {
				t.Error("not the old connection")
			}
		},
		"successors come when the whole pool is recycled at its maximum": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 3, Max: 3})
			for range 3 {
				w.connect()
			}
			w.pool.RecycleAll()
			for left := 3; left > 0; left-- {
				w.connect()
			}
			w.expect("3 idle")
			w.quiet()
		},
	})
}

func TestIdling(t *testing.T) {
	idlers := func(t *testing.T, limits Limits) (*world, []*Lease[*fakeConn]) {
		w := newWorld(t, limits)
		var asks []*attempt
		for range 3 {
			asks = append(asks, w.ask())
		}
		var leases []*Lease[*fakeConn]
		for range 3 {
			w.connect()
		}
		for _, a := range asks {
			leases = append(leases, a.got())
		}
		return w, leases
	}
	bubbles(t, map[string]func(*testing.T){
		"surplus connections close after the idle time, down to the minimum": func(t *testing.T) {
			w, leases := idlers(t, Limits{MinWarm: 1, Max: 3, MaxIdle: time.Minute})
			for _, l := range leases {
				l.Release()
			}
			after(time.Minute - 1)
			w.expect("3 idle")
			after(1)
			w.expect("1 idle")
			after(time.Hour)
			w.expect("1 idle")
		},
		"the one used least recently goes first": func(t *testing.T) {
			w, leases := idlers(t, Limits{MinWarm: 2, Max: 3, MaxIdle: time.Minute})
			oldest := leases[1].Conn()
			leases[1].Release()
			after(time.Second)
			leases[0].Release()
			leases[2].Release()
			after(59 * time.Second)
			w.expectClosed(oldest, true)
			w.expect("2 idle")
		},
		"a leased connection does not idle out": func(t *testing.T) {
			w, leases := idlers(t, Limits{Max: 3, MaxIdle: time.Minute})
			leases[0].Release()
			leases[1].Release()
			after(time.Hour)
			w.expect("1 in use, 1 leases")
			leases[2].Release()
			after(time.Minute - 1)
			w.expect("1 idle")
			after(1)
			w.expect("empty")
		},
	})
}

func TestSetLimits(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a higher minimum is warmed": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 3})
			w.connect()
			w.pool.SetLimits(Limits{MinWarm: 3, Max: 3})
			w.expect("1 idle, 2 dialing")
		},
		"a lower maximum closes idle connections first and lets leases finish": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 3, Max: 3})
			for range 3 {
				w.connect()
			}
			a, b := w.lease(), w.lease()
			w.pool.SetLimits(Limits{Max: 1})
			w.expect("1 in use, 1 draining, 2 leases")
			a.Release()
			b.Release()
			w.expect("1 idle")
		},
		"a lower maximum closes retiring connections beyond it": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 3, Max: 3})
			for range 3 {
				w.connect()
			}
			w.pool.RecycleAll()
			for range 3 {
				w.refuse(errRefused)
			}
			w.pool.SetLimits(Limits{MinWarm: 1, Max: 1})
			after(time.Second)
			w.connect()
			w.expect("1 idle")
		},
		"more leases for each connection serve those who wait": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			w.connect()
			w.lease()
			a := w.ask()
			w.pool.SetLimits(Limits{MinWarm: 1, LeasesPerConn: 2})
			a.got()
		},
		"fewer leases for each connection cut none": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, LeasesPerConn: 2})
			w.connect()
			a, b := w.lease(), w.lease()
			w.pool.SetLimits(Limits{MinWarm: 1, LeasesPerConn: 1, MaxPending: 1})
			c := w.ask()
			a.Release()
			if !c.waits() {
				t.Error("a lease above the new limit was given")
			}
			b.Release()
			c.got()
		},
		"a paused pool hands out and dials nothing, and finishes what runs": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 2})
			conn := w.connect()
			l := w.lease()
			a := w.ask()
			w.dial()
			w.pool.SetLimits(Limits{MinWarm: 1, Max: 2, Paused: true})
			if err := a.failed(); !errors.Is(err, ErrPaused) {
				t.Errorf("waiter: %v, want paused", err)
			}
			if err := w.ask().failed(); !errors.Is(err, ErrPaused) {
				t.Errorf("Acquire: %v, want paused", err)
			}
			l.Release()
			w.expectClosed(conn, false)
			conn.cancel(errKilled)
			w.expect("1 dialing") // the dial from before
			w.quiet()
			w.pool.SetLimits(Limits{MinWarm: 1, Max: 2, MaxPending: 1})
			w.ask()
			w.expect("1 dialing, 1 pending")
		},
		"a paused pool does not replace what it loses": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			conn := w.connect()
			w.pool.SetLimits(Limits{MinWarm: 1, Paused: true})
			conn.cancel(errKilled)
			w.expect("empty")
			w.pool.SetLimits(Limits{MinWarm: 1})
			w.expect("1 dialing")
		},
		"a paused pool tries no new credentials": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			w.connect()
			w.pool.SetLimits(Limits{MinWarm: 1, Paused: true})
			w.pool.Rotate(w.dialer("new"))
			w.expect("1 idle")
			w.pool.SetLimits(Limits{MinWarm: 1})
			w.expect("1 idle, 1 dialing")
		},
		"a lower maximum drains retiring connections that can have no successor": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 3, Max: 3})
			for range 3 {
				w.connect()
			}
			for range 3 {
				w.lease()
			}
			w.pool.RecycleAll()
			for range 3 {
				w.refuse(errRefused)
			}
			w.pool.SetLimits(Limits{MinWarm: 2, Max: 2})
			after(time.Second)
			w.connect()
			w.pool.SetLimits(Limits{MinWarm: 1, Max: 1})
			w.expect("1 idle, 3 draining, 3 leases")
		},
		"a minimum above the maximum counts as the maximum": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 5, Max: 1})
			w.connect()
			w.quiet()
		},
	})
}

func TestNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{MinWarm: 1, LeasesPerConn: 2})
		steps := []struct {
			name string
			act  func()
			want bool
		}{
			{"a failed dial is a transition", func() { w.refuse(errRefused); after(time.Second) }, true},
			{"a connection gained is a transition", func() { w.connect() }, true},
			{"a lease is none", func() { w.lease().Release() }, false},
			{"time that passes is none", func() { after(time.Hour) }, false},
			{"a connection lost is a transition", func() { w.pool.Conns()[0].Conn.cancel(errKilled) }, true},
		}
		for _, step := range steps {
			w.transitions()
			step.act()
			if got := w.transitions() > 0; got != step.want {
				t.Errorf("%s: notified %v, want %v", step.name, got, step.want)
			}
		}
	})
}

func TestStatsOfLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{Max: 1})
		born := time.Now()
		a, b := w.ask(), w.ask()
		after(time.Second)
		w.connect()
		after(time.Second)
		a.got().Release()
		b.got().Release()
		after(time.Second)
		w.lease()
		s := w.pool.Stats()
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
		c := w.pool.Conns()[0]
		if c.State != Leased || c.Uses != 2 || c.Leases != 1 || c.Generation != 1 || c.ID != 1 {
			t.Errorf("connection %+v", c)
		}
	})
}
