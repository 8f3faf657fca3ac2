package poolset

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/test/openssh"
)

func checked(p *Policy) { p.ProbeCommand = []string{"check"} }

// answers makes every command end with the code at that time.
func (f *fixture) answers(code *atomic.Int32) {
	f.fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
		return driver.ExitStatus{Code: int(code.Load())}, nil
	})
}

func TestAHealthCommandNeverCutsAnotherOne(t *testing.T) {
	alone := func(p *Policy) { p.LeasesPerConn, p.Max = 1, 1 }
	tests := map[string]func(*Policy){
		"every session is leased":                                 alone,
		"the server allows fewer sessions than the pool believes": func(*Policy) {},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				server := &sessions{limit: 1, took: 10 * time.Minute, running: map[*drivertest.FakeConn]int{}}
				f.fake.OnExec(server.serve)
				f.ensure(f.target("web", pool("p", checked, change)))
				if _, err := f.exec(request("p", "web")); err != nil {
					t.Errorf("a healthy command of ten minutes: %v (%v), want nil", err, driver.OutcomeOf(err))
				}
				f.wantHealth("web", "p", HealthUp)
				f.wantDials(1, everything)
			})
		})
	}
}

func TestAHealthCommandThatFailsMovesTheHealthAndNothingElse(t *testing.T) {
	withFixture(t, func(f *fixture) {
		code := new(atomic.Int32)
		code.Store(1)
		f.answers(code)
		f.ensure(f.target("web", pool("p", checked, func(p *Policy) { p.MaxAge = 0 })))
		sleep(2*time.Minute + time.Second)
		f.wantHealth("web", "p", HealthUp)
		sleep(time.Minute)
		if got := f.seen("web", "p"); got.Health != HealthDown || got.Err.Reason != driver.ProbeFailed {
			t.Errorf("health %v, %v, want down by the command", got.Health, got.Err)
		}
		sleep(30 * time.Minute)
		f.wantDials(1, everything)
		if n := len(f.fake.Live()[0].Execs()); n > 37 {
			t.Errorf("the command ran %d times in 33 minutes, want once a minute", n)
		}
		code.Store(0)
		before := len(f.fake.Live()[0].Execs())
		for f.seen("web", "p").Health != HealthUp {
			sleep(time.Second)
		}
		if n := len(f.fake.Live()[0].Execs()) - before; n != 2 {
			t.Errorf("up after %d successes, want 2", n)
		}
		f.wantDials(1, everything)
	})
}

func TestAHealthCommandThatCannotRunIsAFailure(t *testing.T) {
	tests := map[string]func(*fixture) driver.Driver{
		"the target runs no commands": func(f *fixture) driver.Driver { return plain{f.fake} },
		"it does not end": func(f *fixture) driver.Driver {
			f.fake.OnExec(func(ctx context.Context, _ *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
				<-ctx.Done()
				return driver.ExitStatus{}, &driver.Error{Reason: driver.Timeout, Started: true, Message: "no end"}
			})
			return f.fake
		},
	}
	for name, driverOf := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				web := f.target("web", pool("p", checked))
				web.Driver = driverOf(f)
				f.ensure(web)
				sleep(5 * time.Minute)
				if got := f.seen("web", "p"); got.Health != HealthDown || got.Err.Reason != driver.ProbeFailed {
					t.Errorf("health %v, %v, want down by the command", got.Health, got.Err)
				}
				f.wantDials(1, everything)
			})
		})
	}
}

func TestWithoutItsHealthCommandATargetIsJudgedByProbesAgain(t *testing.T) {
	withFixture(t, func(f *fixture) {
		code := new(atomic.Int32)
		code.Store(1)
		f.answers(code)
		f.ensure(f.target("web", pool("p", checked)))
		sleep(5 * time.Minute)
		f.wantHealth("web", "p", HealthDown)
		f.ensure(f.target("web", pool("p")))
		f.wantHealth("web", "p", HealthUp)
	})
}

func TestAServerThatHasNoSessionForAProbeHasAnswered(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnProbe(func(context.Context, *drivertest.FakeConn) error {
			return &driver.Error{Reason: driver.SessionLimit, Message: "open failed"}
		})
		f.ensure(f.target("web", pool("p", func(p *Policy) { p.MaxAge = 0 })))
		sleep(time.Hour)
		f.wantHealth("web", "p", HealthUp)
		f.wantDials(1, everything)
	})
}

// A login that may run nothing is nologin's: sshd takes its words for the command's.
func TestAHealthCommandTellsWhatALoginThatMayRunNothingPrints(t *testing.T) {
	server, err := openssh.Start(t.Context(), openssh.Options{Dir: t.TempDir(), Config: []string{"ForceCommand /usr/sbin/nologin"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	set := New(new(net.Dialer).DialContext, dialbudget.New(30, 3, 6))
	t.Cleanup(func() { closed(set, time.Second) })
	down := make(chan struct{}, 100)
	set.Subscribe(func(Ref) { down <- struct{}{} })
	ensureSSH(t, set, server, func(p *Policy) {
		p.ProbeCommand, p.FailureThreshold, p.ProbePeriod = []string{"true"}, 1, 100*time.Millisecond
	})
	for range down {
		o, _ := set.Observe("web-uid")
		if len(o.Pools) == 0 || o.Pools[0].Health != HealthDown {
			continue
		}
		if got := o.Pools[0].Err; got.Reason != driver.ProbeFailed || !strings.Contains(got.Message, "currently not available") {
			t.Errorf("%s: %s", got.Reason, got.Message)
		}
		return
	}
}
