package poolset

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

func TestEnsuringTheSameAgainChangesNothing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p", minWarm(2)), pool("q"))
		f.ensure(web)
		before, news := f.fake.Live(), f.news.Load()
		f.ensure(web, web, web)
		f.wantDials(3, everything)
		if diff := cmp.Diff(len(before), len(f.fake.Live())); diff != "" || before[0] != f.fake.Live()[0] {
			t.Errorf("connections changed: %s", diff)
		}
		if now := f.news.Load(); now != news {
			t.Errorf("%d pieces of news, want none", now-news)
		}
	})
}

func TestATargetWithoutPoolsIsNotDialed(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web"))
		f.wantDials(0, everything)
		if _, ok := f.set.Observe("web-uid"); ok {
			t.Error("it is observed")
		}
	})
}

func TestAChangedPolicyAppliesToTheLivePool(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		first := f.fake.Live()[0]
		f.ensure(f.target("web", pool("p", minWarm(3))))
		f.wantLive(3, everything)
		if f.fake.Live()[0] != first {
			t.Error("the first connection was replaced")
		}
		if got := f.seen("web", "p").MinWarm; got != 3 {
			t.Errorf("MinWarm %d, want 3", got)
		}
	})
}

func TestAChangedKeepaliveReplacesTheConnectionsOneByOne(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(2))))
		slower := func(p *Policy) { p.KeepaliveInterval = time.Minute }
		f.ensure(f.target("web", pool("p", minWarm(2), slower)))
		sleep(time.Second)
		f.wantLive(2, func(e driver.Endpoint) bool { return e.KeepaliveInterval == time.Minute })
		f.wantLive(2, everything)
		f.wantDials(4, everything)
	})
}

func TestCredentialsAreNotPreparedAgainForAChangedKeepalive(t *testing.T) {
	withFixture(t, func(f *fixture) {
		slower := func(p *Policy) { p.KeepaliveInterval = time.Minute }
		f.ensure(f.target("web", pool("p")))
		f.fake.OnPrepare(func(driver.Endpoint) error { return &driver.Error{Reason: driver.CertificateInvalid} })
		f.ensure(f.target("web", pool("p", slower)))
		sleep(time.Second)
		f.wantLive(1, func(e driver.Endpoint) bool { return e.KeepaliveInterval == time.Minute })
		f.wantLive(1, everything)
	})
}

func TestPoolsComeAndGo(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		f.ensure(f.target("web", pool("p"), pool("q", minWarm(2))))
		f.wantLive(3, everything)
		f.ensure(f.target("web", pool("q", minWarm(2))))
		f.wantLive(2, everything)
		if _, err := f.exec(request("p", "web")); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("error %v, want %v", err, ErrUnknownPool)
		}
		f.ensure(f.target("web"))
		f.wantLive(0, everything)
		if _, ok := f.set.Observe("web-uid"); ok {
			t.Error("a target that no pool wants is still observed")
		}
	})
}

// F14: new connections use the new Secret, old ones drain, no command fails.
func TestRotatedCredentialsReplaceTheOldOnesWithoutAFailedCommand(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p", minWarm(3)))
		f.ensure(web)
		f.fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			time.Sleep(200 * time.Millisecond)
			return driver.ExitStatus{}, nil
		})
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(time.Second)
			return nil
		})
		stop, ended := make(chan struct{}), make(chan int)
		for range 10 {
			go func() {
				failed := 0
				for {
					select {
					case <-stop:
						ended <- failed
						return
					default:
					}
					if _, err := f.exec(request("p", "web")); err != nil {
						failed++
						t.Log(err)
					}
				}
			}()
		}
		sleep(5 * time.Second)
		f.ensure(web.rotated("v2"))
		if !f.seen("web", "p").Rotation.Pending {
			t.Error("Rotating is not observed")
		}
		sleep(time.Minute)
		close(stop)
		for range 10 {
			if failed := <-ended; failed > 0 {
				t.Errorf("%d commands failed", failed)
			}
		}
		f.wantLive(0, key("v1"))
		if got := f.seen("web", "p"); got.Rotation.Pending || got.Warm() < 3 || got.Health != HealthUp {
			t.Errorf("rotating %v, %d serve, health %v; want false, at least 3, up", got.Rotation.Pending, got.Warm(), got.Health)
		}
	})
}

