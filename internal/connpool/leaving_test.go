package connpool

import (
	"context"
	"errors"
	"testing"
	"time"
)

// The rest of the table of states and operations: connections on their way out.

func TestDraining(t *testing.T) {
	// a connection with two leases, replaced by an idle one
	drainingPool := func(t *testing.T) (fix *fixture, a, b *Lease[*fakeConn], conn *fakeConn) {
		fix = newFixture(t, Limits{MinWarm: 1, LeasesPerConn: 2, DrainTimeout: time.Minute})
		conn = fix.connect()
		a, b = fix.lease(), fix.lease()
		fix.pool.Replace(fix.dialer("new"))
		fix.connect()
		fix.expect("1 idle, 1 draining, 2 leases")
		return fix, a, b, conn
	}
	bubbles(t, map[string]func(*testing.T){
		"Acquire does not lease it, even when a slot is free": func(t *testing.T) {
			fix, a, _, _ := drainingPool(t)
			a.Release()
			if fix.lease().Conn().target != "new" {
				t.Error("a draining connection was leased")
			}
		},
		"Release of one of two leases keeps it": func(t *testing.T) {
			fix, a, _, conn := drainingPool(t)
			a.Release()
			fix.expectClosed(conn, false)
			fix.expect("1 idle, 1 draining, 1 leases")
		},
		"Release of the last lease closes it": func(t *testing.T) {
			fix, a, b, conn := drainingPool(t)
			a.Release()
			b.Release()
			fix.expectClosed(conn, true)
			fix.expect("1 idle")
		},
		"Discard of the last lease closes it": func(t *testing.T) {
			fix, a, b, conn := drainingPool(t)
			a.Discard()
			fix.expectClosed(conn, false)
			b.Discard()
			fix.expectClosed(conn, true)
			fix.expect("1 idle")
		},
		"Narrow of the last lease closes it and teaches nothing about the new target": func(t *testing.T) {
			fix, a, b, conn := drainingPool(t)
			a.Narrow()
			b.Narrow()
			fix.expectClosed(conn, true)
			if learned := fix.pool.Stats().Cap; learned != 0 {
				t.Errorf("cap %d, want none", learned)
			}
		},
		"Invalidate leaves it": func(t *testing.T) {
			fix, _, _, conn := drainingPool(t)
			fix.pool.Replace(fix.dialer("newer"))
			fix.pool.Rotate(fix.dialer("newest"))
			fix.expectClosed(conn, false)
		},
		"Recycle does not find it": func(t *testing.T) {
			fix, _, _, conn := drainingPool(t)
			if fix.pool.Recycle(fix.pool.Conns()[0].ID) {
				t.Error("a draining connection was recycled")
			}
			fix.expectClosed(conn, false)
		},
		"the deadline of Replace cuts it": func(t *testing.T) {
			fix, a, _, conn := drainingPool(t)
			after(time.Minute - 1)
			fix.expectClosed(conn, false)
			after(1)
			fix.expectClosed(conn, true)
			a.Release()
			fix.expect("1 idle, 1 leases")
		},
		"the deadline of Drain cuts it": func(t *testing.T) {
			fix, _, _, conn := drainingPool(t)
			start := time.Now()
			if err := fix.pool.Drain(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Drain: %v, want deadline exceeded", err)
			}
			if took := time.Since(start); took != time.Minute {
				t.Errorf("Drain took %s, want 1m", took)
			}
			fix.expectClosed(conn, true)
		},
		"the end of Drain's context cuts it": func(t *testing.T) {
			fix, _, _, conn := drainingPool(t)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := fix.pool.Drain(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Drain: %v, want canceled", err)
			}
			fix.expectClosed(conn, true)
		},
		"Close cuts it": func(t *testing.T) {
			fix, _, _, conn := drainingPool(t)
			_ = fix.pool.Close()
			fix.expectClosed(conn, true)
		},
		"its death closes it": func(t *testing.T) {
			fix, a, _, conn := drainingPool(t)
			conn.cancel(errKilled)
			fix.expectClosed(conn, true)
			a.Release()
			fix.expect("1 idle, 1 leases")
			fix.quiet()
		},
	})
}

