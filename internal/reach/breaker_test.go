package reach

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
)

var (
	refusedOnce = &driver.Error{Reason: driver.Unreachable, Message: "connection refused"}
	wrongKey    = &driver.Error{Reason: driver.AuthenticationFailed, Message: "permission denied"}
)

// attempt is a dial through a breaker that ends when told how.
type attempt struct {
	answer chan error
	result chan error
	began  bool
}

func through(ctx context.Context, b *breaker) *attempt {
	a := &attempt{answer: make(chan error), result: make(chan error, 1)}
	go func() { a.result <- a.run(ctx, b) }()
	synctest.Wait()
	return a
}

func (a *attempt) run(ctx context.Context, b *breaker) (err error) {
	mine, err := b.enter(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = b.leave(ctx, mine, err) }()
	a.began = true
	select {
	case err := <-a.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func reasonOf(err error) driver.Reason {
	if err == nil {
		return ""
	}
	return driver.AsError(err).Reason
}

func TestABreakerLetsOneTrialInAndSharesItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{}
		first, second := through(t.Context(), b), through(t.Context(), b)
		if !first.began || second.began {
			t.Fatalf("began: %v and %v, want only the first", first.began, second.began)
		}
		first.answer <- refusedOnce
		firstErr, secondErr := <-first.result, <-second.result
		if reasonOf(firstErr) != driver.Unreachable || reasonOf(secondErr) != driver.Unreachable {
			t.Errorf("errors %v and %v, want both unreachable", firstErr, secondErr)
		}
		if IsShared(firstErr) || !IsShared(secondErr) {
			t.Errorf("want only the second to be shared: %T, %T", firstErr, secondErr)
		}
		if second.began {
			t.Error("the second dialed as well")
		}
	})
}

func TestAClosedBreakerLetsDialsPassFreely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{}
		trial, waiting := through(t.Context(), b), through(t.Context(), b)
		trial.answer <- nil
		synctest.Wait()
		another := through(t.Context(), b)
		if !waiting.began || !another.began {
			t.Errorf("began: %v and %v, want both", waiting.began, another.began)
		}
		waiting.answer <- nil
		another.answer <- nil
	})
}

// TestARefusedKeyGetsFewEarlyAttempts stays below what fail2ban takes for an attack: five
// failed logins within ten minutes.
func TestARefusedKeyGetsFewEarlyAttempts(t *testing.T) {
	fresh := &driver.Error{Reason: driver.AuthenticationFailed, MayCureSoon: true, Message: "refused"}
	for name, tc := range map[string]struct {
		accepted bool
		want     []time.Duration // the waits between attempts in the first half hour
	}{
		"a server that has never accepted it": {false, []time.Duration{15 * time.Second, time.Minute, openFor, openFor, openFor, openFor, openFor}},
		"a server that accepted it before":    {true, []time.Duration{openFor, openFor, openFor, openFor, openFor, openFor}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &breaker{}
				if tc.accepted {
					_ = b.leave(t.Context(), nil, nil)
				}
				var waits []time.Duration
				for begin := time.Now(); time.Since(begin) < 27*time.Minute; {
					_, err := b.enter(t.Context())
					if err == nil {
						err = b.leave(t.Context(), nil, fresh)
					}
					wait := max(driver.AsError(err).RetryAfter, 0)
					if wait == 0 {
						wait = openFor
					}
					waits = append(waits, wait)
					b.trial = nil
					time.Sleep(wait)
				}
				if diff := cmp.Diff(tc.want, waits[:len(tc.want)]); diff != "" {
					t.Errorf("waits (-want +got):\n%s", diff)
				}
			})
		})
	}
	if fresh.RetryAfter != 0 {
		t.Error("the driver's error was changed")
	}
}

func TestABreakerNeedsATrialAgainAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{closed: true}
		failing := through(t.Context(), b)
		failing.answer <- refusedOnce
		<-failing.result
		first, second := through(t.Context(), b), through(t.Context(), b)
		if !first.began || second.began {
			t.Errorf("began: %v and %v, want only the first", first.began, second.began)
		}
		first.answer <- refusedOnce
	})
}

func TestAnAbandonedTrialHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := through(ctx, b), through(t.Context(), b)
		cancel()
		synctest.Wait()
		if err := <-first.result; !errors.Is(err, context.Canceled) {
			t.Errorf("first: %v, want canceled", err)
		}
		if !second.began {
			t.Fatal("the waiting caller did not take the trial over")
		}
		second.answer <- nil
		if err := <-second.result; err != nil {
			t.Errorf("second: %v", err)
		}
	})
}

func TestAWaiterMayLeaveBeforeTheTrialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := through(t.Context(), b), through(ctx, b)
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

func TestAFailureOpensTheBreakerForItsTime(t *testing.T) {
	throttled := &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: 90 * time.Second}
	tests := map[string]struct {
		err  *driver.Error
		open time.Duration
	}{
		"a wrong key is not tried again for five minutes":          {wrongKey, 5 * time.Minute},
		"a throttling server is left alone as long as it asks":     {throttled, 90 * time.Second},
		"a target that was unreachable may be tried again at once": {refusedOnce, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &breaker{}
				first := through(t.Context(), b)
				first.answer <- tc.err
				<-first.result
				if tc.open > 0 {
					time.Sleep(tc.open - time.Second)
					early := through(t.Context(), b)
					if early.began {
						t.Fatal("dialed while the breaker is open")
					}
					if got := driver.AsError(<-early.result); got.Reason != tc.err.Reason || got.RetryAfter != time.Second {
						t.Errorf("error %v, retry after %s, want %s after 1s", got, got.RetryAfter, tc.err.Reason)
					}
					time.Sleep(time.Second)
				}
				later := through(t.Context(), b)
				if !later.began {
					t.Fatal("open for too long")
				}
				later.answer <- nil
				<-later.result
			})
		})
	}
}
