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

func (w *world) check(target string) Check {
	w.Helper()
	got, err := w.set.Check(w.Context(), target+"-uid")
	if err != nil {
		w.Errorf("Check %s: %v", target, err)
	}
	return got
}

// wantStages compares what a check has passed, and why it ended.
func (w *world) wantStages(got Check, reason driver.Reason, want ...driver.Stage) {
	w.Helper()
	var stages []driver.Stage
	var end driver.Reason
	for _, stage := range got.Stages {
		stages = append(stages, stage.Stage)
		if stage.Err != nil {
			end = stage.Err.Reason
		}
	}
	if diff := cmp.Diff(want, stages); diff != "" || end != reason {
		w.Errorf("ended by %q, want %q; stages (-want +got):\n%s", end, reason, diff)
	}
}

func TestACheckOfATargetThatNobodyUsesIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(Target{Ref: ref("idle"), Access: w.access("idle", "v1", nil)}, w.target("gone", pool("p")))
		w.set.Remove("gone-uid")
		for _, uid := range []string{"none-uid", "idle-uid", "gone-uid"} {
			if _, err := w.set.Check(w.Context(), uid); !errors.Is(err, ErrUnknownTarget) {
				t.Errorf("%s: error %v, want %v", uid, err, ErrUnknownTarget)
			}
		}
	})
}

func TestACheckDialsOnceBesideThePoolsAndClosesWhatItMade(t *testing.T) {
	for name, state := range map[string]func(*Policy){"active": minWarm(1), "paused": paused} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.ensure(w.target("web", pool("p", state)))
				before, live := w.dials(everything), len(w.fake.Live())
				got := w.check("web")
				w.wantStages(got, "", driver.StagePrepare, driver.StageSession)
				if got.Info.ServerVersion != "fake" {
					t.Errorf("info %+v", got.Info)
				}
				sleep(time.Minute)
				w.wantDials(before+1, everything)
				w.wantLive(live, everything)
			})
		})
	}
}

func TestACheckOfAParkedTargetReallyDialsAndFailureChangesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(time.Second)
			return &driver.Error{Reason: driver.AuthenticationFailed, Stage: driver.StageAuthentication, Message: "wrong key"}
		})
		w.ensure(w.target("web", pool("p"), pool("q")))
		sleep(time.Minute)
		w.wantDials(1, everything)
		before := w.seen("web", "p")
		got := w.check("web")
		w.wantStages(got, driver.AuthenticationFailed, driver.StagePrepare, driver.StageAuthentication)
		if took := got.Stages[1].Duration; took != time.Second {
			t.Errorf("the stage took %s, want 1s", took)
		}
		sleep(time.Minute)
		w.wantDials(2, everything)
		if diff := cmp.Diff(before, w.seen("web", "p"), cmpopts.EquateErrors(), cmpopts.EquateComparable(driver.Error{})); diff != "" {
			t.Errorf("the pool has changed (-before +after):\n%s", diff)
		}
	})
}

func TestACheckThatSucceedsEndsTheParking(t *testing.T) {
	inWorld(t, func(w *world) {
		w.refuse(driver.AuthenticationFailed, everything)
		w.ensure(w.target("web", pool("p"), pool("q")))
		sleep(time.Minute)
		w.wantHealth("web", "p", HealthDown)
		w.fake.OnDial(nil) // somebody has put the key on the server
		w.check("web")
		sleep(5 * time.Second)
		for _, name := range []string{"p", "q"} {
			if got := w.seen("web", name); got.Warm() == 0 || got.Health != HealthUp {
				t.Errorf("%s: %d serve, health %v; want at least one, up", name, got.Warm(), got.Health)
			}
		}
	})
}

func TestWhoeverChecksMeanwhileSharesTheResult(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p")))
		w.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(time.Second)
			return wrongKey
		})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				w.wantStages(w.check("web"), driver.AuthenticationFailed, driver.StagePrepare, driver.StageConnect)
			})
		}
		all.Wait()
		w.wantDials(2, everything) // one is the pool's
	})
}

// Whoever checks a wrong key in a loop must not have us banned.
func TestARefusalIsSharedForAWhile(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p"))
		w.refuse(driver.AuthenticationFailed, key("v1"))
		w.ensure(web)
		for range 10 {
			w.wantStages(w.check("web"), driver.AuthenticationFailed, driver.StagePrepare, driver.StageConnect)
			sleep(400 * time.Millisecond)
		}
		w.wantDials(2, everything) // one is the pool's
		sleep(time.Second)
		w.check("web")
		w.wantDials(3, everything)

		w.ensure(web.rotated("v2"))
		if got := w.check("web"); got.refused() {
			t.Errorf("the refusal outlives what was refused: %+v", got)
		}
		w.refuse(driver.Unreachable, everything)
		before := w.dials(everything)
		w.check("web")
		w.check("web")
		w.wantDials(before+2, everything)
	})
}

