package poolset

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// awaitBackoff lets time pass until the next dial of a target is longer away than that, for
// each of the pools at the same time.
func (f *fixture) awaitBackoff(target string, longer time.Duration, pools ...string) {
	f.Helper()
	soon := func(pool string) bool { return time.Until(f.seen(target, pool).Dial.Next) <= longer }
	for range 10_000 {
		if !slices.ContainsFunc(pools, soon) {
			return
		}
		sleep(100 * time.Millisecond)
	}
	f.Fatalf("the backoff of %s does not become longer than %s", target, longer)
}

// failWith makes every dial of the hosts fail with an error of its own, so that a fresh
// one can be told from one that is remembered.
func (f *fixture) failWith(reason driver.Reason, which func(driver.Endpoint) bool) {
	n := 0
	f.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
		if !which(e) {
			return nil
		}
		n++
		return &driver.Error{Reason: reason, Stage: driver.StageConnect, Message: fmt.Sprintf("failure %d.", n)}
	})
}

func TestAHostThatIsBackServesTheNextRequest(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.Unreachable, everything)
		f.ensure(f.target("web", pool("p")))
		f.awaitBackoff("web", 20*time.Second, "p")
		sleep(connpool.InsistGap)
		f.fake.OnDial(nil)
		asked := time.Now()
		if _, err := f.exec(request("p", "web")); err != nil {
			f.Errorf("the request: %v", err)
		}
		if took := time.Since(asked); took > 0 {
			f.Errorf("it waited for %s", took)
		}
	})
}

func TestARequestDuringTheBackoffGetsAFreshError(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.failWith(driver.Unreachable, everything)
		f.ensure(f.target("web", pool("p")))
		f.awaitBackoff("web", 10*time.Second, "p")
		sleep(connpool.InsistGap)
		before := f.dials(everything)
		_, err := f.exec(request("p", "web"))
		if want := fmt.Sprintf("failure %d.", before+1); err == nil || !strings.Contains(err.Error(), want) {
			f.Errorf("error %v, want %q", err, want)
		}
		f.wantDials(before+1, everything)
	})
}

// Pools of one target have backoffs of their own, and share the attempts of requests.
func TestRequestsByManyPoolsMakeOneAttemptInTwoSeconds(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.failWith(driver.Unreachable, everything)
		var pools []Pool
		for i := range 20 {
			pools = append(pools, pool(fmt.Sprint("p", i)))
		}
		f.ensure(f.target("web", pools...))
		for i := range pools {
			f.awaitBackoff("web", 0, fmt.Sprint("p", i))
		}
		sleep(10 * time.Minute)
		const minutes = 10
		own := f.dials(everything)
		sleep(minutes * time.Minute)
		own = f.dials(everything) - own
		before := f.dials(everything)
		for began := time.Now(); time.Since(began) < minutes*time.Minute; sleep(50 * time.Millisecond) {
			for i := range pools {
				if _, err := f.exec(request(fmt.Sprint("p", i), "web")); err == nil {
					f.Fatal("a request was served")
				}
			}
		}
		if got := f.dials(everything) - before; got > 30*minutes+own+own/2 {
			f.Errorf("%d dials in %d minutes, %d without requests; want at most one more in 2 s", got, minutes, own)
		}
	})
}

func TestAPoolMayDialWhatAnotherHasJustReached(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.Unreachable, everything)
		f.ensure(f.target("web", pool("p"), pool("q")))
		f.awaitBackoff("web", 10*time.Second, "p", "q")
		sleep(connpool.InsistGap)
		f.fake.OnDial(nil)
		for _, name := range []string{"p", "q"} {
			if _, err := f.exec(request(name, "web")); err != nil {
				f.Errorf("pool %s: %v", name, err)
			}
		}
	})
}

func TestARequestDoesNotOfferARefusedKeyAgain(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.AuthenticationFailed, everything)
		f.ensure(f.target("web", pool("p"), pool("q")))
		for range 60 {
			sleep(4 * time.Second)
			_, _ = f.exec(request("p", "web"))
			_, _ = f.exec(request("q", "web"))
		}
		f.wantDials(1, everything)
	})
}

