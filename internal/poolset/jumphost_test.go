package poolset

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// letJumpHostsForward lets jump hosts forward.
func (f *fixture) letJumpHostsForward() {
	f.fake.OnForward(func(_ context.Context, conn *drivertest.FakeConn, _, _ string) (net.Conn, error) {
		return sink(conn.Context()), nil
	})
}

func (f *fixture) jumpHost(name, version string, via *JumpHost) *JumpHost {
	return &JumpHost{Ref: ref(name), Access: f.access(name, version, via)}
}

// behind is a target that is reached through a jump host.
func (f *fixture) behind(via *JumpHost, name string, pools ...Pool) Target {
	target := f.target(name, pools...)
	target.Access = f.access(name, "v1", via)
	return target
}

func TestTargetsBehindOneJumpHostShareItsConnection(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.behind(jump, "a", pool("p", minWarm(2))), f.behind(jump, "b", pool("p", minWarm(2))))
		f.wantDials(1, host("jump"))
		f.wantLive(5, everything)
	})
}

func TestAJumpHostThatDiesIsRedialedOnceForAll(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		jump := f.jumpHost("jump", "v1", nil)
		for i := range 10 {
			f.ensure(f.behind(jump, fmt.Sprint("t", i), pool("p", minWarm(2))))
		}
		sleep(time.Minute)
		f.live(host("jump"))[0].Kill(nil)
		sleep(3 * time.Second)
		f.wantDials(2, host("jump"))
		f.wantLive(21, everything)
	})
}

// A dial that waits for its jump host holds no place that the jump host's own dial
// needs.
func TestManyTargetsBehindDeadJumpHostsComeUpWithinTheBudget(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(500 * time.Millisecond)
			return nil
		})
		const jumpHosts, each = 8, 8
		for b := range jumpHosts {
			via := f.jumpHost(fmt.Sprint("jump", b), "v1", nil)
			for i := range each {
				f.ensure(f.behind(via, fmt.Sprintf("t%d-%d", b, i), pool("p")))
			}
		}
		const all = jumpHosts + jumpHosts*each
		sleep(5 * time.Second)
		f.wantLive(all, everything)
		sleep(time.Minute)
		for range 2 { // the second time in the middle of the first recovery
			for _, conn := range f.live(func(e driver.Endpoint) bool { return strings.HasPrefix(e.Address, "jump") }) {
				conn.Kill(nil)
			}
			sleep(700 * time.Millisecond)
		}
		sleep(15 * time.Second)
		f.wantLive(all, everything)
	})
}

func TestRotatedCredentialsOfAJumpHostReachItOnceAndCutNothing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		old, changed := f.jumpHost("jump", "v1", nil), f.jumpHost("jump", "v2", nil)
		f.ensure(f.behind(old, "a", pool("p")), f.behind(old, "b", pool("p")))
		lease := f.acquire(request("p", "a"))
		f.ensure(f.behind(changed, "a", pool("p")), f.behind(changed, "b", pool("p")))
		sleep(time.Minute)
		f.wantDials(1, func(e driver.Endpoint) bool { return host("jump")(e) && key("v2")(e) })
		if err := lease.Conn().Context().Err(); err != nil {
			t.Errorf("what ran was cut: %v", err)
		}
		f.wantDials(2, func(e driver.Endpoint) bool { return !host("jump")(e) })
		lease.Release()

		for _, conn := range f.live(func(e driver.Endpoint) bool { return !host("jump")(e) }) {
			conn.Kill(nil)
		}
		sleep(time.Minute)
		f.wantLive(1, host("jump"))
		f.wantLive(3, everything)
		f.wantDials(1, func(e driver.Endpoint) bool { return host("jump")(e) && key("v1")(e) })
	})
}

func TestAJumpHostIsDisconnectedWhenNothingRunsOverItAnyMore(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.behind(jump, "a", pool("p")), f.behind(jump, "b", pool("p")))
		f.set.Remove("b-uid")
		sleep(time.Second)
		f.wantLive(1, host("jump"))

		running := f.acquire(request("p", "a"))
		f.ensure(Target{Ref: ref("a"), Access: f.access("a", "v1", jump)}) // no pool wants it
		sleep(removalGrace - time.Second)
		if err := running.Conn().Context().Err(); err != nil {
			t.Errorf("what ran was cut with its jump host: %v", err)
		}
		running.Release()
		sleep(time.Second)
		f.wantLive(0, everything)
	})
}

func TestWhatRunsOverAJumpHostThatIsNoLongerUsedEndsByItsOwnDeadline(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")))
		running := f.acquire(request("p", "a"))
		f.ensure(f.target("a", pool("p"))) // now reached directly: another identity
		sleep(5*time.Minute - time.Second)
		if err := running.Conn().Context().Err(); err != nil {
			t.Errorf("cut before the pool's drain timeout: %v", err)
		}
		sleep(2 * time.Second)
		f.wantLive(1, everything)
		running.Release()
	})
}

