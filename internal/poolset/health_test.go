package poolset

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

var (
	refusedOnce = &driver.Error{Reason: driver.Unreachable, Message: "connection refused"}
	wrongKey    = &driver.Error{Reason: driver.AuthenticationFailed, Message: "permission denied"}
	turnedAway  = &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: time.Minute, Message: "not now"}
	probeMissed = &driver.Error{Reason: driver.Timeout, Message: "no answer"}
)

func TestHealthMovesByItsTable(t *testing.T) {
	three := thresholds{failures: 3, successes: 2}
	up := health{state: HealthUp, dialable: true}
	down := health{state: HealthDown, err: refusedOnce}
	tests := map[string]struct {
		from  health
		event healthEvent
		err   *driver.Error
		want  health
	}{
		"unknown, a dial succeeds: up at once": {
			health{}, dialSucceeded, nil, up,
		},
		"unknown, a dial fails: down at once": {
			health{}, dialFailed, refusedOnce, health{state: HealthDown, err: refusedOnce, dialFailures: 1},
		},
		"unknown, a probe succeeds: up, because something serves": {
			health{}, probeSucceeded, nil, health{state: HealthUp},
		},
		"unknown, a probe fails: not known yet": {
			health{}, probeFailed, probeMissed, health{probeFailures: 1},
		},
		"unknown, the last probe allowed fails: down": {
			health{probeFailures: 2}, probeFailed, probeMissed, health{state: HealthDown, err: probeMissed, probeFailures: 3},
		},

		"up, a dial succeeds: earlier dial failures are forgotten": {
			health{state: HealthUp, dialFailures: 2}, dialSucceeded, nil, health{state: HealthUp, dialable: true, successes: 1},
		},
		"up, a dial fails: up still": {
			up, dialFailed, refusedOnce, health{state: HealthUp, dialFailures: 1},
		},
		"up, the last dial allowed fails: down": {
			health{state: HealthUp, dialFailures: 2}, dialFailed, refusedOnce, health{state: HealthDown, err: refusedOnce, dialFailures: 3},
		},
		"up, a dial fails for good: down at once": {
			up, dialFailed, wrongKey, health{state: HealthDown, err: wrongKey, dialFailures: 1},
		},
		"up, a dial is turned away for long: down at once, because none follows soon": {
			up, dialFailed, turnedAway, health{state: HealthDown, err: turnedAway, dialFailures: 1},
		},
		"up, a probe finds the credentials refused: down at once": {
			up, probeFailed, wrongKey, health{state: HealthDown, err: wrongKey, dialable: true, probeFailures: 1},
		},
		"up, a probe succeeds: earlier probe failures are forgotten": {
			health{state: HealthUp, dialable: true, probeFailures: 2}, probeSucceeded, nil, health{state: HealthUp, dialable: true, successes: 1},
		},
		"up, a probe fails: up still": {
			up, probeFailed, probeMissed, health{state: HealthUp, dialable: true, probeFailures: 1},
		},
		"up, the last probe allowed fails: down": {
			health{state: HealthUp, dialable: true, probeFailures: 2},
			probeFailed, probeMissed,
			health{state: HealthDown, err: probeMissed, dialable: true, probeFailures: 3},
		},

		"down, a dial succeeds: a first success": {
			down, dialSucceeded, nil, health{state: HealthDown, err: refusedOnce, dialable: true, successes: 1},
		},
		"down, dials side by side succeed: one success together": {
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 1},
			dialSucceeded, nil,
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 1},
		},
		"down, a dial fails again: the newest reason counts": {
			health{state: HealthDown, err: refusedOnce, dialFailures: 1},
			dialFailed, wrongKey,
			health{state: HealthDown, err: wrongKey, dialFailures: 2},
		},
		"down, a probe succeeds while dials fail: nothing is proven": {
			down, probeSucceeded, nil, down,
		},
		"down, a probe succeeds after a dial did: up, but not for sure": {
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 1},
			probeSucceeded, nil,
			health{state: HealthUp, dialable: true, relapses: 1},
		},
		"down again after a recovery, two successes: not enough any more": {
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 1, relapses: 1},
			probeSucceeded, nil,
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 2, relapses: 1},
		},
		"down again after a recovery, four successes: up": {
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 3, relapses: 1},
			probeSucceeded, nil,
			health{state: HealthUp, dialable: true, relapses: 2},
		},
		"up again and it lasts: what was is forgotten": {
			health{state: HealthUp, dialable: true, successes: 2, relapses: 4},
			probeSucceeded, nil,
			health{state: HealthUp, dialable: true, successes: 3},
		},
		"down, a probe fails after a success: the successes start again": {
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 1},
			probeFailed, probeMissed,
			health{state: HealthDown, err: refusedOnce, dialable: true, probeFailures: 1},
		},
		"down, the last probe allowed fails: the newest reason counts": {
			health{state: HealthDown, err: refusedOnce, probeFailures: 2},
			probeFailed, probeMissed,
			health{state: HealthDown, err: probeMissed, probeFailures: 3},
		},

		"up, a young connection is dropped: up still": {
			up, connDropped, refusedOnce, health{state: HealthUp, dialable: true, drops: 1},
		},
		"up, the last drop allowed: down": {
			health{state: HealthUp, dialable: true, drops: 2},
			connDropped, refusedOnce,
			health{state: HealthDown, err: refusedOnce, dialable: true, drops: 3},
		},
		"up, a dial succeeds: drops are not forgotten": {
			health{state: HealthUp, drops: 2}, dialSucceeded, nil, health{state: HealthUp, dialable: true, successes: 1, drops: 2},
		},
		"up, a connection has lasted: drops are forgotten": {
			health{state: HealthUp, dialable: true, drops: 2}, steadySucceeded, nil, health{state: HealthUp, dialable: true, successes: 1},
		},
		"down by drops, a dial and a probe succeed: nothing is proven": {
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 1, drops: 3},
			probeSucceeded, nil,
			health{state: HealthDown, err: refusedOnce, dialable: true, drops: 3},
		},
		"down by drops, a connection has lasted: a first success": {
			health{state: HealthDown, err: refusedOnce, dialable: true, drops: 3},
			steadySucceeded, nil,
			health{state: HealthDown, err: refusedOnce, dialable: true, successes: 1},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := tc.from.next(tc.event, tc.err, three)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(health{})); diff != "" {
				t.Errorf("health (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATargetWhoseDialsFailStaysDownAlthoughItsConnectionsServe(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(2))))
		f.refuse(driver.Unreachable, everything)
		f.fake.Live()[0].Kill(nil)
		sleep(time.Minute)
		f.wantHealth("web", "p", HealthDown)
		for range 60 {
			sleep(10 * time.Second)
			f.wantHealth("web", "p", HealthDown)
			if _, err := f.exec(request("p", "web")); err != nil {
				f.Fatalf("the other connection serves no more: %v", err)
			}
		}
		if got := f.seen("web", "p"); got.Err == nil || got.Err.Reason != driver.Unreachable {
			f.Errorf("reason %v, want %s", got.Err, driver.Unreachable)
		}
		f.fake.OnDial(nil)
		sleep(2 * time.Minute)
		f.wantHealth("web", "p", HealthUp)
	})
}

