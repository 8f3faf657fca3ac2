package poolset

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

func TestCloseWaitsForWhatRunsAndTakesNothingNew(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p", minWarm(3))))
		running := f.acquire(request("p", "web"))
		time.AfterFunc(time.Minute, running.Release)
		began := time.Now()
		done := make(chan struct{})
		go func() {
			closed(f.set, time.Hour)
			close(done)
		}()
		synctest.Wait()
		if _, err := f.exec(request("p", "web")); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("error %v, want %v", err, ErrUnknownPool)
		}
		if err := f.ensured(f.target("late", pool("p"))); err != nil {
			t.Errorf("Ensure: %v", err)
		}
		<-done
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %s, want as long as what ran: 1m", took)
		}
		f.wantDials(3, everything)
	})
}

func TestCloseCutsAtItsDeadlineWhatIsBeingDrainedAlready(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")), f.target("b", pool("p")))
		for _, name := range []string{"a", "b"} {
			lease := f.acquire(request("p", name))
			defer lease.Release()
		}
		f.set.Remove("a-uid")
		sleep(time.Second)
		began := time.Now()
		closed(f.set, 5*time.Second)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %s, want the 5s that it was given", took)
		}
		f.wantLive(0, everything)
	})
}

func TestCloseEndsJumpHostsAfterWhatRunsOverThem(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")))
		lease := f.acquire(request("p", "a"))
		time.AfterFunc(time.Minute, func() {
			if err := lease.Conn().Context().Err(); err != nil {
				t.Errorf("cut with its jump host: %v", err)
			}
			lease.Release()
		})
		closed(f.set, time.Hour)
	})
}

func TestCloseEndsDialsThatHang(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
			<-ctx.Done()
			return ctx.Err()
		})
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")), f.target("b", pool("p"), pool("q")))
		began := time.Now()
		closed(f.set, time.Hour)
		if took := time.Since(began); took > 0 {
			t.Errorf("took %s, want none", took)
		}
	})
}

func TestCountersOfATargetThatLeftStayInThePoolsSum(t *testing.T) {
	withFixture(t, func(f *fixture) {
		uses := func() (n int64) {
			for _, o := range f.set.Snapshot() {
				n += o.Uses
			}
			return n
		}
		f.ensure(f.target("a", pool("p")), f.target("b", pool("p")))
		for _, name := range []string{"a", "a", "b"} {
			if _, err := f.exec(request("p", name)); err != nil {
				t.Fatal(err)
			}
		}
		running := f.acquire(request("p", "a"))
		f.set.Remove("a-uid")
		sleep(time.Second)
		if got := uses(); got != 3 {
			t.Errorf("%d uses while the target drains, want 3", got)
		}
		running.Release()
		sleep(time.Second)
		if got := uses(); got != 4 {
			t.Errorf("%d uses after the target is gone, want 4", got)
		}
		f.ensure(f.target("a", pool("p")))
		f.set.Remove("a-uid")
		sleep(time.Second)
		if got := len(f.set.Snapshot()); got != 2 {
			t.Errorf("%d observations, want the target that is there and one sum", got)
		}
		f.set.Remove("b-uid")
		sleep(time.Second)
		if got := f.set.Snapshot(); len(got) != 0 || len(f.set.roster.departed)+len(f.set.roster.leaving) != 0 {
			t.Errorf("snapshot %v, want nothing of a pool without targets", got)
		}
	})
}

func TestTotalsAddEveryCounter(t *testing.T) {
	one := PoolObservation{Pool: ref("p"), Type: "ssh", Stats: connpool.Stats{
		Uses: 1, Idle: 5,
		Acquired: [3]connpool.AcquireCount{{Count: 1, Wait: 1}, {Count: 2, Wait: 2}, {Count: 3, Wait: 3}},
		Dials:    connpool.DialCount{Succeeded: 1, Failed: 2, Abandoned: 3, Time: 4},
		Probes:   connpool.ProbeCount{Succeeded: 1, Failed: 2},
	}, DialFailures: map[driver.Reason]uint64{driver.Timeout: 1}}
	want := PoolObservation{Pool: ref("p"), Type: "ssh", Departed: true, Stats: connpool.Stats{
		Uses:     2,
		Acquired: [3]connpool.AcquireCount{{Count: 2, Wait: 2}, {Count: 4, Wait: 4}, {Count: 6, Wait: 6}},
		Dials:    connpool.DialCount{Succeeded: 2, Failed: 4, Abandoned: 6, Time: 8},
		Probes:   connpool.ProbeCount{Succeeded: 2, Failed: 4},
	}, DialFailures: map[driver.Reason]uint64{driver.Timeout: 2}}
	got := PoolObservation{}.plus(one).plus(one)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plus (-want +got):\n%s", diff)
	}
}

func TestHandshakesAreCountedWithoutTheirWaits(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(3 * time.Second)
			return nil
		})
		f.ensure(f.target("web", pool("p", minWarm(4))))
		sleep(time.Minute)
		var conn drivertest.FakeConn
		if got, want := f.seen("web", "p").Dials.Time, 4*conn.Info().Handshake; got != want {
			t.Errorf("%s spent in handshakes, want what the connections say: %s", got, want)
		}
	})
}

func TestWhatWasCountedOfAnotherTypeStaysWithThatType(t *testing.T) {
	used := func(f *fixture, pool string) {
		if _, err := f.exec(request(pool, "web")); err != nil {
			f.Fatal(err)
		}
	}
	uses := func(f *fixture, pool, kind string) (n int64) {
		for _, o := range f.set.Snapshot() {
			if o.Pool.Name == pool && o.Type == kind {
				n += o.Uses
			}
		}
		return n
	}
	for name, after := range map[string][]Pool{
		"of a pool that stays":                     {pool("p"), pool("q")},
		"of a pool that leaves at the same time":   {pool("q")},
		"of a pool that stays, with a new minimum": {pool("p", minWarm(2)), pool("q")},
	} {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				web := f.target("web", pool("p"), pool("q"))
				f.ensure(web, f.target("other", pool("p"))) // which keeps the pool known
				used(f, "p")
				other := web
				other.Type, other.Identity, other.Pools = "another", "web as another", after
				f.ensure(other)
				sleep(time.Minute)
				if old, young := uses(f, "p", "fake"), uses(f, "p", "another"); old != 1 || young != 0 {
					t.Errorf("%d uses of the old type, %d of the new; want 1 and 0", old, young)
				}
				used(f, "q")
				if n := uses(f, "q", "another"); n != 1 {
					t.Errorf("%d uses of the new type, want 1", n)
				}
			})
		})
	}
}
