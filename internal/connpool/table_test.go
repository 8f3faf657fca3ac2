package connpool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The table of states and operations: one function for each state, one case
// for each operation on it.

func TestDialing(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a dial that succeeds goes to the oldest waiter": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1})
			first, second := fix.ask(), fix.ask()
			fix.expect("1 dialing, 2 pending")
			conn := fix.connect()
			if got := first.got().Conn(); got != conn {
				t.Errorf("leased %p, want the new connection %p", got, conn)
			}
			if how := first.lease.How(); how != Dialed {
				t.Errorf("how = %s, want dialed", how)
			}
			if !second.waits() {
				t.Error("the second caller got a lease from a full connection")
			}
		},
		"a dial that succeeds without a waiter becomes idle": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.connect()
			fix.expect("1 idle")
		},
		"a dial that succeeds after Replace is closed": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			old := fix.dial()
			old.result <- nil // done, but not yet seen by the pool
			fix.pool.Replace(fix.dialer("new"))
			fix.expectClosed(old.conn, true)
			if fix.connect().target != "new" {
				t.Error("the old target was dialed again")
			}
			fix.expect("1 idle")
		},
		"a dial that succeeds after Rotate is closed when nothing served before": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			old := fix.dial()
			old.result <- nil
			fix.pool.Rotate(fix.dialer("new"))
			fix.expectClosed(old.conn, true)
			if fix.connect().target != "new" {
				t.Error("the old credentials were dialed again")
			}
			fix.expect("1 idle")
		},
		"a dial that succeeds after Close is closed, and Close waits for it": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			dial := fix.dial()
			dial.conn.closing = make(chan struct{})
			dial.result <- nil
			done := background(func() { _ = fix.pool.Close() })
			if ended(done) {
				t.Fatal("Close returned before the new connection was closed")
			}
			close(dial.conn.closing)
			<-done
			fix.expectClosed(dial.conn, true)
			fix.expect("empty")
		},
		"a dial that ignores its context is waited for by Close": func(t *testing.T) {
			release := make(chan struct{})
			conn := newFakeConn("stubborn")
			p := New(Options[*fakeConn]{
				Dial:   func(context.Context) (*fakeConn, error) { <-release; return conn, nil },
				Limits: Limits{MinWarm: 1},
			})
			done := background(func() { _ = p.Close() })
			if ended(done) {
				t.Fatal("Close returned while a dial ran")
			}
			close(release)
			<-done
			if !conn.isClosed() {
				t.Error("the connection outlived the pool")
			}
		},
		"a dial that ends with a dead connection has failed": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			dial := fix.dial()
			dial.conn.cancel(errKilled)
			dial.result <- nil
			fix.expect("empty")
			fix.expectClosed(dial.conn, true)
			if f := fix.pool.Stats().Dial; !errors.Is(f.Err, errKilled) {
				t.Errorf("failure %v, want what killed it", f.Err)
			}
		},
		"a dial that fails frees its slot and tells the waiters that the target is down": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1})
			a := fix.ask()
			fix.refuse(errRefused)
			var down *DownError
			if !errors.As(a.failed(), &down) || !errors.Is(down, errRefused) {
				t.Fatalf("error %v, want DownError with the cause", a.err)
			}
			fix.expect("empty")
		},
		"a dial that fails while others serve lets the waiters wait": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 2})
			a := fix.ask()
			fix.connect()
			b := fix.ask()
			fix.refuse(errRefused)
			if !b.waits() {
				t.Fatalf("the caller failed with %v", b.err)
			}
			a.got().Release()
			if how := b.got().How(); how != Queued {
				t.Errorf("how = %s, want queued", how)
			}
		},
		"a dial that fails after Replace does not count against the new target": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			fix.dial().fail(errRefused)
			fix.pool.Replace(fix.dialer("new"))
			synctest.Wait()
			if s := fix.pool.Stats(); s.Dial.Failures != 0 || s.Dials.Failed != 0 || s.Dials.Abandoned != 1 {
				t.Errorf("failures %+v, dials %+v, want one abandoned", s.Dial, s.Dials)
			}
			fix.connect()
		},
		"Acquire waits": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			if !fix.ask().waits() {
				t.Error("Acquire returned before the dial ended")
			}
			fix.expect("1 dialing, 1 pending")
		},
		"a caller who gives up leaves the dial to the next waiter": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1})
			a := fix.ask()
			a.cancel()
			if err := a.failed(); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want canceled", err)
			}
			b := fix.ask()
			fix.quietDuringDial()
			conn := fix.connect()
			if b.got().Conn() != conn {
				t.Error("the dial was not used")
			}
		},
		"a caller who gives up leaves the connection idle when no other caller waits": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1})
			fix.ask().cancel()
			fix.connect()
			fix.expect("1 idle")
		},
		"Invalidate cancels the dial": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1})
			old := fix.dial()
			fix.pool.Replace(fix.dialer("new"))
			synctest.Wait()
			if old.ctx.Err() == nil {
				t.Error("the old dial still runs")
			}
		},
		"Drain cancels the dial and returns when it has ended": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, DrainTimeout: time.Minute})
			fix.dial()
			start := time.Now()
			if err := fix.pool.Drain(t.Context()); err != nil {
				t.Errorf("Drain: %v", err)
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("Drain took %s with nothing to wait for", took)
			}
		},
	})
}