func TestClosing(t *testing.T) {
	// a pool of one connection whose Close hangs after it was discarded
	closingPool := func(t *testing.T) (*fixture, *fakeConn) {
		fix := newFixture(t, Limits{MinWarm: 1, MaxPending: 1, DrainTimeout: time.Minute})
		dial := fix.dial()
		gate := make(chan struct{})
		dial.conn.closing = gate
		dial.result <- nil
		fix.lease().Discard()
		fix.expect("1 draining")
		t.Cleanup(func() { fix.open(dial.conn) })
		return fix, dial.conn
	}
	bubbles(t, map[string]func(*testing.T){
		"Acquire does not lease it": func(t *testing.T) {
			fix, _ := closingPool(t)
			if !fix.ask().waits() {
				t.Error("a closing connection was leased")
			}
		},
		"its slot is free only after Close returned": func(t *testing.T) {
			fix, conn := closingPool(t)
			fix.quiet()
			fix.open(conn)
			fix.expect("1 dialing")
		},
		"Acquire that waits for its slot in vain says that the pool is exhausted": func(t *testing.T) {
			fix, _ := closingPool(t)
			a := fix.ask()
			after(10 * time.Second)
			if err := a.failed(); !errors.Is(err, ErrAcquireTimeout) {
				t.Errorf("error %v, want acquire timeout", err)
			}
		},
		"Invalidate leaves it": func(t *testing.T) {
			fix, _ := closingPool(t)
			fix.pool.Replace(fix.dialer("new"))
			fix.expect("1 draining")
			fix.pool.Rotate(fix.dialer("newer"))
			fix.pool.RecycleAll()
			fix.expect("1 draining")
		},
		"its death changes nothing": func(t *testing.T) {
			fix, conn := closingPool(t)
			conn.cancel(errKilled)
			fix.expect("1 draining")
		},
		"Drain waits for it": func(t *testing.T) {
			fix, conn := closingPool(t)
			var err error
			done := background(func() { err = fix.pool.Drain(t.Context()) })
			if ended(done) {
				t.Fatal("Drain returned before the connection was closed")
			}
			fix.open(conn)
			<-done
			if err != nil {
				t.Errorf("Drain: %v, want nil: no lease was cut", err)
			}
		},
		"Close waits for it": func(t *testing.T) {
			fix, conn := closingPool(t)
			done := background(func() { _ = fix.pool.Close() })
			if ended(done) {
				t.Fatal("Close returned before the connection was closed")
			}
			fix.open(conn)
			<-done
		},
	})
}

func TestClosed(t *testing.T) {
	closed := func(t *testing.T) *fixture {
		fix := newFixture(t, Limits{MinWarm: 1})
		fix.connect()
		_ = fix.pool.Close()
		return fix
	}
	bubbles(t, map[string]func(*testing.T){
		"Acquire is refused": func(t *testing.T) {
			if err := closed(t).ask().failed(); !errors.Is(err, ErrClosed) {
				t.Errorf("error %v, want closed", err)
			}
		},
		"nothing brings it back": func(t *testing.T) {
			fix := closed(t)
			fix.pool.SetLimits(Limits{MinWarm: 3, Max: 3})
			fix.pool.Rotate(fix.dialer("new"))
			fix.pool.Replace(fix.dialer("new"))
			fix.pool.Retry()
			fix.pool.RecycleAll()
			fix.quiet()
			fix.expect("empty")
			if err := fix.ask().failed(); !errors.Is(err, ErrClosed) {
				t.Errorf("error %v, want closed", err)
			}
		},
		"Close and Drain return again": func(t *testing.T) {
			fix := closed(t)
			_ = fix.pool.Close()
			if err := fix.pool.Drain(t.Context()); err != nil {
				t.Errorf("Drain: %v", err)
			}
		},
	})
}
