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
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p", minWarm(2)), pool("q"))
		w.ensure(web)
		before, news := w.fake.Live(), w.news.Load()
		w.ensure(web, web, web)
		w.wantDials(3, everything)
		if diff := cmp.Diff(len(before), len(w.fake.Live())); diff != "" || before[0] != w.fake.Live()[0] {
			t.Errorf("connections changed: %s", diff)
		}
		if now := w.news.Load(); now != news {
			t.Errorf("%d pieces of news, want none", now-news)
		}
	})
}

func TestATargetWithoutPoolsIsNotDialed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web"))
		w.wantDials(0, everything)
		if _, ok := w.set.Observe("web-uid"); ok {
			t.Error("it is observed")
		}
	})
}

func TestAChangedPolicyAppliesToTheLivePool(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p")))
		first := w.fake.Live()[0]
		w.ensure(w.target("web", pool("p", minWarm(3))))
		w.wantLive(3, everything)
		if w.fake.Live()[0] != first {
			t.Error("the first connection was replaced")
		}
		if got := w.seen("web", "p").MinWarm; got != 3 {
			t.Errorf("MinWarm %d, want 3", got)
		}
	})
}

func TestAChangedKeepaliveReplacesTheConnectionsOneByOne(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p", minWarm(2))))
		slower := func(p *Policy) { p.KeepaliveInterval = time.Minute }
		w.ensure(w.target("web", pool("p", minWarm(2), slower)))
		sleep(time.Second)
		w.wantLive(2, func(e driver.Endpoint) bool { return e.KeepaliveInterval == time.Minute })
		w.wantLive(2, everything)
		w.wantDials(4, everything)
	})
}

func TestPoolsComeAndGo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p")))
		w.ensure(w.target("web", pool("p"), pool("q", minWarm(2))))
		w.wantLive(3, everything)
		w.ensure(w.target("web", pool("q", minWarm(2))))
		w.wantLive(2, everything)
		if _, err := w.exec(request("p", "web")); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("error %v, want %v", err, ErrUnknownPool)
		}
		w.ensure(w.target("web"))
		w.wantLive(0, everything)
		if _, ok := w.set.Observe("web-uid"); ok {
			t.Error("a target that no pool wants is still observed")
		}
	})
}

// F14: new connections use the new Secret, old ones drain, no command fails.
func TestRotatedCredentialsReplaceTheOldOnesWithoutAFailedCommand(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p", minWarm(3)))
		w.ensure(web)
		w.fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			time.Sleep(200 * time.Millisecond)
			return driver.ExitStatus{}, nil
		})
		w.fake.OnDial(func(context.Context, driver.Endpoint) error {
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
					if _, err := w.exec(request("p", "web")); err != nil {
						failed++
						t.Log(err)
					}
				}
			}()
		}
		sleep(5 * time.Second)
		w.ensure(web.rotated("v2"))
		if !w.seen("web", "p").Rotating {
			t.Error("Rotating is not observed")
		}
		sleep(time.Minute)
		close(stop)
		for range 10 {
			if failed := <-ended; failed > 0 {
				t.Errorf("%d commands failed", failed)
			}
		}
		w.wantLive(0, key("v1"))
		if got := w.seen("web", "p"); got.Rotating || got.Warm() < 3 || got.Health != HealthUp {
			t.Errorf("rotating %v, %d serve, health %v; want false, at least 3, up", got.Rotating, got.Warm(), got.Health)
		}
	})
}

