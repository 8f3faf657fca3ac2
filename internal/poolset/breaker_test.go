package poolset

import (
	"context"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

func reasonOf(err error) driver.Reason {
	if err == nil {
		return ""
	}
	return driver.AsError(err).Reason
}

// F17: one attempt, then parked; others keep working.
func TestAWrongKeyCostsOneDialHoweverManyPoolsWantTheTarget(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.AuthenticationFailed, key("wrong"))
		f.ensure(
			f.target("web", pool("p", minWarm(3)), pool("q", minWarm(3))).rotated("wrong"),
			f.target("db", pool("p", minWarm(3))),
		)
		sleep(5*time.Minute - time.Second)
		f.wantDials(1, host("web"))
		f.wantHealth("web", "p", HealthDown)
		f.wantHealth("web", "q", HealthDown)
		if failures := sumOfFailures(f); failures != 1 {
			f.Errorf("%d failed dials counted, want 1", failures)
		}
		if _, err := f.exec(request("p", "db")); err != nil {
			f.Errorf("another target of the pool: %v", err)
		}
		for want := 2; want < 6; want++ {
			sleep(5 * time.Minute)
			f.wantDials(want, host("web"))
		}
	})
}

func sumOfFailures(f *fixture) (n uint64) {
	for _, o := range f.set.Snapshot() {
		for _, failures := range o.DialFailures {
			n += failures
		}
	}
	return n
}

func TestACorrectedKeyIsTriedAtOnce(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.AuthenticationFailed, key("wrong"))
		web := f.target("web", pool("p", minWarm(3)), pool("q", minWarm(3)))
		f.ensure(web.rotated("wrong"))
		f.ensure(web)
		f.wantHealth("web", "p", HealthUp)
		f.wantLive(6, everything)
	})
}

// F13: no key is offered to a host with the wrong identity, and it is asked
// rarely.
func TestAChangedHostKeyIsTriedEveryFiveMinutes(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.HostKeyMismatch, everything)
		f.ensure(f.target("web", pool("p", minWarm(3)), pool("q", minWarm(3))))
		sleep(time.Hour - time.Second)
		f.wantDials(12, everything)
		if got := f.seen("web", "q"); got.Err == nil || got.Err.Reason != driver.HostKeyMismatch {
			f.Errorf("reason %v, want %s", got.Err, driver.HostKeyMismatch)
		}
	})
}

// F18: no dial while the server penalizes us; what is warm keeps serving.
func TestAThrottlingServerIsLeftAloneWhileWarmConnectionsServe(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(2)), pool("q")))
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			return &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: 2 * time.Minute}
		})
		f.live(everything)[0].Kill(nil)
		f.live(everything)[1].Kill(nil)
		sleep(0)
		told := f.dials(everything) // two that began side by side may both be told
		sleep(2*time.Minute - time.Second)
		f.wantDials(told, everything)
		served := 0
		for _, name := range []string{"p", "q"} {
			if _, err := f.exec(request(name, "web")); err == nil {
				served++
			}
		}
		if served == 0 {
			f.Error("nothing serves although a connection lives")
		}
	})
}

// sshd refuses the address of the operator, not an account.
func TestAThrottleThatOneTargetIsToldOfHoldsForAllTargetsAtTheServer(t *testing.T) {
	withFixture(t, func(f *fixture) {
		there := func(name, address string) Target {
			target := f.target(name, pool("p"))
			target.Endpoint.Address, target.Identity = address, name+"@"+address
			return target
		}
		f.ensure(there("a", "web:22"))
		f.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
			if e.Address != "web:22" {
				return nil
			}
			return &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: time.Minute, Message: "not now"}
		})
		f.ensure(there("b", "web:22"))
		f.ensure(there("c", "web:22"), there("d", "web:2222"))
		sleep(time.Minute - time.Second)
		f.wantDials(2, host("web"))
		if _, err := f.exec(request("p", "a")); err != nil {
			t.Errorf("what is warm does not serve: %v", err)
		}
		if got := f.seen("c", "p"); got.Err == nil || got.Err.Reason != driver.ThrottledByServer {
			t.Errorf("c: %v, want %s", got.Err, driver.ThrottledByServer)
		}
		f.wantHealth("d", "p", HealthUp)
		f.fake.OnDial(nil)
		sleep(10 * time.Second)
		f.wantLive(4, everything)
	})
}