func TestASpareConnectionIsKeptWhileTheTargetTakesNoNewOne(t *testing.T) {
	withFixture(t, func(f *fixture) {
		one := func(p *Policy) { p.LeasesPerConn = 1 }
		f.ensure(f.target("web", pool("p", minWarm(0), one)))
		running := f.acquire(request("p", "web"))
		f.refuse(driver.Unreachable, everything)
		for range 2 {
			if lease, err := f.set.Acquire(f.Context(), request("p", "web")); err == nil {
				lease.Release()
			}
			sleep(0)
		}
		running.Release()
		sleep(time.Minute)
		f.wantHealth("web", "p", HealthDown)
		if _, err := f.exec(request("p", "web")); err != nil {
			f.Errorf("the connection that there was is gone: %v", err)
		}
		f.wantLive(1, everything)
	})
}

func TestAFailedTargetIsTriedAgainAlthoughNothingAsksForIt(t *testing.T) {
	t.Run("a pool on demand whose requests go to other targets", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.ensure(f.target("a", pool("p", minWarm(0), anyTarget)), f.target("0", pool("p", minWarm(0), anyTarget)))
			f.refuse(driver.Unreachable, host("a"))
			if _, err := f.set.Acquire(f.Context(), request("p", "a")); err == nil {
				t.Fatal("leased although the host is unreachable")
			}
			f.wantHealth("a", "p", HealthDown)
			sleep(10 * time.Minute)
			f.wantHealth("a", "p", HealthDown)
			f.fake.OnDial(nil)
			sleep(2 * time.Minute)
			f.wantHealth("a", "p", HealthUp)
			sleep(10 * time.Minute)
			f.wantLive(0, everything) // what was dialed to find out has idled out
		})
	})
	t.Run("a pool that has more connections than it needs", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.ensure(f.target("a", pool("p", func(p *Policy) { p.LeasesPerConn, p.MaxAge = 1, 0 })))
			first, second := f.acquire(request("p", "a")), f.acquire(request("p", "a"))
			f.refuse(driver.Unreachable, everything)
			for range 3 {
				if lease, err := f.set.Acquire(f.Context(), request("p", "a")); err == nil {
					lease.Release()
				}
			}
			f.wantHealth("a", "p", HealthDown)
			f.fake.OnDial(nil)
			sleep(2 * time.Minute)
			f.wantHealth("a", "p", HealthUp)
			first.Release()
			second.Release()
			sleep(10 * time.Minute)
			f.wantLive(1, everything)
		})
	})
	t.Run("a pool on demand whose connections stopped answering", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.ensure(f.target("a", pool("p", minWarm(0))))
			f.acquire(request("p", "a")).Release()
			f.fake.OnProbe(func(context.Context, *drivertest.FakeConn) error { return probeMissed })
			sleep(3*time.Minute + time.Second)
			f.wantHealth("a", "p", HealthDown)
			f.fake.OnProbe(nil)
			sleep(2 * time.Minute)
			f.wantHealth("a", "p", HealthUp)
		})
	})
	t.Run("but not while its pool is paused", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.refuse(driver.Unreachable, everything)
			f.ensure(f.target("a", pool("p")))
			f.ensure(f.target("a", pool("p", paused)))
			before := f.dials(everything)
			sleep(time.Hour)
			f.wantDials(before, everything)
		})
	})
}

