package connpool

import (
	"context"
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
			w.expect("1 warm, 2 dialing")
			w.connect()
			w.connect()
			w.expect("3 warm")
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
			w.expect("1 warm")
			after(6*time.Minute + 1)
			w.expect("1 warm, 1 dialing")
			if w.lease().Conn() != old {
				t.Error("the old connection does not serve")
			}
			w.connect()
			w.expect("1 warm, 1 draining, 1 leases")
		},
		"an old connection stays while its successor cannot be dialled": func(t *testing.T) {
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
			w.expect("1 warm")
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
			w.expect("1 warm, 1 dialing")
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
			w.expect("1 warm, 1 in use, 1 dialing, 1 leases")
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
			w.expect("3 warm")
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
			w.expect("3 warm")
			after(1)
			w.expect("1 warm")
			after(time.Hour)
			w.expect("1 warm")
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
			w.expect("2 warm")
		},
		"a leased connection does not idle out": func(t *testing.T) {
			w, leases := idlers(t, Limits{Max: 3, MaxIdle: time.Minute})
			leases[0].Release()
			leases[1].Release()
			after(time.Hour)
			w.expect("1 in use, 1 leases")
			leases[2].Release()
			after(time.Minute - 1)
			w.expect("1 warm")
			after(1)
			w.expect("empty")
		},
	})
}

