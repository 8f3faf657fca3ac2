package poolset

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// bastions lets jump hosts forward.
func (w *world) bastions() {
	w.fake.OnForward(func(_ context.Context, conn *drivertest.FakeConn, _, _ string) (net.Conn, error) {
		return sink(conn.Context()), nil
	})
}

func (w *world) hop(name, version string, via *Hop) *Hop {
	return &Hop{Ref: ref(name), Access: w.access(name, version, via)}
}

// behind is a target that is reached through a jump host.
func (w *world) behind(via *Hop, name string, pools ...Pool) Target {
	target := w.target(name, pools...)
	target.Access = w.access(name, "v1", via)
	return target
}

func TestTargetsBehindOneBastionShareItsConnection(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		bastion := w.hop("bastion", "v1", nil)
		w.ensure(w.behind(bastion, "a", pool("p", minWarm(2))), w.behind(bastion, "b", pool("p", minWarm(2))))
		w.wantDials(1, host("bastion"))
		w.wantLive(5, everything)
	})
}

func TestABastionThatDiesIsRedialedOnceForAll(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		bastion := w.hop("bastion", "v1", nil)
		for i := range 10 {
			w.ensure(w.behind(bastion, fmt.Sprint("t", i), pool("p", minWarm(2))))
		}
		sleep(time.Minute)
		w.live(host("bastion"))[0].Kill(nil)
		sleep(3 * time.Second)
		w.wantDials(2, host("bastion"))
		w.wantLive(21, everything)
	})
}

// A dial that waits for its bastion holds no place that the bastion's own dial
// needs.
func TestManyTargetsBehindDeadBastionsComeUpWithinTheBudget(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		w.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(500 * time.Millisecond)
			return nil
		})
		const bastions, each = 8, 8
		for b := range bastions {
			via := w.hop(fmt.Sprint("bastion", b), "v1", nil)
			for i := range each {
				w.ensure(w.behind(via, fmt.Sprintf("t%d-%d", b, i), pool("p")))
			}
		}
		const all = bastions + bastions*each
		sleep(5 * time.Second)
		w.wantLive(all, everything)
		sleep(time.Minute)
		for range 2 { // the second time in the middle of the first recovery
			for _, conn := range w.live(func(e driver.Endpoint) bool { return strings.HasPrefix(e.Address, "bastion") }) {
				conn.Kill(nil)
			}
			sleep(700 * time.Millisecond)
		}
		sleep(15 * time.Second)
		w.wantLive(all, everything)
	})
}

func TestRotatedCredentialsOfABastionReachItOnceAndCutNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		old, changed := w.hop("bastion", "v1", nil), w.hop("bastion", "v2", nil)
		w.ensure(w.behind(old, "a", pool("p")), w.behind(old, "b", pool("p")))
		lease := w.acquire(request("p", "a"))
		w.ensure(w.behind(changed, "a", pool("p")), w.behind(changed, "b", pool("p")))
		sleep(time.Minute)
		w.wantDials(1, func(e driver.Endpoint) bool { return host("bastion")(e) && key("v2")(e) })
		if err := lease.Conn().Context().Err(); err != nil {
			t.Errorf("what ran was cut: %v", err)
		}
		w.wantDials(2, func(e driver.Endpoint) bool { return !host("bastion")(e) })
		lease.Release()

		for _, conn := range w.live(func(e driver.Endpoint) bool { return !host("bastion")(e) }) {
			conn.Kill(nil)
		}
		sleep(time.Minute)
		w.wantLive(1, host("bastion"))
		w.wantLive(3, everything)
		w.wantDials(1, func(e driver.Endpoint) bool { return host("bastion")(e) && key("v1")(e) })
	})
}