func TestATargetThatComesBackIsUpSoonAndOnlyAfterASecondSuccess(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.Unreachable, everything)
		f.ensure(f.target("web", pool("p", func(p *Policy) { p.ProbePeriod = 0 })))
		f.wantHealth("web", "p", HealthDown)
		f.fake.OnDial(nil)
		time.Sleep(time.Until(f.seen("web", "p").Dial.Next))
		sleep(0)
		f.wantLive(1, everything)
		f.wantHealth("web", "p", HealthDown)
		sleep(2 * recoveryProbePeriod)
		f.wantHealth("web", "p", HealthUp)
	})
}

func TestProbesTakeDownATargetThatAnswersNothing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(3))))
		f.fake.OnProbe(func(context.Context, *drivertest.FakeConn) error { return probeMissed })
		sleep(61 * time.Second)
		if got := f.seen("web", "p"); got.Health != HealthDown || got.Err.Reason != driver.Timeout {
			f.Errorf("health %v, %v, want down by a timeout", got.Health, got.Err)
		}
	})
}

func TestAHealthCommandDecidesByItsExitCode(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(3), func(p *Policy) { p.ProbeCommand = []string{"check"} })))
		f.fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, command driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
			if diff := cmp.Diff([]string{"check"}, command.Argv); diff != "" {
				f.Error(diff)
			}
			return driver.ExitStatus{Code: 3}, nil
		})
		sleep(61 * time.Second)
		if got := f.seen("web", "p"); got.Health != HealthDown || got.Err.Reason != driver.ProbeFailed {
			f.Errorf("health %v, %v, want down by the command", got.Health, got.Err)
		}
	})
}

func TestATargetThatTakesConnectionsOnlyToDropThemIsDown(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		sleep(time.Minute)
		down := 0
		for range 600 {
			for _, conn := range f.fake.Live() {
				conn.Kill(nil)
			}
			sleep(time.Second)
			if f.seen("web", "p").Health == HealthDown {
				down++
			}
		}
		if down < 580 {
			t.Errorf("down in %d of 600 s, want all but the first few", down)
		}
		if got := f.seen("web", "p").Err; got.Reason != driver.Unreachable {
			t.Errorf("reason %v, want %s", got, driver.Unreachable)
		}
		sleep(2 * time.Minute)
		f.wantHealth("web", "p", HealthUp)
	})
}

// F35: up and down every two seconds for ten minutes.
func TestATargetThatFlapsTurnsRarely(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(2))))
		turns, last := 0, HealthUp
		watch := func(d time.Duration) {
			for range d / (100 * time.Millisecond) {
				sleep(100 * time.Millisecond)
				if now := f.seen("web", "p").Health; now != last {
					turns, last = turns+1, now
				}
			}
		}
		for range 150 {
			f.refuse(driver.Unreachable, everything)
			for _, conn := range f.fake.Live() {
				conn.Kill(nil)
			}
			watch(2 * time.Second)
			f.fake.OnDial(nil)
			watch(2 * time.Second)
		}
		if turns > 10 {
			f.Errorf("health turned %d times, want at most 10", turns)
		}
	})
}