func TestIdle(t *testing.T) {
	idle := func(t *testing.T) (*fixture, *fakeConn) {
		fix := newFixture(t, Limits{MinWarm: 1, DrainTimeout: time.Minute})
		return fix, fix.connect()
	}
	bubbles(t, map[string]func(*testing.T){
		"Acquire leases it at once": func(t *testing.T) {
			fix, conn := idle(t)
			l := fix.lease()
			if l.Conn() != conn || l.How() != Warm || l.Wait() != 0 {
				t.Errorf("got %p %s after %s, want %p warm at once", l.Conn(), l.How(), l.Wait(), conn)
			}
			fix.expect("1 in use, 1 leases")
		},
		"Acquire with a context that has ended leases nothing": func(t *testing.T) {
			fix, _ := idle(t)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := fix.pool.Acquire(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want canceled", err)
			}
			fix.expect("1 idle")
		},
		"Replace closes it": func(t *testing.T) {
			fix, conn := idle(t)
			fix.pool.Replace(fix.dialer("new"))
			fix.expectClosed(conn, true)
			fix.expect("1 dialing")
		},
		"Recycle closes it when its successor is warm": func(t *testing.T) {
			fix, conn := idle(t)
			if !fix.pool.Recycle(fix.pool.Conns()[0].ID) {
				t.Fatal("the connection was not found")
			}
			fix.expect("1 idle, 1 dialing")
			fix.expectClosed(conn, false)
			fix.connect()
			fix.expectClosed(conn, true)
			fix.expect("1 idle")
		},
		"Recycle of an unknown connection says so": func(t *testing.T) {
			fix, _ := idle(t)
			if fix.pool.Recycle(99) {
				t.Error("an unknown connection was found")
			}
			fix.expect("1 idle")
		},
		"Drain closes it": func(t *testing.T) {
			fix, conn := idle(t)
			if err := fix.pool.Drain(t.Context()); err != nil {
				t.Errorf("Drain: %v", err)
			}
			fix.expectClosed(conn, true)
			fix.expect("empty")
		},
		"Close closes it": func(t *testing.T) {
			fix, conn := idle(t)
			_ = fix.pool.Close()
			fix.expectClosed(conn, true)
			fix.expect("empty")
		},
		"its death is seen and repaired at once": func(t *testing.T) {
			fix, conn := idle(t)
			conn.cancel(errKilled)
			fix.expect("1 dialing")
			fix.expectClosed(conn, true)
		},
	})
}