func TestARequestDoesNotDialAServerThatAskedForAPause(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			return &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: time.Minute, Message: "not now"}
		})
		f.ensure(f.target("web", pool("p")))
		for range 19 {
			sleep(3 * time.Second)
			_, _ = f.exec(request("p", "web"))
		}
		f.wantDials(1, everything)
	})
}

func TestARequestDialsTheJumpHostOnTheWay(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.failWith(driver.Unreachable, host("jump"))
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "web", pool("p")))
		f.awaitBackoff("web", 20*time.Second, "p")
		f.withinGaps("error %v, want that of a new dial of the jump host", func() (bool, error) {
			before := f.dials(host("jump"))
			_, err := f.exec(request("p", "web"))
			return reasonOf(err) == driver.JumpTargetNotReady && strings.Contains(err.Error(), fmt.Sprintf("failure %d.", before+1)), err
		})
		f.fake.OnDial(nil)
		f.withinGaps("the jump host is back: %v", func() (bool, error) {
			_, err := f.exec(request("p", "web"))
			return err == nil, err
		})
	})
}

// withinGaps tries after a gap, and again if a dial of the backoff has ended in that
// gap, during which no request makes another.
func (f *fixture) withinGaps(complaint string, try func() (good bool, err error)) {
	f.Helper()
	var err error
	for range 3 {
		sleep(connpool.InsistGap)
		var good bool
		if good, err = try(); good {
			return
		}
	}
	f.Errorf(complaint, err)
}

func TestManyTargetsBehindAJumpHostShareTheAttemptsOfRequests(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.failWith(driver.Unreachable, host("jump"))
		jump := f.jumpHost("jump", "v1", nil)
		for i := range 20 {
			f.ensure(f.behind(jump, fmt.Sprint("t", i), pool("p")))
		}
		sleep(10 * time.Minute)
		before := f.dials(host("jump"))
		for began := time.Now(); time.Since(began) < 10*time.Minute; sleep(100 * time.Millisecond) {
			for i := range 20 {
				_, _ = f.exec(request("p", fmt.Sprint("t", i)))
			}
		}
		if got := f.dials(host("jump")) - before; got > 30*10+40 {
			f.Errorf("%d dials of the jump host in 10 minutes, want one in 2 s", got)
		}
	})
}

func TestACheckDialsAJumpHostThatIsBackedOffFrom(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.refuse(driver.Unreachable, host("jump"))
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "web", pool("p")))
		f.awaitBackoff("web", 20*time.Second, "p")
		sleep(connpool.InsistGap)
		f.fake.OnDial(nil)
		found, err := f.set.Check(f.Context(), "web-uid")
		if err != nil || found.Stages[len(found.Stages)-1].Err != nil {
			f.Errorf("check: %+v, %v", found, err)
		}
	})
}

func TestARefusedPortIsDialedEveryFewSeconds(t *testing.T) {
	for name, test := range map[string]struct {
		refused     bool
		least, most int
		longest     time.Duration
	}{
		"a port that refuses connections": {true, 3600 / 8, 3600 / 2, 8 * time.Second},
		"a host that does not answer":     {false, 3600 / 60, 3600 / 15, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				var last time.Time
				var longest time.Duration
				f.fake.OnDial(func(context.Context, driver.Endpoint) error {
					if !last.IsZero() {
						longest = max(longest, time.Since(last))
					}
					last = time.Now()
					return &driver.Error{Reason: driver.Unreachable, PortRefused: test.refused}
				})
				f.ensure(f.target("web", pool("p")))
				sleep(time.Hour)
				if n := f.dials(everything); n < test.least || n > test.most || longest > test.longest {
					f.Errorf("%d dials in an hour, at most %s apart; want %d to %d, at most %s", n, longest, test.least, test.most, test.longest)
				}
			})
		})
	}
}
