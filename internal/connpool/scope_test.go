package connpool

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAnIdlePoolKeepsNoContext(t *testing.T) {
	limits := Limits{MinWarm: 1, ProbePeriod: time.Minute, ProbeTimeout: 5 * time.Second}
	bubbles(t, map[string]func(*testing.T){
		"after a dial": func(t *testing.T) {
			fix := newFixture(t, limits)
			fix.connect()
			fix.keepsNoContext()
		},
		"after a dial that failed": func(t *testing.T) {
			fix := newFixture(t, limits)
			fix.refuse(errRefused)
			fix.keepsNoContext()
		},
		"after a probe": func(t *testing.T) {
			fix := newFixture(t, limits)
			fix.connect()
			fix.duly().result <- nil
			fix.keepsNoContext()
		},
		"after dials that were given up": func(t *testing.T) {
			fix := newFixture(t, limits)
			given := fix.dial()
			limits := limits
			limits.Paused = true
			fix.pool.SetLimits(limits)
			<-given.ctx.Done()
			fix.keepsNoContext()
		},
	})
}

func (fix *fixture) keepsNoContext() {
	fix.t.Helper()
	synctest.Wait()
	fix.pool.mu.Lock()
	defer fix.pool.mu.Unlock()
	if s := &fix.pool.s; s.gen.dials.current != nil || s.probes.current != nil {
		fix.t.Fatalf("the pool keeps the context of a dial or a probe")
	}
}
