package poolset

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

func TestTheConnectionsOfANamespaceAreBounded(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.set.LimitConnections(3)
		f.ensure(f.target("other", pool("p")).in("b"))
		f.ensure(f.target("web", pool("p", minWarm(2))).in("a"), f.target("db", pool("p", minWarm(2))).in("a"))
		sleep(time.Second)
		web, db := f.seen("web", "p"), f.seen("db", "p")
		if web.Warm()+db.Warm() != 3 {
			t.Fatalf("%d and %d warm connections, want 3 in all", web.Warm(), db.Warm())
		}
		sleep(5 * time.Minute)
		f.wantLive(4, everything)
		refused := f.seen("web", "p").Err
		if refused == nil {
			refused = f.seen("db", "p").Err
		}
		if refused == nil || refused.Reason != driver.ConnectionLimit || !strings.Contains(refused.Message, "--max-connections-per-namespace") {
			t.Errorf("%v, want %s with the flag", refused, driver.ConnectionLimit)
		}
		f.wantHealth("other", "p", HealthUp)
		f.ensure(f.target("another", pool("p")).in("b"))
		f.wantHealth("another", "p", HealthUp)
		for _, name := range []string{"web", "db"} {
			if _, err := f.exec(request("p", name)); err != nil {
				t.Errorf("a warm connection does not serve: %v", err)
			}
		}
		f.set.Remove("db-uid") // which gives its places back
		sleep(2 * time.Minute)
		if got := f.seen("web", "p"); got.Warm() != 2 || got.Health != HealthUp {
			t.Errorf("%d warm connections, health %v; want 2, up", got.Warm(), got.Health)
		}
	})
}

func TestALostConnectionGivesItsPlaceInTheNamespaceBack(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.set.LimitConnections(1)
		f.ensure(f.target("web", pool("p")))
		for range 20 {
			f.fake.Live()[0].Kill(nil)
			sleep(connpool.Steady + time.Minute)
			f.wantLive(1, everything)
		}
	})
}

// A tenant's targets take the whole of a stage not to answer, are refused, or have a
// wrong key, by the thousand.
func TestAThousandBadTargetsOfANamespaceDoNotDelayTheGoodOnesOfAnother(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnDial(func(ctx context.Context, e driver.Endpoint) error {
			switch {
			case strings.HasPrefix(e.Address, "good"):
				time.Sleep(50 * time.Millisecond)
				return nil
			case strings.HasPrefix(e.Address, "tarpit"):
				return cmp.Or(pause(ctx, 10*time.Second), error(&driver.Error{Reason: driver.Timeout}))
			case strings.HasPrefix(e.Address, "key"):
				return &driver.Error{Reason: driver.AuthenticationFailed}
			}
			return &driver.Error{Reason: driver.Unreachable}
		})
		for i := range 1000 {
			kind := [...]string{"tarpit", "tarpit", "key", "refused"}[i%4]
			_ = f.set.Ensure(f.target(fmt.Sprintf("%s-%d", kind, i), pool("p")).in("a"))
		}
		synctest.Wait()
		for i := range 1000 {
			kind := [...]string{"tarpit", "tarpit", "key", "refused"}[i%4]
			_ = f.set.Ensure(f.target(fmt.Sprintf("%s-%d", kind, i), pool("p")).in("a"))
		}
		for _, when := range []string{"while the bad ones are new", "when the bad ones are known"} {
			begun := time.Now()
			for i := range 50 {
				f.ensure(f.target(fmt.Sprintf("good-%d", i), pool("q", minWarm(2))).in("b"))
			}
			for i := range 50 {
				name := fmt.Sprintf("good-%d", i)
				for f.seen(name, "q").Warm() < 2 {
					sleep(10 * time.Millisecond)
					if time.Since(begun) > time.Minute {
						t.Fatalf("%s: %s is not warm after a minute", when, name)
					}
				}
			}
			took := time.Since(begun)
			t.Logf("%s: 50 good targets were warm after %s", when, took)
			if took > time.Second {
				t.Errorf("%s: the good targets were warm after %s, want 1s at most", when, took)
			}
			for i := range 50 {
				f.set.Remove(fmt.Sprintf("good-%d-uid", i))
			}
			sleep(10 * time.Minute)
		}
	})
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