func TestLeased(t *testing.T) {
	// one connection of two slots, one of them leased
	leased := func(t *testing.T) (*fixture, *Lease[*fakeConn], *fakeConn) {
		fix := newFixture(t, Limits{MinWarm: 1, LeasesPerConn: 2, MaxPending: 1, DrainTimeout: time.Minute})
		conn := fix.connect()
		return fix, fix.lease(), conn
	}
	bubbles(t, map[string]func(*testing.T){
		"Acquire takes another slot while there is one": func(t *testing.T) {
			fix, _, conn := leased(t)
			if fix.lease().Conn() != conn {
				t.Error("another connection was leased")
			}
			fix.expect("1 in use, 2 leases")
			fix.quiet()
		},
		"Acquire waits when no slot is free, until one is released": func(t *testing.T) {
			fix, l, _ := leased(t)
			fix.lease()
			a := fix.ask()
			fix.expect("1 in use, 2 leases, 1 pending")
			after(time.Second)
			l.Release()
			if got := a.got(); got.How() != Queued || got.Wait() != time.Second {
				t.Errorf("got it %s after %s, want queued after 1s", got.How(), got.Wait())
			}
		},
		"Acquire fails at once when the queue is full": func(t *testing.T) {
			fix, _, _ := leased(t)
			fix.lease()
			fix.ask()
			err := fix.ask().failed()
			if !errors.Is(err, ErrQueueFull) || !errors.Is(err, ErrExhausted) || errors.Is(err, ErrAcquireTimeout) {
				t.Errorf("error %v, want queue full", err)
			}
		},
		"Acquire fails after its timeout when nothing is released": func(t *testing.T) {
			fix, _, _ := leased(t)
			fix.lease()
			a := fix.ask()
			after(10 * time.Second)
			err := a.failed()
			if !errors.Is(err, ErrAcquireTimeout) || !errors.Is(err, ErrExhausted) || errors.Is(err, ErrQueueFull) {
				t.Errorf("error %v, want acquire timeout", err)
			}
			fix.expect("1 in use, 2 leases")
		},
		"Release of one of two leases keeps it leased": func(t *testing.T) {
			fix, l, _ := leased(t)
			fix.lease()
			l.Release()
			fix.expect("1 in use, 1 leases")
		},
		"Release of the last lease makes it idle": func(t *testing.T) {
			fix, l, _ := leased(t)
			l.Release()
			fix.expect("1 idle")
			if uses := fix.pool.Stats().Uses; uses != 1 {
				t.Errorf("%d uses, want 1", uses)
			}
		},
		"Release a second time does nothing": func(t *testing.T) {
			fix, l, _ := leased(t)
			l.Release()
			l.Release()
			l.Discard()
			l.Narrow()
			fix.expect("1 idle")
			if uses := fix.pool.Stats().Uses; uses != 1 {
				t.Errorf("%d uses, want 1", uses)
			}
		},
		"Release of the last lease closes it after Replace": func(t *testing.T) {
			fix, l, conn := leased(t)
			fix.pool.Replace(fix.dialer("new"))
			fix.expectClosed(conn, false)
			l.Release()
			fix.expectClosed(conn, true)
		},
		"Release of the last lease closes it when it is used up and replaced": func(t *testing.T) {
			fix, l, conn := leased(t)
			fix.pool.SetLimits(Limits{MinWarm: 1, LeasesPerConn: 2, MaxUses: 1})
			other := fix.lease()
			other.Release() // the last use it may have
			fix.expect("1 in use, 1 dialing, 1 leases")
			fix.connect()
			fix.expect("1 idle, 1 draining, 1 leases")
			l.Release()
			fix.expectClosed(conn, true)
		},
		"Discard of the last lease closes and replaces it": func(t *testing.T) {
			fix, l, conn := leased(t)
			l.Discard()
			fix.expectClosed(conn, true)
			fix.expect("1 dialing")
		},
		"Discard of one of two leases drains it": func(t *testing.T) {
			fix, l, conn := leased(t)
			other := fix.lease()
			l.Discard()
			fix.expect("1 dialing, 1 draining, 1 leases")
			fix.expectClosed(conn, false)
			other.Release()
			fix.expectClosed(conn, true)
		},
		"Narrow lowers what each connection carries and counts no use": func(t *testing.T) {
			fix, _, _ := leased(t)
			fix.lease().Narrow()
			stats := fix.pool.Stats()
			if stats.Cap != 1 || stats.Uses != 0 || stats.Leases != 1 {
				t.Errorf("cap %d, uses %d, leases %d, want 1, 0, 1", stats.Cap, stats.Uses, stats.Leases)
			}
			if !fix.ask().waits() {
				t.Error("a lease more than the server carries")
			}
		},
		"Narrow of the only lease leaves one slot": func(t *testing.T) {
			fix, l, _ := leased(t)
			l.Narrow()
			fix.lease()
			if !fix.ask().waits() {
				t.Error("more than one slot is left")
			}
		},
		"what Narrow learned is forgotten with the next generation": func(t *testing.T) {
			fix, l, _ := leased(t)
			l.Narrow()
			fix.pool.Replace(fix.dialer("new"))
			fix.connect()
			fix.lease()
			fix.lease()
			fix.expect("1 in use, 2 leases")
		},
		"Replace drains it and leases only the new target": func(t *testing.T) {
			fix, _, _ := leased(t)
			fix.pool.Replace(fix.dialer("new"))
			fix.expect("1 dialing, 1 draining, 1 leases")
			a := fix.ask()
			fix.connect()
			if a.got().Conn().target != "new" {
				t.Error("the old target was leased after Replace")
			}
		},
		"Rotate keeps it until the new credentials are proven": func(t *testing.T) {
			fix, l, conn := leased(t)
			fix.pool.Rotate(fix.dialer("new"))
			fix.expect("1 in use, 1 dialing, 1 leases")
			if fix.lease().Conn() != conn {
				t.Error("the old connection does not serve")
			}
			fix.connect()
			fix.probeCall().result <- nil
			fix.expect("1 idle, 1 draining, 2 leases")
			l.Release()
			fix.expectClosed(conn, false)
		},
		"Recycle drains it when its successor is warm": func(t *testing.T) {
			fix, l, conn := leased(t)
			if id := fix.pool.Conns()[0].ID; l.ID() != id {
				t.Errorf("the lease is of connection %d, want %d", l.ID(), id)
			}
			if retired := fix.pool.RecycleAll(); retired != 1 {
				t.Errorf("%d connections recycled, want 1", retired)
			}
			fix.expect("1 in use, 1 dialing, 1 leases")
			if again := fix.pool.RecycleAll(); again != 0 {
				t.Errorf("%d connections recycled that were retiring already", again)
			}
			fix.connect() // whose dial began before the second time
			fix.expect("1 in use, 1 dialing, 1 leases")
			fix.connect()
			fix.expect("1 idle, 1 draining, 1 leases")
			l.Release()
			fix.expectClosed(conn, true)
		},
		"Drain waits for its lease": func(t *testing.T) {
			fix, l, conn := leased(t)
			var err error
			done := background(func() { err = fix.pool.Drain(t.Context()) })
			if ended(done) {
				t.Fatal("Drain returned while a lease runs")
			}
			fix.expectClosed(conn, false)
			if err := fix.ask().failed(); !errors.Is(err, ErrClosed) {
				t.Errorf("Acquire while draining: %v, want closed", err)
			}
			l.Release()
			<-done
			if err != nil {
				t.Errorf("Drain: %v", err)
			}
			fix.expectClosed(conn, true)
		},
		"Drain tells waiters that the pool is closed": func(t *testing.T) {
			fix, l, _ := leased(t)
			fix.lease()
			a := fix.ask()
			done := background(func() { _ = fix.pool.Drain(t.Context()) })
			if err := a.failed(); !errors.Is(err, ErrClosed) {
				t.Errorf("error %v, want closed", err)
			}
			l.Release()
			_ = fix.pool.Close()
			<-done
		},
		"Close cuts it": func(t *testing.T) {
			fix, l, conn := leased(t)
			_ = fix.pool.Close()
			fix.expectClosed(conn, true)
			l.Release()
			fix.expect("empty")
		},
		"its death closes it at once, and its lease may end later": func(t *testing.T) {
			fix, l, conn := leased(t)
			conn.cancel(errKilled)
			fix.expectClosed(conn, true)
			fix.expect("1 dialing, 1 leases")
			l.Release()
			fix.connect()
			fix.expect("1 idle")
		},
	})
}
