package poolset

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/connpool/connpool/internal/driver"
)

func (f *fixture) check(target string) Check {
	f.Helper()
	got, err := f.set.Check(f.Context(), target+"-uid")
	if err != nil {
		f.Errorf("Check %s: %v", target, err)
	}
	return got
}

// wantStages compares what a check has passed, and why it ended.
func (f *fixture) wantStages(got Check, reason driver.Reason, want ...driver.Stage) {
	f.Helper()
	var stages []driver.Stage
	var end driver.Reason
	for _, stage := range got.Stages {
		stages = append(stages, stage.Stage)
		if stage.Err != nil {
			end = stage.Err.Reason
		}
	}
	if diff := cmp.Diff(want, stages); diff != "" || end != reason {
		f.Errorf("ended by %q, want %q; stages (-want +got):\n%s", end, reason, diff)
	}
}

func TestACheckOfATargetThatNoPoolUsesIsRefused(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(Target{Ref: ref("idle"), Access: f.access("idle", "v1", nil)}, f.target("gone", pool("p")))
		f.set.Remove("gone-uid")
		for _, uid := range []string{"none-uid", "idle-uid", "gone-uid"} {
			if _, err := f.set.Check(f.Context(), uid); !errors.Is(err, ErrUnknownTarget) {
				t.Errorf("%s: error %v, want %v", uid, err, ErrUnknownTarget)
			}
		}
	})
}

func TestACheckDialsOnceBesideThePoolsAndClosesWhatItMade(t *testing.T) {
	for name, state := range map[string]func(*Policy){"active": minWarm(1), "paused": paused} {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				f.ensure(f.target("web", pool("p", state)))
				before, live := f.dials(everything), len(f.fake.Live())
				got := f.check("web")
				f.wantStages(got, "", driver.StagePrepare, driver.StageSession)
				if got.Info.ServerVersion != "fake" {
					t.Errorf("info %+v", got.Info)
				}
				sleep(time.Minute)
				f.wantDials(before+1, everything)
				f.wantLive(live, everything)
			})
		})
	}
}

func TestACheckOfAParkedTargetReallyDialsAndFailureChangesNothing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(time.Second)
			return &driver.Error{Reason: driver.AuthenticationFailed, Stage: driver.StageAuthentication, Message: "wrong key"}
		})
		f.ensure(f.target("web", pool("p"), pool("q")))
		sleep(time.Minute)
		f.wantDials(1, everything)
		before := f.seen("web", "p")
		got := f.check("web")
		f.wantStages(got, driver.AuthenticationFailed, driver.StagePrepare, driver.StageAuthentication)
		if took := got.Stages[1].Duration; took != time.Second {
			t.Errorf("the stage took %s, want 1s", took)
		}
		sleep(time.Minute)
		f.wantDials(2, everything)
		if diff := cmp.Diff(before, f.seen("web", "p"), cmpopts.EquateErrors(), cmpopts.EquateComparable(driver.Error{})); diff != "" {
			t.Errorf("the pool has changed (-before +after):\n%s", diff)
		}
	})
}

func TestACheckThatSucceedsEndsTheParking(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.AuthenticationFailed, everything)
		f.ensure(f.target("web", pool("p"), pool("q")))
		sleep(time.Minute)
		f.wantHealth("web", "p", HealthDown)
		f.fake.OnDial(nil) // the key was put on the server
		f.check("web")
		sleep(5 * time.Second)
		for _, name := range []string{"p", "q"} {
			if got := f.seen("web", name); got.Warm() == 0 || got.Health != HealthUp {
				t.Errorf("%s: %d serve, health %v; want at least one, up", name, got.Warm(), got.Health)
			}
		}
	})
}

func TestCallersWhoCheckMeanwhileShareTheResult(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(time.Second)
			return wrongKey
		})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				f.wantStages(f.check("web"), driver.AuthenticationFailed, driver.StagePrepare, driver.StageConnect)
			})
		}
		all.Wait()
		f.wantDials(2, everything) // one is the pool's
	})
}

// A caller who checks a wrong key in a loop must not get the operator banned.
func TestARefusalIsSharedForAWhile(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		f.refuse(driver.AuthenticationFailed, key("v1"))
		f.ensure(web)
		for range 10 {
			f.wantStages(f.check("web"), driver.AuthenticationFailed, driver.StagePrepare, driver.StageConnect)
			sleep(400 * time.Millisecond)
		}
		f.wantDials(2, everything) // one is the pool's
		sleep(time.Second)
		f.check("web")
		f.wantDials(3, everything)

		f.ensure(web.rotated("v2"))
		if got := f.check("web"); got.Stages[len(got.Stages)-1].Err != nil {
			t.Errorf("the refusal outlives what was refused: %+v", got)
		}
		f.refuse(driver.Unreachable, everything)
		before := f.dials(everything)
		f.check("web")
		f.check("web")
		f.wantDials(before+2, everything)
	})
}

