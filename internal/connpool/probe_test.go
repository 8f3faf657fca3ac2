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
			fix := newFixture(t, limits)
			fix.connect()
			fix.duly().result <- nil
			fix.lease()
			fix.duly().result <- nil
			synctest.Wait()
			if h := fix.pool.Stats().Probe; h.Successes != 2 || h.Failures != 0 {
				t.Errorf("health %+v, want 2 successes", h)
			}
		},
		"the third consecutive failure closes and replaces the connection": func(t *testing.T) {
			fix := newFixture(t, limits)
			conn := fix.connect()
			for _, result := range []error{errRefused, errRefused, nil, errRefused, errRefused} {
				fix.duly().result <- result
				fix.expectClosed(conn, false)
			}
			fix.transitions()
			fix.duly().result <- errRefused
			fix.expectClosed(conn, true)
			fix.expect("1 dialing")
			if n := fix.transitions(); n == 0 {
				t.Error("crossing the threshold was not notified")
			}
			if h := fix.pool.Stats().Probe; h.Failures != 3 || !errors.Is(h.Err, errRefused) {
				t.Errorf("health %+v, want 3 failures", h)
			}
			fix.connect()
			fix.transitions()
			fix.duly().result <- nil
			if n := fix.transitions(); n == 0 {
				t.Error("the end of the failures was not notified")
			}
		},
		"a probe that times out is a failure": func(t *testing.T) {
			fix := newFixture(t, limits)
			conn := fix.connect()
			after(3 * (time.Minute + 5*time.Second))
			fix.expectClosed(conn, true)
			if n := fix.pool.Stats().Probes.Failed; n != 3 {
				t.Errorf("%d failed probes, want 3", n)
			}
		},
		"probes of one pool are bounded": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 10, Max: 10, ProbePeriod: time.Minute, ProbeTimeout: 30 * time.Second})
			for range 10 {
				fix.connect()
			}
			after(time.Minute)
			if n := len(fix.probes); n != maxProbes {
				t.Errorf("%d probes run, want %d", n, maxProbes)
			}
			for range 10 {
				fix.probeCall().result <- nil
			}
			synctest.Wait()
			if n := fix.pool.Stats().Probes.Succeeded; n != 10 {
				t.Errorf("%d probes succeeded, want 10", n)
			}
		},
		"Close ends a probe and waits for it": func(t *testing.T) {
			fix := newFixture(t, limits)
			fix.connect()
			probe := fix.duly()
			_ = fix.pool.Close()
			if probe.ctx.Err() == nil {
				t.Error("the probe outlived the pool")
			}
		},
		"a connection that is closed during a probe ends it, so that Drain need not wait": func(t *testing.T) {
			patient := limits
			patient.DrainTimeout = time.Minute
			fix := newFixture(t, patient)
			fix.connect()
			probe := fix.duly()
			start := time.Now()
			if err := fix.pool.Drain(t.Context()); err != nil || time.Since(start) > 0 {
				t.Errorf("Drain took %s: %v", time.Since(start), err)
			}
			if probe.ctx.Err() == nil {
				t.Error("the probe outlived the connection")
			}
		},
		"a connection that dies during a probe is one loss": func(t *testing.T) {
			fix := newFixture(t, limits)
			conn := fix.connect()
			probe := fix.duly()
			conn.cancel(errKilled)
			synctest.Wait()
			probe.result <- errKilled
			fix.expect("1 dialing")
			fix.connect()
			fix.expect("1 idle")
		},
	})
}

// duly returns the next periodic probe when it comes.
func (fix *fixture) duly() *call {
	for range 60 {
		if synctest.Wait(); len(fix.probes) > 0 {
			break
		}
		after(time.Second)
	}
	return fix.probeCall()
}
