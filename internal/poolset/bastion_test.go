package poolset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// crowd is so many targets behind one bastion.
func (w *world) crowd(bastion *Hop, n int, changes ...func(*Policy)) {
	w.Helper()
	for i := range n {
		w.ensure(w.behind(bastion, fmt.Sprint("t", i), pool("p", changes...)))
	}
}

func (w *world) wantServing(n int) {
	w.Helper()
	for i := range n {
		name := fmt.Sprint("t", i)
		if got := w.seen(name, "p"); got.Warm() == 0 || got.Health != HealthUp {
			w.Errorf("%s has %d connections, health %v (%v)", name, got.Warm(), got.Health, got.Err)
		}
	}
}

func TestACrowdSurvivesTheDeathOfItsBastion(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		w.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		})
		const all = 200
		w.crowd(w.hop("bastion", "v1", nil), all)
		sleep(time.Minute)
		w.wantServing(all)
		w.wantDials(1, host("bastion"))
		w.live(host("bastion"))[0].Kill(nil)
		sleep(20 * time.Second)
		w.wantServing(all)
		w.wantDials(2, host("bastion"))
		w.wantLive(all+1, everything)
		for i := range all {
			if n := len(w.seen(fmt.Sprint("t", i), "p").DialFailures); n > 0 {
				t.Fatalf("t%d counts failures although only its bastion was lost", i)
			}
		}
	})
}

// The bastion is lost between the moment when a dial is let in and the moment
// when it wants its stream: nobody is to blame for that, so it begins anew.
func TestADialWhoseBastionIsLostInBetweenBeginsAnew(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		bastion := w.hop("bastion", "v1", nil)
		w.ensure(w.behind(bastion, "a", pool("p")))
		held := make([]func(error), 0, 6)
		for range 6 { // all places of the bastion
			done, err := w.set.budget.Admit(w.Context(), strconv.Itoa(len(held)), "bastion-uid")
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, done)
		}
		w.ensure(w.behind(bastion, "b", pool("p")))
		w.live(host("bastion"))[0].Kill(nil)
		for _, done := range held {
			done(nil)
		}
		sleep(10 * time.Second)
		if got := w.seen("b", "p"); got.Health != HealthUp || len(got.DialFailures) > 0 {
			t.Errorf("health %v, failures %v, want up without any", got.Health, got.DialFailures)
		}
	})
}

// A Docker connection opens more sockets while it lives. They need no place in
// the budget, and wait for a bastion that is away for a moment.
func TestWhatALivingConnectionOpensWaitsForItsBastion(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		bastion := w.hop("bastion", "v1", nil)
		w.ensure(w.behind(bastion, "a", pool("p")))
		transport := w.fake.Live()[1].Endpoint.Dial
		open := func() error {
			ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
			defer cancel()
			stream, err := transport(ctx, "unix", "/var/run/docker.sock")
			if err == nil {
				_ = stream.Close()
			}
			return err
		}
		w.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(3 * time.Second)
			return nil
		})
		w.live(host("bastion"))[0].Kill(nil)
		if err := open(); err != nil {
			t.Errorf("while the bastion is redialed: %v", err)
		}
		w.refuse(driver.Unreachable, host("bastion"))
		w.live(host("bastion"))[0].Kill(nil)
		if err := open(); driver.AsError(err).Reason != driver.JumpTargetNotReady {
			t.Errorf("while the bastion is down: %v, want %s", err, driver.JumpTargetNotReady)
		}
	})
}

func TestADialInItsTurnDoesNotWaitForItsBastion(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		bastion := w.hop("bastion", "v1", nil)
		w.ensure(w.behind(bastion, "a", pool("p")))
		w.fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
			<-ctx.Done()
			return ctx.Err()
		})
		w.live(host("bastion"))[0].Kill(nil)
		sleep(time.Second)
		mine := &place{}
		ctx := context.WithValue(w.Context(), placeKey{}, mine)
		begun := time.Now()
		if _, err := w.set.forward(ctx, bastion, "tcp", "a:22"); !errors.Is(err, errNoHop) || time.Since(begun) > 0 {
			t.Errorf("after %s: %v, want %v at once", time.Since(begun), err, errNoHop)
		}
		mine.over.Store(true)
		if holdsPlace(ctx) {
			t.Error("a place is held after its dial is over")
		}
	})
}