func TestACheckGoesOnWithoutTheCallerWhoLeft(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(2 * time.Second)
			return nil
		})
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		if _, err := f.set.Check(ctx, "web-uid"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
		}
		f.wantStages(f.check("web"), "", driver.StagePrepare, driver.StageSession)
		f.wantDials(2, everything)
	})
}

func TestACheckOfAServerThatNeverAnswersEnds(t *testing.T) {
	hang := func(ctx context.Context, _ driver.Endpoint) error {
		<-ctx.Done()
		return &driver.Error{Reason: driver.Timeout, Stage: driver.StageBanner, Message: "the caller left", Err: ctx.Err()}
	}
	t.Run("within its bound", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.ensure(f.target("web", pool("p")))
			f.fake.OnDial(hang)
			begin := time.Now()
			got := f.check("web")
			f.wantStages(got, driver.Timeout, driver.StagePrepare, driver.StageBanner)
			if took := time.Since(begin); took != checkTimeout || !strings.Contains(got.Stages[1].Err.Message, "30s") {
				t.Errorf("took %s: %v", took, got.Stages[1].Err)
			}
		})
	})
	t.Run("with the set", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.ensure(f.target("web", pool("p")))
			f.fake.OnDial(hang)
			checked := make(chan Check)
			go func() { checked <- f.check("web") }()
			sleep(time.Second)
			begin := time.Now()
			var closing sync.WaitGroup
			defer closing.Wait()
			closing.Go(func() { closed(f.set, time.Minute) })
			f.wantStages(<-checked, driver.Timeout, driver.StagePrepare, driver.StageBanner)
			if took := time.Since(begin); took > 0 {
				t.Errorf("took %s", took)
			}
		})
	})
	t.Run("with its place in the budget", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.fake.OnDial(hang)
			for _, name := range []string{"a", "b", "c", "d"} { // three dials at once to one host
				target := f.target(name, pool("p"))
				target.Endpoint.Address = "host:22"
				f.ensure(target)
			}
			f.wantStages(f.check("d"), driver.Timeout, driver.StagePrepare, driver.StageConnect)
			f.wantDials(3, everything)
		})
	})
}

func TestACheckOfCredentialsThatCannotBeUsedEndsBeforeAnyDial(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		sleep(time.Minute)
		f.fake.OnPrepare(func(driver.Endpoint) error { // such as a certificate that has expired since
			return &driver.Error{Reason: driver.CredentialsInvalid, Stage: driver.StagePrepare, Message: "expired"}
		})
		f.wantStages(f.check("web"), driver.CredentialsInvalid, driver.StagePrepare)
		f.wantDials(1, everything)
	})
}

func TestACheckGoesThroughTheJumpHost(t *testing.T) {
	t.Run("and names it", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.letJumpHostsForward()
			f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")))
			got := f.check("a")
			f.wantStages(got, "", driver.StagePrepare, driver.StageConnect, driver.StageSession)
			if found := got.Stages[1].Found; found != "connected to a:22 through the jump host jump" {
				t.Errorf("found %q", found)
			}
			f.wantDials(1, host("jump"))
			sleep(0)
			f.wantLive(2, everything)
		})
	})
	t.Run("and blames it", func(t *testing.T) {
		withFixture(t, func(f *fixture) {
			f.letJumpHostsForward()
			f.refuse(driver.Unreachable, host("jump"))
			f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")))
			f.wantStages(f.check("a"), driver.JumpTargetNotReady, driver.StagePrepare, driver.StageConnect)
			f.wantDials(0, host("a"))
		})
	})
}

func TestAJumpHostThatIsInNoPoolCanBeCheckedAndHelpsThoseBehindIt(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.refuse(driver.AuthenticationFailed, host("jump"))
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")))
		sleep(time.Minute)
		f.wantHealth("a", "p", HealthDown)
		f.fake.OnDial(nil)
		f.wantStages(f.check("jump"), "", driver.StagePrepare, driver.StageSession)
		sleep(time.Second)
		if f.seen("a", "p").Warm() == 0 {
			t.Error("what is behind the jump host is not served")
		}
	})
}

func TestWhatARemoteSaysToACheckIsHarmless(t *testing.T) {
	r := &checkRecord{begun: time.Now()}
	r.pass(driver.StageBanner, "SSH-2.0-\x1b[31mred\r\n"+strings.Repeat("x", 1000))
	if found := r.stages[0].Found; strings.ContainsAny(found, "\x1b\r\n") || len(found) > 256 {
		t.Errorf("found %q", found)
	}
}