func TestABastionIsDisconnectedWhenNothingRunsOverItAnyMore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		bastion := w.hop("bastion", "v1", nil)
		w.ensure(w.behind(bastion, "a", pool("p")), w.behind(bastion, "b", pool("p")))
		w.set.Remove("b-uid")
		sleep(time.Second)
		w.wantLive(1, host("bastion"))

		running := w.acquire(request("p", "a"))
		w.ensure(Target{Ref: ref("a"), Access: w.access("a", "v1", bastion)}) // no pool wants it
		sleep(removalGrace - time.Second)
		if err := running.Conn().Context().Err(); err != nil {
			t.Errorf("what ran was cut with its bastion: %v", err)
		}
		running.Release()
		sleep(time.Second)
		w.wantLive(0, everything)
	})
}

func TestWhatRunsOverABastionThatIsNoLongerUsedEndsByItsOwnDeadline(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		w.ensure(w.behind(w.hop("bastion", "v1", nil), "a", pool("p")))
		running := w.acquire(request("p", "a"))
		w.ensure(w.target("a", pool("p"))) // now reached directly: another identity
		sleep(5*time.Minute - time.Second)
		if err := running.Conn().Context().Err(); err != nil {
			t.Errorf("cut before the pool's drain timeout: %v", err)
		}
		sleep(2 * time.Second)
		w.wantLive(1, everything)
		running.Release()
	})
}

func TestABastionThatCannotBeUsedIsNamed(t *testing.T) {
	unreachable := func(w *world) { w.refuse(driver.Unreachable, host("bastion")) }
	tests := map[string]struct {
		breaks func(*world)
		cause  driver.Reason
	}{
		"it does not answer": {unreachable, driver.Unreachable},
		"it refuses the key": {func(w *world) { w.refuse(driver.AuthenticationFailed, host("bastion")) }, driver.AuthenticationFailed},
		"its Secret cannot be used": {func(w *world) {
			w.fake.OnPrepare(func(e driver.Endpoint) error {
				if host("bastion")(e) {
					return &driver.Error{Reason: driver.CredentialsInvalid, Message: "refused by the test"}
				}
				return nil
			})
		}, driver.CredentialsInvalid},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bastions()
				tc.breaks(w)
				w.ensure(w.behind(w.hop("bastion", "v1", nil), "a", pool("p")))
				got := w.seen("a", "p")
				if got.Health != HealthDown || got.Err.Reason != driver.JumpTargetNotReady {
					t.Fatalf("health %v, %v; want down, %s", got.Health, got.Err, driver.JumpTargetNotReady)
				}
				if !strings.Contains(got.Err.Message, "bastion") || !strings.Contains(got.Err.Message, "refused by the test") {
					t.Errorf("message %q, want the name and the cause", got.Err.Message)
				}
				if cause := driver.AsError(got.Err.Err).Reason; cause != tc.cause {
					t.Errorf("cause %s, want %s", cause, tc.cause)
				}
				w.wantDials(0, host("a"))
			})
		})
	}
}

// F17 for bastions: the key is tried once for all targets behind it, and for
// its own pool.
func TestAWrongKeyOfABastionCostsOneDial(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		w.refuse(driver.AuthenticationFailed, host("bastion"))
		bastion := w.hop("bastion", "v1", nil)
		for i := range 10 {
			w.ensure(w.behind(bastion, fmt.Sprint("t", i), pool("p", minWarm(2))))
		}
		w.ensure(w.target("bastion", pool("p", minWarm(2))))
		sleep(5*time.Minute - time.Second)
		w.wantDials(1, host("bastion"))
	})
}