func TestAJumpHostThatCannotBeUsedIsNamed(t *testing.T) {
	unreachable := func(f *fixture) { f.refuse(driver.Unreachable, host("jump")) }
	tests := map[string]struct {
		breaks func(*fixture)
		cause  driver.Reason
	}{
		"it does not answer": {unreachable, driver.Unreachable},
		"it refuses the key": {func(f *fixture) { f.refuse(driver.AuthenticationFailed, host("jump")) }, driver.AuthenticationFailed},
		"its Secret cannot be used": {func(f *fixture) {
			f.fake.OnPrepare(func(e driver.Endpoint) error {
				if host("jump")(e) {
					return &driver.Error{Reason: driver.CredentialsInvalid, Message: "refused by the test"}
				}
				return nil
			})
		}, driver.CredentialsInvalid},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				f.letJumpHostsForward()
				tc.breaks(f)
				f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")))
				got := f.seen("a", "p")
				if got.Health != HealthDown || got.Err.Reason != driver.JumpTargetNotReady {
					t.Fatalf("health %v, %v; want down, %s", got.Health, got.Err, driver.JumpTargetNotReady)
				}
				if !strings.Contains(got.Err.Message, "jump") || !strings.Contains(got.Err.Message, "refused by the test") {
					t.Errorf("message %q, want the name and the cause", got.Err.Message)
				}
				if cause := driver.AsError(got.Err.Err).Reason; cause != tc.cause {
					t.Errorf("cause %s, want %s", cause, tc.cause)
				}
				f.wantDials(0, host("a"))
			})
		})
	}
}

// F17 for jump hosts: the key is tried once for all targets behind it, and for
// its own pool.
func TestAWrongKeyOfAJumpHostCostsOneDial(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.refuse(driver.AuthenticationFailed, host("jump"))
		jump := f.jumpHost("jump", "v1", nil)
		for i := range 10 {
			f.ensure(f.behind(jump, fmt.Sprint("t", i), pool("p", minWarm(2))))
		}
		f.ensure(f.target("jump", pool("p", minWarm(2))))
		sleep(5*time.Minute - time.Second)
		f.wantDials(1, host("jump"))
	})
}

func TestWhatIsBehindAJumpHostFollowsItsCorrectionAtOnce(t *testing.T) {
	mismatch := &driver.Error{Reason: driver.HostKeyMismatch, RetryAfter: 5 * time.Minute, Message: "mismatch"}
	tests := map[string]func(*fixture, string) *JumpHost{
		"the jump host itself": func(f *fixture, version string) *JumpHost { return f.jumpHost("jump", version, nil) },
		"a jump host behind it": func(f *fixture, version string) *JumpHost {
			return f.jumpHost("inner", "v1", f.jumpHost("jump", version, nil))
		},
	}
	for name, way := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				f.letJumpHostsForward()
				f.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
					if host("jump")(e) && key("v1")(e) {
						return mismatch
					}
					return nil
				})
				f.ensure(f.behind(way(f, "v1"), "a", pool("p")), f.behind(way(f, "v1"), "b", pool("p")))
				sleep(time.Minute)
				f.wantHealth("a", "p", HealthDown)
				f.ensure(f.behind(way(f, "v2"), "a", pool("p"))) // b hears of it later
				sleep(time.Second)
				for _, name := range []string{"a", "b"} {
					if f.seen(name, "p").Warm() == 0 {
						t.Errorf("%s is not served although its jump host was corrected", name)
					}
				}
			})
		})
	}
}

func TestAJumpHostsThrottleIsNotLongerBehindIt(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
			if host("jump")(e) {
				return &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: 5 * time.Minute, Message: "throttled"}
			}
			return nil
		})
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.behind(jump, "a", pool("p")))
		sleep(4 * time.Minute)
		f.fake.OnDial(nil)
		f.ensure(f.behind(jump, "b", pool("p")))
		sleep(time.Minute + time.Second)
		f.wantLive(3, everything)
	})
}

func TestAChainOfThreeJumpHostsWorks(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		outer := f.jumpHost("outer", "v1", nil)
		middle := f.jumpHost("middle", "v1", outer)
		inner := f.jumpHost("inner", "v1", middle)
		f.ensure(f.behind(inner, "a", pool("p", minWarm(2))))
		f.wantHealth("a", "p", HealthUp)
		f.wantLive(5, everything)
		sleep(time.Minute)
		f.live(host("outer"))[0].Kill(nil)
		sleep(10 * time.Second)
		f.wantLive(5, everything)
		f.set.Remove("a-uid")
		sleep(time.Second)
		f.wantLive(0, everything)
	})
}

func TestAJumpTargetThatCannotForwardIsNamed(t *testing.T) {
	withFixture(t, func(f *fixture) {
		via := f.jumpHost("jump", "v1", nil)
		via.Driver = plain{f.fake}
		f.ensure(f.behind(via, "a", pool("p")))
		if got := f.seen("a", "p"); got.Err == nil || got.Err.Reason != driver.JumpTargetNotReady {
			t.Errorf("%v, want %s", got.Err, driver.JumpTargetNotReady)
		}
	})
}