// F15: the old connections keep serving.
func TestRefusedCredentialsLeaveTheOldConnectionsServing(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p", minWarm(2)), pool("q"))
		w.ensure(web)
		w.refuse(driver.AuthenticationFailed, key("wrong"))
		w.ensure(web.rotated("wrong"))
		for _, name := range []string{"p", "q"} {
			got := w.seen("web", name)
			if got.Refused == nil || got.Refused.Reason != driver.AuthenticationFailed || got.Health != HealthUp || got.Err != nil {
				t.Errorf("%s: refused %v, health %v, %v; want refused and up", name, got.Refused, got.Health, got.Err)
			}
			if _, err := w.exec(request(name, "web")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.wantLive(3, key("v1"))
		w.wantDials(1, key("wrong"))

		w.ensure(web.rotated("v3"))
		sleep(time.Second)
		w.wantLive(3, key("v3"))
		w.wantLive(3, everything)
		if got := w.seen("web", "p"); got.Refused != nil {
			t.Errorf("refused %v, want nothing", got.Refused)
		}
	})
}

func TestAProofThatFailsSaysNothingOfTheConnectionsThatServe(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p", func(p *Policy) { p.FailureThreshold = 1 }))
		w.ensure(web)
		w.fake.OnProbe(func(_ context.Context, conn *drivertest.FakeConn) error {
			if keyOf(conn.Endpoint) == "v2" {
				return probeMissed
			}
			return nil
		})
		w.ensure(web.rotated("v2"))
		sleep(10 * time.Second)
		w.wantHealth("web", "p", HealthUp)
		if got := w.seen("web", "p"); got.Refused == nil {
			t.Error("it is not observed that the new credentials failed")
		}
	})
}

func TestContentThatCannotBeUsedLeavesTheOldConnectionsServing(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p"))
		w.ensure(web)
		w.fake.OnPrepare(func(e driver.Endpoint) error {
			if keyOf(e) == "garbage" {
				return &driver.Error{Reason: driver.CredentialsInvalid}
			}
			return nil
		})
		bad := w.target("web", pool("p", minWarm(2)), pool("new")).rotated("garbage")
		for range 2 {
			if err := w.set.Ensure(bad); driver.AsError(err).Reason != driver.CredentialsInvalid {
				t.Fatalf("Ensure: %v, want %s", err, driver.CredentialsInvalid)
			}
		}
		sleep(time.Second)
		w.wantLive(2, key("v1"))
		if _, err := w.exec(request("p", "web")); err != nil {
			t.Error(err)
		}
		if _, err := w.exec(request("new", "web")); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("a pool that is new: %v, want %v", err, ErrUnknownPool)
		}

		bad.Identity = "elsewhere"
		if err := w.set.Ensure(bad); err == nil {
			t.Fatal("Ensure accepts garbage")
		}
		sleep(time.Second)
		w.wantLive(0, everything)
	})
}

// F33: no command at the old host.
func TestAnotherHostIsNeverServedByTheOldOnesConnections(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p", minWarm(2))))
		running := w.acquire(request("p", "web"))
		moved := w.target("web", pool("p", minWarm(2)))
		moved.Access = w.access("elsewhere", "v1", nil)
		if err := w.set.Ensure(moved); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			lease := w.acquire(request("p", "web"))
			if got := lease.Conn().Info().RemoteAddress; got != "elsewhere:22" {
				t.Fatalf("leased a connection to %s", got)
			}
			lease.Release()
		}
		if err := running.Conn().Context().Err(); err != nil {
			t.Errorf("what ran was cut: %v", err)
		}
		sleep(time.Second)
		w.wantLive(1, host("web"))
		running.Release()
		sleep(time.Second)
		w.wantLive(0, host("web"))
	})
}

func TestWhatIsSeenOfTheOldHostSaysNothingOfTheNewOne(t *testing.T) {
	inWorld(t, func(w *world) {
		often := func(p *Policy) { p.ProbePeriod = 10 * time.Second }
		w.ensure(w.target("web", pool("p", often)))
		running := w.acquire(request("p", "web"))
		w.fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
			<-ctx.Done()
			return ctx.Err()
		})
		moved := w.target("web", pool("p", often))
		moved.Access = w.access("elsewhere", "v1", nil)
		w.ensure(moved)
		sleep(50 * time.Second)
		w.wantHealth("web", "p", HealthUnknown)
		running.Release()
	})
}