func TestBackoffAndParking(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"the loss of a connection is repaired at once, within a second if the first dial fails": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			conn := w.connect()
			after(time.Minute)
			conn.cancel(errKilled)
			w.refuse(errRefused)
			w.quiet()
			after(time.Second)
			w.connect()
			w.expect("1 warm")
		},
		"a wrong key is tried once, then left alone for 5 minutes": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 3, Max: 3})
			w.refuse(errBadKey)
			w.quiet()
			f := w.pool.Stats().Dial
			if !f.Parked || !errors.Is(f.Err, errBadKey) || f.Failures != 1 || time.Until(f.Next) != 5*time.Minute {
				t.Errorf("failure %+v, want parked for 5 minutes", f)
			}
			after(5*time.Minute - 1)
			w.quiet()
			after(1)
			w.connect()
			if f := w.pool.Stats().Dial; f != (Failure{}) {
				t.Errorf("failure %+v after success", f)
			}
		},
		"a known-down target fails callers at once and says until when": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			w.refuse(errBadKey)
			var down *DownError
			if err := w.ask().failed(); !errors.As(err, &down) {
				t.Fatalf("error %v, want DownError", err)
			}
			if !down.Parked || time.Until(down.Until) != 5*time.Minute || !errors.Is(down, errBadKey) {
				t.Errorf("%+v, want parked for 5 minutes", down)
			}
		},
		"Retry dials at once": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			w.refuse(errBadKey)
			w.pool.Retry()
			if f := w.pool.Stats().Dial; f.Failures != 1 || f.Parked {
				t.Errorf("failure %+v, want it on record but not parked", f)
			}
			w.connect()
		},
		"Rotate with new credentials ends parking": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			w.refuse(errBadKey)
			w.pool.Rotate(w.dialer("new"))
			w.connect()
			w.expect("1 warm")
		},
		"Replace with another target ends parking": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			w.refuse(errBadKey)
			w.pool.Replace(w.dialer("new"))
			w.connect()
			w.expect("1 warm")
		},
		"an idle failing pool dials again for a caller once the backoff is over": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 1})
			w.ask()
			w.refuse(errRefused)
			after(time.Second)
			w.quiet()
			a := w.ask()
			w.connect()
			a.got()
		},
		"a failing target is dialled by one at a time": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 2, Max: 9, LeasesPerConn: 1, MaxAge: time.Hour})
			w.connect()
			w.connect()
			w.lease()
			w.lease()
			for range 5 {
				w.ask()
			}
			for range 5 {
				w.refuse(errRefused)
			}
			after(time.Second)
			w.quietDuringDial()
		},
		"failures side by side count as one step of the backoff": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 9, Max: 9})
			w.connect()
			for range 8 {
				w.refuse(errRefused)
			}
			after(time.Second)
			w.connect()
		},
		"a waiter at the end of a backoff is dialled for, though others serve": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 2})
			w.ask()
			w.connect()
			a := w.ask()
			a.cancel()
			w.refuse(errRefused)
			w.ask()
			after(time.Second)
			w.connect()
			w.expect("2 in use, 2 leases")
		},
		"a target that drops every connection is backed off from": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			dials := 0
			for range 3600 {
				synctest.Wait()
				for len(w.dials) > 0 {
					dials++
					w.connect().cancel(errKilled)
					synctest.Wait()
				}
				after(time.Second)
			}
			if dials < 60 || dials > 400 {
				t.Errorf("%d dials in an hour, want about 120", dials)
			}
		},
		"callers wait while another dial may still succeed": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 2, Max: 2})
			a, b := w.connect(), w.connect()
			after(time.Minute)
			a.cancel(errKilled)
			b.cancel(errKilled)
			w.expect("2 dialing")
			first := w.ask()
			w.refuse(errRefused)
			if !first.waits() {
				t.Fatalf("the caller failed with %v while a dial ran", first.err)
			}
			w.connect()
			first.got()
		},
		"a connection that lasted is redialled at once, however often that happens": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1})
			for range 9 {
				conn := w.connect()
				after(time.Minute)
				conn.cancel(errKilled)
				w.quietDuringDial()
			}
		},
		"Retry makes the backoff begin anew": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, DialTimeout: time.Hour})
			for range 9 {
				w.refuse(errRefused)
				after(time.Minute)
			}
			w.refuse(errRefused)
			w.pool.Retry()
			w.refuse(errRefused)
			if wait := time.Until(w.pool.Stats().Dial.Next); wait > time.Second {
				t.Errorf("the next dial is in %s, want at most 1s", wait)
			}
		},
		"connections lost together are one loss": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 4, Max: 4})
			var conns []*fakeConn
			for range 4 {
				conns = append(conns, w.connect())
			}
			after(time.Second)
			for _, c := range conns {
				c.cancel(errKilled)
			}
			synctest.Wait()
			if f := w.pool.Stats().Dial; f.Failures > 0 {
				t.Errorf("%d failures, want none", f.Failures)
			}
			for range 4 {
				w.connect()
			}
			w.expect("4 warm")
		},
		"the dial budget's wait does not count against the dial timeout": func(t *testing.T) {
			turn := make(chan struct{})
			places := 0
			p := New(Options[*fakeConn]{
				Dial:   func(ctx context.Context) (*fakeConn, error) { return newFakeConn("x"), ctx.Err() },
				Admit:  func(context.Context) (func(), error) { <-turn; return func() { places++ }, nil },
				Limits: Limits{MinWarm: 1, DialTimeout: time.Second},
			})
			after(time.Minute)
			close(turn)
			synctest.Wait()
			if s := p.Stats(); s.Warm != 1 {
				t.Errorf("%d warm, failure %v", s.Warm, s.Dial.Err)
			}
			if places != 1 {
				t.Errorf("the place in the budget was given back %d times", places)
			}
			_ = p.Close()
		},
		"a dial that hangs ends at its timeout and frees its slot": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, DialTimeout: 3 * time.Second})
			w.dial()
			after(3 * time.Second)
			w.expect("empty")
			if f := w.pool.Stats().Dial; !errors.Is(f.Err, context.DeadlineExceeded) {
				t.Errorf("failure %v, want deadline exceeded", f.Err)
			}
		},
		"a caller who waits longer than the acquire timeout for the first dial learns that it is pending": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 1, AcquireTimeout: time.Second})
			a := w.ask()
			after(time.Second)
			var down *DownError
			if err := a.failed(); !errors.As(err, &down) || !errors.Is(err, ErrDialPending) {
				t.Errorf("error %v, want DownError with dial pending", err)
			}
		},
	})
}