func TestWhatIsBehindABastionFollowsItsCorrectionAtOnce(t *testing.T) {
	mismatch := &driver.Error{Reason: driver.HostKeyMismatch, RetryAfter: 5 * time.Minute, Message: "mismatch"}
	tests := map[string]func(*world, string) *Hop{
		"the bastion itself": func(w *world, version string) *Hop { return w.hop("bastion", version, nil) },
		"a bastion behind it": func(w *world, version string) *Hop {
			return w.hop("inner", "v1", w.hop("bastion", version, nil))
		},
	}
	for name, way := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bastions()
				w.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
					if host("bastion")(e) && key("v1")(e) {
						return mismatch
					}
					return nil
				})
				w.ensure(w.behind(way(w, "v1"), "a", pool("p")), w.behind(way(w, "v1"), "b", pool("p")))
				sleep(time.Minute)
				w.wantHealth("a", "p", HealthDown)
				w.ensure(w.behind(way(w, "v2"), "a", pool("p"))) // b hears of it later
				sleep(time.Second)
				for _, name := range []string{"a", "b"} {
					if w.seen(name, "p").Warm() == 0 {
						t.Errorf("%s is not served although its jump host was corrected", name)
					}
				}
			})
		})
	}
}

func TestABastionsPauseIsNotLongerBehindIt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		w.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
			if host("bastion")(e) {
				return &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: 5 * time.Minute, Message: "throttled"}
			}
			return nil
		})
		bastion := w.hop("bastion", "v1", nil)
		w.ensure(w.behind(bastion, "a", pool("p")))
		sleep(4 * time.Minute)
		w.fake.OnDial(nil)
		w.ensure(w.behind(bastion, "b", pool("p")))
		sleep(time.Minute + time.Second)
		w.wantLive(3, everything)
	})
}

func TestAChainOfThreeBastionsWorks(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		outer := w.hop("outer", "v1", nil)
		middle := w.hop("middle", "v1", outer)
		inner := w.hop("inner", "v1", middle)
		w.ensure(w.behind(inner, "a", pool("p", minWarm(2))))
		w.wantHealth("a", "p", HealthUp)
		w.wantLive(5, everything)
		sleep(time.Minute)
		w.live(host("outer"))[0].Kill(nil)
		sleep(10 * time.Second)
		w.wantLive(5, everything)
		w.set.Remove("a-uid")
		sleep(time.Second)
		w.wantLive(0, everything)
	})
}

func TestAJumpTargetThatCannotForwardIsNamed(t *testing.T) {
	inWorld(t, func(w *world) {
		via := w.hop("bastion", "v1", nil)
		via.Driver = plain{w.fake}
		w.ensure(w.behind(via, "a", pool("p")))
		if got := w.seen("a", "p"); got.Err == nil || got.Err.Reason != driver.JumpTargetNotReady {
			t.Errorf("%v, want %s", got.Err, driver.JumpTargetNotReady)
		}
	})
}

// plain is a driver whose connections can do nothing but live.
type plain struct{ *drivertest.Fake }

// Prepare implements driver.Driver.
func (d plain) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	inner, err := d.Fake.Prepare(endpoint)
	return plainDialer{inner}, err
}

type plainDialer struct{ driver.Dialer }

// Dial implements driver.Dialer.
func (d plainDialer) Dial(ctx context.Context) (driver.Conn, error) {
	made, err := d.Dialer.Dial(ctx)
	return struct{ driver.Conn }{made}, err
}

func TestFailuresOfABastionsPoolAreSaidInAUsersWords(t *testing.T) {
	tests := map[string]struct {
		err  error
		want driver.Reason
	}{
		"being closed":                 {connpool.ErrClosed, driver.Unreachable},
		"too many streams":             {connpool.ErrQueueFull, driver.SessionLimit},
		"still dialing":                {&connpool.DownError{Err: connpool.ErrDialPending}, driver.Timeout},
		"down for a reason of its own": {&connpool.DownError{Err: wrongKey}, driver.AuthenticationFailed},
		"down by hearsay":              {&connpool.DownError{Err: &hearsay{wrongKey}}, driver.AuthenticationFailed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := hopFailure(tc.err)
			if got.Reason != tc.want || strings.Contains(got.Message, "connpool:") {
				t.Errorf("%s: %q, want %s", got.Reason, got.Message, tc.want)
			}
		})
	}
}
