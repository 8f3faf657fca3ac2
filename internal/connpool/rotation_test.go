package connpool

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRotation(t *testing.T) {
	serving := func(t *testing.T) (*fixture, *fakeConn) {
		fix := newFixture(t, Limits{MinWarm: 1, LeasesPerConn: 2, Max: 2})
		conn := fix.connect()
		fix.pool.Rotate(fix.dialer("new"))
		return fix, conn
	}
	bubbles(t, map[string]func(*testing.T){
		"the new credentials are dialed and probed before the old leave": func(t *testing.T) {
			fix, old := serving(t)
			dial := fix.dial()
			dial.result <- nil
			probe := fix.probeCall()
			fix.expectClosed(old, false)
			fix.expect("1 idle, 1 dialing")
			probe.result <- nil
			fix.expectClosed(old, true)
			fix.expect("1 idle")
			if r := fix.pool.Stats().Rotation; r.Pending {
				t.Errorf("rotation %+v, want none pending", r)
			}
			if fix.lease().Conn() != dial.conn {
				t.Error("not the new connection is leased")
			}
		},
		"credentials that are refused leave the old ones serving, and say so": func(t *testing.T) {
			fix, old := serving(t)
			fix.refuse(errBadKey)
			r := fix.pool.Stats().Rotation
			if !r.Pending || !r.Parked || !errors.Is(r.Err, errBadKey) || r.Since.IsZero() {
				t.Errorf("rotation %+v, want pending and parked", r)
			}
			if f := fix.pool.Stats().Dial; f.Failures != 0 {
				t.Errorf("failures %+v of the old credentials, want none", f)
			}
			if fix.lease().Conn() != old {
				t.Error("the old connection does not serve")
			}
			after(5 * time.Minute)
			fix.connect()
			fix.probeCall().result <- nil
			fix.expect("1 idle, 1 draining, 1 leases")
		},
		"credentials whose connection fails its probe are not taken": func(t *testing.T) {
			fix, old := serving(t)
			conn := fix.connect()
			fix.probeCall().result <- errRefused
			fix.expectClosed(conn, true)
			fix.expectClosed(old, false)
			if r := fix.pool.Stats().Rotation; !r.Pending || !errors.Is(r.Err, errRefused) {
				t.Errorf("rotation %+v, want pending with the probe's error", r)
			}
			after(time.Second)
			fix.connect()
			fix.probeCall().result <- nil
			fix.expectClosed(old, true)
		},
		"while new credentials are on trial, losses are replaced with the old": func(t *testing.T) {
			fix, old := serving(t)
			fix.refuse(errBadKey)
			old.cancel(errKilled)
			if conn := fix.connect(); conn.target != "old" {
				t.Errorf("dialed with the %s credentials", conn.target)
			}
			fix.expect("1 idle")
		},
		"the trial takes no room from a replacement": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
			conn := fix.connect()
			fix.pool.Rotate(fix.dialer("new"))
			fix.dial()
			conn.cancel(errKilled)
			fix.expect("2 dialing")
		},
		"when the old credentials can no longer be dialed, the new ones are taken": func(t *testing.T) {
			fix, old := serving(t)
			fix.refuse(errRefused)
			old.cancel(errKilled)
			fix.refuse(errBadKey)
			after(time.Second)
			if conn := fix.connect(); conn.target != "new" {
				t.Errorf("dialed with the %s credentials", conn.target)
			}
			if r := fix.pool.Stats().Rotation; r.Pending {
				t.Error("rotation still pending")
			}
		},
		"newer credentials supersede those on trial": func(t *testing.T) {
			fix, _ := serving(t)
			first := fix.dial()
			fix.pool.Rotate(fix.dialer("newer"))
			synctest.Wait()
			if first.ctx.Err() == nil {
				t.Error("the superseded dial still runs")
			}
			if conn := fix.connect(); conn.target != "newer" {
				t.Errorf("dialed with the %s credentials", conn.target)
			}
			fix.probeCall().result <- nil
			fix.expect("1 idle")
		},
		"a superseded trial that succeeds after all is closed": func(t *testing.T) {
			fix, old := serving(t)
			first := fix.dial()
			first.result <- nil
			synctest.Wait()
			probe := fix.probeCall()
			probe.result <- nil
			fix.pool.Rotate(fix.dialer("newer"))
			fix.expectClosed(first.conn, true)
			fix.expectClosed(old, false)
		},
		"Retry tries parked credentials at once": func(t *testing.T) {
			fix, old := serving(t)
			fix.refuse(errBadKey)
			fix.pool.Retry()
			fix.connect()
			fix.probeCall().result <- nil
			fix.expectClosed(old, true)
		},
		"Replace ends the trial": func(t *testing.T) {
			fix, _ := serving(t)
			trial := fix.dial()
			fix.pool.Replace(fix.dialer("other"))
			synctest.Wait()
			if trial.ctx.Err() == nil {
				t.Error("the trial still runs")
			}
			if conn := fix.connect(); conn.target != "other" {
				t.Errorf("dialed %s", conn.target)
			}
			fix.expect("1 idle")
		},
		"every old connection leaves when its successor is warm": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 3, Max: 3})
			var old []*fakeConn
			for range 3 {
				old = append(old, fix.connect())
			}
			fix.pool.Rotate(fix.dialer("new"))
			fix.connect()
			fix.probeCall().result <- nil
			for _, want := range []string{"3 idle, 2 dialing", "3 idle, 1 dialing", "3 idle"} {
				fix.expect(want)
				if want != "3 idle" {
					fix.connect()
				}
			}
			for _, c := range old {
				fix.expectClosed(c, true)
			}
		},
	})
}