func TestProbing(t *testing.T) {
	limits := Limits{MinWarm: 1, ProbePeriod: time.Minute, ProbeTimeout: 5 * time.Second, ProbeFailures: 3}
	bubbles(t, map[string]func(*testing.T){
		"idle and leased connections are probed every period": func(t *testing.T) {
			w := newWorld(t, limits)
			w.connect()
			w.duly().result <- nil
			w.lease()
			w.duly().result <- nil
			synctest.Wait()
			if h := w.pool.Stats().Probe; h.Successes != 2 || h.Failures != 0 {
				t.Errorf("health %+v, want 2 successes", h)
			}
		},
		"the third consecutive failure closes and replaces the connection": func(t *testing.T) {
			w := newWorld(t, limits)
			conn := w.connect()
			for _, result := range []error{errRefused, errRefused, nil, errRefused, errRefused} {
				w.duly().result <- result
				w.expectClosed(conn, false)
			}
			w.transitions()
			w.duly().result <- errRefused
			w.expectClosed(conn, true)
			w.expect("1 dialing")
			if n := w.transitions(); n == 0 {
				t.Error("crossing the threshold was not notified")
			}
			if h := w.pool.Stats().Probe; h.Failures != 3 || !errors.Is(h.Err, errRefused) {
				t.Errorf("health %+v, want 3 failures", h)
			}
			w.connect()
			w.transitions()
			w.duly().result <- nil
			if n := w.transitions(); n == 0 {
				t.Error("the end of the failures was not notified")
			}
		},
		"a probe that times out is a failure": func(t *testing.T) {
			w := newWorld(t, limits)
			conn := w.connect()
			after(3 * (time.Minute + 5*time.Second))
			w.expectClosed(conn, true)
			if n := w.pool.Stats().Probes.Failed; n != 3 {
				t.Errorf("%d failed probes, want 3", n)
			}
		},
		"probes of one pool are bounded": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 10, Max: 10, ProbePeriod: time.Minute, ProbeTimeout: 30 * time.Second})
			for range 10 {
				w.connect()
			}
			after(time.Minute)
			if n := len(w.probes); n != maxProbes {
				t.Errorf("%d probes run, want %d", n, maxProbes)
			}
			for range 10 {
				w.probeCall().result <- nil
			}
			synctest.Wait()
			if n := w.pool.Stats().Probes.Succeeded; n != 10 {
				t.Errorf("%d probes succeeded, want 10", n)
			}
		},
		"Close ends a probe and waits for it": func(t *testing.T) {
			w := newWorld(t, limits)
			w.connect()
			probe := w.duly()
			_ = w.pool.Close()
			if probe.ctx.Err() == nil {
				t.Error("the probe outlived the pool")
			}
		},
		"a connection that is closed during a probe ends it, so that Drain need not wait": func(t *testing.T) {
			patient := limits
			patient.DrainTimeout = time.Minute
			w := newWorld(t, patient)
			w.connect()
			probe := w.duly()
			start := time.Now()
			if err := w.pool.Drain(t.Context()); err != nil || time.Since(start) > 0 {
				t.Errorf("Drain took %s: %v", time.Since(start), err)
			}
			if probe.ctx.Err() == nil {
				t.Error("the probe outlived the connection")
			}
		},
		"a connection that dies during a probe is one loss": func(t *testing.T) {
			w := newWorld(t, limits)
			conn := w.connect()
			probe := w.duly()
			conn.cancel(errKilled)
			synctest.Wait()
			probe.result <- errKilled
			w.expect("1 dialing")
			w.connect()
			w.expect("1 warm")
		},
	})
}

// duly returns the next periodic probe when it comes.
func (w *world) duly() *call {
	for range 60 {
		if synctest.Wait(); len(w.probes) > 0 {
			break
		}
		after(time.Second)
	}
	return w.probeCall()
}

