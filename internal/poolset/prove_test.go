package poolset

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// proofTimeout is how long package reach waits for the proof of a connection.
const proofTimeout = 5 * time.Second

// one lets one command at a time run, on one connection.
func one(p *Policy) { p.Max, p.LeasesPerConn = 1, 1 }

// A connection on which a command did not complete may be dead without a sign of
// it yet: the next caller must not be the one who finds out.
func TestAConnectionOnWhichACommandDidNotCompleteProvesItselfFirst(t *testing.T) {
	frozen := func(ctx context.Context, _ *drivertest.FakeConn) error {
		<-ctx.Done()
		return &driver.Error{Reason: driver.Timeout, Stage: driver.StageKeepalive, Message: "no answer"}
	}
	slow := func(context.Context, *drivertest.FakeConn) error {
		time.Sleep(time.Second)
		return nil
	}
	busy := func(context.Context, *drivertest.FakeConn) error {
		return &driver.Error{Reason: driver.SessionLimit, Stage: driver.StageSession, Message: "busy"}
	}
	tests := map[string]struct {
		started bool
		probe   func(context.Context, *drivertest.FakeConn) error
		kill    bool
		wait    time.Duration
		same    bool
	}{
		"one that answers serves on":                          {started: true, same: true},
		"one that answers in its time serves on":              {started: true, probe: slow, wait: time.Second, same: true},
		"one that is busy has answered":                       {started: true, probe: busy, same: true},
		"one that is frozen is replaced":                      {started: true, probe: frozen, wait: proofTimeout},
		"one that is frozen before the start, too":            {probe: frozen, wait: proofTimeout},
		"one that is known to be dead is replaced at once":    {started: true, probe: frozen, kill: true},
		"one that dies while it is asked is replaced at once": {started: true, probe: dies, kill: false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				f.ensure(f.target("web", pool("p", one)))
				f.fake.OnProbe(tc.probe)
				f.fake.OnExec(func(_ context.Context, conn *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
					if tc.kill {
						conn.Kill(nil)
					}
					return driver.ExitStatus{}, &driver.Error{Reason: driver.Timeout, Stage: driver.StageRun, Started: tc.started}
				})
				first, err := f.exec(request("p", "web"))
				if got := driver.OutcomeOf(err); (got == driver.Unknown) != tc.started {
					t.Errorf("outcome %s", got)
				}
				begin := time.Now()
				next := f.acquire(request("p", "web"))
				if waited := time.Since(begin); waited != tc.wait {
					t.Errorf("the next caller waited %s, want %s", waited, tc.wait)
				}
				if same := next.ID() == first.Connection; same != tc.same {
					t.Errorf("the same connection: %t, want %t", same, tc.same)
				}
				next.Release()
			})
		})
	}
}

func dies(_ context.Context, conn *drivertest.FakeConn) error {
	conn.Kill(nil)
	return &driver.Error{Reason: driver.Unreachable, Stage: driver.StageKeepalive, Message: "lost"}
}

func TestCloseDoesNotWaitForAProofThatHangs(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", one)))
		f.fake.OnProbe(func(ctx context.Context, _ *drivertest.FakeConn) error {
			<-ctx.Done()
			return ctx.Err()
		})
		f.fake.OnExec(func(ctx context.Context, _ *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
			<-ctx.Done()
			return driver.ExitStatus{}, &driver.Error{Reason: driver.Timeout, Started: true}
		})
		during, cancelDuring := context.WithCancel(f.Context())
		after, cancelAfter := context.WithCancel(f.Context())
		lease := f.acquire(request("p", "web"))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = f.set.ExecOn(during, lease, request("p", "web"), driver.Command{}, driver.Streams{})
		}()
		sleep(0)
		cancelDuring()
		<-ended
		begin := time.Now()
		closed(f.set, time.Second)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("Close took %s", took)
		}
		cancelAfter()
		if _, err := f.set.Acquire(after, request("p", "web")); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("error %v, want %v", err, ErrUnknownPool)
		}
	})
}

// The lease comes before the answer to an upgrade, the command after it.
func TestACommandRunsOnTheLeaseThatWasTakenForIt(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", one)))
		lease := f.acquire(request("p", "web"))
		id := lease.ID()
		execution, err := f.set.ExecOn(f.Context(), lease, request("p", "web"), driver.Command{}, driver.Streams{})
		if err != nil || execution.Connection != id || execution.Target != ref("web") {
			t.Errorf("%+v, %v; want connection %d", execution, err, id)
		}
		if got := f.seen("web", "p"); got.Leases != 0 || got.Uses != 1 {
			t.Errorf("%d leases are out after %d uses, want 0 after 1", got.Leases, got.Uses)
		}
	})
}

func TestACommandOnALeaseGoesElsewhereWhenItsSessionIsRefused(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(2))))
		lease := f.acquire(request("p", "web"))
		id := lease.ID()
		full := &driver.Error{Reason: driver.SessionLimit, Stage: driver.StageSession, Message: "open failed"}
		var first *drivertest.FakeConn
		f.fake.OnExec(func(_ context.Context, conn *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
			if first == nil || first == conn {
				first = conn
				return driver.ExitStatus{}, full
			}
			return driver.ExitStatus{Code: 3}, nil
		})
		other := f.acquire(request("p", "web")) // keeps a session of the first busy
		execution, err := f.set.ExecOn(f.Context(), lease, request("p", "web"), driver.Command{}, driver.Streams{})
		if err != nil || execution.Code != 3 || execution.Connection == id {
			t.Errorf("%+v, %v; want exit code 3 from another connection than %d", execution, err, id)
		}
		other.Release()
	})
}

// F36: work is refused before its start, what runs lives, and nothing panics.
func TestWithoutADescriptorLeftNewWorkIsRefusedAndTheRestLives(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		lease := f.acquire(request("p", "web"))
		f.fake.OnDial(func(context.Context, driver.Endpoint) error { return syscall.EMFILE })
		f.ensure(f.target("new", pool("p")))
		_, err := f.exec(request("p", "new"))
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("error %v, want EMFILE", err)
		}
		f.wantStages(f.check("new"), driver.ProtocolError, driver.StagePrepare, driver.StageConnect)
		if err := lease.Conn().Context().Err(); err != nil {
			t.Errorf("what runs was cut: %v", err)
		}
		lease.Release()
		f.fake.OnDial(nil)
		sleep(2 * time.Minute)
		if f.seen("new", "p").Warm() == 0 {
			t.Error("the pool did not recover")
		}
	})
}