// F15: the old connections keep serving.
func TestRefusedCredentialsLeaveTheOldConnectionsServing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p", minWarm(2)), pool("q"))
		f.ensure(web)
		f.refuse(driver.AuthenticationFailed, key("wrong"))
		f.ensure(web.rotated("wrong"))
		for _, name := range []string{"p", "q"} {
			got := f.seen("web", name)
			if got.Refused() == nil || got.Refused().Reason != driver.AuthenticationFailed || got.Health != HealthUp || got.Err != nil {
				t.Errorf("%s: refused %v, health %v, %v; want refused and up", name, got.Refused(), got.Health, got.Err)
			}
			if _, err := f.exec(request(name, "web")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.wantLive(3, key("v1"))
		f.wantDials(1, key("wrong"))

		f.ensure(web.rotated("v3"))
		sleep(time.Second)
		f.wantLive(3, key("v3"))
		f.wantLive(3, everything)
		if got := f.seen("web", "p"); got.Refused() != nil {
			t.Errorf("refused %v, want nothing", got.Refused())
		}
	})
}

func TestAProofThatFailsSaysNothingOfTheConnectionsThatServe(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p", func(p *Policy) { p.FailureThreshold = 1 }))
		f.ensure(web)
		f.fake.OnProbe(func(_ context.Context, conn *drivertest.FakeConn) error {
			if keyOf(conn.Endpoint) == "v2" {
				return probeMissed
			}
			return nil
		})
		f.ensure(web.rotated("v2"))
		sleep(10 * time.Second)
		f.wantHealth("web", "p", HealthUp)
		if got := f.seen("web", "p"); got.Refused() == nil {
			t.Error("it is not observed that the new credentials failed")
		}
	})
}

func TestContentThatCannotBeUsedLeavesTheOldConnectionsServing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		f.ensure(web)
		f.fake.OnPrepare(func(e driver.Endpoint) error {
			if keyOf(e) == "garbage" {
				return &driver.Error{Reason: driver.CredentialsInvalid}
			}
			return nil
		})
		bad := f.target("web", pool("p", minWarm(2)), pool("new")).rotated("garbage")
		for range 2 {
			if err := f.ensured(bad); driver.AsError(err).Reason != driver.CredentialsInvalid {
				t.Fatalf("Ensure: %v, want %s", err, driver.CredentialsInvalid)
			}
		}
		sleep(time.Second)
		f.wantLive(2, key("v1"))
		if _, err := f.exec(request("p", "web")); err != nil {
			t.Error(err)
		}
		if _, err := f.exec(request("new", "web")); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("a pool that is new: %v, want %v", err, ErrUnknownPool)
		}

		bad.Identity = "elsewhere"
		if err := f.ensured(bad); err == nil {
			t.Fatal("Ensure accepts garbage")
		}
		sleep(time.Second)
		f.wantLive(0, everything)
	})
}

// F33: no command at the old host.
func TestAnotherHostIsNeverServedByTheOldOnesConnections(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(2))))
		running := f.acquire(request("p", "web"))
		moved := f.target("web", pool("p", minWarm(2)))
		moved.Access = f.access("elsewhere", "v1", nil)
		if err := f.ensured(moved); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			lease := f.acquire(request("p", "web"))
			if got := lease.Conn().Info().RemoteAddress; got != "elsewhere:22" {
				t.Fatalf("leased a connection to %s", got)
			}
			lease.Release()
		}
		if err := running.Conn().Context().Err(); err != nil {
			t.Errorf("what ran was cut: %v", err)
		}
		sleep(time.Second)
		f.wantLive(1, host("web"))
		running.Release()
		sleep(time.Second)
		f.wantLive(0, host("web"))
	})
}

func TestWhatIsSeenOfTheOldHostSaysNothingOfTheNewOne(t *testing.T) {
	withFixture(t, func(f *fixture) {
		often := func(p *Policy) { p.ProbePeriod = 10 * time.Second }
		f.ensure(f.target("web", pool("p", often)))
		running := f.acquire(request("p", "web"))
		f.fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
			<-ctx.Done()
			return ctx.Err()
		})
		moved := f.target("web", pool("p", often))
		moved.Access = f.access("elsewhere", "v1", nil)
		f.ensure(moved)
		sleep(50 * time.Second)
		f.wantHealth("web", "p", HealthUnknown)
		running.Release()
	})
}

