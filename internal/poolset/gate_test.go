package poolset

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// attempt is a dial through a gate that ends when told how.
type attempt struct {
	answer chan error
	result chan error
	began  bool
}

func through(ctx context.Context, g *gate) *attempt {
	a := &attempt{answer: make(chan error), result: make(chan error, 1)}
	go func() {
		_, err := g.dial(ctx, func(ctx context.Context) (driver.Conn, error) {
			a.began = true
			select {
			case err := <-a.answer:
				return nil, err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		a.result <- err
	}()
	synctest.Wait()
	return a
}

func reasonOf(err error) driver.Reason {
	if err == nil {
		return ""
	}
	return driver.AsError(err).Reason
}

func TestAGateLetsOneTrialInAndSharesItsVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		first, second := through(t.Context(), g), through(t.Context(), g)
		if !first.began || second.began {
			t.Fatalf("began: %v and %v, want only the first", first.began, second.began)
		}
		first.answer <- refusedOnce
		firstErr, secondErr := <-first.result, <-second.result
		if reasonOf(firstErr) != driver.Unreachable || reasonOf(secondErr) != driver.Unreachable {
			t.Errorf("errors %v and %v, want both unreachable", firstErr, secondErr)
		}
		var heard *hearsay
		if errors.As(firstErr, &heard) || !errors.As(secondErr, &heard) {
			t.Errorf("want only the second to be hearsay: %T, %T", firstErr, secondErr)
		}
		if second.began {
			t.Error("the second dialed as well")
		}
	})
}

func TestAProvenGateLetsDialsPassFreely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		trial, waiting := through(t.Context(), g), through(t.Context(), g)
		trial.answer <- nil
		synctest.Wait()
		another := through(t.Context(), g)
		if !waiting.began || !another.began {
			t.Errorf("began: %v and %v, want both", waiting.began, another.began)
		}
		waiting.answer <- nil
		another.answer <- nil
	})
}

func TestAGateIsOnTrialAgainAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{proven: true}
		failing := through(t.Context(), g)
		failing.answer <- refusedOnce
		<-failing.result
		first, second := through(t.Context(), g), through(t.Context(), g)
		if !first.began || second.began {
			t.Errorf("began: %v and %v, want only the first", first.began, second.began)
		}
		first.answer <- refusedOnce
	})
}

func TestAnAbandonedTrialHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := through(ctx, g), through(t.Context(), g)
		cancel()
		synctest.Wait()
		if err := <-first.result; !errors.Is(err, context.Canceled) {
			t.Errorf("first: %v, want canceled", err)
		}
		if !second.began {
			t.Fatal("nobody took the trial over")
		}
		second.answer <- nil
		if err := <-second.result; err != nil {
			t.Errorf("second: %v", err)
		}
	})
}

func TestAWaiterMayLeaveBeforeTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := through(t.Context(), g), through(ctx, g)
		cancel()
		if err := <-second.result; !errors.Is(err, context.Canceled) {
			t.Errorf("second: %v, want canceled", err)
		}
		first.answer <- nil
		if err := <-first.result; err != nil {
			t.Errorf("first: %v", err)
		}
	})
}

func TestAVerdictShutsTheGateAsLongAsItHolds(t *testing.T) {
	throttled := &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: 90 * time.Second}
	tests := map[string]struct {
		err  *driver.Error
		shut time.Duration
	}{
		"a wrong key is not tried again for five minutes":          {wrongKey, 5 * time.Minute},
		"a throttling server is left alone as long as it asks":     {throttled, 90 * time.Second},
		"a target that was unreachable may be tried again at once": {refusedOnce, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{}
				first := through(t.Context(), g)
				first.answer <- tc.err
				<-first.result
				if tc.shut > 0 {
					time.Sleep(tc.shut - time.Second)
					early := through(t.Context(), g)
					if early.began {
						t.Fatal("dialed while the verdict holds")
					}
					if got := driver.AsError(<-early.result); got.Reason != tc.err.Reason || got.RetryAfter != time.Second {
						t.Errorf("error %v, retry after %s, want %s after 1s", got, got.RetryAfter, tc.err.Reason)
					}
					time.Sleep(time.Second)
				}
				later := through(t.Context(), g)
				if !later.began {
					t.Fatal("shut for too long")
				}
				later.answer <- nil
				<-later.result
			})
		})
	}
}

