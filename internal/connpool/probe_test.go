package connpool

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

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
			w.expect("1 idle")
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