func TestADialThatIsNoLongerWantedCountsForNothing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p", func(p *Policy) { p.FailureThreshold = 1 }))
		f.ensure(web)
		f.fake.OnDial(func(ctx context.Context, e driver.Endpoint) error {
			if key("v2")(e) {
				<-ctx.Done()
				return &driver.Error{Reason: driver.Timeout}
			}
			return nil
		})
		f.ensure(web.rotated("v2"))
		f.ensure(web.rotated("v3"))
		if got := f.seen("web", "p"); got.Health != HealthUp || len(got.DialFailures) > 0 {
			t.Errorf("health %v, failures %v; want up and none", got.Health, got.DialFailures)
		}
	})
}

// F32: the object goes at once, what runs is drained or cut.
func TestARemovedTargetIsGoneAtOnceAndWhatRunsGetsAGrace(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(3))))
		quick, slow := f.acquire(request("p", "web")), f.acquire(request("p", "web"))
		f.set.Remove("web-uid")
		if _, err := f.exec(request("p", "web")); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("error %v, want %v", err, ErrUnknownPool)
		}
		if _, ok := f.set.Observe("web-uid"); ok {
			t.Error("it is still observed")
		}
		sleep(removalGrace - time.Second)
		if err := slow.Conn().Context().Err(); err != nil {
			t.Errorf("cut before the grace has passed: %v", err)
		}
		quick.Release()
		sleep(2 * time.Second)
		if slow.Conn().Context().Err() == nil {
			t.Error("not cut although the grace has passed")
		}
		f.wantLive(0, everything)
		slow.Release()
	})
}

func TestATargetOfTheSameNameInheritsNothing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		old := f.fake.Live()[0]
		f.set.Remove("web-uid")
		successor := f.target("web", pool("p"))
		successor.UID, successor.Access = "another-uid", f.access("elsewhere", "v1", nil)
		f.ensure(successor)
		execution, err := execIn(f.Context(), f.set, Request{Pool: "p-uid"}, driver.Command{Argv: []string{"true"}}, driver.Streams{})
		if err != nil || execution.Target.UID != "another-uid" {
			t.Errorf("ran at %v, %v; want at the successor", execution.Target, err)
		}
		if _, err := f.exec(request("p", "web")); !errors.Is(err, ErrUnknownTarget) {
			t.Errorf("the old UID: %v, want %v", err, ErrUnknownTarget)
		}
		if n := len(old.Execs()); n != 0 {
			t.Errorf("%d commands ran at the old host", n)
		}
		if o, _ := f.set.Observe("another-uid"); len(o.Pools) != 1 || o.Pools[0].Uses != 1 {
			t.Errorf("observed %+v, want one use", o)
		}
	})
}

func TestAPausedPoolFinishesWhatRunsAndHandsOutNothing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(2))))
		running := f.acquire(request("p", "web"))
		f.ensure(f.target("web", pool("p", minWarm(2), paused)))
		if _, err := f.exec(request("p", "web")); !errors.Is(err, connpool.ErrPaused) {
			t.Errorf("error %v, want %v", err, connpool.ErrPaused)
		}
		sleep(time.Hour)
		if err := running.Conn().Context().Err(); err != nil {
			t.Errorf("what ran was cut: %v", err)
		}
		f.wantLive(1, everything)
		if got := f.seen("web", "p"); !got.Paused || got.MinWarm != 0 {
			t.Errorf("paused %v, wants %d; want true and 0", got.Paused, got.MinWarm)
		}
		running.Release()
		sleep(time.Second)
		f.wantLive(0, everything)

		f.ensure(f.target("web", pool("p", minWarm(2))))
		f.wantLive(2, everything)
	})
}

func TestSubscribersAreToldOfTransitionsAndNotOfLeases(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		if f.news.Load() == 0 {
			t.Error("not told of the first connection")
		}
		f.news.Store(0)
		for range 100 {
			if _, err := f.exec(request("p", "web")); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.news.Load(); n != 0 {
			t.Errorf("told %d times of leases", n)
		}
		f.refuse(driver.Unreachable, everything)
		f.fake.Live()[0].Kill(nil)
		sleep(0)
		if f.news.Load() == 0 {
			t.Error("not told of a lost connection")
		}
	})
}