// plain is a driver whose connections can neither run nor forward anything.
type plain struct{ *drivertest.Fake }

// Prepare implements driver.Driver.
func (d plain) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	inner, err := d.Fake.Prepare(endpoint)
	return plainDialer{inner}, err
}

type plainDialer struct{ driver.Dialer }

// With implements driver.Dialer.
func (d plainDialer) With(change func(*driver.Endpoint)) driver.Dialer {
	return plainDialer{d.Dialer.With(change)}
}

// Dial implements driver.Dialer.
func (d plainDialer) Dial(ctx context.Context) (driver.Conn, error) {
	made, err := d.Dialer.Dial(ctx)
	return struct{ driver.Conn }{made}, err
}

// enginesFor makes a jump host that refuses streams on connections that logged in before the
// user was put into a group.
func (f *fixture) enginesFor(joined *atomic.Int64) {
	made := sync.Map{}
	f.fake.OnForward(func(_ context.Context, conn *drivertest.FakeConn, _, _ string) (net.Conn, error) {
		of, _ := made.LoadOrStore(conn, joined.Load())
		if of == int64(0) {
			return nil, &driver.Error{Reason: driver.Unreachable, Stage: driver.StageSession, Message: "permission denied"}
		}
		return sink(conn.Context()), nil
	})
}

func TestDrainReplacesTheConnectionsToJumpHosts(t *testing.T) {
	for name, drain := range map[string]string{"of the jump host's pool": "hosts", "of the pool behind it": "engines"} {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				var joined atomic.Int64
				f.enginesFor(&joined)
				jump := f.jumpHost("jump", "v1", nil)
				f.ensure(f.target("jump", pool("hosts")), f.behind(jump, "engine", pool("engines")))
				f.wantHealth("engine", "engines", HealthDown)
				joined.Store(1)
				before := f.live(host("jump"))
				if got := f.set.RecyclePool(drain + "-uid"); got == 0 {
					t.Error("no connection is being replaced")
				}
				sleep(time.Second)
				replaced := 0
				for _, c := range before {
					if c.Context().Err() != nil {
						replaced++
					}
				}
				if want := map[string]int{"hosts": 2, "engines": 1}[drain]; replaced != want {
					t.Errorf("%d connections to the jump host were replaced, want %d", replaced, want)
				}
				sleep(90 * time.Second)
				f.wantHealth("engine", "engines", HealthUp)
			})
		})
	}
}

func TestAJumpHostsConnectionThatMeetsOnlyRefusalsIsReplaced(t *testing.T) {
	withFixture(t, func(f *fixture) {
		var joined atomic.Int64
		f.enginesFor(&joined)
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "engine", pool("engines")))
		f.wantHealth("engine", "engines", HealthDown)
		joined.Store(1)
		sleep(replacedWithin)
		f.wantHealth("engine", "engines", HealthUp)
		dials := f.dials(host("jump"))
		if dials > 3 {
			t.Errorf("the jump host was dialed %d times", dials)
		}
		sleep(20 * time.Minute)
		f.wantDials(dials, host("jump"))
	})
}

// replacedWithin is longer than the patience with refusals and a whole backoff.
const replacedWithin = 6 * time.Minute

func TestOneRefusedStreamAmongOthersReplacesNoConnection(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnForward(func(_ context.Context, conn *drivertest.FakeConn, _, address string) (net.Conn, error) {
			if address == "bad:22" {
				return nil, &driver.Error{Reason: driver.Unreachable, Stage: driver.StageSession, Message: "refused"}
			}
			return sink(conn.Context()), nil
		})
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.behind(jump, "bad", pool("p")), f.behind(jump, "good", pool("p", func(p *Policy) { p.MaxAge = time.Minute })))
		sleep(20 * time.Minute)
		f.wantDials(1, host("jump"))
	})
}

// A bastion that forwards only serves what is behind it, whatever a pool says that
// wants sessions of it.
func TestAJumpHostNeedsNoSessionAndAPoolDoes(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
			if e.Address == "jump:22" && !e.ForwardOnly {
				return &driver.Error{Reason: driver.SessionLimit, Stage: driver.StageSession, Message: "no session"}
			}
			return nil
		})
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.target("jump", pool("bastions")), f.behind(jump, "a", pool("p")))
		sleep(time.Second)
		f.wantHealth("a", "p", HealthUp)
		if got := f.seen("jump", "bastions"); got.Health != HealthDown || got.Err.Reason != driver.SessionLimit {
			t.Errorf("health %v, %v; want down, %s", got.Health, got.Err, driver.SessionLimit)
		}
		f.wantStages(f.check("jump"), driver.SessionLimit, driver.StagePrepare, driver.StageSession)
		f.set.Remove("jump-uid")
		if got := f.check("jump"); got.Stages[len(got.Stages)-1].Err != nil {
			t.Errorf("as a jump host only: %v", got.Stages)
		}
	})
}
