package connpool

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRotation(t *testing.T) {
	serving := func(t *testing.T) (*world, *fakeConn) {
		w := newWorld(t, Limits{MinWarm: 1, LeasesPerConn: 2, Max: 2})
		conn := w.connect()
		w.pool.Rotate(w.dialer("new"))
		return w, conn
	}
	bubbles(t, map[string]func(*testing.T){
		"the new credentials are dialed and probed before the old leave": func(t *testing.T) {
			w, old := serving(t)
			dial := w.dial()
			dial.result <- nil
			probe := w.probeCall()
			w.expectClosed(old, false)
			w.expect("1 idle, 1 dialing")
			probe.result <- nil
			w.expectClosed(old, true)
			w.expect("1 idle")
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
			w.expect("1 idle, 1 draining, 1 leases")
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
				t.Errorf("dialed with the %s credentials", conn.target)
			}
			w.expect("1 idle")
		},
		"the trial takes no room from a replacement": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 1})
			conn := w.connect()
			w.pool.Rotate(w.dialer("new"))
			w.dial()
			conn.cancel(errKilled)
			w.expect("2 dialing")
		},
		"when the old credentials can no longer be dialed, the new ones are taken": func(t *testing.T) {
			w, old := serving(t)
			w.refuse(errRefused)
			old.cancel(errKilled)
			w.refuse(errBadKey)
			after(time.Second)
			if conn := w.connect(); conn.target != "new" {
				t.Errorf("dialed with the %s credentials", conn.target)
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
				t.Errorf("dialed with the %s credentials", conn.target)
			}
			w.probeCall().result <- nil
			w.expect("1 idle")
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
				t.Errorf("dialed %s", conn.target)
			}
			w.expect("1 idle")
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
			for _, want := range []string{"3 idle, 2 dialing", "3 idle, 1 dialing", "3 idle"} {
				w.expect(want)
				if want != "3 idle" {
					w.connect()
				}
			}
			for _, c := range old {
				w.expectClosed(c, true)
			}
		},
	})
}
