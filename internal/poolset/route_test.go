package poolset

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// routed returns how many of the requests each target of pool p got.
func (f *fixture) routed(requests int, send func() string) map[string]int {
	f.Helper()
	got := map[string]int{}
	for range requests {
		got[send()]++
	}
	return got
}

func (f *fixture) wantEach(got map[string]int, want int, targets ...string) {
	f.Helper()
	for _, target := range targets {
		if got[target] != want {
			f.Errorf("%s got %d requests, want %d: %v", target, got[target], want, got)
		}
	}
}

func TestRequestsWithoutATargetGoRoundBetweenIdleTargets(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("a", pool("p")), f.target("b", pool("p")), f.target("c", pool("p")))
		got := f.routed(12, func() string {
			ran, err := f.exec(request("p", ""))
			if err != nil {
				f.Fatal(err)
			}
			time.Sleep(time.Second)
			return ran.Target.Name
		})
		f.wantEach(got, 4, "a", "b", "c")
	})
}

func TestRequestsWithoutATargetThatComeTogetherGoRound(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("a", pool("p")), f.target("b", pool("p")), f.target("c", pool("p")))
		var all sync.WaitGroup
		var mu sync.Mutex
		var leases []Lease
		got := map[string]int{}
		for range 12 {
			all.Go(func() {
				lease := f.acquire(request("p", ""))
				mu.Lock()
				defer mu.Unlock()
				got[lease.Target.Name]++
				leases = append(leases, lease)
			})
		}
		all.Wait()
		for _, lease := range leases { // not before: a target that is free again is chosen again
			lease.Release()
		}
		f.wantEach(got, 4, "a", "b", "c")
	})
}

func TestATargetThatIsNamedHasHadItsTurn(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("a", pool("p")), f.target("b", pool("p")))
		for range 3 {
			if _, err := f.exec(request("p", "a")); err != nil {
				f.Fatal(err)
			}
			if ran, err := f.exec(request("p", "")); err != nil || ran.Target.Name != "b" {
				f.Fatalf("it ran on %s (%v), want b", ran.Target.Name, err)
			}
		}
	})
}

func TestTheLeastLoadedTargetComesBeforeTheLeastRecentlyUsed(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("a", pool("p")), f.target("b", pool("p")))
		f.acquire(request("p", "a")) // goes on
		for range 3 {
			if ran, err := f.exec(request("p", "")); err != nil || ran.Target.Name != "b" {
				f.Fatalf("it ran on %s (%v), want b", ran.Target.Name, err)
			}
		}
	})
}

func TestTargetsThatAreDownGetNoTurn(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.refuse(driver.Unreachable, host("c"))
		f.ensure(f.target("a", pool("p")), f.target("b", pool("p")), f.target("c", pool("p")))
		got := f.routed(12, func() string {
			ran, err := f.exec(request("p", ""))
			return ran.Target.Name + fmt.Sprint(reasonOf(err))
		})
		f.wantEach(got, 6, "a", "b")
	})
}
