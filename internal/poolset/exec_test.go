package poolset

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// sessions is a server that allows a limited number of channels on a connection.
type sessions struct {
	limit int
	took  time.Duration

	mu       sync.Mutex
	running  map[*drivertest.FakeConn]int
	refusals int
}

// serve plays the remote of one command.
func (s *sessions) serve(_ context.Context, conn *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
	if !s.begin(conn) {
		return driver.ExitStatus{}, &driver.Error{Reason: driver.SessionLimit, Stage: driver.StageSession, Message: "open failed"}
	}
	time.Sleep(s.took)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[conn]--
	return driver.ExitStatus{}, nil
}

func (s *sessions) begin(conn *drivertest.FakeConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[conn] >= s.limit {
		s.refusals++
		return false
	}
	s.running[conn]++
	return true
}

// F19: another connection, or the queue, and no spurious failure.
func TestAServerThatAllowsFewerSessionsFailsNoCommand(t *testing.T) {
	withFixture(t, func(f *fixture) {
		server := &sessions{limit: 4, took: time.Second, running: map[*drivertest.FakeConn]int{}}
		f.fake.OnExec(server.serve)
		f.ensure(f.target("web", pool("p", func(p *Policy) { p.AcquireTimeout = time.Minute })))
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() {
				if _, err := f.exec(request("p", "web")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := f.seen("web", "p").Cap; got != 4 {
			t.Errorf("learned %d sessions for each connection, want 4", got)
		}
		if got := f.seen("web", "p").Uses; got != 40 {
			t.Errorf("%d uses, want 40: refused sessions are none", got)
		}
		before := server.refusals
		for range 40 {
			all.Go(func() { _, _ = f.exec(request("p", "web")) })
		}
		all.Wait()
		if more := server.refusals - before; more > 0 {
			t.Errorf("%d sessions refused although the limit was learned", more)
		}
	})
}

func TestAServerThatRefusesEverySessionIsAskedAFewTimesOnly(t *testing.T) {
	withFixture(t, func(f *fixture) {
		server := &sessions{running: map[*drivertest.FakeConn]int{}}
		f.fake.OnExec(server.serve)
		f.ensure(f.target("web", pool("p")))
		_, err := f.exec(request("p", "web"))
		if reasonOf(err) != driver.SessionLimit || driver.OutcomeOf(err) != driver.NotStarted {
			t.Errorf("error %v, want %s, not started", err, driver.SessionLimit)
		}
		if server.refusals != MaxSessionRefusals+1 {
			t.Errorf("asked %d times, want %d", server.refusals, MaxSessionRefusals+1)
		}
	})
}

func TestExecKeepsTheOutcomeAndRetriesNothingElse(t *testing.T) {
	failure := func(reason driver.Reason, started bool) error {
		return &driver.Error{Reason: reason, Stage: driver.StageRun, Started: started}
	}
	tests := map[string]struct {
		err   error
		want  driver.Outcome
		times int
	}{
		"completed":                     {nil, driver.Completed, 1},
		"not started":                   {failure(driver.Timeout, false), driver.NotStarted, 1},
		"may have started":              {failure(driver.Timeout, true), driver.Unknown, 1},
		"not classified proves nothing": {errors.New("boom"), driver.Unknown, 1},
		"a session limit after the start is not retried": {failure(driver.SessionLimit, true), driver.Unknown, 1},
		"a session limit before the start is tried anew": {failure(driver.SessionLimit, false), driver.NotStarted, MaxSessionRefusals + 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				times := 0
				f.fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
					times++
					return driver.ExitStatus{Code: 7}, tc.err
				})
				f.ensure(f.target("web", pool("p")))
				execution, err := f.exec(request("p", "web"))
				if got := driver.OutcomeOf(err); got != tc.want || times != tc.times {
					t.Errorf("outcome %s after %d tries, want %s after %d", got, times, tc.want, tc.times)
				}
				if execution.Target != ref("web") {
					t.Errorf("ran at %v", execution.Target)
				}
				sleep(0) // the connection proves itself
				if got := f.seen("web", "p"); got.Leases != 0 {
					t.Errorf("%d leases are still out", got.Leases)
				}
			})
		})
	}
}

