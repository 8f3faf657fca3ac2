package poolset

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// crowd ensures n targets behind one jump host.
func (f *fixture) crowd(jump *JumpHost, n int, changes ...func(*Policy)) {
	f.Helper()
	for i := range n {
		f.ensure(f.behind(jump, fmt.Sprint("t", i), pool("p", changes...)))
	}
}

func (f *fixture) wantServing(n int) {
	f.Helper()
	for i := range n {
		name := fmt.Sprint("t", i)
		if got := f.seen(name, "p"); got.Warm() == 0 || got.Health != HealthUp {
			f.Errorf("%s has %d connections, health %v (%v)", name, got.Warm(), got.Health, got.Err)
		}
	}
}

func TestACrowdSurvivesTheDeathOfItsJumpHost(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		})
		const all = 200
		f.crowd(f.jumpHost("jump", "v1", nil), all)
		sleep(time.Minute)
		f.wantServing(all)
		f.wantDials(1, host("jump"))
		f.live(host("jump"))[0].Kill(nil)
		sleep(20 * time.Second)
		f.wantServing(all)
		f.wantDials(2, host("jump"))
		f.wantLive(all+1, everything)
		for i := range all {
			if n := len(f.seen(fmt.Sprint("t", i), "p").DialFailures); n > 0 {
				t.Fatalf("t%d counts failures although only its jump host was lost", i)
			}
		}
	})
}

// The jump host is lost between the moment when a dial is let in and the moment
// when it wants its stream. That is not a failure of the target, so the dial starts over.
func TestADialWhoseJumpHostIsLostInBetweenBeginsAnew(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.behind(jump, "a", pool("p")))
		held := make([]func(error), 0, 6)
		for range 6 { // all places of the jump host
			done, err := f.budget.Admit(f.Context(), dialbudget.Route{Namespace: "default", Host: strconv.Itoa(len(held)), JumpHost: "jump-uid"})
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, done)
		}
		f.ensure(f.behind(jump, "b", pool("p")))
		f.live(host("jump"))[0].Kill(nil)
		for _, done := range held {
			done(nil)
		}
		sleep(10 * time.Second)
		if got := f.seen("b", "p"); got.Health != HealthUp || len(got.DialFailures) > 0 {
			t.Errorf("health %v, failures %v, want up without any", got.Health, got.DialFailures)
		}
	})
}

// A Docker connection opens more sockets while it lives. They need no place in
// the budget, and wait for a jump host that is away for a moment.
func TestWhatALiveConnectionReopensWaitsForItsJumpHost(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.behind(jump, "a", pool("p")))
		reopen := f.fake.Live()[1].Endpoint.Reopen
		open := func() error {
			ctx, cancel := context.WithTimeout(f.Context(), 10*time.Second)
			defer cancel()
			stream, err := reopen(ctx, "unix", "/var/run/docker.sock")
			if err == nil {
				_ = stream.Close()
			}
			return err
		}
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(3 * time.Second)
			return nil
		})
		f.live(host("jump"))[0].Kill(nil)
		if err := open(); err != nil {
			t.Errorf("while the jump host is redialed: %v", err)
		}
		f.refuse(driver.Unreachable, host("jump"))
		f.live(host("jump"))[0].Kill(nil)
		if err := open(); driver.AsError(err).Reason != driver.JumpTargetNotReady {
			t.Errorf("while the jump host is down: %v, want %s", err, driver.JumpTargetNotReady)
		}
	})
}

func TestADialInItsTurnDoesNotWaitForItsJumpHost(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.behind(jump, "a", pool("p")))
		dial := f.live(host("a"))[0].Endpoint.Dial
		f.fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
			<-ctx.Done()
			return ctx.Err()
		})
		f.live(host("jump"))[0].Kill(nil)
		sleep(time.Second)
		begun := time.Now()
		if _, err := dial(f.Context(), "tcp", "a:22"); driver.AsError(err).Reason != driver.JumpTargetNotReady || time.Since(begun) > 0 {
			t.Errorf("after %s: %v, want %s at once", time.Since(begun), err, driver.JumpTargetNotReady)
		}
	})
}

// F04 for jump hosts: the first caller that finds it frozen frees all others.
func TestAFrozenJumpHostIsNoticedByTheFirstStream(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		jump := f.jumpHost("jump", "v1", nil)
		f.crowd(jump, 20)
		sleep(time.Minute)
		frozen := f.live(host("jump"))[0]
		f.fake.OnProbe(func(ctx context.Context, conn *drivertest.FakeConn) error {
			if conn == frozen {
				<-ctx.Done()
				return &driver.Error{Reason: driver.Timeout, Message: "no answer"}
			}
			return nil
		})
		f.fake.OnForward(func(_ context.Context, conn *drivertest.FakeConn, _, _ string) (net.Conn, error) {
			if conn == frozen {
				<-time.After(10 * time.Second)
				return nil, &driver.Error{Reason: driver.Timeout, Message: "no answer"}
			}
			return sink(conn.Context()), nil
		})
		for _, conn := range f.live(func(e driver.Endpoint) bool { return !host("jump")(e) }) {
			conn.Kill(io.EOF) // their own keepalives have noticed
		}
		sleep(40 * time.Second)
		f.wantServing(20)
		f.wantDials(2, host("jump"))
	})
}

func TestAJumpHostIsObserved(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		if _, ok := f.set.Observe("jump-uid"); ok {
			t.Error("seen before a target needs it")
		}
		jump := f.jumpHost("jump", "v1", nil)
		f.ensure(f.behind(jump, "a", pool("p", minWarm(0))))
		o, ok := f.set.Observe("jump-uid")
		if !ok || o.JumpHost == nil || o.JumpHost.Health != HealthUnknown || o.JumpHost.Warm() != 0 {
			t.Errorf("before the first dial: %+v", o.JumpHost)
		}
		f.news.Store(0)
		f.ensure(f.behind(jump, "a", pool("p")))
		o, _ = f.set.Observe("jump-uid")
		if o.JumpHost.Health != HealthUp || o.JumpHost.Warm() != 1 || o.ServerVersion != "fake" || len(o.Pools) != 0 {
			t.Errorf("connected: %+v", o.JumpHost)
		}
		f.refuse(driver.AuthenticationFailed, host("jump"))
		f.live(host("jump"))[0].Kill(nil)
		sleep(time.Second)
		o, _ = f.set.Observe("jump-uid")
		if o.JumpHost.Health != HealthDown || o.JumpHost.Err.Reason != driver.AuthenticationFailed {
			t.Errorf("refused: %+v", o.JumpHost)
		}
		f.ensure(f.behind(f.jumpHost("jump", "v2", nil), "a", pool("p")))
		if o, _ = f.set.Observe("jump-uid"); o.JumpHost.Health != HealthDown {
			t.Errorf("still refused: %+v", o.JumpHost)
		}
		f.set.Remove("a-uid")
		if _, ok := f.set.Observe("jump-uid"); ok {
			t.Error("still seen although no target needs it")
		}
	})
}

func TestSubscribersAreToldOfJumpHosts(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		told := make(chan Ref, 1000)
		f.set.Subscribe(func(ref Ref) { told <- ref })
		heard := func() (n int) {
			for len(told) > 0 {
				if (<-told).Name == "jump" {
					n++
				}
			}
			return n
		}
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")))
		if heard() == 0 {
			t.Error("nothing was told of its first connection")
		}
		f.set.Remove("a-uid")
		sleep(time.Second)
		if heard() == 0 {
			t.Error("nothing was told when no target needed it any more")
		}
	})
}