// F04 for bastions: whoever finds out that it is frozen frees all others.
func TestAFrozenBastionIsFoundOutByTheFirstThatWantsAStream(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		bastion := w.hop("bastion", "v1", nil)
		w.crowd(bastion, 20)
		sleep(time.Minute)
		frozen := w.live(host("bastion"))[0]
		w.fake.OnProbe(func(ctx context.Context, conn *drivertest.FakeConn) error {
			if conn == frozen {
				<-ctx.Done()
				return &driver.Error{Reason: driver.Timeout, Message: "no answer"}
			}
			return nil
		})
		w.fake.OnForward(func(_ context.Context, conn *drivertest.FakeConn, _, _ string) (net.Conn, error) {
			if conn == frozen {
				<-time.After(10 * time.Second)
				return nil, &driver.Error{Reason: driver.Timeout, Message: "no answer"}
			}
			return sink(conn.Context()), nil
		})
		for _, conn := range w.live(func(e driver.Endpoint) bool { return !host("bastion")(e) }) {
			conn.Kill(io.EOF) // their own keepalives have noticed
		}
		sleep(40 * time.Second)
		w.wantServing(20)
		w.wantDials(2, host("bastion"))
	})
}

func TestABastionIsObserved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		if _, ok := w.set.Observe("bastion-uid"); ok {
			t.Error("seen before anybody needs it")
		}
		bastion := w.hop("bastion", "v1", nil)
		w.ensure(w.behind(bastion, "a", pool("p", minWarm(0))))
		o, ok := w.set.Observe("bastion-uid")
		if !ok || o.Hop == nil || o.Hop.Health != HealthUnknown || o.Hop.Warm() != 0 {
			t.Errorf("before the first dial: %+v", o.Hop)
		}
		w.news.Store(0)
		w.ensure(w.behind(bastion, "a", pool("p")))
		o, _ = w.set.Observe("bastion-uid")
		if o.Hop.Health != HealthUp || o.Hop.Warm() != 1 || o.ServerVersion != "fake" || len(o.Pools) != 0 {
			t.Errorf("connected: %+v", o.Hop)
		}
		w.refuse(driver.AuthenticationFailed, host("bastion"))
		w.live(host("bastion"))[0].Kill(nil)
		sleep(time.Second)
		o, _ = w.set.Observe("bastion-uid")
		if o.Hop.Health != HealthDown || o.Hop.Err.Reason != driver.AuthenticationFailed {
			t.Errorf("refused: %+v", o.Hop)
		}
		w.ensure(w.behind(w.hop("bastion", "v2", nil), "a", pool("p")))
		if o, _ = w.set.Observe("bastion-uid"); o.Hop.Health != HealthDown {
			t.Errorf("still refused: %+v", o.Hop)
		}
		w.set.Remove("a-uid")
		if _, ok := w.set.Observe("bastion-uid"); ok {
			t.Error("still seen although nobody needs it")
		}
	})
}

func TestNewsOfABastionIsToldInItsOwnName(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		told := make(chan Ref, 1000)
		w.set.Subscribe(func(ref Ref) { told <- ref })
		heard := func() (n int) {
			for len(told) > 0 {
				if (<-told).Name == "bastion" {
					n++
				}
			}
			return n
		}
		w.ensure(w.behind(w.hop("bastion", "v1", nil), "a", pool("p")))
		if heard() == 0 {
			t.Error("nothing was told of its first connection")
		}
		w.set.Remove("a-uid")
		sleep(time.Second)
		if heard() == 0 {
			t.Error("nothing was told when nobody needs it any more")
		}
	})
}