func TestAnErrorOfAcquireTellsWhyAndProvesThatNothingRan(t *testing.T) {
	impatient := func(p *Policy) { p.Max, p.LeasesPerConn, p.AcquireTimeout = 1, 1, time.Second }
	tests := map[string]struct {
		arrange func(*fixture)
		request Request
		want    error
		reason  driver.Reason
	}{
		"no such pool":   {func(*fixture) {}, request("none", ""), ErrUnknownPool, ""},
		"no such target": {func(*fixture) {}, request("p", "none"), ErrUnknownTarget, ""},
		"every slot is leased": {
			func(f *fixture) {
				f.ensure(f.target("web", pool("p", impatient)))
				lease := f.acquire(request("p", "web"))
				time.AfterFunc(time.Minute, lease.Release)
			}, request("p", "web"), connpool.ErrAcquireTimeout, "",
		},
		"too many wait already": {
			func(f *fixture) {
				f.ensure(f.target("web", pool("p", impatient, func(p *Policy) { p.MaxPending = 1 })))
				first := f.acquire(request("p", "web"))
				go func() {
					if next, err := f.set.Acquire(f.Context(), request("p", "web")); err == nil {
						next.Release()
					}
				}()
				sleep(0)
				time.AfterFunc(time.Minute, first.Release)
			}, request("p", "web"), connpool.ErrQueueFull, "",
		},
		"the pool is paused": {
			func(f *fixture) { f.ensure(f.target("web", pool("p", paused))) }, request("p", "web"), connpool.ErrPaused, "",
		},
		"the first dial has not ended": {
			func(f *fixture) {
				f.fake.OnDial(func(context.Context, driver.Endpoint) error {
					time.Sleep(30 * time.Second)
					return nil
				})
				f.ensure(f.target("slow", pool("p", impatient)))
			}, request("p", "slow"), connpool.ErrDialPending, "",
		},
		"the target is down": {
			func(f *fixture) {
				f.refuse(driver.AuthenticationFailed, everything)
				for _, conn := range f.fake.Live() {
					conn.Kill(nil)
				}
				sleep(0)
			}, request("p", "web"), nil, driver.AuthenticationFailed,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				f.ensure(f.target("web", pool("p")))
				tc.arrange(f)
				_, err := f.set.Acquire(f.Context(), tc.request)
				if tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("error %v, want %v", err, tc.want)
				}
				ended := notStarted(err) // as ExecOn returns it
				if driver.OutcomeOf(ended) != driver.NotStarted || !errors.Is(ended, err) {
					t.Errorf("%v: outcome %s, want %s because of %v", ended, driver.OutcomeOf(ended), driver.NotStarted, err)
				}
				if reasonOf(ended) != tc.reason {
					t.Errorf("reason %q, want %q", reasonOf(ended), tc.reason)
				}
				sleep(time.Minute)
			})
		})
	}
}

func TestACallerMayGiveUpWaiting(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
			<-ctx.Done()
			return ctx.Err()
		})
		f.ensure(f.target("web", pool("p")))
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		if _, err := f.set.Acquire(ctx, request("p", "web")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
	})
}

// The session is refused, and meanwhile the pool was paused.
func TestACommandThatFindsNoOtherConnectionHasNotStarted(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		f.fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			if err := f.ensured(f.target("web", pool("p", paused))); err != nil {
				t.Error(err)
			}
			return driver.ExitStatus{}, &driver.Error{Reason: driver.SessionLimit, Stage: driver.StageSession, Message: "open failed"}
		})
		execution, err := f.exec(request("p", "web"))
		if driver.OutcomeOf(err) != driver.NotStarted || !errors.Is(err, connpool.ErrPaused) || execution.Connection == 0 {
			t.Errorf("%+v, %v; want it not started because of %v", execution, err, connpool.ErrPaused)
		}
	})
}

func TestARequestThatNamesNoTarget(t *testing.T) {
	t.Run("runs on the least loaded target that serves, if any may serve", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.refuse(driver.Unreachable, host("a"))
			for _, name := range []string{"a", "b", "c"} {
				f.ensure(f.target(name, pool("p")))
			}
			var got []string
			for range 4 {
				lease := f.acquire(request("p", ""))
				defer lease.Release()
				got = append(got, lease.Target.Name)
			}
			if diff := cmp.Diff([]string{"b", "c", "b", "c"}, got); diff != "" {
				t.Errorf("routed (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("runs on the only target there is", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.ensure(f.target("web", pool("p")))
			if got, err := f.exec(request("p", "")); err != nil || got.Target != ref("web") {
				t.Errorf("ran at %v, %v", got.Target, err)
			}
		})
	})
}

func TestATargetThatRunsNoCommandsSaysSo(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		web.Driver = plain{f.fake}
		f.ensure(web)
		_, err := f.exec(request("p", "web"))
		if driver.OutcomeOf(err) != driver.NotStarted || reasonOf(err) != driver.ProtocolError {
			t.Errorf("error %v, want %s, not started", err, driver.ProtocolError)
		}
	})
}