func TestRotation(t *testing.T) {
	serving := func(t *testing.T) (*world, *fakeConn) {
		w := newWorld(t, Limits{MinWarm: 1, LeasesPerConn: 2, Max: 2})
		conn := w.connect()
		w.pool.Rotate(w.dialer("new"))
		return w, conn
	}
	bubbles(t, map[string]func(*testing.T){
		"the new credentials are dialled and probed before the old leave": func(t *testing.T) {
			w, old := serving(t)
			dial := w.dial()
			dial.result <- nil
			probe := w.probeCall()
			w.expectClosed(old, false)
			w.expect("1 warm, 1 dialing")
			probe.result <- nil
			w.expectClosed(old, true)
			w.expect("1 warm")
			if r := w.pool.Stats().Rotation; r.Pending {
				t.Errorf("rotation %+v, want none pending", r)
			}
			if w.lease().Conn() != dial.conn {
				t.Error("not the new connection is leased")
			}
		},
		"credentials that are refused leave the old ones serving, and say so": func(t *testing.T) {
			w, old := serving(t)
			w.refuse(errBadKey)
			r := w.pool.Stats().Rotation
			if !r.Pending || !r.Parked || !errors.Is(r.Err, errBadKey) || r.Since.IsZero() {
				t.Errorf("rotation %+v, want pending and parked", r)
			}
			if f := w.pool.Stats().Dial; f.Failures != 0 {
				t.Errorf("failures %+v of the old credentials, want none", f)
			}
			if w.lease().Conn() != old {
				t.Error("the old connection does not serve")
			}
			after(5 * time.Minute)
			w.connect()
			w.probeCall().result <- nil
			w.expect("1 warm, 1 draining, 1 leases")
		},
		"credentials whose connection fails its probe are not taken": func(t *testing.T) {
			w, old := serving(t)
			conn := w.connect()
			w.probeCall().result <- errRefused
			w.expectClosed(conn, true)
			w.expectClosed(old, false)
			if r := w.pool.Stats().Rotation; !r.Pending || !errors.Is(r.Err, errRefused) {
				t.Errorf("rotation %+v, want pending with the probe's error", r)
			}
			after(time.Second)
			w.connect()
			w.probeCall().result <- nil
			w.expectClosed(old, true)
		},
		"while new credentials are on trial, losses are replaced with the old": func(t *testing.T) {
			w, old := serving(t)
			w.refuse(errBadKey)
			old.cancel(errKilled)
			if conn := w.connect(); conn.target != "old" {
				t.Errorf("dialled with the %s credentials", conn.target)
			}
			w.expect("1 warm")
		},
		"the trial takes no room from a replacement": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 1})
			conn := w.connect()
			w.pool.Rotate(w.dialer("new"))
			w.dial()
			conn.cancel(errKilled)
			w.expect("2 dialing")
		},
		"when the old credentials can no longer be dialled, the new ones are taken": func(t *testing.T) {
			w, old := serving(t)
			w.refuse(errRefused)
			old.cancel(errKilled)
			w.refuse(errBadKey)
			after(time.Second)
			if conn := w.connect(); conn.target != "new" {
				t.Errorf("dialled with the %s credentials", conn.target)
			}
			if r := w.pool.Stats().Rotation; r.Pending {
				t.Error("rotation still pending")
			}
		},
		"newer credentials supersede those on trial": func(t *testing.T) {
			w, _ := serving(t)
			first := w.dial()
			w.pool.Rotate(w.dialer("newer"))
			synctest.Wait()
			if first.ctx.Err() == nil {
				t.Error("the superseded dial still runs")
			}
			if conn := w.connect(); conn.target != "newer" {
				t.Errorf("dialled with the %s credentials", conn.target)
			}
			w.probeCall().result <- nil
			w.expect("1 warm")
		},
		"a superseded trial that succeeds after all is closed": func(t *testing.T) {
			w, old := serving(t)
			first := w.dial()
			first.result <- nil
			synctest.Wait()
			probe := w.probeCall()
			probe.result <- nil
			w.pool.Rotate(w.dialer("newer"))
			w.expectClosed(first.conn, true)
			w.expectClosed(old, false)
		},
		"Retry tries parked credentials at once": func(t *testing.T) {
			w, old := serving(t)
			w.refuse(errBadKey)
			w.pool.Retry()
			w.connect()
			w.probeCall().result <- nil
			w.expectClosed(old, true)
		},
		"Replace ends the trial": func(t *testing.T) {
			w, _ := serving(t)
			trial := w.dial()
			w.pool.Replace(w.dialer("other"))
			synctest.Wait()
			if trial.ctx.Err() == nil {
				t.Error("the trial still runs")
			}
			if conn := w.connect(); conn.target != "other" {
				t.Errorf("dialled %s", conn.target)
			}
			w.expect("1 warm")
		},
		"every old connection leaves when its successor is warm": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 3, Max: 3})
			var old []*fakeConn
			for range 3 {
				old = append(old, w.connect())
			}
			w.pool.Rotate(w.dialer("new"))
			w.connect()
			w.probeCall().result <- nil
			for _, want := range []string{"3 warm, 2 dialing", "3 warm, 1 dialing", "3 warm"} {
				w.expect(want)
				if want != "3 warm" {
					w.connect()
				}
			}
			for _, c := range old {
				w.expectClosed(c, true)
			}
		},
	})
}

func TestSetLimits(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a higher minimum is warmed": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 3})
			w.connect()
			w.pool.SetLimits(Limits{MinWarm: 3, Max: 3})
			w.expect("1 warm, 2 dialing")
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
			w.expect("1 warm")
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
			w.expect("1 warm")
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
			w.pool.SetLimits(Limits{MinWarm: 1, LeasesPerConn: 1})
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
			w.pool.SetLimits(Limits{MinWarm: 1, Max: 2})
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
			w.expect("1 warm")
			w.pool.SetLimits(Limits{MinWarm: 1})
			w.expect("1 warm, 1 dialing")
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
			w.expect("1 warm, 3 draining, 3 leases")
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