func TestACheckGoesOnWithoutTheCallerWhoLeft(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p")))
		w.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(2 * time.Second)
			return nil
		})
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := w.set.Check(ctx, "web-uid"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
		}
		w.wantStages(w.check("web"), "", driver.StagePrepare, driver.StageSession)
		w.wantDials(2, everything)
	})
}

func TestACheckOfAServerThatNeverAnswersEnds(t *testing.T) {
	hang := func(ctx context.Context, _ driver.Endpoint) error {
		<-ctx.Done()
		return &driver.Error{Reason: driver.Timeout, Stage: driver.StageBanner, Message: "the caller left", Err: ctx.Err()}
	}
	t.Run("within its bound", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.ensure(w.target("web", pool("p")))
			w.fake.OnDial(hang)
			begin := time.Now()
			got := w.check("web")
			w.wantStages(got, driver.Timeout, driver.StagePrepare, driver.StageBanner)
			if took := time.Since(begin); took != checkTimeout || !strings.Contains(got.Stages[1].Err.Message, "30s") {
				t.Errorf("took %s: %v", took, got.Stages[1].Err)
			}
		})
	})
	t.Run("with the set", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.ensure(w.target("web", pool("p")))
			w.fake.OnDial(hang)
			checked := make(chan Check)
			go func() { checked <- w.check("web") }()
			sleep(time.Second)
			begin := time.Now()
			var closing sync.WaitGroup
			defer closing.Wait()
			closing.Go(func() { closed(w.set, time.Minute) })
			w.wantStages(<-checked, driver.Timeout, driver.StagePrepare, driver.StageBanner)
			if took := time.Since(begin); took > 0 {
				t.Errorf("took %s", took)
			}
		})
	})
	t.Run("with its place in the budget", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.fake.OnDial(hang)
			for _, name := range []string{"a", "b", "c", "d"} { // three dials at once to one host
				target := w.target(name, pool("p"))
				target.Endpoint.Address = "host:22"
				w.ensure(target)
			}
			w.wantStages(w.check("d"), driver.Timeout, driver.StagePrepare, driver.StageConnect)
			w.wantDials(3, everything)
		})
	})
}

func TestACheckOfCredentialsThatCannotBeUsedEndsBeforeAnyDial(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p")))
		w.fake.OnPrepare(func(driver.Endpoint) error { // such as a certificate that has expired since
			return &driver.Error{Reason: driver.CredentialsInvalid, Stage: driver.StagePrepare, Message: "expired"}
		})
		w.wantStages(w.check("web"), driver.CredentialsInvalid, driver.StagePrepare)
		w.wantDials(1, everything)
	})
}

func TestACheckGoesThroughTheJumpHost(t *testing.T) {
	t.Run("and names it", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.bastions()
			w.ensure(w.behind(w.hop("bastion", "v1", nil), "a", pool("p")))
			got := w.check("a")
			w.wantStages(got, "", driver.StagePrepare, driver.StageConnect, driver.StageSession)
			if found := got.Stages[1].Found; found != "connected to a:22 through the jump target bastion" {
				t.Errorf("found %q", found)
			}
			w.wantDials(1, host("bastion"))
			sleep(0)
			w.wantLive(2, everything)
		})
	})
	t.Run("and blames it", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.bastions()
			w.refuse(driver.Unreachable, host("bastion"))
			w.ensure(w.behind(w.hop("bastion", "v1", nil), "a", pool("p")))
			w.wantStages(w.check("a"), driver.JumpTargetNotReady, driver.StagePrepare, driver.StageConnect)
			w.wantDials(0, host("a"))
		})
	})
}

func TestAJumpHostThatIsInNoPoolCanBeCheckedAndHelpsThoseBehindIt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		w.refuse(driver.AuthenticationFailed, host("bastion"))
		w.ensure(w.behind(w.hop("bastion", "v1", nil), "a", pool("p")))
		sleep(time.Minute)
		w.wantHealth("a", "p", HealthDown)
		w.fake.OnDial(nil)
		w.wantStages(w.check("bastion"), "", driver.StagePrepare, driver.StageSession)
		sleep(time.Second)
		if w.seen("a", "p").Warm() == 0 {
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