func TestADialThatNobodyWaitsForAnyMoreCountsForNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p", func(p *Policy) { p.FailureThreshold = 1 }))
		w.ensure(web)
		w.fake.OnDial(func(ctx context.Context, e driver.Endpoint) error {
			if key("v2")(e) {
				<-ctx.Done()
				return &driver.Error{Reason: driver.Timeout}
			}
			return nil
		})
		w.ensure(web.rotated("v2"))
		w.ensure(web.rotated("v3"))
		if got := w.seen("web", "p"); got.Health != HealthUp || len(got.DialFailures) > 0 {
			t.Errorf("health %v, failures %v; want up and none", got.Health, got.DialFailures)
		}
	})
}

// F32: the object goes at once, what runs is drained or cut.
func TestARemovedTargetIsGoneAtOnceAndWhatRunsGetsAGrace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p", minWarm(3))))
		quick, slow := w.acquire(request("p", "web")), w.acquire(request("p", "web"))
		w.set.Remove("web-uid")
		if _, err := w.exec(request("p", "web")); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("error %v, want %v", err, ErrUnknownPool)
		}
		if _, ok := w.set.Observe("web-uid"); ok {
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
		w.wantLive(0, everything)
		slow.Release()
	})
}

func TestANamesakeInheritsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p")))
		old := w.fake.Live()[0]
		w.set.Remove("web-uid")
		namesake := w.target("web", pool("p", single))
		namesake.UID, namesake.Access = "another-uid", w.access("elsewhere", "v1", nil)
		w.ensure(namesake)
		execution, err := w.set.Exec(w.Context(), Request{Pool: "p-uid"}, driver.Command{Argv: []string{"true"}}, driver.Streams{})
		if err != nil || execution.Target.UID != "another-uid" {
			t.Errorf("ran at %v, %v; want at the namesake", execution.Target, err)
		}
		if _, err := w.exec(request("p", "web")); !errors.Is(err, ErrUnknownTarget) {
			t.Errorf("the old UID: %v, want %v", err, ErrUnknownTarget)
		}
		if n := len(old.Execs()); n != 0 {
			t.Errorf("%d commands ran at the old host", n)
		}
		if o, _ := w.set.Observe("another-uid"); len(o.Pools) != 1 || o.Pools[0].Uses != 1 {
			t.Errorf("observed %+v, want one use", o)
		}
	})
}

func TestAPausedPoolFinishesWhatRunsAndHandsOutNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p", minWarm(2))))
		running := w.acquire(request("p", "web"))
		w.ensure(w.target("web", pool("p", minWarm(2), paused)))
		if _, err := w.exec(request("p", "web")); !errors.Is(err, connpool.ErrPaused) || driver.OutcomeOf(err) != driver.NotStarted {
			t.Errorf("error %v, want %v, not started", err, connpool.ErrPaused)
		}
		sleep(time.Hour)
		if err := running.Conn().Context().Err(); err != nil {
			t.Errorf("what ran was cut: %v", err)
		}
		w.wantLive(1, everything)
		if got := w.seen("web", "p"); !got.Paused || got.MinWarm != 0 {
			t.Errorf("paused %v, wants %d; want true and 0", got.Paused, got.MinWarm)
		}
		running.Release()
		sleep(time.Second)
		w.wantLive(0, everything)

		w.ensure(w.target("web", pool("p", minWarm(2))))
		w.wantLive(2, everything)
	})
}

func TestSubscribersHearOfTransitionsAndNotOfLeases(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p")))
		if w.news.Load() == 0 {
			t.Error("not told of the first connection")
		}
		w.news.Store(0)
		for range 100 {
			if _, err := w.exec(request("p", "web")); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.news.Load(); n != 0 {
			t.Errorf("told %d times of leases", n)
		}
		w.refuse(driver.Unreachable, everything)
		w.fake.Live()[0].Kill(nil)
		sleep(0)
		if w.news.Load() == 0 {
			t.Error("not told of a lost connection")
		}
	})
}
