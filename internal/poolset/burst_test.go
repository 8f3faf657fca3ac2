package poolset

import (
	"context"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// late answers as a target does that starts hundreds of commands one after the other.
func late() error {
	return &driver.Error{Reason: driver.Timeout, Stage: driver.StageStart, Message: "no answer in time"}
}

func TestABurstOfUsesDoesNotTurnHealth(t *testing.T) {
	tests := map[string]struct {
		busy func(*fixture)
		pool Pool
		want HealthState
	}{
		"of uses that fill the pool, late probes": {
			busy: func(f *fixture) { f.fake.OnProbe(func(context.Context, *drivertest.FakeConn) error { return late() }) },
			pool: pool("p", leases(8)), want: HealthUp,
		},
		"of uses that fill the pool, a late health command": {
			busy: func(f *fixture) { f.fake.OnExec(lateExec) },
			pool: pool("p", leases(8), checked), want: HealthUp,
		},
		"without uses, late probes": {
			busy: func(f *fixture) { f.fake.OnProbe(func(context.Context, *drivertest.FakeConn) error { return late() }) },
			pool: pool("p", leases(64)), want: HealthDown,
		},
		"without uses, a late health command": {
			busy: func(f *fixture) { f.fake.OnExec(lateExec) },
			pool: pool("p", leases(64), checked), want: HealthDown,
		},
		"of uses, and the protocol is broken": {
			busy: func(f *fixture) {
				f.fake.OnProbe(func(context.Context, *drivertest.FakeConn) error {
					return &driver.Error{Reason: driver.ProtocolError}
				})
			},
			pool: pool("p", leases(8)), want: HealthDown,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				f.ensure(f.target("web", tc.pool))
				for range 6 {
					lease := f.acquire(request("p", "web"))
					defer lease.Release()
				}
				tc.busy(f)
				sleep(3*time.Minute + 10*time.Second)
				f.wantHealth("web", "p", tc.want)
			})
		})
	}
}

func leases(n int) func(*Policy) { return func(p *Policy) { p.Max, p.LeasesPerConn = 1, n } }

func lateExec(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
	return driver.ExitStatus{}, late()
}

func TestARefusedSessionTeachesNothingOfTheHealth(t *testing.T) {
	refused := &driver.Error{Reason: driver.SessionLimit, Stage: driver.StageSession, Message: "open failed"}
	t.Run("of a new connection, while others serve", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.ensure(f.target("web", pool("p")))
			f.fake.OnDial(func(context.Context, driver.Endpoint) error { return refused })
			f.ensure(f.target("web", pool("p", minWarm(3))))
			sleep(10 * time.Minute)
			f.wantHealth("web", "p", HealthUp)
			f.wantLive(1, everything)
		})
	})
	t.Run("of a new connection, alone", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.fake.OnDial(func(context.Context, driver.Endpoint) error { return refused })
			f.ensure(f.target("web", pool("p")))
			f.wantHealth("web", "p", HealthDown)
		})
	})
	t.Run("of a probe, which is no success either", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.ensure(f.target("web", pool("p")))
			f.fake.OnDial(func(context.Context, driver.Endpoint) error { return late() })
			f.ensure(f.target("web", pool("p", minWarm(2))))
			sleep(5 * time.Minute)
			f.wantHealth("web", "p", HealthDown)
			f.fake.OnDial(nil)
			f.fake.OnProbe(func(context.Context, *drivertest.FakeConn) error { return refused })
			sleep(10 * time.Minute)
			f.wantHealth("web", "p", HealthDown)
		})
	})
}
