package connpool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffAndParking(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"the loss of a connection is repaired at once, within a second if the first dial fails": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			conn := fix.connect()
			after(time.Minute)
			conn.cancel(errKilled)
			fix.refuse(errRefused)
			fix.quiet()
			after(time.Second)
			fix.connect()
			fix.expect("1 idle")
		},
		"a wrong key is tried once, then left alone for 5 minutes": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 3, Max: 3})
			fix.refuse(errBadKey)
			fix.quiet()
			f := fix.pool.Stats().Dial
			if !f.Parked || !errors.Is(f.Err, errBadKey) || f.Failures != 1 || time.Until(f.Next) != 5*time.Minute {
				t.Errorf("failure %+v, want parked for 5 minutes", f)
			}
			after(5*time.Minute - 1)
			fix.quiet()
			after(1)
			fix.connect()
			if f := fix.pool.Stats().Dial; f != (Failure{}) {
				t.Errorf("failure %+v after success", f)
			}
		},
		"a known-down target fails callers at once and says until when": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.refuse(errBadKey)
			var down *DownError
			if err := fix.ask().failed(); !errors.As(err, &down) {
				t.Fatalf("error %v, want DownError", err)
			}
			if !down.Parked || time.Until(down.Until) != 5*time.Minute || !errors.Is(down, errBadKey) {
				t.Errorf("%+v, want parked for 5 minutes", down)
			}
		},
		"Retry dials at once": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.refuse(errBadKey)
			fix.pool.Retry()
			if f := fix.pool.Stats().Dial; f.Failures != 1 || f.Parked {
				t.Errorf("failure %+v, want it on record but not parked", f)
			}
			fix.connect()
		},
		"Rotate with new credentials ends parking": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.refuse(errBadKey)
			fix.pool.Rotate(fix.dialer("new"))
			fix.connect()
			fix.expect("1 idle")
		},
		"Replace with another target ends parking": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.refuse(errBadKey)
			fix.pool.Replace(fix.dialer("new"))
			fix.connect()
			fix.expect("1 idle")
		},
		"an idle failing pool dials again for a caller once the backoff is over": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1})
			fix.ask()
			fix.refuse(errRefused)
			after(time.Second)
			fix.quiet()
			a := fix.ask()
			fix.connect()
			a.got()
		},
		"a failing target is dialed by one at a time": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 2, Max: 9, LeasesPerConn: 1, MaxAge: time.Hour})
			fix.connect()
			fix.connect()
			fix.lease()
			fix.lease()
			for range 5 {
				fix.ask()
			}
			for range 5 {
				fix.refuse(errRefused)
			}
			after(time.Second)
			fix.quietDuringDial()
		},
		"failures side by side count as one step of the backoff": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 9, Max: 9})
			fix.connect()
			for range 8 {
				fix.refuse(errRefused)
			}
			after(time.Second)
			fix.connect()
		},
		"a waiter at the end of a backoff is dialed for, though others serve": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 2})
			fix.ask()
			fix.connect()
			a := fix.ask()
			a.cancel()
			fix.refuse(errRefused)
			fix.ask()
			after(time.Second)
			fix.connect()
			fix.expect("2 in use, 2 leases")
		},
		"a target that drops every connection is backed off from": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			dials := 0
			for range 3600 {
				synctest.Wait()
				for len(fix.dials) > 0 {
					dials++
					fix.connect().cancel(errKilled)
					synctest.Wait()
				}
				after(time.Second)
			}
			if dials < 60 || dials > 400 {
				t.Errorf("%d dials in an hour, want about 120", dials)
			}
		},
		"callers wait while another dial may still succeed": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 2, Max: 2})
			a, b := fix.connect(), fix.connect()
			after(time.Minute)
			a.cancel(errKilled)
			b.cancel(errKilled)
			fix.expect("2 dialing")
			first := fix.ask()
			fix.refuse(errRefused)
			if !first.waits() {
				t.Fatalf("the caller failed with %v while a dial ran", first.err)
			}
			fix.connect()
			first.got()
		},
		"a connection that lasted is redialed at once, however often that happens": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			for range 9 {
				conn := fix.connect()
				after(time.Minute)
				conn.cancel(errKilled)
				fix.quietDuringDial()
			}
		},
		"Retry makes the backoff begin anew": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, DialTimeout: time.Hour})
			for range 9 {
				fix.refuse(errRefused)
				after(time.Minute)
			}
			fix.refuse(errRefused)
			fix.pool.Retry()
			fix.refuse(errRefused)
			if wait := time.Until(fix.pool.Stats().Dial.Next); wait > time.Second {
				t.Errorf("the next dial is in %s, want at most 1s", wait)
			}
		},
		"connections lost together are one loss": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 4, Max: 4})
			var conns []*fakeConn
			for range 4 {
				conns = append(conns, fix.connect())
			}
			after(time.Second)
			for _, c := range conns {
				c.cancel(errKilled)
			}
			synctest.Wait()
			if f := fix.pool.Stats().Dial; f.Failures > 0 {
				t.Errorf("%d failures, want none", f.Failures)
			}
			for range 4 {
				fix.connect()
			}
			fix.expect("4 idle")
		},
		"a caller who waits longer than the acquire timeout for a repeated dial learns why the last one failed": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1, AcquireTimeout: time.Second})
			fix.ask()
			fix.refuse(errRefused)
			after(time.Second)
			a := fix.ask()
			after(time.Second)
			if err := a.failed(); !errors.Is(err, errRefused) {
				t.Errorf("error %v, want the last failure", err)
			}
		},
		"a dial that hangs ends at its timeout and frees its slot": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, DialTimeout: 3 * time.Second})
			fix.dial()
			after(3 * time.Second)
			fix.expect("empty")
			if f := fix.pool.Stats().Dial; !errors.Is(f.Err, context.DeadlineExceeded) {
				t.Errorf("failure %v, want deadline exceeded", f.Err)
			}
		},
		"a caller who waits longer than the acquire timeout for the first dial learns that it is pending": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1, AcquireTimeout: time.Second})
			a := fix.ask()
			after(time.Second)
			var down *DownError
			if err := a.failed(); !errors.As(err, &down) || !errors.Is(err, ErrDialPending) {
				t.Errorf("error %v, want DownError with dial pending", err)
			}
		},
	})
}