// F17: one attempt, then parked; others keep working.
func TestAWrongKeyCostsOneDialHoweverManyPoolsWantTheTarget(t *testing.T) {
	inWorld(t, func(w *world) {
		w.refuse(driver.AuthenticationFailed, key("wrong"))
		w.ensure(
			w.target("web", pool("p", minWarm(3)), pool("q", minWarm(3))).rotated("wrong"),
			w.target("db", pool("p", minWarm(3))),
		)
		sleep(5*time.Minute - time.Second)
		w.wantDials(1, host("web"))
		w.wantHealth("web", "p", HealthDown)
		w.wantHealth("web", "q", HealthDown)
		if failures := sumOfFailures(w); failures != 1 {
			w.Errorf("%d failed dials counted, want 1", failures)
		}
		if _, err := w.exec(request("p", "db")); err != nil {
			w.Errorf("another target of the pool: %v", err)
		}
		for want := 2; want < 6; want++ {
			sleep(5 * time.Minute)
			w.wantDials(want, host("web"))
		}
	})
}

func sumOfFailures(w *world) (n uint64) {
	for _, o := range w.set.Snapshot() {
		for _, failures := range o.DialFailures {
			n += failures
		}
	}
	return n
}

func TestACorrectedKeyIsTriedAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.refuse(driver.AuthenticationFailed, key("wrong"))
		web := w.target("web", pool("p", minWarm(3)), pool("q", minWarm(3)))
		w.ensure(web.rotated("wrong"))
		w.ensure(web)
		w.wantHealth("web", "p", HealthUp)
		w.wantLive(6, everything)
	})
}

// F13: no key is offered to a host with the wrong identity, and it is asked
// rarely.
func TestAChangedHostKeyIsLookedAtEveryFiveMinutes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.refuse(driver.HostKeyMismatch, everything)
		w.ensure(w.target("web", pool("p", minWarm(3)), pool("q", minWarm(3))))
		sleep(time.Hour - time.Second)
		w.wantDials(12, everything)
		if got := w.seen("web", "q"); got.Err == nil || got.Err.Reason != driver.HostKeyMismatch {
			w.Errorf("reason %v, want %s", got.Err, driver.HostKeyMismatch)
		}
	})
}

// F18: no dial while the server penalizes us; what is warm keeps serving.
func TestAThrottlingServerIsLeftAloneWhileWarmConnectionsServe(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p", minWarm(2)), pool("q")))
		w.fake.OnDial(func(context.Context, driver.Endpoint) error {
			return &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: 2 * time.Minute}
		})
		w.live(everything)[0].Kill(nil)
		w.live(everything)[1].Kill(nil)
		sleep(0)
		told := w.dials(everything) // two that began side by side may both be told
		sleep(2*time.Minute - time.Second)
		w.wantDials(told, everything)
		served := 0
		for _, name := range []string{"p", "q"} {
			if _, err := w.exec(request(name, "web")); err == nil {
				served++
			}
		}
		if served == 0 {
			w.Error("nothing serves although a connection lives")
		}
	})
}

// sshd refuses our address, not an account of it.
func TestWhatOneTargetIsToldOfAServersPauseHoldsForAllTargetsThere(t *testing.T) {
	inWorld(t, func(w *world) {
		there := func(name, address string) Target {
			target := w.target(name, pool("p"))
			target.Endpoint.Address, target.Identity = address, name+"@"+address
			return target
		}
		w.ensure(there("a", "web:22"))
		w.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
			if e.Address != "web:22" {
				return nil
			}
			return &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: time.Minute, Message: "not now"}
		})
		w.ensure(there("b", "web:22"), there("c", "web:22"), there("d", "web:2222"))
		sleep(time.Minute - time.Second)
		w.wantDials(2, host("web"))
		if _, err := w.exec(request("p", "a")); err != nil {
			t.Errorf("what is warm does not serve: %v", err)
		}
		if got := w.seen("c", "p"); got.Err == nil || got.Err.Reason != driver.ThrottledByServer {
			t.Errorf("c: %v, want %s", got.Err, driver.ThrottledByServer)
		}
		w.wantHealth("d", "p", HealthUp)
		w.fake.OnDial(nil)
		sleep(10 * time.Second)
		w.wantLive(4, everything)
	})
}
